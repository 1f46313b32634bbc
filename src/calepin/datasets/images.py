"""Reading and writing of images; bit depth, colour, alpha, profile, EXIF and tags of TIFF are preserved.

Pixels are floats between 0 (black) and 1 (white). An 8-bit value v becomes v / 255, a 16-bit value v / 65535.
Files with other samples (floats outside [0, 1], signed or 32-bit integers) need a range (black, white), and a
sample v becomes (v - black) / (white - black); `Image.levels` keeps these units for writing.
"""

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from calepin.core.checks import check_one_of, is_number
from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write, save_array
from calepin.core.paths import ARRAY_FILES, IMAGE_FILES, NIFTI_FILES, check_input, check_output, suffix_of
from calepin.core.reading import (
    NPY,
    check_declared,
    check_no_pair,
    check_not_dicom,
    read_npy,
    reading,
    trusts,
)

if TYPE_CHECKING:
    from calepin.datasets._tiff_stacks import Page

__all__ = [
    "SUFFIXES",
    "Image",
    "Levels",
    "as_image",
    "as_samples",
    "automatic_range",
    "check_image_path",
    "check_range",
    "read_image",
    "write_image",
]

BAND = 256
DARKEST = 1 / 65535  # floats whose largest is less are no image between 0 and 1, but have units of their own
LARGEST_SEGMENT = 65533  # bytes of EXIF in a JPEG
SUFFIXES = IMAGE_FILES
LEFT_OUT = {"xmp": "XMP", "photoshop": "IPTC", "comment": "comment"}  # metadata of JPEG, as Pillow names them
INTERPRETED = {"EPS", "WMF"}  # formats that Pillow decodes by running other programs


@dataclass(frozen=True)
class Levels:
    """The units of a file: its samples of black and white, and their type.

    Attributes
    ----------
    black, white : float
        Samples that become pixels 0 and 1.
    dtype : str
        NumPy type of the samples.
    """

    black: float
    white: float
    dtype: str

    @property
    def unit(self) -> float:
        """Difference of samples between black and white."""
        return self.white - self.black

    def samples(self, pixels: NDArray[np.floating]) -> NDArray[Any]:
        """Return pixels as samples of the file; integers are rounded and clipped, floats are not."""
        values = self.black + self.unit * pixels.astype(np.float64)
        if np.dtype(self.dtype).kind == "f":
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(self.dtype)


@dataclass(frozen=True)
class Image:
    """Pixels in [0, 1], and the properties of the file that are preserved on writing.

    Attributes
    ----------
    pixels : float array, shape (h, w) or (h, w, 3)
        Gray or colour pixels. Values outside [0, 1], for example after adding noise, are clipped when the
        image is written, unless `levels` are of floating point.
    bits : int, default 8
        Bits per channel in a file: 8, 16, or 32 and more for floating point and other samples.
    alpha : float array, shape (h, w), optional
        Opacity in [0, 1].
    icc_profile : bytes, optional
        Colour profile.
    notes : tuple of str, default ()
        Descriptions of the conversions that were made when the image was read.
    levels : Levels, optional
        Units of the file, if it was read with a range. Default: black is 0, white the largest integer or 1.
    page : Page, optional
        Metadata of a TIFF: description (OME, ImageJ), resolution, date, software, and how samples are
        stored. They are written to another TIFF of the same size; ``page.scaled(factors)`` returns those of
        a larger image of the same field.
    exif : bytes, optional
        EXIF of a JPEG or PNG, without the orientation that was applied.
    """

    pixels: NDArray[np.floating]
    bits: int = 8
    alpha: NDArray[np.floating] | None = None
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()
    levels: Levels | None = None
    page: "Page | None" = None
    exif: bytes | None = None


