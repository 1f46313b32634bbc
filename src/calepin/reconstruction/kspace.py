"""Read and write k-space, in the common file formats.

    .npy          complex, (n_coils, ky, kx) or (n_slices, n_coils, ky, kx)
    .mat          MATLAB 5, complex, coils on the last axis: (ky, kx, n_coils), or (ky, kx)
    .h5, .hdf5    fastMRI: `kspace`, (n_slices, n_coils, ky, kx) or (n_slices, ky, kx) (needs the extra
                  ``calepin[mri]``)
    .cfl + .hdr   BART: dimensions readout, phase 1, phase 2, coils, ... in Fortran order

Arrays have shape (n_slices, n_coils, ky, kx), with the zero frequency in the centre.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write

__all__ = ["read_kspace", "write_cfl"]


def read_kspace(path: str | os.PathLike, *, variable: str | None = None) -> NDArray[np.complexfloating]:
    """Return k-space (n_slices, n_coils, ky, kx) from a file; its suffix determines the format.

    Parameters
    ----------
    path : path
        ``.npy``, ``.mat``, ``.h5``, ``.hdf5``, ``.cfl`` or its ``.hdr``.
    variable : str, optional
        Name of the array in a .mat or HDF5 file. Default: in a .mat file the only complex array with at
        least two axes, in an HDF5 file ``kspace``.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Another format or a damaged file; no array or several that could be k-space (the message lists the
        arrays of the file); real samples, NaN, or only zeros.
    ValueError
        `variable` given for a format that holds one array.
    ModuleNotFoundError
        HDF5 without h5py.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise FileFormatError(f"{path} has suffix {suffix!r}, expected one of {', '.join(_READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if variable is not None and suffix not in (".mat", ".h5", ".hdf5"):
        raise ValueError(
            f"variable: expected None for a {suffix} file, which holds one array, got {variable!r}"
        )
    samples = _READERS[suffix](path, variable)
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


def _read_npy(path: Path, variable: str | None) -> NDArray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise FileFormatError(f"{path} is not a readable .npy array: {error}") from None


def _read_mat(path: Path, variable: str | None) -> NDArray:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError:
        raise FileFormatError(f"{path} is a MATLAB 7.3 file: save it with -v7, or as .h5") from None
    except Exception as error:
        raise FileFormatError(f"{path} is not a readable MATLAB file: {error}") from error
    arrays = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
    samples = arrays[_choose(path, variable, {n: (a.shape, a.dtype) for n, a in arrays.items()})]
    return np.moveaxis(samples, -1, 0) if samples.ndim == 3 else samples


def _read_hdf5(path: Path, variable: str | None) -> NDArray:
    try:
        import h5py
    except ModuleNotFoundError:
        raise ModuleNotFoundError("reading HDF5 needs h5py: pip install 'calepin[mri]'") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FileFormatError(f"{path} is not a readable HDF5 file: {error}") from None
    with file:
        found: dict[str, tuple[tuple[int, ...], np.dtype]] = {}

        def note(name: str, node: object) -> None:
            if isinstance(node, h5py.Dataset):
                found[name] = node.shape, node.dtype

        file.visititems(note)
        samples = np.asarray(file[_choose(path, variable or "kspace", found)])
    # single-coil files of fastMRI have no coil axis
    return samples[:, None] if samples.ndim == 3 else samples


def _read_cfl(path: Path, variable: str | None) -> NDArray:
    data, header = path.with_suffix(".cfl"), path.with_suffix(".hdr")
    for file in (data, header):
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {file} (BART stores samples in .cfl, sizes in .hdr)")
    lines = [line for line in header.read_text(errors="replace").splitlines() if not line.startswith("#")]
    try:
        sizes = [int(word) for word in lines[0].split()]
    except (ValueError, IndexError):
        raise FileFormatError(f"{header} does not begin with the dimensions of a .cfl file") from None
    samples = np.fromfile(data, np.complex64)
    if samples.size != np.prod(sizes):
        raise FileFormatError(f"{data} holds {samples.size} samples, {header.name} says {np.prod(sizes)}")
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


_READERS: dict[str, Callable[[Path, str | None], NDArray]] = {
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
