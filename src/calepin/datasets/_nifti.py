"""Volumes and time series of NIfTI, versions 1 and 2, also compressed; needs the package nibabel.

What stands before the samples, header and extensions, is written as it was read; only the shape, the type of
the samples and the size of voxels may change. Samples x are the values ``slope x + inter`` of the header.

Source: the specifications of NIfTI-1 and NIfTI-2.
"""

import gzip
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.reading import check_declared, reading

__all__ = ["Header", "check_nibabel", "read", "write"]

AXES = "XYZT"  # of the samples in a file; more axes are of one sample
MORE = "UVW"
GZIP = b"\x1f\x8b"
LEVEL = 6  # of compression, that of gzip and FSL
MAGIC = {b"n+1", b"n+2"}
SIZES = (348, 540)  # bytes of a header of version 1 and 2


@dataclass(frozen=True)
class Header:
    """What a file holds beside its samples.

    Attributes
    ----------
    content : bytes
        Header and extensions: all that stands before the samples.
    axes : str
        A letter for each axis of the samples in the file.
    """

    content: bytes
    axes: str

    @classmethod
    def of_axes(cls, axes: str) -> "Header":
        """Return the header of a file without any, for samples with these axes.

        Raises
        ------
        ValueError
            If an axis has no place in the file.
        """
        from nibabel.nifti1 import Nifti1Header

        if not set(axes) <= set(AXES):
            raise ValueError(f"NIfTI holds the axes X, Y, Z and T, got {axes}; --axes, or axes, names them")
        new: Any = Nifti1Header()
        new["magic"], new["vox_offset"] = b"n+1", 352
        new.set_xyzt_units("unknown", "unknown")
        known = AXES[: 1 + max(AXES.index(axis) for axis in axes)]
        return cls(new.binaryblock + bytes(4), known)

    @property
    def fields(self) -> Any:
        """The header as an object of nibabel, a copy."""
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header

        size = _size_of(self.content)
        return (Nifti1Header if size == SIZES[0] else Nifti2Header)(self.content[:size], check=False)

    @property
    def scale(self) -> tuple[float, float] | None:
        """Slope and intercept of the values, None for samples that are values."""
        slope, inter = self.fields.get_slope_inter()
        return None if slope is None or (slope, inter) == (1, 0) else (slope, inter)

    def scaled(self, scale: tuple[float, float]) -> "Header":
        """Return the header of a volume of more rows and columns by these factors, over the same field."""
        fields, smaller = self.fields, np.eye(4)
        zooms = fields["pixdim"].copy()
        for axis, factor in zip("YX", scale, strict=True):
            k = self.axes.index(axis)
            zooms[1 + k] /= factor
            if k < 3:
                smaller[k, k], smaller[k, 3] = 1 / factor, (1 / factor - 1) / 2
        for read, write in ((fields.get_qform, fields.set_qform), (fields.get_sform, fields.set_sform)):
            affine, code = read(coded=True)
            if affine is not None:
                write(affine @ smaller, code)
        fields["pixdim"][1:] = zooms[1:]  # the first entry is a sign of the qform, which `set_qform` has set
        return self._with(fields)

    def for_samples(self, samples: NDArray[Any]) -> "Header":
        """Return the header for samples of this shape and type."""
        from nibabel.spatialimages import HeaderDataError

        fields, dtype = self.fields, samples.dtype.newbyteorder("=")
        if fields.get_data_shape() == samples.shape and fields.get_data_dtype().newbyteorder("=") == dtype:
            return self
        try:
            fields.set_data_shape(samples.shape)
            fields.set_data_dtype(dtype)
        except HeaderDataError as error:
            raise ValueError(f"NIfTI cannot hold {dtype} of shape {samples.shape}: {error}") from None
        return self._with(fields)

    def _with(self, fields: Any) -> "Header":
        return replace(self, content=fields.binaryblock + self.content[len(fields.binaryblock) :])


def _size_of(content: bytes) -> int:
    """Return the size of a header that its first bytes tell, in either order of bytes."""
    return min(int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))


def check_nibabel(path: str | os.PathLike) -> None:
    """Raise ModuleNotFoundError if nibabel is not installed."""
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise ModuleNotFoundError(
            f"{path} is a file of NIfTI, which needs nibabel: pip install 'calepin[nifti]'"
        ) from None


def read(path: Path, axes: str | None, trusted: bool) -> tuple[NDArray[Any], Header, tuple[str, ...]]:
    """Return the values of a file, its header with the axes, and notes on its scale and what is left out.

    The axes are those that are given, else X, Y, Z and T.

    Raises
    ------
    FileFormatError
        If the file is damaged, declares far more than it holds, or holds colours, complex numbers, or more
        than time beside the three dimensions.
    ModuleNotFoundError
        If nibabel is not installed.
    """
    check_nibabel(path)
    with reading(path, "NIfTI file"), _opened(path) as file:
        content = file.read(4)
        size = _size_of(content)
        if size not in SIZES:
            raise FileFormatError(f"{path} is no NIfTI file: it does not begin with a header")
        content += file.read(size - len(content))
        if len(content) < size:
            raise ValueError(f"it is truncated: expected a header of {size} bytes, got {len(content)}")
        shape, dtype, offset = _checked(Header(content, "").fields)
        check_declared(path, offset + math.prod(shape) * dtype.itemsize, trusted=trusted)
        content += file.read(offset - len(content))
        samples = _read_samples(file, math.prod(shape), dtype).reshape(shape, order="F")
        notes = ["bytes after its samples were left out"] if file.read(1) else []
        header = Header(content, axes or (AXES + MORE)[: len(shape)])
        if header.scale is not None:
            slope, inter = header.scale
            samples = samples * np.float64(slope) + inter
            rounded = "" if dtype.kind == "f" else ", rounded to it"
            notes.append(
                f"its values are {dtype.name} times {slope:.6g} plus {inter:.6g}, a scale in which they are "
                f"also written{rounded}"
            )
        return samples, header, tuple(notes)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, compressed or not, whatever its name."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked  # pyright: ignore[reportReturnType]


