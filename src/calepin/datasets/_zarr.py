"""Arrays of zarr, with the axes and attributes of OME-Zarr; needs the package zarr.

Sources: the specifications of zarr, versions 2 and 3, and of OME-Zarr (NGFF), versions 0.4 and 0.5.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.reading import check_declared, reading

__all__ = ["Layout", "is_ome", "read", "write"]

# A file names the code that decodes it: these change numbers and bytes, and run nothing else. There is one
# called "pickle".
CODECS = {"blosc", "bz2", "bytes", "crc32", "crc32c", "delta", "gzip", "lz4", "lzma", "sharding_indexed"}
CODECS |= {"shuffle", "transpose", "zlib", "zstd"}
SETTINGS = {"codecs", "index_codecs", "compressor", "filters"}


@dataclass(frozen=True)
class Layout:
    """How an array is stored, which an array of another shape, or with other axes, can share.

    Attributes
    ----------
    version : {2, 3}
        Version of the format.
    chunks : dict
        Length of a chunk along each axis, by its letter.
    shards : dict
        How many chunks a shard has along each axis; empty without shards.
    names : dict
        Names of the axes in the file; empty if it has none.
    order : {"<", ">"}
        Order of the bytes of a sample.
    fill_value : number or None
        Sample of chunks without a file.
    settings : dict
        Compressors, names of the files of chunks, and order of the samples in a chunk, as arguments of zarr.
    """

    version: int
    chunks: dict[str, int]
    shards: dict[str, int]
    names: dict[str, str]
    order: Literal["<", ">"]
    fill_value: Any
    settings: dict[str, Any]

    @classmethod
    def of(cls, array: Any, axes: str, names: dict[str, str]) -> "Layout":
        """Return that of an array of zarr with these axes."""
        version = array.metadata.zarr_format
        settings = {"compressors": array.compressors}
        if version == 2:
            separator = array.metadata.dimension_separator
            settings["chunk_key_encoding"] = {"name": "v2", "separator": separator}
            settings["order"] = array.metadata.order
        else:
            settings["chunk_key_encoding"] = array.metadata.chunk_key_encoding
        chunks = dict(zip(axes, array.chunks, strict=True))
        shards: dict[str, int] = {}
        if array.shards:
            lengths = zip(axes, array.shards, strict=True)
            shards = {axis: length // chunks[axis] for axis, length in lengths}
        order = ">" if array.dtype.str.startswith(">") else "<"
        return cls(version, chunks, shards, names, order, array.fill_value, settings)

    def for_samples(self, samples: NDArray[Any], axes: str) -> dict[str, Any]:
        """Return the arguments with which zarr creates an array of samples; new axes have one chunk.

        Samples of another type have the fill value of zarr.
        """
        sizes = dict(zip(axes, samples.shape, strict=True)) | self.chunks
        chunks = tuple(sizes[axis] for axis in axes)
        shards = tuple(sizes[axis] * self.shards.get(axis, 1) for axis in axes) if self.shards else None
        data = samples.astype(samples.dtype.newbyteorder(self.order), copy=False)
        known: dict[str, Any] = {"data": data, "chunks": chunks, "shards": shards, **self.settings}
        filled = self.fill_value
        if filled is None or filled.dtype.newbyteorder("=") == data.dtype.newbyteorder("="):
            known["fill_value"] = filled
        return known


def read(
    path: str | os.PathLike, axes: str | None, default_axes: str | None
) -> tuple[NDArray[Any], str | None, dict[str, Any], Layout | None, tuple[str, ...]]:
    """Return the array of a folder, its axes, attributes and layout, and notes on what is left out.

    The axes are those that are given, else a letter for each if the folder tells them, else the default.

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
        array, names, notes = opened, None, []
        if isinstance(opened, zarr.Group):
            array, names, notes = _largest(opened, attributes)
            if not is_ome(attributes):
                attributes |= dict(array.attrs)
        check_declared(path, array.nbytes, sum(file.stat().st_size for file in path.rglob("*")))
        if names is None:
            names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
        if array.filters:
            filters = ", ".join(type(one).__name__ for one in array.filters)
            notes = [*notes, f"its samples are written without the filters of zarr ({filters})"]
        known, layout = _letters(names), None
        letters = axes or known or default_axes
        if letters is not None and len(letters) == array.ndim:  # else `read_stack` refuses them
            kept: dict[str, str] = dict(zip(letters, names or (), strict=True)) if letters == known else {}
            layout = Layout.of(array, letters, kept)
            if names and any(names) and not kept:
                notes = [*notes, f"the names of its axes, {', '.join(map(str, names))}, were left out"]
        return np.asarray(array[:]), letters, attributes, layout, tuple(notes)


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


def is_ome(attributes: dict[str, Any]) -> bool:
    """Return whether attributes are those of OME-Zarr."""
    return "multiscales" in attributes.get("ome", attributes)


def _largest(group: Any, attributes: dict[str, Any]) -> tuple[Any, Any, list[str]]:
    """Return the array of the largest resolution of OME-Zarr, or the only one of a group, its axes, notes."""
    images = attributes.get("ome", attributes).get("multiscales")
    if images:
        axes = [axis["name"] if isinstance(axis, dict) else axis for axis in images[0].get("axes", "tczyx")]
        smaller = len(images[0]["datasets"]) > 1
        notes = ["smaller copies of the images, a pyramid, were left out"] if smaller else []
        return group[images[0]["datasets"][0]["path"]], axes, notes
    arrays = [array for _, array in group.arrays()]
    if len(arrays) != 1:
        raise FileFormatError(f"it holds {len(arrays)} arrays, expected one or OME-Zarr")
    return arrays[0], None, ["its only array is written without the group that it is in"]


def _letters(names: Any) -> str | None:
    """Return a letter for each axis, or None if one has no name."""
    if not names or not all(isinstance(name, str) and name for name in names):
        return None
    known = {"time": "T", "channel": "C", "depth": "Z", "height": "Y", "width": "X"}
    letters = "".join(known.get(str(name).lower(), str(name)[:1].upper()) for name in names)
    return letters if len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters) else None


def write(
    path: str | os.PathLike,
    samples: NDArray[Any],
    axes: str,
    attributes: dict[str, Any],
    layout: Layout | None = None,
) -> None:
    """Write an array as a folder, with the axes, and with the attributes of OME-Zarr if they are given.

    Of several resolutions the largest is written. Without a layout, zarr chooses one.

    Raises
    ------
    FileExistsError
        If the folder exists.
    """
    zarr = _module(path)
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"cannot write {path}: it exists, a folder is not replaced")
    of_ome = is_ome(attributes)
    version = layout.version if layout else 3 if "ome" in attributes or not of_ome else 2
    settings: dict[str, Any] = layout.for_samples(samples, axes) if layout else {"data": samples}
    names = [(layout.names if layout else {}).get(axis, axis.lower()) for axis in axes]
    if version == 3:
        settings["dimension_names"] = names
    elif not of_ome:
        attributes = attributes | {"_ARRAY_DIMENSIONS": names}
    temporary = Path(tempfile.mkdtemp(prefix=".calepin-", dir=path.parent))
    try:
        if of_ome:
            group = zarr.open_group(temporary, mode="w", zarr_format=version)
            group.attrs.update(_of_largest(attributes))
            zarr.create_array(temporary, name="0", zarr_format=version, **settings)
        else:
            zarr.create_array(temporary, zarr_format=version, attributes=attributes, **settings)
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
