"""The state of a run in a file: named tensors, scalars, and the settings that a resumed run must share.

The caller decides which tensors and scalars are saved; this module does not depend on their names.
"""

import json
import os
import time
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from calepin.core.checks import check_number
from calepin.core.files import load_arrays, save_arrays
from calepin.core.paths import check_checkpoint
from calepin.core.reading import reading
from calepin.core.temporaries import remove_stale

__all__ = ["CHECKPOINT_SECONDS", "Checkpoint", "checksum", "describe", "load_checkpoint"]

CHECKPOINT_SECONDS = 60.0
"""Default time between two checkpoints, in seconds."""

_COMPLEX = ":complex"  # suffix of the name of a complex array, stored with a last axis (real, imaginary)
_LARGEST_LISTED = 64  # a description lists the entries of arrays up to this size, else a checksum


class Checkpoint:
    """A file for the state of a run, written atomically.

    Parameters
    ----------
    path : path
        File to write.
    kind : str
        Kind of the run; a run of another kind cannot resume from the file.
    settings : mapping
        Settings that a resumed run must share; see `describe`.
    seconds : float, default 60.0
        Time between two checkpoints, in seconds.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        If `path` cannot be written.
    ValueError
        If `path` is a file other than a checkpoint of this kind, which is not replaced, or `seconds` is
        negative.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        kind: str,
        settings: Mapping[str, Any],
        *,
        seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        check_number("checkpoint_seconds", seconds, least=0)
        check_checkpoint(path, kind)
        remove_stale(path)
        self.path, self.kind, self.seconds = Path(path), kind, seconds
        self.settings = describe(settings)
        self._saved = time.monotonic()
        self._written = _version_of(path)

    def is_due(self) -> bool:
        """Return whether more than `seconds` have passed since the last checkpoint."""
        return time.monotonic() - self._saved > self.seconds

    def save(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        """Write tensors (or arrays) and JSON scalars; warn if another run has written the file."""
        if _version_of(self.path) not in (None, self._written):
            warnings.warn(
                f"checkpoint: {self.path} was written by another run, whose state is replaced: give each run "
                "a file of its own",
                RuntimeWarning,
                stacklevel=2,
            )
        arrays = dict(_as_real(name, value) for name, value in tensors.items())
        save_arrays(self.path, self.kind, arrays, {"settings": self.settings, "scalars": dict(scalars)})
        self._saved, self._written = time.monotonic(), _version_of(self.path)

    def save_or_warn(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        """Do what `save` does; warn if the file cannot be written, because the run is worth more than it."""
        try:
            self.save(tensors, scalars)
        except OSError as error:
            self._saved = time.monotonic()
            reason = error.strerror or error
            warnings.warn(
                f"checkpoint: {self.path} could not be written: {reason}; the run continues without it",
                RuntimeWarning,
                stacklevel=2,
            )

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the saved tensors and scalars, or None if there is no file. See `load_checkpoint`."""
        return load_checkpoint(self.path, self.kind, self.settings) if self.path.exists() else None


def _version_of(path: str | os.PathLike) -> tuple[int, int] | None:
    """Return what changes whenever a file is replaced, None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def load_checkpoint(
    path: str | os.PathLike, kind: str, settings: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors, as arrays, and the scalars of a checkpoint, to resume its run.

    Raises
    ------
    FileFormatError
        If the file is not a checkpoint of this kind.
    ValueError
        If the run had other settings; the message names the first difference.
    """
    arrays, parameters = load_arrays(path, kind)
    with reading(path, "checkpoint"):
        saved, scalars = parameters["settings"], dict(parameters["scalars"])
        tensors = dict(_as_written(name, array) for name, array in arrays.items())
    _require_equal(path, saved, describe(settings))
    return tensors, scalars


def _as_real(name: str, value: Any) -> tuple[str, np.ndarray]:
    """Return name and array as they are stored: safetensors has no complex double precision."""
    array = value.detach().cpu().resolve_conj().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if not np.iscomplexobj(array):
        return name, array
    return name + _COMPLEX, np.stack([np.real(array), np.imag(array)], -1)


def _as_written(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    if not name.endswith(_COMPLEX):
        return name, array
    pairs = np.ascontiguousarray(array)
    return name.removesuffix(_COMPLEX), pairs.view(np.result_type(pairs, np.complex64))[..., 0]


def describe(value: Any) -> Any:
    """Return a setting as JSON, to compare it with the same setting of another run.

    A dataclass becomes its name and fields, a partial the name and keyword arguments of its function, a
    class or function its name, and a module its name and settings. A small array becomes a list of its
    entries, a large one a checksum.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor | np.ndarray):
        return _describe_array(value)
    if isinstance(value, Mapping):
        return {str(name): describe(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [describe(part) for part in value]
    if isinstance(value, partial):
        return {"name": _name(value.func), **describe(value.keywords)}
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "name": _name(type(value)),
            **{f.name: describe(getattr(value, f.name)) for f in fields(value)},
        }
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return {"name": _name(value)}
    if isinstance(value, nn.Module):
        settings = getattr(value, "settings", None)
        return {
            "name": _name(type(value)),
            "settings": describe(settings()) if callable(settings) else repr(value),
        }
    public = {name: part for name, part in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
    return {"name": _name(type(value)), **describe(public)}


def checksum(parts: Iterable[Any]) -> int:
    """Return the CRC-32 of the bytes of arrays or tensors, one after another."""
    total = 0
    for part in parts:
        array = part.detach().cpu().resolve_conj().numpy() if isinstance(part, Tensor) else part
        total = zlib.crc32(np.ascontiguousarray(array).data.cast("B") if array.size else b"", total)
    return total


def _describe_array(value: Tensor | np.ndarray) -> Any:
    array = value.detach().cpu().resolve_conj().numpy() if isinstance(value, Tensor) else value
    if array.size <= _LARGEST_LISTED and not np.iscomplexobj(array):
        return array.tolist()
    return {"shape": list(array.shape), "dtype": str(array.dtype), "checksum": checksum([array])}


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)


def _require_equal(path: str | os.PathLike, saved: Any, mine: Any, name: str = "") -> None:
    if isinstance(saved, dict) and isinstance(mine, dict):
        # names are compared first: if they differ, the other settings differ as a consequence
        for key in sorted(saved.keys() | mine.keys(), key=lambda key: (key != "rule", key != "name", key)):
            _require_equal(path, saved.get(key), mine.get(key), f"{name}.{key}" if name else key)
    elif saved != json.loads(json.dumps(mine)):
        raise ValueError(f"checkpoint: {path} is of another run: its {name} was {saved!r}, now {mine!r}")
