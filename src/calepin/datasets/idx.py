"""Reader of idx files, the format of MNIST: an array of numbers after a short header."""

import gzip
import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.datasets.folder import data_path

__all__ = ["load_mnist", "read_idx"]

# type of the numbers, by the third byte of the file; the most significant byte is first
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike) -> NDArray:
    """Return the array of an idx file, which may be compressed with gzip.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    FileFormatError
        If the file is not an idx file, or its length does not match its header.
    """
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise FileFormatError(f"{path} is a damaged gzip file ({error})") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in DTYPES:
        raise FileFormatError(f"{path} is not an idx file: it starts with {data[:4].hex(' ') or 'nothing'}")
    begin = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[i : i + 4]) for i in range(4, min(begin, len(data) - 3), 4))
    dtype = np.dtype(DTYPES[data[2]])
    expected = begin + math.prod(shape) * dtype.itemsize
    if len(shape) != data[3] or len(data) != expected:
        raise FileFormatError(f"{path} has {len(data)} bytes, expected {expected} for shape {shape}")
    return np.frombuffer(data, dtype, offset=begin).reshape(shape).astype(dtype.newbyteorder("="))


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