def read_image(
    path: str | os.PathLike,
    *,
    value_range: tuple[float, float] | str | None = None,
    missing: Literal["error", "allow"] = "error",
    trusted: bool = False,
) -> Image:
    """Return a gray or colour image from a file (PNG, TIFF, JPEG, .npy, and other formats of Pillow).

    Palettes and CMYK are converted to RGB, and the orientation tag of a camera is applied. `Image.notes`
    describes these conversions. Files of several pages are read by `calepin.datasets.read_stack`.

    Parameters
    ----------
    path : path
        The file to read.
    value_range : (float, float), "data" or "auto", optional
        Samples of black and white; "data" takes the smallest and the largest sample. Needed for floats
        outside [0, 1] and for integers other than those of 8 or 16 bits without a sign: for these "auto"
        takes 0, or the smallest sample if it is below, and the largest, and `Image.notes` says so; also for
        floats in [0, 1] that are all below 1/65535.
    missing : {"error", "allow"}, default "error"
        What NaN among floats is: an error, or missing pixels, which stay NaN.
    trusted : bool, default False
        Read a file that declares far more pixels than it holds; see `calepin.core.reading`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    FileFormatError
        If the path is a folder or a special file, the file is empty, damaged or of an unknown format, holds
        several pages, NaN, or declares far more than it holds, or its samples need a `value_range`.
    ValueError
        If `value_range` is not an increasing pair of numbers, or `missing` another word.
    """
    from calepin.datasets._png16 import is_deep
    from calepin.datasets._tiff import is_deep_tiff, quiet_tifffile
    from calepin.datasets._tiff_stacks import page_of_image

    check_range(value_range)
    check_one_of("missing", missing, ("error", "allow"))
    path = check_input(path, "an image")
    check_no_pair(path)
    if suffix_of(path) in NIFTI_FILES:
        raise FileFormatError(f"{path} holds a volume of NIfTI, expected one image (read_stack reads it)")
    with path.open("rb") as file, reading(path, "image"):
        check_not_dicom(path, file)
        start = file.read(26)
        if not start:
            raise FileFormatError(f"{path} is empty, expected an image")
        scale = partial(as_image, value_range=value_range, missing=missing)
        told: tuple[str, ...] = ()
        if start[: len(NPY)] == NPY:
            return scale(read_npy(path))
        read = _read_deep_png if is_deep(start) else _read_by_pillow
        is_tiff = start[:2] in {b"II", b"MM"}
        with quiet_tifffile(), _any_size(trusts(trusted)):
            if is_tiff:
                deep, told = is_deep_tiff(file)
                read = _read_deep_tiff if deep else read
            file.seek(0)
            with _quiet_stderr(is_tiff and read is _read_by_pillow):
                image = read(file, partial(check_declared, path, trusted=trusted), scale)
            if is_tiff:
                page, lost = page_of_image(file, read is _read_by_pillow)
                image, told = replace(image, page=page), (*told, *lost)
        return replace(image, notes=(*image.notes, *told))


def check_range(value_range: Any) -> None:
    """Raise ValueError unless the samples of black and white are None, "data", or an increasing pair."""
    if value_range is None or (isinstance(value_range, str) and value_range in {"data", "auto"}):
        return
    pair = tuple(value_range) if isinstance(value_range, tuple | list | np.ndarray) else ()
    if len(pair) != 2 or not all(map(is_number, pair)) or not pair[0] < pair[1]:
        raise ValueError(
            f"value_range: expected (black, white) with black < white, 'data' or 'auto', got {value_range!r}"
        )


_one_at_a_time = threading.RLock()  # for what is changed in the whole process


@contextmanager
def _quiet_stderr(quiet: bool) -> Iterator[None]:
    """Keep the lines that libtiff, in Pillow, writes about damaged files away from stderr.

    They come from C, without a logger, so that stderr of the whole process is closed for a moment.
    """
    try:
        before = os.dup(2) if quiet else None
    except OSError:  # this process has no stderr
        before = None
    if before is None:
        yield
        return
    with _one_at_a_time:
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


@contextmanager
def _any_size(lifted: bool) -> Iterator[None]:
    """Lift Pillow's own limit of pixels, which belongs to the whole process, for a trusted file."""
    if not lifted:
        yield
        return
    from PIL import Image as PILImage

    with _one_at_a_time:
        before, PILImage.MAX_IMAGE_PIXELS = PILImage.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PILImage.MAX_IMAGE_PIXELS = before


