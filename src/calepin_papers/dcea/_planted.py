"""What the simulated experiments share: planted filters, starts near them, learning by DCEA and BCOMP."""

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
from calepin.solvers import ConvolutionalPursuitCoder, ProximalCoder

__all__ = ["RECIPES", "Planted", "Recipe", "descent_coder", "learn", "perturbed"]


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


@dataclass(frozen=True)
class Recipe:
    """How filters are learned: what codes are made of, and whether the gradient passes through them.

    Attributes
    ----------
    backpropagated
        The paper's way: the gradient of the likelihood passes through the unfolded encoder, one update of the
        filters a batch. Otherwise codes are constants, and filters are updated several times with them.
    refitted
        Whether the codes are re-fitted without the penalty on their peaks before the filters are updated.
    n_events_known
        Whether as many peaks are kept as there are events.
    greedy
        Whether codes come from a greedy pursuit of as many events as there are (BCOMP) instead of FISTA.
    """

    backpropagated: bool = False
    refitted: bool = False
    n_events_known: bool = False
    greedy: bool = False


RECIPES = {
    "paper": Recipe(backpropagated=True),
    "plain": Recipe(),
    "unknown": Recipe(refitted=True),
    "known": Recipe(refitted=True, n_events_known=True),
    "bcomp": Recipe(n_events_known=True, greedy=True),
}
"""Recipes by the prefix of their values: the paper's DCEA, three of calepin's, and the paper's BCOMP."""


def descent_coder(threshold: float, trials: int, n_iter: int) -> ProximalCoder:
    """Return nonnegative FISTA; the paper's threshold is for the likelihood of one trial."""
    return ProximalCoder(NonNegativeL1(threshold * trials), n_iter, nonnegative=True)


def learn(
    X: NDArray[np.float64],
    recipe: Recipe,
    *,
    planted: Planted,
    init: str | NDArray[np.float64],
    reference: NDArray[np.float64],
    threshold: float,
    n_iter: int,
    n_passes: int,
    batch_size: int,
    n_updates: int,
    learning_rate: float,
    seed: int,
    device: str,
    likelihood: Likelihood | None = None,
    baseline: float | None = None,
    max_shift: int = 0,
) -> dict[str, NDArray[np.floating]]:
    """Learn filters by a recipe.

    Parameters
    ----------
    X
        Counts, or relative frequencies for a likelihood without trials.
    planted
        The simulation that they come from.
    reference
        True filters, for the errors.
    threshold, n_iter
        Weight of the l1 norm beside the likelihood of one trial, and iterations, of FISTA.
    n_updates
        Updates of the filters for the same codes, unless the recipe is back-propagated.
    likelihood, baseline
        By default those of the simulation.
    max_shift
        Shifts over which an error is the least.

    Returns
    -------
    dict
        ``start`` and ``filters``, and ``errors`` (n_passes + 1, n_components): the error of each reference at
        the start and after every pass.
    """
    likelihood = likelihood or Binomial(planted.trials)
    baseline = planted.baseline if baseline is None else baseline
    trials = planted.trials if isinstance(likelihood, Binomial) else 1
    n_events = planted.n_components * planted.n_events
    data = SignalBatches(X, batch_size, likelihood=likelihood, offset=baseline, seed=seed, device=device)
    coder = ConvolutionalPursuitCoder(n_events) if recipe.greedy else descent_coder(threshold, trials, n_iter)
    rule = Convolutional(
        coder,
        gradient="ae-ls" if recipe.backpropagated else "dec",
        debias=planted.kernel // 10 if recipe.refitted else None,
        n_peaks=n_events if recipe.refitted and recipe.n_events_known else None,
        n_updates=1 if recipe.backpropagated else n_updates,
        optimizer=partial(torch.optim.Adam, lr=learning_rate, eps=1e-3),
        centre=isinstance(init, str),
        replace=not recipe.backpropagated,
    )
    rng = np.random.default_rng(seed)
    start = initial_filters(len(reference), reference.shape[2:], data, init=init, generator=rng)
    state = TrainState(rule.init(start))
    errors = [filter_error(start.cpu(), reference, max_shift=max_shift)]
    for n in range(1, n_passes + 1):
        train(rule, data, state, max_iter=n)
        errors.append(filter_error(state.learned.atoms.cpu(), reference, max_shift=max_shift))
    filters = state.learned.atoms.cpu().numpy()
    return {"start": start.cpu().numpy(), "filters": filters, "errors": np.array(errors)}
