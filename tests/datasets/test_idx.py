"""idx files are read as their header says, and refused where they are something else."""

import gzip

import numpy as np
import pytest

from calepin.core.errors import FileFormatError
from calepin.datasets import load_mnist, read_idx

HEADER = bytes([0, 0, 0x0B, 2]) + (2).to_bytes(4) + (3).to_bytes(4)
NUMBERS = np.array([[1, -2, 3], [400, 5, -600]], dtype=">i2")


@pytest.mark.parametrize("compress", [False, True])
def test_numbers_come_back(tmp_path, compress):
    data = HEADER + NUMBERS.tobytes()
    (tmp_path / "a").write_bytes(gzip.compress(data) if compress else data)
    found = read_idx(tmp_path / "a")
    np.testing.assert_array_equal(found, NUMBERS)
    assert found.dtype == np.int16


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "nothing"),
        (b"PK\x03\x04abcd", "not an idx file"),
        (HEADER[:7], "expected"),
        (HEADER + NUMBERS.tobytes()[:-1], "has 23 bytes, expected 24"),
        (HEADER + NUMBERS.tobytes() + b"0", "has more bytes, expected 24"),
        (
            gzip.compress(HEADER + NUMBERS.tobytes(), mtime=0)[:-9],
            "a is not a readable idx file: Compressed file ended",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FileFormatError, match=message):
        read_idx(tmp_path / "a")


def test_parts_are_named():
    with pytest.raises(ValueError, match="part: expected 'train' or 'test'"):
        load_mnist("all")


@pytest.mark.data
def test_mnist_is_what_it_is(public_data):
    digits, labels = load_mnist("test")
    assert digits.shape == (10000, 784)
    assert digits.dtype == np.float32
    assert digits.min() == 0
    assert digits.max() == 1
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
