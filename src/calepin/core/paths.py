"""Check of output paths, before a computation starts and without importing numerical libraries."""

from pathlib import Path

__all__ = ["check_output"]


def check_output(path: Path, suffix: str | None = None) -> None:
    """Raise an error if a file cannot be written, before the computation rather than after it."""
    if suffix is not None and path.suffix != suffix:
        raise ValueError(f"cannot write {path}: expected a name that ends in {suffix}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")
