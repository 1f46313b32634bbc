"""Number of events and length of the filter, chosen by the likelihood of trials that were held out.

Models with filters of several lengths are fitted to one half of the training trials; the likelihood of the
other half, with 0, 1, 2, ... events, chooses the length. The number of events is chosen by both halves, each
predicted from the other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.events import Coder, event_path, fit_event_model, link

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

    def path(kernel_size: int, fitted: NDArray[np.bool_]) -> list[float]:
        mine, others = (None if mask is None else mask[rows] for rows in (fitted, ~fitted))
        rate = float(counts[fitted].mean(where=True if mine is None else mine))
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
        return event_path(
            model,
            counts[fitted],
            counts[~fitted],
            window=kernel_size // 2,
            most=n_events,
            mask=mine,
            held_out_mask=others,
        )

    steps = len(kernel_sizes) + 1
    paths = {}
    for done, size in enumerate(kernel_sizes, start=1):
        paths[size] = path(size, halves)
        callback(done / steps)
    best = max(paths, key=lambda size: max(paths[size]))
    if n_events is not None:
        return Choice(best, n_events)
    both = [paths[best], path(best, ~halves)]
    # a path that ended earlier did not rise any more
    length = max(map(len, both))
    total = np.sum([np.pad(values, (0, length - len(values)), mode="edge") for values in both], axis=0)
    return Choice(best, int(total.argmax()))
