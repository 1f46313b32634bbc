# ruff: noqa: C408, E501
"""One valid call of each public function, class and method, small enough to be tried thousands of times.

``CALLS[name]()`` builds a fresh function and its arguments. Names are those of tests/gates/public_names.txt
without "calepin."; a method follows its class. Names that are not called are in `LEFT_OUT`, with the reason.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn

import calepin
from calepin import (
    compression,
    datasets,
    generators,
    imaging,
    learning,
    likelihoods,
    metrics,
    networks,
    operators,
    penalties,
    reconstruction,
    report,
    restoration,
    solvers,
    spikes,
)
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators import ConvDictionary, Dense, Identity, Mask

__all__ = ["CALLS", "LEFT_OUT", "Call"]

Call = tuple[Callable[..., Any], dict[str, Any]]
CALLS: dict[str, Callable[[], Call]] = {}

LEFT_OUT = dict.fromkeys(
    [
        "DenoiseResult",
        "RestoreResult",
        "compression.RateDistortion",
        "datasets.ConvolutionalData",
        "datasets.SparseData",
        "experiments.Claim",
        "experiments.Experiment",
        "experiments.Findings",
        "experiments.Item",
        "experiments.Run",
        "generators.Identifiability",
        "imaging.DenoiseResult",
        "learning.AtomState",
        "learning.ClassicalState",
        "learning.State",
        "learning.TrainState",
        "learning.Signals",
        "learning.Batch",
        "metrics.SupportRecovery",
        "metrics.FilterMatch",
        "reconstruction.FitProgress",
        "reconstruction.Reconstruction",
        "reconstruction.Scan",
        "reconstruction.Spectrum",
        "reconstruction.UntrainedSolution",
        "reconstruction.Weighted",
        "solvers.Codes",
        "solvers.Decoded",
        "solvers.Solution",
        "spikes.GLMFit",
        "spikes.KSTest",
        "spikes.ModelFit",
        "spikes.SpikeGLM",
        "spikes.SpikeSession",
        "spikes.EventModel",
        "spikes.Events",
        "spikes.SpikeTrains",
        "spikes.EventBands",
        "spikes.PopulationGLM",
        "spikes.UnitResults",
        "spikes.Gain",
        "report.Curve",
        "datasets.Image",
        "datasets.Stack",
    ],
    "holds results",
)
LEFT_OUT |= dict.fromkeys(
    [
        "datasets.Noise",
        "imaging.Denoiser",
        "learning.Batches",
        "learning.Rule",
        "likelihoods.Likelihood",
        "penalties.Penalty",
        "solvers.Coder",
        "solvers.GradientRule",
        "solvers.Iteration",
        "solvers.LatentSolver",
        "solvers.Optimizer",
        "solvers.Solver",
        "solvers.UnfoldedSolver",
        "solvers.Differentiate",
        "learning.Callback",
        "learning.Optimizer",
        "generators.Generator",
    ],
    "a protocol or a type",
)
LEFT_OUT |= dict.fromkeys(
    [
        "FileFormatError",
        "IncompatibleError",
        "learning.DivergedError",
        "estimators.UnderdeterminedWarning",
        "datasets.SAMPLES",
        "imaging.NETWORKS",
        "restoration.PRIORS",
        "networks.PRETRAINED",
    ],
    "an error, a warning or a list",
)
LEFT_OUT |= dict.fromkeys(
    [
        "learning.BaseRule",
        "learning.ClassicalRule",
        "learning.GenerativeRule",
        "learning.ModuleRule",
        "networks.UntrainedNetwork",
        "operators.LinearOperator",
    ],
    "a base class, called through its subclasses",
)
LEFT_OUT |= dict.fromkeys(
    [
        "compression.read_clp",
        "datasets.read_idx",
        "datasets.read_image",
        "datasets.read_stack",
        "datasets.load_mnist",
        "reconstruction.count_slices",
        "reconstruction.read_kspace",
        "reconstruction.read_samples",
        "reconstruction.read_sensitivities",
        "reconstruction.read_trajectory",
        "spikes.read_nwb_spikes",
        "spikes.read_spikes",
        "spikes.read_units",
        "spikes.save_nwb_results",
        "generators.load_generator",
        "learning.load_checkpoint",
        "imaging.load_network",
        "networks.open_generator",
        "networks.pretrained",
    ],
    "a reader: see readers.py",
)
LEFT_OUT |= dict.fromkeys(
    [
        "compression.write_clp",
        "datasets.write_image",
        "datasets.write_stack",
        "generators.save_generator",
        "learning.save_checkpoint",
        "reconstruction.write_cfl",
        "report.save_figure",
        "report.Report.save",
    ],
    "writes a file: see commands.py",
)
LEFT_OUT |= dict.fromkeys(
    [
        "datasets.load_digits",
        "datasets.data_path",
        "datasets.has_data",
        "datasets.load_sample",
        "experiments.installed",
        "experiments.find",
        "experiments.perform",
    ],
    "names data or experiments of calepin",
)
LEFT_OUT |= dict.fromkeys(
    [
        "testing.check_coder",
        "testing.check_likelihood",
        "testing.check_operator",
        "testing.check_penalty",
        "testing.check_rule",
        "testing.check_solver",
    ],
    "fails by its own assertions",
)


def add(name: str, function: Callable[..., Any] | str, **arguments: Any) -> None:
    """Enter a call; functions without a name among the arguments (lambdas called ``new_...``) are built late."""
    CALLS[name] = lambda: (function, arguments)


def late(name: str) -> Callable[[Callable[[], Call]], Callable[[], Call]]:
    """Enter a function that builds a call."""

    def enter(build: Callable[[], Call]) -> Callable[[], Call]:
        CALLS[name] = build
        return build

    return enter


rng = np.random.default_rng(0)
IMAGE, OTHER = rng.random((18, 16)), rng.random((18, 16))
ATOMS = rng.standard_normal((5, 8))
ATOMS /= np.linalg.norm(ATOMS, axis=1, keepdims=True)
CODES = rng.standard_normal((20, 5)) * (rng.random((20, 5)) < 0.4)
X = CODES @ ATOMS + 0.01 * rng.standard_normal((20, 8))
COUNTS = (rng.random((6, 60)) < 0.2).astype(float)
ETA = rng.standard_normal((6, 60)) - 1
T_ATOMS, T_CODES, T_X = (torch.from_numpy(a) for a in (ATOMS, CODES, X))
FILTERS = rng.standard_normal((3, 1, 5))
FILTERS /= np.linalg.norm(FILTERS, axis=2, keepdims=True)
SIGNALS = rng.standard_normal((4, 1, 30))
T_FILTERS, T_SIGNALS = torch.from_numpy(FILTERS), torch.from_numpy(SIGNALS)
T_COUNTS, T_ETA = torch.from_numpy(COUNTS), torch.from_numpy(ETA)
KERNEL = np.array([0.25, 0.5, 0.25])


# --- metrics

add("metrics.psnr", metrics.psnr, pixels=IMAGE, clean=OTHER, data_range=1.0)
add("metrics.ssim", metrics.ssim, pixels=IMAGE, clean=OTHER, data_range=1.0)
add("metrics.match_atoms", metrics.match_atoms, atoms=ATOMS, reference=ATOMS[::-1].copy())
add("metrics.dictionary_error", metrics.dictionary_error, atoms=ATOMS, reference=ATOMS + 0.1)
add("metrics.recovered_fraction", metrics.recovered_fraction, atoms=ATOMS, reference=ATOMS, tolerance=0.01)
add("metrics.mutual_coherence", metrics.mutual_coherence, atoms=ATOMS)
add("metrics.code_error", metrics.code_error, codes=CODES, reference=CODES + 1)
add("metrics.support_recovery", metrics.support_recovery, codes=CODES, reference=CODES, threshold=0.1)
add("metrics.duality_gap", metrics.duality_gap, X=X, codes=CODES, atoms=ATOMS, alpha=0.1, nonnegative=False)
add("metrics.match_filters", metrics.match_filters, filters=FILTERS, reference=FILTERS + 0.1, max_shift=2)
add("metrics.filter_error", metrics.filter_error, filters=FILTERS, reference=FILTERS + 0.1, max_shift=2)


@late("metrics.FilterMatch.align")
def _() -> Call:
    return metrics.match_filters(FILTERS, FILTERS).align, {"filters": FILTERS}


# --- likelihoods and penalties

add("likelihoods.Gaussian", likelihoods.Gaussian)
add("likelihoods.Poisson", likelihoods.Poisson)
add("likelihoods.Binomial", likelihoods.Binomial, trials=3)
add("likelihoods.Binomial:tensor", likelihoods.Binomial, trials=torch.full((6, 1), 3))
for family in (Gaussian(), Binomial(), Poisson()):
    room = f"likelihoods.{type(family).__name__}"
    add(f"{room}.nll", family.nll, eta=T_ETA, y=T_COUNTS)
    add(f"{room}.mean", family.mean, eta=T_ETA)
    add(f"{room}.score", family.score, eta=T_ETA, y=T_COUNTS)
    add(f"{room}.sample", family.sample, eta=T_ETA)
    add(f"{room}.check", family.check, y=T_COUNTS)
add("likelihoods.Binomial.take", Binomial(torch.ones(6, 1)).take, rows=torch.arange(2), ndim=2)
add("penalties.L1", penalties.L1, alpha=0.5)
add("penalties.L1:tensor", penalties.L1, alpha=torch.ones(5))
add("penalties.NonNegativeL1", penalties.NonNegativeL1, alpha=0.5)
add("penalties.HardThreshold", penalties.HardThreshold, threshold=0.5, nonnegative=False)
add("penalties.ElasticNet", penalties.ElasticNet, alpha=0.5, ridge=0.1, nonnegative=False)
add("penalties.GroupL1", penalties.GroupL1, alpha=0.5, group_size=5)
for penalty in (
    penalties.L1(0.5),
    penalties.NonNegativeL1(0.5),
    penalties.HardThreshold(0.5),
    penalties.ElasticNet(0.5, 0.1),
    penalties.GroupL1(0.5, 5),
):
    room = f"penalties.{type(penalty).__name__}"
    add(f"{room}.value", penalty.value, z=T_CODES.abs())
    add(f"{room}.prox", penalty.prox, v=T_CODES, step_size=0.5)


# --- operators and problems

SIDE = torch.rand(2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
COILS = torch.randn(2, 3, 16, 16, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
OBSERVED = torch.rand(8, 8, generator=torch.Generator().manual_seed(1)) < 0.6

add("operators.Dense", operators.Dense, atoms=T_ATOMS)
add(
    "operators.ConvDictionary",
    operators.ConvDictionary,
    atoms=T_FILTERS,
    signal_shape=(30,),
    stride=1,
    boundary="zero",
    implementation="direct",
)
add("operators.Diagonal", operators.Diagonal, weights=torch.rand(8))
add("operators.GaussianSketch", operators.GaussianSketch, in_shape=(8, 8), n_measurements=20, chunked=False)
add("operators.Identity", operators.Identity, shape=(8, 8))
add("operators.Mask", operators.Mask, observed=OBSERVED, per_sample=False)
add("operators.MultiCoilMRI", operators.MultiCoilMRI, acquired=OBSERVED, n_coils=2)
add("operators.SubsampledDCT", operators.SubsampledDCT, in_shape=(8, 8), n_measurements=20)
add("operators.SubsampledHadamard", operators.SubsampledHadamard, in_shape=(8, 8), n_measurements=20)
add("operators.Wavelet", operators.Wavelet, shape=(16, 16), moments=2, levels=2)
PSF = torch.tensor([[0.0, 0.1, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.0]], dtype=torch.float64)
ANGLES = torch.tensor([0.0, 40.0, 90.0, 130.0], dtype=torch.float64)
add("operators.Blur", operators.Blur, psf=PSF, shape=(8, 8), boundary="symmetric")
add("operators.Downsample", operators.Downsample, shape=(12, 12), factor=2, antialias="box", boundary="zero")
add("operators.Bayer", operators.Bayer, shape=(8, 8), pattern="RGGB")
add("operators.Matrix", operators.Matrix, matrix=torch.randn(5, 64), in_shape=(8, 8))
add("operators.Radon", operators.Radon, shape=(8, 8), angles=ANGLES, n_detectors=9)
FREQUENCIES = torch.tensor([[0.0, 0.0], [1.5, -3.0], [-4.0, 2.2]], dtype=torch.float64)
add("operators.NonCartesianFourier", operators.NonCartesianFourier, shape=(8, 8), coordinates=FREQUENCIES)
add("operators.radial_trajectory", operators.radial_trajectory, shape=(8, 8), n_spokes=3, n_samples=9)
add("operators.Compose", operators.Compose, outer=Identity((8,)), inner=Dense(T_ATOMS))
add("operators.centred_fft", operators.centred_fft, x=COILS)
add("operators.centred_ifft", operators.centred_ifft, y=COILS)
add("operators.column_mask", operators.column_mask, shape=(16, 16), acceleration=2.0, n_center=4, seed=0)
add("operators.density_weights", operators.density_weights, shape=(16, 16), power=0.5)
add(
    "operators.estimate_sensitivities",
    operators.estimate_sensitivities,
    kspace=COILS[0],
    n_center=6,
    floor=0.02,
)
add("operators.Sensitivities", operators.Sensitivities, maps=COILS)
add("operators.calibration_size", operators.calibration_size, acquired=OBSERVED)
add("operators.kspace_noise", operators.kspace_noise, kspace=COILS[0, :, :8, :8], acquired=OBSERVED)
add(
    "operators.espirit_maps",
    operators.espirit_maps,
    kspace=COILS[0, :, :8, :8],
    acquired=OBSERVED | True,
    n_sets=1,
    noise=0.01,
    kernel=3,
)
add("operators.root_sum_of_squares", operators.root_sum_of_squares, images=COILS)
add(
    "operators.variable_density_mask",
    operators.variable_density_mask,
    shape=(16, 16),
    acceleration=2.0,
    n_center=4,
    power=2.0,
    seed=0,
)
MAPS = {
    "Dense": (Dense(T_ATOMS), T_CODES, T_X),
    "ConvDictionary": (
        ConvDictionary(T_FILTERS, signal_shape=(30,)),
        torch.ones(4, 3, 26).double(),
        T_SIGNALS,
    ),
    "Identity": (Identity((8,)), T_X, T_X),
    "Mask": (Mask(OBSERVED), SIDE, SIDE),
    "Diagonal": (operators.Diagonal(torch.ones(8).double()), T_X, T_X),
    "GaussianSketch": (operators.GaussianSketch((8, 8), 20), SIDE, SIDE.flatten(1)[:, :20]),
    "SubsampledDCT": (operators.SubsampledDCT((8, 8), 20), SIDE, SIDE.flatten(1)[:, :20]),
    "SubsampledHadamard": (operators.SubsampledHadamard((8, 8), 20), SIDE, SIDE.flatten(1)[:, :20]),
    "Wavelet": (operators.Wavelet((16, 16), moments=2, levels=2), COILS[0].real, COILS[0].real),
    "Compose": (Mask(OBSERVED) @ Identity((8, 8)), SIDE, SIDE),
    "Blur": (operators.Blur(PSF, (8, 8)), SIDE, SIDE),
    "Downsample": (operators.Downsample((8, 8), 2, antialias="box"), SIDE, SIDE[:, :4, :4]),
    "Bayer": (operators.Bayer((8, 8)), SIDE[:, None].expand(2, 3, 8, 8), SIDE),
    "Radon": (operators.Radon((8, 8), ANGLES, n_detectors=8), SIDE, SIDE[:, :4]),
    "Sensitivities": (
        operators.Sensitivities(COILS[..., :8, :8]),
        COILS[..., :8, :8][:, :2],
        COILS[..., :8, :8],
    ),
    "MultiCoilMRI": (operators.MultiCoilMRI(OBSERVED, n_coils=3), COILS[..., :8, :8], COILS[..., :8, :8]),
    "NonCartesianFourier": (
        operators.NonCartesianFourier((3, 8, 8), FREQUENCIES),
        COILS[..., :8, :8],
        COILS[..., 0, :3],
    ),
}
for kind, (operator, x, y) in MAPS.items():
    add(f"operators.{kind}.forward", operator, x=x)
    add(f"operators.{kind}.adjoint", operator.adjoint, y=y)
    if operator.solve_gram(y, 0.1) is not None:
        add(f"operators.{kind}.solve_gram", operator.solve_gram, y=y, weight=0.1)

add("Problem", calepin.Problem, operator=Dense(T_ATOMS), likelihood=Gaussian(), y=T_X, offset=0.5)
add("Problem:offset", calepin.Problem, operator=Dense(T_ATOMS), likelihood=Gaussian(), y=T_X, offset=T_X)
PROBLEM = calepin.Problem(Dense(T_ATOMS), Gaussian(), T_X)
for method in ("eta", "nll", "gradient"):
    add(f"Problem.{method}", getattr(PROBLEM, method), z=T_CODES)
add("Problem.take", PROBLEM.take, rows=torch.arange(3))


# --- generators

NET = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5)).double().requires_grad_(False)
LATENTS = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LATENT_PROBLEM = generators.LatentProblem(PROBLEM, NET, latent_dim=2)

add("generators.PolynomialSine", generators.PolynomialSine, latent_dim=3)
add("generators.GroupSparse", generators.GroupSparse, latent_dim=3, n_coefficients=10, density=0.6, seed=0)
add("generators.KSparse", generators.KSparse, n_nonzero=2, n_coefficients=9)
add("generators.ReLUNet", generators.ReLUNet, widths=(2, 5, 9), seed=0)
add("generators.Sine", generators.Sine, latent_dim=2, n_coefficients=8, scale=2.0, seed=0)
add(
    "generators.check_generator",
    generators.check_generator,
    generator=NET,
    latent_dim=2,
    n_coefficients=5,
    n_features=8,
    like=T_X,
)
add(
    "generators.identifiability",
    generators.identifiability,
    atoms=ATOMS,
    generator=NET,
    latent_dim=2,
    n_samples=50,
    n_directions=5,
    tol=1e-6,
    seed=0,
)
add(
    "generators.identifiability:latents",
    generators.identifiability,
    atoms=ATOMS,
    generator=NET,
    latents=LATENTS.numpy(),
)
add("generators.latent_dimension", generators.latent_dimension, generator=NET, latent_dim=2)
add("generators.linearise", generators.linearise, generator=NET, z=LATENTS)
add("generators.samples_needed", generators.samples_needed, n_features=8, n_seen=5, latent_dim=2)
add("generators.truncate", generators.truncate, decoder=NET, layers=2)
add(
    "generators.LatentProblem",
    generators.LatentProblem,
    problem=PROBLEM,
    generator=NET,
    latent_dim=2,
    prior=0.1,
    radius=3.0,
)
for method in ("eta", "objective", "gradient", "evaluate"):
    add(f"generators.LatentProblem.{method}", getattr(LATENT_PROBLEM, method), z=LATENTS)
for family in (
    generators.PolynomialSine(2),
    generators.Sine(2, dtype=torch.float64),
    generators.KSparse(1, 9),
):
    add(f"generators.{type(family).__name__}.forward", family, z=LATENTS)


# --- solvers

LASSO = solvers.FISTA(penalties.L1(0.1))
CONV_PROBLEM = calepin.Problem(ConvDictionary(T_FILTERS, signal_shape=(30,)), Gaussian(), T_SIGNALS)

add("solve", calepin.solve, problem=PROBLEM, solver=LASSO, n_iter=5, z0=T_CODES, tol=1e-3)
add("solve:last-k", calepin.solve, problem=PROBLEM, solver=LASSO, n_iter=5, differentiate="last-k", last_k=2)
add(
    "solve:unroll",
    calepin.solve,
    problem=PROBLEM,
    solver=LASSO,
    n_iter=5,
    differentiate="unroll",
    checkpoint_every=2,
)
add(
    "sparse_encode",
    calepin.sparse_encode,
    X=X,
    atoms=ATOMS,
    method="lasso",
    alpha=0.1,
    tol=1e-6,
    nonnegative=False,
    output="dense",
    return_info=False,
)
add("sparse_encode:omp", calepin.sparse_encode, X=X, atoms=ATOMS, method="omp", n_nonzero=2)
add("sparse_encode:mask", calepin.sparse_encode, X=X, atoms=ATOMS, alpha=0.1, mask=np.ones(X.shape, bool))
add("sparse_encode:tensors", calepin.sparse_encode, X=T_X, atoms=T_ATOMS, method="lasso", alpha=0.1)
add(
    "solvers.convolutional_encode",
    solvers.convolutional_encode,
    y=SIGNALS,
    atoms=FILTERS,
    alpha=0.5,
    ridge=0.1,
    nonnegative=False,
    boundary="zero",
    tol=1e-3,
    max_iter=50,
    return_info=False,
)
add(
    "solvers.convolutional_pursuit",
    solvers.convolutional_pursuit,
    y=T_SIGNALS,
    atoms=T_FILTERS,
    n_nonzero=3,
    offset=0.0,
    tol=0.1,
    nonnegative=True,
    boundary="zero",
    mask=torch.ones(T_SIGNALS.shape, dtype=torch.bool),
)
add(
    "solvers.refit_codes",
    solvers.refit_codes,
    y=T_SIGNALS,
    atoms=T_FILTERS,
    support=torch.ones(4, 3, 26) > torch.rand(4, 3, 26, generator=torch.Generator().manual_seed(0)) + 0.7,
    offset=0.0,
    nonnegative=True,
    boundary="zero",
    tol=1e-6,
    max_iter=20,
)
add(
    "solvers.dense_problem",
    solvers.dense_problem,
    y=T_X,
    atoms=T_ATOMS,
    observed=torch.ones(20, 8, dtype=torch.bool),
)
add("solvers.decode", solvers.decode, problem=LATENT_PROBLEM, n_starts=2, z0=None, n_iter=20, tol=1e-6)
add(
    "solvers.iterate",
    solvers.iterate,
    problem=PROBLEM,
    iteration=LASSO,
    state=LASSO.init(PROBLEM, T_CODES),
    n_iter=3,
    until_rest=True,
    freeze=False,
)
add("solvers.Adam", solvers.Adam, learning_rate=0.01, betas=(0.9, 0.999), epsilon=1e-8)
add("solvers.GradientDescent", solvers.GradientDescent, step_size=0.1, momentum=0.5, factor=1.0)
add("solvers.LBFGS", solvers.LBFGS, memory=5)
add("solvers.LevenbergMarquardt", solvers.LevenbergMarquardt, damping=0.1)
add("solvers.FISTA", solvers.FISTA, penalty=penalties.L1(0.1), step_size=0.1, restart=True, decay=0.9)
add("solvers.ISTA", solvers.ISTA, penalty=penalties.L1(0.1), step_size=0.1, decay=0.9)
add("solvers.IHT", solvers.IHT, threshold=0.1, step_size=0.1, nonnegative=False)
add("solvers.IHT:nonzero", solvers.IHT, n_nonzero=2, step_size=0.1, nonnegative=False)
add("solvers.LassoCoder", solvers.LassoCoder, alpha=0.1, tol=1e-6, nonnegative=False, certify=True)
add(
    "solvers.PursuitCoder",
    solvers.PursuitCoder,
    n_nonzero=2,
    nonnegative=False,
    selection="omp",
    certify=True,
)
add("solvers.PursuitCoder:tol", solvers.PursuitCoder, tol=0.1)
add("solvers.IHTCoder", solvers.IHTCoder, threshold=0.1, nonnegative=False, step_size=0.2, n_iter=5)
add(
    "solvers.ProximalCoder",
    solvers.ProximalCoder,
    penalty=penalties.L1(0.1),
    n_iter=5,
    step_size=0.2,
    solver="fista",
    nonnegative=False,
    tol=1e-3,
    differentiate="unroll",
)
add(
    "solvers.ProximalCoder:last-k",
    solvers.ProximalCoder,
    penalty=penalties.L1(0.1),
    differentiate="last-k",
    last_k=3,
)
add(
    "solvers.ConvolutionalLassoCoder",
    solvers.ConvolutionalLassoCoder,
    alpha=0.1,
    tol=1e-3,
    nonnegative=False,
    max_iter=20,
)
add(
    "solvers.ConvolutionalPursuitCoder",
    solvers.ConvolutionalPursuitCoder,
    n_nonzero=2,
    tol=0.1,
    nonnegative=True,
)
CODERS = {
    "LassoCoder": (solvers.LassoCoder(0.1), PROBLEM, T_CODES),
    "PursuitCoder": (solvers.PursuitCoder(2), PROBLEM, None),
    "IHTCoder": (solvers.IHTCoder(0.1, n_iter=5), PROBLEM, None),
    "ProximalCoder": (solvers.ProximalCoder(penalties.L1(0.1), n_iter=5), PROBLEM, T_CODES),
    "ConvolutionalLassoCoder": (solvers.ConvolutionalLassoCoder(0.5), CONV_PROBLEM, None),
    "ConvolutionalPursuitCoder": (solvers.ConvolutionalPursuitCoder(2), CONV_PROBLEM, None),
}
for kind, (coder, problem, z0) in CODERS.items():
    add(f"solvers.{kind}.encode", coder.encode, problem=problem, z0=z0)
    add(f"solvers.{kind}.shortened", coder.shortened, n_rounds=2)


# --- networks and reconstruction

DECODER = networks.DeepDecoder((8, 8), channels=4, depth=2, in_size=4, compiled=False)
MEASURED = Mask(torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.8)
MEASUREMENTS = MEASURED(torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(2)))

LEVELS = networks.UnfoldedDenoiser.random(2, 4, n_unfold=2)
add(
    "networks.UnfoldedDenoiser", networks.UnfoldedDenoiser, atoms=torch.rand(2, 1, 4, 4), n_unfold=2, stride=2
)
add(
    "networks.UnfoldedDenoiser.random",
    networks.UnfoldedDenoiser.random,
    n_components=2,
    kernel=4,
    seed=0,
)
add(
    "networks.UnfoldedDenoiser.forward",
    LEVELS,
    y=torch.rand(1, 1, 8, 9, generator=torch.Generator().manual_seed(1)),
    sigma=0.1,
    shifts=[(0, 1)],
)
add(
    "networks.DeepDecoder",
    networks.DeepDecoder,
    out_size=(8, 8),
    out_channels=1,
    channels=4,
    depth=2,
    in_size=4,
    upsampling="linear",
    normalisation=True,
    output="sigmoid",
    compiled=False,
)
add(
    "networks.DeepImagePrior",
    networks.DeepImagePrior,
    out_size=(8, 8),
    out_channels=1,
    channels=4,
    skip_channels=2,
    depth=2,
    kernel=3,
    input_channels=2,
    output="sigmoid",
)
add("networks.LinearGenerator", networks.LinearGenerator, matrix=torch.rand(8, 5))
add("networks.TwoLayerGenerator", networks.TwoLayerGenerator, size=8, kernel=torch.tensor(KERNEL), channels=6)
add(
    "networks.ComplexPair",
    networks.ComplexPair,
    network=networks.DeepDecoder((8, 8), out_channels=2, channels=4, depth=2, in_size=4),
)
add("networks.VAE", networks.VAE, latent_dim=2, n_hidden=5, n_features=8, seed=0)
add("networks.box_kernel", networks.box_kernel, width=3, ndim=1)
add("networks.triangular_kernel", networks.triangular_kernel, width=3, ndim=1)
add("networks.gaussian_kernel", networks.gaussian_kernel, sigma=1.0, ndim=1)
add(
    "networks.UnfoldedAutoencoder",
    networks.UnfoldedAutoencoder,
    atoms=T_FILTERS,
    penalty=penalties.L1(0.1),
    n_unfold=3,
    stride=1,
    step_size=0.1,
    decay=1.0,
    tied=True,
    learn_threshold=False,
    learn_step=False,
    padding="reflect",
    local_mean=3,
    residual_bound=1.0,
    shifts_at_once=1,
)
AUTOENCODER = networks.UnfoldedAutoencoder(T_FILTERS, penalties.L1(0.1), n_unfold=3)
add("networks.UnfoldedAutoencoder.forward", AUTOENCODER, y=T_SIGNALS)
add("networks.UnfoldedAutoencoder.encode", AUTOENCODER.encode, y=T_SIGNALS)
add("networks.DeepDecoder.forward", DECODER, weights=torch.rand(2, DECODER.n_parameters))
add("networks.DeepDecoder.initial", DECODER.initial, n=2, like=torch.empty(0))
add("networks.Jacobian", networks.Jacobian, network=DECODER, weights=torch.rand(DECODER.n_parameters))
add("networks.VAE.forward", networks.VAE(2, 5, 8), x=T_X.float())

SOLUTION = dict(max_iter=3, tol=0.01, patience=5, n_starts=1, held_out=0.2, consistent=False)
add(
    "reconstruction.fit_untrained",
    reconstruction.fit_untrained,
    network=DECODER,
    operator=MEASURED,
    y=MEASUREMENTS,
    likelihood=Gaussian(),
    offset=0.0,
    optimizer=solvers.Adam(),
    checkpoint_seconds=60.0,
    verbose=False,
    **SOLUTION,
)
add(
    "reconstruction.fit_untrained:start",
    reconstruction.fit_untrained,
    network=DECODER,
    operator=MEASURED,
    y=MEASUREMENTS,
    max_iter=2,
    start=torch.rand(1, DECODER.n_parameters),
)
add(
    "reconstruction.data_consistent",
    reconstruction.data_consistent,
    operator=MEASURED,
    x=torch.rand(1, 1, 8, 8),
    y=MEASUREMENTS,
    weight=0.1,
    n_iter=5,
)
add(
    "reconstruction.jacobian_spectrum",
    reconstruction.jacobian_spectrum,
    network=DECODER,
    weights=torch.rand(DECODER.n_parameters),
    rank=3,
    n_iter=2,
)
add("reconstruction.kernel_weights", reconstruction.kernel_weights, kernel=KERNEL, size=9)
add(
    "reconstruction.kernel_weights:2d",
    reconstruction.kernel_weights,
    kernel=np.outer(KERNEL, KERNEL),
    size=(8, 8),
)
add("reconstruction.low_frequency_energy", reconstruction.low_frequency_energy, signal=X[0], p=3)
SIGMA = reconstruction.kernel_weights(KERNEL, 8)
add(
    "reconstruction.measurements_needed",
    reconstruction.measurements_needed,
    signal=X[0],
    sigma=SIGMA,
    error=0.5,
    constant=0.1,
)
add(
    "reconstruction.recovery_bound",
    reconstruction.recovery_bound,
    signal=X[0],
    sigma=SIGMA,
    n_measurements=5,
    basis=np.eye(8),
    xi=0.1,
)
add("reconstruction.spectral_drift", reconstruction.spectral_drift, before=SIGMA, after=SIGMA * 1.5)
add(
    "reconstruction.subspace_energy",
    reconstruction.subspace_energy,
    vectors=np.eye(8)[:3],
    basis=np.eye(8)[:4],
)
add("reconstruction.trigonometric_basis", reconstruction.trigonometric_basis, n=7)
add(
    "reconstruction.weighted",
    reconstruction.weighted,
    operator=MEASURED,
    y=MEASUREMENTS,
    weights=torch.ones(1, 8, 8),
)
add(
    "reconstruction.scan_image",
    reconstruction.scan_image,
    image=datasets.Image(rng.random((24, 24))),
    kind="hadamard",
    ratio=0.25,
    size=16,
    seed=0,
)
add(
    "reconstruction.scan_image:mask",
    reconstruction.scan_image,
    image=datasets.Image(rng.random((24, 24))),
    kind="mask",
    mask=rng.random((24, 24)) < 0.5,
)
KSPACE = COILS.numpy()[0]
add(
    "reconstruction.scan_kspace",
    reconstruction.scan_kspace,
    kspace=KSPACE,
    acceleration=2.0,
    pattern="points",
    seed=0,
)
add(
    "reconstruction.scan_kspace:mask",
    reconstruction.scan_kspace,
    kspace=KSPACE,
    mask=rng.random((16, 16)) < 0.5,
)


TRAJECTORY = operators.radial_trajectory((16, 16), 6, n_samples=16).numpy()
add(
    "reconstruction.scan_trajectory",
    reconstruction.scan_trajectory,
    samples=rng.standard_normal((2, 96)) + 1j,
    coordinates=TRAJECTORY,
    shape=(16, 16),
)


def _scan() -> Any:
    acquired = np.zeros((16, 16), bool)
    acquired[4:12, 4:12] = acquired[::3] = True
    return reconstruction.scan_kspace(KSPACE, mask=acquired)


@late("restoration.default_prior")
def _() -> Call:
    return restoration.default_prior, dict(scan=_scan())


@late("restoration.restore_scan")
def _() -> Call:
    return restoration.restore_scan, dict(
        scan=_scan(), prior="wavelet", noise=0.1, sensitivities=KSPACE, random_state=0
    )


@late("restoration.error_map")
def _() -> Call:
    found = restoration.restore_scan(_scan(), prior="wavelet")
    return restoration.error_map, dict(scan=_scan(), found=found, prior="wavelet", n_splits=2, random_state=0)


@late("reconstruction.reconstruct_scan")
def _() -> Call:
    scan = reconstruction.scan_image(datasets.Image(rng.random((24, 24))), size=16)
    return reconstruction.reconstruct_scan, dict(
        scan=scan, max_iter=2, n_starts=1, random_state=0, verbose=False
    )


def _reconstruct(y: Any, **settings: Any) -> Any:
    return reconstruction.UntrainedReconstructor(**settings).reconstruct(y)


add(
    "UntrainedReconstructor",
    _reconstruct,
    operator=MEASURED,
    network=DECODER,
    y=MEASUREMENTS,
    random_state=0,
    device="cpu",
    verbose=False,
    **SOLUTION,
)


# --- datasets and images

add(
    "datasets.simulate_sparse",
    datasets.simulate_sparse,
    n_samples=5,
    n_features=8,
    n_components=6,
    n_nonzero=2,
    amplitude=(1.0, 2.0),
    signs=True,
    noise=0.1,
    random_state=0,
)
add(
    "datasets.simulate_convolutional",
    datasets.simulate_convolutional,
    n_samples=2,
    signal_shape=(40,),
    n_components=2,
    kernel_size=(6,),
    n_events=2,
    amplitude=(5.0, 6.0),
    likelihood="binomial",
    trials=5,
    offset=-1.0,
    noise=1.0,
    random_state=0,
)
add(
    "datasets.simulate_convolutional:atoms",
    datasets.simulate_convolutional,
    n_samples=2,
    signal_shape=(40,),
    atoms=FILTERS,
    n_events=2,
)
add(
    "datasets.smooth_filters",
    datasets.smooth_filters,
    n_components=3,
    kernel_size=(6,),
    n_channels=1,
    random_state=0,
)
add("datasets.add_noise", datasets.add_noise, image=IMAGE, noise=datasets.GaussianNoise(0.1), random_state=0)
add("GaussianNoise", datasets.GaussianNoise, sigma=0.1, sigma_max=0.2)
add("PoissonNoise", datasets.PoissonNoise, peak=4.0)
CAMERA = datasets.PoissonGaussianNoise(2.0, -1.0, 0.5)
add("PoissonGaussianNoise", datasets.PoissonGaussianNoise, gain=2.0, offset=3.0, read=0.5)
add("PoissonGaussianNoise.draw", CAMERA.draw, image=IMAGE, random_state=0)
VARYING = datasets.VaryingGaussianNoise(0.1 + 0.1 * OTHER)
add("VaryingGaussianNoise", datasets.VaryingGaussianNoise, sigma=OTHER)
add("VaryingGaussianNoise.level", VARYING.level, image=IMAGE)
add("VaryingGaussianNoise.draw", VARYING.draw, image=IMAGE, random_state=0)
CORRELATED = datasets.CorrelatedNoise(np.ones((9, 9)))
add("CorrelatedNoise", datasets.CorrelatedNoise, psd=np.ones((9, 9)))
add("CorrelatedNoise.from_kernel", datasets.CorrelatedNoise.from_kernel, kernel=np.ones((2, 3)), sigma=0.1)
add("CorrelatedNoise.from_dark_frames", datasets.CorrelatedNoise.from_dark_frames, frames=IMAGE)
add("CorrelatedNoise.autocovariance", CORRELATED.autocovariance, reach=3)
add("CorrelatedNoise.covariance", CORRELATED.covariance, patch_size=3)
add("CorrelatedNoise.check_channels", CORRELATED.check_channels, image=IMAGE)
add("CorrelatedNoise.draw", CORRELATED.draw, image=IMAGE, random_state=0)
add("GaussianNoise.scale", datasets.GaussianNoise(0.1).scale, x=T_X)
add("GaussianNoise.draw", datasets.GaussianNoise(0.1).draw, image=IMAGE, random_state=0)
add("PoissonNoise.draw", datasets.PoissonNoise(4.0).draw, image=IMAGE, random_state=0)
add("PoissonNoise.scale", datasets.PoissonNoise(4.0).scale, x=T_X)
add("PoissonNoise.unit", datasets.PoissonNoise(4.0).unit, image=IMAGE)
add("imaging.estimate_noise", imaging.estimate_noise, image=IMAGE, n_iter=2)
add("imaging.estimate_noise_psd", imaging.estimate_noise_psd, image=np.random.default_rng(1).random((48, 50)))
add(
    "imaging.random_patches",
    imaging.random_patches,
    planes=np.stack([IMAGE, OTHER]),
    patch_size=4,
    n_patches=10,
    random_state=0,
)
add(
    "denoise",
    calepin.denoise,
    image=IMAGE,
    method=imaging.DictionaryDenoiser(4, 8, n_iter=1, group_passes=0),
    noise=datasets.GaussianNoise(0.1),
    random_state=0,
)
add("imaging.StackDenoiser", imaging.StackDenoiser, depth=2)
add(
    "denoise:stack",
    calepin.denoise,
    image=np.stack([IMAGE] * 3),
    method=imaging.StackDenoiser(2),
    noise=datasets.GaussianNoise(0.1),
    axes="TYX",
)
add(
    "imaging.inpaint",
    imaging.inpaint,
    image=IMAGE,
    mask=IMAGE < 0.7,
    noise=datasets.GaussianNoise(0.1),
)
add(
    "imaging.DictionaryDenoiser",
    imaging.DictionaryDenoiser,
    patch_size=4,
    n_components=8,
    rule="ksvd",
    n_iter=1,
    group_passes=0,
)
add(
    "restore",
    calepin.restore,
    y=IMAGE,
    operator=operators.Blur(PSF, IMAGE.shape),
    noise=datasets.GaussianNoise(0.1),
    prior="tv",
    start=OTHER,
    max_iter=8,
    tol=0.1,
    random_state=0,
)
add("restoration.TVDenoiser", restoration.TVDenoiser, weight=1.0)
add(
    "restoration.WaveletDenoiser",
    restoration.WaveletDenoiser,
    threshold=3.0,
    moments=2,
    levels=2,
    n_shifts=2,
)
add("restoration.GroupDenoiser", restoration.GroupDenoiser, patch_size=4, group_size=8, n_passes=1)
for name, prior in {
    "TVDenoiser": restoration.TVDenoiser(),
    "WaveletDenoiser": restoration.WaveletDenoiser(),
    "GroupDenoiser": restoration.GroupDenoiser(4, 8, 1),
}.items():
    add(f"restoration.{name}.denoise", prior.denoise, image=IMAGE, noise=datasets.GaussianNoise(0.1))
FRAMES = np.arange(18.0)[:, None] * 9 + rng.poisson(np.arange(18)[:, None] * 9 + 1.0, (4, 18, 16))
add("imaging.estimate_photon_transfer", imaging.estimate_photon_transfer, images=FRAMES, offset=0.5)
add("imaging.GuidedDenoiser", imaging.GuidedDenoiser)
add("imaging.NetworkDenoiser", imaging.NetworkDenoiser, model="bsd-gaussian", n_shifts=1)
SETTINGS = dict(
    n_components=4,
    kernel=3,
    stride=1,
    n_unfold=2,
    tied=False,
    penalty="l1",
    threshold=0.1,
    learn_threshold=True,
    detach_codes=False,
    sigma=0.1,
    n_steps=1,
    batch_size=1,
    crop=8,
    n_shifts=1,
    learning_rate=1e-3,
    eps=1e-8,
    cosine=True,
    max_norm=1.0,
)
add("imaging.DenoiserSettings", imaging.DenoiserSettings, **SETTINGS)


@late("imaging.new_denoiser")
def _() -> Call:
    return imaging.new_denoiser, dict(settings=imaging.DenoiserSettings(**SETTINGS), seed=0)


@late("imaging.train_denoiser")
def _() -> Call:
    images = torch.from_numpy(np.stack([IMAGE, OTHER])[:, None]).float()
    return imaging.train_denoiser, dict(settings=imaging.DenoiserSettings(**SETTINGS), images=images, seed=0)


# --- learning

CODER = solvers.LassoCoder(0.1)
add("learning.AtomSet", learning.AtomSet, shape="ball", nonnegative=False)
add("learning.AtomSet.project", learning.AtomSet().project, atoms=T_ATOMS)
for rule in (learning.KSVD, learning.MOD, learning.NOODL, learning.Online):
    add(f"learning.{rule.__name__}", rule, coder=CODER, atom_set=learning.AtomSet(), replace_every=200)
add("learning.NOODL:rate", learning.NOODL, coder=CODER, learning_rate=0.5)
add("learning.Online:memory", learning.Online, coder=CODER, forgetting=3.0, horizon=100)
add(
    "learning.Convolutional",
    learning.Convolutional,
    coder=solvers.ConvolutionalLassoCoder(0.1),
    stride=1,
    gradient="dec",
    baseline=False,
    n_updates=1,
    tangent=True,
    centre=False,
    replace=True,
)
add(
    "learning.ConvolutionalOnline",
    learning.ConvolutionalOnline,
    coder=solvers.ConvolutionalLassoCoder(0.1),
    stride=1,
    baseline=False,
    forgetting=3.0,
    horizon=4,
    n_updates=5,
    centre=False,
    replace=True,
)
add(
    "learning.Unfolded",
    learning.Unfolded,
    penalty=penalties.L1(0.1),
    n_unfold=5,
    step_size=0.1,
    gradient="ae-ls",
    solver="ista",
    differentiate="unroll",
    decay=1.0,
    decay_drop=0.0,
    decay_every=30,
    tangent=False,
    learn_step=False,
    learn_threshold=False,
)
GENERATIVE = dict(generator=NET, latent_dim=2, n_starts=1, prior=0.1, radius=3.0, seed=0)
add("learning.LeastSquares", learning.LeastSquares, ridge=1.0, forgetting=0.9, n_sweeps=1, **GENERATIVE)
add("learning.Algorithm1", learning.Algorithm1, step_size=1.0, delta=1.0, precondition=True, **GENERATIVE)
add("learning.AltMin", learning.AltMin, n_iter=5, learning_rate=1e-3, **GENERATIVE)
add("learning.Autodiff", learning.Autodiff, n_iter=5, learning_rate=1e-3, latent_rate=0.01, **GENERATIVE)
add(
    "learning.algorithm1_step",
    learning.algorithm1_step,
    atoms=T_ATOMS,
    coefficients=T_CODES,
    y=T_X,
    inverse=torch.eye(5, dtype=torch.float64),
    step_size=0.1,
    delta=1.0,
)
add("learning.preconditioner", learning.preconditioner, generator=NET, latent_dim=2, like=T_X, n=100, seed=0)
add("learning.CosineDecay", learning.CosineDecay, n_steps=10, warm_up=0.1, last=0.01)
add(
    "learning.SOAP",
    partial(learning.SOAP, [nn.Parameter(torch.rand(3, 4))]),
    lr=0.002,
    betas=(0.9, 0.99),
    statistics=0.95,
    eps=1e-6,
    refresh=10,
)
add("learning.ArrayBatches", learning.ArrayBatches, X=X, batch_size=4, seed=0, rank=0, world=1)
add("learning.IterableBatches", learning.IterableBatches, batches=[X, X], missing=False)
add(
    "learning.SignalBatches",
    learning.SignalBatches,
    signals=SIGNALS,
    batch_size=2,
    likelihood=Gaussian(),
    offset=0.0,
    seed=0,
)
add("learning.FilterSet:decays", learning.FilterSet, autoregressive=2, norm="ball")
add("learning.FilterSet", learning.FilterSet, rank=1, nonnegative=False, tapered=True, sizes=(3, 5))
add("learning.Trend", learning.Trend, kind="linear", width=5)
add("learning.dct_atoms", learning.dct_atoms, n_components=6, n_features=8)
add(
    "learning.dictionary_gradient",
    learning.dictionary_gradient,
    y=T_X,
    atoms=T_ATOMS,
    penalty=penalties.L1(0.1),
    n_unfold=3,
    step_size=0.1,
    gradient="dec",
    solver="ista",
    differentiate="unroll",
    decay=0.9,
)


@late("learning.initial_atoms")
def _() -> Call:
    draw = np.random.default_rng(0)
    data = learning.ArrayBatches(X, 4)
    return learning.initial_atoms, dict(
        n_components=4, data=data, init="data", atom_set=learning.AtomSet(), generator=draw
    )


@late("learning.initial_filters")
def _() -> Call:
    draw = np.random.default_rng(0)
    data = learning.SignalBatches(SIGNALS, 2, likelihood=Gaussian())
    return learning.initial_filters, dict(
        n_components=2, kernel_size=(5,), data=data, init="data", generator=draw
    )


@late("learning.train")
def _() -> Call:
    rule = learning.MOD(CODER)
    arguments = dict(
        rule=rule, data=learning.ArrayBatches(X, 10), state=learning.TrainState(rule.init(ATOMS))
    )
    return learning.train, dict(**arguments, max_iter=2, tol=0.01, callbacks=(), checkpoint_seconds=60.0)


@late("learning.train_steps")
def _() -> Call:
    rule = learning.VAERule(networks.VAE(2, 5, 8))
    return learning.train_steps, dict(
        rule=rule, data=learning.ArrayBatches(X.astype(np.float32), 10), n_steps=2
    )


@late("learning.NetworkRule")
def _() -> Call:
    network = networks.UnfoldedAutoencoder(T_FILTERS, penalties.L1(0.1), n_unfold=3)
    settings = dict(max_norm=1.0, noise=datasets.GaussianNoise(0.1), target="clean", crop=8, n_shifts=1)
    flags = dict(detach_codes=False, unit_norm=False, average=3, seed=0)
    return learning.NetworkRule, dict(network=network, **settings, **flags)


@late("learning.DenoisingRule")
def _() -> Call:
    network = networks.UnfoldedDenoiser.random(2, 4, n_unfold=2)
    settings = dict(max_norm=1.0, noise=datasets.GaussianNoise(0.0, 0.1), crop=8, n_shifts=1)
    return learning.DenoisingRule, dict(network=network, **settings, average=3, half_precision=False, seed=0)


@late("learning.VAERule")
def _() -> Call:
    return learning.VAERule, dict(network=networks.VAE(2, 5, 8), seed=0)


# --- estimators: a call constructs and fits


def _fit(kind: Callable[..., Any], X: Any, settings: dict[str, Any]) -> Any:
    learner = kind(**settings).fit(X)
    return learner.components_, learner.transform(X)


def _learner(name: str, kind: Callable[..., Any], X: Any, **settings: Any) -> None:
    def fit(X: Any, **settings: Any) -> Any:
        return _fit(kind, X, settings)

    add(name, fit, X=X, max_iter=1, tol=1e-3, random_state=0, device="cpu", verbose=False, **settings)


_learner(
    "DictionaryLearner",
    calepin.DictionaryLearner,
    X,
    n_components=4,
    alpha=0.1,
    rule="online",
    coder="lasso",
    nonnegative=False,
    nonnegative_atoms=False,
    init="data",
    batch_size=10,
    missing="error",
)
_learner(
    "DictionaryLearner:omp",
    calepin.DictionaryLearner,
    X,
    n_components=4,
    rule="ksvd",
    coder="omp",
    n_nonzero=2,
    init=ATOMS[:4],
)
_learner(
    "UnfoldedDictionaryLearner",
    calepin.UnfoldedDictionaryLearner,
    X,
    n_components=4,
    alpha=0.1,
    penalty="l1",
    gradient="ae-ls",
    n_unfold=3,
    step_size=0.1,
    solver="ista",
    differentiate="unroll",
    decay=1.0,
    decay_drop=0.1,
    decay_every=30,
    learn_step=False,
    learn_threshold=False,
    optimizer="adam",
    learning_rate=1e-3,
    atoms="sphere",
    init="data",
    batch_size=10,
)
_learner(
    "GenerativeDictionaryLearner",
    calepin.GenerativeDictionaryLearner,
    X,
    generator=NET,
    latent_dim=2,
    rule="least-squares",
    ridge=1.0,
    n_starts=1,
    prior=0.1,
    radius=3.0,
    init="random",
    batch_size=10,
)
_learner(
    "ConvolutionalDictionaryLearner",
    calepin.ConvolutionalDictionaryLearner,
    SIGNALS,
    n_components=2,
    kernel_size=5,
    likelihood="gaussian",
    alpha=0.5,
    nonnegative=False,
    stride=1,
    coder="fista",
    n_unfold=3,
    debias=False,
    gradient="dec",
    n_updates=1,
    optimizer="adam",
    learning_rate=0.02,
    init="data",
    batch_size=2,
)
_learner(
    "ConvolutionalDictionaryLearner:binomial",
    calepin.ConvolutionalDictionaryLearner,
    (SIGNALS > 0) * 2.0,
    n_components=2,
    kernel_size=5,
    likelihood="binomial",
    trials=3,
    offset=-1.0,
    coder="bcomp",
    n_nonzero=2,
    init=FILTERS[:2],
)


# --- compression


@cache
def _model() -> Any:
    learner = calepin.GenerativeDictionaryLearner(NET, latent_dim=2, max_iter=1, n_starts=1, random_state=0)
    return learner.fit(X)


@late("compression.compress")
def _() -> Call:
    return compression.compress, dict(X=X, model=_model(), digits=3)


@late("compression.compress:bits")
def _() -> Call:
    return compression.compress, dict(X=X, model=_model(), bits=5)


@late("compression.decompress")
def _() -> Call:
    return compression.decompress, dict(content=compression.compress(X, _model()), model=_model())


@late("compression.rate_distortion")
def _() -> Call:
    return compression.rate_distortion, dict(
        X=X, model=_model(), training=X + 0.1, bits=(3, 5), image_shape=(2, 4), seed=0
    )


add("compression.Quantiser", compression.Quantiser, bits=3, digits=None, low=(0.0, 0.0), high=(1.0, 2.0))
add("compression.Quantiser:digits", compression.Quantiser, digits=3)
add("compression.Quantiser.fit", compression.Quantiser.fit, latents=LATENTS.numpy(), digits=None, bits=4)
QUANTISER = compression.Quantiser.fit(LATENTS.numpy(), bits=4)
add("compression.Quantiser.encode", QUANTISER.encode, latents=LATENTS.numpy())
add("compression.Quantiser.decode", QUANTISER.decode, integers=QUANTISER.encode(LATENTS.numpy()))


# --- spikes

TRAINS = spikes.simulate_spikes(6, 60, drive=np.where(np.arange(60) % 20 < 6, 2.0, 0.0), baseline=-2.0)
BUMP = np.hanning(8)[1:-1]
add("spikes.bits_per_spike", spikes.bits_per_spike, log_likelihood=-10.0, reference=-12.0, n_spikes=5.0)
add("spikes.log_likelihood", spikes.log_likelihood, eta=ETA, y=COUNTS, likelihood=Poisson())
add("spikes.log_likelihood:binomial", spikes.log_likelihood, eta=ETA, y=COUNTS, likelihood=Binomial(3))
add("spikes.deviance", spikes.deviance, eta=ETA, y=COUNTS, likelihood=Poisson())
add("spikes.deviance:binomial", spikes.deviance, eta=ETA, y=COUNTS, likelihood=Binomial())
add(
    "spikes.fit_glm",
    spikes.fit_glm,
    y=COUNTS[0],
    covariates=ETA[:2].T.copy(),
    likelihood=Binomial(),
    offset=0.1,
    ridge=0.1,
    intercept=True,
    names=("a", "b"),
)
add(
    "spikes.fit_glm:arrays",
    spikes.fit_glm,
    y=COUNTS[0],
    covariates=ETA[:2].T.copy(),
    likelihood=Poisson(),
    offset=ETA[3],
    ridge=np.ones(2),
)
add(
    "spikes.fit_spike_glm",
    spikes.fit_spike_glm,
    counts=COUNTS,
    stimulus=ETA[0],
    order=2,
    likelihood=Binomial(),
    ridge=0.1,
    history_ridge=0.1,
    names=("a",),
)
add(
    "spikes.select_order",
    spikes.select_order,
    counts=COUNTS,
    stimulus=ETA[0],
    orders=(1, 2),
    likelihood=Binomial(),
    ridge=0.1,
    history_ridge=0.1,
)
add(
    "spikes.fit_event_model",
    spikes.fit_event_model,
    counts=TRAINS.counts,
    start=BUMP,
    n_events=2,
    order=1,
    coder="fista",
    likelihood=Binomial(),
    baseline=-2.0,
    n_rounds=1,
    alpha=0.05,
    window=3,
    ridge=0.3,
    history_ridge=0.1,
    n_iter=20,
    n_refine=1,
)
add(
    "spikes.fit_event_model:onsets",
    spikes.fit_event_model,
    counts=TRAINS.counts,
    start=BUMP,
    onsets=np.array([0, 20, 40]),
    n_rounds=1,
)
add("spikes.ks_test", spikes.ks_test, eta=ETA, counts=COUNTS, likelihood=Binomial(), random_state=0)
add(
    "spikes.rescaled_intervals",
    spikes.rescaled_intervals,
    eta=ETA,
    counts=COUNTS,
    likelihood=Poisson(),
    random_state=0,
)
add(
    "spikes.simulate_spikes",
    spikes.simulate_spikes,
    n_trials=2,
    n_bins=20,
    drive=ETA[0, :20],
    baseline=-2.0,
    history=np.array([-1.0, -0.5]),
    likelihood=Binomial(),
    random_state=0,
)
add(
    "spikes.analyse_spikes",
    spikes.analyse_spikes,
    data=TRAINS,
    stimulus=np.sin(np.arange(60.0))[:, None],
    names=["sine"],
    kernel_size=6,
    n_events=2,
    train=(0, 4),
    baseline=(0, 60),
    order=2,
    likelihood=Binomial(),
    coder="fista",
    alpha=0.05,
    n_rounds=1,
    random_state=0,
)
add(
    "spikes.bin_spikes",
    spikes.bin_spikes,
    times=np.array([0.5, 1.2]),
    cue_times=np.array([0.0, 1.0]),
    window=(0.0, 1.0),
    bin_width=0.1,
    observed=np.array([[0.0, 2.0]]),
    cue="go",
    unit="7",
)
add(
    "spikes.bin_trials",
    spikes.bin_trials,
    times=[[0.1, 0.25], [0.3]],
    window=(0.0, 0.5),
    bin_width=0.1,
    cue_times=np.array([1.0, 2.0]),
    cue="go",
    unit="7",
)
add("spikes.analyse_units", spikes.analyse_units, units={"7": TRAINS}, analyse=lambda trains: None, n_jobs=1)
add("spikes.raised_cosine_basis", spikes.raised_cosine_basis, n_lags=8, n_basis=3, stretch=1.0)
add("spikes.bspline_basis", spikes.bspline_basis, n_lags=8, n_basis=4, degree=3)
add("spikes.NegativeBinomial", spikes.NegativeBinomial, shape=2.0)
TRIPLE = np.random.default_rng(0).poisson(0.5, (2, 4, 50))
add(
    "spikes.fit_population",
    spikes.fit_population,
    counts=TRIPLE,
    basis=np.eye(3)[:, :2],
    covariates=np.sin(np.arange(50.0))[:, None],
    names=("sine",),
    likelihood=Poisson(),
    ridge=0.1,
    max_iter=100,
    tol=1e-3,
)
add(
    "spikes.select_population_alpha",
    spikes.select_population_alpha,
    counts=TRIPLE,
    alphas=(1.0, 10.0),
    basis=np.eye(3)[:, :2],
    covariates=np.sin(np.arange(50.0))[:, None],
    names=("sine",),
    likelihood=Poisson(),
    groups=True,
    n_folds=2,
    max_iter=100,
    tol=1e-2,
)
for method in ("predictor", "score"):
    CALLS[f"spikes.PopulationGLM.{method}"] = lambda method=method: (
        getattr(spikes.fit_population(TRIPLE, basis=np.eye(3)[:, :2], ridge=0.1), method),
        dict(counts=TRIPLE),
    )
add("spikes.join_trials", spikes.join_trials, parts=[TRAINS, TRAINS])
add("spikes.ks_plot", spikes.ks_plot, tests={"a": spikes.ks_test(ETA, COUNTS)})
add("spikes.filter_panels", spikes.filter_panels, panels={"a": {"b": BUMP}}, n_columns=2)
add(
    "spikes.spike_figure",
    spikes.spike_figure,
    counts=COUNTS,
    events={"a": spikes.Events([3], [1.0])},
    filters={"a": BUMP},
    tests={},
    stimulus=ETA[0],
    bin_width=0.001,
    onsets=(3.0,),
    t0=-0.1,
    cue="go",
    bands={"a": np.stack([BUMP - 1, BUMP + 1])},
)


@late("spikes.session_figure")
def _() -> Call:
    settings = dict(kernel_size=6, n_events=2, order=2, n_rounds=1)
    return spikes.session_figure, dict(session=spikes.analyse_spikes(TRAINS, **settings))


@cache
def _glm() -> Any:
    return spikes.fit_spike_glm(COUNTS, ETA[0], order=2)


@cache
def _events() -> Any:
    return spikes.fit_event_model(TRAINS.counts, BUMP, onsets=[0, 20, 40], n_rounds=1)


@late("spikes.event_bands")
def _() -> Call:
    settings = dict(n_draws=10, level=0.9, random_state=0)
    return spikes.event_bands, dict(model=_events(), counts=TRAINS.counts, **settings)


for method in ("predictor", "mean"):
    CALLS[f"spikes.SpikeGLM.{method}"] = lambda method=method: (
        getattr(_glm(), method),
        dict(counts=COUNTS, stimulus=ETA[0]),
    )
    CALLS[f"spikes.EventModel.{method}"] = lambda method=method: (
        getattr(_events(), method),
        dict(counts=TRAINS.counts),
    )


# --- figures

add("report.atom_tiles", report.atom_tiles, atoms=ATOMS, shape=(2, 4), width=64)
add("report.atom_curves", report.atom_curves, atoms=ATOMS)
add("report.atom_figure", report.atom_figure, atoms=ATOMS, shape=(2, 4), labels=["a"] * len(ATOMS))
add("report.Table", report.Table, columns=["a", "b"], rows=[["c", 1.0]], failed=[0])
add("report.Section", report.Section, title="a", text="b", figures={"c": IMAGE}, details={"d": {"e": 1}})
add("report.Report", report.Report, title="a", sections=[report.Section("b")], made="c")
add("report.Report.html", report.Report("a", [report.Section("b")]).html)
add(
    "report.before_after",
    report.before_after,
    images={"a": IMAGE, "b": OTHER},
    window=(slice(0, 8), slice(0, 8)),
)
add("report.patch_shape", report.patch_shape, n_features=64)
add(
    "report.curves",
    report.curves,
    lines={"a": report.Curve([1, 2, 3], [1.0, 2.0, 3.0])},
    xlabel="x",
    ylabel="y",
    xscale="linear",
    yscale="linear",
    title="t",
)
add("report.sheet", report.sheet, columns={"a": [IMAGE], "b": [OTHER]}, n_rows=2, groups=["a"])
