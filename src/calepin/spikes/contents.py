"""What a file of spikes holds, before its values are understood as counts or times."""

import csv
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.matlab import read_mat, read_mat_lists
from calepin.core.reading import check_declared, check_npz, read_npy, reading
from calepin.spikes.nwb import listed
from calepin.spikes.trains import SpikeTrains

__all__ = ["Contents", "contents_of"]

Floats = NDArray[np.float64]
Places = dict[tuple[int, ...], NDArray[Any]]

OBJECTS = (
    "holds Python objects, which are pickles: calepin never loads them; save lists of times by "
    "numpy.savez(path, *lists), or pad them by NaN"
)
SUFFIXES = ".npy, .npz, .mat, .csv, .tsv or .nwb"
SPARSE = {"format", "shape", "data"}
TS_GROUP = {"t", "index", "keys", "start", "end"}
SORTING = {"unit_ids", "spike_indexes_seg0", "spike_labels_seg0", "sampling_frequency"}


@dataclass(frozen=True)
class Contents:
    """One of: finished trains, an array, lists of times by their place, times of units.

    Attributes
    ----------
    name
        Name of the variable.
    array, lists, times, trains
        What it holds; all but one are None.
    units
        Names of the units of `lists` with units first.
    observed
        Observed intervals of the units of `times`.
    others
        All arrays of the file by name.
    """

    name: str
    array: NDArray[Any] | None = None
    lists: Places | None = None
    units: list[str] | None = None
    times: dict[str, Floats] | None = None
    trains: SpikeTrains | None = None
    observed: dict[str, Floats] | None = None
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def cue(self, path: Path, name: str) -> Floats:
        """Return the times of the cues in a variable of the file.

        Raises
        ------
        ValueError
            There is no such variable, or it does not hold times.
        """
        if name not in self.others:
            raise ValueError(
                f"align: expected a variable of {path} with the times of the cues, {listed(self.others)}, "
                f"got {name!r}"
            )
        cues = np.ravel(self.others[name])
        if cues.dtype.kind not in "biuf" or not np.isfinite(cues).any():
            raise ValueError(f"align: expected a variable with times, got {name!r} without any")
        return cues.astype(np.float64)


def contents_of(path: Path, variable: str | None, *, trusted: bool) -> Contents:
    """Read a file; the suffix of its name says how.

    Raises
    ------
    FileFormatError
        Another suffix, a damaged file, or no such variable: the message lists those that are there.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return Contents("the array", array=_npy(path))
    if suffix == ".npz":
        return _npz(path, variable, trusted)
    if suffix == ".mat":
        return _mat(path, variable, trusted)
    if suffix in (".csv", ".tsv"):
        return _csv(path, "," if suffix == ".csv" else "\t")
    raise FileFormatError(f"{path}: expected a name that ends in {SUFFIXES}")


def _npy(path: Path) -> NDArray[Any]:
    try:
        return read_npy(path)
    except FileFormatError as error:
        if "Python objects" in str(error):
            raise FileFormatError(f"{path} {OBJECTS}") from None
        raise


def _npz(path: Path, variable: str | None, trusted: bool) -> Contents:
    found: dict[str, NDArray[Any]] = {}
    pickled = []
    with path.open("rb") as file, reading(path, ".npz archive"):
        check_npz(file, path, trusted=trusted)
        with np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                try:
                    found[name] = archive[name]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    pickled.append(name)
        if set(found) >= SPARSE and variable is None:
            return Contents("the sparse array", array=_sparse(path, trusted))
        if set(found) >= TS_GROUP and variable is None:
            return _ts_group(found)
        if set(found) >= SORTING and variable is None:
            return _sorting(found)
    if variable in pickled or (variable is None and not found):
        raise FileFormatError(f"{path} {OBJECTS}")
    arrays = [name for name in found if re.fullmatch(r"arr_\d+", name)]
    if variable is None and len(found) > 1 and len(arrays) == len(found):
        return Contents("the lists", lists={(i + 1,): found[name] for i, name in enumerate(arrays)})
    name = _chosen(path, found, variable)
    return Contents(name, array=found[name], others=found)


def _sparse(path: Path, trusted: bool) -> NDArray[Any]:
    from scipy import sparse

    matrix = sparse.load_npz(path)
    check_declared(path, math.prod(matrix.shape) * matrix.dtype.itemsize, trusted=trusted)
    return matrix.toarray()


def _ts_group(found: Mapping[str, NDArray[Any]]) -> Contents:
    """Return the units of a file that pynapple's ``TsGroup.save`` wrote."""
    t, index = found["t"].astype(np.float64), found["index"]
    times = {str(key): t[index == key] for key in found["keys"].tolist()}
    intervals = np.column_stack([found["start"], found["end"]]).astype(np.float64)
    return Contents("the TsGroup", times=times, observed=dict.fromkeys(times, intervals), others=found)


