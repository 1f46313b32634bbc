"""``calepin denoise`` for several images: many files, and the planes of stacks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from calepin.cli.batches import Batch, find_sources
from calepin.cli.denoise_plan import Method, Plan, noise_values
from calepin.cli.many import Done, Report, Told
from calepin.cli.options import ARRAY_FILES, IMAGE_FILES, is_folder, refuse
from calepin.cli.output import Output
from calepin.core.paths import check_separate
from calepin.core.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.datasets.stacks import Stack

__all__ = ["denoise_many", "is_batch"]

Units = tuple[float, float] | str
Found = tuple[list[dict[str, float]], str]  # the numbers of the noise, of each volume or plane, and the sizes

SHOWN = 6  # planes of a stack in a figure
WRITTEN = (*IMAGE_FILES, *ARRAY_FILES, ".zarr")


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
) -> None:
    """Denoise several images, write them, and print a line for each.

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
    if not single:
        refuse({"--figure": figure}, "is for one image or one stack")
    elif figure is not None:
        check_separate({"--figure": figure}, [("IMAGE", sources[0])])  # also if a pattern names it
    work = Denoising(output, plan, axes, units, figure)
    done = Done(output, work, doing="denoising", done="denoised")
    if single:
        if share:
            work.plan = _with_shared(work, sources)
        done.write(sources[0], output_path)
    else:
        _fill_folder(done, work, sources, output_path, share=share, force=force)
    done.show([] if figure is None else [str(figure)])


