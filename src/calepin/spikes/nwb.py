"""Units and trials of NWB files: HDF5 with tables as groups, one dataset a column.

A column of lists, such as the spike times of units, is one dataset of all values, and a dataset NAME_index
with the end of each list (Rübel et al. 2022, "The Neurodata Without Borders ecosystem"; schema of HDMF).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.hdf5 import opened_hdf5
from calepin.core.isolated import read_isolated

__all__ = ["Recording", "listed", "read_recording"]

UNITS, TRIALS = "units", "intervals/trials"
LISTS = ("spike_times", "obs_intervals")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """Units and trials of a file.

    Attributes
    ----------
    times
        Spike times of each unit in seconds, by its id.
    observed
        Intervals in which a unit was observed, (n, 2), by its id; units without intervals always were.
    cues
        Time zero of each trial; None in a file without trials.
    length
        Shortest time from there to the end of a trial.
    """

    times: dict[int, Floats]
    observed: dict[int, Floats]
    cues: Floats | None
    length: float | None


def read_recording(path: Path, unit: int | None, align: str, *, trusted: bool) -> Recording:
    """Return the spike times of one unit, or of all (None), and the cues of the trials.

    Raises
    ------
    FileFormatError
        If the file is damaged, or lacks units or spike times.
    ValueError
        If there is no such unit or column.
    """
    function = f"{__name__}:{_tables.__name__}"
    found = read_isolated(function, path, trusted=trusted, unit=unit, align=align)
    if "ids" not in found:
        tables = found.get("units", [])
        raise FileFormatError(
            f"{path}: expected a units table with spike_times, got "
            + (f"one with {listed(tables)}" if len(tables) else "none")
        )
    if unit is not None and not len(found["chosen"]):
        raise ValueError(f"unit: expected the id of a unit in {path}, {listed(found['ids'])}, got {unit}")
    chosen = found["chosen"].tolist()
    times = dict(zip(chosen, _lists(found, "spike_times"), strict=True))
    observed = dict(zip(chosen, _lists(found, "obs_intervals"), strict=False))
    cues, length = _alignment(path, found, align)
    whole = [*times.values(), *observed.values(), np.array([0.0 if length is None else length])]
    if not all(np.isfinite(values).all() for values in whole):
        raise FileFormatError(f"{path} is not a readable NWB file: it holds times of NaN or infinity")
    return Recording(times, observed, cues, length)


def _lists(found: dict[str, NDArray[Any]], name: str) -> list[Floats]:
    """Return the lists of a column of the chosen units."""
    if name not in found:
        return []
    return np.split(found[name], np.cumsum(found[f"{name}_sizes"])[:-1])


def _tables(path: Path, *, trusted: bool, unit: int | None, align: str) -> dict[str, NDArray[Any]]:
    """Return ids, names of columns, and the columns that are asked for where they exist; in the child."""
    with opened_hdf5(path, "NWB file", trusted=trusted) as file:
        if "nwb_version" not in file.attrs:
            raise ValueError("it has no nwb_version")
        found: dict[str, NDArray[Any]] = {}
        if UNITS in file:
            units = file[UNITS]
            found["units"] = _columns(units)
            if "spike_times" in units:
                found["ids"] = ids = np.asarray(units["id"][()]).astype(np.int64)
                rows = np.arange(len(ids)) if unit is None else np.flatnonzero(ids == unit)[:1]
                found["chosen"] = ids[rows]
                for name in set(LISTS) & set(units):
                    found |= _read_lists(units, name, len(ids), rows.tolist())
        if TRIALS in file:
            trials = file[TRIALS]
            found["trials"] = _columns(trials)
            for name in {align, "stop_time"} & set(found["trials"].tolist()):
                column = np.asarray(trials[name][()])
                found[name] = column if column.dtype.kind in "fiu" else np.zeros(column.shape, "S1")
        return found


def _read_lists(units: Any, name: str, n_units: int, rows: list[int]) -> dict[str, NDArray[Any]]:
    """Return the lists of some rows one after another, and their lengths."""
    ends = np.concatenate([[0], units[f"{name}_index"][()].astype(np.int64)])
    if len(ends) != n_units + 1 or (np.diff(ends) < 0).any():
        raise ValueError(f"{name}_index: expected increasing ends, one for each unit")
    values = units[name]
    parts = [values[ends[i] : ends[i + 1]].astype(np.float64) for i in rows]
    if len(values.shape) == 1:
        joined = np.concatenate([np.zeros(0), *parts])
    else:
        joined = np.concatenate([np.zeros((0, *values.shape[1:])), *parts])
    return {name: joined, f"{name}_sizes": np.array([len(part) for part in parts], np.int64)}


def _columns(table: Any) -> NDArray[Any]:
    names = table.attrs["colnames"]
    return np.array([name.decode() if isinstance(name, bytes) else str(name) for name in names], np.str_)


def _alignment(path: Path, found: dict[str, NDArray[Any]], align: str) -> tuple[Floats | None, float | None]:
    """Return time zero of each trial, and the shortest time from there to the end of a trial."""
    if "trials" not in found:
        return None, None
    if align not in found["trials"]:
        raise ValueError(
            f"align: expected a column of the trials of {path}, {listed(found['trials'])}, got {align!r}"
        )
    zeros, stops = found[align], found.get("stop_time")
    if zeros.ndim != 1 or zeros.dtype.kind not in "fiu":
        raise ValueError(f"align: expected a column of times, got {align!r} of {zeros.dtype}")
    if stops is None or stops.shape != zeros.shape or stops.dtype.kind not in "fiu":
        raise FileFormatError(f"{path} is not a readable NWB file: trials need stop_time, a time for each")
    known = np.isfinite(zeros)
    if not known.any():
        raise ValueError(f"align: expected a column with times, got {align!r} without any")
    return zeros[known].astype(np.float64), float((stops - zeros)[known].astype(np.float64).min())


def listed(names: Any) -> str:
    """Return the first of some names in one line; a damaged file may hold any bytes as a name."""
    names = ["".join(c if c.isprintable() else "?" for c in str(name)[:40]) for name in names]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none"
