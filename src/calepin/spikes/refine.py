"""Onsets moved bin by bin to where the likelihood of the spikes is largest."""

import numpy as np
from numpy.typing import NDArray

from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.goodness import moments

__all__ = ["moved_onsets"]

Floats = NDArray[np.float64]

_SWEEPS = 5


def moved_onsets(
    y: Floats,
    eta: Floats,
    h: Floats,
    onsets: NDArray[np.intp],
    amplitudes: Floats,
    *,
    reach: int,
    likelihood: Binomial | Poisson,
    mask: NDArray[np.bool_] | None,
) -> NDArray[np.intp]:
    """Return onsets after moves of single events by up to `reach` bins, until none raises the likelihood.

    Filter, amplitudes and the rest of the predictor eta (n_trials, n_bins) stay as they are. No two events
    share a bin.
    """
    onsets, eta, n_bins = onsets.copy(), eta.copy(), y.shape[1]
    for _ in range(_SWEEPS):
        before = onsets.copy()
        for k, amplitude in enumerate(amplitudes):
            first = max(0, onsets[k] - reach)
            last = min(n_bins, onsets[k] + reach + len(h))
            part = slice(first, last)
            seen = None if mask is None else mask[:, part]
            rest = eta[:, part] - amplitude * _placed(h, onsets[k] - first, last - first)
            others = set(np.delete(onsets, k).tolist())
            values = {
                t: moments(
                    rest + amplitude * _placed(h, t - first, last - first),
                    y[:, part],
                    likelihood=likelihood,
                    mask=seen,
                )[0]
                for t in range(first, min(onsets[k] + reach, n_bins - 1) + 1)
                if t not in others
            }
            onsets[k] = max(values, key=lambda t: values[t])
            eta[:, part] = rest + amplitude * _placed(h, onsets[k] - first, last - first)
        if (onsets == before).all():
            break
    return onsets


def _placed(h: Floats, at: int, length: int) -> Floats:
    row = np.zeros(length)
    part = h[: length - at]
    row[at : at + len(part)] = part
    return row
