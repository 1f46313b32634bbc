"""TIFF files through tifffile: what Pillow cannot read, and the checks of damaged files."""

import logging
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PLAIN_COMPRESSIONS",
    "check_one_page",
    "count_pages",
    "is_deep_tiff",
    "quiet_tifffile",
    "read_page",
]

# Compressions that tifffile supports without further packages: none, deflate, PackBits.
PLAIN_COMPRESSIONS = {1, 8, 32946, 32773}
DEFLATE = {8, 32946}
PYRAMID = (
    "the smaller levels of its pyramid are left out; a stack keeps them (axes, on the command line --axes)"
)
LARGE_STRIP = 2**18  # bytes of a compressed strip: smaller ones become less than 256 MiB

Check = Callable[[int], None]


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep the lines that tifffile logs about damaged files away from stderr."""
    logger = logging.getLogger("tifffile")
    if not logger.handlers:  # without any handler, Python prints warnings to stderr
        logger.addHandler(logging.NullHandler())
    yield


def is_deep_tiff(file: IO[bytes]) -> tuple[bool, tuple[str, ...]]:
    """Return whether a TIFF of one image needs tifffile, and notes on what else it holds.

    Pillow makes colours 8 bits, and drops signs.

    Raises
    ------
    ValueError
        If the file holds several images.
    """
    import tifffile

    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            n_pages = count_pages(tiff)
            page: Any = tiff.pages.first
            pillow_can = page.samplesperpixel == 1 and page.compression not in PLAIN_COMPRESSIONS
            signed = page.sampleformat == tifffile.SAMPLEFORMAT.INT
            deep = (page.bitspersample > 8 and not pillow_can) or (page.bitspersample == 8 and signed)
            notes = (PYRAMID,) if any(len(series.levels) > 1 for series in tiff.series) else ()
    except (tifffile.TiffFileError, MemoryError):
        raise
    except Exception:
        return False, ()  # Pillow may be able to read the file, and raises an error if not
    check_one_page(n_pages)
    return deep, notes


def count_pages(tiff: Any) -> int:
    """Return the number of images in an open TiffFile, without thumbnails and the levels of pyramids."""
    full = [series for series in tiff.series if not series.keyframe.is_reduced]
    return sum(math.prod(series.shape) // max(math.prod(series.keyframe.shape), 1) for series in full)


def check_one_page(n_pages: int, hint: str = "calepin denoise takes all pages") -> None:
    """Raise ValueError for several pages: an image of one of them would lose the others."""
    if n_pages > 1:
        raise ValueError(f"it holds {n_pages} pages, expected one image ({hint})")


def read_page(file: IO[bytes], page: Any, check: Check) -> NDArray[Any]:
    """Return the samples (h, w) or (h, w, channels) of a page of tifffile.

    Parameters
    ----------
    file
        The open file, to check compressed data before tifffile inflates it.
    page
        A page of a TiffFile.
    check
        Called with the number of bytes that data inflate to; raises an error if they are too many.

    Raises
    ------
    ValueError
        If the compression needs a package that is not installed.
    """
    if page.compression not in PLAIN_COMPRESSIONS and find_spec("imagecodecs") is None:
        raise ValueError(
            f"{page.bitspersample}-bit samples with {page.compression.name} compression need "
            "the package imagecodecs (pip install imagecodecs)"
        )
    if page.compression in DEFLATE:
        for offset, n_bytes in zip(page.dataoffsets, page.databytecounts, strict=True):
            if n_bytes > LARGE_STRIP:
                file.seek(offset)
                _check_inflated(file.read(n_bytes), check)
    channels = np.squeeze(page.asarray())
    planar = channels.ndim == 3 and page.planarconfig == 2
    return np.moveaxis(channels, 0, -1) if planar else channels


def _check_inflated(data: bytes, check: Check) -> None:
    """Check the size of deflated data, without holding it: tifffile inflates a strip whatever its size."""
    inflate, total = zlib.decompressobj(), 0
    while data and not inflate.eof:
        total += len(inflate.decompress(data, 2**20))
        data = inflate.unconsumed_tail
        check(total)
