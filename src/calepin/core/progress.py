"""The progress bar, on standard error and only in a terminal or notebook."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Bar", "progress_bar"]


class Bar(Protocol):
    """A progress bar, shown or hidden."""

    def update(self, done: float, note: str = "") -> None:
        """Set the total amount done so far, with a short note on the current step."""
        ...


class _Hidden:
    def update(self, done: float, note: str = "") -> None:
        """Do nothing."""


@contextmanager
def progress_bar(title: str, *, total: float | None, done: float = 0, shown: bool = True) -> Iterator[Bar]:
    """Yield a bar of `total` steps (None: unknown) that `update` moves.

    It is shown only if `shown` is True and standard error is a terminal or a notebook. It disappears when
    the context ends.
    """
    if not shown or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield _Hidden()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total, completed=done, note="")  # pyright: ignore[reportArgumentType]

        class Shown:
            def update(self, done: float, note: str = "") -> None:
                """Move the bar."""
                progress.update(task, completed=done, note=note)

        yield Shown()
