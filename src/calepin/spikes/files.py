"""Readers of spike trains, as counts (n_trials, n_bins).

Formats: MATLAB files in the layouts of two public data sets, .npy arrays, and units of NWB files.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.core.checks import check_number
from calepin.core.errors import FileFormatError
from calepin.core.matlab import read_mat
from calepin.core.paths import check_input
from calepin.core.reading import check_declared, read_npy
from calepin.likelihoods import Poisson
from calepin.spikes.binning import bin_spikes
from calepin.spikes.nwb import Recording, listed, read_recording
from calepin.spikes.trains import SpikeTrains

__all__ = ["read_nwb_spikes", "read_spikes"]

Floats = NDArray[np.float64]


def read_spikes(
    path: str | os.PathLike, *, variable: str | None = None, trusted: bool = False
) -> SpikeTrains:
    """Return the spike trains of a .mat or .npy file; `read_nwb_spikes` reads .nwb.

    Parameters
    ----------
    path
        .npy: counts (n_trials, n_bins), or (n_bins,) for one trial. .mat: `train` (n_trials, n_bins) with
        times `t` in milliseconds; or `y`, trials of 1 ms bins one after another, with their numbers in
        `idxtr` or `idxts` and the stimulus in `t`.
    variable
        Name of another variable of a .mat file, (n_trials, n_bins).
    trusted
        Read a file that declares far more data than it holds; see `calepin.core.reading`.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Another format, a damaged file, values that are not counts, or none of the variables above: the
        message lists the variables of the file.
    """
    path = check_input(path, "spike trains")
    if path.suffix.lower() == ".mat":
        return _read_mat(path, variable, trusted)
    if path.suffix.lower() == ".npy":
        return SpikeTrains(_counts(path, "the array", np.atleast_2d(read_npy(path))))
    raise FileFormatError(f"{path}: expected a name that ends in .mat, .npy or .nwb")


def read_nwb_spikes(
    path: str | os.PathLike,
    *,
    unit: int | None = None,
    bin_width: float = 0.001,
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
    if len(recording.times) != 1:
        raise ValueError(
            f"unit: expected the id of one of {len(recording.times)} units: {listed(recording.times)}"
        )
    (unit,) = recording.times
    return _bin_unit(path, recording, unit, bin_width, align, window, trusted)


def _bin_unit(
    path: Path,
    recording: Recording,
    unit: int,
    bin_width: float,
    align: str,
    window: tuple[float, float] | None,
    trusted: bool,
) -> SpikeTrains:
    """Return the counts of a unit around the cues of its file."""
    spikes, cues, length = recording.times[unit], recording.cues, recording.length
    if window is None:
        end = length if length is not None else float(spikes.max(initial=0)) + bin_width
        n_trials = 1 if cues is None else len(cues)
        check_declared(path, 8 * n_trials * max(0, round(end / bin_width)), trusted=trusted)
        window = (0.0, end)
    return bin_spikes(
        spikes,
        cue_times=cues,
        window=window,
        bin_width=bin_width,
        observed=recording.observed.get(unit),
        cue=None if cues is None else align,
        unit=str(unit),
    )


def _read_mat(path: Path, variable: str | None, trusted: bool) -> SpikeTrains:
    found = read_mat(path, trusted=trusted)
    if variable is not None:
        if variable not in found:
            raise FileFormatError(f"{path} holds no variable {variable!r}: there are {listed(found)}")
        return SpikeTrains(_counts(path, variable, found[variable]))
    if "train" in found:
        counts = _counts(path, "train", found["train"])
        return SpikeTrains(counts, _bin_width(found.get("t"), counts.shape[1]))
    numbers = next((np.ravel(found[name]) for name in ("idxtr", "idxts") if name in found), None)
    if "y" not in found or numbers is None:
        raise FileFormatError(
            f"{path}: expected the variable train, or y with idxtr or idxts, got {listed(found)}: "
            "give the name of another one"
        )
    y = _counts(path, "y", np.atleast_2d(np.ravel(found["y"])))[0]
    if not len(numbers) or len(y) % len(numbers):
        raise FileFormatError(
            f"{path}: expected y of {len(numbers)} trials of equal length, got {len(y)} bins"
        )
    counts = y.reshape(len(numbers), -1)
    stimulus = _stimulus(found.get("t"), counts.shape)
    return SpikeTrains(counts, 0.001, stimulus, numbers.astype(np.intp))


def _counts(path: Path, name: str, values: Any) -> Floats:
    """Return counts (n_trials, n_bins); raise FileFormatError for anything else."""
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf":
        raise FileFormatError(
            f"{path}: expected {name} to hold counts (n_trials, n_bins), got {array.dtype} {array.shape}"
        )
    counts = np.ascontiguousarray(array, np.float64)
    try:
        Poisson().check(torch.from_numpy(counts))
    except ValueError as error:
        raise FileFormatError(f"{path}: {name}: {str(error).removeprefix('y: ')}") from error
    return counts


def _bin_width(times: Any, n_bins: int) -> float | None:
    """Return the distance in seconds of evenly spaced times in milliseconds."""
    t = np.ravel(times).astype(np.float64) if times is not None else np.zeros(0)
    if len(t) != n_bins or n_bins < 2 or not np.allclose(np.diff(t), t[1] - t[0]):
        return None
    return float(t[1] - t[0]) / 1000


def _stimulus(values: Any, shape: tuple[int, ...]) -> Floats | None:
    """Return the stimulus if it is the same in all trials, else None."""
    if values is None or np.size(values) != shape[0] * shape[1]:
        return None
    each = np.reshape(values, shape).astype(np.float64)
    return each[0].copy() if (each == each[0]).all() and np.isfinite(each).all() else None
