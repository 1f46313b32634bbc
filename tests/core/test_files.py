import errno
import json
import os
import pickle
import re
import stat
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write, load_arrays, read_header, save_arrays


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    save_arrays(path, "dictionary", {"components": np.arange(6.0).reshape(2, 3)}, {"alpha": 0.5})
    return path


def test_what_is_loaded_is_what_was_saved(saved):
    arrays, parameters = load_arrays(saved, "dictionary")
    np.testing.assert_array_equal(arrays["components"], np.arange(6.0).reshape(2, 3))
    assert parameters == {"alpha": 0.5}


def test_arrays_that_are_not_contiguous_keep_their_values(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    save_arrays(tmp_path / "a.safetensors", "x", {"t": array.T, "s": array[:, ::2]}, {})
    arrays, _ = load_arrays(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(arrays["t"], array.T)
    np.testing.assert_array_equal(arrays["s"], array[:, ::2])


def test_header_tells_kind_and_shapes(saved):
    header = read_header(saved)
    assert header["kind"] == "dictionary"
    assert header["arrays"] == {"components": {"shape": [2, 3], "dtype": "F64"}}
    json.dumps(header)


def test_another_kind_is_refused(saved):
    with pytest.raises(FileFormatError, match="holds a 'dictionary', expected a 'checkpoint'"):
        load_arrays(saved, "checkpoint")


def test_a_truncated_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[:-5])
    with pytest.raises(FileFormatError, match="not a readable safetensors file"):
        load_arrays(saved)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (pickle.dumps({"components": [1, 2]}), "it looks like a pickle, which calepin never loads"),
        (b"PK\x03\x04" + b"\0" * 60, "zip archive"),
        (b"\x93NUMPY\x01\x00", "npy array"),
        (b"hello, world, this is text", "truncated, or of another format"),
    ],
)
def test_other_files_are_refused_and_named(tmp_path, content, reason):
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=reason):
        load_arrays(path)


def test_safetensors_of_others_are_refused(tmp_path):
    save_file({"w": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(FileFormatError, match="calepin did not write it"):
        load_arrays(tmp_path / "other.safetensors")


def with_version(path, version):
    metadata = {"format": "calepin", "version": version, "kind": "dictionary", "parameters": "{}"}
    save_file({"components": np.eye(2)}, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("99", "format version 99, this calepin reads 2.1: update calepin"),
        ("3.0", "format version 3.0, this calepin reads 2.1: update calepin"),
        ("1", "format version 1, this calepin reads 2.1: docs/reference/versions.md says how to migrate"),
        ("two", "format version 'two', expected a number"),
        ("2.x", "format version '2.x', expected a number"),
    ],
)
def test_another_major_format_version_is_refused(tmp_path, version, message):
    with pytest.raises(FileFormatError, match=re.escape(message)):
        load_arrays(with_version(tmp_path / "other.safetensors", version))


@pytest.mark.parametrize("version", ["2", "2.0", "2.7"])
def test_every_minor_format_version_is_read(tmp_path, version):
    arrays, _ = load_arrays(with_version(tmp_path / "ours.safetensors", version), "dictionary")
    np.testing.assert_array_equal(arrays["components"], np.eye(2))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_arrays(tmp_path / "none.safetensors")
    with pytest.raises(FileFormatError, match="is a folder"):
        load_arrays(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        save_arrays(tmp_path / "no" / "a.safetensors", "x", {}, {})
    with pytest.raises(IsADirectoryError, match="it is a folder"), atomic_write(tmp_path):
        pass


def test_a_full_disk_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_arrays(saved, "dictionary", {"components": np.zeros((9, 9))}, {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file(saved, error):
    before = saved.read_bytes()
    with pytest.raises(error), atomic_write(saved) as path:
        path.write_bytes(b"half")
        raise error
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_written_file_has_the_usual_permissions(saved):
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o666 & ~umask
    saved.chmod(0o600)
    save_arrays(saved, "dictionary", {}, {})
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "name", ["n" * 240 + ".safetensors", "n" * 255, "a." + "n" * 253, "ä" * 121 + ".tiff"]
)
def test_the_longest_names_of_files_can_be_written(tmp_path, name):
    for _ in range(2):
        with atomic_write(tmp_path / name) as path:
            assert len(os.fsencode(path.name)) < 60
            path.write_bytes(b"new")
    assert os.listdir(tmp_path) == [name]


def test_a_link_is_written_through(saved, tmp_path):
    os.symlink(saved.name, tmp_path / "link")
    save_arrays(tmp_path / "link", "dictionary", {"components": np.ones((1, 1))}, {})
    assert os.readlink(tmp_path / "link") == saved.name
    assert load_arrays(saved)[0]["components"].shape == (1, 1)


def test_a_pipe_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(ValueError, match="it is a device, a pipe or a socket"),
        atomic_write(tmp_path / "pipe"),
    ):
        pass
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("named", [True, False])
def test_an_error_of_a_writer_names_the_path_and_not_the_temporary(tmp_path, named):
    with (
        pytest.raises(PermissionError, match=r"Permission denied: '.*a.npy'"),
        atomic_write(tmp_path / "a.npy") as path,
    ):
        raise PermissionError(errno.EACCES, "Permission denied", *([str(path)] if named else []))
    with pytest.raises(OSError, match=r"cannot write .*a.npy: 9 requested"), atomic_write(tmp_path / "a.npy"):
        raise OSError("9 requested and 3 written")  # NumPy's
    with pytest.raises(FileNotFoundError, match="other"), atomic_write(tmp_path / "a.npy"):
        (tmp_path / "other").read_bytes()


WRITER = """
import sys, time
from calepin.core.files import atomic_write
with atomic_write(sys.argv[1]) as path:
    path.write_bytes(b"half")
    print(path.name, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def begin():
    """Return a function that starts an endless writer of a file and returns it and its temporary."""
    begun = []

    def start(path):
        begun.append(
            subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        )
        return begun[-1], path.parent / begun[-1].stdout.readline().strip()

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_a_killed_writer_left_is_removed_by_the_next_one(saved, begin):
    killed, left = begin(saved)
    killed.kill()
    killed.wait()
    assert left.read_bytes() == b"half"
    save_arrays(saved.parent / "other.safetensors", "dictionary", {}, {})
    assert left.exists()  # of another output
    save_arrays(saved, "dictionary", {}, {})
    assert sorted(os.listdir(saved.parent)) == ["model.safetensors", "other.safetensors"]


def test_what_a_living_writer_writes_is_not_removed(saved, begin):
    _, living = begin(saved)
    save_arrays(saved, "dictionary", {}, {})
    assert living.read_bytes() == b"half"
    assert len(os.listdir(saved.parent)) == 2


def test_a_temporary_that_another_process_takes_for_stale_is_made_anew(saved, monkeypatch):
    import fcntl

    lock, taken = fcntl.flock, []

    def steal(handle, how):
        if not taken:
            (name,) = [name for name in os.listdir(saved.parent) if name != saved.name]
            taken.append(name)
            os.unlink(saved.parent / name)
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", steal)
    with atomic_write(saved) as path:
        assert path.name not in taken
        path.write_bytes(b"whole")
    assert saved.read_bytes() == b"whole"


FULL = """
import resource, sys
import numpy as np
from calepin.core.files import save_array
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
save_array(sys.argv[1], np.eye(8))
"""


def test_the_last_bytes_of_an_array_are_not_lost_on_a_full_disk(tmp_path):
    # NumPy writes into a buffer of C, whose last error nobody sees
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "a.npy"], capture_output=True, text=True, check=False
    )
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == []
