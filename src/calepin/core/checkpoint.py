"""The state of a run in a file: named tensors, scalars, and the settings that a resumed run must share.

What iterates says which tensors and scalars it carries; this module knows none of them by name.
"""

import json
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from calepin.core.files import load_arrays, save_arrays

__all__ = ["Checkpoint", "describe", "load_checkpoint"]

_COMPLEX = ":complex"  # ends the name of an array whose last axis is real and imaginary part
_LARGEST_LISTED = 64  # entries of an array that a description lists; of larger ones it has a checksum


class Checkpoint:
    """A file that receives the state of a run, atomically: at its end, on interruption, every so often.

    Parameters
    ----------
    path : path
    kind : str
        Of the run, so that no other kind goes on from its file.
    settings : mapping
        What a resumed run must share; see `describe`.
    seconds : float
        Time between two checkpoints.

    Raises
    ------
    FileNotFoundError
        The folder of `path` does not exist.
    """

    def __init__(
        self, path: str | os.PathLike, kind: str, settings: Mapping[str, Any], *, seconds: float = 60.0
    ) -> None:
        self.path, self.kind, self.seconds = Path(path), kind, seconds
        self.settings = describe(settings)
        self._saved = time.monotonic()
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"checkpoint: the folder {self.path.parent} does not exist")

    def is_due(self) -> bool:
        """Return whether the last checkpoint is old enough for a new one."""
        return time.monotonic() - self._saved > self.seconds

    def save(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        """Write tensors (or arrays) and JSON scalars."""
        arrays = dict(_as_real(name, value) for name, value in tensors.items())
        save_arrays(self.path, self.kind, arrays, {"settings": self.settings, "scalars": dict(scalars)})
        self._saved = time.monotonic()

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return what `save` wrote; None without a file. See `load_checkpoint`."""
        return load_checkpoint(self.path, self.kind, self.settings) if self.path.exists() else None


def load_checkpoint(
    path: str | os.PathLike, kind: str, settings: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors, as arrays, and the scalars of a checkpoint that a run can go on from.

    Raises
    ------
    FileFormatError
        No checkpoint of this kind.
    ValueError
        A checkpoint of a run with other settings; names what differs.
    """
    arrays, parameters = load_arrays(path, kind)
    _require_equal(path, parameters["settings"], describe(settings))
    return dict(_as_written(name, array) for name, array in arrays.items()), parameters["scalars"]


def _as_real(name: str, value: Any) -> tuple[str, np.ndarray]:
    """Return an array and its name in a file: safetensors has no complex double precision."""
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
    """Return a setting as JSON, to recognise the checkpoint of another run.

    A dataclass is its name and fields, a partial or class its name and arguments, a module its name and
    settings; an array lists its entries where they are few, and has a checksum where they are many.
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


def _describe_array(value: Tensor | np.ndarray) -> Any:
    array = value.detach().cpu().resolve_conj().numpy() if isinstance(value, Tensor) else value
    if array.size <= _LARGEST_LISTED and not np.iscomplexobj(array):
        return array.tolist()
    checksum = zlib.crc32(np.ascontiguousarray(array).tobytes())
    return {"shape": list(array.shape), "dtype": str(array.dtype), "checksum": checksum}


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)


def _require_equal(path: str | os.PathLike, saved: Any, mine: Any, name: str = "") -> None:
    if isinstance(saved, dict) and isinstance(mine, dict):
        # what a thing is comes first: its other settings differ because of it
        for key in sorted(saved.keys() | mine.keys(), key=lambda key: (key != "rule", key != "name", key)):
            _require_equal(path, saved.get(key), mine.get(key), f"{name}.{key}" if name else key)
    elif saved != json.loads(json.dumps(mine)):
        raise ValueError(f"checkpoint: {path} is of another run: its {name} was {saved!r}, now {mine!r}")
