"""``calepin show``: plot the atoms or filters of a dictionary."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calepin.cli.options import IMAGE_FILES, Force, Writes, refuse
from calepin.cli.output import Debug, Json, Output, Quiet

if TYPE_CHECKING:
    import numpy as np

__all__ = ["EXAMPLES", "show"]

EXAMPLES = [
    ("calepin show atoms.safetensors -o atoms.png", ""),
    ("calepin show atoms.safetensors -o atoms.png --shape 4x16", "atoms that are not square"),
]


def show(
    dictionary: Annotated[Path, typer.Argument(metavar="DICT", help="Dictionary file.")],
    output_path: Annotated[
        Path, typer.Option("--output", "-o", metavar="PNG", help="File for the image."), Writes(*IMAGE_FILES)
    ],
    shape: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Shape of an atom. [default: square patches, else curves]"),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Plot the atoms of a dictionary as one image; the channels of filters are side by side."""
    from calepin.core.files import load_atoms

    output = Output(quiet, as_json)
    components = load_atoms(dictionary)
    if components.ndim > 2:
        refuse({"--shape": shape}, f"has no effect: the file {dictionary} has the shape of its filters")
        drawn_as = _draw_filters(components, output_path)
    else:
        drawn_as = _draw_atoms(components, _parse_shape(shape, components.shape[1]), output_path)
    unit = "filters" if components.ndim > 2 else "atoms"
    output.line(f"{len(components)} {unit} as {drawn_as}\n{output_path}")
    output.result({"n_components": len(components), "drawn_as": drawn_as, "output": str(output_path)})


def _draw_atoms(atoms: "np.ndarray", shape: tuple[int, ...] | None, path: Path) -> str:
    from calepin.datasets.images import Image, write_image
    from calepin.report.atoms import atom_curves, atom_tiles, patch_shape
    from calepin.report.figures import save_figure

    if shape is None and patch_shape(atoms.shape[1]) is None:
        save_figure(atom_curves(atoms), path)
        return "curves"
    write_image(path, Image(atom_tiles(atoms, shape)))
    return "patches"


def _draw_filters(filters: "np.ndarray", path: Path) -> str:
    """Plot each channel of each filter: as a curve in 1-D, as a tile in 2-D."""
    from calepin.datasets.images import Image, write_image
    from calepin.report.atoms import atom_curves, atom_tiles
    from calepin.report.figures import save_figure

    if filters.ndim > 4:
        raise ValueError(f"filters with {filters.ndim - 2} axes cannot be plotted, expected one or two")
    each = filters.reshape(-1, *filters.shape[2:])
    if filters.ndim == 3:
        save_figure(atom_curves(each), path)
        return "curves"
    write_image(path, Image(atom_tiles(each, each.shape[1:])))
    return "patches"


def _parse_shape(shape: str | None, n_features: int) -> tuple[int, ...] | None:
    if shape is None:
        return None
    try:
        numbers = tuple(int(part) for part in shape.lower().split("x"))
    except ValueError:
        numbers = ()
    if len(numbers) == 2 and 3 * numbers[0] * numbers[1] == n_features:
        numbers = (*numbers, 3)
    if len(numbers) not in {2, 3}:
        raise typer.BadParameter(f"expected HxW such as 8x8, got {shape!r}", param_hint="--shape")
    return numbers
