"""Reader of idx files, the format of MNIST: an array of numbers after a short header."""

import gzip
import math
import os
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.core.paths import check_input
from calepin.core.reading import check_declared, reading
from calepin.datasets.folder import data_path

__all__ = ["load_mnist", "read_idx"]

# type of the numbers, by the third byte of the file; the most significant byte is first
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike, *, trusted: bool = False) -> NDArray:
    """Return the array of an idx file, which may be compressed with gzip.

    Parameters
    ----------
    path : path
        The file to read.
    trusted : bool, default False
        Read a file that declares far more data than it holds; see `calepin.core.reading`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    FileFormatError
        If the file is not an idx file, or its length does not match its header.
    """
    path = check_input(path, "an idx file")
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            return _read(file, path, trusted)
        with reading(path, "idx file"), gzip.GzipFile(fileobj=file) as opened:
            return _read(opened, path, trusted)


def _read(file: IO[bytes] | gzip.GzipFile, path: Path, trusted: bool) -> NDArray:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in DTYPES:
        raise FileFormatError(f"{path} is not an idx file: it starts with {start.hex(' ') or 'nothing'}")
    sizes = file.read(4 * start[3])
    shape = tuple(int.from_bytes(sizes[i : i + 4]) for i in range(0, len(sizes) - 3, 4))
    dtype = np.dtype(DTYPES[start[2]])
    declared = math.prod(shape) * dtype.itemsize
    check_declared(path, declared, trusted=trusted)
    data = file.read(declared + 1)
    if len(shape) != start[3] or len(data) != declared:
        held = "more" if len(data) > declared else 4 + len(sizes) + len(data)
        expected = 4 + 4 * start[3] + declared
        raise FileFormatError(f"{path} has {held} bytes, expected {expected} for shape {shape}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def load_mnist(part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the digits of MNIST as rows of 784 pixels in [0, 1], and their labels, from CALEPIN_DATA.

    Parameters
    ----------
    part : {"train", "test"}
        The training set of 60,000 digits, or the test set of 10,000.

    Raises
    ------
    ValueError
        If `part` has another value.
    FileNotFoundError, FileFormatError
        If the folder or a file is missing, or a file is damaged.
    """
    if part not in ("train", "test"):
        raise ValueError(f"part: expected 'train' or 'test', got {part!r}")
    prefix = "mnist/train" if part == "train" else "mnist/t10k"
    images = read_idx(data_path(f"{prefix}-images-idx3-ubyte.gz"))
    labels = read_idx(data_path(f"{prefix}-labels-idx1-ubyte.gz"))
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return pixels / np.float32(255), labels.astype(np.int64)
