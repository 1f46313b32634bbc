"""Reader of MATLAB files: versions 4 to 7.2 by SciPy, 7.3 (HDF5) by h5py, both in a child process."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.isolated import read_isolated
from calepin.core.paths import check_input
from calepin.core.reading import check_declared, reading

__all__ = ["read_mat", "read_mat_lists"]

NUMERIC = "biufc"  # kinds of dtypes that are returned
# bytes an entry in memory, 16 for other classes; a sparse matrix is checked when it becomes dense
BYTES = {
    "logical": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "char": 4,
    "int32": 4,
    "uint32": 4,
    "sparse": 0,
}
SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_INDICES = 4  # levels of cells and structures; a damaged file may contain itself
USER_BLOCK = 512  # bytes before the signature of HDF5 in a file of version 7.3


def read_mat(path: str | os.PathLike, *, trusted: bool = False) -> dict[str, NDArray[Any]]:
    """Return the numeric variables of a MATLAB file by name, with at least two axes; sparse ones are dense.

    Text, cells, structures and objects are left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If it is no MATLAB file, is damaged, declares far more than it holds (unless it is `trusted`), or has
        version 7.3 and h5py is missing.
    """
    path = check_input(path, "a MATLAB file")
    function = _from_hdf5 if _is_hdf5(path) else _from_scipy
    return read_isolated(f"{__name__}:{function.__name__}", path, trusted=trusted)


def read_mat_lists(path: str | os.PathLike, *, trusted: bool = False) -> dict[str, NDArray[Any]]:
    """Return the numeric entries of cell arrays and structures by name and place.

    Entry i of a cell array ``c``, counted from 1, is "c{i}", or "c{i}{j}" of a matrix of cells or of a cell
    within a cell; field ``f`` of a structure ``s`` is "s.f", of element i of an array of structures "s.f{i}".
    Errors are those of `read_mat`.
    """
    path = check_input(path, "a MATLAB file")
    function = _lists_from_hdf5 if _is_hdf5(path) else _lists_from_scipy
    return read_isolated(f"{__name__}:{function.__name__}", path, trusted=trusted)


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(USER_BLOCK)
        return file.read(len(SIGNATURE)) == SIGNATURE


def _lists_from_scipy(path: Path, *, trusted: bool) -> dict[str, NDArray[Any]]:
    from scipy.io import loadmat

    with reading(path, "MATLAB file"):
        found: dict[str, NDArray[Any]] = {}
        for name, value in loadmat(path).items():
            if not name.startswith("__") and np.asarray(value).dtype.kind in "OV":
                _flatten(found, path, (name, ()), value, trusted)
        return found


def _flatten(
    found: dict[str, NDArray[Any]], path: Path, place: tuple[str, tuple[int, ...]], value: Any, trusted: bool
) -> None:
    """Add the numeric parts of a value, whose place is its name and the indices of cells."""
    name, indices = place
    if hasattr(value, "toarray"):
        found[_key(name, indices)] = _dense(path, value, trusted)
    elif value.dtype.names:
        for field in value.dtype.names:
            parts = value[field]
            if parts.size == 1:
                _flatten(found, path, (f"{name}.{field}", indices), parts.flat[0], trusted)
            else:
                _flatten(found, path, (f"{name}.{field}", indices), parts, trusted)
    elif value.dtype == object:
        for index in np.ndindex(_cell_shape(value.shape)):
            part = np.asarray(value).reshape(_cell_shape(value.shape))[index]
            if len(indices) < MOST_INDICES:
                _flatten(found, path, (name, (*indices, *(i + 1 for i in index))), part, trusted)
    elif value.dtype.kind in NUMERIC:
        found[_key(name, indices)] = value


def _lists_from_hdf5(path: Path, *, trusted: bool) -> dict[str, NDArray[Any]]:
    from calepin.core.hdf5 import opened_hdf5

    with opened_hdf5(path, "MATLAB file (version 7.3)", trusted=trusted) as file:
        found: dict[str, NDArray[Any]] = {}
        for name, node in file.items():
            if name[0] != "#" and not _is_plain(node):
                _flatten_hdf5(found, path, (name, ()), node, trusted)
        return found


def _is_plain(node: Any) -> bool:
    """Return whether a node is a numeric variable, sparse ones too."""
    return "MATLAB_sparse" in node.attrs or (hasattr(node, "shape") and node.dtype.kind in NUMERIC)


def _flatten_hdf5(
    found: dict[str, NDArray[Any]], path: Path, place: tuple[str, tuple[int, ...]], node: Any, trusted: bool
) -> None:
    name, indices = place
    if _is_plain(node):
        array = _variable(path, node, trusted)
        if array is not None:
            found[_key(name, indices)] = array
    elif not hasattr(node, "shape"):
        for field, part in node.items():
            if name.count(".") < MOST_INDICES:
                _flatten_hdf5(found, path, (f"{name}.{field}", indices), part, trusted)
    elif (
        node.dtype.kind == "O" and "MATLAB_empty" not in node.attrs
    ):  # references: a cell, or an array of structures
        cells = node[()].T
        for index in np.ndindex(_cell_shape(cells.shape)):
            part = node.file[cells.reshape(_cell_shape(cells.shape))[index]]
            if len(indices) < MOST_INDICES:
                _flatten_hdf5(found, path, (name, (*indices, *(i + 1 for i in index))), part, trusted)


def _cell_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a vector of cells with one axis."""
    return shape if sum(size > 1 for size in shape) > 1 else (math.prod(shape),)