def _checked(fields: Any) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape, type and place of the samples that a header declares, after a check."""
    magic = bytes(fields["magic"])[:3]
    if magic in {b"ni1", b"ni2"}:
        raise ValueError("its samples are in another file (.img), expected header and samples in one, .nii")
    if magic not in MAGIC:
        raise ValueError(f"expected the mark n+1 or n+2 in its header, got {magic!r}")
    shape = tuple(int(n) for n in fields.get_data_shape())
    if not 2 <= len(shape) <= 7 or min(shape) < 1:
        raise ValueError(f"it holds an array of shape {shape}, expected axes X, Y, Z and T")
    if math.prod(shape[4:]) > 1:
        raise ValueError(f"it holds an array of shape {shape}, expected at most four axes: X, Y, Z and T")
    dtype = _type_of(fields)
    offset = float(fields["vox_offset"])
    if not len(fields.binaryblock) <= offset < math.inf:
        raise ValueError(f"its samples begin at byte {offset:g} (vox_offset), expected them after the header")
    return shape, dtype, int(offset)


def _type_of(fields: Any) -> np.dtype:
    """Return the type of the samples; raise ValueError for those that are no real numbers of a known type."""
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype = fields.get_data_dtype()
    except (KeyError, HeaderDataError):
        dtype = np.dtype(np.void)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        code = f"samples of the type {int(fields['datatype'])}"
        held = "colours" if dtype.names else "complex numbers" if dtype.kind == "c" else code
        raise ValueError(f"it holds {held}, expected real numbers of up to 64 bits")
    return dtype


def _read_samples(file: IO[bytes], n: int, dtype: np.dtype) -> NDArray[Any]:
    """Return n samples from the place of a file where it stands."""
    samples = np.empty(n, dtype)
    rest = samples.view(np.uint8).data
    while len(rest):
        n_read = file.readinto(rest)  # pyright: ignore[reportAttributeAccessIssue]
        if not n_read:
            held = samples.nbytes - len(rest)
            raise ValueError(f"it is truncated: expected {samples.nbytes} bytes of samples, got {held}")
        rest = rest[n_read:]
    return samples


def write(path: Path, samples: NDArray[Any], axes: str, header: Header | None, compressed: bool) -> None:
    """Write values with the header of the file that they were read from, if there is one.

    Values of a scale (slope and intercept) are rounded to the type and the scale of that file; all others are
    written in their own type. The same values give the same bytes.

    Raises
    ------
    ValueError
        If the axes have no place in the file, its format cannot hold the type, or values that become
        integers are not finite.
    """
    header = Header.of_axes(axes) if header is None else header
    if not set(axes) <= set(header.axes):
        raise ValueError(f"NIfTI holds the axes {', '.join(header.axes)}, got {axes}: it has no colours")
    stored = _in_order(samples, axes, header.axes)
    if header.scale is not None:
        stored = _stored(stored, header.scale, header.fields.get_data_dtype())
    header = header.for_samples(stored)
    dtype = stored.dtype.newbyteorder(header.fields.endianness)
    with path.open("wb") as file, _packed(file, compressed) as out:
        out.write(header.content)
        for part in stored.T:  # the first axis is the fastest
            out.write(np.ascontiguousarray(part, dtype).data)


def _in_order(samples: NDArray[Any], axes: str, wanted: str) -> NDArray[Any]:
    """Return samples with the axes in another order; those that they lack have one sample."""
    missing = "".join(axis for axis in wanted if axis not in axes)
    samples, axes = samples.reshape(*samples.shape, *(1 for _ in missing)), axes + missing
    return samples.transpose([axes.index(axis) for axis in wanted])


def _stored(values: NDArray[Any], scale: tuple[float, float], dtype: np.dtype) -> NDArray[Any]:
    """Return the samples of values with a scale."""
    slope, inter = scale
    samples = (values.astype(np.float64) - inter) / slope
    if dtype.kind == "f":
        return samples.astype(dtype)
    if not np.isfinite(samples).all():
        raise ValueError("values: expected finite numbers for a file of integers, got NaN or infinity")
    limits = np.iinfo(dtype)
    return np.clip(np.rint(samples), limits.min, limits.max).astype(dtype)


@contextmanager
def _packed(file: IO[bytes], compressed: bool) -> Iterator[IO[bytes]]:
    """Yield what writes into a file, compressed without name and time."""
    if not compressed:
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0) as packed:
        yield packed  # pyright: ignore[reportReturnType]
