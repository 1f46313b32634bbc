"""What `calepin deblur`, `upscale` and `demosaic` have in common: read, restore, measure, write."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.batches import WRITTEN, Batch, find_sources
from calepin.cli.figures import draw_images, save
from calepin.cli.many import Report, Told, work_on
from calepin.cli.measures import Measure, Range, measure, show_measures
from calepin.cli.one_unit import OneUnit
from calepin.cli.options import (
    FIGURE_FILES,
    Default,
    Writes,
    given,
    refuse,
)
from calepin.cli.output import Output, peak_memory_mb
from calepin.cli.planes import is_stack, span, work_on_planes, write_stack_alone
from calepin.cli.units import level_in_pixels, unit_of
from calepin.core.paths import check_separate
from calepin.core.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.operators.base import LinearOperator
    from calepin.restoration.restoring import RestoreResult

RINGING, RINGING_SHARE = 0.1, 0.025  # beyond the range, as a part of it; share of the pixels on each side

__all__ = [
    "Axes",
    "FigureOption",
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
        help="Restored image or stack, with the bit depth of IMAGE; a folder for several images.",
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
Axes = Annotated[
    str | None,
    typer.Option(
        metavar="AXES",
        help="A letter for each axis of a file with several images, as TYX or CZYX. "
        "[default: those that the file tells]",
    ),
]
FigureOption = Annotated[
    Path | None,
    typer.Option(
        "--figure",
        metavar="PNG",
        help="Plot IMAGE and the restored image, with a detail, and what the restored image leaves of IMAGE.",
    ),
    Writes(*FIGURE_FILES),
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
    unit
        Checks that the noise level has one unit in all files.
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
    unit: OneUnit = field(default_factory=OneUnit)

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on beside the files, as JSON."""
        options = {"range": self.units, "sigma": self.sigma, "prior": self.prior}
        return {**self.of_operator, **options}

    def restored(self, output: Output, path: Path, callback: Callable[[str, float], object]) -> "Restored":
        """Return the restored image of a file."""
        from calepin.datasets.images import read_image

        source = read_image(path, value_range=self.units)
        self.unit.check(path, source.levels is not None)
        for note in source.notes:
            output.note(f"{path}: {note}")
        restored = self.restore(source, callback)
        _note_alpha(output, path, source, restored.image)
        return restored

    def check_reference(self, path: Path, reference: Path) -> None:
        """Raise ValueError, before any work, if a true image has another shape than the restored one."""
        from calepin.datasets.images import read_image

        observed = _planes(read_image(path, value_range=self.units).pixels)
        shape = self.make_operator(observed.shape).in_shape
        check_shape_of_reference(
            read_image(reference, value_range="auto").pixels.shape,
            shape if len(shape) == 2 else (*shape[1:], shape[0]),
            "the shape of the restored image,",
        )

    def restore(self, source: "Image", callback: Callable[[str, float], object]) -> "Restored":
        """Return the restored image of an image, without its alpha channel if it has another size."""
        import numpy as np

        from calepin.datasets.noise import GaussianNoise
        from calepin.restoration.restoring import restore

        observed = _planes(source.pixels)
        operator = self.make_operator(observed.shape)
        unit = unit_of(source)
        result = restore(
            np.ascontiguousarray(observed),
            operator,
            noise=None if self.sigma is None else GaussianNoise(level_in_pixels(self.sigma, source)),
            callback=callback,
            **given(prior=self.prior),
        )
        pixels = _last(result.image)
        alpha = source.alpha if pixels.shape[:2] == source.pixels.shape[:2] else None
        scale = pixels.shape[0] / source.pixels.shape[0], pixels.shape[1] / source.pixels.shape[1]
        page = None if source.page is None else source.page.scaled(scale)
        if pixels.shape == source.pixels.shape:
            _warn_of_ringing(pixels, source.pixels)
        missed = observed - _applied(operator, result.image)
        restored = replace(source, pixels=pixels, alpha=alpha, page=page)
        return Restored(restored, result, unit, source, _last(missed))

    def restored_stack(
        self,
        output: Output,
        source: Path,
        target: Path,
        report: Report,
        *,
        axes: str | None,
        figure: Path | None = None,
    ) -> Told:
        """Restore each plane of a stack, write it, and return what was done."""

        def work(image: "Image", k: int, n: int, part: Report) -> "tuple[Image, dict[str, Any]]":
            self.unit.check(source, image.levels is not None)
            found = self.restore(image, lambda stage, fraction: part(fraction))
            if k == 0:
                _note_alpha(output, source, image, found.image)
            return found.image, found.values

        names = "measured", self.done
        text, values = work_on_planes(
            output,
            source,
            target,
            work,
            report,
            axes=axes,
            units=self.units,
            names=names,
            missing="error",
            figure=figure,
        )
        return f"{text}, noise sigma {span(values['sigma'])}, {span(values['n_iter'])} steps", values


