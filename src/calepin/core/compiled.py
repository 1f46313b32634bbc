"""What compiled kernels share: numba's settings, lanes, and the bits of floating numbers."""

from typing import Any

import numpy as np

__all__ = ["FAST", "LANES", "LEAF", "bits_of", "padded"]


LANES = 16


# NaN never reaches a kernel (inputs are checked), which is what lets minima be vectorised; sums are
# reordered once, by the compiler, so that results do not vary from run to run.
FAST: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp", "nnan"},
}


# Kernels that only touch arrays of their callers count no references: each count is an atomic
# operation, and ten steps of a path make a hundred of them.
LEAF: dict[str, Any] = {**FAST, "_nrt": False}


def padded(size: int) -> int:
    """Return the smallest multiple of `LANES` that holds `size`."""
    return -(-size // LANES) * LANES


def bits_of(dtype: np.dtype) -> np.dtype:
    """Return the integers that hold the bits of a floating-point type."""
    return np.dtype(np.int32 if dtype.itemsize == 4 else np.int64)
