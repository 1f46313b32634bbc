"""Decoders of other libraries in a process of their own, because damaged files crash some of them.

The child process calls one function, which returns named arrays, and writes them to a pipe in NumPy's format,
which holds no pickles. Its memory is limited by what a file of this size may declare (see
`calepin.core.reading`), its time by the size of the file. A crash is an error of the file like any other.
"""

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.reading import VARIABLE, largest_declared, trusts

__all__ = ["read_isolated"]

SECONDS, BYTES_PER_SECOND = 120.0, 1e6  # time limit: a constant, and more for large files
SPARE_MEMORY = 2**30  # bytes, for the decoder itself
MEMORY_FACTOR = 3  # a decoder holds compressed bytes, decompressed bytes and the array

_START = (
    "import json, sys; request = json.loads(sys.stdin.readline()); sys.path[:] = request['modules']; "
    "from calepin.core.isolated import serve; serve(request)"
)
_KNOWN = {kind.__name__: kind for kind in (FileFormatError, ValueError, ModuleNotFoundError, PermissionError)}


def read_isolated(
    function: str, path: Path, *, trusted: bool = False, **settings: Any
) -> dict[str, NDArray[Any]]:
    """Return the arrays that a function reads from a file, called in a child process.

    Parameters
    ----------
    function : str
        "module:name" of a function ``f(path, *, trusted, **settings)`` that returns named arrays.
    path : Path
        A regular file.
    trusted : bool, default False
        Lift the limit of memory.
    **settings
        Further arguments, as JSON.

    Raises
    ------
    FileFormatError
        If the process crashes, or exceeds its limits of memory or time.
    ValueError, ModuleNotFoundError, PermissionError
        As raised by the function.
    """
    held = path.stat().st_size
    trusted = trusts(trusted)
    request = {
        "modules": sys.path,
        "function": function,
        "path": os.fspath(path),
        "memory": None if trusted else SPARE_MEMORY + MEMORY_FACTOR * largest_declared(held),
        "settings": {"trusted": trusted, **settings},
    }
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    timer = threading.Timer(SECONDS + held / BYTES_PER_SECOND, child.kill)
    timer.start()
    with child:
        try:
            return _answer(child, request)
        except (EOFError, BrokenPipeError):
            raise FileFormatError(
                f"{path} is damaged: its reader crashed or did not end, and was stopped"
            ) from None
        finally:
            timer.cancel()
            child.kill()


def _answer(child: subprocess.Popen, request: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin as stdin:
        stdin.write(json.dumps(request).encode() + b"\n")
    line = child.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer = json.loads(line)
    if "error" in answer:
        raise _KNOWN[answer["error"]](answer["message"])
    pipe = _Pipe(child.stdout)
    try:
        return {name: np.lib.format.read_array(pipe, allow_pickle=False) for name in answer["arrays"]}
    except ValueError:  # the arrays end too early
        raise EOFError from None


class _Pipe:
    """A pipe without a file descriptor: NumPy would look for its position, which a pipe does not have."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.write = file.read, file.write


def serve(request: Mapping[str, Any]) -> None:
    """Answer a request of `read_isolated` on stdout, in the child process."""
    with os.fdopen(os.dup(1), "wb") as file, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # libraries that print must not disturb the answer
        path = Path(request["path"])
        try:
            module, name = request["function"].split(":")
            function = getattr(importlib.import_module(module), name)
            _limit_memory(request["memory"])
            arrays = function(path, **request["settings"])
            answer = {"arrays": list(arrays)}
        except Exception as error:
            arrays, answer = {}, _failure(path, error)
        file.write(json.dumps(answer).encode() + b"\n")
        for array in arrays.values():
            np.lib.format.write_array(_Pipe(file), np.asarray(array), allow_pickle=False)


def _failure(path: Path, error: Exception) -> dict[str, str]:
    kind, message = type(error).__name__, str(error)
    if isinstance(error, MemoryError):
        message = f"needs far more memory than the file's size ({VARIABLE}=1 lifts the limit)"
    elif kind in _KNOWN:
        return {"error": kind, "message": message}
    return {"error": FileFormatError.__name__, "message": f"{path} is not readable: {message or kind}"}


def _limit_memory(spare: int | None) -> None:
    """Let this process use only so many bytes more than now, where the system can (not on Windows)."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if spare is not None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + spare, hard))
