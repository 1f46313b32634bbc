"""``calepin spectrum``: the number of measurements that an untrained network needs, from its kernel."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calepin.cli.options import FIGURE_FILES, Force, Writes
from calepin.cli.output import Debug, Json, Output, Quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["EXAMPLES", "spectrum"]

EXAMPLES = [
    ("calepin spectrum --kernel triangular --width 15", "signals of 300 samples"),
    ("calepin spectrum --kernel gaussian --width 4 --length 256 --figure weights.png", ""),
    ("calepin spectrum --kernel box --width 31 --smooth 17 --error .05 --json", ""),
]

# p of the p-smooth signals in the table: constant, and up to the frequencies 2, 5, 10, 20, 40
SMOOTH = (1, 5, 11, 21, 41, 81)


class Kernel(StrEnum):
    """Shape of the kernel."""

    triangular = "triangular"
    gaussian = "gaussian"
    box = "box"


def spectrum(
    kernel: Annotated[Kernel, typer.Option(help="Kernel of the generator.")] = Kernel.triangular,
    width: Annotated[
        float,
        typer.Option(
            metavar="W",
            help="Number of nonzero entries, odd; for a Gaussian the standard deviation.",
        ),
    ] = 15,
    length: Annotated[int, typer.Option(min=2, max=2000, metavar="N", help="Length of the signals.")] = 300,
    smooth: Annotated[
        int | None, typer.Option(min=1, metavar="P", help="Add P-smooth signals to the table.")
    ] = None,
    error: Annotated[
        float, typer.Option(metavar="E", help="Relative squared error of the reconstruction.")
    ] = 0.1,
    figure: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Plot the weights."), Writes(*FIGURE_FILES)
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the frequency weights of a generator with this kernel, and the measurements that recovery needs.

    The weights are those of eq. 11 of Heckel and Soltanolkotabi (2020), for the two-layer generator
    G(C) = ReLU(U C) v and the trigonometric functions const, cos 1, sin 1, cos 2, ... A p-smooth signal has
    equal energy in the first p of them. The number of Gaussian measurements follows from the bound of
    Theorems 1 and 2, with a constant from experiments, since the theory does not give it.
    """
    from calepin.reconstruction.spectrum import kernel_weights, measurements_needed, trigonometric_basis

    output = Output(quiet, as_json)
    if smooth is not None and smooth > length:
        raise typer.BadParameter(f"expected 1 to {length}, got {smooth}", param_hint="--smooth")
    weights = kernel_weights(_kernel(kernel, width), length)
    basis = trigonometric_basis(length)
    orders = sorted({p for p in (*SMOOTH, smooth or 1) if p <= length})
    needed = {p: measurements_needed(basis[:p].sum(0), weights, error) for p in orders}
    energy = (weights**2).cumsum() / (weights**2).sum()
    rows = [
        [str(p), str(p // 2), f"{weights[p - 1] / weights[0]:.3g}", f"{energy[p - 1]:.3f}", str(m or "-")]
        for p, m in needed.items()
    ]
    output.line(f"{kernel} kernel, width {width:g}, signals of {length} samples")
    output.table(["p", "frequency", "weight", "energy of the first p", "measurements"], rows)
    if None in needed.values():
        output.line(
            f"-: the bound of the relative squared error is above {error:g} for any number of measurements"
        )
    written = []
    if figure is not None:
        _draw(weights / weights[0], f"{kernel} kernel, width {width:g}", figure)
        written.append(str(figure))
        output.line(str(figure))
    output.result(
        {
            "weights": weights.tolist(),
            "p": orders,
            "measurements": list(needed.values()),
            "error": error,
            "written": written,
        }
    )


def _kernel(kernel: Kernel, width: float) -> "Tensor":
    from calepin.networks.two_layer import box_kernel, gaussian_kernel, triangular_kernel

    if kernel == Kernel.gaussian:
        return gaussian_kernel(width)
    if width % 1 != 0:
        raise typer.BadParameter(f"expected an odd whole number, got {width:g}", param_hint="--width")
    return triangular_kernel(int(width)) if kernel == Kernel.triangular else box_kernel(int(width))


def _draw(weights: "NDArray[np.floating]", title: str, path: Path) -> None:
    import numpy as np

    from calepin.report.figures import Curve, curves, save_figure

    lines = {"eq. 11": Curve(np.arange(1, len(weights) + 1), weights)}
    drawn = curves(lines, xlabel="trigonometric function", ylabel="weight / first", yscale="log", title=title)
    save_figure(drawn, path)
