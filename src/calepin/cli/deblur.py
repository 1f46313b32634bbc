"""``calepin deblur``: sharpen an image that was blurred by a known point spread function."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calepin.cli.options import Default, Force, given, parse_range
from calepin.cli.output import Debug, Json, Output, Quiet
from calepin.cli.restoring import (
    Axes,
    FigureOption,
    OutputPath,
    PriorOption,
    Reference,
    Restoring,
    Sigma,
    ValueRange,
    restore_images,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EXAMPLES", "deblur"]

EXAMPLES = [
    ("calepin deblur photo.png --gaussian 1.6 -o sharp.png", "a Gaussian blur of 1.6 pixels"),
    ("calepin deblur photo.png --psf psf.npy --sigma 2 -o sharp.png", "a measured point spread function"),
    ("calepin deblur stars.tif --psf star.png --prior tv -o sharp.tif", ""),
    ("calepin deblur scans/*.tif --gaussian 1.6 -o sharp/", "many images"),
]

REACH = 4.0  # standard deviations to which a Gaussian is computed
_TOLERANCE = 1e-3  # deviation of the sum of a PSF from 1 that is worth a note


class Boundary(StrEnum):
    """What lies outside the image."""

    symmetric = "symmetric"
    circular = "circular"
    zero = "zero"


def deblur(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE", help="Blurred images or folders of them: PNG, TIFF, JPEG, .npy, .zarr or .nii."
        ),
    ],
    output_path: OutputPath,
    psf: Annotated[
        Path | None,
        typer.Option(
            metavar="PSF",
            help="The point spread function, the image of a point: gray image or .npy; its centre is the "
            "pixel size // 2. It is divided by its sum.",
        ),
    ] = None,
    gaussian: Annotated[
        float | None,
        typer.Option(metavar="S", help="A Gaussian of this standard deviation in pixels instead of PSF."),
    ] = None,
    boundary: Annotated[
        Boundary | None,
        typer.Option(help="What lies outside the image: its mirror image, its other side, or zeros."),
        Default("calepin.operators.blur:Blur", "boundary"),
    ] = None,
    sigma: Sigma = None,
    prior: PriorOption = None,
    value_range: ValueRange = None,
    reference: Reference = None,
    figure: FigureOption = None,
    axes: Axes = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Sharpen an image that was blurred by a known point spread function (PSF).

    Gray or colour, 8 or 16 bits or floats; bit depth, colour, alpha channel and profile are kept.

    All pages of a TIFF are taken, and the planes of .zarr and NIfTI, one by one. Several images are written
    into the folder OUT under their own names. Those that are there, from an earlier run with the same
    settings, are not computed again.
    """
    from calepin.operators.blur import Blur

    output = Output(quiet, as_json, debug)
    if (psf is None) == (gaussian is None):
        raise typer.BadParameter("give one of --psf FILE and --gaussian S", param_hint="--psf")
    if gaussian is not None and not 0 < gaussian < float("inf"):
        raise typer.BadParameter(f"expected a number above 0, got {gaussian:g}", param_hint="--gaussian")
    kernel = None if psf is None else _read_psf(psf, output)

    def blur(shape: tuple[int, ...]) -> Blur:
        if kernel is not None:
            return Blur(kernel, shape, **given(boundary=boundary))
        assert gaussian is not None
        height, width = shape[-2:]
        if 2 * _reach(gaussian) + 1 > min(height, width):  # before a kernel of any size is made
            raise typer.BadParameter(
                f"expected a blur of at most {min(height, width) / (2 * REACH):.3g} pixels for an image of "
                f"{width} x {height}, got {gaussian:g}",
                param_hint="--gaussian",
            )
        return Blur(_gaussian(gaussian), shape, **given(boundary=boundary))

    restoring = Restoring(
        command="deblur",
        doing="deblurring",
        done="deblurred",
        make_operator=blur,
        of_operator={"gaussian": gaussian, "boundary": boundary},
        units=parse_range(value_range),
        sigma=sigma,
        prior=prior,
        files={} if psf is None else {"--psf": psf},
    )
    restore_images(
        output, images, output_path, restoring, reference=reference, figure=figure, axes=axes, force=force
    )


def _reach(sigma: float) -> int:
    return max(1, math.ceil(REACH * sigma))


def _gaussian(sigma: float) -> "Tensor":
    import torch

    reach = _reach(sigma)
    t = torch.arange(-reach, reach + 1, dtype=torch.float64)
    line = (-0.5 * (t / sigma) ** 2).exp()
    return line[:, None] * line / line.sum() ** 2


def _read_psf(path: Path, output: Output) -> "Tensor":
    """Return a PSF with sum 1."""
    import numpy as np
    import torch

    from calepin.core.errors import FileFormatError
    from calepin.core.reading import read_npy
    from calepin.datasets.images import read_image

    is_npy = path.suffix.lower() == ".npy"
    values = read_npy(path) if is_npy else read_image(path, value_range="data").pixels
    if np.iscomplexobj(values):
        raise FileFormatError(f"{path}: expected a real PSF, got {values.dtype} (a transfer function?)")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2:
        raise FileFormatError(f"{path}: expected a gray image of a point, got shape {values.shape}")
    total = float(values.sum())
    if not total > 0:
        raise FileFormatError(f"{path}: expected a PSF with a sum above 0, got {total:g}")
    if abs(total - 1) > _TOLERANCE:
        output.note(f"{path}: the PSF sums to {total:.4g} and is divided by it")
    return torch.from_numpy(values / total)
