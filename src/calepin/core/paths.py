"""Checks of paths, before a computation starts and without importing numerical libraries."""

import os
from pathlib import Path

from calepin.core.errors import FileFormatError

__all__ = ["check_input", "check_output"]


def check_output(path: Path, suffix: str | None = None) -> None:
    """Raise an error if a file cannot be written, before the computation rather than after it."""
    if suffix is not None and path.suffix != suffix:
        raise ValueError(f"cannot write {path}: expected a name that ends in {suffix}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")


def check_input(path: str | os.PathLike, expected: str) -> Path:
    """Return the path of a file to read, if it is a regular file.

    Pipes, sockets and devices are refused, because reading from them can block or never end.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the path is a folder or a special file; the message says that `expected` was expected.
    """
    path = Path(path)
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, expected {expected}")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if not path.is_file():
        raise FileFormatError(f"{path} is a pipe, socket or device, expected {expected}")
    return path
