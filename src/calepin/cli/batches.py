"""Commands on many files: which are read, where they are written, and which were done before."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from calepin.cli.options import is_folder
from calepin.core.paths import (
    ARRAY_FILES,
    IMAGE_FILES,
    VOLUME_FILES,
    check_separate,
    stem_of,
    suffix_of,
    target_of,
)

__all__ = ["IMAGES", "WRITTEN", "Batch", "file_beside", "find_sources"]

IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
READ = (*IMAGES, *VOLUME_FILES)
WRITTEN = (*IMAGE_FILES, *ARRAY_FILES, *VOLUME_FILES)
RECORD = "calepin-{command}.json"


def find_sources(
    paths: Sequence[Path], output_path: Path, suffixes: Sequence[str] = READ
) -> tuple[list[Path], bool]:
    """Return the files that paths name, and whether it is one that is written as a file, not into a folder.

    Paths are files, folders, whose images with the suffixes are taken, and patterns as scans/*.tif.

    Raises
    ------
    typer.BadParameter
        If a path names nothing, or there is no folder for several files.
    ValueError
        If the file would be replaced by its result.
    """
    sources = _expand(paths, suffixes)
    if is_folder(output_path):
        return sources, False
    if len(sources) > 1:
        raise typer.BadParameter(
            f"expected a folder for {len(sources)} images, got {output_path}", param_hint="--output"
        )
    check_separate({"--output": output_path}, [("IMAGE", sources[0])])
    return sources, True


def _expand(paths: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and path.suffix != ".zarr":
            files = sorted(file for file in path.iterdir() if _is_read(file, suffixes))
            if not files:
                dicom = any(file.suffix.lower() == ".dcm" for file in path.iterdir())
                hint = ", got DICOM: convert the series to NIfTI first, as dcm2niix does" if dicom else ""
                raise typer.BadParameter(f"expected images in the folder {path}{hint}", param_hint="IMAGE")
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
    return suffix_of(path) in suffixes and not path.name.startswith(".")


def file_beside(source: Path, path: Path, suffixes: Sequence[str], *, option: str, named: str) -> Path:
    """Return the file that belongs to a source: a file is that of all sources, of a folder that of its name.

    Without a file of the same name, it is the only one that differs in the suffix alone.

    Parameters
    ----------
    source, path
        A file of a batch, and the value of an option, which may be a folder.
    suffixes
        Suffixes of the files that count.
    option, named
        The option, and the suffixes for people: "--mask" and ".png, .tif or .npy".

    Raises
    ------
    typer.BadParameter
        If a folder has no file for the source, or several.
    """
    if not path.is_dir():
        return path
    stem = stem_of(source)
    files = [file for file in path.iterdir() if stem_of(file) == stem and suffix_of(file) in suffixes]
    found = sorted(file for file in files if not (source.exists() and file.samefile(source)))
    same = [file for file in found if file.name == source.name] or found
    if len(same) != 1:
        got = " and ".join(file.name for file in same) or "none"
        raise typer.BadParameter(
            f"expected one file {stem}{named} in {path} for {source}, got {got}", param_hint=option
        )
    return same[0]


class Batch:
    """Files that one command reads, and a folder where it writes a file for each.

    The folder keeps a record of the settings, and of size and time of each file that was read and of what was
    written. A file is done if the record holds all of it as it is. The record is that of one command: it
    replaces no result of another.

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
    written, other
        Suffixes of files that can be written; what the others become.
    force
        Replace files that the record does not hold.
    beside
        What else is read for a file, as its mask, by the name of the option.
    read
        What is read for all files, with the names of the options.

    Raises
    ------
    typer.BadParameter
        If two files would be written under one name.
    ValueError
        If a file that is read would be replaced, another is in the way, or the record is damaged.
    """

    def __init__(
        self,
        command: str,
        sources: Sequence[Path],
        folder: Path,
        settings: Mapping[str, Any],
        *,
        written: Sequence[str],
        other: str = ".png",
        force: bool,
        beside: Mapping[str, Mapping[Path, Path]] | None = None,
        read: Sequence[tuple[str, Path]] = (),
    ) -> None:
        self.beside = {} if beside is None else beside
        self.targets = {source: folder / _name(source, written, other) for source in sources}
        _check_names(self.targets)
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = json.loads(json.dumps(settings))
        self.path = folder / RECORD.format(command=command)
        self.known = self._read()
        self._check_read(read)
        for target in self.targets.values():
            if not force:
                self._check_ours(target)
            if not target.is_dir():
                target_of(target)  # an error now rather than after the work

    def is_done(self, source: Path) -> bool:
        """Return whether an earlier run has written the result of a file, with the same settings."""
        target = self.targets[source]
        if not (source.exists() and target.exists()):
            return False
        return self.known.get(target.name) == self._entry(source) | {"written": _stamp(target)}

    def add(self, source: Path) -> None:
        """Record that the result of a file is written."""
        from calepin.core.files import atomic_write

        target = self.targets[source]
        self.known[target.name] = self._entry(source) | {"written": _stamp(target)}
        with atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps({"files": self.known}, indent=1), "utf-8")

    def _entry(self, source: Path) -> dict[str, Any]:
        entry = {"source": os.path.abspath(source), "read": _stamp(source), "settings": self.settings}
        for option, files in self.beside.items():
            path = files.get(source)
            entry[option] = [os.path.abspath(path), *_stamp(path)] if path is not None else None
        return entry

    def _check_read(self, others: Sequence[tuple[str, Path]]) -> None:
        """Raise ValueError if a result would replace a file that is read, also for another result."""
        beside = [(name, path) for name, paths in self.beside.items() for path in paths.values()]
        read = [*(("IMAGE", source) for source in self.targets), *beside, *others]
        names = {_identity(path): name for name, path in read if path.exists()}
        for target in self.targets.values():
            name = names.get(_identity(target)) if target.exists() else None
            if name is not None:
                raise ValueError(f"--output: expected another file than {name}, got {target} for both")

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


def _identity(path: Path) -> tuple[int, int]:
    """Return what is the same for all names of a file."""
    found = path.stat()
    return found.st_dev, found.st_ino


def _stamp(path: Path) -> list[int]:
    """Return size and time of change of a file, or of all files of a folder."""
    files = [file.stat() for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path.stat()]
    return [sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=0)]


def _name(source: Path, written: Sequence[str], other: str) -> str:
    """Return the name of the file for a source: its own, or with another suffix."""
    return source.name if suffix_of(source) in written else f"{stem_of(source)}{other}"


def _check_names(targets: Mapping[Path, Path]) -> None:
    sources: dict[str, Path] = {}
    for source, target in targets.items():
        other = sources.setdefault(target.name.lower(), source)
        if other is not source:
            raise typer.BadParameter(
                f"expected different names, {other} and {source} would both be {target}", param_hint="IMAGE"
            )
