"""``calepin doctor``: what a bug report needs; it fails where calepin cannot work as it should."""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from calepin import __version__
from calepin.core import compiled, environment


def test_doctor_says_what_it_runs_on(run):
    status, out, err = run("doctor")
    assert (status, err) == (0, "")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert __version__ in lines["calepin"]
    assert sys.version.split()[0] in lines["Python"]
    assert f"numpy {metadata.version('numpy')}" in lines["packages"]
    assert {"CPU", "instructions", "memory", "threads", "BLAS", "devices", "kernels", "[mri]"} <= lines.keys()


def test_the_object_for_programs_holds_the_same(run):
    status, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["problems"] == []
    assert found["packages"]["torch"] == metadata.version("torch")
    assert found["cpu"]["usable_cores"] >= 1
    assert any(library["user_api"] == "blas" for library in found["blas"])


def test_the_home_folder_and_only_variables_that_matter_are_shown(run, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("CALEPIN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("A_PASSWORD", "secret")
    out = run("doctor")[1]
    assert "CALEPIN_DATA=~" in out
    assert str(tmp_path) not in out
    assert "secret" not in out


def test_a_missing_optional_package_is_named_with_its_extra_and_is_no_problem(run, monkeypatch):
    without(monkeypatch, "h5py")
    status, out, _ = run("doctor")
    assert status == 0
    assert re.search(r"h5py missing.* \(optional: pip install 'calepin\[mri\]'\)", out)


@pytest.mark.parametrize(
    ("replaced", "problem"),
    [
        ({"scipy": None}, "scipy is missing: calepin needs scipy>="),
        ({"scipy": "1.0"}, "scipy is 1.0: calepin needs scipy>="),
    ],
)
def test_a_missing_or_old_package_is_a_problem(run, monkeypatch, replaced, problem):
    without(monkeypatch, **replaced)
    status, out, _ = run("doctor")
    assert status == 1
    assert problem in out


def test_kernels_that_cannot_be_kept_are_a_problem(run, monkeypatch, tmp_path):
    occupied = tmp_path / "occupied"
    occupied.touch()  # no process, not even root's, can write into it as into a folder
    monkeypatch.setattr(compiled, "kernel_cache", lambda: occupied)
    status, out, _ = run("doctor")
    assert status == 1
    assert "occupied, not writable" in out
    assert "set NUMBA_CACHE_DIR" in out


def test_the_folder_of_kernels_is_where_numba_writes_them(monkeypatch):
    folder = compiled.kernel_cache()
    assert folder is not None
    compiled.njit(**compiled.FAST)(compiled._nothing)()
    assert list(folder.glob("compiled._nothing-*.nbi"))


def without(monkeypatch, *missing: str, **versions: str | None) -> None:
    """Let packages be missing (None), or of another version."""
    replaced = dict.fromkeys(missing) | versions
    installed = environment._installed

    def answer(requirement: Requirement) -> str | None:
        return replaced[requirement.name] if requirement.name in replaced else installed(requirement)

    monkeypatch.setattr(environment, "_installed", answer)
