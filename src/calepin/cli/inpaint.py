"""``calepin inpaint``: fill the missing pixels of an image."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from calepin.cli.batches import WRITTEN, Batch, find_sources
from calepin.cli.figures import draw_images, save
from calepin.cli.many import Report, Told, Work, work_on
from calepin.cli.masks import mask_of, read_mask, read_masks
from calepin.cli.measures import Range, measure, show_measures
from calepin.cli.one_unit import OneUnit
from calepin.cli.options import FIGURE_FILES, Force, Writes, parse_range, refuse
from calepin.cli.output import Debug, Json, Output, Quiet, peak_memory_mb
from calepin.cli.planes import is_stack, span, work_on_planes, write_stack_alone
from calepin.cli.restoring import Axes, reference_of, write
from calepin.cli.units import level_in_pixels
from calepin.core.paths import check_separate
from calepin.core.progress import progress_bar

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
    ("calepin inpaint scans/ --mask masks/ -o filled/", "many images, each with the mask of the same name"),
]


def inpaint(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help="Images or stacks with missing pixels, or folders of them: PNG, TIFF, JPEG, .npy, .zarr, "
            ".nii or .nii.gz.",
        ),
    ],
    output_path: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Filled image, with the bit depth of IMAGE; a folder for several images.",
        ),
        Writes(*WRITTEN, folders=True),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="Image, .npy or NIfTI of the size of IMAGE, of two values: 0 where a pixel is missing; of a "
            "stack that of one plane for all, or with a page for each; or a folder of masks with the names "
            "of the images. [default: NaN in IMAGE]",
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
    axes: Axes = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fill the missing pixels of an image from groups of similar patches.

    Gray or colour, 8 or 16 bits or floats; bit depth, colour, alpha channel and profile are kept. Pixels are
    missing where MASK is 0 and where IMAGE is NaN.

    All pages of a TIFF are taken, and the planes of .zarr and NIfTI, one by one. Several images are written
    into the folder OUT under their own names. Those that are there, from an earlier run with the same
    settings, are not computed again.
    """
    output = Output(quiet, as_json, debug)
    if mask is None:
        refuse({"--invert-mask": invert_mask}, "goes with --mask")
    sources, single = find_sources(images, output_path)
    units = parse_range(value_range)
    unit = OneUnit("--sigma" if sigma and units == "auto" else None, sources, axes, estimates=False)
    filling = Filling(output, mask, invert_mask, units, sigma, axes, unit)
    if single and is_stack(sources[0], axes):
        refuse({"--reference": reference}, "is for a single image")
        _check_read(filling, sources[0], output_path, figure)
        work = filling.work(figure)
        write_stack_alone(output, work, sources[0], output_path, "inpainting", "filled", figure)
        return
    if single:
        _fill_one(output, filling, sources[0], output_path, reference, figure)
        return
    refuse({"--reference": reference}, "is for a single image")
    refuse({"--figure": figure}, "is for a single image or stack")
    _fill_many(output, filling, sources, output_path, force=force)


