"""What is remembered of a running command, for its report: the command line, settings, warnings, time."""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["Record", "record", "recording"]


@dataclass
class Record:
    """A command that runs.

    Attributes
    ----------
    command
        The command line, as it can be typed again.
    started
        Date and time, with the time zone.
    settings
        Values of the options, by name; `given` says which ones were on the command line.
    messages
        Warnings and notes so far, each once.
    """

    command: str
    started: datetime
    settings: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    messages: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self.begun

    def add(self, message: str) -> None:
        """Remember a warning or a note."""
        if message not in self.messages:
            self.messages.append(message)


_RECORD: ContextVar[Record] = ContextVar("record")


@contextmanager
def recording(arguments: Sequence[str]) -> Iterator[Record]:
    """Yield the record of a command line, which `record` returns as long as the context lasts."""
    new = Record(shlex.join(["calepin", *arguments]), datetime.now().astimezone())
    token = _RECORD.set(new)
    try:
        yield new
    finally:
        _RECORD.reset(token)


def record() -> Record:
    """Return the record of the running command; an empty one if none runs."""
    return _RECORD.get(None) or Record("", datetime.now().astimezone())
