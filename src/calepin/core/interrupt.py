"""How Ctrl-C and SIGTERM stop a run: the current step ends, the state is saved, then the run stops."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interruption", "between_steps", "sigterm_as_ctrl_c"]

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

    Python allows signal handlers in the main thread only. In other threads nothing is ever requested. Signals
    that this process ignores (as after nohup) stay ignored.
    """
    interruption = Interruption()

    def handler(number: int, frame: Any) -> None:
        if interruption.requested:
            raise KeyboardInterrupt
        interruption.requested = True

    with _handled_by(handler, _SIGNALS):
        yield interruption


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does: a command then removes its temporary files."""
    with _handled_by(signal.default_int_handler, (signal.SIGTERM,)):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, Any], None], numbers: Iterable[signal.Signals]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # None: the handler is not Python's and could not be restored
    kept = (signal.SIG_IGN, None)
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: old for number, old in before.items() if old not in kept}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
