"""``calepin demosaic``: colours of the raw image of a camera."""

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

__all__ = ["EXAMPLES", "demosaic"]

EXAMPLES = [
    ("calepin demosaic raw.tif -o photo.tif", "pixels in the order RGGB"),
    ("calepin demosaic raw.png --pattern GRBG --sigma 0 -o photo.png", "without noise"),
    ("calepin demosaic raws/*.tif -o photos/", "many images"),
]


class Pattern(StrEnum):
    """Colours of the first two pixels of the first row, then of the second."""

    RGGB = "RGGB"
    BGGR = "BGGR"
    GRBG = "GRBG"
    GBRG = "GBRG"


def demosaic(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help="Raw images, one colour a pixel, or folders of them: gray PNG, TIFF, .npy or .zarr.",
        ),
    ],
    output_path: OutputPath,
    pattern: Annotated[
        Pattern | None,
        typer.Option(help="Colours of the first two pixels of the first row, then of the second row."),
        Default("calepin.operators.bayer:Bayer", "pattern"),
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
    """Find the colours that the Bayer filter of a camera left out.

    IMAGE is the mosaic that the sensor measured, linear or with a gamma; white balance and profile of the
    camera are not applied. Vendors' raw files are read by other programs, which write them as 16-bit TIFF.

    All pages of a TIFF are taken, and the planes of .zarr, one by one. Several images are written into the
    folder OUT under their own names. Those that are there, from an
    earlier run with the same settings, are not computed again.
    """
    from calepin.operators.bayer import Bayer

    def mosaic(shape: tuple[int, ...]) -> Bayer:
        if len(shape) != 2:
            raise ValueError(f"image: expected a gray mosaic, got a colour image of shape {shape}")
        return Bayer((shape[0], shape[1]), **given(pattern=pattern))

    restoring = Restoring(
        command="demosaic",
        doing="demosaicing",
        done="demosaiced",
        make_operator=mosaic,
        of_operator={"pattern": pattern},
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
