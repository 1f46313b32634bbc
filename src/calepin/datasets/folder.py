"""The folder with public test sets that the environment variable CALEPIN_DATA names."""

import os
from pathlib import Path

__all__ = ["data_path", "has_data"]

VARIABLE = "CALEPIN_DATA"


def data_path(relative: str) -> Path:
    """Return the path of a file or folder inside the data folder.

    Raises
    ------
    FileNotFoundError
        CALEPIN_DATA is not set, names no folder, or the folder lacks `relative`; the message tells
        which of the three.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise FileNotFoundError(
            f"{relative} is needed: set {VARIABLE} to the folder with the public test sets"
        )
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{VARIABLE} names {named}, which is no folder")
    path = folder / relative
    if not path.exists():
        raise FileNotFoundError(f"{VARIABLE} names {named}, which holds no {relative}")
    return path


def has_data(relative: str) -> bool:
    """Tell whether `data_path` would find the file."""
    try:
        data_path(relative)
    except FileNotFoundError:
        return False
    return True
