"""Diagnostics: how near a learned dictionary, its codes, or a restored picture, is to the truth."""

from calepin.analysis.codes import (
    SupportRecovery,
    code_error,
    duality_gap,
    mutual_coherence,
    support_recovery,
)
from calepin.analysis.filters import FilterMatch, filter_error, match_filters
from calepin.analysis.generator_constants import (
    Assumption6,
    GeneratorConstants,
    generator_constants,
    weight_distribution,
)
from calepin.analysis.identifiable import Identifiability, identifiability, samples_needed
from calepin.analysis.pictures import psnr, ssim
from calepin.analysis.recovery import dictionary_error, match_atoms, recovered_share
from calepin.analysis.unfolding import (
    UnfoldingErrors,
    decoder_gradient,
    gradient_errors,
    unfolding_errors,
)

__all__ = [
    "Assumption6",
    "FilterMatch",
    "GeneratorConstants",
    "Identifiability",
    "SupportRecovery",
    "UnfoldingErrors",
    "code_error",
    "decoder_gradient",
    "dictionary_error",
    "duality_gap",
    "filter_error",
    "generator_constants",
    "gradient_errors",
    "identifiability",
    "match_atoms",
    "match_filters",
    "mutual_coherence",
    "psnr",
    "recovered_share",
    "samples_needed",
    "ssim",
    "support_recovery",
    "unfolding_errors",
    "weight_distribution",
]
