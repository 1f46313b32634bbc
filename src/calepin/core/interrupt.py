"""One policy for Ctrl-C and SIGTERM: the step under way ends, the state is saved, then the run stops."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interruption", "between_steps"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether a run was asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if the run was asked to stop; to be called between two steps."""
        if self.requested:
            raise KeyboardInterrupt


@contextmanager
def between_steps() -> Iterator[Interruption]:
    """Turn the first Ctrl-C or SIGTERM into a request, so that no step is cut in two; the second interrupts.

    Only the main thread of the main interpreter may set handlers, and only it is interrupted: elsewhere
    nothing is ever requested.
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
