"""What `calepin deblur`, `upscale` and `demosaic` have in common: read, restore, measure, write."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.batches import IMAGES, Batch, find_sources
from calepin.cli.many import Report, Told, work_on
from calepin.cli.measures import measure, measure_rows
from calepin.cli.options import ARRAY_FILES, IMAGE_FILES, Default, Writes, given, refuse
from calepin.cli.output import Output, peak_memory_mb
from calepin.core.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.operators.base import LinearOperator
    from calepin.restoration.restoring import RestoreResult

__all__ = [
    "RANGE",
    "WRITTEN",
    "OutputPath",
    "PriorName",
    "PriorOption",
    "Reference",
    "Restoring",
    "Sigma",
    "ValueRange",
    "reference_of",
    "restore_images",
    "write",
]

WRITTEN = (*IMAGE_FILES, *ARRAY_FILES)

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
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Restored image, with the bit depth of IMAGE; a folder for several images.",
    ),
    Writes(*WRITTEN, folders=True),
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


@dataclass(frozen=True, kw_only=True)
class Restoring:
    """How a command restores each image.

    Attributes
    ----------
    command
        Name of the command.
    doing, done
        What it does, for people: "deblurring" and "deblurred".
    make_operator
        Returns the operator, given the shape (h, w) or (3, h, w) of the image in the file.
    of_operator
        What the operator depends on, as JSON.
    units
        Samples of black and white, as `parse_range` returns them.
    sigma, prior
        Options of the command.
    files
        Files that the operator depends on, by the name of the option.
    """

    command: str
    doing: str
    done: str
    make_operator: "Callable[[tuple[int, ...]], LinearOperator]"
    of_operator: Mapping[str, Any]
    units: tuple[float, float] | str
    sigma: float | None
    prior: PriorName | None
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on beside the files, as JSON."""
        options = {"range": self.units, "sigma": self.sigma, "prior": self.prior}
        return {**self.of_operator, **options}

    def restored(self, output: Output, path: Path, callback: Callable[[str, float], object]) -> "Restored":
        """Return the restored image of a file."""
        import numpy as np

        from calepin.datasets.images import read_image
        from calepin.datasets.noise import GaussianNoise
        from calepin.restoration.restoring import restore

        source = read_image(path, value_range=self.units)
        for note in source.notes:
            output.note(f"{path}: {note}")
        observed = source.pixels if source.pixels.ndim == 2 else np.moveaxis(source.pixels, -1, 0)
        operator = self.make_operator(observed.shape)
        unit = RANGE if source.levels is None else source.levels.unit
        result = restore(
            np.ascontiguousarray(observed),
            operator,
            noise=None if self.sigma is None else GaussianNoise(self.sigma / unit),
            callback=callback,
            **given(prior=self.prior),
        )
        pixels = result.image if result.image.ndim == 2 else np.moveaxis(result.image, 0, -1)
        alpha = source.alpha if pixels.shape[:2] == source.pixels.shape[:2] else None
        if source.alpha is not None and alpha is None:
            output.note(f"{path}: the alpha channel is left out, the restored image has another size")
        return Restored(replace(source, pixels=pixels, alpha=alpha), result, unit)


@dataclass(frozen=True)
class Restored:
    """A restored image, how it was found, and the difference of white and black in units of noise levels."""

    image: "Image"
    result: "RestoreResult"
    unit: float

    @property
    def values(self) -> dict[str, Any]:
        """Return how the image was found, for programs."""
        result = self.result
        return {"sigma": result.sigma * self.unit, "n_iter": result.n_iter, "converged": result.converged}

    def __str__(self) -> str:
        height, width = self.image.pixels.shape[:2]
        colour = "colour" if self.image.pixels.ndim == 3 else "gray"
        level = f"noise sigma {self.result.sigma * self.unit:.4g}"
        return f"{width} x {height} {colour}, {level}, {self.result.n_iter} steps"


def restore_images(
    output: Output,
    images: Sequence[Path],
    output_path: Path,
    restoring: Restoring,
    *,
    reference: Path | None,
    force: bool,
) -> None:
    """Restore the image of a file, or those of many files into a folder, and print how it was done.

    Parameters
    ----------
    output
        What is printed.
    images
        Files, folders and patterns.
    output_path
        A file for one image, a folder for any number.
    restoring
        How each is restored.
    reference, force
        Options of the command.

    Raises
    ------
    typer.Exit
        With the status 1, after all others are done, if one of many images could not be restored.
    """
    sources, single = find_sources(images, output_path, IMAGES)
    if single:
        _restore_one(output, sources[0], output_path, restoring, reference)
        return
    refuse({"--reference": reference}, "is for a single image")

    def work(source: Path, target: Path, report: Report) -> Told:
        restored = restoring.restored(output, source, lambda stage, fraction: report(fraction))
        write(output, target, restored.image)
        return str(restored), restored.values

    beside = {name: dict.fromkeys(sources, path) for name, path in restoring.files.items()}
    batch = Batch(
        restoring.command,
        sources,
        output_path,
        restoring.settings,
        written=WRITTEN,
        force=force,
        beside=beside,
    )
    work_on(output, work, batch, doing=restoring.doing, done=restoring.done)


def _restore_one(
    output: Output, image: Path, output_path: Path, restoring: Restoring, reference: Path | None
) -> None:
    """Restore one image, and measure it if the true one is known."""
    begun = time.perf_counter()
    with progress_bar(restoring.doing, total=1, shown=not output.quiet) as bar:
        restored = restoring.restored(output, image, lambda stage, fraction: bar.update(fraction, stage))
    seconds = time.perf_counter() - begun
    clean = (
        None
        if reference is None
        else reference_of(reference, restored.image, "the shape of the restored image,")
    )
    found = measure(restored.image.pixels, clean)
    write(output, output_path, restored.image)
    output.line(str(restored))
    if clean is not None:
        output.table(["", "PSNR (dB)", "SSIM"], measure_rows({"restored": found}))
    memory = peak_memory_mb()
    spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
    output.line(f"{output_path}, {spent}")
    output.result(
        {
            **restored.values,
            "psnr": found.psnr,
            "ssim": found.ssim,
            "seconds": round(seconds, 3),
            "peak_memory_mb": memory,
            "written": [str(output_path)],
        }
    )


def write(output: Output, path: Path, image: "Image") -> None:
    """Write an image, and say what the file cannot hold."""
    from calepin.datasets.images import write_image

    for loss in write_image(path, image):
        output.note(f"{path}: {loss}")


def reference_of(path: Path, image: "Image", shape: str) -> "NDArray[np.floating]":
    """Return the pixels of a true image, in the units of an image.

    Raises
    ------
    ValueError
        If it does not have the shape of the image, which `shape` names.
    """
    from calepin.datasets.images import read_image

    levels = image.levels
    clean = read_image(path, value_range=None if levels is None else (levels.black, levels.white)).pixels
    if clean.shape != image.pixels.shape:
        raise ValueError(f"reference: expected {shape} {image.pixels.shape}, got {clean.shape}")
    return clean
