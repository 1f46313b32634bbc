"""Checks of paths, before a computation starts and without importing numerical libraries."""

import errno
import json
import os
import stat
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calepin.core.errors import FileFormatError

__all__ = [
    "ARRAY_FILES",
    "IMAGE_FILES",
    "NIFTI_FILES",
    "VOLUME_FILES",
    "check_checkpoint",
    "check_input",
    "check_output",
    "check_replaced",
    "check_separate",
    "kind_of",
    "stem_of",
    "suffix_of",
    "target_of",
]

IMAGE_FILES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
"""The suffixes of images that can be written."""

ARRAY_FILES = (".npy",)
"""The suffixes of arrays that can be written, images in units of their own among them."""

NIFTI_FILES = (".nii", ".nii.gz")
"""The suffixes of NIfTI, as it is and compressed."""

VOLUME_FILES = (".zarr", *NIFTI_FILES)
"""The suffixes of what holds stacks alone: a file of one plane is a stack, too."""

_MODEL = ".safetensors"
_CODES = ".npz"
_MEMBERS = ({"data.npy", "indices.npy", "indptr.npy", "shape.npy"}, {"codes.npy", "offset.npy"})
_RUNS = {"checkpoint", "untrained-fit"}  # kinds of `calepin.core.checkpoint.Checkpoint`
_LONGEST_HEADER = 100_000_000  # bytes, the limit of safetensors

# the first bytes of the files that calepin writes
_BEGINNINGS = {
    ".npy": (b"\x93NUMPY",),
    ".clp": (b"CLP",),
    ".png": (b"\x89PNG\r\n\x1a\n",),
    ".jpg": (b"\xff\xd8\xff",),
    ".jpeg": (b"\xff\xd8\xff",),
    ".tif": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ".tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    ".nii": (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"),  # sizes of headers
    ".nii.gz": (b"\x1f\x8b",),
    ".pdf": (b"%PDF-",),
    ".svg": (b"<?xml", b"<svg"),
    ".html": (b"<!DOCTYPE html><!-- calepin report -->",),  # pages of others are not replaced
}


def suffix_of(path: str | os.PathLike) -> str:
    """Return the suffix of a name in small letters; that of compressed NIfTI is double."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem_of(path: str | os.PathLike) -> str:
    """Return a name without the suffix of `suffix_of`."""
    name = Path(path).name
    return name[: len(name) - len(suffix_of(path))]


def target_of(path: str | os.PathLike) -> Path:
    """Return the file that is replaced by writing to `path`: the target of a link, else `path` itself.

    Raises
    ------
    IsADirectoryError
        If it is a folder.
    FileNotFoundError
        If its folder does not exist.
    PermissionError
        If the file or its folder is read-only.
    ValueError
        If it is a device, a pipe or a socket, or a link to itself.
    """
    target = Path(os.path.realpath(_path(path)))
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if mode is not None and not stat.S_ISREG(mode):
        raise ValueError(f"cannot write {path}: expected a file, it is a device, a pipe or a socket")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {Path(path).parent} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: its folder is read-only")
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(f"cannot write {path}: the file is read-only")
    return target


def check_output(path: str | os.PathLike, *suffixes: str) -> None:
    """Raise an error if a file cannot be written, before the computation rather than after it.

    Errors are those of `target_of`, and ValueError unless the name ends in one of the suffixes.
    """
    if suffixes and suffix_of(path) not in suffixes:
        raise ValueError(f"cannot write {path}: expected a name that ends in {', '.join(suffixes)}")
    target_of(path)


def check_replaced(path: str | os.PathLike) -> None:
    """Raise ValueError if a file exists that is not empty and not of the kind that its suffix promises.

    A checkpoint is another kind than a model: it may be all that is left of a long run.
    """
    path = Path(path)
    if not path.exists() or path.stat().st_size == 0:
        return
    suffix = suffix_of(path)
    if suffix == _MODEL:
        kind = kind_of(path)
        if kind in _RUNS:
            raise ValueError(f"cannot write {path}: it holds the state of a run; --force replaces it")
        ours = kind is not None
    elif suffix == _CODES:
        ours = _holds_codes(path)
    else:
        with path.open("rb") as file:
            ours = file.read(64).startswith(_BEGINNINGS.get(suffix, ()))
    if not ours:
        raise ValueError(f"cannot write {path}: it is no {suffix} file of calepin; --force replaces it")


def check_checkpoint(path: str | os.PathLike, kind: str) -> None:
    """Raise an error if a checkpoint of this kind cannot be written, or would replace any other file."""
    path = Path(path)
    try:
        target_of(path)
    except (OSError, ValueError) as error:
        raise type(error)(f"checkpoint: {error}") from None
    if path.exists() and path.stat().st_size > 0 and kind_of(path) != kind:
        raise ValueError(f"checkpoint: expected a new file or a checkpoint of such a run, got {path}")


def check_separate(written: Mapping[str, Path], read: Sequence[tuple[str, Path]]) -> None:
    """Raise ValueError if a written file is also read, or written twice, also through links.

    Both are given by the names of the arguments, for the message.
    """
    others = list(read)
    for name, path in written.items():
        for other, taken in others:
            if _is_same(path, taken):
                raise ValueError(f"{name}: expected another file than {other}, got {path} for both")
        others.append((name, path))


def kind_of(path: str | os.PathLike) -> str | None:
    """Return the kind in the header of a calepin file, None for any other file."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= _LONGEST_HEADER else b""
    try:
        metadata = json.loads(header)["__metadata__"]
        return metadata["kind"] if metadata["format"] == "calepin" else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _holds_codes(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False
    return any(members <= names for members in _MEMBERS)


def _mode(path: str | os.PathLike) -> int | None:
    """Return the mode of a file, or of the target of a link; None if there is none."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ValueError(f"cannot write {path}: it is a link to itself") from None


def _is_same(a: str | os.PathLike, b: str | os.PathLike) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return os.path.realpath(a) == os.path.realpath(b)


def _path(path: Any) -> str | os.PathLike:
    """Return a path; raise TypeError for anything else, such as None, by the name of the argument."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected a path, got {path!r:.60}")
    return path


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
    path = Path(_path(path))
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder, expected {expected}")
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if not path.is_file():
        raise FileFormatError(f"{path} is a pipe, socket or device, expected {expected}")
    return path
