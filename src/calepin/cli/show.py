"""``calepin show``: plot the atoms or filters of a dictionary."""

from pathlib import Path
from typing import Annotated

import typer

from calepin.cli.options import FIGURE_FILES, Force, Writes, refuse
from calepin.cli.output import Debug, Json, Output, Quiet

__all__ = ["EXAMPLES", "show"]

EXAMPLES = [
    ("calepin show atoms.safetensors -o atoms.png", ""),
    ("calepin show atoms.safetensors -o atoms.png --shape 4x16", "atoms that are not square"),
]


def show(
    dictionary: Annotated[Path, typer.Argument(metavar="DICT", help="Dictionary file.")],
    output_path: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="PNG", help="File for the figure."),
        Writes(*FIGURE_FILES),
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
    """Plot the atoms of a dictionary, each with its number; the channels of filters are side by side."""
    from calepin.core.files import load_atoms, read_header, recording_labels
    from calepin.report.atoms import atom_figure, patch_shape
    from calepin.report.figures import save_figure

    output = Output(quiet, as_json)
    components = load_atoms(dictionary)
    if components.ndim > 2:
        refuse({"--shape": shape}, f"has no effect: the file {dictionary} has the shape of its filters")
        if components.ndim > 4:
            raise ValueError(
                f"filters with {components.ndim - 2} axes cannot be plotted, expected one or two"
            )
        given, curves = None, components.ndim == 3
        labels = recording_labels(dictionary, read_header(dictionary)["parameters"])
    else:
        given, labels = _parse_shape(shape, components.shape[1]), {}
        curves = given is None and patch_shape(components.shape[1]) is None
    save_figure(atom_figure(components, given, **labels), output_path)
    drawn_as = "curves" if curves else "patches"
    unit = "filters" if components.ndim > 2 else "atoms"
    output.line(f"{len(components)} {unit} as {drawn_as}\n{output_path}")
    output.result({"n_components": len(components), "drawn_as": drawn_as, "output": str(output_path)})


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