# A reader takes the open file, a function that checks the number of declared bytes, and `as_image`.
Check = Callable[[int], None]
Scale = Callable[..., Image]


def _read_deep_png(file: IO[bytes], check: Check, scale: Scale) -> Image:
    from calepin.datasets._png16 import read_deep

    file.seek(16)
    width, height = struct.unpack(">II", file.read(8))
    check(8 * width * height)
    channels, profile = read_deep(file)
    return scale(channels, icc_profile=profile)


def _read_by_pillow(file: IO[bytes], check: Check, scale: Scale) -> Image:
    from PIL import Image as PILImage
    from PIL import ImageOps, UnidentifiedImageError

    from calepin.datasets._tiff import check_one_page

    notes = []
    try:
        opened = PILImage.open(file)
    except UnidentifiedImageError:
        raise ValueError("no known image format") from None
    with opened as image:
        if image.format in INTERPRETED:
            raise ValueError(f"it is a program in the format {image.format}, expected pixels")
        sample = 4 if image.mode in {"I", "F"} else 2 if "16" in image.mode else 1
        check(image.width * image.height * len(image.getbands()) * sample)
        if image.format not in {"TIFF", "MPO"}:  # an MPO adds previews, or views of the same scene
            check_one_page(
                getattr(image, "n_frames", 1), "animations are not read; TIFF, .npy and zarr hold stacks"
            )
        inverted = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(262) == 0
        profile = image.info.get("icc_profile")
        orientation = image.getexif().get(0x0112, 1)
        if orientation != 1:
            notes.append("the orientation tag was applied")
        upright: Any = ImageOps.exif_transpose(image)
        exif = upright.info.get("exif") if upright.getexif() else None
        if "exif" in image.info and not image.getexif():
            notes.append("its EXIF, which cannot be read, was left out")
        left = [name for key, name in LEFT_OUT.items() if key in image.info]
        if image.format in {"JPEG", "MPO"} and left:
            notes.append(f"metadata of the JPEG were left out: {', '.join(left)}")
        if upright.mode == "1":
            upright = upright.convert("L")
        elif upright.mode in {"P", "PA"}:
            transparent = "transparency" in upright.info or upright.mode == "PA"
            upright = upright.convert("RGBA" if transparent else "RGB")
            notes.append("the palette was converted to colour")
        elif upright.mode in {"CMYK", "YCbCr", "LAB", "HSV"}:
            notes.append(f"{upright.mode} was converted to RGB")
            upright, profile = upright.convert("RGB"), None
        channels = np.asarray(upright)
    # 16-bit gray is of 32 bits in some versions of Pillow
    if channels.dtype == np.int32 and channels.size and channels.min() >= 0 and channels.max() <= 65535:
        channels = channels.astype(np.uint16)
    if channels.dtype == np.uint16 and inverted:  # Pillow inverts only 8 bits
        channels = 65535 - channels
    found = scale(channels, icc_profile=profile, notes=tuple(notes))
    return replace(found, exif=exif) if isinstance(exif, bytes) else found


