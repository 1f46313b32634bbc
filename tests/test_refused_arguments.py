"""What no function may take: each case was accepted in silence once."""

import math

import numpy as np
import pytest
import torch

from calepin import GenerativeDictionaryLearner
from calepin.imaging import DenoiserSettings, train_denoiser
from calepin.learning import ArrayBatches, AtomSet, LeastSquares, SignalBatches, initial_filters
from calepin.learning.optimizers import move
from calepin.likelihoods import Binomial, Poisson
from calepin.metrics import duality_gap, match_atoms, mutual_coherence, psnr, recovered_fraction, ssim
from calepin.reconstruction import measurements_needed, spectral_drift
from calepin.spikes import deviance, fit_glm, fit_spike_glm, log_likelihood

IMAGE = np.linspace(0, 1, 64).reshape(8, 8)
ATOMS = np.eye(3, 5)
COUNTS = (np.random.default_rng(0).random((4, 50)) < 0.3).astype(float)


def filters(kernel_size, init="data"):
    """Initial filters for signals of eight samples."""
    data = SignalBatches(IMAGE[:, None], 4, likelihood=Poisson())
    return initial_filters(2, kernel_size, data, init=init, generator=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr(IMAGE + 1j * IMAGE, IMAGE), "pixels: expected real numbers"),
        (lambda: ssim(IMAGE, IMAGE + 1j), "clean: expected real numbers"),
        (lambda: mutual_coherence(ATOMS + 1j), "atoms: expected real numbers"),
        (lambda: match_atoms(ATOMS, ATOMS + 1j), "reference: expected real numbers"),
        (lambda: duality_gap(ATOMS, np.eye(3) + 1j, ATOMS, alpha=1), "codes: expected real numbers"),
        (lambda: ssim(np.ma.masked_greater(IMAGE, 0.5), IMAGE), "pixels: expected no masked entries"),
        (lambda: recovered_fraction(ATOMS, ATOMS, tolerance=math.nan), "tolerance: expected a finite number"),
        (lambda: spectral_drift(np.ones(3), np.full(3, math.nan)), "after: expected finite values"),
        (
            lambda: measurements_needed(np.full(3, math.nan), np.ones(3), 0.1),
            "signal: expected finite values",
        ),
        (lambda: log_likelihood([0.0], [-1.0], likelihood=Poisson()), "y: expected counts"),
        (lambda: log_likelihood([0.0], [0.5], likelihood=Poisson()), "y: expected whole numbers"),
        (lambda: log_likelihood([], [], likelihood=Poisson()), "eta: expected at least one entry"),
        (lambda: deviance([0.0], [2.0], likelihood=Binomial()), "y: expected at most"),
        (lambda: fit_spike_glm(COUNTS, ridge=-1.0), "ridge: expected a finite number of at least 0"),
        (
            lambda: fit_glm(COUNTS[0], COUNTS[1:2].T, likelihood=Poisson(), ridge=-1.0),
            "ridge: expected numbers of at least 0",
        ),
        (lambda: ArrayBatches(IMAGE, 0), "batch_size: expected a positive integer or None"),
        (lambda: ArrayBatches(IMAGE, 2, world=0), "world: expected a positive integer"),
        (lambda: ArrayBatches(IMAGE, 2, rank=2, world=2), "rank: expected an integer from 0 to 1"),
        (
            lambda: SignalBatches(IMAGE[:, None], 0, likelihood=Poisson()),
            "batch_size: expected a positive integer",
        ),
        (lambda: SignalBatches([], 1, likelihood=Poisson()), "signals: expected at least one"),
        (lambda: filters((9,)), "kernel_size: expected at most the size of the signals"),
        (lambda: filters((3, 3)), "kernel_size: expected one size an axis"),
        (lambda: filters((3,), 1j * np.ones((2, 1, 3))), "init: expected real numbers"),
        (lambda: DenoiserSettings(penalty="l2"), "penalty: expected one of 'l1', 'hard'"),
        (
            lambda: train_denoiser(DenoiserSettings(), torch.ones(0, 1, 8, 8)),
            "images: expected shape",
        ),
        (
            lambda: GenerativeDictionaryLearner(torch.nn.Identity(), latent_dim=3, ridge=np.ones(2)).fit(
                IMAGE
            ),  # pyright: ignore
            "ridge: expected",
        ),
        (lambda: AtomSet("nonsense"), "shape: expected one of 'ball', 'sphere', got 'nonsense'"),  # pyright: ignore
        (lambda: LeastSquares(torch.sin, 2, n_starts=2.5), "n_starts: expected an integer, got 2.5"),  # pyright: ignore
    ],
)
def test_what_cannot_be_meant_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ArrayBatches(math.nan, 2), "X: expected an array"),
        (lambda: ArrayBatches(np.ndarray, 2), "X: expected an array"),
        (lambda: SignalBatches(math.nan, 2, likelihood=Poisson()), "signals: expected an array or a list"),
        (lambda: move({}, torch.ones(2), torch.ones(2), lambda _: "none"), "optimizer: expected"),  # pyright: ignore
    ],
)
def test_what_is_of_another_kind_is_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()
