"""The planes of stacks on the command line: read in one range, worked on, and written with their file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calepin.cli.figures import draw_planes, save
from calepin.cli.many import Done, Report, Work
from calepin.cli.output import Output
from calepin.core.paths import check_separate
from calepin.core.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.datasets.stacks import Stack

__all__ = ["Planes", "is_stack", "planes_of_file", "span", "work_on_planes", "write_stack_alone"]

Units = tuple[float, float] | str


def is_stack(path: Path, axes: str | None) -> bool:
    """Return whether a file is taken as a stack: with axes, or if it holds several images."""
    from calepin.datasets.stacks import count_planes

    return axes is not None or (path.exists() and count_planes(path) > 1)


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
    def of(cls, stack: "Stack", units: Units, *, counts: bool = False) -> "Planes":
        """Return the planes of a stack; estimated counts keep their units, whatever the range."""
        import numpy as np

        from calepin.datasets.images import automatic_range

        samples = stack.planes
        if samples.dtype.kind == "f":
            if np.isinf(samples).any():
                raise ValueError(
                    f"expected finite samples, got {np.count_nonzero(np.isinf(samples))} infinities"
                )
            if np.isnan(samples).all():
                raise ValueError("all of its samples are NaN")
        if not isinstance(units, str):
            return cls(samples, units, "")
        low, high = float(np.nanmin(samples)), float(np.nanmax(samples))
        if units == "data":
            return cls(samples, (low, high if high > low else low + 1), "")
        if counts:
            return cls(samples, (min(low, 0.0), max(high, 1.0)), "")
        found, notes = automatic_range(samples)
        return cls(samples, found, "".join(notes) or _scale_of(samples, low, high))

    def image(self, place: "NDArray[np.intp]", *, missing: Literal["error", "allow"]) -> "Image":
        """Return planes as one image (n h, w) or (n h, w, 3), one below the other."""
        from calepin.datasets.images import as_image

        chosen = self.samples[place]
        return as_image(chosen.reshape(-1, *chosen.shape[2:]), value_range=self.units, missing=missing)

    def samples_of(self, image: "Image") -> "NDArray[Any]":
        """Return the samples (n, h, w) or (n, h, w, channels) of planes that `image` returned."""
        from calepin.datasets.images import as_samples

        return as_samples(image).reshape(-1, *self.samples.shape[1:])


def _scale_of(samples: "NDArray[Any]", low: float, high: float) -> str:
    """Return a note on the scale of noise levels for 16 bits, of which images often use a part alone."""
    if samples.dtype.kind != "u" or samples.dtype.itemsize != 2:
        return ""
    return (
        f"samples are uint16 from {low:g} to {high:g}: noise levels are on the scale 0 to 255 of the whole "
        f"range (1 is 257 in the file); with --range 0:{max(high, 1):g} they are in the units of the file"
    )


def work_on_planes(
    output: Output,
    source: Path,
    target: Path,
    work: "Callable[[Image, int, int, Report], tuple[Image, dict[str, Any]]]",
    report: Report,
    *,
    axes: str | None,
    units: Units,
    names: tuple[str, str],
    missing: Literal["error", "allow"],
    figure: Path | None = None,
    gaps: "Callable[[int], NDArray[np.bool_] | None]" = lambda k: None,
) -> tuple[str, dict[str, list[Any]]]:
    """Work on each plane of a stack, write all of them, and return what was done for people and programs.

    Parameters
    ----------
    output, source, target, report
        As of a work on a file, see `calepin.cli.many`.
    work
        Returns an image for that of a plane, and numbers; also given its place, the number of planes, and a
        report.
    axes, units
        Options of the command.
    names
        What planes are before and after.
    missing
        As of `calepin.datasets.as_image`.
    figure
        File for a contact sheet, or None.
    gaps
        Returns where a plane that was worked on has no samples, which the figure shows.
    """
    import numpy as np

    from calepin.datasets.images import as_samples
    from calepin.datasets.stacks import check_stack_path, read_stack, write_stack

    check_stack_path(target)
    stack = read_stack(source, axes=axes)
    planes = Planes.of(stack, units)
    for note in (*stack.notes, planes.note):
        if note:
            output.note(f"{source}: {note}")
    n, made, found = len(planes.samples), [], []
    for k in range(n):

        def part(fraction: float, k: int = k) -> None:
            report((k + fraction) / n)

        try:
            image, numbers = work(planes.image(np.array([k]), missing=missing), k, n, part)
        except ValueError as error:
            raise ValueError(f"plane {k}: {error}") from error
        samples = as_samples(image)
        made.append(samples[..., 0] if samples.shape[2] == 1 else samples)
        found.append(numbers)
    done = np.stack(made)
    written, notes = stack.with_other_planes(done)
    for note in notes:
        output.note(f"{target}: {note}")
    for note in write_stack(target, written):
        output.note(f"{target}: {note}")
    if figure is not None:
        shown = _without_gaps(planes.samples, gaps)
        for axis in (1, 2):
            shown = shown.repeat(done.shape[axis] // shown.shape[axis], axis=axis)
        save(draw_planes(stack, shown, done, names, subtract=shown.ndim == done.ndim), figure)
    height, width = done.shape[1:3]
    numbers = {name: [one[name] for one in found] for name in found[0]}
    return f"{n} planes ({written.axes}) of {width} x {height}", numbers


def _without_gaps(
    samples: "NDArray[Any]", gaps: "Callable[[int], NDArray[np.bool_] | None]"
) -> "NDArray[Any]":
    """Return planes, with NaN where they have no samples."""
    import numpy as np

    hidden = [gaps(k) for k in range(len(samples))]
    if all(one is None for one in hidden):
        return samples
    shown = samples.astype(np.float64)
    for plane, one in zip(shown, hidden, strict=True):
        if one is not None:
            plane[one] = np.nan
    return shown


def write_stack_alone(
    output: Output, work: Work, source: Path, target: Path, doing: str, done: str, figure: Path | None
) -> None:
    """Work on a stack that is written as a file, and print what was done."""
    if figure is not None:
        check_separate({"--figure": figure}, [("IMAGE", source)])  # also if a pattern names it
    files = Done(output, work, doing=doing, done=done)
    with progress_bar(doing, total=1, shown=not output.quiet) as bar:
        files.write(source, target, lambda part: bar.update(part, source.name))
    files.show([] if figure is None else [str(figure)])


def span(values: Sequence[float]) -> str:
    """Return the smallest and the largest value, or the only one."""
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


def planes_of_file(path: Path, n: int, shape: tuple[int, ...], option: str) -> "NDArray[Any]":
    """Return the values of a file for planes (h, w) or (h, w, channels): those of all, or of each its own.

    `option` names the file. Values have the shape (1, h, w) or (n, h, w), or the same with three channels for
    planes of colours.

    Raises
    ------
    ValueError
        If the file has another shape.
    """
    from calepin.core.reading import read_npy
    from calepin.datasets.images import read_image
    from calepin.datasets.stacks import count_planes, read_stack

    if path.suffix.lower() == ".npy":
        values = read_npy(path)
    elif count_planes(path) > 1:
        planes = read_stack(path).planes
        values = planes if len(planes) > 1 else planes[0]
    else:
        values = read_image(path, value_range=(0, 1)).pixels
    rows, columns = shape[:2]
    colours = [()] if len(shape) == 2 else [(), (3,)]
    for channels in colours:
        if values.shape == (rows, columns, *channels):
            return values[None]
        last = values.shape[values.ndim - 2 - len(channels) :]
        if last == (rows, columns, *channels) and values.size == n * prod(last):
            return values.reshape(n, *last)
    raise ValueError(
        f"{option} {path}: expected the shape {(rows, columns)} of a plane"
        + ("" if n == 1 else f", or {(n, rows, columns)} of all")
        + f", got {values.shape}"
    )
