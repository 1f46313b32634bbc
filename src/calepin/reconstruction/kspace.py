"""Read and write k-space, in the common file formats.

    .npy          complex, (n_coils, ky, kx) or (n_slices, n_coils, ky, kx)
    .mat          MATLAB 4 to 7.3, complex, coils on the last axis: (ky, kx, n_coils), or (ky, kx)
    .h5, .hdf5    fastMRI: `kspace`, (n_slices, n_coils, ky, kx) or (n_slices, ky, kx) (needs the extra
                  ``calepin[mri]``)
    .cfl + .hdr   BART: dimensions readout, phase 1, phase 2, coils, ... in Fortran order

Arrays have shape (n_slices, n_coils, ky, kx), with the zero frequency in the centre.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write
from calepin.core.hdf5 import opened_hdf5
from calepin.core.isolated import read_isolated
from calepin.core.matlab import read_mat
from calepin.core.paths import check_input
from calepin.core.reading import read_npy

__all__ = ["read_kspace", "write_cfl"]

_LARGEST_HEADER = 65536  # characters; BART also writes the history of commands to a .hdr file


def read_kspace(
    path: str | os.PathLike, *, variable: str | None = None, trusted: bool = False
) -> NDArray[np.complexfloating]:
    """Return k-space (n_slices, n_coils, ky, kx) from a file; its suffix determines the format.

    Parameters
    ----------
    path : path
        ``.npy``, ``.mat``, ``.h5``, ``.hdf5``, ``.cfl`` or its ``.hdr``.
    variable : str, optional
        Name of the array in a .mat or HDF5 file. Default: in a .mat file the only complex array with at
        least two axes, in an HDF5 file ``kspace``.
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
        `variable` given for a format that holds one array.
    ModuleNotFoundError
        HDF5 without h5py.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise FileFormatError(f"{path} has suffix {suffix!r}, expected one of {', '.join(_READERS)}")
    path = check_input(path, "k-space")
    if variable is not None and suffix not in (".mat", ".h5", ".hdf5"):
        raise ValueError(
            f"variable: expected None for a {suffix} file, which holds one array, got {variable!r}"
        )
    samples = _READERS[suffix](path, variable, trusted)
    if samples.ndim not in (2, 3, 4):
        raise FileFormatError(f"{path} holds k-space of shape {samples.shape}, expected two to four axes")
    return _check(path, samples.reshape((1,) * (4 - samples.ndim) + samples.shape))


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
    return read_npy(path)


def _read_mat(path: Path, variable: str | None, trusted: bool) -> NDArray:
    arrays = read_mat(path, trusted=trusted)
    samples = arrays[_choose(path, variable, {n: (a.shape, a.dtype) for n, a in arrays.items()})]
    return np.moveaxis(samples, -1, 0) if samples.ndim == 3 else samples


def _read_hdf5(path: Path, variable: str | None, trusted: bool) -> NDArray:
    function = f"{__name__}:{_from_hdf5.__name__}"
    samples = read_isolated(function, path, trusted=trusted, variable=variable or "kspace")["samples"]
    # single-coil files of fastMRI have no coil axis
    return samples[:, None] if samples.ndim == 3 else samples


def _from_hdf5(path: Path, *, trusted: bool, variable: str) -> dict[str, NDArray]:
    with opened_hdf5(path, "HDF5 file", trusted=trusted) as file:
        found: dict[str, tuple[tuple[int, ...], np.dtype]] = {}

        def note(name: str, node: Any) -> None:
            if hasattr(node, "dtype"):
                found[name] = node.shape, node.dtype

        file.visititems(note)
        return {"samples": np.asarray(file[_choose(path, variable, found)])}


def _read_cfl(path: Path, variable: str | None, trusted: bool) -> NDArray:
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
    samples = np.fromfile(data, np.complex64)
    sizes = (sizes + [1] * 16)[:16]
    other = {axis: size for axis, size in enumerate(sizes) if size > 1 and axis not in (0, 1, 2, 3, 13)}
    if other or min(sizes[:3]) != 1:
        raise FileFormatError(
            f"{data} has dimensions {sizes}, expected only two for k-space, coils (3) and slices (13)"
        )
    # the two axes of k-space are those of the first three with more than one entry
    plane = [size for size in sizes[:3] if size > 1]
    plane += [1] * (2 - len(plane))
    return samples.reshape((*plane, sizes[3], sizes[13]), order="F").transpose(3, 2, 0, 1)


_READERS: dict[str, Callable[[Path, str | None, bool], NDArray]] = {
    ".npy": _read_npy,
    ".mat": _read_mat,
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
    ".cfl": _read_cfl,
    ".hdr": _read_cfl,
}


def _choose(path: Path, variable: str | None, found: dict[str, tuple[tuple[int, ...], np.dtype]]) -> str:
    """Return the name of the array to read: the given one, or the only one that can be k-space."""
    listing = ", ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in found.items()) or "nothing"
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


def _check(path: Path, samples: NDArray) -> NDArray[np.complexfloating]:
    if not np.issubdtype(samples.dtype, np.complexfloating):
        raise FileFormatError(f"{path} holds {samples.dtype}, expected complex k-space")
    if not np.isfinite(samples).all():
        raise FileFormatError(f"{path} holds NaN or infinity, expected finite k-space")
    if not samples.any():
        raise FileFormatError(f"{path} holds only zeros, expected k-space")
    return samples
