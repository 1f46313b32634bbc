"""Reading and writing of images; bit depth, colour, alpha and colour profile are preserved.

Pixels are float32 between 0 (black) and 1 (white). An 8-bit value v becomes v / 255, a 16-bit value
v / 65535. Floating-point TIFF files must have values in [0, 1].
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write
from calepin.core.paths import IMAGE_FILES, check_output

__all__ = ["SUFFIXES", "Image", "check_image_path", "read_image", "write_image"]

BAND = 256
SUFFIXES = IMAGE_FILES


@dataclass(frozen=True)
class Image:
    """Pixels in [0, 1], and the properties of the file that are preserved on writing.

    Attributes
    ----------
    pixels : float array, shape (h, w) or (h, w, 3)
        Gray or colour pixels. Values outside [0, 1], for example after adding noise, are clipped when the
        image is written.
    bits : int, default 8
        Bits per channel in a file: 8, 16, or 32 for floating point (TIFF only).
    alpha : float array, shape (h, w), optional
        Opacity in [0, 1].
    icc_profile : bytes, optional
        Colour profile.
    notes : tuple of str, default ()
        Descriptions of the conversions that were made when the image was read.
    """

    pixels: NDArray[np.floating]
    bits: int = 8
    alpha: NDArray[np.floating] | None = None
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()


def read_image(path: str | os.PathLike) -> Image:
    """Read a gray or colour image (PNG, TIFF, JPEG, and other formats of Pillow).

    Palettes and CMYK are converted to RGB, the orientation tag of a camera is applied, and of several pages
    the first is read. `Image.notes` describes these conversions.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    FileFormatError
        If the path is a folder, the file is empty, truncated or of an unknown format, or its samples cannot
        be scaled to [0, 1] (signed integers, complex numbers, floats outside [0, 1]).
    """
    from calepin.datasets._png16 import is_deep

    path = Path(path)
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, expected an image")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    with path.open("rb") as file:
        start = file.read(26)
        if not start:
            raise FileFormatError(f"{path} is empty, expected an image")
        read = _read_deep_png if is_deep(start) else _read_by_pillow
        if start[:2] in {b"II", b"MM"} and _is_deep_tiff(file, path):
            read = _read_deep_tiff
        file.seek(0)
        return _decode(read, file, path)


def _decode(read: Callable[[IO[bytes]], Image], file: IO[bytes], path: Path) -> Image:
    """Call a decoder, and raise FileFormatError with the name of the file if it fails."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata that does not affect the pixels
            return read(file)
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if type(error).__name__ == "UnidentifiedImageError":
            reason = "no known image format"
        raise FileFormatError(f"{path} is not a readable image: {reason}") from error


def _read_deep_png(file: IO[bytes]) -> Image:
    from calepin.datasets._png16 import read_deep

    channels, profile = read_deep(file)
    return _image(channels, icc_profile=profile)


def _read_by_pillow(file: IO[bytes]) -> Image:
    from PIL import Image as PILImage
    from PIL import ImageOps

    notes = []
    with PILImage.open(file) as image:
        if getattr(image, "n_frames", 1) > 1:
            notes.append(f"the first of {image.n_frames} pages was read")  # pyright: ignore[reportAttributeAccessIssue]
        profile = image.info.get("icc_profile")
        orientation = image.getexif().get(0x0112, 1)
        if orientation != 1:
            notes.append("the orientation tag was applied")
        upright: Any = ImageOps.exif_transpose(image)
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
    if channels.dtype == np.int32:  # 16-bit gray in some versions of Pillow
        if channels.min() < 0 or channels.max() > 65535:
            raise ValueError("its samples are 32-bit integers, expected 8 or 16 bits or floats in [0, 1]")
        channels = channels.astype(np.uint16)
    return _image(channels, icc_profile=profile, notes=tuple(notes))


# Compressions that tifffile supports without further packages: none, deflate, PackBits.
PLAIN_COMPRESSIONS = {1, 8, 32946, 32773}


def _is_deep_tiff(file: IO[bytes], path: Path) -> bool:
    """Return whether a TIFF needs tifffile, because Pillow would reduce its colours to 8 bits."""
    import tifffile

    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            page: Any = tiff.pages.first
            pillow_can = page.samplesperpixel == 1 and page.compression not in PLAIN_COMPRESSIONS
            return page.bitspersample > 8 and not pillow_can
    except tifffile.TiffFileError as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(f"{path} is not a readable image: {reason}") from error
    except Exception:
        return False  # Pillow may be able to read the file, and raises an error if not


def _read_deep_tiff(file: IO[bytes]) -> Image:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages.first
        n_pages = len(tiff.pages)
        if page.compression not in PLAIN_COMPRESSIONS and find_spec("imagecodecs") is None:
            raise ValueError(
                f"{page.bitspersample}-bit colour with {page.compression.name} compression needs "
                "the package imagecodecs (pip install imagecodecs)"
            )
        channels = np.squeeze(page.asarray())
        if channels.ndim == 3 and page.planarconfig == 2:
            channels = np.moveaxis(channels, 0, -1)
        if page.photometric == 0:  # 0 is white
            if channels.dtype.kind != "u":
                raise ValueError("floating point with an inverted scale is not supported")
            channels = np.iinfo(channels.dtype).max - channels
        profile = page.tags.get(34675)
        notes = (f"the first of {n_pages} pages was read",) if n_pages > 1 else ()
        return _image(channels, icc_profile=profile and profile.value, notes=notes)


