"""Output of a command: a table for people, one JSON object for programs, or nothing."""

import json
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from calepin.cli.record import record

__all__ = ["Debug", "Json", "Output", "Quiet", "peak_memory_mb"]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@dataclass(frozen=True)
class Output:
    """Output of a command: results to stdout, notes to stderr.

    Attributes
    ----------
    quiet
        No notes, no tables, no progress.
    as_json
        Print the result as one JSON object, and nothing else on stdout.
    debug
        Show the traceback of an error after which the command goes on.
    """

    quiet: bool
    as_json: bool
    debug: bool = False

    def note(self, text: str) -> None:
        """Print a note, which is not part of the result."""
        record().add(f"note: {text}")
        if not self.quiet:
            print(f"calepin: note: {text}", file=sys.stderr)

    def error(self, text: str, error: BaseException) -> None:
        """Print what is wrong, after which the command goes on, also if it is quiet."""
        if self.debug:
            traceback.print_exception(error)
        record().add(f"error: {text}")
        print(f"calepin: error: {text}", file=sys.stderr)

    def line(self, text: str) -> None:
        """Print a line of the result for people."""
        if not self.quiet and not self.as_json:
            print(text)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None
    ) -> None:
        """Print a table for people; columns of numbers after the first are aligned to the right."""
        if self.quiet or self.as_json:
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        rows = [list(row) for row in rows]
        table = Table(
            box=box.SIMPLE_HEAD,
            title=title,
            title_justify="left",
            pad_edge=False,
            show_edge=False,
            show_header=any(columns),
        )
        for i, column in enumerate(columns):
            numeric = all(_is_number(row[i]) for row in rows)
            table.add_column(column, justify="right" if numeric and rows else "left")
        for row in rows:
            table.add_row(*[Text(cell) for cell in row])
        Console(highlight=False).print(table)

    def result(self, values: Mapping[str, Any]) -> None:
        """Print the JSON object, with --json."""
        if self.as_json:
            print(json.dumps(values, allow_nan=False))


def peak_memory_mb() -> float | None:
    """Return the largest resident memory of this process so far in MB (10^6 bytes), None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def _is_number(cell: str) -> bool:
    try:
        float(cell.removesuffix(" dB").removeprefix("<= ").removeprefix(">= "))
    except ValueError:
        return cell in {"", "-"}
    return True
