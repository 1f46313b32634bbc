"""Units and trials of NWB files: HDF5 with tables as groups, one dataset a column.

A column of lists, such as the spike times of units, is one dataset of all values, and a dataset NAME_index
with the end of each list (Rübel et al. 2022, "The Neurodata Without Borders ecosystem"; schema of HDMF).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.hdf5 import opened_hdf5
from calepin.core.isolated import read_isolated

__all__ = ["listed", "read_unit"]

UNITS, TRIALS = "units", "intervals/trials"
Floats = NDArray[np.float64]


def read_unit(
    path: Path, unit: int | None, align: str, *, trusted: bool
) -> tuple[Floats, Floats, float | None]:
    """Return the spike times of a unit, time zero of each trial, and the shortest length of a trial if known.

    Raises
    ------
    FileFormatError
        If the file is damaged, or lacks units or spike times.
    ValueError
        If there is no such unit or column.
    """
    function = f"{__name__}:{_tables.__name__}"
    found = read_isolated(function, path, trusted=trusted, unit=unit, align=align)
    spikes = _spikes(path, found, unit)
    zeros, length = _alignment(path, found, align)
    if not np.isfinite(spikes).all() or not (length is None or np.isfinite(length)):
        raise FileFormatError(f"{path} is not a readable NWB file: it holds times of NaN or infinity")
    return spikes, zeros, length


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
                index = [0] if unit is None else np.flatnonzero(ids == unit)[:1].tolist()
                ends = np.concatenate([[0], units["spike_times_index"][()].astype(np.int64)])
                if len(ends) != len(ids) + 1 or (np.diff(ends) < 0).any():
                    raise ValueError("spike_times_index: expected increasing ends, one for each unit")
                for i in index[: len(ids)]:
                    found["spikes"] = units["spike_times"][ends[i] : ends[i + 1]].astype(np.float64)
        if TRIALS in file:
            trials = file[TRIALS]
            found["trials"] = _columns(trials)
            for name in {align, "stop_time"} & set(found["trials"].tolist()):
                column = np.asarray(trials[name][()])
                found[name] = column if column.dtype.kind in "fiu" else np.zeros(column.shape, "S1")
        return found


def _columns(table: Any) -> NDArray[Any]:
    names = table.attrs["colnames"]
    return np.array([name.decode() if isinstance(name, bytes) else str(name) for name in names], np.str_)


def _spikes(path: Path, found: dict[str, NDArray[Any]], unit: int | None) -> Floats:
    if "ids" not in found:
        tables = found.get("units", [])
        raise FileFormatError(
            f"{path}: expected a units table with spike_times, got "
            + (f"one with {listed(tables)}" if len(tables) else "none")
        )
    ids = found["ids"]
    if unit is None and len(ids) != 1:
        raise ValueError(f"unit: expected the id of one of {len(ids)} units: {listed(ids)}")
    if unit is not None and unit not in ids:
        raise ValueError(f"unit: expected the id of a unit in {path}, {listed(ids)}, got {unit}")
    return found["spikes"]


def _alignment(path: Path, found: dict[str, NDArray[Any]], align: str) -> tuple[Floats, float | None]:
    """Return time zero of each trial, and the shortest time from there to the end of a trial."""
    if "trials" not in found:
        return np.zeros(1), None
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
