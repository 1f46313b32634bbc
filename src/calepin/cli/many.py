"""Commands on many files: each is done as if alone, and one that fails does not stop the others."""

import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from calepin.cli.batches import Batch
from calepin.cli.errors import FAILED, is_out_of_memory, one_line
from calepin.cli.output import Output, peak_memory_mb
from calepin.core.progress import progress_bar

__all__ = ["Done", "Report", "Told", "Work", "work_on"]

Report = Callable[[float], None]  # of the part of a file that is done
Told = tuple[str, dict[str, Any]]  # what was done with a file: for people, and for programs
Work = Callable[[Path, Path, Report], Told]

NUMBERS = re.compile(r"\d[\d.e+-]*")
OF_A_FILE = (ValueError, OSError, ArithmeticError, MemoryError, RuntimeError, typer.BadParameter)


def work_on(output: Output, work: Work, batch: Batch, *, doing: str, done: str) -> None:
    """Do the work of all files of a batch that an earlier run has not done, and tell of it.

    Parameters
    ----------
    output
        What is printed.
    work
        Reads a file and writes another.
    batch
        The files.
    doing, done
        The work for people: "denoising" and "denoised".

    Raises
    ------
    typer.Exit
        With the status 1, after all others are done, if a file failed.
    """
    files = Done(output, work, doing=doing, done=done)
    files.fill(batch, files.left(batch))
    files.show()


def _each_once(texts: Iterable[str]) -> list[str]:
    """Return texts; of those that differ in numbers alone, as of many planes, the first and how many more."""
    alike: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        alike.setdefault(NUMBERS.sub("0", text), []).append(text)
    return [first + (f" ({len(more)} more like it)" if more else "") for first, *more in alike.values()]


class Done:
    """What a command has done so far.

    Parameters
    ----------
    output, work, doing, done
        As `work_on` takes them.
    """

    def __init__(self, output: Output, work: Work, *, doing: str, done: str) -> None:
        self.output, self.work, self.doing, self.done = output, work, doing, done
        self.begun = time.perf_counter()
        self.skipped: list[str] = []
        self.files: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []

    def left(self, batch: Batch) -> list[Path]:
        """Return the files of a batch that an earlier run has not done, and say how many it has."""
        done = {source for source in batch.targets if batch.is_done(source)}
        self.skipped = [str(batch.targets[source]) for source in batch.targets if source in done]
        if self.skipped:
            n = f"{len(self.skipped)} of {len(batch.targets)} images"
            self.output.note(f"{n} are in {batch.path.parent} already: skipped")
        return [source for source in batch.targets if source not in done]

    def fill(self, batch: Batch, left: Sequence[Path]) -> None:
        """Do the work of files of a batch, and record each that is done."""
        with progress_bar(self.doing, total=len(left), shown=not self.output.quiet) as bar:
            for k, source in enumerate(left):

                def report(part: float, k: int = k, name: str = source.name) -> None:
                    bar.update(k + part, name)

                try:
                    self.write(source, batch.targets[source], report)
                except OF_A_FILE as error:
                    if isinstance(error, RuntimeError) and not is_out_of_memory(error):
                        raise
                    self.fail(source, error)
                else:
                    batch.add(source)

    def write(self, source: Path, target: Path, report: Report = lambda part: None) -> None:
        """Do the work of one file, and print a line."""
        begun = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            text, values = self._named(source, target, report)
        for warned in _each_once(one_line(warning.message) for warning in caught):
            self.output.note(f"{source}: {warned}")
        seconds = round(time.perf_counter() - begun, 3)
        self.output.line(f"{target}: {text}, {seconds:.1f} s")
        self.files.append({"image": str(source), "written": str(target), **values, "seconds": seconds})

    def _named(self, source: Path, target: Path, report: Report) -> Told:
        """Do the work of a file, and name it in an error."""
        try:
            return self.work(source, target, report)
        except ValueError as error:
            if str(source) in str(error) or str(target) in str(error):
                raise
            raise ValueError(f"{source}: {error}") from error

    def fail(self, source: Path, error: Exception) -> None:
        """Print why a file could not be done; the others go on."""
        text = one_line(error)
        if isinstance(error, typer.BadParameter) and error.param_hint:
            text = f"{error.param_hint}: {text}"
        self.failed.append({"image": str(source), "error": text})
        self.output.error(text if str(source) in text else f"{source}: {text}", error)

    def show(self, also: Sequence[str] = ()) -> None:
        """Print what was done, and which files were written also.

        Raises
        ------
        typer.Exit
            If a file failed.
        """
        seconds, memory = time.perf_counter() - self.begun, peak_memory_mb()
        spent = f"{seconds:.1f} s" + ("" if memory is None else f", peak memory {memory:.0f} MB")
        failed = f", {len(self.failed)} failed" if self.failed else ""
        self.output.line(f"{len(self.files)} {self.done}, {len(self.skipped)} skipped{failed}, {spent}")
        self.output.result(
            {
                "images": self.files,
                "skipped": self.skipped,
                "failed": self.failed,
                "seconds": round(seconds, 3),
                "peak_memory_mb": memory,
                "written": [*(file["written"] for file in self.files), *also],
            }
        )
        if self.failed:
            raise typer.Exit(FAILED)
