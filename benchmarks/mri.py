"""A slice from an eighth of its k-space: what each idea brings, beside sigpy's L1-wavelet reconstruction.

Real k-space of eight coils, the 160 x 168 samples around its middle, single points at 8x. PSNR is of the root
of the sum of squares, its peak that of the full k-space. All results are moved to the measured samples. The
weights of the penalties are an oracle's: chosen by the truth, and not timed.
"""

import warnings
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from benchmarks.runner import Comparison, Contender
from calepin.datasets import data_path
from calepin.metrics import psnr, ssim
from calepin.networks import ComplexPair, DeepDecoder
from calepin.operators import MultiCoilMRI, density_weights, root_sum_of_squares
from calepin.reconstruction import data_consistent, fit_untrained, weighted
from calepin.solvers import Adam
from calepin_papers.untrained_networks.mri import load_slice, sample, sparsest

SIZE = (160, 168)
ALPHA = 1e-3  # calepin's and sigpy's best of .0005, .001, .002, .004
ITERATIONS = 80


def prepare() -> list[Contender]:
    """Return the decoder, the decoder without each idea, and reconstructions by wavelets."""
    data_path("mri")  # the figures are of a real slice
    images = load_slice(SIZE)
    operator = sample(SIZE, "points", 8, 24, 0, images.shape[1])
    y, truth = operator(images), _magnitude(images)
    contenders: dict[str, Any] = {
        "decoder: coils together, density weights, 2 starts": partial(_decode, operator, y, n_starts=2),
        "one start": partial(_decode, operator, y),
        "one start, 64 channels": partial(_decode, operator, y, channels=64),
        "one start, Adam .01": partial(_decode, operator, y, lr=0.01),
        "one start, without density weights": partial(_decode, operator, y, power=0.0),
        "one start, 64 channels, without, each coil by itself": partial(
            _decode, operator, y, power=0.0, channels=64, together=False
        ),
        "calepin: wavelets, FISTA": lambda: sparsest(operator, y, ALPHA, ITERATIONS),
        "sigpy: L1WaveletRecon of each coil": partial(_sigpy, operator, y),
    }

    def measures(coils: Tensor) -> dict[str, float]:
        return {"psnr": psnr(_magnitude(coils), truth), "ssim": ssim(_magnitude(coils), truth)}

    return [Contender(name, run, measures) for name, run in contenders.items()]


def _decode(
    operator: MultiCoilMRI,
    y: Tensor,
    *,
    channels: int = 128,
    power: float = 0.5,
    lr: float = 0.03,
    n_starts: int = 1,
    together: bool = True,
) -> Tensor:
    """Fit one network to all coils, or a batch of networks to a coil each."""
    coils = operator.in_shape[0] if together else 1
    network = ComplexPair(
        DeepDecoder(SIZE, out_channels=2 * coils, channels=channels, in_size=16, output="none")
    )
    weights = density_weights(SIZE, power=power)
    scanner = operator if together else MultiCoilMRI(operator.acquired)
    problem = weighted(scanner, y if together else y.transpose(0, 1), weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of iterations
        fit = fit_untrained(
            network,
            problem.operator,
            problem.y,
            optimizer=Adam(lr),
            max_iter=400,
            tol=0.0,
            patience=None,
            n_starts=n_starts,
        )
    found = problem.scale * fit.x
    return data_consistent(operator, found if together else found.transpose(0, 1), y)


def _sigpy(operator: MultiCoilMRI, y: Tensor) -> Tensor:
    from sigpy.mri.app import L1WaveletRecon

    reconstruction: Any = L1WaveletRecon  # sigpy is not typed
    alone = np.ones((1, *SIZE), np.complex64)
    found = [
        reconstruction(coil[None].numpy(), alone, ALPHA, max_iter=ITERATIONS, show_pbar=False).run()
        for coil in y[0]
    ]
    return data_consistent(operator, torch.from_numpy(np.stack(found)[None]), y)


def _magnitude(coils: Tensor) -> np.ndarray:
    return root_sum_of_squares(coils)[0, 0].numpy()


COMPARISONS = (
    Comparison(
        "untrained-mri",
        "An eighth of the k-space of eight coils, 160 x 168: what each idea brings",
        "not behind L1-wavelet reconstruction (dB)",
        prepare,
        rounds=1,
    ),
)
