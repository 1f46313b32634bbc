"""What signals, atoms and masks must be before a convolutional coder starts: one clear error each."""

import numbers
from typing import Any

import numpy as np
import torch

__all__ = ["array_of", "check_boundary", "check_convolutional", "check_settings"]

_SHAPES = {"y": "(n, channels, *spatial)", "atoms": "(n_atoms, channels, *kernel)"}


def check_convolutional(y: Any, atoms: Any, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return y, atoms and mask as arrays of one precision; no mask where all is observed."""
    values, rows = _real_array(y, "y"), _real_array(atoms, "atoms")
    if rows.ndim != values.ndim or rows.shape[1] != values.shape[1]:
        raise ValueError(
            f"atoms: expected the channels and the number of spatial axes of y, {values.shape}, "
            f"got shape {rows.shape}"
        )
    if any(width > size for width, size in zip(rows.shape[2:], values.shape[2:], strict=True)):
        raise ValueError(
            f"atoms: expected a kernel no longer than the signal, {values.shape[2:]}, got {rows.shape[2:]}"
        )
    observed = _check_mask(mask, values.shape)
    _check_finite(values, "y", observed)
    _check_finite(rows, "atoms", None)
    single = values.dtype == rows.dtype == np.float32
    dtype = np.float32 if single else np.float64
    return np.ascontiguousarray(values, dtype), np.ascontiguousarray(rows, dtype), observed


def check_settings(alpha: Any, tol: Any, positive: Any, boundary: Any, max_iter: Any) -> None:
    """Raise ValueError unless all settings of the exact coder are what they must be."""
    for name, value in (("alpha", alpha), ("tol", tol)):
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not real or not 0 < float(value) < float("inf"):
            raise ValueError(f"{name}: expected a positive finite number, got {value!r}")
    check_boundary(positive, boundary)
    if not isinstance(max_iter, numbers.Integral) or isinstance(max_iter, bool) or int(max_iter) < 1:
        raise ValueError(f"max_iter: expected a whole number of at least 1, got {max_iter!r}")


def check_boundary(positive: Any, boundary: Any) -> None:
    """Raise ValueError unless the two settings of every coder are what they must be."""
    if not isinstance(positive, bool | np.bool_):
        raise ValueError(f"positive: expected True or False, got {positive!r}")
    if boundary not in ("zero", "circular"):
        raise ValueError(f"boundary: expected 'zero' or 'circular', got {boundary!r}")


def array_of(values: Any) -> np.ndarray:
    """Return an array, of a tensor too."""
    return values.detach().numpy(force=True) if isinstance(values, torch.Tensor) else np.asarray(values)


def _real_array(values: Any, name: str) -> np.ndarray:
    array = array_of(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise ValueError(
            f"{name}: expected shape {_SHAPES[name]} with one or two spatial axes, none of them empty, "
            f"got {array.shape}"
        )
    return array


def _check_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if mask is None:
        return None
    observed = array_of(mask)
    if observed.dtype != bool or observed.shape != shape:
        raise ValueError(
            f"mask: expected bool (True = observed) of the shape of y, {shape}, "
            f"got {observed.dtype} of shape {observed.shape}"
        )
    return None if observed.all() else observed


def _check_finite(values: np.ndarray, name: str, mask: np.ndarray | None) -> None:
    bad = ~np.isfinite(values)
    if mask is not None:
        bad &= mask
    if bad.any():
        index = tuple(int(k) for k in np.argwhere(bad)[0])
        raise ValueError(f"{name}: expected finite values, got {values[index]} at index {index}")
