"""Settings and helpers of compiled kernels: numba's options, its cache, vector width, bits of numbers."""

import os
import stat
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import config
from numba.core.caching import IndexDataCacheFile

__all__ = ["FAST", "INLINED", "LANES", "LEAF", "bits_of", "kernel_cache", "njit", "padded"]


LANES = 16


# Inputs are checked, so no kernel sees NaN, and the compiler may vectorise minima. Sums are reordered once,
# at compile time, so results do not vary from run to run.
FAST: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp", "nnan"},
}


# Every kernel that another kernel calls is inlined. Otherwise it exists twice: as its own library, and inside
# its caller's, where it is optimised again and rounds differently. Which of the two runs would depend on what
# was compiled or called before in the process.
INLINED: dict[str, Any] = {**FAST, "forceinline": True}


# Kernels that only access arrays of their callers need no reference counting: each count is an atomic
# operation, and ten steps of a path need about a hundred of them.
LEAF: dict[str, Any] = {**INLINED, "_nrt": False}


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return `numba.njit` with these options, whose cache is elsewhere if numba finds no folder for it.

    numba uses the folder in NUMBA_CACHE_DIR, the one of the source or the cache of the user, and fails if it
    can write none of them. Then it is a folder of the user in that for temporary files, or nothing is cached.
    It also fails if it cannot read what it finds there; here the kernel is compiled again.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return _recompiling(numba.njit(**options)(function))
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
        elsewhere: dict[str, Any] = options | {"cache": _cache_elsewhere()}
        return _recompiling(numba.njit(**elsewhere)(function))

    return compiled


class _CacheFile(IndexDataCacheFile):
    """Files of a compiled kernel; those that cannot be read are written again.

    They may be damaged, or name types of another version of calepin.
    """

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except OSError:
            raise
        except Exception:
            return {}

    def _load_data(self, name: str) -> Any:
        try:
            return super()._load_data(name)
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{name} cannot be read") from error  # numba then compiles


def _recompiling(kernel: Any) -> Any:
    """Return a kernel that is compiled again if the files of its cache cannot be read."""
    file = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    if type(file) is IndexDataCacheFile:
        file.__class__ = _CacheFile
    return kernel


def kernel_cache() -> Path | None:
    """Return the folder in which numba keeps the compiled kernels of this file, None if it keeps none."""
    path = getattr(njit(**FAST)(_nothing).stats, "cache_path", None)
    return Path(path) if path else None


def _nothing() -> None:
    """Do nothing: numba chooses the cache of a function before it compiles it."""


@cache
def _cache_elsewhere() -> bool:
    """Let numba cache in a temporary folder; return whether there is one. The first call warns."""
    folder = _temporary_cache()
    where = "nowhere: compiling takes time in each run" if folder is None else f"in {folder}"
    warnings.warn(
        f"numba found no folder for compiled kernels: they are kept {where}; NUMBA_CACHE_DIR names another",
        RuntimeWarning,
        stacklevel=2,
    )
    if folder is not None:
        config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
    return folder is not None


def _temporary_cache() -> Path | None:
    """Return a folder that only this user can write, since code is loaded from it; None if there is none."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        folder = Path(tempfile.gettempdir()) / f"calepin-kernels-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return None
    mine = found.st_uid == user or user == "user"
    return folder if stat.S_ISDIR(found.st_mode) and mine and not found.st_mode & 0o022 else None


def padded(size: int) -> int:
    """Return `size` rounded up to a multiple of `LANES`."""
    return -(-size // LANES) * LANES


def bits_of(dtype: np.dtype) -> np.dtype:
    """Return the integer type with the width of a floating-point type."""
    return np.dtype(np.int32 if dtype.itemsize == 4 else np.int64)
