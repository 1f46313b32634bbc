"""``calepin upscale``: enlarge an image by a whole factor."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

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

__all__ = ["EXAMPLES", "upscale"]

EXAMPLES = [
    ("calepin upscale photo.png -o large.png", "twice as many pixels along each side"),
    ("calepin upscale photo.png --factor 3 --sigma 0 -o large.png", "a small image without noise"),
    ("calepin upscale scan.tif --antialias box -o large.tif", "as measured by larger pixels of a sensor"),
    ("calepin upscale photos/ -o large/", "many images"),
]


class Antialias(StrEnum):
    """How the small image was made of the large one."""

    bicubic = "bicubic"
    box = "box"


def upscale(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE", help="Small images or folders of them: PNG, TIFF, JPEG, .npy, .zarr or .nii."
        ),
    ],
    output_path: OutputPath,
    factor: Annotated[int, typer.Option(min=2, metavar="N", help="Factor of both sides.")] = 2,
    antialias: Annotated[
        Antialias | None,
        typer.Option(
            help="How IMAGE was made: reduced by bicubic interpolation, or by means of N x N pixels."
        ),
        Default("calepin.operators.blur:Downsample", "antialias"),
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
    """Enlarge an image so that, reduced again, it is IMAGE.

    Gray or colour, 8 or 16 bits or floats; bit depth, colour and profile are kept.

    All pages of a TIFF are taken, and the planes of .zarr and NIfTI, one by one. Several images are written
    into the folder OUT under their own names. Those that are there, from an earlier run with the same
    settings, are not computed again.
    """
    from calepin.operators.blur import Downsample

    def reduction(shape: tuple[int, ...]) -> Downsample:
        large = (*shape[:-2], *(factor * side for side in shape[-2:]))
        return Downsample(large, factor, **given(antialias=antialias))

    restoring = Restoring(
        command="upscale",
        doing="enlarging",
        done="enlarged",
        make_operator=reduction,
        of_operator={"factor": factor, "antialias": antialias},
        units=parse_range(value_range),
        sigma=sigma,
        prior=prior,
    )
    restore_images(
        Output(quiet, as_json, debug),
        images,
        output_path,
        restoring,
        reference=reference,
        figure=figure,
        axes=axes,
        force=force,
    )
