"""What the simulated experiments share: planted filters, starts near them, learning by DCEA and BCOMP."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.datasets import ConvolutionalData, simulate_convolutional
from calepin.learning import (
    Convolutional,
    SignalBatches,
    TrainState,
    initial_filters,
    train,
)
from calepin.likelihoods import Binomial, Likelihood
from calepin.metrics import filter_error
from calepin.penalties import NonNegativeL1
from calepin.solvers import Coder, ProximalCoder

__all__ = ["Planted", "descent_coder", "learn", "perturbed"]


@dataclass(frozen=True)
class Planted:
    """The simulation of section 5.2.1; what the paper leaves open is the last three.

    Attributes
    ----------
    n_signals, n_components, kernel, length, n_events, trials
        J, C, K, N, appearances of each filter in a signal, and M.
    amplitude
        Of every event; filters have unit norm.
    baseline
        Of the log-odds.
    start_error
        Error of the filters at a perturbed start.
    """

    n_signals: int = 200
    n_components: int = 3
    kernel: int = 50
    length: int = 500
    n_events: int = 5
    trials: int = 25
    amplitude: float = 5.0
    baseline: float = 0.0
    start_error: float = 0.35

    def draw(self, rng: np.random.Generator) -> ConvolutionalData:
        """Draw filters and signals."""
        return simulate_convolutional(
            self.n_signals,
            (self.length,),
            n_components=self.n_components,
            kernel_size=(self.kernel,),
            n_events=self.n_events,
            amplitude=(self.amplitude, self.amplitude),
            trials=self.trials,
            offset=self.baseline,
            random_state=rng,
        )


def perturbed(atoms: NDArray[np.float64], error: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return unit filters whose error to `atoms` is that: moved by white noise orthogonal to them."""
    noise = rng.standard_normal(atoms.shape)
    noise -= (noise * atoms).sum((1, 2), keepdims=True) * atoms
    noise /= np.sqrt((noise**2).sum((1, 2), keepdims=True))
    return np.sqrt(1 - error**2) * atoms + error * noise


def descent_coder(threshold: float, trials: int, n_iter: int) -> ProximalCoder:
    """Return nonnegative FISTA; the paper's threshold is for the likelihood of one trial."""
    return ProximalCoder(NonNegativeL1(threshold * trials), n_iter, nonnegative=True)


def learn(
    X: NDArray[np.float64],
    coder: Coder,
    *,
    init: str | NDArray[np.float64],
    reference: NDArray[np.float64],
    likelihood: Likelihood | None = None,
    trials: int,
    baseline: float,
    n_passes: int,
    batch_size: int,
    n_updates: int,
    learning_rate: float,
    debias: int | None = None,
    n_peaks: int | None = None,
    max_shift: int = 0,
    seed: int,
    device: str,
    after_pass: Callable[[], None] = lambda: None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the learned filters, and the error of each reference at the start and after every pass."""
    data = SignalBatches(
        X, batch_size, likelihood=likelihood or Binomial(trials), offset=baseline, seed=seed, device=device
    )
    rule = Convolutional(
        coder,
        debias=debias,
        n_peaks=n_peaks,
        n_updates=n_updates,
        optimizer=partial(torch.optim.Adam, lr=learning_rate, eps=1e-3),
        centre=isinstance(init, str),
    )
    rng = np.random.default_rng(seed)
    filters = initial_filters(len(reference), reference.shape[2:], data, init=init, generator=rng)
    state = TrainState(rule.init(filters))
    errors = [filter_error(filters.cpu(), reference, max_shift=max_shift)]
    for n in range(1, n_passes + 1):
        train(rule, data, state, max_iter=n)
        errors.append(filter_error(state.learned.atoms.cpu(), reference, max_shift=max_shift))
        after_pass()
    return state.learned.atoms.cpu().numpy(), np.array(errors)
