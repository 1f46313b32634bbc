"""Stacks in TIFF: the samples of all pages, and the metadata of each that are kept.

The description of a page holds what OME, ImageJ and cameras say of it. It is written again as it was, with
the page at its place in the file, so that it stays true; only the type of the samples may change.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.reading import check_declared
from calepin.datasets._tiff import PLAIN_COMPRESSIONS, read_page

__all__ = ["Page", "read_tiff", "write_tiff"]

IMAGEJ_TAGS = (50838, 50839)  # counts and bytes of ImageJ's own metadata: labels, colours
ICC_PROFILE = 34675
LARGEST = 2**32 - 2**25  # bytes of a TIFF that is no BigTIFF


@dataclass(frozen=True)
class Page:
    """Metadata of a page of a TIFF that are kept.

    Attributes
    ----------
    index : int
        Place in the file.
    settings : dict
        Arguments of `tifffile.TiffWriter.write`.
    """

    index: int
    settings: dict[str, Any] = field(default_factory=dict)


def read_tiff(path: Path, trusted: bool) -> tuple[NDArray[Any], str, tuple[Page, ...], tuple[str, ...]]:
    """Return the samples, the axes, the metadata of the pages, and notes on what was left."""
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
        if len(read) == len(series.pages) > 1:
            samples = _read_pages(path, file, read, check).reshape(series.shape)
        else:  # ImageJ writes one page and the other planes after it
            samples = series.asarray()
            read = read[:1]
        smaller = len(series.levels) - 1 + len(tiff.series) - len(full)
        notes = ("smaller copies of the images, a pyramid or thumbnails, were left out",) if smaller else ()
        return samples, series.axes, tuple(_page_of(page) for page in read), notes


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
        return np.asarray(image)

    return read


def _page_of(page: Any) -> Page:
    """Return the metadata of a page that are kept."""
    full = page.aspage()
    settings: dict[str, Any] = {"photometric": full.photometric}
    if full.description:
        settings["description"] = full.description.encode()
    tags = full.tags
    if "XResolution" in tags and "YResolution" in tags:
        settings["resolution"] = tags["XResolution"].value, tags["YResolution"].value
        settings["resolutionunit"] = tags.valueof("ResolutionUnit", default=1)
    texts = {"software": "Software", "datetime": "DateTime"}
    settings |= {name: tags[tag].value for name, tag in texts.items() if tag in tags}
    if ICC_PROFILE in tags:
        settings["iccprofile"] = tags[ICC_PROFILE].value
    if full.extrasamples:
        settings["extrasamples"] = full.extrasamples
    own = [(tag.code, tag.dtype, tag.count, _raw(tag), True) for tag in map(tags.get, IMAGEJ_TAGS) if tag]
    return Page(page.index, settings | ({"extratags": own} if len(own) == 2 else {}))


def _raw(tag: Any) -> Any:
    """Return the value of a tag as it is in the file."""
    file = tag.parent.filehandle
    file.seek(tag.valueoffset)
    raw = file.read(tag.valuebytecount)
    return raw if tag.code == 50839 else tuple(np.frombuffer(raw, tag.parent.byteorder + "u4").tolist())


def write_tiff(
    path: Path, planes: NDArray[Any], axes: str, shape: Sequence[int], pages: Sequence[Page]
) -> None:
    """Write planes (n, h, w) or (n, h, w, channels), with the metadata of the pages they were read from.

    Planes from other files have `axes` and `shape` in their description.
    """
    import tifffile

    shared: dict[str, Any] = {"compression": "zlib", "metadata": None, "software": False}
    if planes.ndim == 4:
        shared["planarconfig"] = "contig"
    order = np.argsort([page.index for page in pages]) if len(pages) == len(planes) else range(len(planes))
    with tifffile.TiffWriter(path, bigtiff=planes.nbytes > LARGEST, ome=False, imagej=False) as writer:
        for place, k in enumerate(order):
            settings: dict[str, Any] = {"photometric": "rgb" if planes.ndim == 4 else "minisblack"}
            if len(pages) == len(planes):
                settings = _as_written(pages[k].settings, planes.dtype)
            elif pages and place == 0:
                settings = pages[0].settings
            elif place == 0:
                settings["description"] = json.dumps({"axes": axes, "shape": list(shape)})
            writer.write(np.ascontiguousarray(planes[k]), **(shared | settings))


def _as_written(settings: dict[str, Any], dtype: np.dtype) -> dict[str, Any]:
    """Return settings of a page with the type of its samples in the description of OME."""
    text = settings.get("description", b"")
    if b"<OME" not in text:
        return settings
    name = {"float32": b"float", "float64": b"double"}.get(dtype.name, dtype.name.encode())
    text = re.sub(rb'(<(?:\w+:)?Pixels\b[^>]*?\bType=")[^"]*"', rb"\g<1>" + name + b'"', text)
    return settings | {"description": re.sub(rb'\sSignificantBits="\d+"', b"", text)}
