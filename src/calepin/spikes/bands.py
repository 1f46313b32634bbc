"""Confidence bands of an event model by the bootstrap over trials.

Each draw takes as many trials as there are, with replacement, and moves all parameters (baseline, amplitudes,
filter, history) by one Newton step from the fit to all trials:

    theta_b = theta + (I + ridge)^{-1} sum_m (w_bm - 1) s_m

with the score s_m of trial m, the information I of all trials, and the number w_bm of times that trial m was
drawn (Moulton and Zeger, "Bootstrapping generalized linear models", 1991). Onsets stay as they are, and the
ridge is that of the fit, so that the bands are those of its estimate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, check_number
from calepin.core.random import RandomState, numpy_generator
from calepin.core.threads import single_threaded_blas
from calepin.spikes._kernels import history_products
from calepin.spikes.events import FILTER_RIDGE, EventModel, shifted, spread
from calepin.spikes.goodness import moments
from calepin.spikes.history import HISTORY_RIDGE, TrialDesign, observed_counts

__all__ = ["EventBands", "event_bands"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class EventBands:
    """Pointwise confidence bands of an event model.

    Attributes
    ----------
    filter
        Lower and upper bound of each entry of the filter, (2, kernel).
    amplitudes
        Of each amplitude, (2, n_events).
    level
        Probability that a band holds a parameter.
    """

    filter: Floats
    amplitudes: Floats
    level: float


def event_bands(
    model: EventModel,
    counts: ArrayLike,
    *,
    mask: NDArray[np.bool_] | None = None,
    n_draws: int = 1000,
    level: float = 0.95,
    random_state: RandomState = 0,
) -> EventBands:
    """Return confidence bands of filter and amplitudes, by the bootstrap over the trials of the fit.

    Where no trial has a spike there is nothing to draw from: bands of the filter are too narrow there.

    Parameters
    ----------
    model : EventModel
    counts : array of shape (n_trials, n_bins)
        The trials that the model was fitted to; at least two.
    mask : bool array of shape (n_trials, n_bins), optional
        True where a bin was observed; by default all.
    n_draws : int, default 1000
    level : float, default 0.95
    random_state : default 0

    Raises
    ------
    ValueError
        Fewer than two trials, or trials of another length.
    """
    check_arguments(event_bands, locals())
    y = observed_counts(counts, mask)
    if len(y) < 2 or y.shape[1] != model.n_bins:
        raise ValueError(f"counts: expected at least 2 trials of {model.n_bins} bins, got {y.shape}")
    check_integer("n_draws", n_draws)
    check_number("level", level, above=0, below=1)
    with single_threaded_blas():
        steps = _steps(model, y, mask, numpy_generator(random_state), n_draws)
    n_events = len(model.onsets)
    x = model.amplitudes + steps[:, 1 : 1 + n_events]
    h = model.filter + steps[:, 1 + n_events : 1 + n_events + len(model.filter)]
    size = np.linalg.norm(h, axis=1, keepdims=True)
    tails = [(1 - level) / 2, (1 + level) / 2]
    return EventBands(np.quantile(h / size, tails, axis=0), np.quantile(x * size, tails, axis=0), level)


def _steps(
    model: EventModel,
    y: Floats,
    mask: NDArray[np.bool_] | None,
    rng: np.random.Generator,
    n_draws: int,
) -> Floats:
    """Return the Newton step of each draw, (n_draws, 1 + n_events + kernel + order)."""
    events = shifted(model.filter, model.onsets, model.n_bins)
    moves = spread(model.onsets, model.amplitudes, len(model.filter), model.n_bins)
    order, n_trials, kernel = len(model.history), len(y), len(model.filter)
    design = TrialDesign(y, np.column_stack([events, moves]), order, ())
    _, mean, weight = moments(model.predictor(y), y, likelihood=model.glm.likelihood, mask=mask)
    residual = y - mean
    information = design.products(residual, weight)[1]
    first = 1 + events.shape[1]
    diagonal = np.arange(len(information))
    damping = FILTER_RIDGE * np.trace(information[first:, first:][:kernel, :kernel]) / kernel
    information[diagonal[first : first + kernel], diagonal[first : first + kernel]] += damping
    information[diagonal[first + kernel :], diagonal[first + kernel :]] += HISTORY_RIDGE
    shared = np.column_stack([np.ones(y.shape[1]), design.stimulus])
    past = [
        history_products(y[m : m + 1], residual[m : m + 1], weight[m : m + 1], order)[0]
        for m in range(n_trials)
    ]
    scores = np.column_stack([residual @ shared, np.reshape(past, (n_trials, order))])
    drawn = rng.multinomial(n_trials, np.full(n_trials, 1 / n_trials), size=n_draws) - 1.0
    return drawn @ np.linalg.solve(information, scores.T).T
