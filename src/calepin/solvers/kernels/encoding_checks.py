"""What samples, atoms, masks and limits must be before a coder starts: one clear error each."""

import numbers
from typing import Any

import numpy as np
import torch

__all__ = ["check_count", "check_mask", "check_matrix", "check_positive", "check_tol", "common_dtype"]


def common_dtype(X: np.ndarray, atoms: np.ndarray) -> np.dtype:
    """Return float32 where both are, else float64."""
    both = X.dtype == np.float32 and atoms.dtype == np.float32
    return np.dtype(np.float32 if both else np.float64)


def check_matrix(values: Any, name: str, shape: str) -> np.ndarray:
    """Return a nonempty real matrix as an array; entries may still be NaN or infinite."""
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy(force=True)
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name}: expected at least one entry, got shape {array.shape}")
    return array


def check_finite(values: np.ndarray, name: str, mask: np.ndarray | None = None) -> None:
    """Refuse NaN and infinity where `mask` is True, and sizes whose squares leave the range of float64."""
    if values.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        peak = max(float(values.max()), -float(values.min()))  # two cheap passes: both keep NaN
    if not np.isfinite(peak):
        bad = ~np.isfinite(values)
        if mask is not None:
            bad &= mask
        if bad.any():
            i, j = (int(k) for k in np.argwhere(bad)[0])
            observed = "" if mask is None else "observed "
            raise ValueError(
                f"{name}: expected finite values, its {observed}entry ({i}, {j}) is {values[i, j]}"
            )
        peak = float(np.abs(values[mask]).max(initial=0))
    if peak > 1e150 or 0 < peak < 1e-150:
        raise ValueError(
            f"{name}: expected a scale at which its squares are numbers, got entries of {peak:.3g}"
        )


def check_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the mask as an array of bool, None where nothing is missing."""
    if mask is None:
        return None
    if isinstance(mask, torch.Tensor):
        mask = mask.numpy(force=True)
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"mask: expected dtype bool (True = observed), got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"mask: expected the shape of X, {shape}, got {mask.shape}")
    return None if mask.all() else mask


def check_positive(value: Any, name: str) -> float:
    """Return a positive finite number."""
    if not _is_real(value) or not 0 < value < float("inf"):
        raise ValueError(f"{name}: expected a positive finite number, got {value!r}")
    return float(value)


def check_count(value: Any, name: str, most: int | None = None) -> int:
    """Return a whole number of at least one, at most the number of atoms."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
    if most is not None and int(value) > most:
        raise ValueError(f"{name}: expected at most the number of atoms, {most}, got {value}")
    return int(value)


def check_tol(value: Any, n_samples: int | None) -> np.ndarray:
    """Return squared residual norms to reach, (n_samples,), or (1,) where that number is unknown."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    tol = np.asarray(value)
    if tol.dtype.kind not in "fiu":
        raise ValueError(f"tol: expected real numbers, got {value!r}")
    if tol.ndim and tol.shape != (n_samples,):
        raise ValueError(f"tol: expected one number or one a sample, ({n_samples},), got shape {tol.shape}")
    if not (np.isfinite(tol) & (tol >= 0)).all():
        raise ValueError("tol: expected finite numbers >= 0 (squared norms of residuals)")
    return np.array(np.broadcast_to(tol, (n_samples or 1,)), np.float64)


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
