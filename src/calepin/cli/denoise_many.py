"""``calepin denoise`` for several images: many files, and the planes of stacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calepin.cli.batches import WRITTEN, Batch, find_sources
from calepin.cli.denoise_plan import Method, Plan, noise_values
from calepin.cli.figures import draw_images, draw_planes, save
from calepin.cli.many import Done, Report, Told
from calepin.cli.measures import CleanStack
from calepin.cli.noise_files import warn_of_levels
from calepin.cli.one_unit import OneUnit
from calepin.cli.options import is_folder, refuse
from calepin.cli.output import Output
from calepin.cli.planes import Planes, is_stack, span
from calepin.cli.units import unit_of
from calepin.core.paths import check_separate
from calepin.core.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.datasets.stacks import Stack

__all__ = ["denoise_many", "is_batch"]

Units = tuple[float, float] | str
# the numbers of the noise, of each volume or plane; what was done, for people, and measured, for programs
Found = tuple[list[dict[str, float]], str, dict[str, Any]]


def is_batch(images: Sequence[Path], output_path: Path | None, axes: str | None) -> bool:
    """Return whether a command has more than one image to denoise, or a folder to write into."""
    from calepin.datasets.stacks import count_planes

    several = len(images) > 1 or axes is not None or images[0].is_dir()
    into_folder = output_path is not None and is_folder(output_path)
    if several or into_folder or not images[0].exists():
        return several or into_folder or bool(set("*?[") & set(str(images[0])))
    return count_planes(images[0]) > 1


def denoise_many(
    output: Output,
    plan: Plan,
    images: Sequence[Path],
    output_path: Path | None,
    *,
    axes: str | None,
    units: Units,
    share: bool,
    force: bool,
    figure: Path | None,
    reference: Path | None,
    read: Sequence[tuple[str, Path]],
) -> None:
    """Denoise several images, write them, and print a line for each.

    `read` holds the files of other options, by their names, which no result may replace.

    Raises
    ------
    typer.Exit
        With the status 1, after all others are done, if an image could not be denoised.
    """
    if output_path is None:
        raise typer.BadParameter("expected a file or folder for the images, got none", param_hint="--output")
    if share:
        if plan.poisson or plan.files is not None or plan.method is not Method.dictionary:
            raise typer.BadParameter(
                "needs white Gaussian noise and --method dictionary", param_hint="--share"
            )
        refuse({"--share": "dictionary" in plan.settings or None}, "has no effect with --dictionary")
    sources, single = find_sources(images, output_path)
    if not single or not is_stack(sources[0], axes):
        refuse({"--reference": reference}, "is for one image or one stack")
    if not single:
        refuse({"--figure": figure}, "is for one image or one stack")
    elif figure is not None:
        check_separate({"--figure": figure}, [("IMAGE", sources[0])])  # also if a pattern names it
    unit = OneUnit(plan.option_of_level if units == "auto" else None, sources, axes)
    unit.check_headers()
    work = Denoising(output, plan, axes, units, figure, unit, reference)
    done = Done(output, work, doing="denoising", done="denoised")
    if single:
        if share:
            work.plan = _with_shared(work, sources)
        done.write(sources[0], output_path)
    else:
        _fill_folder(done, work, sources, output_path, share=share, force=force, read=read)
    done.show([] if figure is None else [str(figure)])


def _fill_folder(
    done: Done,
    work: "Denoising",
    sources: list[Path],
    folder: Path,
    *,
    share: bool,
    force: bool,
    read: Sequence[tuple[str, Path]],
) -> None:
    """Denoise files into a folder, but for those that an earlier run has done."""
    settings = work.plan.described() | {"axes": work.axes, "range": work.units, "share": False}
    if share:  # one more file is another dictionary
        settings["share"] = [[str(source), source.stat().st_mtime_ns] for source in sources]
    batch = Batch("denoise", sources, folder, settings, written=WRITTEN, force=force, read=read)
    left = done.left(batch)
    if share and left:
        work.plan = _with_shared(work, sources)
    done.fill(batch, left)


@dataclass
class Denoising:
    """How each file is denoised.

    Attributes
    ----------
    output, plan
        Of the command.
    axes, units
        Options of the command for all files.
    figure
        File for a sheet of the image or of planes of a stack, or None.
    unit
        Checks that levels of noise have one unit in all files.
    reference
        File of the clean stack of the only one, or None.
    """

    output: Output
    plan: Plan
    axes: str | None
    units: Units
    figure: Path | None
    unit: OneUnit
    reference: Path | None = None

    def __call__(self, source: Path, target: Path, report: Report) -> Told:
        """Denoise a file, with all its planes, and write the result."""
        stack = is_stack(source, self.axes)
        found, shape, measured = (self._stack if stack else self._image)(source, target, report)
        noise = {name: [values[name] for values in found if name in values] for name in found[0]}
        level = "".join(f", {name.replace('_', ' ')} {span(values)}" for name, values in noise.items())
        return shape + level + _shown(measured), noise | measured

    def _image(self, source: Path, target: Path, report: Report) -> Found:
        from calepin.datasets.images import read_image, write_image

        image = read_image(source, value_range=self.units)
        self.unit.check(source, image.levels is not None)
        for note in image.notes:
            self.output.note(f"{source}: {note}")
        denoised, values = _denoised(self.plan, image, report)
        for loss in write_image(target, denoised):
            self.output.note(f"{target}: {loss}")
        if self.figure is not None:
            images = {"noisy": image.pixels, "denoised": denoised.pixels}
            removed = {"noisy - denoised": image.pixels - denoised.pixels}
            save(draw_images(images, image, differences=removed), self.figure)
        height, width = image.pixels.shape[:2]
        return [values], f"{width} x {height}", {}

    def _stack(self, source: Path, target: Path, report: Report) -> Found:
        from calepin.datasets.stacks import check_stack_path, read_stack, write_stack

        check_stack_path(target)
        stack = read_stack(source, axes=self.axes)
        planes = Planes.of(stack, self.units, counts=self.plan.poisson and self.plan.camera is None)
        self.unit.check(source, planes.units is not None)
        clean = self._clean(stack)
        for note in (*stack.notes, planes.note):
            if note:
                self.output.note(f"{source}: {note}")
        along = neighbours(stack) if self.plan.across else None
        if self.plan.across and along is None and not set(stack.leading) <= set("CTZ"):
            self.output.note(
                f"{source}: each page is denoised alone; with --axes ZYX or TYX neighbouring pages, in depth "
                "or time, help each other"
            )
        cleaned, values = _denoised_planes(planes, self.plan, along, report)
        for loss in write_stack(target, stack.with_planes(cleaned)):
            self.output.note(f"{target}: {loss}")
        if self.figure is not None:
            names = "noisy", "denoised"
            save(draw_planes(stack, planes.samples, cleaned, names, subtract=True), self.figure)
        height, width = cleaned.shape[1:3]
        sizes = f"{len(planes.samples)} planes ({stack.axes}) of {width} x {height}"
        sizes += "" if along is None else f", together along {along[0]}"
        return values, sizes, _measured(clean, planes.samples, cleaned)

    def _clean(self, stack: "Stack") -> CleanStack | None:
        from calepin.datasets.stacks import read_stack

        path = self.reference
        if path is None:
            return None
        clean = read_stack(path, axes=self.axes, default_axes=stack.axes)
        return CleanStack.of(clean, path.name, stack)


def _measured(clean: CleanStack | None, noisy: "NDArray[Any]", cleaned: "NDArray[Any]") -> dict[str, Any]:
    """Return PSNR of a stack and of its planes, before and after; nothing without a clean one."""
    if clean is None:
        return {}
    before, after = clean.psnr(noisy), clean.psnr(cleaned)
    return {
        "psnr_noisy": before.psnr,
        "psnr": after.psnr,
        "psnr_range": clean.range.values,
        "psnr_planes_noisy": before.of_planes,
        "psnr_planes": after.of_planes,
    }


def _shown(measured: dict[str, Any]) -> str:
    """Return the measures of a stack for people."""
    if not measured:
        return ""
    noisy, whole, *planes = (
        "infinite" if value is None else f"{value:.2f}"
        for value in (measured["psnr_noisy"], measured["psnr"], *measured["psnr_planes"])
    )
    low, high = measured["psnr_range"]
    return (
        f", PSNR {whole} dB (noisy {noisy}; range {low:.6g} to {high:.6g}; planes from {planes[0]} to "
        f"{planes[2]}, median {planes[1]})"
    )


def _denoised(plan: Plan, image: "Image", report: Report) -> "tuple[Image, dict[str, float]]":
    """Return an image without its noise, and the numbers of the noise."""
    denoised, result = plan.denoise_image(image, lambda stage, fraction: report(fraction))
    return denoised, noise_values(image, result.noise)


def _denoised_planes(
    planes: Planes, plan: Plan, along: "tuple[str, NDArray[np.intp]] | None", report: Report
) -> "tuple[NDArray[Any], list[dict[str, float]]]":
    """Return planes without noise, in the samples of the file, and the numbers of their noise.

    `along` holds the places of planes (n_volumes, d) that are denoised together. Default: each alone.
    """
    import numpy as np

    n = len(planes.samples)
    places = np.arange(n)[:, None] if along is None else along[1]
    levels = None if plan.noise_map is None else plan.noise_map.planes(n, planes.samples.shape[1:])
    cleaned, found = None, []
    for k, place in enumerate(places):

        def part(stage: str, fraction: float, k: int = k) -> None:
            report((k + fraction) / len(places))

        own = None if levels is None else levels if len(levels) == 1 else levels[place]
        done, values = _together(planes, plan, place, own, part)
        cleaned = np.empty(planes.samples.shape, done.dtype) if cleaned is None else cleaned
        cleaned[place] = done
        found.append(values)
    assert cleaned is not None
    return cleaned, found


def _together(
    planes: Planes,
    plan: Plan,
    place: "NDArray[np.intp]",
    levels: "NDArray[np.float64] | None",
    callback: Callable[[str, float], None],
) -> "tuple[NDArray[Any], dict[str, float]]":
    """Return some planes without noise, in the samples of the file, and the numbers of their noise.

    `levels` holds the level of the noise of each pixel, of the planes or of one for all, in the units of the
    command.
    """
    import numpy as np

    from calepin.datasets.noise import VaryingGaussianNoise
    from calepin.imaging.scenes import observed_scene

    if all(_is_empty(planes.samples[k]) for k in place):
        raise ValueError(f"all samples of plane {place[0]} are NaN, and nothing beside it fills them")
    image = planes.image(place, missing="allow")
    shape = (len(place), -1, *image.pixels.shape[1:])
    gaps = bool(np.isnan(image.pixels).any())
    alone = len(place) == 1 and not (gaps and plan.across)  # a plane with gaps is filled as a stack of one
    if gaps and not plan.across:
        n = np.count_nonzero(np.isnan(image.pixels))
        raise ValueError(f"{n} of its samples are NaN: they are filled without --method and its settings")
    if levels is not None:
        sigma = levels / unit_of(image)
        warn_of_levels(sigma, image.pixels)
        noise = VaryingGaussianNoise(sigma[0] if alone or len(sigma) == 1 else sigma)
    else:
        seen = [k for k in place if not _is_empty(planes.samples[k])]
        noise = plan.noise(planes.image(np.array([seen[len(seen) // 2]]), missing="allow"))
    if alone:
        denoised, result = plan.denoise_image(image, callback, noise=noise)
        return planes.samples_of(denoised), noise_values(image, result.noise)
    scene = observed_scene(image, noise)
    result = plan.denoise_volume(scene.observed.reshape(shape), noise, callback)
    pixels = scene.unit * result.image.reshape(image.pixels.shape)
    return planes.samples_of(replace(scene.noisy, pixels=pixels)), noise_values(image, result.noise)


def _is_empty(samples: "NDArray[Any]") -> bool:
    import numpy as np

    return samples.dtype.kind == "f" and bool(np.isnan(samples).all())


def neighbours(stack: "Stack") -> "tuple[str, NDArray[np.intp]] | None":
    """Return an axis whose planes are neighbours, depth before time, and the places (n, d) of such planes.

    None for a stack without such an axis.
    """
    import numpy as np

    sizes = [stack.samples.shape[stack.axes.index(axis)] for axis in stack.leading]
    for axis in "ZT":
        if axis in stack.leading and sizes[stack.leading.index(axis)] > 1:
            k = stack.leading.index(axis)
            places = np.moveaxis(np.arange(int(np.prod(sizes))).reshape(sizes), k, -1)
            return axis, places.reshape(-1, sizes[k])
    return None


def _with_shared(work: Denoising, sources: Sequence[Path]) -> Plan:
    """Return the plan with a dictionary that is learned from all files, one after the other in memory."""
    from calepin.imaging.by_dictionary import DictionaryDenoiser
    from calepin.imaging.first_pass import learn_shared_atoms, start_atoms

    settings = DictionaryDenoiser(**work.plan.settings)
    start = start_atoms(settings.n_components, settings.patch_size, work.plan.seed or 0)
    with progress_bar("learning", total=1, shown=not work.output.quiet) as bar:
        atoms, _ = learn_shared_atoms(
            [lambda source=source: _noisy_planes(work, source) for source in sources],
            start,
            rule=settings.rule,
            n_iter=settings.n_iter,
            random_state=work.plan.seed or 0,
            report=bar.update,
        )
    return replace(work.plan, settings={"dictionary": atoms, "n_iter": 0}, across=False, loaded={})


def _noisy_planes(work: Denoising, source: Path) -> "NDArray[np.float32]":
    """Return the planes (c, h, w) of a file, of a stack those of its middle, in units of the noise."""
    from calepin.datasets.images import as_image, read_image
    from calepin.datasets.noise import GaussianNoise
    from calepin.datasets.stacks import read_stack
    from calepin.imaging.noise_level import estimate_noise
    from calepin.imaging.result import to_planes

    if is_stack(source, work.axes):
        planes = Planes.of(read_stack(source, axes=work.axes), work.units, counts=False)
        image = as_image(planes.samples[len(planes.samples) // 2], value_range=planes.units)
    else:
        image = read_image(source, value_range=work.units)
    work.unit.check(source, image.levels is not None)
    noise = work.plan.noise(image)
    sigma = noise.sigma if isinstance(noise, GaussianNoise) else estimate_noise(image.pixels)
    return to_planes(image.pixels, sigma or 1.0)
