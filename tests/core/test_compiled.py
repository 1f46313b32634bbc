"""Kernels compile wherever calepin is installed, also where no folder for numba's cache can be written."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import pytest

from calepin.core import compiled
from calepin.core.compiled import FAST, njit


@pytest.fixture
def occupied(tmp_path):
    """Return a file: no process, not even root's, can write into it as into a folder."""
    (tmp_path / "occupied").touch()
    return tmp_path / "occupied"


@pytest.fixture
def no_cache(monkeypatch, occupied):
    """Let numba find no folder for its cache but that of its settings."""
    from numba.core import caching

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", caching.CacheImpl._locator_classes[:1])
    compiled._cache_elsewhere.cache_clear()
    yield
    compiled._cache_elsewhere.cache_clear()


def one():
    return 1


def test_without_a_folder_kernels_are_kept_in_one_of_the_user_with_a_note(no_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(**FAST)(one)
    with pytest.warns(RuntimeWarning, match=f"kept in {tmp_path}.*NUMBA_CACHE_DIR") as noted:
        kernel = [njit(**FAST)(one) for _ in range(2)][1]
    assert len(noted) == 1
    assert kernel() == 1
    (folder,) = tmp_path.glob("calepin-kernels-*")
    assert folder.stat().st_mode & 0o077 == 0
    assert list(folder.rglob("*.nbi"))


def test_without_a_temporary_folder_either_nothing_is_kept(no_cache, occupied, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(occupied))
    with pytest.warns(RuntimeWarning, match="kept nowhere: compiling takes time in each run"):
        assert njit(**FAST)(one)() == 1


def test_a_folder_that_others_can_write_is_not_used(no_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    folder = tmp_path / f"calepin-kernels-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="kept nowhere"):
        njit(**FAST)(one)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")
    compiled._cache_elsewhere.cache_clear()
    with pytest.warns(RuntimeWarning, match="kept nowhere"):
        njit(**FAST)(one)


def test_a_read_only_installation_without_a_cache_folder_works(tmp_path, occupied):
    package = tmp_path / "site"
    source = Path(compiled.__file__).parents[1]
    for file in source.rglob("*.py*"):
        if file.suffix in (".py", ".pyi"):
            copy = package / "calepin" / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
            (copy.parent / "__pycache__").touch()  # a file in its place: nothing can be written there
    environment = {
        **{name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"},
        "PYTHONPATH": str(package),
        "HOME": str(occupied),
        "XDG_CACHE_HOME": str(occupied),
        "TMPDIR": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    code = "import calepin.solvers.kernels.homotopy; print(calepin.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(package))
    assert done.stderr.count("NUMBA_CACHE_DIR names another") == 1


CODES = """
import hashlib, numpy, calepin
X = numpy.random.default_rng(0).standard_normal((300, 24)).astype(numpy.float32)
codes = calepin.sparse_encode(X, X[:60], alpha=0.3)
print(hashlib.sha256(codes.tobytes()).hexdigest())
"""


def test_the_run_that_compiles_gives_the_bits_of_later_runs(tmp_path):
    first, later = (
        subprocess.run(
            [sys.executable, "-c", CODES],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    )
    assert first == later


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"damaged", b"cmodule\nMissingType\n."])
def test_a_cache_that_cannot_be_read_is_written_again(tmp_path, monkeypatch, suffix, content):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert njit(**FAST)(one)() == 1
    (file,) = tmp_path.rglob(f"*.{suffix}")
    version = pickle.dumps(numba.__version__, protocol=-1) if suffix == "nbi" else b""
    file.write_bytes(version + content)
    with pytest.raises((EOFError, ImportError, pickle.UnpicklingError)):
        numba.njit(**FAST)(one)()
    assert njit(**FAST)(one)() == 1
    kernel = njit(**FAST)(one)
    assert kernel() == 1
    assert kernel.stats.cache_hits
