"""``calepin info``: show the content of a file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from calepin.cli.output import Debug, Json, Output, Quiet
from calepin.core.paths import check_input

__all__ = ["info"]

EXAMPLES = [
    ("calepin info atoms.safetensors", "kind, parameters, arrays"),
    ("calepin info photo.tif --json", "size, bits, colour"),
]


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Dictionary, array, codes or image.")],
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the content of a file, without loading large arrays."""
    from calepin.datasets.stacks import is_zarr

    if not is_zarr(file):
        check_input(file, "a file")
    suffix = file.suffix.lower()
    if suffix == ".safetensors":
        found = _model(file)
    elif suffix == ".npy":
        found = _array(file)
    elif suffix == ".npz":
        found = _codes(file)
    else:
        found = _image(file)
    from calepin.core.reading import reading

    output = Output(quiet, as_json)
    with reading(file, "file of calepin"):
        rows = _rows(found)
    output.table(["", ""], [(file.name, found["kind"]), *rows])
    output.result({"file": str(file), **found})


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in found.items():
        if name == "arrays":
            for array, what in value.items():
                shape = " x ".join(str(n) for n in what["shape"])
                rows.append((array, f"{shape} {what['dtype']}"))
        elif isinstance(value, dict):
            rows += _rows(value)
        elif name in {"history", "history_"}:
            if value:
                objectives = [f"{record['objective']:.4g}" for record in (value[0], value[-1])]
                rows.append(("objective", " -> ".join(objectives)))
        elif name != "kind" and value is not None:
            rows.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return rows


def _model(file: Path) -> dict[str, Any]:
    from calepin.core.files import read_header

    return read_header(file)


def _array(file: Path) -> dict[str, Any]:
    from calepin.datasets.arrays import open_array

    array = open_array(file)
    return {"kind": "array", "shape": list(array.shape), "dtype": str(array.dtype)}


def _codes(file: Path) -> dict[str, Any]:
    from calepin.datasets.arrays import open_codes, open_filter_codes

    if _members(file) >= {"codes.npy", "offset.npy"}:
        found = open_filter_codes(file)[0]
        nonzeros = int((found != 0).sum())
        return {
            "kind": "codes of a convolutional dictionary",
            "shape": list(found.shape),
            "dtype": str(found.dtype),
            "nonzeros": nonzeros,
            "nonzeros_per_sample": nonzeros / len(found) if len(found) else None,
        }
    codes = open_codes(file)
    return {
        "kind": "codes",
        "shape": list(codes.shape),
        "dtype": str(codes.dtype),
        "nonzeros": int(codes.nnz),
        "nonzeros_per_sample": codes.nnz / codes.shape[0] if codes.shape[0] else None,
    }


def _members(file: Path) -> set[str]:
    import zipfile

    from calepin.core.reading import reading

    with reading(file, ".npz archive"):
        if not zipfile.is_zipfile(file):
            return set()
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist())


def _image(file: Path) -> dict[str, Any]:
    import numpy as np

    from calepin.core.errors import FileFormatError
    from calepin.datasets.images import read_image
    from calepin.datasets.stacks import count_planes, read_stack

    if count_planes(file) > 1:
        stack = read_stack(file)
        known = stack.samples[np.isfinite(stack.samples)]
        return {
            "kind": "stack of images",
            "axes": stack.axes,
            "shape": list(stack.samples.shape),
            "dtype": str(stack.samples.dtype),
            "mean": float(known.mean()) if known.size else None,
        }
    try:
        image = read_image(file)
    except FileFormatError:  # samples without a place between black and white have units of their own
        image = read_image(file, value_range="data")
    levels = image.levels
    mean = float(image.pixels.mean())
    return {
        "kind": "image",
        "height": image.pixels.shape[0],
        "width": image.pixels.shape[1],
        "colour": image.pixels.ndim == 3,
        "bits": image.bits,
        "alpha": image.alpha is not None,
        "mean": mean if levels is None else levels.black + levels.unit * mean,
        "dtype": None if levels is None else levels.dtype,
        "range": None if levels is None else [levels.black, levels.white],
    }
