"""Settings and helpers of compiled kernels: numba's options, vector width, bits of floating-point numbers."""

from typing import Any

import numpy as np

__all__ = ["FAST", "LANES", "LEAF", "bits_of", "padded"]


LANES = 16


# Inputs are checked, so no kernel sees NaN, and the compiler may vectorise minima. Sums are reordered once,
# at compile time, so results do not vary from run to run.
FAST: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp", "nnan"},
}


# Kernels that only access arrays of their callers need no reference counting: each count is an atomic
# operation, and ten steps of a path need about a hundred of them.
LEAF: dict[str, Any] = {**FAST, "_nrt": False}


def padded(size: int) -> int:
    """Return `size` rounded up to a multiple of `LANES`."""
    return -(-size // LANES) * LANES


def bits_of(dtype: np.dtype) -> np.dtype:
    """Return the integer type with the width of a floating-point type."""
    return np.dtype(np.int32 if dtype.itemsize == 4 else np.int64)
