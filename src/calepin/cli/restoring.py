"""What `calepin deblur`, `upscale` and `demosaic` have in common: read, restore, measure, write."""

import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calepin.cli.measures import measure, measure_rows
from calepin.cli.options import ARRAY_FILES, IMAGE_FILES, Default, Writes, given, parse_range
from calepin.cli.output import Output, peak_memory_mb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.operators.base import LinearOperator

__all__ = [
    "OutputPath",
    "PriorName",
    "PriorOption",
    "Reference",
    "Sigma",
    "ValueRange",
    "restore_image",
]

RANGE = 255  # from black to white, on the scale of noise levels on the command line


class PriorName(StrEnum):
    """Prior of the image."""

    dictionary = "dictionary"
    network = "network"
    best = "best"
    groups = "groups"
    wavelet = "wavelet"
    tv = "tv"
    untrained = "untrained"


OutputPath = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="OUT", help="Restored image, with the bit depth of IMAGE."),
    Writes(*IMAGE_FILES, *ARRAY_FILES),
]
Sigma = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="S",
        help="Standard deviation of Gaussian noise (0..255). [default: estimated by the residual]",
    ),
]
PriorOption = Annotated[
    PriorName | None,
    typer.Option(
        "--prior",
        help="What images are expected to look like; network is for photographs, best is dictionary and "
        "network.",
    ),
    Default("calepin.restoration.restoring:restore", "prior"),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        "--range",
        metavar="LO:HI",
        help="Samples of IMAGE for black and white, or 'data' for the smallest and largest; the noise level "
        "and results are then in the units of IMAGE. [default: the whole range of 8 or 16 bits, 0:1 for "
        "floats]",
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(metavar="CLEAN", help="The true image, to measure PSNR and SSIM against."),
]


def restore_image(
    output: Output,
    image: Path,
    output_path: Path,
    make_operator: "Callable[[tuple[int, ...]], LinearOperator]",
    *,
    done: str,
    value_range: str | None,
    sigma: float | None,
    prior: PriorName | None,
    reference: Path | None,
) -> None:
    """Restore the image of a file, write it, and print how it was done.

    Parameters
    ----------
    output
        What is printed.
    image, output_path
        The files.
    make_operator
        Returns the operator, given the shape (h, w) or (3, h, w) of the image in the file.
    done
        What the command does, for people: "deblurring".
    value_range, sigma, prior, reference
        Options of the command.
    """
    import numpy as np

    from calepin.core.progress import progress_bar
    from calepin.datasets.images import read_image, write_image
    from calepin.datasets.noise import GaussianNoise
    from calepin.restoration.restoring import restore

    source = read_image(image, value_range=parse_range(value_range))
    for note in source.notes:
        output.note(f"{image}: {note}")
    observed = source.pixels if source.pixels.ndim == 2 else np.moveaxis(source.pixels, -1, 0)
    operator = make_operator(observed.shape)
    unit = RANGE if source.levels is None else source.levels.unit
    noise = None if sigma is None else GaussianNoise(sigma / unit)
    begun = time.perf_counter()
    with progress_bar(done, total=1, shown=not output.quiet) as bar:
        result = restore(
            np.ascontiguousarray(observed),
            operator,
            noise=noise,
            callback=lambda stage, fraction: bar.update(fraction, stage),
            **given(prior=prior),
        )
    seconds = time.perf_counter() - begun
    pixels = result.image if result.image.ndim == 2 else np.moveaxis(result.image, 0, -1)
    alpha = source.alpha if pixels.shape[:2] == source.pixels.shape[:2] else None
    if source.alpha is not None and alpha is None:
        output.note(f"{image}: the alpha channel is left out, the restored image has another size")
    clean = None if reference is None else _reference(reference, source, pixels.shape)
    found = measure(pixels, clean)
    for loss in write_image(output_path, replace(source, pixels=pixels, alpha=alpha)):
        output.note(f"{output_path}: {loss}")
    height, width = pixels.shape[:2]
    colour = "colour" if pixels.ndim == 3 else "gray"
    output.line(f"{width} x {height} {colour}, noise sigma {result.sigma * unit:.4g}, {result.n_iter} steps")
    if clean is not None:
        output.table(["", "PSNR (dB)", "SSIM"], measure_rows({"restored": found}))
    memory = peak_memory_mb()
    spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
    output.line(f"{output_path}, {spent}")
    output.result(
        {
            "sigma": result.sigma * unit,
            "n_iter": result.n_iter,
            "converged": result.converged,
            "psnr": found.psnr,
            "ssim": found.ssim,
            "seconds": round(seconds, 3),
            "peak_memory_mb": memory,
            "written": [str(output_path)],
        }
    )


def _reference(path: Path, source: "Image", shape: tuple[int, ...]) -> "NDArray[np.floating]":
    from calepin.datasets.images import read_image

    levels = source.levels
    clean = read_image(path, value_range=None if levels is None else (levels.black, levels.white)).pixels
    if clean.shape != shape:
        raise ValueError(f"reference: expected the shape of the restored image, {shape}, got {clean.shape}")
    return clean
