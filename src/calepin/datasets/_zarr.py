"""Arrays of zarr, with the axes and attributes of OME-Zarr; needs the package zarr.

Sources: the specifications of zarr, versions 2 and 3, and of OME-Zarr (NGFF), versions 0.4 and 0.5.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.reading import check_declared, reading

__all__ = ["read", "write"]

# A file names the code that decodes it: these change numbers and bytes, and run nothing else. There is one
# called "pickle".
CODECS = {"blosc", "bz2", "bytes", "crc32", "crc32c", "delta", "gzip", "lz4", "lzma", "sharding_indexed"}
CODECS |= {"shuffle", "transpose", "zlib", "zstd"}
SETTINGS = {"codecs", "index_codecs", "compressor", "filters"}


def read(path: str | os.PathLike) -> tuple[NDArray[Any], str | None, dict[str, Any]]:
    """Return the array of a folder, a letter for each axis if it tells them, and its attributes.

    Raises
    ------
    FileFormatError
        If the folder is damaged, holds several arrays or none, or codecs that are not known to be harmless.
    ModuleNotFoundError
        If zarr is not installed.
    """
    zarr = _module(path)
    path = Path(path)
    with reading(path, "zarr array"):
        for codec in _codecs(path):
            if codec.removeprefix("numcodecs.") not in CODECS:
                raise ValueError(f"it is coded with {codec!r}, expected one of {', '.join(sorted(CODECS))}")
        opened = zarr.open(path, mode="r")
        attributes = dict(opened.attrs)
        array, axes = opened, None
        if isinstance(opened, zarr.Group):
            array, axes = _largest(opened, attributes)
        check_declared(path, array.nbytes, sum(file.stat().st_size for file in path.rglob("*")))
        if axes is None:
            axes = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
        return np.asarray(array[:]), _letters(axes), attributes


def _module(path: str | os.PathLike) -> Any:
    try:
        import zarr
    except ImportError:
        raise ModuleNotFoundError(f"{path} needs zarr: pip install zarr") from None
    return zarr


def _codecs(path: Path) -> Iterator[str]:
    """Yield the names of all codecs in the metadata of a folder, before zarr looks for their code."""
    for file in path.rglob("*"):
        if file.name in {".zarray", "zarr.json", ".zmetadata"}:
            yield from _names(json.loads(file.read_text("utf-8")), False)


def _names(value: Any, codec: bool) -> Iterator[str]:
    if isinstance(value, list):
        for entry in value:
            yield from _names(entry, codec)
    elif isinstance(value, dict):
        if codec:
            yield str(value.get("id", value.get("name")))
        for key, entry in value.items():
            if key in SETTINGS or isinstance(entry, dict | list):
                yield from _names(entry, key in SETTINGS)


def _largest(group: Any, attributes: dict[str, Any]) -> tuple[Any, Any]:
    """Return the array of the largest resolution of OME-Zarr, or the only one of a group, and its axes."""
    images = attributes.get("ome", attributes).get("multiscales")
    if images:
        axes = [axis["name"] if isinstance(axis, dict) else axis for axis in images[0].get("axes", "tczyx")]
        return group[images[0]["datasets"][0]["path"]], axes
    arrays = [array for _, array in group.arrays()]
    if len(arrays) != 1:
        raise FileFormatError(f"it holds {len(arrays)} arrays, expected one or OME-Zarr")
    return arrays[0], None


def _letters(names: Any) -> str | None:
    """Return a letter for each axis, or None if one has no name."""
    if not names or not all(isinstance(name, str) and name for name in names):
        return None
    known = {"time": "T", "channel": "C", "depth": "Z", "height": "Y", "width": "X"}
    letters = "".join(known.get(str(name).lower(), str(name)[:1].upper()) for name in names)
    return letters if len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters) else None


def write(path: str | os.PathLike, samples: NDArray[Any], axes: str, attributes: dict[str, Any]) -> None:
    """Write an array as a folder, with the axes, and with the attributes of OME-Zarr if they are given.

    Of several resolutions the largest is written.

    Raises
    ------
    FileExistsError
        If the folder exists.
    """
    zarr = _module(path)
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"cannot write {path}: it exists, a folder is not replaced")
    names = [letter.lower() for letter in axes]
    version = 3 if "ome" in attributes or "multiscales" not in attributes else 2
    temporary = Path(tempfile.mkdtemp(prefix=".calepin-", dir=path.parent))
    try:
        if "multiscales" in attributes.get("ome", attributes):
            group = zarr.open_group(temporary, mode="w", zarr_format=version)
            group.attrs.update(_of_largest(attributes))
            group.create_array("0", data=samples, dimension_names=names if version == 3 else None)
        else:
            array = zarr.create_array(temporary, data=samples, dimension_names=names)
            array.attrs.update(attributes)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # that of a temporary folder is private
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _of_largest(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of OME-Zarr for its largest resolution alone, at the path 0."""
    kept = json.loads(json.dumps(attributes))
    images = kept.get("ome", kept)["multiscales"]
    images[0]["datasets"] = [images[0]["datasets"][0] | {"path": "0"}]
    del images[1:]
    return kept
