"""How Ctrl-C and SIGTERM stop a run: the current step ends, the state is saved, then the run stops."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interruption", "between_steps"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A request to stop a run."""

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was requested. Call this between two steps."""
        if self.requested:
            raise KeyboardInterrupt


@contextmanager
def between_steps() -> Iterator[Interruption]:
    """Turn the first Ctrl-C or SIGTERM into a request, so that the current step ends; the second interrupts.

    Python allows signal handlers in the main thread only. In other threads nothing is ever requested.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def handler(number: int, frame: Any) -> None:
        if interruption.requested:
            raise KeyboardInterrupt
        interruption.requested = True

    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield interruption
    finally:
        for number, old in before.items():
            signal.signal(number, old)
