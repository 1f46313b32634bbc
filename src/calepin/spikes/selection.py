"""Number of events and length of the filter, chosen by the likelihood of trials that were held out.

Models with filters of several lengths are fitted to one half of the training trials; the likelihood of the
other half, with 0, 1, 2, ... events, chooses the length. The number of events is chosen by both halves, each
predicted from the other: the smallest one whose likelihood is within one standard error of the largest
(Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.events import Coder, NoEventsError, event_path, fit_event_model, link
from calepin.spikes.goodness import trial_log_likelihoods
from calepin.spikes.history import fit_spike_glm

__all__ = ["KERNEL_SIZES", "Choice", "choose_events"]

Floats = NDArray[np.float64]

KERNEL_SIZES = (25, 50, 100, 200)
"""Lengths of the filter in bins that are tried; at most half of a trial."""

_ROUNDS = 2  # of the fits


@dataclass(frozen=True)
class Choice:
    """What predicted held-out trials best.

    Attributes
    ----------
    kernel_size
        Bins of the filter.
    n_events
        Number of events; 0 if none helped.
    """

    kernel_size: int
    n_events: int


def choose_events(
    counts: Floats,
    mask: NDArray[np.bool_] | None,
    *,
    start: Callable[[int], Floats],
    kernel_sizes: tuple[int, ...],
    n_events: int | None,
    order: int,
    likelihood: Binomial | Poisson,
    coder: Coder,
    alpha: float,
    callback: Callable[[float], None],
) -> Choice:
    """Return the length of the filter and the number of events (at most `n_events`) for training trials.

    `start(kernel_size)` is the initial filter of a length; `callback` is called with the finished fraction.
    """
    halves = np.arange(len(counts)) % 2 == 0

    def path(kernel_size: int, fitted: NDArray[np.bool_], alone: Floats) -> list[Floats]:
        mine, others = (None if mask is None else mask[rows] for rows in (fitted, ~fitted))
        rate = float(counts[fitted].mean(where=True if mine is None else mine))
        try:
            model = fit_event_model(
                counts[fitted],
                start(kernel_size),
                n_events=n_events,
                order=order,
                coder=coder,
                likelihood=likelihood,
                baseline=link(rate, likelihood),
                n_rounds=_ROUNDS,
                alpha=alpha,
                mask=mine,
            )
        except NoEventsError:
            return [alone]
        return event_path(
            model,
            counts[fitted],
            counts[~fitted],
            alone=alone,
            window=kernel_size // 2,
            most=n_events,
            mask=mine,
            held_out_mask=others,
        )

    def without_events(fitted: NDArray[np.bool_]) -> Floats:
        mine, others = (None if mask is None else mask[rows] for rows in (fitted, ~fitted))
        glm = fit_spike_glm(counts[fitted], order=order, likelihood=likelihood, mask=mine)
        eta = glm.predictor(counts[~fitted])
        return trial_log_likelihoods(eta, counts[~fitted], likelihood=likelihood, mask=others)

    steps = len(kernel_sizes) + 1
    paths, alone = {}, without_events(halves)
    for done, size in enumerate(kernel_sizes, start=1):
        paths[size] = path(size, halves, alone)
        callback(done / steps)
    best = max(paths, key=lambda size: np.sum(paths[size], axis=1).max())
    if n_events is not None:
        return Choice(best, n_events)
    return Choice(best, _fewest([paths[best], path(best, ~halves, without_events(~halves))]))


def _fewest(paths: list[list[Floats]]) -> int:
    """Return the smallest number of events whose likelihood is within one standard error of the largest.

    The error is that of the difference, over trials. A path that ended earlier did not rise any more.
    """
    length = max(map(len, paths))
    each = np.concatenate([np.stack(path + [path[-1]] * (length - len(path))) for path in paths], axis=1)
    lost = each[each.sum(1).argmax()] - each
    return int(np.argmax(lost.sum(1) <= lost.std(1) * each.shape[1] ** 0.5))
