"""What the figures share: planted dictionaries with a start beside them, and their long steps."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from calepin.datasets import SparseData, simulate_sparse
from calepin.experiments import Run
from calepin.learning import ArrayBatches, Online, TrainState, train
from calepin.solvers import LassoCoder

__all__ = ["FLOOR", "best_atoms", "draws", "quiet_about_long_steps"]

FLOOR = 1e-17
"""Errors below it are drawn at it: the axis is logarithmic."""


def draws(
    run: Run,
    *,
    n_draws: int,
    n_samples: int,
    n_features: int,
    n_components: int,
    n_nonzero: int,
    closeness: float,
    text: str,
) -> Iterator[tuple[SparseData, NDArray[np.float64]]]:
    """Yield data, and atoms moved from those that made them, for independent dictionaries.

    Amplitudes are uniform in [1, 2] and positive. The atoms are moved by Gaussian noise of variance
    1 / m, times `closeness` over log m, with m the number of features.
    """
    for draw, seeds in enumerate(np.random.SeedSequence(run.seed).spawn(n_draws)):
        run.progress(draw / n_draws, f"draw {draw + 1}: {text}")
        truth, near = (np.random.default_rng(seed) for seed in seeds.spawn(2))
        data = simulate_sparse(
            n_samples, n_features, n_components, n_nonzero=n_nonzero, signs=False, random_state=truth
        )
        moved = near.standard_normal(data.atoms.shape) / np.sqrt(n_features)
        yield data, data.atoms + closeness / np.log(n_features) * moved


def best_atoms(
    y: NDArray[np.float64], atoms: NDArray[np.float64], *, alpha: float, n_passes: int
) -> NDArray[np.float64]:
    """Return D*: the unit atoms near `atoms` that minimise the lasso's objective of the samples.

    They are found by alternating minimisation, each pass one of exact codes of all samples and a sweep of
    block coordinate descent.
    """
    rule = Online(LassoCoder(alpha, tol=1e-8), horizon=1)
    state = train(rule, ArrayBatches(y, None), TrainState(rule.init(atoms)), max_iter=n_passes)
    return state.learned.atoms.numpy()


@contextmanager
def quiet_about_long_steps() -> Iterator[None]:
    """Ignore the warning about the paper's step size: it is above 1 / L, but below 2 / L, and converges."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="step_size = .* is above 1 / L", category=RuntimeWarning)
        yield