def _sorting(found: Mapping[str, NDArray[Any]]) -> Contents:
    """Return the units of a file of spikeinterface's ``NpzSortingExtractor``."""
    if any(re.fullmatch(r"spike_indexes_seg[1-9]\d*", name) for name in found):
        raise ValueError("expected a sorting with one segment, got several: save one of them")
    rate = float(np.ravel(found["sampling_frequency"])[0])
    t, labels = found["spike_indexes_seg0"] / rate, found["spike_labels_seg0"]
    times = {str(unit): t[labels == unit] for unit in found["unit_ids"].tolist()}
    return Contents("the sorting", times=times, others=found)


def _chosen(path: Path, found: Iterable[str], variable: str | None) -> str:
    names = list(found)
    if variable is None and len(names) == 1:
        return names[0]
    if variable is None:
        raise FileFormatError(f"{path}: expected the name of a variable, one of {listed(names)}")
    if variable not in names:
        raise FileFormatError(f"{path} holds no variable {variable!r}: there are {listed(names)}")
    return variable


def _mat(path: Path, variable: str | None, trusted: bool) -> Contents:
    found = read_mat(path, trusted=trusted)
    if variable in found:
        return Contents(variable, array=found[variable], others=found)
    if variable is None and "train" in found:
        return Contents("train", trains=_train(path, found), others=found)
    numbers = next((np.ravel(found[name]) for name in ("idxtr", "idxts") if name in found), None)
    if variable is None and "y" in found and numbers is not None:
        return Contents("y", trains=_one_after_another(path, found, numbers), others=found)
    lists = _grouped(read_mat_lists(path, trusted=trusted))
    if variable is None and len(lists) == 1:
        (variable,) = lists
    if variable in lists:
        places = lists[variable]
        if () in places:  # a field of a structure that is an array
            return Contents(variable, array=places[()], others=found)
        return Contents(variable, lists=places, others=found)
    names = [*found, *lists]
    if variable is not None:
        raise FileFormatError(f"{path} holds no variable {variable!r}: there are {listed(names)}")
    raise FileFormatError(
        f"{path}: expected the variable train, or y with idxtr or idxts, got {listed(names)}: "
        "give the name of another one"
    )


def _grouped(entries: Mapping[str, NDArray[Any]]) -> dict[str, Places]:
    """Return the entries "name{i}{j}" by name and place."""
    groups: dict[str, Places] = {}
    for key, values in entries.items():
        name, _, places = key.partition("{")
        place = tuple(int(i) for i in re.findall(r"\d+", places))
        groups.setdefault(name, {})[place] = values
    return groups


def _train(path: Path, found: Mapping[str, NDArray[Any]]) -> SpikeTrains:
    """Return counts with the times of their bins in milliseconds."""
    counts = _counts(path, "train", found["train"])
    t = np.ravel(found["t"]).astype(np.float64) if "t" in found else np.zeros(0)
    if len(t) != counts.shape[1] or len(t) < 2 or not np.allclose(np.diff(t), t[1] - t[0]):
        return SpikeTrains(counts)
    return SpikeTrains(counts, float(t[1] - t[0]) / 1000, t0=float(t[0]) / 1000)


def _one_after_another(path: Path, found: Mapping[str, NDArray[Any]], numbers: NDArray[Any]) -> SpikeTrains:
    """Return trials of bins of 1 ms that follow one another."""
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
    import torch

    from calepin.likelihoods import Poisson

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


def _stimulus(values: Any, shape: tuple[int, ...]) -> Floats | None:
    """Return the stimulus if it is the same in all trials, else None."""
    if values is None or np.size(values) != shape[0] * shape[1]:
        return None
    each = np.reshape(values, shape).astype(np.float64)
    return each[0].copy() if (each == each[0]).all() and np.isfinite(each).all() else None


def _csv(path: Path, delimiter: str) -> Contents:
    """Return times by unit, or by unit and trial; a trial in which no unit fired is not in such a file."""
    with path.open(newline="", encoding="utf-8-sig") as file, reading(path, "table of spikes"):
        rows = csv.DictReader(file, delimiter=delimiter)
        columns = [name.strip() for name in rows.fieldnames or ()]
        rows.fieldnames = columns
        if "time" not in columns or not {"unit", "trial"} & set(columns):
            raise FileFormatError(
                f"{path}: expected the columns time, and unit or trial, got {listed(columns)}"
            )
        table = [(row.get("unit") or "1", row.get("trial"), float(row["time"])) for row in rows]
    if not table:
        raise FileFormatError(f"{path}: expected at least one spike, got none")
    if "trial" not in columns:
        times: dict[str, list[float]] = {}
        for unit, _, time in table:
            times.setdefault(unit.strip(), []).append(time)
        return Contents("time", times={unit: np.array(values) for unit, values in times.items()})
    trials = sorted({_number(trial) for _, trial, _ in table})
    units = list(dict.fromkeys(unit.strip() for unit, _, _ in table))
    lists: dict[tuple[int, ...], list[float]] = {
        (i, k): [] for i in range(len(units)) for k in range(len(trials))
    }
    for unit, trial, time in table:
        lists[units.index(unit.strip()), trials.index(_number(trial))].append(time)
    if len(units) == 1:
        return Contents("time", lists={(k,): np.array(values) for (_, k), values in lists.items()})
    return Contents("time", lists={place: np.array(values) for place, values in lists.items()}, units=units)


def _number(trial: str | None) -> float:
    return float(trial or "nan")