def _image(channels: NDArray[Any], *, icc_profile: bytes | None = None, notes: tuple[str, ...] = ()) -> Image:
    """Scale the samples of a file to [0, 1] and split off the alpha channel."""
    if channels.ndim == 2:
        channels = channels[:, :, None]
    if channels.ndim != 3 or channels.shape[2] not in {1, 2, 3, 4} or 0 in channels.shape:
        raise ValueError(f"it holds an array of shape {channels.shape}, expected one gray or colour image")
    if channels.dtype in (np.uint8, np.uint16):
        bits = channels.dtype.itemsize * 8
        scaled = channels.astype(np.float32) / np.float32(2**bits - 1)
    elif channels.dtype.kind == "f":
        bits = 32
        scaled = channels.astype(np.float32)
        if not np.isfinite(scaled).all():
            raise ValueError("it holds NaN or infinite pixels")
        if scaled.min() < 0 or scaled.max() > 1:
            low, high = scaled.min(), scaled.max()
            raise ValueError(f"its floats lie in [{low:.4g}, {high:.4g}], expected [0, 1]")
    else:
        raise ValueError(f"its samples are {channels.dtype}, expected 8 or 16 bits or floats in [0, 1]")
    n_colours = 1 if channels.shape[2] <= 2 else 3
    alpha = None if channels.shape[2] == n_colours else np.ascontiguousarray(scaled[:, :, -1])
    pixels = scaled[:, :, 0] if n_colours == 1 else scaled[:, :, :3]
    return Image(np.ascontiguousarray(pixels), bits, alpha, icc_profile, notes)


def check_image_path(path: str | os.PathLike) -> None:
    """Raise the errors of `write_image` for an invalid path, to be called before a long computation.

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
    check_output(path, *SUFFIXES)


def write_image(path: str | os.PathLike, image: Image) -> tuple[str, ...]:
    """Write an image in the format of its suffix, and return descriptions of what the format cannot store.

    PNG stores 8 and 16 bits, TIFF 8 and 16 bits and floating point, JPEG 8 bits without alpha (quality 95,
    full colour resolution). An existing file is replaced only after the new one is complete.

    Raises
    ------
    ValueError
        If the suffix is unknown, the shape is not that of an image, or pixels are NaN or infinite.
    """
    check_image_path(path)
    suffix = Path(path).suffix.lower()
    pixels, alpha, bits = image.pixels, image.alpha, image.bits
    if pixels.ndim not in {2, 3} or (pixels.ndim == 3 and pixels.shape[2] != 3) or 0 in pixels.shape:
        raise ValueError(f"pixels: expected shape (h, w) or (h, w, 3), got {pixels.shape}")
    if not np.isfinite(pixels).all():
        raise ValueError("pixels holds NaN or infinite values, expected numbers in [0, 1]")
    losses = []
    if suffix in {".jpg", ".jpeg"}:
        if bits > 8:
            losses.append(f"JPEG stores 8 bits per channel, the image has {bits}")
        if alpha is not None:
            losses.append("JPEG has no alpha channel, it was dropped")
        bits, alpha = 8, None
    elif suffix == ".png" and bits == 32:
        losses.append("PNG cannot store floating point, 16 bits were written")
        bits = 16
    channels = _quantise(pixels, alpha, bits)
    with atomic_write(path) as temporary:
        if suffix in {".tif", ".tiff"}:
            _write_tiff(temporary, channels, alpha is not None, image.icc_profile)
        elif bits == 16:
            from calepin.datasets._png16 import write_deep

            write_deep(temporary, channels, image.icc_profile)
        else:
            _write_by_pillow(temporary, channels, image.icc_profile)
    return tuple(losses)


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


def _write_tiff(path: Path, channels: NDArray[Any], has_alpha: bool, icc_profile: bytes | None) -> None:
    import tifffile

    is_gray = channels.shape[2] <= 2
    tifffile.imwrite(
        path,
        channels[:, :, 0] if channels.shape[2] == 1 else channels,
        photometric="minisblack" if is_gray else "rgb",
        planarconfig=None if channels.shape[2] == 1 else "contig",
        extrasamples=["unassalpha"] if has_alpha else None,
        compression="zlib",
        iccprofile=icc_profile,
        metadata=None,
    )


def _write_by_pillow(path: Path, channels: NDArray[np.uint8], icc_profile: bytes | None) -> None:
    from PIL import Image as PILImage

    image = PILImage.fromarray(channels[:, :, 0] if channels.shape[2] == 1 else channels)
    # quality and subsampling only affect JPEG
    image.save(path, quality=95, subsampling=0, icc_profile=icc_profile)
