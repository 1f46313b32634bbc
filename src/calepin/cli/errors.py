"""Every error becomes one line on stderr and the exit status that shells expect.

0: success. 1: failure, or a reproduced claim does not hold. 2: an invalid argument, option or input file.
130: Ctrl-C or SIGTERM. ``--debug`` shows the traceback instead.
"""

import errno
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer

from calepin.cli.record import recording
from calepin.core.errors import IncompatibleError
from calepin.core.interrupt import sigterm_as_ctrl_c

__all__ = ["FAILED", "INTERRUPTED", "USAGE", "is_out_of_memory", "one_line", "run"]

FAILED, USAGE, INTERRUPTED = 1, 2, 130

# Since 0.25 typer has its own copy of click; earlier versions import the package. One name for both.
UsageError: Any = typer.BadParameter.__bases__[0]

BAD_INPUT = (
    ValueError,
    IncompatibleError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def run(app: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Call a Typer app and return the exit status."""
    debug, quiet = "--debug" in arguments, "--quiet" in arguments or "-q" in arguments

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        running.add(f"warning: {one_line(message)}")
        if not quiet:
            _say(f"warning: {one_line(message)}")

    with warnings.catch_warnings(), sigterm_as_ctrl_c(), recording(arguments) as running:
        warnings.showwarning = show
        try:
            status = app(args=list(arguments), prog_name="calepin", standalone_mode=False)
        except BaseException as error:
            return _failure(error, debug)
    if status == INTERRUPTED:  # the exit status of typer for Ctrl-C
        _say("interrupted")
    return status if isinstance(status, int) else 0


def one_line(error: object) -> str:
    """Return an error's message on one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split())


def _failure(error: BaseException, debug: bool) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    if isinstance(error, BrokenPipeError) or getattr(error, "errno", None) == errno.EPIPE:
        # The reader closed the pipe, as in `calepin reproduce --list | head -1`; drop the buffered output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if debug:
        traceback.print_exception(error)
    if isinstance(error, SystemError) and isinstance(error.__cause__, KeyboardInterrupt):
        error = error.__cause__  # Ctrl-C at the end of a compiled function
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(error, UsageError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "calepin"
        message = one_line(error.format_message()).rstrip(".")  # pyright: ignore[reportAttributeAccessIssue]
        message = message.replace(": Value error, ", ": ")  # what typer puts before choices says nothing
        _say(f"error: {message} (see '{command} --help')")
        return USAGE
    if isinstance(error, BAD_INPUT):
        _say(f"error: {one_line(error)}")
        return USAGE
    if is_out_of_memory(error):
        _say(f"error: {': '.join(['not enough memory', *_memory_wanted(error)])}")
        return FAILED
    missing = isinstance(error, ModuleNotFoundError) and error.name is None  # an extra: the message names it
    if missing or isinstance(error, OSError | ArithmeticError):
        _say(f"error: {one_line(error)}")
        return FAILED
    hint = "" if debug else " (--debug shows where)"
    _say(f"error: {type(error).__name__}: {one_line(error)}{hint}")
    return FAILED


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: torch raises RuntimeError for it, with the text of its allocator."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in text for words in ("DefaultCPUAllocator", "out of memory", "bad_alloc"))
    )


def _memory_wanted(error: BaseException) -> list[str]:
    """Return what could not be allocated, as one text, or nothing if the error does not tell."""
    text = one_line(error)
    wanted = re.search(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMGT]iB)", text)
    if wanted is None:
        return [text] if text and isinstance(error, MemoryError) else []
    amount, unit = float(wanted[1]), wanted[2]
    if unit == "bytes":
        amount, unit = (amount / 2**30, "GiB") if amount >= 2**30 else (amount / 2**20, "MiB")
    return [f"{amount:.4g} {unit} could not be allocated"]


def _say(text: str) -> None:
    print(f"calepin: {text}", file=sys.stderr)