def _key(name: str, indices: tuple[int, ...]) -> str:
    return name + "".join(f"{{{i}}}" for i in indices)


def _from_scipy(path: Path, *, trusted: bool) -> dict[str, NDArray[Any]]:
    from scipy.io import loadmat, whosmat

    with reading(path, "MATLAB file"):
        sizes = ((math.prod(shape), BYTES.get(kind, 16)) for _, shape, kind in whosmat(path))
        check_declared(path, sum(size * each for size, each in sizes), trusted=trusted)
        found = loadmat(path)
        return {
            name: dense
            for name, value in found.items()
            if not name.startswith("__") and (dense := _dense(path, value, trusted)).dtype.kind in NUMERIC
        }


def _from_hdf5(path: Path, *, trusted: bool) -> dict[str, NDArray[Any]]:
    from calepin.core.hdf5 import opened_hdf5

    with opened_hdf5(path, "MATLAB file (version 7.3)", trusted=trusted) as file:
        found = {name: _variable(path, node, trusted) for name, node in file.items() if name[0] != "#"}
        return {name: value for name, value in found.items() if value is not None}


def _variable(path: Path, node: Any, trusted: bool) -> NDArray[Any] | None:
    """Return a numeric variable of version 7.3, or None for another one."""
    from scipy import sparse

    attributes = node.attrs
    if "MATLAB_sparse" in attributes and {"data", "ir", "jc"} <= set(node):
        values, rows, columns = (_plain(node[name][()]) for name in ("data", "ir", "jc"))
        shape = int(attributes["MATLAB_sparse"]), len(columns) - 1
        matrix = sparse.csc_array((values, rows.astype(np.int64), columns.astype(np.int64)), shape)
        matrix.check_format(full_check=True)
        return _dense(path, matrix, trusted)
    kind = attributes.get("MATLAB_class", b"")
    if not hasattr(node, "shape") or kind in (b"char", b"cell", b"struct", b"function_handle"):
        return None
    array = _plain(node[()])
    if "MATLAB_empty" in attributes:  # the file holds the shape
        return np.zeros([int(size) for size in array], array.dtype) if 0 in array else None
    array = array.T  # HDF5 lists the axes of Fortran order in reverse
    return np.atleast_2d(array.astype(bool) if kind == b"logical" else array)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array whose complex numbers are pairs of real and imaginary parts as complex numbers."""
    if array.dtype.names == ("real", "imag"):
        return array["real"] + 1j * array["imag"]
    return array


def _dense(path: Path, value: Any, trusted: bool) -> NDArray[Any]:
    if hasattr(value, "toarray"):
        check_declared(path, math.prod(value.shape) * value.dtype.itemsize, trusted=trusted)
        return value.toarray()
    return np.asarray(value)
