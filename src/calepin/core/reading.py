"""Files from others may be damaged, or made to harm: one kind of error, and a limit on what they declare.

A compressed file of a few kilobytes can declare gigabytes. A reader calls `check_declared` before it
allocates memory. Any file may declare 256 MiB, large files 200 times their size. Readers have a parameter
`trusted` that lifts the limit; so does the environment variable CALEPIN_TRUST_FILES=1.
"""

import math
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.paths import check_input

__all__ = [
    "check_declared",
    "check_no_pair",
    "check_not_dicom",
    "check_npz",
    "check_sizes",
    "largest_declared",
    "read_npy",
    "reading",
    "trusts",
]

VARIABLE = "CALEPIN_TRUST_FILES"
ALWAYS_ALLOWED = 2**28  # bytes
HEADERS = {348, 540}  # bytes of a header of NIfTI, which begins with them, or Analyze
MOST_PER_BYTE = 200
LARGEST_SIZE = 4096  # of a layer whose weights are not in the file

NPY = b"\x93NUMPY"


@contextmanager
def reading(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Turn each error of a decoder into a FileFormatError that names the file, and ignore its warnings.

    Only `MemoryError` and errors of access (`FileNotFoundError`, `PermissionError`) pass unchanged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, for example
            yield
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except FileFormatError as error:
        if os.fspath(path) in str(error):
            raise
        raise FileFormatError(f"{path} is not a readable {what}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise FileFormatError(f"{path} is not a readable {what}: {reason}") from error


def trusts(trusted: bool = False) -> bool:
    """Return whether the limit is lifted, by an argument or by the environment variable."""
    return trusted or os.environ.get(VARIABLE, "") not in {"", "0"}


def largest_declared(held: int) -> int:
    """Return how many bytes a file of `held` bytes may declare."""
    return max(ALWAYS_ALLOWED, MOST_PER_BYTE * held)


def check_declared(
    path: str | os.PathLike, declared: int, held: int | None = None, *, trusted: bool = False
) -> None:
    """Raise FileFormatError if a file declares far more bytes than it holds.

    Parameters
    ----------
    path : path
        The file, or a name for its content.
    declared : int
        Bytes of the arrays that reading would allocate.
    held : int, optional
        Size of the file. Default: that of the file at `path`.
    trusted : bool, default False
        Lift the limit.
    """
    if held is None:
        held = os.stat(path).st_size
    most = largest_declared(held)
    if declared > most and not trusts(trusted):
        size = f"{declared}" if declared < 10**15 else "over 10^15"  # a damaged header may name any number
        raise FileFormatError(
            f"{path} declares {size} bytes, the file holds {held}: expected at most {most} "
            f"({VARIABLE}=1 lifts the limit for files that you trust)"
        )


def check_not_dicom(path: str | os.PathLike, file: IO[bytes]) -> None:
    """Raise FileFormatError if an open file is one of DICOM; the place in it is its beginning afterwards."""
    file.seek(128)
    mark = file.read(4)
    file.seek(0)
    if mark == b"DICM":
        raise FileFormatError(
            f"{path} is DICOM, which is not read: convert the series to NIfTI first, as dcm2niix does"
        )


def check_no_pair(path: str | os.PathLike) -> None:
    """Raise FileFormatError if a file is one of two of NIfTI or Analyze, header and samples."""
    path = Path(path)
    header = path.with_suffix(".hdr")
    if path.suffix.lower() not in {".hdr", ".img"} or not header.is_file():
        return
    with header.open("rb") as file:
        size = file.read(4)
    if any(int.from_bytes(size, order) in HEADERS for order in ("little", "big")):
        raise FileFormatError(
            f"{path} is one of a pair of NIfTI, header (.hdr) and samples (.img), expected both in one file, "
            ".nii or .nii.gz: convert the pair, as nibabel.save does"
        )


def check_sizes(settings: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise ValueError for a large integer in JSON settings that is not the size of an axis of an array.

    An object that is built from settings allocates memory for its arrays before they are read.
    """
    sizes = {size for array in arrays.values() for size in array.shape}
    values = [settings]
    while values:
        value = values.pop()
        if isinstance(value, dict | list):
            values.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, int) and value > LARGEST_SIZE and sizes and value not in sizes:
            raise ValueError(
                f"its settings contain {f'{value}':.40}, which is not the size of any of its arrays"
            )


def read_npy(path: str | os.PathLike, *, memory_map: bool = False) -> NDArray[Any]:
    """Return the array of an .npy file. Its header cannot declare more than the file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is no .npy file, is truncated, or holds Python objects.
    """
    path = check_input(path, "an .npy file")
    with path.open("rb") as file, reading(path, ".npy array"):
        start = file.read(len(NPY))
        if start != NPY:
            looks = {b"\x80": "a pickle, which calepin never loads", b"P": "an archive of several arrays"}
            hint = looks.get(start[:1])
            raise FileFormatError(
                f"{path} is not an .npy array" + (f": it looks like {hint}" if hint else "")
            )
        file.seek(0)
        shape, _, dtype = _npy_header(file)
        if dtype.hasobject:
            raise FileFormatError(f"{path} holds Python objects, which are pickles: calepin never loads them")
        _check_size(shape, dtype, path.stat().st_size - file.tell())
        if memory_map and math.prod(shape) * dtype.itemsize:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        file.seek(0)
        return np.load(file, allow_pickle=False)


def check_npz(file: IO[bytes], path: str | os.PathLike, *, trusted: bool = False) -> None:
    """Raise an error if arrays of an .npz archive do not have the sizes that the archive and they declare."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        check_declared(path, sum(member.file_size for member in members), trusted=trusted)
        for member in members:
            if member.filename.endswith(".npy"):
                with archive.open(member) as opened:
                    shape, _, dtype = _npy_header(opened)
                    _check_size(shape, dtype, member.file_size - opened.tell())
    file.seek(0)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"its format version is {version}, expected (1, 0) or (2, 0)")
    return read[version](file)


def _check_size(shape: tuple[int, ...], dtype: np.dtype, held: int) -> None:
    declared = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or (declared > held and not dtype.hasobject):
        raise ValueError(f"its header declares {declared} bytes of shape {shape}, it holds {held}")