@dataclass(frozen=True)
class Filling:
    """How each image is filled.

    Attributes
    ----------
    output
        What is printed.
    mask, invert_mask, sigma, axes
        Options of the command.
    units
        Samples of black and white, as `parse_range` returns them.
    unit
        Checks that the noise level has one unit in all files.
    """

    output: Output
    mask: Path | None
    invert_mask: bool
    units: tuple[float, float] | str
    sigma: float | None
    axes: str | None
    unit: OneUnit

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on beside the files, as JSON."""
        return {"invert_mask": self.invert_mask, "range": self.units, "sigma": self.sigma, "axes": self.axes}

    def read(self, path: Path) -> "Gaps":
        """Return the image of a file, and where its pixels are known."""
        import numpy as np

        from calepin.datasets.images import read_image

        source = read_image(path, value_range=self.units, missing="allow")
        self.unit.check(path, source.levels is not None)
        for note in source.notes:
            self.output.note(f"{path}: {note}")
        observed = ~np.isnan(source.pixels)
        if self.mask is not None:
            observed &= read_mask(mask_of(path, self.mask), source.pixels, self.invert_mask)
        return Gaps(source, observed)

    def work(self, figure: Path | None = None) -> Work:
        """Return the work on a file, an image or a stack."""

        def on_file(source: Path, target: Path, report: Report) -> Told:
            if is_stack(source, self.axes):
                return self._filled_stack(source, target, report, figure)
            gaps = self.read(source)
            write(self.output, target, self.filled(gaps, lambda stage, fraction: report(fraction)))
            return str(gaps), {"missing": gaps.missing, "sigma": self.sigma}

        return on_file

    def _filled_stack(self, source: Path, target: Path, report: Report, figure: Path | None) -> Told:
        """Fill each plane of a stack, write it, and return what was done."""
        import numpy as np

        masks: list[NDArray[np.bool_]] = []
        hidden: dict[int, NDArray[np.bool_]] = {}

        def fill(image: "Image", k: int, n: int, part: Report) -> "tuple[Image, dict[str, Any]]":
            self.unit.check(source, image.levels is not None)
            if self.mask is not None and not masks:
                path = mask_of(source, self.mask)
                masks.append(read_masks(path, n, image.pixels, self.invert_mask))
            observed = ~np.isnan(image.pixels)
            if masks:
                observed &= masks[0][k if len(masks[0]) > 1 else 0]
            gaps = Gaps(image, observed)
            hidden[k] = ~observed
            if not gaps.missing and not self.sigma:
                return image, {"missing": 0.0, "sigma": self.sigma}
            filled = self.filled(gaps, lambda stage, fraction: part(fraction))
            return filled, {"missing": gaps.missing, "sigma": self.sigma}

        text, values = work_on_planes(
            self.output,
            source,
            target,
            fill,
            report,
            axes=self.axes,
            units=self.units,
            names=("known", "filled"),
            missing="allow",
            figure=figure,
            gaps=hidden.get,
        )
        if not any(values["missing"]) and not self.sigma:
            self.output.note(f"{source}: no sample is missing: the planes are written as they are")
        return f"{text}, {span([100 * part for part in values['missing']])} % missing", values

    def filled(self, gaps: "Gaps", callback: Callable[[str, float], object]) -> "Image":
        """Return an image without gaps."""
        from calepin.datasets.noise import GaussianNoise
        from calepin.imaging.inpainting import inpaint as fill

        noise = None if self.sigma is None else GaussianNoise(level_in_pixels(self.sigma, gaps.image))
        pixels = fill(gaps.image.pixels, gaps.observed, noise=noise, callback=callback)
        return replace(gaps.image, pixels=pixels)


@dataclass(frozen=True)
class Gaps:
    """An image, and where its pixels are known."""

    image: "Image"
    observed: "NDArray[np.bool_]"

    @property
    def missing(self) -> float:
        """The share of the pixels that are missing."""
        return 1 - float(self.observed.mean())

    def __str__(self) -> str:
        height, width = self.observed.shape[:2]
        colour = "colour" if self.observed.ndim == 3 else "gray"
        return f"{width} x {height} {colour}, {100 * self.missing:.3g} % missing"


def _fill_many(
    output: Output, filling: Filling, sources: Sequence[Path], folder: Path, *, force: bool
) -> None:
    """Fill the images of files into a folder."""
    filling.unit.check_headers()
    masks: dict[Path, Path] = {}
    if filling.mask is not None:
        if not filling.mask.exists():
            raise typer.BadParameter(
                f"expected a file or a folder of masks, got {filling.mask}, which does not exist",
                param_hint="--mask",
            )
        for source in sources:
            with suppress(typer.BadParameter):  # said when it is the turn of the image
                masks[source] = mask_of(source, filling.mask)

    batch = Batch(
        "inpaint",
        sources,
        folder,
        filling.settings,
        written=WRITTEN,
        force=force,
        beside={"--mask": masks},
    )
    work_on(output, filling.work(), batch, doing="inpainting", done="filled")


def _check_read(filling: Filling, image: Path, output_path: Path, figure: Path | None) -> dict[str, Path]:
    """Return the files that are written by their options; raise ValueError if one of them is read."""
    read = [("IMAGE", image)]
    if filling.mask is not None:
        read.append(("--mask", mask_of(image, filling.mask)))
    written = {"--output": output_path} | ({} if figure is None else {"--figure": figure})
    check_separate(written, read)
    return written


def _fill_one(
    output: Output,
    filling: Filling,
    image: Path,
    output_path: Path,
    reference: Path | None,
    figure: Path | None,
) -> None:
    """Fill one image, and measure it if the complete one is known."""
    import numpy as np

    from calepin.datasets.images import check_image_path

    check_image_path(output_path, arrays=True)
    written = _check_read(filling, image, output_path, figure)
    gaps = filling.read(image)
    clean = None if reference is None else reference_of(reference, gaps.image, "the image's shape")
    begun = time.perf_counter()
    with progress_bar("inpainting", total=1, shown=not output.quiet) as bar:
        filled = filling.filled(gaps, lambda stage, fraction: bar.update(fraction, stage))
    seconds = time.perf_counter() - begun
    write(output, output_path, filled)
    scale = Range.of(clean, gaps.image, filling.units)
    found = measure(filled.pixels, None if clean is None else clean.pixels, scale)
    if figure is not None:
        known = np.where(gaps.observed, gaps.image.pixels, np.nan)
        images = {"known": known, "filled": filled.pixels}
        drawn = draw_images(
            images if clean is None else {**images, "complete": clean.pixels},
            gaps.image,
            measures={"filled": found},
            differences={} if filling.sigma is None else {"known - filled": known - filled.pixels},
        )
        save(drawn, figure)
    output.line(str(gaps))
    show_measures(output, {"filled": found}, scale)
    memory = peak_memory_mb()
    spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
    output.line(", ".join([*map(str, written.values()), spent]))
    output.result(
        {
            "missing": gaps.missing,
            "sigma": filling.sigma,
            "psnr": found.psnr,
            "psnr_range": None if scale is None else scale.values,
            "ssim": found.ssim,
            "seconds": round(seconds, 3),
            "peak_memory_mb": memory,
            "written": [str(path) for path in written.values()],
        }
    )
