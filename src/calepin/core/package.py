"""What the package says of itself: its version, and the packages that it and each of its extras require."""

import hashlib
import subprocess
import tomllib
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

__all__ = ["commit", "extras", "requirements", "sources_checksum", "version"]


CODE = ("src", ":(exclude)src/*/results/*")  # stored results change nothing that is computed


def version() -> str:
    """Return the version in pyproject.toml of a source tree, else that of the installed package."""
    project = _source_tree()
    return metadata.version("calepin") if project is None else project["version"]


def requirements() -> list[Requirement]:
    """Return the packages that calepin always needs."""
    project = _source_tree()
    if project is None:
        return [requirement for requirement in _installed() if requirement.marker is None]
    return [Requirement(text) for text in project["dependencies"]]


def extras() -> dict[str, list[Requirement]]:
    """Return the packages of each extra that is for users: those that the extra "all" joins."""
    project = _source_tree()
    if project is None:
        found = {
            name: [r for r in _installed() if r.marker is not None and r.marker.evaluate({"extra": name})]
            for name in metadata.metadata("calepin").get_all("Provides-Extra") or []
        }
    else:
        optional = project["optional-dependencies"]
        found = {name: [Requirement(text) for text in texts] for name, texts in optional.items()}
    for_users = {extra for requirement in found["all"] for extra in requirement.extras}
    return {name: found[name] for name in sorted(for_users)}


def commit() -> str | None:
    """Return the commit of a source tree, with "+" if its code was changed; None without git."""
    if _source_tree() is None:
        return None
    root = Path(__file__).parents[3]
    try:
        head, changed = (
            subprocess.run(
                ["git", "-C", root, *words], capture_output=True, check=True, text=True, timeout=10
            ).stdout.strip()
            for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "--", *CODE))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


@cache
def sources_checksum(package: str) -> str:
    """Return a checksum of all Python files of a package, or of a module that is no package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {package!r} with source files")
    root = Path(spec.origin)
    files = sorted(root.parent.rglob("*.py")) if spec.submodule_search_locations else [root]
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(root.parent).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _installed() -> list[Requirement]:
    return [Requirement(text) for text in metadata.requires("calepin") or []]


@cache
def _source_tree() -> dict[str, Any] | None:
    """Return the table of the project if this file is in its source tree, else None.

    Python may run a source tree, by PYTHONPATH, where another version is installed.
    """
    root = Path(__file__).parents[3]
    file = root / "pyproject.toml"
    if Path(__file__).parents[2] != root / "src" or not file.is_file():
        return None
    return tomllib.loads(file.read_text(encoding="utf-8"))["project"]