@dataclass(frozen=True)
class Restored:
    """A restored image, and how it was found.

    Attributes
    ----------
    image, result
        The image, and what `calepin.restore` returned.
    unit
        Difference of white and black in units of noise levels.
    source, missed
        The image that was measured, and its pixels minus those that the restored image predicts.
    """

    image: "Image"
    result: "RestoreResult"
    unit: float
    source: "Image"
    missed: "NDArray[np.floating]"

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
    figure: Path | None,
    axes: str | None,
    force: bool,
) -> None:
    """Restore the image or stack of a file, or those of many files into a folder, and print how it was done.

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
    reference, figure, axes, force
        Options of the command.

    Raises
    ------
    typer.Exit
        With the status 1, after all others are done, if one of many images could not be restored.
    """
    sources, single = find_sources(images, output_path)
    if single and not is_stack(sources[0], axes):
        _restore_one(output, sources[0], output_path, restoring, reference, figure)
        return
    refuse({"--reference": reference}, "is for a single image")
    refuse({"--figure": None if single else figure}, "is for a single image or stack")
    unit = OneUnit("--sigma" if restoring.sigma and restoring.units == "auto" else None, sources, axes)
    unit.check_headers()
    restoring = replace(restoring, unit=unit)

    def work(source: Path, target: Path, report: Report) -> Told:
        if is_stack(source, axes):
            return restoring.restored_stack(output, source, target, report, axes=axes, figure=figure)
        restored = restoring.restored(output, source, lambda stage, fraction: report(fraction))
        write(output, target, restored.image)
        return str(restored), restored.values

    if single:
        write_stack_alone(output, work, sources[0], output_path, restoring.doing, restoring.done, figure)
        return
    beside = {name: dict.fromkeys(sources, path) for name, path in restoring.files.items()}
    batch = Batch(
        restoring.command,
        sources,
        output_path,
        restoring.settings | {"axes": axes},
        written=WRITTEN,
        force=force,
        beside=beside,
    )
    work_on(output, work, batch, doing=restoring.doing, done=restoring.done)


def _restore_one(
    output: Output,
    image: Path,
    output_path: Path,
    restoring: Restoring,
    reference: Path | None,
    figure: Path | None,
) -> None:
    """Restore one image, and measure it if the true one is known."""
    from calepin.datasets.images import check_image_path

    check_image_path(output_path, arrays=True)
    if figure is not None:
        check_separate({"--figure": figure}, [("IMAGE", image)])  # also if a pattern names it
    if reference is not None:
        restoring.check_reference(image, reference)
    begun = time.perf_counter()
    with progress_bar(restoring.doing, total=1, shown=not output.quiet) as bar:
        restored = restoring.restored(output, image, lambda stage, fraction: bar.update(fraction, stage))
    seconds = time.perf_counter() - begun
    write(output, output_path, restored.image)
    clean = (
        None
        if reference is None
        else reference_of(reference, restored.image, "the shape of the restored image,")
    )
    scale = Range.of(clean, restored.image, restoring.units)
    truth = None if clean is None else clean.pixels
    found = measure(restored.image.pixels, truth, scale)
    measures = {"restored": found}
    if restored.source.pixels.shape == restored.image.pixels.shape:
        measures = {"measured": measure(restored.source.pixels, truth, scale)} | measures
    before = measures.get("measured", found).psnr
    if before is not None and found.psnr is not None and found.psnr < before:
        output.note(f"the restored image is worse than the measured one, by {before - found.psnr:.2f} dB")
    if figure is not None:
        save(_drawn(restored, restoring.done, clean, found), figure)
    output.line(str(restored))
    show_measures(output, measures, scale)
    memory = peak_memory_mb()
    spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
    written = [str(path) for path in (output_path, figure) if path is not None]
    output.line(", ".join([*written, spent]))
    output.result(
        {
            **restored.values,
            **({"psnr_measured": before} if "measured" in measures else {}),
            "psnr": found.psnr,
            "psnr_range": None if scale is None else scale.values,
            "ssim": found.ssim,
            "seconds": round(seconds, 3),
            "peak_memory_mb": memory,
            "written": written,
        }
    )


