"""Readers of spike trains, as counts (n_trials, n_bins).

Formats: MATLAB files in the layouts of two public data sets, .npy arrays, and units of NWB files.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_number
from calepin.core.errors import FileFormatError
from calepin.core.matlab import read_mat
from calepin.core.paths import check_input
from calepin.core.reading import check_declared, read_npy
from calepin.likelihoods import Poisson
from calepin.spikes.nwb import listed, read_unit

__all__ = ["SpikeTrains", "join_trials", "read_nwb_spikes", "read_spikes"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpikeTrains:
    """Spikes of one neuron in repeated trials.

    Attributes
    ----------
    counts
        Spikes in each bin, (n_trials, n_bins).
    bin_width
        Seconds; None if the file does not give it.
    stimulus
        Stimulus of all trials, (n_bins,), or None.
    trials
        Number of each trial in the experiment, (n_trials,).
    """

    counts: Floats
    bin_width: float | None = None
    stimulus: Floats | None = None
    trials: NDArray[np.intp] | None = None


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


def join_trials(parts: Sequence[SpikeTrains]) -> SpikeTrains:
    """Return the trials of several files together, sorted by their numbers if they have any.

    Raises
    ------
    ValueError
        Trials of different length, bin width or stimulus.
    """
    check_arguments(join_trials, locals())
    if not parts:
        raise ValueError("parts: expected at least one, got none")
    first = parts[0]
    for part in parts[1:]:
        if part.counts.shape[1] != first.counts.shape[1] or part.bin_width != first.bin_width:
            raise ValueError(
                f"parts: expected trials of {first.counts.shape[1]} bins of {first.bin_width} s, "
                f"got {part.counts.shape[1]} of {part.bin_width} s"
            )
        if not _same(part.stimulus, first.stimulus):
            raise ValueError("parts: expected trials with one stimulus, got several")
    counts = np.concatenate([part.counts for part in parts])
    numbers = [part.trials for part in parts if part.trials is not None]
    if len(numbers) < len(parts):
        return SpikeTrains(counts, first.bin_width, first.stimulus)
    trials = np.concatenate(numbers)
    order = np.argsort(trials, kind="stable")
    return SpikeTrains(counts[order], first.bin_width, first.stimulus, trials[order])


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
        trial; in a file without trials, to the last spike.
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
    spikes, zeros, length = read_unit(path, unit, align, trusted=trusted)
    whole = window is None
    if window is None:
        window = (0.0, length if length is not None else float(spikes.max(initial=0)) + bin_width)
    n_bins = round((window[1] - window[0]) / bin_width)
    if n_bins < 1:
        raise ValueError(f"window: expected at least one bin of {bin_width} s, got {window}")
    if whole:
        check_declared(path, 8 * len(zeros) * n_bins, trusted=trusted)
    counts = np.zeros((len(zeros), n_bins))
    for row, zero in zip(counts, zeros, strict=True):
        # a spike on the border of two bins (up to rounding) counts in the later one
        bins = np.floor((spikes - zero - window[0]) / bin_width + 1e-6).astype(np.intp)
        np.add.at(row, bins[(bins >= 0) & (bins < n_bins)], 1)
    return SpikeTrains(counts, bin_width, trials=np.arange(len(zeros)))


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


def _same(first: Floats | None, second: Floats | None) -> bool:
    if first is None or second is None:
        return first is second
    return bool(np.array_equal(first, second))