def _read_deep_tiff(file: IO[bytes], check: Check, scale: Scale) -> Image:
    import tifffile

    from calepin.datasets._tiff import read_page

    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages.first
        check(page.size * -(-page.bitspersample // 8))
        channels = read_page(file, page, check)
        if page.photometric == 0:  # 0 is white
            if channels.dtype.kind != "u":
                raise ValueError("floating point with an inverted scale is not supported")
            channels = np.iinfo(channels.dtype).max - channels
        profile = page.tags.get(34675)
        return scale(channels, icc_profile=profile and profile.value)


def as_image(
    channels: NDArray[Any],
    *,
    value_range: tuple[float, float] | str | None = None,
    missing: Literal["error", "allow"] = "error",
    icc_profile: bytes | None = None,
    notes: tuple[str, ...] = (),
) -> Image:
    """Return the image of the samples of a file: scaled to [0, 1], the alpha channel apart.

    Parameters
    ----------
    channels : array (h, w) or (h, w, c)
        Integers or floats; one to four channels, of which the second or fourth is opacity.
    value_range, missing
        As for `read_image`.
    icc_profile, notes
        Kept in the image.

    Raises
    ------
    ValueError
        If the array has another shape or type, holds NaN, or its samples need a `value_range`.
    """
    if channels.ndim == 2:
        channels = channels[:, :, None]
    if channels.ndim != 3 or channels.shape[2] not in {1, 2, 3, 4} or 0 in channels.shape:
        raise ValueError(f"it holds an array of shape {channels.shape}, expected one gray or colour image")
    if channels.dtype.kind not in "iuf" or channels.dtype.itemsize > 8:
        raise ValueError(f"its samples are {channels.dtype}, expected integers or floats of up to 64 bits")
    channels = channels.astype(channels.dtype.newbyteorder("="), copy=False)
    if channels.dtype.kind == "f":
        _check_finite(channels, missing)
    bits = channels.dtype.itemsize * 8
    n_colours = 1 if channels.shape[2] <= 2 else 3
    has_alpha = channels.shape[2] != n_colours
    levels = None
    if isinstance(value_range, str) and value_range == "auto":
        value_range, told = automatic_range(channels[:, :, :n_colours])
        notes = (*notes, *told)
    if value_range is None:
        if channels.dtype.kind == "f" and bits != 32:
            notes = (*notes, f"floats of {bits} bits are written with 32")
        scaled = _in_full_range(channels)
        bits = 32 if channels.dtype.kind == "f" else bits
        pixels, alpha = scaled[:, :, :n_colours], scaled[:, :, -1]
    else:
        levels = _levels(channels[:, :, :n_colours], value_range)
        precise = (
            np.float64
            if channels.dtype.name in {"float64", "int32", "uint32", "int64", "uint64"}
            else np.float32
        )
        scaled = (channels[:, :, :n_colours].astype(np.float64) - levels.black) / levels.unit
        pixels = scaled.astype(precise)
        alpha = _in_full_range(channels[:, :, -1]) if has_alpha else pixels
    pixels = pixels[:, :, 0] if n_colours == 1 else pixels
    kept = np.ascontiguousarray(alpha) if has_alpha else None
    return Image(np.ascontiguousarray(pixels), bits, kept, icc_profile, notes, levels)


def automatic_range(samples: NDArray[Any]) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return the range that "auto" means for samples, and a note on it; None where no range is needed."""
    low, high = float(np.nanmin(samples)), float(np.nanmax(samples))
    dtype = samples.dtype.newbyteorder("=")  # a zarr array or .npy may have another order of bytes
    usual = low >= 0 and (DARKEST <= high <= 1 or high == 0)
    if dtype in (np.uint8, np.uint16) or (dtype.kind == "f" and usual):
        return None, ()
    black = min(low, 0.0)
    white = high if high > black else black + 1
    note = f"samples are {dtype} from {low:.6g} to {high:.6g}: noise levels are in these units"
    return (black, white), (note,)


def _check_finite(channels: NDArray[np.floating], missing: str) -> None:
    bad = ~np.isfinite(channels)
    if missing == "allow":
        if np.isnan(channels).all():
            raise ValueError("all of its samples are NaN")
        bad &= ~np.isnan(channels)
    if bad.any():
        n = np.count_nonzero(bad)
        if missing == "allow":
            raise ValueError(f"{n} of its samples are infinite: missing pixels are NaN, or marked by a mask")
        hint = ": missing pixels are filled by calepin inpaint" * bool(np.isnan(channels[bad]).any())
        raise ValueError(f"{n} of its samples are NaN or infinite{hint}")


def _in_full_range(channels: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples between 0 and the largest integer, or 1, as numbers in [0, 1]."""
    if channels.dtype in (np.uint8, np.uint16):
        return channels.astype(np.float32) / np.float32(2 ** (8 * channels.dtype.itemsize) - 1)
    scaled = channels.astype(np.float32)
    low, high = np.nanmin(scaled), np.nanmax(scaled)
    way_out = "a range of samples (value_range, on the command line --range LO:HI or --range data)"
    if channels.dtype.kind != "f":
        raise ValueError(
            f"its samples are {channels.dtype} from {low:.9g} to {high:.9g}, expected 8 or 16 bits without "
            f"a sign, floats in [0, 1], or {way_out}"
        )
    if low < 0 or high > 1:
        raise ValueError(f"its floats lie in [{low:.4g}, {high:.4g}], expected [0, 1], or {way_out}")
    return scaled


def _levels(samples: NDArray[Any], value_range: tuple[float, float] | str) -> Levels:
    if isinstance(value_range, str):
        black, white = float(np.nanmin(samples)), float(np.nanmax(samples))
        white = white if white > black else black + 1  # a constant image is black
    else:
        black, white = (float(value) for value in value_range)
    if not np.isfinite(white - black):
        raise ValueError(f"its samples from {black:.4g} to {white:.4g} are too large")
    return Levels(black, white, samples.dtype.name)


def check_image_path(path: str | os.PathLike, *, arrays: bool = False) -> None:
    """Raise the errors of `write_image` for an invalid path, to be called before a long computation.

    Parameters
    ----------
    path : path
        The file to write.
    arrays : bool, default False
        Whether .npy is allowed.

    Raises
    ------
    ValueError
        If the suffix is unknown, or the path is a device, a pipe or a socket.
    IsADirectoryError
        If the path is a folder.
    FileNotFoundError
        If the folder of the file does not exist.
    PermissionError
        If the file or its folder is read-only.
    """
    check_output(path, *SUFFIXES, *(ARRAY_FILES if arrays else ()))


def write_image(path: str | os.PathLike, image: Image) -> tuple[str, ...]:
    """Write an image in the format of its suffix, and return descriptions of what the format cannot store.

    PNG stores 8 and 16 bits, TIFF and .npy all samples, JPEG 8 bits without alpha (quality 95, full colour
    resolution). Samples in units of their own (`Image.levels`) keep them where the format can store their
    type. TIFF keeps the metadata of the TIFF that was read (`Image.page`), as `write_stack` does, JPEG and
    8-bit PNG keep EXIF, without its thumbnail. An existing file is replaced only after the new one is
    complete.

    Raises
    ------
    ValueError
        If the suffix is unknown, the shape is not that of an image, or pixels are NaN or infinite.
    """
    check_image_path(path, arrays=True)
    suffix = Path(path).suffix.lower()
    pixels, alpha, bits, levels = image.pixels, image.alpha, image.bits, image.levels
    if pixels.ndim not in {2, 3} or (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
        raise ValueError(f"pixels: expected shape (h, w) or (h, w, 3), got {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ValueError("pixels holds NaN or infinite values, expected numbers in [0, 1]")
    losses = []
    if levels is not None and not _stores(suffix, levels.dtype):
        name, top = ("JPEG", 255) if suffix in {".jpg", ".jpeg"} else ("PNG", 65535)
        losses.append(
            f"{name} cannot store {levels.dtype}, {levels.black:g} to {levels.white:g} "
            f"was scaled to 0 to {top}"
        )
        levels, bits = None, 8 if top == 255 else 16
    if suffix in {".jpg", ".jpeg"}:
        if bits > 8:
            losses.append(f"JPEG stores 8 bits per channel, the image has {bits}")
        if alpha is not None:
            losses.append("JPEG has no alpha channel, it was dropped")
        bits, alpha = 8, None
    elif suffix == ".png" and bits == 32:
        losses.append("PNG cannot store floating point, 16 bits were written")
        bits = 16
    if image.page is not None and image.page.is_described and suffix not in {".tif", ".tiff"}:
        losses.append(f"{suffix} is written without the description and resolution of the TIFF")
    channels = as_samples(Image(pixels, bits, alpha, levels=levels))
    exif = None
    if image.exif is not None:
        keeps = suffix in {".png", ".jpg", ".jpeg"} and channels.dtype == np.uint8
        exif = _exif_of_size(image.exif, channels.shape, suffix) if keeps else None
        losses += [] if exif else ["the EXIF of the image was left out"]
    if suffix in ARRAY_FILES:
        save_array(path, channels[:, :, 0] if channels.shape[2] == 1 else channels)
        return tuple(losses)
    with atomic_write(path) as temporary:
        if suffix in {".tif", ".tiff"}:
            from calepin.datasets._tiff_stacks import write_image_tiff

            has_alpha = alpha is not None
            losses += write_image_tiff(temporary, channels, image.page, has_alpha, image.icc_profile)
        elif channels.dtype == np.uint16:
            from calepin.datasets._png16 import write_deep

            write_deep(temporary, channels, image.icc_profile)
        else:
            _write_by_pillow(temporary, channels, image.icc_profile, exif)
    return tuple(losses)


def as_samples(image: Image) -> NDArray[Any]:
    """Return the samples (h, w, channels) of an image for a file: the inverse of `as_image`.

    Pixels outside the range of an integer type are clipped, as are floats without `levels`.
    """
    if image.levels is None:
        return _quantise(image.pixels, image.alpha, image.bits)
    return _in_units(image.pixels, image.alpha, image.levels)


def _stores(suffix: str, dtype: str) -> bool:
    """Return whether a format stores samples of a type."""
    if suffix == ".png":
        return dtype in {"uint8", "uint16"}
    return dtype == "uint8" if suffix in {".jpg", ".jpeg"} else True


def _in_units(
    pixels: NDArray[np.floating], alpha: NDArray[np.floating] | None, levels: Levels
) -> NDArray[Any]:
    """Return the samples (h, w, channels) in the units of the file; opacity in the full range of the type."""
    channels = levels.samples(pixels.reshape(*pixels.shape[:2], -1))
    if alpha is None:
        return channels
    top = 1 if channels.dtype.kind == "f" else np.iinfo(channels.dtype).max
    opacity = Levels(0, top, levels.dtype).samples(alpha[:, :, None])
    return np.concatenate([channels, opacity], axis=2)


def _quantise(pixels: NDArray[np.floating], alpha: NDArray[np.floating] | None, bits: int) -> NDArray[Any]:
    """Return the samples (h, w, channels) for a file, computed in bands of rows to save memory."""
    n_colours = 1 if pixels.ndim == 2 else 3
    dtype = {8: np.uint8, 16: np.uint16, 32: np.float32}[bits]
    channels = np.empty((*pixels.shape[:2], n_colours + (alpha is not None)), dtype)
    for start in range(0, len(pixels), BAND):
        rows = slice(start, start + BAND)
        for values, into in ((pixels, slice(0, n_colours)), (alpha, slice(n_colours, None))):
            if values is not None:
                band = np.clip(values[rows], 0, 1).reshape(*channels[rows, :, into].shape)
                channels[rows, :, into] = band if bits == 32 else np.rint(band * (2**bits - 1))
    return channels


def _exif_of_size(block: bytes, shape: tuple[int, ...], suffix: str) -> bytes | None:
    """Return EXIF for an image of a shape, without a thumbnail; None if it is damaged or too long."""
    from PIL import Image as PILImage

    exif = PILImage.Exif()
    try:
        exif.load(block)
        for tags, names in ((exif, (0x0101, 0x0100)), (exif.get_ifd(0x8769), (0xA003, 0xA002))):
            tags.update({name: n for name, n in zip(names, shape, strict=False) if name in tags})
        written = exif.tobytes()
    except Exception:  # damaged in any way
        return None
    return None if suffix != ".png" and len(written) > LARGEST_SEGMENT else written


def _write_by_pillow(
    path: Path, channels: NDArray[np.uint8], icc_profile: bytes | None, exif: bytes | None
) -> None:
    from PIL import Image as PILImage

    image = PILImage.fromarray(channels[:, :, 0] if channels.shape[2] == 1 else channels)
    # quality and subsampling only affect JPEG
    kept: dict[str, Any] = {} if exif is None else {"exif": exif}
    image.save(path, quality=95, subsampling=0, icc_profile=icc_profile, **kept)
