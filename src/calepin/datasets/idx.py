"""Reads idx, the format of MNIST and its kin: arrays of numbers behind a header of a few bytes."""

import gzip
import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calepin.core.errors import FileFormatError
from calepin.datasets.folder import data_path

__all__ = ["load_mnist", "read_idx"]

# third byte of the file: what the numbers are, most significant byte first
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike) -> NDArray:
    """Return the array of an idx file, which may be compressed by gzip.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Not an idx file, or one of another length than its header says.
    """
    data = Path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError) as error:
            raise FileFormatError(f"{path} is a damaged gzip file ({error})") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in DTYPES:
        raise FileFormatError(f"{path} is not an idx file: it begins with {data[:4].hex(' ') or 'nothing'}")
    begin = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[i : i + 4]) for i in range(4, min(begin, len(data) - 3), 4))
    dtype = np.dtype(DTYPES[data[2]])
    expected = begin + math.prod(shape) * dtype.itemsize
    if len(shape) != data[3] or len(data) != expected:
        raise FileFormatError(f"{path} has {len(data)} bytes, expected {expected} for shape {shape}")
    return np.frombuffer(data, dtype, offset=begin).reshape(shape).astype(dtype.newbyteorder("="))


def load_mnist(part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return MNIST's digits as rows of 784 pixels in [0, 1], and their labels, from CALEPIN_DATA.

    Parameters
    ----------
    part : {"train", "test"}
        60,000 or 10,000 digits.

    Raises
    ------
    ValueError
        Another part.
    FileNotFoundError, FileFormatError
        No folder or file there, or a damaged one.
    """
    if part not in ("train", "test"):
        raise ValueError(f"part: expected 'train' or 'test', got {part!r}")
    prefix = "mnist/train" if part == "train" else "mnist/t10k"
    images = read_idx(data_path(f"{prefix}-images-idx3-ubyte.gz"))
    labels = read_idx(data_path(f"{prefix}-labels-idx1-ubyte.gz"))
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return pixels / np.float32(255), labels.astype(np.int64)
