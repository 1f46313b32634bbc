"""Checks of the arrays that coders take."""

from typing import Any

import numpy as np
import torch

from calepin.core.arrays import as_array
from calepin.core.checks import check_unmasked

__all__ = [
    "array_of",
    "check_convolutional",
    "check_finite",
    "check_mask",
    "check_matrix",
    "check_tol",
    "common_dtype",
]


_SHAPES = {"y": "(n, channels, *spatial)", "atoms": "(n_components, channels, *kernel)"}


def common_dtype(X: np.ndarray, atoms: np.ndarray) -> np.dtype:
    """Return float32 if both arrays are float32, otherwise float64."""
    both = X.dtype == np.float32 and atoms.dtype == np.float32
    return np.dtype(np.float32 if both else np.float64)


def check_matrix(values: Any, name: str, shape: str) -> np.ndarray:
    """Return a nonempty real matrix as an array; entries may still be NaN or infinite."""
    array = array_of(name, values)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name}: expected at least one entry, got shape {array.shape}")
    return array


def check_finite(values: np.ndarray, name: str) -> None:
    """Raise ValueError for NaN, infinity, or squares beyond the range of float64."""
    if values.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        peak = max(float(values.max()), -float(values.min()))  # two fast passes; both propagate NaN
    if not np.isfinite(peak):
        index = tuple(int(k) for k in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f"{name}: expected finite values, got {values[index]} at index {index}")
    if peak > 1e150 or 0 < peak < 1e-150:
        raise ValueError(f"{name}: expected a largest magnitude from 1e-150 to 1e150, got {peak:.3g}")


def check_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the mask as an array of bool, or None if nothing is missing."""
    if mask is None:
        return None
    mask = array_of("mask", mask)
    if mask.dtype != bool:
        raise ValueError(f"mask: expected dtype bool (True = observed), got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"mask: expected the shape of X, {shape}, got {mask.shape}")
    return None if mask.all() else mask


def check_tol(value: Any, n_samples: int | None) -> np.ndarray:
    """Return squared residual norms to reach, (n_samples,), or (1,) if `n_samples` is None."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    tol = np.asarray(value)
    if tol.dtype.kind not in "fiu":
        raise ValueError(f"tol: expected real numbers, got {value!r}")
    if tol.ndim and tol.shape != (n_samples,):
        raise ValueError(f"tol: expected one number or one per sample, ({n_samples},), got shape {tol.shape}")
    if not (np.isfinite(tol) & (tol >= 0)).all():
        raise ValueError("tol: expected finite numbers >= 0 (squared norms of residuals)")
    return np.array(np.broadcast_to(tol, (n_samples or 1,)), np.float64)


def check_convolutional(y: Any, atoms: Any, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return y, atoms and mask as arrays of one precision; the mask is None if all entries are observed."""
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
    observed = _check_signal_mask(mask, values.shape)
    _check_signals_finite(values, "y", observed)
    _check_signals_finite(rows, "atoms", None)
    single = values.dtype == rows.dtype == np.float32
    dtype = np.float32 if single else np.float64
    return np.ascontiguousarray(values, dtype), np.ascontiguousarray(rows, dtype), observed


def array_of(name: str, values: Any) -> np.ndarray:
    """Return real numbers or bool as an array, half precision as float32; raise ValueError for others."""
    try:
        array = np.asarray(check_unmasked(name, as_array(values)))
    except (ValueError, TypeError, RuntimeError) as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise ValueError(f"{name}: expected an array of numbers, got {values!r:.60}") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    return array


def _real_array(values: Any, name: str) -> np.ndarray:
    array = array_of(name, values)
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise ValueError(
            f"{name}: expected shape {_SHAPES[name]} with one or two spatial axes, none of them empty, "
            f"got {array.shape}"
        )
    return array


def _check_signal_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if mask is None:
        return None
    observed = array_of("mask", mask)
    if observed.dtype != bool or observed.shape != shape:
        raise ValueError(
            f"mask: expected bool (True = observed) of the shape of y, {shape}, "
            f"got {observed.dtype} of shape {observed.shape}"
        )
    return None if observed.all() else observed


def _check_signals_finite(values: np.ndarray, name: str, mask: np.ndarray | None) -> None:
    bad = ~np.isfinite(values)
    if mask is not None:
        bad &= mask
    if bad.any():
        index = tuple(int(k) for k in np.argwhere(bad)[0])
        raise ValueError(f"{name}: expected finite values, got {values[index]} at index {index}")
