"""What the figures share: planted dictionaries with a start beside them, and their long steps."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calepin.datasets import SparseData, simulate_sparse
from calepin.experiments import Run
from calepin.learning import ArrayBatches, Online, TrainState, train
from calepin.solvers import LassoCoder

__all__ = ["FLOOR", "Sizes", "best_atoms", "draws", "quiet_about_long_steps"]

FLOOR = 1e-17
"""Errors below it are drawn at it: the axis is logarithmic."""


class Sizes(Protocol):
    """The settings of a simulation: independent dictionaries, their size, and how far atoms start."""

    @property
    def n_draws(self) -> int: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_components(self) -> int: ...
    @property
    def n_nonzero(self) -> int: ...
    @property
    def closeness(self) -> float: ...


def draws(
    sizes: Sizes, run: Run, text: str, *, n_samples: int
) -> Iterator[tuple[SparseData, NDArray[np.float64]]]:
    """Yield data, and atoms moved from those that made them, for independent dictionaries.

    Amplitudes are uniform in [1, 2] and positive. The atoms are moved by Gaussian noise of variance
    1 / m, times `closeness` over log m, with m the number of features.
    """
    for draw, seeds in enumerate(np.random.SeedSequence(run.seed).spawn(sizes.n_draws)):
        run.progress(draw / sizes.n_draws, f"draw {draw + 1}: {text}")
        truth, near = (np.random.default_rng(seed) for seed in seeds.spawn(2))
        data = simulate_sparse(
            n_samples,
            sizes.n_features,
            sizes.n_components,
            n_nonzero=sizes.n_nonzero,
            signs=False,
            random_state=truth,
        )
        moved = near.standard_normal(data.atoms.shape) / np.sqrt(sizes.n_features)
        yield data, data.atoms + sizes.closeness / np.log(sizes.n_features) * moved


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
