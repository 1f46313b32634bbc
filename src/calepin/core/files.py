"""Files that are never half written and never contain pickles.

A model is one safetensors file: its arrays, and a JSON header with its kind and parameters, which
``calepin info`` reads without loading the arrays.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from calepin.core.checks import is_number, largest_magnitude
from calepin.core.errors import FileFormatError
from calepin.core.paths import check_input, target_of
from calepin.core.reading import reading
from calepin.core.temporaries import is_temporary, locked_temporary, remove_stale

__all__ = [
    "atomic_write",
    "check_atoms",
    "load_arrays",
    "load_atoms",
    "read_header",
    "recording_labels",
    "save_array",
    "save_arrays",
]

FORMAT_VERSION = "2.1"
"""Version of written files, MAJOR or MAJOR.MINOR; docs/reference/versions.md says what each means."""


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any error it is removed.

    The suffix is kept, because many writers choose the format by it. After an error (such as a full disk)
    or Ctrl-C, the old file is unchanged. A link stays: its target is replaced. Temporaries of `path` that
    killed writers left are removed first, those of living writers stay.

    Raises
    ------
    OSError
        If the file cannot be written; the message names `path`.
    ValueError
        If it is a device, a pipe, a socket, or a link to itself.
    """
    target = target_of(path)
    remove_stale(target)
    try:
        with locked_temporary(target) as temporary:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~umask)
            os.replace(temporary, target)
    except OSError as error:
        if error.filename is not None and not is_temporary(error.filename, target):
            raise
        if error.errno is None:  # NumPy tells neither number nor file
            raise OSError(f"cannot write {path}: {error}") from error
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def save_array(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write one array as an .npy file, atomically."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(_Checked(file.write), array, allow_pickle=False)  # pyright: ignore[reportArgumentType]


class _Checked:
    """A file for NumPy whose errors are raised: into a real file it writes by C, and loses the last error."""

    def __init__(self, write: Callable[[Any], int]) -> None:
        self.write = write


def save_arrays(
    path: str | os.PathLike,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    parameters: Mapping[str, Any],
) -> None:
    """Write named arrays and JSON parameters as one safetensors file, atomically."""
    header = {
        "format": "calepin",
        "version": FORMAT_VERSION,
        "kind": kind,
        "parameters": json.dumps(parameters, sort_keys=True),
    }
    # not ascontiguousarray, which adds an axis to scalars
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    data = serialise(contiguous, metadata=header)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """Return the kind, parameters and array shapes of a calepin file without reading its arrays."""
    with _open(path) as file:
        metadata = _metadata(file, path)
        return {
            "kind": metadata["kind"],
            "version": metadata["version"],
            "parameters": _parameters(metadata),
            "arrays": {
                name: {
                    "shape": list(file.get_slice(name).get_shape()),
                    "dtype": str(file.get_slice(name).get_dtype()),
                }
                for name in file.keys()  # noqa: SIM118  safe_open is not a mapping
            },
        }


def load_arrays(
    path: str | os.PathLike, kind: str | None = None, required: Sequence[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the parameters of a calepin file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is not a safetensors file, is truncated, was not written by calepin, is of another
        kind, or lacks one of the `required` arrays.
    """
    with _open(path) as file:
        metadata = _metadata(file, path)
        if kind is not None and metadata["kind"] != kind:
            raise FileFormatError(f"{path} holds a {metadata['kind']!r}, expected a {kind!r}")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        missing = [name for name in required if name not in arrays]
        if missing:
            raise FileFormatError(f"{path} lacks {', '.join(missing)}: it holds {', '.join(arrays)}")
        return arrays, _parameters(metadata)


def load_atoms(path: str | os.PathLike) -> np.ndarray:
    """Return the atoms, or filters, of the file of a dictionary; see `check_atoms` and `load_arrays`."""
    return check_atoms(path, load_arrays(path, "dictionary", ["components"])[0]["components"])


def check_atoms(path: str | os.PathLike, atoms: np.ndarray) -> np.ndarray:
    """Return atoms (n_components, n_features), or filters with more axes, if they are finite floats.

    Raises
    ------
    FileFormatError
        If they are something else.
    """
    if atoms.dtype.kind != "f" or not 2 <= atoms.ndim <= 5 or 0 in atoms.shape:
        raise FileFormatError(
            f"{path}: expected components to be floats with 2 to 5 axes, "
            f"got {atoms.dtype} of shape {atoms.shape}"
        )
    if not np.isfinite(atoms).all():
        raise FileFormatError(f"{path}: expected components to be finite, got NaN or infinity")
    largest = float(np.abs(atoms).max()) if atoms.size else 0.0
    if largest > largest_magnitude(atoms.dtype):
        raise FileFormatError(f"{path}: components up to {largest:.3g} are too large for {atoms.dtype}")
    return atoms


def recording_labels(path: str | os.PathLike, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling rate and the channel names of filters, where the header of a file has them.

    Raises
    ------
    FileFormatError
        If the entry "recording" of the header is no rate with names.
    """
    found = parameters.get("recording", {})
    labels = dict(found) if isinstance(found, dict) else {"": found}
    rate, names = labels.get("sampling_rate", 1.0), labels.get("channel_names", [])
    right = (
        is_number(rate) and rate > 0 and isinstance(names, list) and all(isinstance(n, str) for n in names)
    )
    if not right or not labels.keys() <= {"sampling_rate", "channel_names"}:
        raise FileFormatError(
            f"{path}: recording: expected sampling_rate and channel_names, got {found!r:.60}"
        )
    return labels | ({"channel_names": tuple(names)} if "channel_names" in labels else {})


@contextmanager
def _open(path: str | os.PathLike) -> Iterator[Any]:
    path = check_input(path, "a safetensors file")
    try:
        file = safe_open(str(path), framework="numpy")
    except (SafetensorError, OSError) as error:
        what = _describe(path)
        raise FileFormatError(f"{path} is not a readable safetensors file ({what}: {error})") from None
    with reading(path, "file of calepin"), file as opened:
        yield opened


def _describe(path: Path) -> str:
    """Return what the first bytes look like: most wrong files are a pickle or an .npy."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        return "it is empty"
    if start[:2] in {b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"}:
        return "it looks like a pickle, which calepin never loads"
    if start[:4] == b"PK\x03\x04":
        return "it looks like a zip archive: an .npz, or a torch file, whose pickles calepin never loads"
    if start[:6] == b"\x93NUMPY":
        return "it looks like an .npy array"
    return "truncated, or of another format"


def _parameters(metadata: Mapping[str, str]) -> dict[str, Any]:
    parameters = json.loads(metadata["parameters"])
    if not isinstance(parameters, dict):
        raise ValueError(f"its parameters are a {type(parameters).__name__}, expected a JSON object")
    return parameters


def _metadata(file: Any, path: str | os.PathLike) -> dict[str, str]:
    metadata = file.metadata() or {}
    if metadata.get("format") != "calepin" or not {"kind", "version", "parameters"} <= metadata.keys():
        raise FileFormatError(f"{path} is a safetensors file, but calepin did not write it")
    _check_version(metadata["version"], path)
    return metadata


def _check_version(found: str, path: str | os.PathLike) -> None:
    """Raise FileFormatError for another major version; a newer minor one adds only what may be ignored."""
    major, _, minor = found.partition(".")
    if not (major.isdecimal() and (minor or "0").isdecimal()):
        raise FileFormatError(f"{path} has format version {found!r}, expected a number such as 2 or 2.1")
    ours = int(FORMAT_VERSION.partition(".")[0])
    if int(major) != ours:
        todo = "update calepin" if int(major) > ours else "docs/reference/versions.md says how to migrate it"
        raise FileFormatError(
            f"{path} has format version {found}, this calepin reads {FORMAT_VERSION}: {todo}"
        )
