"""Stacks and images in TIFF: the samples of all pages, and the metadata of each that are kept.

The description of a page holds what OME, ImageJ and cameras say of it. It is written again as it was, with
the page at its place in the file, so that it stays true; only the type of the samples may change.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calepin.core.reading import check_declared
from calepin.datasets._tiff import PLAIN_COMPRESSIONS, read_page

__all__ = [
    "OME_LEFT_OUT",
    "OPACITY",
    "PREMULTIPLIED",
    "Page",
    "page_of_image",
    "read_tiff",
    "write_image_tiff",
    "write_tiff",
]

IMAGEJ_TAGS = (50838, 50839)  # counts and bytes of ImageJ's own metadata: labels, colours
ICC_PROFILE = 34675
MINISWHITE, MINISBLACK, RGB, YCBCR = 0, 1, 2, 6  # photometric interpretations
COLOURS = {MINISWHITE: 1, MINISBLACK: 1, RGB: 3, YCBCR: 3}  # their channels, without others, as opacity
PREMULTIPLIED, OPACITY = 1, 2  # extra samples
ORIENTATION, XMP, TEXT = 274, 700, 2  # two tags, and the type of text
GEOREFERENCE = {33550, 33922, 34264, 34735, 34736, 34737}  # of GeoTIFF: it counts pixels
# Tags that say how samples are stored, or that arguments of tifffile stand for.
KNOWN = {*range(254, 260), *range(262, 267), 270, *range(273, 285), 290, 291, 292, 293, 296, 297, 305, 306}
KNOWN |= {317, 320, *range(322, 326), 330, 338, 339, 340, 341, 347, *range(512, 522), *range(529, 533)}
KNOWN |= {32995, 32996, 32997, 32998, ICC_PROFILE, *IMAGEJ_TAGS}
LARGEST = 2**32 - 2**25  # bytes of a TIFF that is no BigTIFF
LOSSLESS = {5, 32773, 50000}  # LZW, PackBits and Zstandard: tifffile writes them by imagecodecs
WRITTEN = {1, 8, 32946}  # none and deflate: tifffile writes them by itself
DEFLATE, DIFFERENCES = 8, 2  # a compression, and a predictor of integers
LARGEST_TILE = 4096  # rows or columns; each tile is written whole, however small the plane
LAYOUT = ("compression", "predictor", "tile")
DATE = re.compile(r"[0-9 :]{16}:[0-9 ]{2}")
OME_LEFT_OUT = "the description of OME, which names the colours of planes, was left out"


@dataclass(frozen=True)
class Page:
    """Metadata of a page of a TIFF that are kept.

    Attributes
    ----------
    index : int
        Place in the file.
    size : (int, int)
        Rows and columns.
    settings : dict
        Arguments of `tifffile.TiffWriter.write`.
    byteorder : {"<", ">"}
        Order of the bytes of all numbers in the file, also of those of ImageJ's metadata.
    notes : tuple of str
        What will be different in a file that is written with them.
    """

    index: int
    size: tuple[int, int]
    settings: dict[str, Any] = field(default_factory=dict)
    byteorder: Literal["<", ">"] | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_ome(self) -> bool:
        """Whether the page holds a description of OME."""
        return b"<OME" in self.settings.get("description", b"")

    def scaled(self, scale: tuple[float, float]) -> "Page":
        """Return the metadata of the page with more rows and columns by these factors, over the same field.

        The numbers of pixels in a description of OME and the resolution are those of the new page.
        """
        if scale == (1, 1):
            return self
        settings = dict(self.settings)
        if "resolution" in settings:
            x, y = settings["resolution"]
            settings["resolution"] = _number(x) * scale[1], _number(y) * scale[0]
        if self.is_ome:
            settings["description"] = _resized(settings["description"], scale)
        size, notes = (round(self.size[0] * scale[0]), round(self.size[1] * scale[1])), self.notes
        own = settings.get("extratags", [])
        settings["extratags"] = [tag for tag in own if tag[0] not in GEOREFERENCE]
        if len(settings["extratags"]) < len(own):
            notes = (*notes, "its georeference, which counts pixels, was left out")
        return replace(self, size=size, settings=settings, notes=notes)

    def resized(self, scale: tuple[float, float], axes: str, shape: tuple[int, ...]) -> "Page":
        """Return the metadata of the page in a stack with more rows and columns by these factors.

        As `scaled`; a description of OME is left out if gray becomes colour, which it describes channel by
        channel.
        """
        page = self.scaled(scale)
        settings = dict(page.settings)
        coloured = (settings["photometric"] == RGB) != ("S" in axes)
        if coloured:
            settings["photometric"] = RGB if "S" in axes else MINISBLACK
        if "S" not in axes or shape[axes.index("S")] == 3:
            settings.pop("extrasamples", None)
        if "description" in settings:
            settings["description"] = _described(settings["description"], axes, shape, coloured)
        return replace(page, settings=settings)

    def with_channels(self, n: int, dtype: np.dtype, has_alpha: bool) -> "Page":
        """Return the metadata of the page with n channels of a type, the last opacity or not.

        Channels of the same number keep their meaning, but for indices of a palette and for MINISWHITE where
        the type cannot store it. `notes` say what is left out.
        """
        settings, notes = dict(self.settings), list(self.notes)
        photometric, extra = settings.pop("photometric", None), settings.pop("extrasamples", ())
        inverted = photometric == MINISWHITE
        same = COLOURS.get(photometric, 0) + len(extra) == n or not self.settings
        if inverted and (n > 1 or dtype.kind != "u"):
            notes.append("its samples are 0 for black, in place of 0 for white")
            photometric = MINISBLACK
        if not same or photometric not in {MINISWHITE, MINISBLACK, RGB}:
            photometric = RGB if n > 2 else MINISBLACK
            extra = (OPACITY,) if has_alpha else ()
        settings |= {"photometric": photometric} | ({"extrasamples": extra} if extra else {})
        if self.is_ome and not same:
            notes.append(OME_LEFT_OUT)
        if "description" in settings:
            shape = (*self.size, n) if n > 1 else self.size
            text = _described(settings["description"], "YXS"[: len(shape)], shape, not same)
            settings["description"] = text
        return replace(self, settings=settings, notes=tuple(notes))

    @property
    def is_described(self) -> bool:
        """Whether the page holds a description of a person or an instrument, as OME or ImageJ."""
        text = self.settings.get("description", b"")
        return bool(text) and not _is_of_tifffile(text)


def _is_of_tifffile(text: bytes) -> bool:
    return text.startswith(b"{") and b'"shape"' in text


def _described(text: bytes, axes: str, shape: Sequence[int], coloured: bool) -> bytes:
    """Return a description for a shape: that of tifffile, also in place of one of OME for other channels."""
    new = {"axes": axes, "shape": list(shape)}
    if b"<OME" in text:
        return json.dumps(new).encode() if coloured else text
    if not _is_of_tifffile(text):
        return text
    try:
        known = json.loads(text)
    except ValueError:
        known = {}
    return text if known.get("shape") == new["shape"] else json.dumps(known | new).encode()


def _number(value: Any) -> float:
    """Return a fraction of a TIFF, two integers, as a number."""
    return value[0] / (value[1] or 1) if isinstance(value, tuple) else float(value)


def _resized(text: bytes, scale: tuple[float, float]) -> bytes:
    """Return a description of OME for more pixels by these factors, along Y and X, that are smaller."""
    for axis, factor in (("Y", scale[0]), ("X", scale[1])):

        def count(found: re.Match[bytes], factor: float = factor) -> bytes:
            return found[1] + str(round(int(found[2]) * factor)).encode()

        def size(found: re.Match[bytes], factor: float = factor) -> bytes:
            return found[1] + f"{float(found[2]) / factor:.10g}".encode()

        text = re.sub(rb'(\sSize%s=")(\d+)' % axis.encode(), count, text)
        text = re.sub(rb'(\sPhysicalSize%s=")([0-9.eE+-]+)' % axis.encode(), size, text)
    return text


def read_tiff(
    path: Path, trusted: bool
) -> tuple[NDArray[Any], str, tuple[Page, ...], tuple[int, ...], tuple[str, ...]]:
    """Return samples, axes, metadata of the pages, factors of the levels of a pyramid, and what was left."""
    import tifffile

    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        full = [series for series in tiff.series if not series.keyframe.is_reduced]
        sizes = {tuple(series.keyframe.shape) for series in full}
        if len(full) != 1:
            shapes = ", ".join(" x ".join(str(n) for n in shape) for shape in sorted(sizes)[:3])
            what = (
                f"images of different sizes ({shapes})" if len(sizes) > 1 else f"{len(full)} series of images"
            )
            raise ValueError(f"it holds {what}, expected one stack")
        series: Any = full[0]
        _check_series(series)

        def check(declared: int) -> None:
            check_declared(path, declared, trusted=trusted)

        check(series.nbytes)
        read = [page for page in series.pages if page is not None]
        if len(read) * math.prod(series.keyframe.shape) == math.prod(series.shape):
            samples = _read_pages(path, file, read, check).reshape(series.shape)
        else:  # ImageJ writes one page and the other planes after it
            samples = series.asarray()
            read = read[:1]
        factors = _factors(series)
        left = len(series.levels) - 1 - len(factors) + len(tiff.series) - len(full)
        notes = ("smaller copies of the images, a pyramid or thumbnails, were left out",) if left else ()
        pages = tuple(_page_of(page) for page in read)
        notes = (*notes, *dict.fromkeys(note for page in pages for note in page.notes))
        return samples, series.axes, pages, factors, notes


def _written() -> set[int]:
    """Return the compressions that stacks keep."""
    return WRITTEN | (LOSSLESS if find_spec("imagecodecs") is not None else set())


def _factors(series: Any) -> tuple[int, ...]:
    """Return how many times smaller the levels of a pyramid in sub-IFDs are; nothing for any other kind."""
    levels = series.levels[1:]
    if not levels or any(not page.subifds for page in series.pages):
        return ()
    rows, columns = (series.axes.index(axis) for axis in "YX")
    factors = []
    for level in levels:
        factor = round(series.shape[rows] / level.shape[rows])
        if len(level.shape) != len(series.shape) or factor < 2:
            return ()
        for axis in (rows, columns):
            n = series.shape[axis]
            if level.shape[axis] not in (n // factor, -(-n // factor)):
                return ()
        factors.append(factor)
    return tuple(factors)


def _check_series(series: Any) -> None:
    """Raise ValueError for a stack that could not be written with all it holds."""
    if any(page is None for page in series.pages):
        raise ValueError("planes are missing, which its metadata name")
    if series.is_multifile:
        raise ValueError("its planes are in several files, expected all in one")
    if series.keyframe.photometric == 3:
        raise ValueError("its planes are indices of a palette, expected gray or colour")


def _read_pages(path: Path, file: Any, pages: list[Any], check: Any) -> NDArray[Any]:
    """Return the samples of all pages; Pillow reads compressions for which tifffile needs imagecodecs."""
    keyframe = pages[0].keyframe
    needs_pillow = keyframe.compression not in PLAIN_COMPRESSIONS and find_spec("imagecodecs") is None
    if needs_pillow and (
        keyframe.samplesperpixel == 1 or keyframe.bitspersample <= 8
    ):  # Pillow makes others 8 bits
        read = _pillow_reader(path)
    else:

        def read(page: Any) -> NDArray[Any]:
            return read_page(file, page.aspage(), check)

    samples = np.empty((len(pages), *keyframe.shape), keyframe.dtype)
    for k, page in enumerate(pages):
        channels = read(page)
        samples[k] = (
            np.moveaxis(channels, -1, 0) if keyframe.axes == "SYX" else np.reshape(channels, keyframe.shape)
        )
    return samples


def _pillow_reader(path: Path) -> Any:
    """Return a function from a page of tifffile to its samples, read by Pillow."""
    from PIL import Image as PILImage

    image = PILImage.open(path)

    def read(page: Any) -> NDArray[Any]:
        image.seek(page.index)
        samples = np.asarray(image)
        inverted = page.photometric == MINISWHITE and samples.dtype == np.uint8  # by Pillow
        return 255 - samples if inverted else samples

    return read


def page_of_image(file: Any, upright: bool) -> tuple[Page | None, tuple[str, ...]]:
    """Return the metadata of an open TIFF of one image, and a note if there are none that stay true.

    `upright` is whether the orientation tag is applied and opacity is no factor of colours any more, as by
    Pillow.
    """
    import tifffile

    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            full = tiff.pages.first
            page, turned = _page_of(full), full.tags.valueof(ORIENTATION, default=1)
    except Exception:  # damaged tags, in a file that Pillow can read
        return None, ("its metadata cannot be read, they are left out",)
    settings = dict(page.settings)
    if upright and turned in range(5, 9):
        return None, ("its metadata are left out, as rows became columns",)
    if upright and "extratags" in settings:
        settings["extratags"] = [tag for tag in settings["extratags"] if tag[0] != ORIENTATION]
    if upright and settings["photometric"] == RGB and settings.get("extrasamples") == (PREMULTIPLIED,):
        settings["extrasamples"] = (OPACITY,)
    return replace(page, settings=settings), ()


def _page_of(page: Any) -> Page:
    """Return the metadata of a page that are kept."""
    full = page.aspage()
    settings, notes = {"photometric": full.photometric} | _layout_of(full), []
    if full.compression not in _written():
        notes.append(f"its samples are written by DEFLATE, in place of {full.compression.name}")
    tags = full.tags
    if full.description:
        settings["description"] = full.description.encode()
    resolution = tuple(tags.valueof(name) for name in ("XResolution", "YResolution"))
    if all(_is_resolution(value) for value in resolution):
        unit = tags.valueof("ResolutionUnit", default=1)
        settings |= {"resolution": resolution, "resolutionunit": unit if unit in {1, 2, 3} else 1}
    software, date = (tags.valueof(name) for name in ("Software", "DateTime"))
    if isinstance(software, str):
        settings["software"] = software.encode()
    elif software:
        notes.append("its Software is no text, it was left out")
    if isinstance(date, str) and DATE.fullmatch(date):
        settings["datetime"] = date
    elif date:
        notes.append("its DateTime is no date of TIFF, it was left out")
    if isinstance(tags.valueof(ICC_PROFILE), bytes):
        settings["iccprofile"] = tags.valueof(ICC_PROFILE)
    if full.extrasamples:
        settings["extrasamples"] = tuple(full.extrasamples)
    own, left = _own_tags(tags)
    if own:
        settings["extratags"] = own
    size, notes = (full.imagelength, full.imagewidth), (*notes, *left)
    return Page(page.index, size, settings, full.parent.byteorder, notes)


def _layout_of(full: Any) -> dict[str, Any]:
    """Return how the samples of a page are stored, as far as it is kept."""
    found: dict[str, Any] = {"compression": DEFLATE}
    if full.compression in _written():
        found["compression"] = full.compression
        if full.predictor == DIFFERENCES and full.dtype is not None and full.dtype.kind in "iu":
            found["predictor"] = DIFFERENCES
    tile = full.tilelength, full.tilewidth
    if full.is_tiled and full.tiledepth == 1 and all(n % 16 == 0 and 0 < n <= LARGEST_TILE for n in tile):
        found["tile"] = tile
    return found


def _own_tags(tags: Any) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
    """Return the tags of a page that are written as they are, and a note on those that are left out."""
    found = [(tag.code, tag.dtype, tag.count, _raw(tag), True) for tag in map(tags.get, IMAGEJ_TAGS) if tag]
    own, left = found if len(found) == 2 else [], []
    turned = tags.valueof(ORIENTATION, default=1)
    if turned in range(2, 9):
        own.append((ORIENTATION, "H", 1, turned, True))
    for tag in tags:
        if tag.code in KNOWN:
            continue
        if tag.dtype == TEXT or tag.code == XMP:
            own.append((tag.code, tag.dtype, tag.count, _bytes(tag), True))
        elif tag.code in GEOREFERENCE:
            own.append((tag.code, tag.dtype, tag.count, tag.value, True))
        else:
            left.append(tag.name)
    return own, (f"its tags {', '.join(left)} were left out",) if left else ()


def _is_resolution(value: Any) -> bool:
    """Return whether the value of a tag is a fraction that tifffile can write."""
    if isinstance(value, tuple) and (len(value) != 2 or value[1] <= 0):
        return False
    return isinstance(value, tuple | int | float) and 0 <= _number(value) < 2**32


def _raw(tag: Any) -> Any:
    """Return the value of a tag of ImageJ as it is in the file."""
    raw = _bytes(tag)
    return raw if tag.code == 50839 else tuple(np.frombuffer(raw, tag.parent.byteorder + "u4").tolist())


def _bytes(tag: Any) -> bytes:
    file = tag.parent.filehandle
    file.seek(tag.valueoffset)
    return file.read(tag.valuebytecount)


def write_image_tiff(
    path: Path, channels: NDArray[Any], page: Page | None, has_alpha: bool, icc_profile: bytes | None
) -> tuple[str, ...]:
    """Write samples (h, w, channels) of one image with the metadata of a page; return what is not kept."""
    height, width, n = channels.shape
    notes: tuple[str, ...] = ()
    if page is not None and page.size != (height, width):
        rows, columns = page.size
        notes = (f"the metadata of its TIFF, of {columns} x {rows} pixels, were left out",)
        page = None
    page = (page or Page(0, (height, width))).with_channels(n, channels.dtype, has_alpha)
    settings = {name: value for name, value in page.settings.items() if name != "iccprofile"}
    if icc_profile is not None:
        settings["iccprofile"] = icc_profile
    if settings["photometric"] == MINISWHITE:
        channels = np.iinfo(channels.dtype).max - channels
    planes = channels[None, :, :, 0] if n == 1 else channels[None]
    write_tiff(path, planes, "YXS"[: planes.ndim - 1], planes.shape[1:], [replace(page, settings=settings)])
    return (*notes, *page.notes)


def write_tiff(
    path: Path,
    planes: NDArray[Any],
    axes: str,
    shape: Sequence[int],
    pages: Sequence[Page],
    factors: Sequence[int] = (),
) -> None:
    """Write planes (n, h, w) or (n, h, w, channels), with the metadata of the pages they were read from.

    Planes from other files have `axes` and `shape` in their description. `factors` are those of smaller
    levels of a pyramid, whose pixels are means of so many pixels along each side, in sub-IFDs.
    """
    import tifffile

    shared: dict[str, Any] = {"compression": DEFLATE, "metadata": None, "software": False}
    if planes.ndim == 4:
        shared["planarconfig"] = "contig"
    if pages:
        shared |= _layout(pages[0].settings, planes.dtype)
    order = np.argsort([page.index for page in pages]) if len(pages) == len(planes) else range(len(planes))
    with tifffile.TiffWriter(
        path,
        bigtiff=_largest_size(planes, factors, shared.get("tile")) > LARGEST,
        byteorder=pages[0].byteorder if pages else None,
        ome=False,
        imagej=False,
    ) as writer:
        for place, k in enumerate(order):
            settings: dict[str, Any] = {"photometric": "rgb" if planes.ndim == 4 else "minisblack"}
            if len(pages) == len(planes):
                settings = _as_written(pages[k].settings, planes.dtype)
            elif pages and place == 0:
                settings = pages[0].settings
            elif place == 0:
                settings["description"] = json.dumps({"axes": axes, "shape": list(shape)})
            settings = {name: value for name, value in settings.items() if name not in LAYOUT}
            writer.write(np.ascontiguousarray(planes[k]), subifds=len(factors), **(shared | settings))
            smaller = shared | {"photometric": settings["photometric"], "subfiletype": 1}
            if "extrasamples" in settings:
                smaller["extrasamples"] = settings["extrasamples"]
            for factor in factors:
                writer.write(_reduced(planes[k], factor), **smaller)


def _layout(settings: dict[str, Any], dtype: np.dtype) -> dict[str, Any]:
    """Return how the samples of a page are stored, for samples of a type, which may be another."""
    found = {name: settings[name] for name in LAYOUT if name in settings}
    if dtype.kind not in "iu":
        found.pop("predictor", None)
    return found


def _largest_size(planes: NDArray[Any], factors: Sequence[int], tile: tuple[int, int] | None) -> int:
    """Return the number of bytes of planes and of the levels of a pyramid, without compression."""
    per_pixel = planes.nbytes // (planes.shape[1] * planes.shape[2])
    total = 0
    for factor in (1, *factors):
        sides = [-(-n // factor) for n in planes.shape[1:3]]
        padded = [-(-n // k) * k for n, k in zip(sides, tile or (1, 1), strict=True)]
        total += per_pixel * padded[0] * padded[1]
    return total


def _reduced(plane: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return the means of blocks of factor x factor pixels; those at the end may be smaller."""
    total = plane.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, plane.shape[axis], factor)
        counts = np.diff(np.append(starts, plane.shape[axis]))
        shape = [1] * plane.ndim
        shape[axis] = -1
        total = np.add.reduceat(total, starts, axis=axis) / counts.reshape(shape)
    return (np.rint(total) if plane.dtype.kind in "iu" else total).astype(plane.dtype)


def _as_written(settings: dict[str, Any], dtype: np.dtype) -> dict[str, Any]:
    """Return settings of a page with the type of its samples in the description of OME."""
    text = settings.get("description", b"")
    if b"<OME" not in text:
        return settings
    name = {"float32": b"float", "float64": b"double"}.get(dtype.name, dtype.name.encode())
    text = re.sub(rb'(<(?:\w+:)?Pixels\b[^>]*?\bType=")[^"]*"', rb"\g<1>" + name + b'"', text)
    return settings | {"description": re.sub(rb'\sSignificantBits="\d+"', b"", text)}
