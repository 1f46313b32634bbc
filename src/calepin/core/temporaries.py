"""Temporary files beside the files that are written, locked by their writers."""

import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["is_temporary", "locked_temporary", "remove_stale"]

_LONGEST_SUFFIX = 16  # bytes


def remove_stale(path: str | os.PathLike) -> None:
    """Remove temporaries that killed writers of a file left: those that no process has locked."""
    if fcntl is None:
        return
    target = Path(os.path.realpath(path))
    with suppress(OSError), os.scandir(target.parent) as entries:
        for left in [entry.path for entry in entries if is_temporary(entry.name, target)]:
            with suppress(OSError), open(left, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(left)


@contextmanager
def locked_temporary(target: Path) -> Iterator[Path]:
    """Yield a new empty file beside `target`, locked as long as its writer lives; remove it at the end."""
    # short, because `target` may have the longest name that a file can have
    suffix = target.suffix.lower() if len(os.fsencode(target.suffix)) <= _LONGEST_SUFFIX else ""
    while True:
        handle, name = tempfile.mkstemp(suffix=suffix, prefix=_prefix(target), dir=target.parent)
        with os.fdopen(handle, "r+b") as file:
            try:
                if _is_locked(handle):
                    if fcntl is None:
                        file.close()  # Windows replaces no open file
                    yield Path(name)
                    return
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name)


def _is_locked(handle: int) -> bool:
    """Lock a file and return True; return False if another process removed it as stale before that."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where nothing is taken for stale
        return True
    return os.fstat(handle).st_nlink > 0


def is_temporary(name: str | os.PathLike, target: Path) -> bool:
    """Return whether a name, or the name of a path, is that of a temporary file of `target`."""
    return Path(name).name.startswith(_prefix(target))


def _prefix(target: Path) -> str:
    return f".calepin-{zlib.crc32(os.fsencode(target.name)):08x}-"
