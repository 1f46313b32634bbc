"""Arrays from what users have: NumPy arrays, tensors, sparse matrices, and arrays in files."""

from contextlib import suppress
from typing import Any

import numpy as np
from scipy import sparse
from torch import Tensor

__all__ = ["StoredRows", "as_array", "is_mapped", "is_stored", "read_rows", "unmasked"]


def as_array(values: Any) -> Any:
    """Return values as a dense NumPy array, without a copy if possible.

    Tensors are detached and moved to the CPU, half precision becomes float32, sparse matrices become dense.
    """
    if isinstance(values, Tensor):
        values = values.detach()
        if values.is_floating_point() and values.element_size() < 4:  # NumPy has no bfloat16
            values = values.float()
        return values.to_dense().cpu().resolve_conj().resolve_neg().numpy()
    if sparse.issparse(values):
        return values.toarray()
    if isinstance(values, list | tuple) and any(isinstance(value, Tensor) for value in values):
        values = [as_array(value) for value in values]
    array = np.asanyarray(values) if isinstance(values, np.ndarray) else np.asarray(values)
    frame: Any = values
    if array.dtype == object and hasattr(frame, "to_numpy"):  # nullable columns of pandas
        with suppress(TypeError, ValueError):  # columns of words: the caller says what it expects
            array = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def unmasked(values: np.ma.MaskedArray, mask: Any) -> tuple[np.ndarray, Any]:
    """Return the data of a masked array, and where they are known: not masked, and True in a given mask."""
    known = ~np.ma.getmaskarray(values)
    return values.data, mask if known.all() else known if mask is None else known & mask


def is_stored(values: Any) -> bool:
    """Return whether values are an array outside of memory that is read by slices, as of h5py or zarr."""
    in_memory = isinstance(values, np.ndarray | Tensor | type) or sparse.issparse(values)
    # pandas has "iloc"; arrays of other libraries for computations have "__array_namespace__"
    foreign = hasattr(values, "iloc") or hasattr(values, "__array_namespace__")
    array_like = all(hasattr(values, name) for name in ("shape", "dtype", "__getitem__"))
    return array_like and not in_memory and not foreign


def is_mapped(values: Any) -> bool:
    """Return whether an array, or the one that it is a view of, is a memory-mapped file."""
    while isinstance(values, np.ndarray):
        if isinstance(values, np.memmap):
            return True
        values = values.base
    return False


def read_rows(values: Any, rows: Any) -> np.ndarray:
    """Return rows of an array that is only read by slices, one slice for each run of consecutive rows."""
    if isinstance(rows, slice):
        return as_array(values[rows])
    runs = np.split(np.asarray(rows), np.flatnonzero(np.diff(rows) != 1) + 1)
    return np.concatenate([as_array(values[int(run[0]) : int(run[-1]) + 1]) for run in runs])


class StoredRows:
    """An array outside of memory whose rows are read by an index or a list of indices."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, len(values.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        if isinstance(rows, slice | list | np.ndarray):
            return read_rows(self.values, rows)
        return read_rows(self.values, slice(rows, rows + 1))[0]
