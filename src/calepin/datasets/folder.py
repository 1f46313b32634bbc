"""The folder of public test sets, given by the environment variable CALEPIN_DATA."""

import os
from pathlib import Path

__all__ = ["data_path", "has_data"]

VARIABLE = "CALEPIN_DATA"


def data_path(relative: str) -> Path:
    """Return the path of a file or folder inside the data folder.

    Raises
    ------
    FileNotFoundError
        If CALEPIN_DATA is not set, is not a folder, or the folder does not contain `relative`. The message
        says which.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise FileNotFoundError(
            f"{relative} is needed: set {VARIABLE} to the folder with the public test sets"
        )
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{VARIABLE} is {named}, which is not a folder")
    path = folder / relative
    if not path.exists():
        raise FileNotFoundError(f"{VARIABLE} is {named}, which does not contain {relative}")
    return path


def has_data(relative: str) -> bool:
    """Return whether `data_path` would find the file or folder."""
    try:
        data_path(relative)
    except FileNotFoundError:
        return False
    return True
