"""Readers of spikes from files and objects, as spike trains of their units.

The layouts of values are those of `calepin.spikes.layouts`, and those of two public data sets.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_number
from calepin.core.errors import FileFormatError
from calepin.core.paths import check_input
from calepin.core.reading import check_declared
from calepin.spikes.binning import bin_spikes
from calepin.spikes.contents import Contents, contents_of
from calepin.spikes.layouts import (
    BIN_WIDTH,
    Layout,
    Lists,
    TimeUnit,
    units_of_array,
    units_of_lists,
    units_of_times,
)
from calepin.spikes.nwb import Recording, listed, read_recording
from calepin.spikes.objects import recording_of
from calepin.spikes.trains import SpikeTrains

__all__ = ["read_nwb_spikes", "read_spikes", "read_units"]

Floats = NDArray[np.float64]


def read_spikes(
    source: Any,
    *,
    unit: str | None = None,
    variable: str | None = None,
    bin_width: float | None = None,
    align: str | None = None,
    window: tuple[float, float] | None = None,
    cue_times: ArrayLike | None = None,
    lists: Lists = "trials",
    time_unit: TimeUnit | None = None,
    trusted: bool = False,
) -> SpikeTrains:
    """Return the spike trains of one unit; parameters and errors are those of `read_units`.

    Parameters
    ----------
    source : path or object
        File, or object of pynapple or spikeinterface.
    unit : str, optional
        Name of the unit. Default: the only one.
    variable : str, optional
        Name of the variable of a file with several.
    bin_width : float, optional
        Seconds.
    align : str, optional
        Name of the cue.
    window : (float, float), optional
        Start and end of the trials in seconds after the cue.
    cue_times : array of shape (n_trials,), optional
        Times of the cues in seconds of the recording.
    lists : {"trials", "units"}, default "trials"
        What each of several lists of times is.
    time_unit : {"s", "ms"}, optional
        Says that values are times, in this unit.
    trusted : bool, default False
        Read a file that declares far more data than it holds.

    Raises
    ------
    ValueError
        A unit that does not exist, or several without a choice: the message lists them.
    """
    given = {name: value for name, value in locals().items() if name not in ("source", "unit")}
    check_arguments(read_spikes, locals())
    if _is_nwb(source):
        recording = _nwb(source, unit, align, trusted)
        chosen = _one(dict(recording.times), None if unit is None else int(unit))
        return _bin_unit(Path(source), recording, chosen, _layout(given), trusted)
    units = read_units(source, **given)
    return units[_one(units, unit)]


def read_units(
    source: Any,
    *,
    variable: str | None = None,
    bin_width: float | None = None,
    align: str | None = None,
    window: tuple[float, float] | None = None,
    cue_times: ArrayLike | None = None,
    lists: Lists = "trials",
    time_unit: TimeUnit | None = None,
    trusted: bool = False,
) -> dict[str, SpikeTrains]:
    """Return the spike trains of all units of a file or an object, by the name of the unit.

    Parameters
    ----------
    source : path or object
        A file: .npy, .npz (arrays, sparse arrays, pynapple's TsGroup, spikeinterface's sorting), .mat of any
        version (arrays, sparse ones, cells and structures of times), .csv or .tsv (columns ``time`` and
        ``unit`` or ``trial``), .nwb (needs h5py: ``pip install 'calepin[neuro]'``). Or a TsGroup of pynapple,
        or a sorting of spikeinterface with one segment.
    variable : str, optional
        Name of the variable of an .npz or .mat file, such as "spikes", or "units.times" for field times of
        structure units. Default: the only one; in .mat files ``train`` (n_trials, n_bins) with times ``t`` in
        milliseconds, or ``y``, trials of 1 ms bins one after another, with their numbers in ``idxtr`` or
        ``idxts`` and the stimulus in ``t``.
    bin_width : float, optional
        Width of a bin in seconds. Default: 0.001 for times; what the file says for counts.
    align : str, optional
        Where the times of the cues are: a column of the trials of an .nwb file (default: start_time), a
        variable of an .npz or .mat file.
    window : (float, float), optional
        Start and end of the trials in seconds after the cue. For counts it says where their bins lie.
    cue_times : array of shape (n_trials,), optional
        Times of the cues in seconds of the recording, instead of `align`.
    lists : {"trials", "units"}, default "trials"
        What each of several lists is: a trial, with times after its cue, or a unit, with times of the
        recording. A matrix of lists, or lists of lists, have units first and trials second.
    time_unit : {"s", "ms"}, optional
        Says that values are times, in this unit. Default: whole numbers are counts, others seconds.
    trusted : bool, default False
        Read a file that declares far more data than it holds; see `calepin.core.reading`.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Another format, a damaged file, values that are neither counts nor times, several variables without a
        choice: the message lists them.
    ValueError
        A cue that does not exist, an empty window, units without spikes in it.
    ModuleNotFoundError
        h5py is missing.
    """
    check_arguments(read_units, locals())
    check_number("bin_width", bin_width, above=0, optional=True)
    layout = _layout(locals())
    if not isinstance(source, str | os.PathLike):
        recording = recording_of(source)
        return units_of_times(recording.times, layout, recording.observed)
    if _is_nwb(source):
        recording = _nwb(source, None, align, trusted)
        return {
            str(unit): _bin_unit(Path(source), recording, unit, layout, trusted) for unit in recording.times
        }
    path = check_input(source, "spike trains")
    contents = contents_of(path, variable, trusted=trusted)
    if align is not None:
        layout = replace(layout, cue_times=contents.cue(path, align) * layout.scale)
    try:
        return _units(contents, layout)
    except ValueError as error:
        raise FileFormatError(f"{path}: {error}") from error


def _units(contents: Contents, layout: Layout) -> dict[str, SpikeTrains]:
    if contents.trains is not None:
        return {contents.name: _with_clock(contents.trains, layout)}
    if contents.times is not None:
        return units_of_times(contents.times, layout, contents.observed)
    if contents.lists is not None:
        found = units_of_lists(contents.lists, layout, contents.name)
        if contents.units is None:
            return found
        named = zip(contents.units, found.values(), strict=True)
        return {name: replace(trains, unit=name) for name, trains in named}
    return units_of_array(contents.name, contents.array, layout)


def _with_clock(trains: SpikeTrains, layout: Layout) -> SpikeTrains:
    """Return counts in bins with the width of these, which alone can be said of them."""
    if layout.window is not None:
        raise ValueError("window: expected None for counts in bins, which are cut by train and baseline")
    if layout.bin_width is None or layout.bin_width == trains.bin_width:
        return trains
    if trains.bin_width is not None:
        raise ValueError(
            f"bin_width: expected that of the file, {trains.bin_width:g}, got {layout.bin_width:g}"
        )
    return replace(trains, bin_width=layout.bin_width)


def _layout(given: dict[str, Any]) -> Layout:
    cues = given["cue_times"]
    return Layout(
        given["bin_width"],
        given["window"],
        given["lists"],
        given["time_unit"],
        None if cues is None else check_array("cue_times", cues, ndim=1),
        given["align"],
    )


def _one(units: dict[Any, Any], unit: Any) -> Any:
    """Return the key of the chosen unit."""
    if unit is None and len(units) == 1:
        return next(iter(units))
    if unit is None:
        raise ValueError(f"unit: expected the id of one of {len(units)} units: {listed(units)}")
    if unit not in units:
        raise ValueError(f"unit: expected the id of a unit, {listed(units)}, got {unit}")
    return unit


def _is_nwb(source: Any) -> bool:
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() == ".nwb"


def _nwb(source: Any, unit: str | None, align: str | None, trusted: bool) -> Recording:
    path = check_input(source, "an NWB file")
    if unit is not None and not unit.strip().lstrip("-").isdigit():
        raise ValueError(f"unit: expected the id of a unit, a whole number, got {unit!r}")
    return read_recording(path, None if unit is None else int(unit), align or "start_time", trusted=trusted)


def read_nwb_spikes(
    path: str | os.PathLike,
    *,
    unit: int | None = None,
    bin_width: float = BIN_WIDTH,
    align: str = "start_time",
    window: tuple[float, float] | None = None,
    trusted: bool = False,
) -> SpikeTrains:
    """Return the spikes of a unit of an NWB file, binned around the times of its trials.

    Parameters
    ----------
    path
        File of Neurodata Without Borders, version 2. Needs h5py: ``pip install 'calepin[neuro]'``.
    unit
        Id of the unit in the units table; by default the only unit.
    bin_width
        Width of a bin in seconds.
    align
        Column of the trials table with the time zero of each trial. Trials without a time (NaN) are
        left out. A file without trials counts as one trial that starts at time zero.
    window
        Start and end in seconds relative to time zero. Default: from zero to the end of the shortest
        trial; in a file without trials, to the last spike. Bins outside the unit's ``obs_intervals``, and
        trials outside all of them, are left out.
    trusted
        Read a file that declares far more data than it holds; see `calepin.core.reading`.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Not a readable NWB file, links to other files, or no units or spike times in it.
    ValueError
        A unit or column that does not exist (the message lists those that do), or an empty window.
    ModuleNotFoundError
        h5py is missing.
    """
    path = check_input(path, "an NWB file")
    check_number("bin_width", bin_width, above=0)
    recording = read_recording(path, unit, align, trusted=trusted)
    layout = replace(Layout(bin_width, window), cue=str(align))
    return _bin_unit(path, recording, _one(recording.times, unit), layout, trusted)


def _bin_unit(path: Path, recording: Recording, unit: int, layout: Layout, trusted: bool) -> SpikeTrains:
    """Return the counts of a unit around the cues of its file."""
    spikes, window = recording.times[unit], layout.window
    cues = recording.cues if layout.cue_times is None else layout.cue_times
    width = layout.bin_width or BIN_WIDTH
    if window is None and (layout.cue_times is None or cues is None):
        end = recording.length if recording.length is not None else float(spikes.max(initial=0)) + width
        window = (0.0, end)
    if window is not None:
        n_trials = 1 if cues is None else len(cues)
        check_declared(path, 8 * n_trials * max(0, round((window[1] - window[0]) / width)), trusted=trusted)
    return bin_spikes(
        spikes,
        cue_times=cues,
        window=window,
        bin_width=width,
        observed=recording.observed.get(unit),
        cue=None if cues is None else layout.cue or "start_time",
        unit=str(unit),
    )
