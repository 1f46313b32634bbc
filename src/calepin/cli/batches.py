"""Commands on many files: which are read, where they are written, and which were done before."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from calepin.core.paths import check_separate, target_of

__all__ = ["Batch", "expand"]

READ = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy", ".zarr", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
RECORD = "calepin-{command}.json"


def expand(paths: Sequence[Path], suffixes: Sequence[str] = READ) -> list[Path]:
    """Return the files that paths name: files, the images in folders, and patterns as scans/*.tif.

    Raises
    ------
    typer.BadParameter
        If a path names nothing.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and path.suffix != ".zarr":
            files = sorted(file for file in path.iterdir() if _is_read(file, suffixes))
            if not files:
                raise typer.BadParameter(f"expected images in the folder {path}", param_hint="IMAGE")
        elif path.exists() or not set("*?[") & set(str(path)):
            files = [path]
        else:
            root = Path(path.anchor or ".")
            files = sorted(root.glob(str(path.relative_to(path.anchor))))
            if not files:
                raise typer.BadParameter(f"expected files that match {path}", param_hint="IMAGE")
        found += files
    return list(dict.fromkeys(found))


def _is_read(path: Path, suffixes: Sequence[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


class Batch:
    """Files that one command reads, and a folder where it writes a file for each.

    The folder keeps a record of the settings, and of size and time of each file that was read and of what was
    written. A file is done if the record holds all of it as it is.

    Parameters
    ----------
    command
        Name of the command, for the record.
    sources
        Files to read.
    folder
        Folder to write into; it is made.
    settings
        What the results depend on, as JSON.
    written
        Suffixes of files that can be written; others become .png.
    force
        Replace files that the record does not hold.

    Raises
    ------
    typer.BadParameter
        If two files would be written under one name, or one would replace its source.
    ValueError
        If a file is in the way, or the record is damaged.
    """

    def __init__(
        self,
        command: str,
        sources: Sequence[Path],
        folder: Path,
        settings: Mapping[str, Any],
        *,
        written: Sequence[str],
        force: bool,
    ) -> None:
        self.targets = {source: folder / _name(source, written) for source in sources}
        _check_names(self.targets)
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = json.loads(json.dumps(settings))
        self.path = folder / RECORD.format(command=command)
        self.known = self._read()
        for source, target in self.targets.items():
            check_separate({"--output": target}, [("IMAGE", source)])
            if not force:
                self._check_ours(target)
            if not target.is_dir():
                target_of(target)  # an error now rather than after the work

    def is_done(self, source: Path) -> bool:
        """Return whether an earlier run has written the result of a file, with the same settings."""
        target = self.targets[source]
        known = self.known.get(target.name)
        return target.exists() and known == self._entry(source) | {"written": _stamp(target)}

    def add(self, source: Path) -> None:
        """Record that the result of a file is written."""
        from calepin.core.files import atomic_write

        target = self.targets[source]
        self.known[target.name] = self._entry(source) | {"written": _stamp(target)}
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps({"files": self.known}, indent=1), "utf-8")

    def _entry(self, source: Path) -> dict[str, Any]:
        return {"source": os.path.abspath(source), "read": _stamp(source), "settings": self.settings}

    def _check_ours(self, target: Path) -> None:
        """Raise ValueError if a file would be replaced that is not as it was written; empty ones are lost."""
        if not target.exists() or _stamp(target)[0] == 0:
            return
        known = self.known.get(target.name)
        if not isinstance(known, dict):
            raise ValueError(f"cannot write {target}: it exists; --force replaces it")
        if known.get("written") != _stamp(target):
            raise ValueError(
                f"cannot write {target}: it was changed after it was written; --force replaces it"
            )

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            files = json.loads(self.path.read_text("utf-8"))["files"]
            if isinstance(files, dict):
                return files
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise ValueError(f"{self.path} is damaged: remove it to compute all results again")


def _stamp(path: Path) -> list[int]:
    """Return size and time of change of a file, or of all files of a folder."""
    files = [file.stat() for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path.stat()]
    return [sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=0)]


def _name(source: Path, written: Sequence[str]) -> str:
    """Return the name of the file for a source: its own, or with the suffix .png."""
    return source.name if source.suffix.lower() in written else f"{source.stem}.png"


def _check_names(targets: Mapping[Path, Path]) -> None:
    sources: dict[str, Path] = {}
    for source, target in targets.items():
        other = sources.setdefault(target.name.lower(), source)
        if other is not source:
            raise typer.BadParameter(
                f"expected different names, {other} and {source} would both be {target}", param_hint="IMAGE"
            )
