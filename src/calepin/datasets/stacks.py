"""Several images of one size in one file: pages of a TIFF (also OME and ImageJ), zarr, NIfTI, or .npy.

The samples stay those of the file. A stack is taken apart into planes, each of which becomes an
`calepin.datasets.Image`, and is written again with all planes, their order and the metadata of the file.
"""

import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write, save_array
from calepin.core.paths import NIFTI_FILES, VOLUME_FILES, check_input, check_output, suffix_of
from calepin.core.reading import NPY, check_no_pair, check_not_dicom, read_npy, reading
from calepin.datasets import _nifti, _zarr
from calepin.datasets._tiff import count_pages, quiet_tifffile
from calepin.datasets._tiff_stacks import (
    OME_LEFT_OUT,
    OPACITY,
    PREMULTIPLIED,
    Page,
    read_tiff,
    write_tiff,
)

__all__ = [
    "STACK_FILES",
    "Stack",
    "check_stack_path",
    "count_planes",
    "holds_stack",
    "is_zarr",
    "read_stack",
    "type_of_samples",
    "write_stack",
]

STACK_FILES = (".tif", ".tiff", ".npy", *VOLUME_FILES)
"""The suffixes of stacks that can be read and written."""

TIFF = {b"II", b"MM"}
LETTERS = re.compile(r"[A-Z]+")


