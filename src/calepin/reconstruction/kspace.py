"""Read and write k-space, in the common file formats.

    .npy          complex, (n_coils, ky, kx) or (n_slices, n_coils, ky, kx)
    .mat          MATLAB 4 to 7.3, complex, coils on the last axis: (ky, kx, n_coils), or (ky, kx)
    .h5, .hdf5    fastMRI: `kspace`, (n_slices, n_coils, ky, kx) or (n_slices, ky, kx) (needs the extra
                  ``calepin[mri]``); ISMRMRD: Cartesian lines in two dimensions, (n_slices, n_coils, readout,
                  phase encoding), see `calepin.reconstruction.ismrmrd`
    .cfl + .hdr   BART: dimensions readout, phase 1, phase 2, coils, ... in Fortran order

Sensitivities of coils have the same files; their sets take the place of slices, of BART dimension 4.

Arrays have shape (n_slices, n_coils, ky, kx), with the zero frequency in the centre.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.checks import check_integer
from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write
from calepin.core.hdf5 import opened_hdf5
from calepin.core.isolated import read_isolated
from calepin.core.matlab import read_mat
from calepin.core.paths import check_input
from calepin.core.reading import read_npy
from calepin.reconstruction.ismrmrd import find_ismrmrd, slices_of_ismrmrd

__all__ = [
    "KSPACE_FILES",
    "count_slices",
    "read_kspace",
    "read_kspace_slice",
    "read_sensitivities",
    "write_cfl",
]

_SETS, _SLICES = 4, 13  # dimensions of BART
_LARGEST_HEADER = 65536  # characters; BART also writes the history of commands to a .hdr file


def read_kspace(
    path: str | os.PathLike,
    *,
    variable: str | None = None,
    index: int | None = None,
    trusted: bool = False,
) -> NDArray[np.complexfloating]:
    """Return k-space (n_slices, n_coils, ky, kx) from a file; its suffix determines the format.

    Parameters
    ----------
    path : path
        ``.npy``, ``.mat``, ``.h5``, ``.hdf5``, ``.cfl`` or its ``.hdr``.
    variable : str, optional
        Name of the array in a .mat or HDF5 file. Default: in a .mat file the only complex array with at
        least two axes, in an HDF5 file ``kspace``, else the lines of ISMRMRD.
    index : int, optional
        Read only this slice, from 0; the result has one. Default: all slices.
    trusted : bool, default False
        Read files that declare far more data than they hold; see `calepin.core.reading`.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Another format or a damaged file, or one that refers to other files; no array or several that could be
        k-space (the message lists the arrays of the file); real samples, NaN, or only zeros.
    ValueError
        `variable` given for a format that holds one array, or an index that the file does not have.
    ModuleNotFoundError
        HDF5 without h5py, or ISMRMRD without ismrmrd.
    """
    check_integer("index", index, least=0, optional=True)
    return _read_checked(path, variable, index, trusted)[0]


def read_kspace_slice(path: str | os.PathLike, index: int) -> tuple[NDArray[np.complexfloating], list[str]]:
    """Return a slice (n_coils, ky, kx) of a file, and notes: which it is in ISMRMRD, and its lines."""
    samples, notes = _read_checked(path, None, index, False)
    return samples[0], notes


def read_sensitivities(path: str | os.PathLike) -> NDArray[np.complexfloating]:
    """Return the sensitivities of coils (n_sets, n_coils, height, width) from a file.

    Parameters
    ----------
    path : path
        A file as `read_kspace` reads it, with sets in the place of slices. In ``.cfl`` they are dimension 4,
        where ``bart ecalib`` writes them.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        As of `read_kspace`; several slices in a file of BART.
    """
    path = Path(path)
    if path.suffix.lower() not in (".cfl", ".hdr"):
        return read_kspace(path)
    return _check(path, np.ascontiguousarray(_planes_of_cfl(path, "sensitivities", _SETS)), "sensitivities")


def _read_checked(
    path: str | os.PathLike, variable: str | None, index: int | None, trusted: bool
) -> tuple[NDArray[np.complexfloating], list[str]]:
    samples, n_slices, notes = _read(path, variable, index, trusted)
    if index is not None and index >= n_slices:
        raise ValueError(f"index: expected 0 to {n_slices - 1}, the slices of {path}, got {index}")
    return _check(path, samples), notes


def count_slices(path: str | os.PathLike, *, variable: str | None = None, trusted: bool = False) -> int:
    """Return the number of slices in a file of k-space, of which at most one is read.

    Parameters
    ----------
    path, variable, trusted
        As those of `read_kspace`, whose errors are raised.
    """
    return _read(path, variable, 0, trusted)[1]


def _read(
    path: str | os.PathLike, variable: str | None, index: int | None, trusted: bool
) -> tuple[NDArray, int, list[str]]:
    """Return slices (n, n_coils, ky, kx), all or that of an index, how many the file has, and notes."""
    path = Path(path)
    suffix = path.suffix.lower()
    known = (*KSPACE_FILES, ".hdr")
    if suffix not in known:
        raise FileFormatError(f"{path} has suffix {suffix!r}, expected one of {', '.join(known)}")
    path = check_input(path, "k-space")
    if variable is not None and suffix not in (".mat", ".h5", ".hdf5"):
        raise ValueError(
            f"variable: expected None for a {suffix} file, which holds one array, got {variable!r}"
        )
    if suffix in (".h5", ".hdf5"):
        samples, n_slices, notes = _read_hdf5(path, variable, index, trusted)
    else:
        whole = _READERS[suffix](path, variable, trusted)
        _check_axes(path, whole)
        whole = whole.reshape((1,) * (4 - whole.ndim) + whole.shape)
        samples, n_slices, notes = np.array(whole[_rows(index)]), len(whole), []
    if not np.issubdtype(samples.dtype, np.complexfloating):
        raise FileFormatError(f"{path} holds {samples.dtype}, expected complex k-space")
    return samples, n_slices, notes


def _check_axes(path: Path, samples: Any) -> None:
    if samples.ndim not in (2, 3, 4):
        raise FileFormatError(f"{path} holds k-space of shape {samples.shape}, expected two to four axes")


def _rows(index: int | None) -> slice:
    return slice(None) if index is None else slice(index, index + 1)


def write_cfl(path: str | os.PathLike, samples: NDArray) -> None:
    """Write slices (n_slices, n_coils, ky, kx) as .cfl and .hdr files of BART, each atomically.

    Dimensions 0 to 3 of the file are ky, kx, 1 and coils, dimension 13 is slices; single precision.

    Raises
    ------
    ValueError
        Another number of axes, or another suffix than .cfl.
    """
    path = Path(path)
    if path.suffix != ".cfl" or samples.ndim != 4:
        raise ValueError(
            "samples: expected four axes and a path that ends in .cfl, "
            f"got shape {samples.shape} and {path.name!r}"
        )
    n_slices, n_coils, ky, kx = samples.shape
    sizes = [ky, kx, 1, n_coils, *[1] * 9, n_slices, 1, 1]
    with atomic_write(path) as temporary:
        # Fortran order of (ky, kx, coils, slices): the first index varies fastest
        temporary.write_bytes(samples.astype(np.complex64).transpose(2, 3, 1, 0).tobytes(order="F"))
    with atomic_write(path.with_suffix(".hdr")) as temporary:
        temporary.write_text("# Dimensions\n" + " ".join(map(str, sizes)) + "\n")


def _read_npy(path: Path, variable: str | None, trusted: bool) -> NDArray:
    return read_npy(path, memory_map=True)


def _read_mat(path: Path, variable: str | None, trusted: bool) -> NDArray:
    arrays = read_mat(path, trusted=trusted)
    samples = arrays[_choose(path, variable, {n: (a.shape, a.dtype) for n, a in arrays.items()})]
    return np.moveaxis(samples, -1, 0) if samples.ndim == 3 else samples


def _read_hdf5(
    path: Path, variable: str | None, index: int | None, trusted: bool
) -> tuple[NDArray, int, list[str]]:
    function = f"{__name__}:{_from_hdf5.__name__}"
    found = read_isolated(function, path, trusted=trusted, variable=variable, index=index)
    return found["samples"], int(found["n_slices"]), found["notes"].tolist() if "notes" in found else []


def _from_hdf5(path: Path, *, trusted: bool, variable: str | None, index: int | None) -> dict[str, NDArray]:
    """Return slices, all or one, their number, and notes on the one of ISMRMRD.

    Files of one coil have no axis of coils in fastMRI.
    """
    with opened_hdf5(path, "HDF5 file", trusted=trusted) as file:
        found: dict[str, tuple[tuple[int, ...], np.dtype]] = {}

        def note(name: str, node: Any) -> None:
            if hasattr(node, "dtype"):
                found[name] = node.shape, node.dtype

        file.visititems(note)
        raw = find_ismrmrd(path, found) if variable is None and "kspace" not in found else None
        if raw is not None:
            return slices_of_ismrmrd(path, file[raw], index, trusted=trusted)
        data = file[_choose(path, variable or "kspace", found)]
        _check_axes(path, data)
        if data.ndim == 2:
            return {"samples": np.asarray(data)[None, None], "n_slices": np.array(1)}
        samples = np.asarray(data[_rows(index)])
        return {
            "samples": samples[:, None] if data.ndim == 3 else samples,
            "n_slices": np.array(len(data)),
        }


def open_cfl(path: Path) -> tuple[list[int], NDArray[np.complexfloating]]:
    """Return the sixteen dimensions of a file of BART, .cfl or .hdr, and its numbers in Fortran order.

    Raises
    ------
    FileNotFoundError, FileFormatError
        A file of the two is missing, or they do not fit together.
    """
    data, header = path.with_suffix(".cfl"), path.with_suffix(".hdr")
    for file in (data, header):
        if not file.exists():
            raise FileNotFoundError(f"no such file: {file} (BART stores samples in .cfl, sizes in .hdr)")
        check_input(file, "k-space")
    with header.open(errors="replace") as opened:
        lines = [line for line in opened.read(_LARGEST_HEADER).splitlines() if not line.startswith("#")]
    try:
        sizes = [int(word) for word in lines[0].split()]
    except (ValueError, IndexError):
        raise FileFormatError(f"{header} does not begin with the dimensions of a .cfl file") from None
    held = data.stat().st_size / np.dtype(np.complex64).itemsize
    if held != math.prod(sizes) or min(sizes) < 1 or len(sizes) > 16:
        raise FileFormatError(f"{data} holds {held:.10g} samples, {header.name} says {lines[0][:80]}")
    return (sizes + [1] * 16)[:16], np.memmap(data, np.complex64, "r")


def _read_cfl(path: Path, variable: str | None, trusted: bool) -> NDArray:
    return _planes_of_cfl(path, "k-space", _SLICES)


def _planes_of_cfl(path: Path, what: str, axis: int) -> NDArray:
    """Return planes of coils in a file of BART, (n, n_coils, height, width), n of them along a dimension."""
    sizes, samples = open_cfl(path)
    other = any(size > 1 for k, size in enumerate(sizes) if k not in (0, 1, 2, 3, axis))
    if other or min(sizes[:3]) != 1:
        of_planes = {_SLICES: "slices", _SETS: "sets"}[axis]
        raise FileFormatError(
            f"{path.with_suffix('.cfl')} has dimensions {sizes}, expected only two for {what}, coils (3) "
            f"and {of_planes} ({axis})"
        )
    # the two axes of k-space are those of the first three with more than one entry
    plane = [size for size in sizes[:3] if size > 1]
    plane += [1] * (2 - len(plane))
    return samples.reshape((*plane, sizes[3], sizes[axis]), order="F").transpose(3, 2, 0, 1)


_READERS: dict[str, Callable[[Path, str | None, bool], NDArray]] = {
    ".npy": _read_npy,
    ".mat": _read_mat,
    ".cfl": _read_cfl,
    ".hdr": _read_cfl,
}

KSPACE_FILES = (".npy", ".mat", ".h5", ".hdf5", ".cfl")
"""The suffixes of files of k-space; that of .hdr, beside .cfl, is read too."""


def _choose(path: Path, variable: str | None, found: dict[str, tuple[tuple[int, ...], np.dtype]]) -> str:
    """Return the name of the array to read: the given one, or the only one that can be k-space."""
    listing = ", ".join(f"{name} {shape} {dtype!s:.20}" for name, (shape, dtype) in found.items())
    listing = listing or "nothing"
    if variable is not None:
        if variable not in found:
            raise FileFormatError(f"{path} holds no {variable!r}, but {listing}")
        return variable
    names = [
        name
        for name, (shape, dtype) in found.items()
        if np.issubdtype(dtype, np.complexfloating) and len(shape) >= 2
    ]
    if len(names) != 1:
        raise FileFormatError(f"{path} holds {len(names)} complex arrays, expected one: it has {listing}")
    return names[0]


def _check(path: str | os.PathLike, samples: NDArray, what: str = "k-space") -> NDArray[np.complexfloating]:
    if not np.isfinite(samples).all():
        raise FileFormatError(f"{path} holds NaN or infinity, expected finite {what}")
    if not samples.any():
        raise FileFormatError(f"{path} holds only zeros, expected {what}")
    return samples
