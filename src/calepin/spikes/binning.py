"""From spike times of a recording to counts in bins around cues.

A bin that is not wholly within an observed interval was not observed, and neither is it silent: it is False
in the mask of the result. Trials without any observed bin are left out.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_number, is_number
from calepin.spikes.trains import SpikeTrains

__all__ = ["bin_spikes", "bin_trials"]

Floats = NDArray[np.float64]

_MOST_BINS = 2**29  # 4 GiB
_ROUNDING = 1e-6  # of a bin: a spike on the border of two bins counts in the later one
_LONG, _RARE = 100.0, 0.1  # seconds of a trial, spikes a second: beyond, the unit is doubtful
_FASTEST = 600.0  # spikes a second of no unit, in the mean over trials
_MANY = 20  # spikes, and bins: so many spikes in one of so many bins are no response


def bin_spikes(
    times: ArrayLike,
    *,
    cue_times: ArrayLike | None = None,
    window: tuple[float, float] | None = None,
    bin_width: float = 0.001,
    observed: ArrayLike | None = None,
    cue: str | None = None,
    unit: str | None = None,
) -> SpikeTrains:
    """Return the spikes of one unit, counted in bins around each cue.

    Parameters
    ----------
    times : array of shape (n_spikes,)
        Spike times in seconds of the recording, in any order; a silent unit has none. Of equal times one
        counts.
    cue_times : array of shape (n_trials,), optional
        Time zero of each trial in seconds of the recording. Trials without a cue (NaN) are left out.
        Default: one trial that begins with the recording.
    window : (float, float), optional
        Start and end in seconds after the cue. Default: from the cue to the next one, at most the shortest
        such time; without cues, from zero to the last spike.
    bin_width : float, default 0.001
        Seconds.
    observed : array of shape (n_intervals, 2), optional
        Starts and ends of the intervals in which the unit was observed. Default: always.
    cue, unit : str, optional
        Names for figures and messages.

    Raises
    ------
    ValueError
        Negative times, no cue, no trial in the observed intervals, an empty window.

    Warns
    -----
    UserWarning
        Equal times, trials that overlap or were not observed, times that look like milliseconds.

    Examples
    --------
    >>> from calepin.spikes import bin_spikes
    >>> trains = bin_spikes([0.95, 1.05, 2.02, 2.31], cue_times=[1, 2], window=(-0.1, 0.3), bin_width=0.1)
    >>> trains.counts
    array([[1., 1., 0., 0.],
           [0., 1., 0., 0.]])
    >>> trains.seconds([1])
    array([0.])
    """
    check_arguments(bin_spikes, locals())
    check_number("bin_width", bin_width, above=0)
    spikes = _spikes(times)
    zeros = _cues(cue_times)
    first, last = _window(window, cue_times, zeros, spikes, bin_width)
    n_bins = _n_bins((first, last), bin_width, len(zeros))
    mask = _mask(observed, zeros + first, n_bins, bin_width)
    if mask is not None:
        zeros, mask = _observed_trials(zeros, mask)
    counts = _counts(spikes, zeros + first, n_bins, bin_width)
    if len(spikes) and spikes.min() > zeros.max() + last:
        warnings.warn(
            f"times: all {len(spikes)} spikes come after the last trial: are times in milliseconds?",
            stacklevel=2,
        )
    if len(spikes) and spikes.max() < zeros.min() + first:
        warnings.warn(
            f"times: all {len(spikes)} spikes come before the first trial: are cues in milliseconds?",
            stacklevel=2,
        )
    _warn_overlap(zeros, n_bins * bin_width)
    _warn_unit_of_time(counts, bin_width)
    if mask is not None:
        counts[~mask] = 0
        mask = None if mask.all() else mask
    return SpikeTrains(
        counts,
        bin_width,
        trials=np.arange(len(zeros)),
        t0=float(first),
        cue_times=zeros,
        cue=cue,
        unit=unit,
        mask=mask,
    )


def bin_trials(
    times: Sequence[ArrayLike],
    *,
    window: tuple[float, float] | None = None,
    bin_width: float = 0.001,
    cue_times: ArrayLike | None = None,
    cue: str | None = None,
    unit: str | None = None,
) -> SpikeTrains:
    """Return the spikes of one unit, counted in bins, from times after the cue of each trial.

    Parameters
    ----------
    times : sequence of arrays
        Spike times of each trial in seconds after its cue; a trial without spikes is empty.
    window : (float, float), optional
        Start and end in seconds after the cue. Default: from the first spike of all trials, at the latest
        from the cue, to the last one.
    bin_width : float, default 0.001
        Seconds.
    cue_times : array of shape (n_trials,), optional
        Times of the cues in seconds of the recording.
    cue, unit : str, optional
        Names for figures and messages.

    Raises
    ------
    ValueError
        No trial, no spike, times that are not finite, an empty window, or another number of cues.

    Warns
    -----
    UserWarning
        Equal times, or times that look like milliseconds.

    Examples
    --------
    >>> from calepin.spikes import bin_trials
    >>> bin_trials([[-0.05, 0.12], [0.31]], window=(-0.1, 0.4), bin_width=0.1).counts
    array([[1., 0., 1., 0., 0.],
           [0., 0., 0., 0., 1.]])
    """
    check_arguments(bin_trials, locals())
    check_number("bin_width", bin_width, above=0)
    trials = [np.sort(check_array("times", one, ndim=1, empty=True)) for one in times]
    if not any(map(len, trials)):
        raise ValueError(f"times: expected at least one spike, got none in {len(trials)} trials")
    together = np.concatenate(trials)
    if window is None:
        first = bin_width * np.floor(min(0.0, float(together.min())) / bin_width)
        window = (float(first), float(together.max()) + bin_width)
    n_bins = _n_bins(window, bin_width, len(trials))
    single = [np.unique(one) for one in trials]
    _warn_equal(len(together) - sum(map(len, single)), len(together))
    counts = np.concatenate([_counts(one, np.array([window[0]]), n_bins, bin_width) for one in single])
    if not counts.any():
        raise ValueError(
            f"window: expected spikes from {window[0]:g} to {window[1]:g} s, got times from "
            f"{together.min():g} to {together.max():g}: are they in milliseconds, or not after the cue?"
        )
    _warn_unit_of_time(counts, bin_width)
    cues = None if cue_times is None else check_array("cue_times", cue_times, ndim=1)
    return SpikeTrains(
        counts,
        bin_width,
        trials=np.arange(len(counts)),
        t0=float(window[0]),
        cue_times=cues,
        cue=cue,
        unit=unit,
    )


def _spikes(times: ArrayLike) -> Floats:
    """Return sorted times without duplicates."""
    found = np.sort(check_array("times", times, ndim=1, empty=True))
    if len(found) and found[0] < 0:
        raise ValueError(f"times: expected seconds of the recording, at least 0, got {found[0]:g}")
    single = np.unique(found)
    _warn_equal(len(found) - len(single), len(found))
    return single


def _cues(cue_times: ArrayLike | None) -> Floats:
    if cue_times is None:
        return np.zeros(1)
    zeros = np.asarray(cue_times)
    if zeros.ndim != 1 or zeros.dtype.kind not in "biuf":
        raise ValueError(f"cue_times: expected times (n_trials,), got {zeros.dtype} {zeros.shape}")
    zeros = zeros.astype(np.float64)
    known = zeros[np.isfinite(zeros)]
    if not len(known):
        raise ValueError(f"cue_times: expected at least one time, got none in {len(zeros)} trials")
    return known


def _window(
    window: tuple[float, float] | None,
    cue_times: ArrayLike | None,
    zeros: Floats,
    spikes: Floats,
    bin_width: float,
) -> tuple[float, float]:
    if window is not None:
        return window
    if cue_times is None or len(zeros) == 1:
        return 0.0, float(spikes.max(initial=zeros[0]) - zeros[0]) + bin_width
    gaps = np.diff(np.sort(zeros))
    if not gaps.all():
        raise ValueError("cue_times: expected different times, got equal ones; give a window")
    return 0.0, float(gaps.min())


def _n_bins(window: tuple[float, float], bin_width: float, n_trials: int) -> int:
    if not (isinstance(window, tuple | list) and len(window) == 2 and all(map(is_number, window))):
        raise ValueError(f"window: expected a start and an end in seconds, got {window!r:.60}")
    n_bins = round((window[1] - window[0]) / bin_width)
    if n_bins < 1:
        raise ValueError(
            f"window: expected at least one bin of {bin_width} s, got ({window[0]:g}, {window[1]:g}): is one "
            "of them in milliseconds?"
        )
    if n_trials * n_bins > _MOST_BINS:
        raise ValueError(
            f"window: expected at most {_MOST_BINS:,} bins in all, got {n_trials} trials x {n_bins:,}: are "
            "times in milliseconds?"
        )
    return n_bins


def _counts(spikes: Floats, starts: Floats, n_bins: int, bin_width: float) -> Floats:
    counts = np.zeros((len(starts), n_bins))
    for row, start in zip(counts, starts, strict=True):
        bins = np.floor((spikes - start) / bin_width + _ROUNDING).astype(np.intp)
        np.add.at(row, bins[(bins >= 0) & (bins < n_bins)], 1)
    return counts


def _mask(
    observed: ArrayLike | None, starts: Floats, n_bins: int, bin_width: float
) -> NDArray[np.bool_] | None:
    """Return which bins are wholly observed, (n_trials, n_bins)."""
    if observed is None:
        return None
    intervals = check_array("observed", observed, empty=True)
    if intervals.ndim != 2 or intervals.shape[1] != 2 or (intervals[:, 0] > intervals[:, 1]).any():
        raise ValueError(
            f"observed: expected intervals (n, 2) of starts before their ends, got {intervals.shape}"
        )
    slack = _ROUNDING * bin_width
    edges = starts[:, None] + bin_width * np.arange(n_bins)
    mask = np.zeros(edges.shape, bool)
    for begin, end in intervals:
        mask |= (edges >= begin - slack) & (edges + bin_width <= end + slack)
    return mask


def _observed_trials(zeros: Floats, mask: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    kept = np.asarray(mask.any(1))
    if not kept.any():
        raise ValueError(f"observed: expected a trial within the observed intervals, got none of {len(kept)}")
    if not kept.all():
        warnings.warn(
            f"observed: {int((~kept).sum())} of {len(kept)} trials are outside the observed intervals: "
            "they are left out",
            stacklevel=3,
        )
    return zeros[kept], mask[kept]


def _warn_equal(n_equal: int, n_spikes: int) -> None:
    if n_equal:
        warnings.warn(
            f"times: {n_equal} of {n_spikes} spikes have the time of another one: they are counted once",
            stacklevel=4,
        )


def _warn_overlap(zeros: Floats, duration: float) -> None:
    overlaps = int((np.diff(np.sort(zeros)) < duration * (1 - 1e-9)).sum())
    if overlaps:
        warnings.warn(
            f"window: {overlaps} of {len(zeros)} trials begin before the one before ends: spikes of both are "
            "counted twice",
            stacklevel=3,
        )


def _warn_unit_of_time(counts: Floats, bin_width: float) -> None:
    """Warn of times in another unit: minutes with hardly a spike, or more spikes than any unit has."""
    n_trials, n_bins = counts.shape
    duration = n_bins * bin_width
    frequency = float(counts.sum()) / (n_trials * duration)
    if duration > _LONG and 0 < frequency < _RARE:
        read = "milliseconds read as seconds"
    elif (counts.sum() > n_trials and frequency > _FASTEST) or _in_one_bin(counts):
        read = "seconds read as milliseconds"
    else:
        return
    warnings.warn(
        f"times: {n_trials} trials x {n_bins:,} bins of {bin_width:g} s with {frequency:.2g} spikes a "
        f"second look like {read}",
        stacklevel=3,
    )


def _in_one_bin(counts: Floats) -> bool:
    """Return whether many spikes of all trials share one of many bins."""
    of_bins = counts.sum(axis=0)
    return len(of_bins) >= _MANY and of_bins.sum() >= _MANY and np.count_nonzero(of_bins) == 1
