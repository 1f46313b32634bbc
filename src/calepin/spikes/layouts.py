"""Arrays and lists of a file as spike trains of its units: counts, or times.

Whole numbers are counts, other numbers are times in seconds, unless a unit of time says that all are times.
NaN at the end of a row pads it: the trial, or the list of times, ended earlier.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calepin.spikes.binning import bin_spikes, bin_trials
from calepin.spikes.trains import SpikeTrains

__all__ = ["Layout", "Lists", "TimeUnit", "units_of_array", "units_of_lists", "units_of_times"]

Floats = NDArray[np.float64]
Lists = Literal["trials", "units"]
TimeUnit = Literal["s", "ms"]
SECONDS = {"s": 1.0, "ms": 0.001}
BIN_WIDTH = 0.001  # of times; the width of counts is not known
_MOST_COUNTS = 1000  # spikes in a bin of no unit
_BY_CHANCE = 1e-3  # largest probability with which rows of counts ascend


@dataclass(frozen=True)
class Layout:
    """How values are to be understood; the parameters of `calepin.spikes.read_units`."""

    bin_width: float | None = None
    window: tuple[float, float] | None = None
    lists: Lists = "trials"
    time_unit: TimeUnit | None = None
    cue_times: Floats | None = None
    cue: str | None = None

    @property
    def scale(self) -> float:
        """Seconds of the unit of time."""
        return SECONDS[self.time_unit or "s"]


def units_of_array(name: str, array: Any, layout: Layout) -> dict[str, SpikeTrains]:
    """Return the units of an array.

    Counts have the shape (n_bins,), (n_trials, n_bins) or (n_units, n_trials, n_bins), times (n_spikes,) or
    (n_lists, n_spikes), padded by NaN.

    Raises
    ------
    ValueError
        Another shape, or values that are neither counts nor times.

    Warns
    -----
    UserWarning
        Whole numbers that are taken as counts, but look like times.
    """
    values = np.asarray(array)
    if values.ndim not in (1, 2, 3) or 0 in values.shape or values.dtype.kind not in "biuf":
        raise ValueError(
            f"expected {name} to hold counts (n_trials, n_bins) or (n_units, n_trials, n_bins), or times, "
            f"got {values.dtype} {values.shape}"
        )
    values = values.astype(np.float64)
    known = ~np.isnan(values)
    if not np.isfinite(values[known]).all() or not known.any():
        raise ValueError(f"{name}: expected finite values, got infinity, or NaN alone")
    if layout.time_unit is None and (values[known] == np.round(values[known])).all():
        _warn_of_times(name, np.atleast_2d(values), known)
        return _units_of_counts(name, values, known, layout)
    if values.ndim == 3:
        raise ValueError(f"{name}: expected whole numbers (counts), got {_first_fraction(values, known)}")
    if values.ndim == 1:
        return units_of_times({name: values[known]}, layout)
    if layout.time_unit is None and layout.lists == "trials":
        _check_ascending(name, values, known)
    return units_of_lists({(i + 1,): row[~np.isnan(row)] for i, row in enumerate(values)}, layout, name)


def _check_ascending(name: str, values: Floats, known: NDArray[np.bool_]) -> None:
    """Raise ValueError unless every row is a list of ascending times, padded at its end."""
    for i, row in enumerate(values):
        n_known = int(known[i].sum())
        falls = np.flatnonzero(np.diff(row[:n_known]) <= 0)
        if not known[i, :n_known].all():
            found = f"NaN before other values in row {i}"
        elif len(falls):
            at = int(falls[0]) + 1
            found = f"{row[at]:g} after {row[at - 1]:g} at index ({i}, {at})"
        else:
            continue
        raise ValueError(
            f"{name}: expected whole numbers (counts), or ascending times in each row, got {found}: "
            'time_unit "s" or "ms" says that all are times, in any order'
        )


def _warn_of_times(name: str, rows: Floats, known: NDArray[np.bool_]) -> None:
    """Warn of whole numbers that are more than counts can be, or ascend in every row."""
    most = float(rows[np.atleast_2d(known)].max())
    lists = [row[~np.isnan(row)] for row in rows.reshape(-1, rows.shape[-1])]
    chance = math.exp(-sum(math.lgamma(len(one) + 1) for one in lists))
    ascends = chance < _BY_CHANCE and all((np.diff(one) > 0).all() for one in lists)
    if ascends or most > _MOST_COUNTS:
        found = "ascend in every row" if ascends else "are more than a unit has in a bin"
        warnings.warn(
            f"{name}: whole numbers were taken as counts, but they {found}, up to {most:g}: if they are "
            'times, say so by time_unit "ms" or "s"',
            stacklevel=2,
        )


def _first_fraction(values: Floats, known: NDArray[np.bool_]) -> str:
    bad = np.argwhere(known & (values != np.round(values)))
    return f"{values[tuple(bad[0])]:g} at index {tuple(bad[0].tolist())}"


def _units_of_counts(
    name: str, values: Floats, known: NDArray[np.bool_], layout: Layout
) -> dict[str, SpikeTrains]:
    if layout.cue_times is not None and values.ndim > 1:
        n_trials = values.shape[-2]
        if len(layout.cue_times) != n_trials:
            raise ValueError(
                f"cue_times: expected one for each of {n_trials} trials, got {len(layout.cue_times)}"
            )
    bad = np.argwhere(values < 0)
    if len(bad):
        at = tuple(bad[0].tolist())
        raise ValueError(f"{name}: expected counts of at least 0, got {values[at]:g} at index {at}")
    last = int(np.flatnonzero(known.any(axis=tuple(range(known.ndim - 1))))[-1]) + 1
    values, known = np.where(known, values, 0.0)[..., :last], known[..., :last]
    width, first = _bins(layout, values.shape[-1])
    units = np.atleast_3d(values) if values.ndim == 3 else np.atleast_2d(values)[None]
    masks = known if values.ndim == 3 else np.atleast_2d(known)[None]
    names = [str(i) for i in range(len(units))] if values.ndim == 3 else [None]
    return {
        str(unit or name): SpikeTrains(
            np.ascontiguousarray(counts),
            width,
            t0=first,
            cue_times=layout.cue_times if values.ndim > 1 else None,
            cue=layout.cue,
            unit=unit,
            mask=None if mask.all() else mask,
        )
        for unit, counts, mask in zip(names, units, masks, strict=True)
    }


def _bins(layout: Layout, n_bins: int) -> tuple[float | None, float]:
    """Return width and start of the bins of counts, from the window if it is given."""
    if layout.window is None:
        return layout.bin_width, 0.0
    first, last = layout.window
    width = (last - first) / n_bins
    if width <= 0 or (layout.bin_width is not None and abs(width - layout.bin_width) > 1e-6 * width):
        raise ValueError(
            f"window: expected {n_bins} bins of {layout.bin_width or 'equal'} s, got ({first:g}, {last:g})"
        )
    return width, first


def units_of_lists(
    entries: Mapping[tuple[int, ...], NDArray[Any]], layout: Layout, name: str
) -> dict[str, SpikeTrains]:
    """Return the units of lists of times by their place: (trial,) or (unit,), or (unit, trial).

    Lists of trials hold times after the cue, lists of units times of the recording.
    """
    depths = {len(place) for place in entries}
    if len(depths) != 1 or max(depths) > 2:
        raise ValueError(f"{name}: expected lists of times, or lists of such lists, got several levels")
    times = {place: _times(name, values, layout) for place, values in entries.items()}
    if depths == {1} and layout.lists == "units":
        return units_of_times({str(unit): values for (unit,), values in times.items()}, layout, scaled=True)
    if depths == {1}:
        return {name: _trials(list(times.values()), layout, None)}
    by_unit: dict[int, list[Floats]] = {}
    for (unit, _), values in sorted(times.items()):
        by_unit.setdefault(unit, []).append(values)
    return {str(unit): _trials(trials, layout, str(unit)) for unit, trials in by_unit.items()}


def _trials(trials: list[Floats], layout: Layout, unit: str | None) -> SpikeTrains:
    return bin_trials(
        trials,
        window=layout.window,
        bin_width=layout.bin_width or BIN_WIDTH,
        cue_times=layout.cue_times,
        cue=layout.cue,
        unit=unit,
    )


def _times(name: str, values: Any, layout: Layout) -> Floats:
    array = np.ravel(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected lists of times, got {array.dtype}")
    array = array.astype(np.float64)
    return layout.scale * array[~np.isnan(array)]


def units_of_times(
    times: Mapping[str, Floats],
    layout: Layout,
    observed: Mapping[str, Floats] | None = None,
    *,
    scaled: bool = False,
) -> dict[str, SpikeTrains]:
    """Return units with spike times of the recording, cut at the cues; units without spikes are empty.

    The window is the same for all: without one, and without cues, it ends with the last spike of all units.
    """
    factor = 1.0 if scaled else layout.scale
    found = {unit: factor * np.asarray(values, np.float64) for unit, values in times.items()}
    width = layout.bin_width or BIN_WIDTH
    if layout.window is None and layout.cue_times is None:
        last = max((float(values.max()) for values in found.values() if len(values)), default=0.0)
        layout = replace(layout, window=(0.0, last + width))
    return {
        unit: bin_spikes(
            values,
            cue_times=layout.cue_times,
            window=layout.window,
            bin_width=width,
            observed=None if observed is None else observed.get(unit),
            cue=layout.cue,
            unit=unit,
        )
        for unit, values in found.items()
    }
