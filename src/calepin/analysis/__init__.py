"""Diagnostics: how near a learned dictionary, its codes, or a restored picture, is to the truth.

Of spike trains: regressions, models of events, and how well a model fits.
"""

from calepin.analysis.codes import (
    SupportRecovery,
    code_error,
    duality_gap,
    mutual_coherence,
    support_recovery,
)
from calepin.analysis.events import EventModel, fit_event_model
from calepin.analysis.filters import FilterMatch, filter_error, match_filters
from calepin.analysis.generator_constants import (
    Assumption6,
    GeneratorConstants,
    generator_constants,
    weight_distribution,
)
from calepin.analysis.glm import GLMFit, fit_glm
from calepin.analysis.goodness import bits_per_spike, deviance, log_likelihood
from calepin.analysis.identifiable import Identifiability, identifiability, samples_needed
from calepin.analysis.pictures import psnr, ssim
from calepin.analysis.recovery import dictionary_error, match_atoms, recovered_share
from calepin.analysis.rescaling import KSTest, ks_test, rescaled_intervals
from calepin.analysis.spikes import SpikeGLM, fit_spike_glm, select_order
from calepin.analysis.unfolding import (
    UnfoldingErrors,
    decoder_gradient,
    gradient_errors,
    unfolding_errors,
)
from calepin.analysis.untrained import (
    Spectrum,
    jacobian_spectrum,
    kernel_weights,
    low_frequency_energy,
    measurements_needed,
    recovery_bound,
    spectral_drift,
    subspace_energy,
    trigonometric_basis,
)

__all__ = [
    "Assumption6",
    "EventModel",
    "FilterMatch",
    "GLMFit",
    "GeneratorConstants",
    "Identifiability",
    "KSTest",
    "Spectrum",
    "SpikeGLM",
    "SupportRecovery",
    "UnfoldingErrors",
    "bits_per_spike",
    "code_error",
    "decoder_gradient",
    "deviance",
    "dictionary_error",
    "duality_gap",
    "filter_error",
    "fit_event_model",
    "fit_glm",
    "fit_spike_glm",
    "generator_constants",
    "gradient_errors",
    "identifiability",
    "jacobian_spectrum",
    "kernel_weights",
    "ks_test",
    "log_likelihood",
    "low_frequency_energy",
    "match_atoms",
    "match_filters",
    "measurements_needed",
    "mutual_coherence",
    "psnr",
    "recovered_share",
    "recovery_bound",
    "rescaled_intervals",
    "samples_needed",
    "select_order",
    "spectral_drift",
    "ssim",
    "subspace_energy",
    "support_recovery",
    "trigonometric_basis",
    "unfolding_errors",
    "weight_distribution",
]
