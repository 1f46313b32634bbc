"""``calepin inpaint``: fill the missing pixels of an image."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calepin.cli.measures import Measure, measure, measure_rows
from calepin.cli.options import (
    ARRAY_FILES,
    FIGURE_FILES,
    IMAGE_FILES,
    Force,
    Writes,
    parse_range,
    refuse,
)
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image

__all__ = ["EXAMPLES", "inpaint"]

EXAMPLES = [
    ("calepin inpaint photo.png --mask mask.png -o filled.png", "white in the mask where a pixel is known"),
    (
        "calepin inpaint photo.png --mask scratches.png --invert-mask -o filled.png",
        "white where it is missing",
    ),
    ("calepin inpaint field.npy --range data -o filled.npy", "NaN marks missing pixels"),
    ("calepin inpaint scan.tif --mask dead.png --sigma 10 -o clean.tif", "and noise is removed"),
]

RANGE = 255  # from black to white, on the scale of noise levels on the command line


def inpaint(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Image with missing pixels: PNG, TIFF, JPEG or .npy.")
    ],
    output_path: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="Filled image, with the bit depth of IMAGE."),
        Writes(*IMAGE_FILES, *ARRAY_FILES),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="Image or .npy of the size of IMAGE, of two values: 0 where a pixel is missing. "
            "[default: NaN in IMAGE]",
        ),
    ] = None,
    invert_mask: Annotated[
        bool, typer.Option("--invert-mask", help="MASK is 0 where a pixel is known.")
    ] = False,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LO:HI",
            help="Samples of IMAGE for black and white, or 'data' for the smallest and largest; the noise "
            "level and results are then in the units of IMAGE. [default: the whole range of 8 or 16 bits, "
            "0:1 for floats]",
        ),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="S",
            help="Standard deviation of Gaussian noise of the known pixels (0..255), to be removed. "
            "[default: known pixels stay as they are]",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="CLEAN", help="The complete image, to measure PSNR and SSIM against."),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Plot the known pixels and the filled image, with a detail."),
        Writes(*FIGURE_FILES),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fill the missing pixels of an image from groups of similar patches.

    Gray or colour, 8 or 16 bits or floats; bit depth, colour, alpha channel and profile are kept. Pixels are
    missing where MASK is 0 and where IMAGE is NaN.
    """
    import numpy as np

    from calepin.core.progress import progress_bar
    from calepin.datasets.images import read_image, write_image
    from calepin.datasets.noise import GaussianNoise
    from calepin.imaging.inpainting import inpaint as fill

    output = Output(quiet, as_json)
    if mask is None:
        refuse({"--invert-mask": invert_mask}, "goes with --mask")
    source = read_image(image, value_range=parse_range(value_range), missing="allow")
    for note in source.notes:
        output.note(f"{image}: {note}")
    clean = None if reference is None else _reference(reference, source)
    observed = ~np.isnan(source.pixels)
    if mask is not None:
        observed &= _read_mask(mask, source.pixels, invert_mask)
    unit = RANGE if source.levels is None else source.levels.unit
    noise = None if sigma is None else GaussianNoise(sigma / unit)
    begun = time.perf_counter()
    with progress_bar("inpainting", total=1, shown=not output.quiet) as bar:
        pixels = fill(
            source.pixels, observed, noise=noise, callback=lambda stage, fraction: bar.update(fraction, stage)
        )
    seconds = time.perf_counter() - begun
    filled = replace(source, pixels=pixels)
    for loss in write_image(output_path, filled):
        output.note(f"{output_path}: {loss}")
    found = measure(pixels, clean)
    if figure is not None:
        _draw(figure, source.pixels, observed, pixels, clean, found)
    written = [str(path) for path in (output_path, figure) if path is not None]
    missing = 1 - float(observed.mean())
    height, width = pixels.shape[:2]
    output.line(
        f"{width} x {height} {'colour' if pixels.ndim == 3 else 'gray'}, {100 * missing:.3g} % missing"
    )
    if clean is not None:
        output.table(["", "PSNR (dB)", "SSIM"], measure_rows({"filled": found}))
    memory = peak_memory_mb()
    spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
    output.line(", ".join([*written, spent]))
    output.result(
        {
            "missing": missing,
            "sigma": sigma,
            "psnr": found.psnr,
            "ssim": found.ssim,
            "seconds": round(seconds, 3),
            "peak_memory_mb": memory,
            "written": written,
        }
    )


def _reference(path: Path, source: "Image") -> "NDArray[np.floating]":
    from calepin.datasets.images import read_image

    levels = source.levels
    units = None if levels is None else (levels.black, levels.white)
    clean = read_image(path, value_range=units).pixels
    if clean.shape != source.pixels.shape:
        raise ValueError(f"reference: expected the image's shape {source.pixels.shape}, got {clean.shape}")
    return clean


def _read_mask(path: Path, image: "NDArray[np.floating]", inverted: bool) -> "NDArray[np.bool_]":
    """Return where pixels are known, in the shape of the image."""
    import numpy as np

    from calepin.core.reading import read_npy
    from calepin.datasets.images import read_image

    # samples as they are; as .npy they may be booleans, which are no image
    values = read_npy(path) if path.suffix == ".npy" else read_image(path, value_range=(0, 1)).pixels
    numbers = values.dtype.kind in "biuf" and values.size > 0
    if not numbers or not ((values == 0) | (values == values.max())).all():
        raise ValueError(f"{path}: expected a mask of two values, 0 where a pixel is missing, got others")
    known = (values == 0) if inverted else (values != 0)
    if image.ndim == 2 and known.ndim == 3:
        known = known.all(axis=2)
    if known.shape not in (image.shape, image.shape[:2]):
        raise ValueError(f"{path}: expected a mask of the image's shape {image.shape}, got {known.shape}")
    return known if known.shape == image.shape else np.broadcast_to(known[..., None], image.shape)


def _draw(
    path: Path,
    image: "NDArray[np.floating]",
    observed: "NDArray[np.bool_]",
    filled: "NDArray[np.floating]",
    clean: "NDArray[np.floating] | None",
    found: Measure,
) -> None:
    import numpy as np

    from calepin.report.figures import before_after, save_figure

    images = {"known": np.where(observed, image, 0), "filled": filled}
    if clean is not None:
        images["complete"] = clean
    captions = {} if found.psnr is None else {"filled": f"{found.psnr:.2f} dB"}
    save_figure(before_after(images, captions=captions), path)