def _fill_folder(
    done: Done, work: "Denoising", sources: list[Path], folder: Path, *, share: bool, force: bool
) -> None:
    """Denoise files into a folder, but for those that an earlier run has done."""
    settings = work.plan.described() | {"axes": work.axes, "range": work.units, "share": False}
    if share:  # one more file is another dictionary
        settings["share"] = [[str(source), source.stat().st_mtime_ns] for source in sources]
    batch = Batch("denoise", sources, folder, settings, written=WRITTEN, force=force)
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
    """

    output: Output
    plan: Plan
    axes: str | None
    units: Units
    figure: Path | None

    def __call__(self, source: Path, target: Path, report: Report) -> Told:
        """Denoise a file, with all its planes, and write the result."""
        from calepin.datasets.stacks import count_planes

        is_stack = self.axes is not None or count_planes(source) > 1
        found, shape = (self._stack if is_stack else self._image)(source, target, report)
        noise = {name: [values[name] for values in found if name in values] for name in found[0]}
        level = "".join(f", {name.replace('_', ' ')} {_span(values)}" for name, values in noise.items())
        return shape + level, noise

    def _image(self, source: Path, target: Path, report: Report) -> Found:
        from calepin.datasets.images import read_image, write_image

        image = read_image(source, value_range=self.units)
        for note in image.notes:
            self.output.note(f"{source}: {note}")
        denoised, values = _denoised(self.plan, image, report)
        for loss in write_image(target, denoised):
            self.output.note(f"{target}: {loss}")
        self._draw(image.pixels[None], denoised.pixels[None])
        height, width = image.pixels.shape[:2]
        return [values], f"{width} x {height}"

    def _stack(self, source: Path, target: Path, report: Report) -> Found:
        from calepin.datasets.stacks import STACK_FILES, read_stack, write_stack

        if target.suffix.lower() not in STACK_FILES:
            names = ", ".join(STACK_FILES)
            raise ValueError(f"cannot write {target}: a stack needs a name that ends in {names}")
        stack = read_stack(source, axes=self.axes)
        planes = Planes.of(stack, self.units, counts=self.plan.poisson and self.plan.camera is None)
        for note in (*stack.notes, planes.note):
            if note:
                self.output.note(f"{source}: {note}")
        along = neighbours(stack) if self.plan.across else None
        if self.plan.across and along is None and not set(stack.leading) <= set("CTZ"):
            self.output.note(
                f"{source}: each page is denoised alone; with --axes ZYX or TYX neighbouring pages, in depth "
                "or time, help each other"
            )
        cleaned, values = planes.denoised(self.plan, along, report)
        write_stack(target, stack.with_planes(cleaned))
        self._draw(planes.samples, cleaned)
        height, width = cleaned.shape[1:3]
        sizes = f"{len(planes.samples)} planes ({stack.axes}) of {width} x {height}"
        return values, sizes + ("" if along is None else f", together along {along[0]}")

    def _draw(self, noisy: "NDArray[Any]", denoised: "NDArray[Any]") -> None:
        """Draw an image, or some planes spread over a stack, before and after."""
        if self.figure is None:
            return
        import numpy as np

        from calepin.report.figures import save_figure, sheet

        places = np.unique(np.linspace(0, len(noisy) - 1, SHOWN).round().astype(int))
        columns = {"noisy": noisy[places], "denoised": denoised[places]}
        if noisy.ndim == 4:  # the mean of the colours
            columns = {name: images[..., :3].mean(-1) for name, images in columns.items()}
        save_figure(sheet({name: images.astype(float) for name, images in columns.items()}), self.figure)


def _denoised(plan: Plan, image: "Image", report: Report) -> "tuple[Image, dict[str, float]]":
    """Return an image without its noise, and the numbers of the noise."""
    denoised, result = plan.denoise_image(image, lambda stage, fraction: report(fraction))
    return denoised, noise_values(image, result.noise)


def _span(values: Sequence[float]) -> str:
    """Return the smallest and the largest value, or the only one."""
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Planes:
    """The planes of a stack, with one range of samples for all.

    Attributes
    ----------
    samples
        Planes (n, h, w) or (n, h, w, channels), in the samples of the file.
    units
        Samples of black and white, or None for the whole range of the type.
    note
        What was chosen and should be known, or nothing.
    """

    samples: "NDArray[Any]"
    units: tuple[float, float] | None
    note: str

    @classmethod
    def of(cls, stack: "Stack", units: Units, *, counts: bool) -> "Planes":
        """Return the planes of a stack; estimated counts keep their units, whatever the range."""
        import numpy as np

        from calepin.datasets.images import automatic_range

        samples, note = stack.planes, ""
        if samples.dtype.kind == "f" and not np.isfinite(samples).all():
            n = np.count_nonzero(~np.isfinite(samples))
            raise ValueError(f"expected finite samples, got {n} NaN or infinities")
        if not isinstance(units, str):
            return cls(samples, units, note)
        low, high = float(samples.min()), float(samples.max())
        if units == "data":
            return cls(samples, (low, high if high > low else low + 1), note)
        if counts:
            return cls(samples, (min(low, 0.0), max(high, 1.0)), note)
        found, notes = automatic_range(samples)
        return cls(samples, found, "".join(notes))

    def denoised(
        self, plan: Plan, along: "tuple[str, NDArray[np.intp]] | None", report: Report
    ) -> "tuple[NDArray[Any], list[dict[str, float]]]":
        """Return the planes without noise, in the samples of the file, and the numbers of their noise.

        `along` holds the places of planes (n_volumes, d) that are denoised together. Default: each alone.
        """
        import numpy as np

        places = np.arange(len(self.samples))[:, None] if along is None else along[1]
        cleaned, levels = None, []
        for k, place in enumerate(places):

            def part(stage: str, fraction: float, k: int = k) -> None:
                report((k + fraction) / len(places))

            done, values = self._together(plan, place, part)
            cleaned = np.empty(self.samples.shape, done.dtype) if cleaned is None else cleaned
            cleaned[place] = done.reshape(len(place), *self.samples.shape[1:])
            levels.append(values)
        assert cleaned is not None
        return cleaned, levels

    def _together(
        self, plan: Plan, place: "NDArray[np.intp]", callback: Callable[[str, float], None]
    ) -> "tuple[NDArray[Any], dict[str, float]]":
        """Return some planes without noise, in the samples of the file, and the numbers of their noise."""
        import numpy as np

        from calepin.datasets.images import as_image, as_samples
        from calepin.imaging.scenes import observed_scene

        images = [as_image(self.samples[k], value_range=self.units) for k in place]
        if len(place) == 1:
            denoised, values = _denoised(plan, images[0], lambda part: callback("", part))
            return as_samples(denoised), values
        noise = plan.noise(images[len(images) // 2])
        scenes = [observed_scene(image, noise) for image in images]
        result = plan.denoise_volume(np.stack([scene.observed for scene in scenes]), noise, callback)
        made = [
            as_samples(replace(scene.noisy, pixels=scene.unit * frame))
            for scene, frame in zip(scenes, result.image, strict=True)
        ]
        return np.stack(made), noise_values(images[0], result.noise)


def neighbours(stack: "Stack") -> "tuple[str, NDArray[np.intp]] | None":
    """Return an axis whose planes are neighbours, depth before time, and the places (n, d) of such planes.

    None for a stack of colours, or without such an axis.
    """
    import numpy as np

    sizes = [stack.samples.shape[stack.axes.index(axis)] for axis in stack.leading]
    for axis in "ZT":
        if axis in stack.leading and sizes[stack.leading.index(axis)] > 1 and "S" not in stack.axes:
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
    from calepin.datasets.stacks import count_planes, read_stack
    from calepin.imaging.noise_level import estimate_noise
    from calepin.imaging.result import to_planes

    if work.axes is not None or count_planes(source) > 1:
        planes = Planes.of(read_stack(source, axes=work.axes), work.units, counts=False)
        image = as_image(planes.samples[len(planes.samples) // 2], value_range=planes.units)
    else:
        image = read_image(source, value_range=work.units)
    noise = work.plan.noise(image)
    sigma = noise.sigma if isinstance(noise, GaussianNoise) else estimate_noise(image.pixels)
    return to_planes(image.pixels, sigma or 1.0)