def _warn_of_ringing(pixels: "NDArray[np.floating]", source: "NDArray[np.floating]") -> None:
    """Warn of many pixels beyond the range of the measured image, on both sides of it."""
    low, high = float(source.min()), float(source.max())
    margin = RINGING * (high - low)
    beyond = float((pixels < low - margin).mean()), float((pixels > high + margin).mean())
    if min(beyond) > RINGING_SHARE:
        warnings.warn(
            f"{sum(beyond):.0%} of the pixels are far darker or brighter than all of the image: it rings, "
            "probably because the blur is not that wide, or goes on otherwise at the borders",
            stacklevel=2,
        )


def _note_alpha(output: Output, path: Path, source: "Image", restored: "Image") -> None:
    if source.alpha is not None and restored.alpha is None:
        output.note(f"{path}: the alpha channel is left out, the restored image has another size")


def _drawn(restored: Restored, done: str, clean: "Image | None", found: Measure) -> "Figure":
    """Return a figure of an image before and after; pixels of a smaller one are repeated."""
    size = restored.image.pixels.shape[:2]
    images = {
        "measured": _repeated(restored.source.pixels, size),
        done: restored.image.pixels,
        **({} if clean is None else {"true": clean.pixels}),
    }
    missed = _repeated(restored.missed, size)
    return draw_images(
        images, restored.source, measures={done: found}, differences={"measured - predicted": missed}
    )


def _repeated(pixels: "NDArray[np.floating]", size: tuple[int, ...]) -> "NDArray[np.floating]":
    rows, columns = (large // small for large, small in zip(size, pixels.shape[:2], strict=True))
    return pixels.repeat(rows, axis=0).repeat(columns, axis=1)


def _applied(operator: "LinearOperator", image: "NDArray[np.floating]") -> "NDArray[np.floating]":
    import torch

    with torch.no_grad():
        return operator(torch.from_numpy(image)[None])[0].numpy()


def _planes(pixels: "NDArray[np.floating]") -> "NDArray[np.floating]":
    """Return pixels (h, w) or (h, w, channels) as an image (h, w), or (channels, h, w)."""
    import numpy as np

    return pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _last(planes: "NDArray[np.floating]") -> "NDArray[np.floating]":
    """Return an image (h, w), or (channels, h, w), as pixels (h, w) or (h, w, channels)."""
    import numpy as np

    return planes if planes.ndim == 2 else np.moveaxis(planes, 0, -1)


def write(output: Output, path: Path, image: "Image") -> None:
    """Write an image, and say what the file cannot hold."""
    from calepin.datasets.images import write_image

    for loss in write_image(path, image):
        output.note(f"{path}: {loss}")


def reference_of(path: Path, image: "Image", shape: str) -> "Image":
    """Return a true image, in the units of an image.

    Raises
    ------
    ValueError
        If it does not have the shape of the image, which `shape` names.
    """
    from calepin.datasets.images import read_image

    levels = image.levels
    clean = read_image(path, value_range=None if levels is None else (levels.black, levels.white))
    check_shape_of_reference(clean.pixels.shape, image.pixels.shape, shape)
    return clean


def check_shape_of_reference(found: tuple[int, ...], expected: tuple[int, ...], shape: str) -> None:
    """Raise ValueError if a true image does not have the expected shape, which `shape` names."""
    if found != expected:
        raise ValueError(f"reference: expected {shape} {expected}, got {found}")