@dataclass(frozen=True)
class Stack:
    """Images of one size, in the samples of their file.

    Attributes
    ----------
    samples : array, shape as in `axes`
        Integers or floats, as in the file.
    axes : str
        A letter for each axis: T time, C channels, Z depth, Y and X, S the samples of a colour; others, as
        I or Q of tifffile, are pages of unknown meaning.
    pages : tuple of Page
        Metadata of the planes of a TIFF, in the order of `planes`; empty for other files.
    factors : tuple of int
        How many times smaller than the planes the levels of a pyramid in a TIFF are. They are computed from
        the planes when a TIFF is written.
    attributes : dict
        Attributes of a zarr file.
    notes : tuple of str
        What the file holds and was not read.
    layout : object, optional
        Format, chunks and compression of a zarr file.
    header : object, optional
        Header and extensions of a NIfTI file.
    """

    samples: NDArray[Any]
    axes: str
    pages: tuple[Page, ...] = ()
    factors: tuple[int, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    layout: _zarr.Layout | None = None
    header: _nifti.Header | None = None

    @property
    def leading(self) -> str:
        """The axes that count planes: all but Y, X and S."""
        return "".join(axis for axis in self.axes if axis not in "YXS")

    @property
    def _order(self) -> list[int]:
        """Places of the axes: the leading ones, Y, X and S."""
        return [self.axes.index(axis) for axis in (*self.leading, *"YX", *("S" * ("S" in self.axes)))]

    @property
    def planes(self) -> NDArray[Any]:
        """The planes (n, h, w), or (n, h, w, s) for colours, ordered by the leading axes."""
        ordered = self.samples.transpose(self._order)
        n_leading = len(self.leading)
        return ordered.reshape(-1, *ordered.shape[n_leading:])

    def with_planes(self, planes: NDArray[Any]) -> "Stack":
        """Return the stack with other planes, of the same shape; their type may be another."""
        ordered = planes.reshape([self.samples.shape[k] for k in self._order])
        return replace(self, samples=ordered.transpose(np.argsort(self._order)))

    def with_other_planes(self, planes: NDArray[Any]) -> tuple["Stack", tuple[str, ...]]:
        """Return the stack with as many planes (n, h, w) or (n, h, w, s) of another size or colour.

        Notes say which metadata are left out, because they would not be true any more.
        """
        before = self.planes
        if planes.shape == before.shape:
            return self.with_planes(planes), ()
        sizes = [self.samples.shape[self.axes.index(axis)] for axis in self.leading]
        axes = self.leading + "YX" + "S" * (planes.ndim == 4)
        samples = planes.reshape(*sizes, *planes.shape[1:])
        scale = planes.shape[1] / before.shape[1], planes.shape[2] / before.shape[2]
        pages = tuple(page.resized(scale, axes, samples.shape) for page in self.pages)
        attributes, notes = self.attributes, []
        if _zarr.is_ome(attributes):
            attributes = {}
            notes.append("the attributes of OME-Zarr, which name the size of pixels, were left out")
        made = (
            note for old, new in zip(self.pages, pages, strict=True) for note in new.notes[len(old.notes) :]
        )
        notes += dict.fromkeys(made)
        if any(old.is_ome and not new.is_ome for old, new in zip(self.pages, pages, strict=True)):
            notes.append(OME_LEFT_OUT)
        header = None if self.header is None else self.header.scaled(scale)
        changed = {"pages": pages, "attributes": attributes, "header": header}
        return replace(self, samples=samples, axes=axes, **changed), tuple(notes)


def count_planes(path: str | os.PathLike) -> int:
    """Return the number of images in a file, 1 for a file that is no stack or cannot be read.

    Raises
    ------
    FileFormatError
        If it is one of a pair of NIfTI, before others ask for the name of an image.
    """
    if is_zarr(path):
        return 2  # an array of the file may be a single plane, but only a stack can hold it
    path = check_input(path, "an image")
    check_no_pair(path)
    if holds_stack(path):
        return 2
    with path.open("rb") as file:
        start = file.read(len(NPY))
        if start == NPY:
            array = read_npy(path, memory_map=True)
            is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] <= 4)
            return 1 if is_image or array.ndim < 2 else max(array.size // math.prod(array.shape[-2:]), 2)
        if start[:2] not in TIFF:
            return 1
        import tifffile

        file.seek(0)
        with quiet_tifffile():
            try:
                with tifffile.TiffFile(file) as tiff:
                    return max(count_pages(tiff), 1)
            except Exception:  # `read_image` says what is wrong
                return 1


def type_of_samples(path: str | os.PathLike) -> np.dtype | None:
    """Return the type of the samples, as the header of .npy, TIFF, PNG or JPEG tells, else None."""
    path = Path(path)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(25)
        try:
            if start[: len(NPY)] == NPY:
                return read_npy(path, memory_map=True).dtype
            if start[:4] == b"\x89PNG" or start[:3] == b"\xff\xd8\xff":
                return np.dtype(np.uint16 if start[1] == ord("P") and start[24] == 16 else np.uint8)
            if start[:2] in TIFF:
                import tifffile

                file.seek(0)
                with quiet_tifffile(), tifffile.TiffFile(file) as tiff:
                    return tiff.pages.first.dtype
        except Exception:  # `read_image` says what is wrong
            return None
    return None


def is_zarr(path: str | os.PathLike) -> bool:
    """Return whether a path is a folder of zarr."""
    return Path(path).suffix == ".zarr" and Path(path).is_dir()


def holds_stack(path: str | os.PathLike) -> bool:
    """Return whether a path is of a format that only stacks have: a folder of zarr, or NIfTI."""
    return is_zarr(path) or suffix_of(path) in NIFTI_FILES


def read_stack(
    path: str | os.PathLike,
    *,
    axes: str | None = None,
    default_axes: str | None = None,
    trusted: bool = False,
) -> Stack:
    """Return all images of a file.

    Parameters
    ----------
    path : path
        A TIFF, OME-TIFF or TIFF of ImageJ, an .npy array, a folder .zarr with an array or with OME-Zarr,
        of which the largest resolution is read, or NIfTI, .nii or .nii.gz, whose axes are X, Y, Z and T and
        whose samples are the values of its scale (``scl_slope``, ``scl_inter``).
    axes : str, optional
        A letter for each axis, such as "TYX" or "ZYX". Default: those that the file tells.
    default_axes : str, optional
        The axes of a file that tells none, as an array.
    trusted : bool, default False
        Read a file that declares far more than it holds; see `calepin.core.reading`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    FileFormatError
        If the file is damaged or of another format, its images differ in size, or an array has no axes.
    ModuleNotFoundError
        If the file needs zarr or nibabel, which is not installed.
    ValueError
        If `axes` or `default_axes` do not fit the array.
    """
    for name, letters in (("axes", axes), ("default_axes", default_axes)):
        if letters is not None:
            _check_axes(name, letters)
    if is_zarr(path):
        samples, known, attributes, layout, notes = _zarr.read(path, axes, default_axes)
        return _checked(path, samples, known, attributes=attributes, layout=layout, notes=notes)
    path = check_input(path, "a stack of images")
    check_no_pair(path)
    if suffix_of(path) in NIFTI_FILES:
        samples, header, notes = _nifti.read(path, axes, trusted)
        return _checked(path, samples, header.axes, header=header, notes=notes)
    with path.open("rb") as file:
        check_not_dicom(path, file)
        start = file.read(len(NPY))
    if start == NPY:
        return _checked(path, read_npy(path), axes or default_axes)
    if start[:2] not in TIFF:
        raise FileFormatError(f"{path} is no stack of images: expected TIFF, .npy, .zarr or NIfTI")
    with reading(path, "stack of images"), quiet_tifffile():
        samples, known, pages, factors, notes = read_tiff(path, trusted)
    if axes is not None and any(axes.find(letter) != known.find(letter) for letter in "YXS"):
        # other planes than those of the file, as samples of a pixel that become channels
        pages, factors = (), ()
        notes = (*notes, f"the metadata of its pages, whose axes are {known}, was left out")
    return _checked(path, samples, axes or known, pages=pages, factors=factors, notes=notes)


def _check_axes(name: str, axes: Any) -> None:
    right = isinstance(axes, str) and LETTERS.fullmatch(axes) and len(set(axes)) == len(axes)
    if not right or not {"Y", "X"} <= set(axes):
        raise ValueError(f"{name}: expected letters with Y and X, such as ZYX or TCYX, got {axes!r}")


def _checked(path: Any, samples: NDArray[Any], axes: str | None, **kept: Any) -> Stack:
    """Return a stack, after a check of the axes and the type of its samples."""
    if axes is None:
        raise FileFormatError(
            f"{path} holds an array of shape {samples.shape}: expected axes for it, such as ZYX or TYX "
            "(axes, on the command line --axes)"
        )
    n_samples = samples.shape[axes.index("S")] if "S" in axes and len(axes) == samples.ndim else 3
    if n_samples == 2:
        extra = next((page.settings.get("extrasamples") for page in kept.get("pages", ())), None)
        second = "alpha" if extra and extra[0] in {PREMULTIPLIED, OPACITY} else "an extra channel"
        raise FileFormatError(
            f"{path} holds two samples a pixel, gray and {second}: expected gray or colour, or axes that "
            f"name them channels, such as {_with_channels(axes)}"
        )
    if len(axes) != samples.ndim or n_samples not in {3, 4}:
        sizes = " x ".join(str(size) for size in samples.shape)
        raise ValueError(f"axes: expected a letter for each axis of {path} ({sizes}), got {axes!r}")
    if 0 in samples.shape:
        raise FileFormatError(f"{path} holds an array of shape {samples.shape}, expected at least one sample")
    if samples.dtype.kind not in "iuf":
        raise FileFormatError(f"{path} holds {samples.dtype} of shape {samples.shape}, expected real numbers")
    return Stack(samples, axes, **kept)


def _with_channels(axes: str) -> str:
    """Return axes in which the samples of a pixel are channels, and pages of unknown meaning times."""
    named = axes.replace("S", "Q" if "C" in axes else "C")
    return named if "T" in named else re.sub("[IQ]", "T", named, count=1)


def check_stack_path(path: str | os.PathLike) -> None:
    """Raise ValueError for a name that is none of a stack, before a long computation."""
    if suffix_of(path) not in STACK_FILES:
        names = ", ".join(STACK_FILES)
        raise ValueError(f"cannot write {path}: a stack needs a name that ends in {names}")
    if suffix_of(path) in NIFTI_FILES:
        _nifti.check_nibabel(path)


def write_stack(path: str | os.PathLike, stack: Stack) -> tuple[str, ...]:
    """Write all planes of a stack in the format of the suffix, and return what it cannot hold.

    A TIFF keeps the order of its pages and of its bytes, tiles and a lossless compression, descriptions (OME,
    ImageJ), resolutions, times and profile, and the levels of a pyramid in sub-IFDs, whose pixels become
    means of those of the planes. A .zarr keeps the version of its format, the sizes of chunks and shards,
    compressors, the fill value, the order of bytes, and attributes; not filters. NIfTI keeps header,
    extensions and order of bytes; samples in units of a scale are rounded to it. An existing file is replaced
    only after the new one is complete; a folder .zarr is never replaced.

    Raises
    ------
    ValueError
        If the suffix is another, samples are NaN, or NIfTI cannot hold axes or type of the samples.
    FileExistsError
        If a folder .zarr exists.
    """
    suffix = suffix_of(path)
    if suffix == ".zarr":
        _zarr.write(path, stack.samples, stack.axes, stack.attributes, stack.layout)
        return _lost(suffix, stack)
    check_output(path, *(name for name in STACK_FILES if name != ".zarr"))
    if suffix == ".npy":
        save_array(path, np.ascontiguousarray(stack.samples))
        return _lost(suffix, stack)
    if suffix in NIFTI_FILES:
        _nifti.check_nibabel(path)
    with atomic_write(path) as temporary:
        if suffix in NIFTI_FILES:
            _nifti.write(temporary, stack.samples, stack.axes, stack.header, suffix == ".nii.gz")
        else:
            order = stack._order
            axes, shape = zip(*((stack.axes[k], stack.samples.shape[k]) for k in order), strict=True)
            write_tiff(temporary, stack.planes, "".join(axes), shape, stack.pages, stack.factors)
    return _lost(suffix, stack)


def _lost(suffix: str, stack: Stack) -> tuple[str, ...]:
    """Return what a format cannot hold of the metadata of a stack."""
    lost = []
    if stack.header is not None and suffix not in NIFTI_FILES:
        lost.append(f"{suffix} is written without the header of NIfTI, which says where voxels lie")
    if suffix in NIFTI_FILES and any(page.is_described for page in stack.pages):
        lost.append(f"{suffix} is written without the description and resolution of the TIFF")
    return tuple(lost)
