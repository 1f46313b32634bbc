"""One unit of a noise level for all files of a batch: the scale 0 to 255, or the samples of the files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from calepin.cli.planes import Planes, is_stack

__all__ = ["OneUnit"]


@dataclass
class OneUnit:
    """Checks that a number of an option has one unit in all files of a batch.

    Attributes
    ----------
    option
        The option, or None if it is not given, or has one unit in all files.
    sources, axes
        Files of the batch, and the option of the command.
    first
        A file whose unit is known, and whether it is that of its samples.
    estimates
        Whether the command estimates the noise without `--sigma`.
    """

    option: str | None = None
    sources: Sequence[Path] = ()
    axes: str | None = None
    first: tuple[Path, bool] | None = None
    estimates: bool = True

    def check_headers(self) -> None:
        """Raise typer.BadParameter if headers tell two units; floats tell theirs by their values, later."""
        for source in self.sources if self.option is not None else ():
            found = _of_header(source)
            if found is not None:
                self._compare(source, found)

    def check(self, source: Path, in_samples: bool) -> None:
        """Raise typer.BadParameter if a file, now read, has another unit than those before it."""
        if self.option is None:
            return
        if self.first is None:
            for other in self.sources[: self.sources.index(source)]:  # an earlier run has done them
                found = _of_values(other, self.axes)
                if found is not None:
                    self.first = other, found
                    break
        self._compare(source, in_samples)

    def _compare(self, source: Path, in_samples: bool) -> None:
        other, found = self.first = self.first or (source, in_samples)
        if other != source and found != in_samples:
            one, scaled = (source, other) if in_samples else (other, source)
            can_estimate = self.option == "--sigma" and self.estimates
            estimated = ", or leave it out to estimate the noise" if can_estimate else ""
            raise typer.BadParameter(
                f"is in the units of the samples for {one}, and on the scale 0 to 255 for {scaled}: "
                f"run {source} apart{estimated}",
                param_hint=self.option,
            )


def _of_header(path: Path) -> bool | None:
    """Return whether noise levels are in the samples of a file; None if its header does not tell."""
    from calepin.datasets.stacks import type_of_samples

    dtype = type_of_samples(path)
    if dtype is None or dtype.kind not in "iu":
        return None
    return dtype.kind == "i" or dtype.itemsize > 2


def _of_values(path: Path, axes: str | None) -> bool | None:
    """Return whether noise levels are in the samples of a file; None for one that cannot be read."""
    from calepin.datasets.images import read_image
    from calepin.datasets.stacks import read_stack

    try:
        if is_stack(path, axes):
            return Planes.of(read_stack(path, axes=axes), "auto").units is not None
        return read_image(path, value_range="auto", missing="allow").levels is not None
    except (ValueError, OSError):
        return None
