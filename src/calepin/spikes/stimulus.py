"""A stimulus of several covariates: from a file, and checked against the bins of trials."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.checks import check_array
from calepin.core.errors import FileFormatError
from calepin.core.paths import check_input
from calepin.core.reading import read_npy, reading

__all__ = ["check_stimulus", "read_stimulus"]

Floats = NDArray[np.float64]


def check_stimulus(
    stimulus: Any, names: Sequence[str] | None, shape: tuple[int, int]
) -> tuple[Floats, tuple[str, ...]]:
    """Return the covariates (n_bins, p) of trials of `shape`, and their names.

    Raises
    ------
    ValueError
        Another number of bins, or of names than of covariates.
    """
    if stimulus is None or getattr(stimulus, "shape", None) == (shape[1], 0):
        stimulus = np.zeros((shape[1], 0))
    labels = [str(name) for name in getattr(stimulus, "columns", ())] or names
    values = check_array("stimulus", stimulus, empty=True)
    values = np.ascontiguousarray(values[:, None] if values.ndim == 1 else values)
    n_trials, n_bins = shape
    if values.ndim != 2:
        raise ValueError(f"stimulus: expected shape (n_bins={n_bins}, p), got {np.shape(stimulus)}")
    n = len(values)
    if n != n_bins:
        hint = f"{n / n_bins:.3g} a bin, is its rate another one? resample it to the bins"
        if n == n_trials * n_bins:
            hint = "all trials one after another? fit_population takes covariates that differ between trials"
        raise ValueError(
            f"stimulus: expected a row for each of the {n_bins} bins of a trial, got {n}: {hint}"
        )
    if labels is None:
        labels = [f"stimulus {j}" for j in range(values.shape[1])]
    if len(labels) != values.shape[1]:
        raise ValueError(f"names: expected one for each of {values.shape[1]} covariates, got {len(labels)}")
    return values, tuple(labels)


def read_stimulus(path: Path) -> tuple[Floats, list[str] | None]:
    """Return covariates (n_bins, p), and their names if the file has any: the header of a table.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Another suffix than .npy, .csv or .tsv, a damaged file, or entries that are not numbers.
    """
    check_input(path, "a stimulus")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = read_npy(path)
        if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
            raise FileFormatError(
                f"{path}: expected a stimulus (n_bins,) or (n_bins, p), got {array.dtype} {array.shape}"
            )
        return array.astype(np.float64), None
    if suffix not in (".csv", ".tsv"):
        raise FileFormatError(f"{path}: expected a stimulus whose name ends in .npy, .csv or .tsv")
    with path.open(newline="", encoding="utf-8-sig") as file, reading(path, "table of a stimulus"):
        rows = csv.reader(file, delimiter="," if suffix == ".csv" else "\t")
        names = [name.strip() for name in next(rows, [])]
        table = [row for row in rows if row]
        if not names or all(map(_is_number, names)):
            raise ValueError("it has no header with the names of its columns")
        if any(len(row) != len(names) for row in table) or not table:
            raise ValueError(f"expected rows of {len(names)} numbers")
        return np.array([[float(value) for value in row] for row in table]), names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
