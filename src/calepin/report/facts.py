"""What a report says about files, arrays and the machine."""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from calepin.core.package import version

__all__ = ["array_facts", "file_facts", "versions"]

HASHED = 2**30  # larger files are not hashed: it would take seconds
LOOKED_AT = 2**26  # numbers; of larger arrays some rows are looked at, spread over all
PACKAGES = ("numpy", "torch", "scipy", "scikit-learn", "numba")


def file_facts(path: str | os.PathLike) -> dict[str, Any]:
    """Return name, size and SHA-256 of a file; a file above 1 GB is not hashed."""
    size = Path(path).stat().st_size
    facts: dict[str, Any] = {"file": os.fspath(path), "size": f"{size:,} bytes"}
    if size <= HASHED:
        with open(path, "rb") as file:
            facts["SHA-256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts


def array_facts(values: Any) -> dict[str, Any]:
    """Return shape, dtype, range, mean and standard deviation of an array, which may be stored on disk."""
    shape = tuple(values.shape)
    facts: dict[str, Any] = {"shape": " x ".join(map(str, shape)), "dtype": str(values.dtype)}
    n_rows = shape[0] if shape else 1
    step = max(1, -(-int(np.prod(shape)) // LOOKED_AT))
    seen = np.asarray(values[::step] if shape else values)
    seen = (np.abs(seen) if seen.dtype.kind == "c" else seen).astype(np.float64)
    finite = seen[np.isfinite(seen)]
    if finite.size:
        facts |= {"smallest": finite.min(), "largest": finite.max()}
        facts |= {"mean": finite.mean(), "standard deviation": finite.std()}
    facts["NaN or infinite"] = seen.size - finite.size
    if step > 1:
        facts["looked at"] = f"{len(seen):,} of {n_rows:,} rows, evenly spaced"
    return facts


def versions() -> dict[str, Any]:
    """Return the versions of calepin and of what its results depend on, and the number of threads."""
    import torch

    return {
        "calepin": version(),
        **{name: _version(name) for name in PACKAGES},
        "Python": platform.python_version(),
        "system": platform.platform(),
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} CPUs",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
