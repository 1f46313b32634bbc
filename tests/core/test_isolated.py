"""A decoder in a child process: its arrays come back, its crash is an error of the file."""

import os
import signal
import sys
import time

import numpy as np
import pytest

from calepin.core import isolated
from calepin.core.errors import FileFormatError
from calepin.core.isolated import read_isolated

# functions for the child process


def some_arrays(path, *, trusted, scale):
    print("what a library says on stdout")
    return {
        "a": scale * np.arange(6.0).reshape(2, 3).T,
        "names": np.array(["x", "yz"]),
        "none": np.zeros((0, 2)),
        "scalar": np.array(trusted),
    }


def crash(path, *, trusted):
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(path, *, trusted):
    time.sleep(60)


def fill_memory(path, *, trusted):
    return {"size": np.array(len(bytearray(4 * 2**30)))}


def fail(path, *, trusted, kind):
    raise {"value": ValueError, "key": KeyError, "module": ModuleNotFoundError}[kind](f"{path}: wrong {kind}")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.dat").write_bytes(b"1")
    return tmp_path / "a.dat"


def call(function, path, **settings):
    return read_isolated(f"{__name__}:{function.__name__}", path, **settings)


def test_arrays_come_back_with_type_and_order(path):
    found = call(some_arrays, path, scale=2.0)
    expected = some_arrays(path, trusted=False, scale=2.0)
    assert list(found) == list(expected)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
        assert array.dtype == expected[name].dtype
    assert found["a"].flags.f_contiguous


def test_a_crash_is_an_error_of_the_file(path, capfd):
    with pytest.raises(FileFormatError, match=r"a\.dat is damaged: its reader crashed"):
        call(crash, path)
    assert capfd.readouterr() == ("", "")


def test_a_reader_that_does_not_end_is_stopped(path, monkeypatch):
    monkeypatch.setattr(isolated, "SECONDS", 0.5)
    begun = time.monotonic()
    with pytest.raises(FileFormatError, match="or did not end, and was stopped"):
        call(hang, path)
    assert time.monotonic() - begun < 20


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux limits the memory of a process by address space"
)
def test_memory_is_limited_unless_the_file_is_trusted(path):
    with pytest.raises(FileFormatError, match=r"a\.dat is not readable: needs far more memory than the file"):
        call(fill_memory, path)


@pytest.mark.parametrize(
    ("kind", "error"), [("value", ValueError), ("key", FileFormatError), ("module", ModuleNotFoundError)]
)
def test_errors_come_back(path, kind, error):
    with pytest.raises(error, match=rf"a\.dat: wrong {kind}"):
        call(fail, path, kind=kind)
