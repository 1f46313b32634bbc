"""Where files may be written: checked before the work rather than after it, without loading what computes."""

from pathlib import Path

__all__ = ["check_output"]


def check_output(path: Path, suffix: str | None = None) -> None:
    """Refuse an output path before the work rather than after it."""
    if suffix is not None and path.suffix != suffix:
        raise ValueError(f"cannot write {path}: expected a name that ends in {suffix}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")
