"""The mean of the features: its estimate, batches without it, and a warning where it dominates the data.

Atoms of data with a large mean all point towards it. A mean of a tenth of the variance already costs a
pursuit its atoms, unless the mean belongs to the model, as that of nonnegative codes or atoms does.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.checkpoint import describe
from calepin.learning.batches import Batch, Batches, IterableBatches

__all__ = ["CentredBatches", "feature_means", "warn_if_means_dominate"]

_DOMINANT = 10  # energy of the means, relative to the variance
_SAMPLES, _ENTRIES = 1000, 2**22  # largest number of samples, and of their entries, to judge means by


class CentredBatches:
    """Batches of samples from which a mean is subtracted; otherwise those of `data`.

    Parameters
    ----------
    data : Batches
        Samples (n, n_features).
    means : array (n_features,)
        The mean of each feature.
    """

    def __init__(self, data: Batches, means: np.ndarray) -> None:
        self.data, self.means = data, means
        self.n_steps = data.n_steps

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the centred batches of pass `n_pass`, without the first `skip` of them."""
        return map(self._centred, self.data.walk(n_pass, skip))

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return about `n_samples` centred samples."""
        return self._centred(self.data.head(n_samples, generator))

    def fingerprint(self) -> dict[str, Any]:
        """Return that of the data, and the means."""
        return {**self.data.fingerprint(), "center": True, "means": describe(self.means)}

    def _centred(self, batch: Batch) -> Batch:
        X = batch.X
        means = torch.as_tensor(self.means).to(X) if isinstance(X, Tensor) else self.means.astype(X.dtype)
        return Batch(X - means, batch.mask)


def feature_means(data: Batches) -> np.ndarray:
    """Return the mean of each feature over its observed entries, by a pass over the data.

    A feature that was never observed has mean 0. The means have the dtype of the data.

    Raises
    ------
    ValueError
        If the data can be iterated over only once.
    """
    if isinstance(data, IterableBatches) and data.once:
        raise ValueError(
            "center: expected False for an iterator, which gives its batches only once: the mean takes a "
            "pass of its own"
        )
    total, count, dtype = 0.0, 0, None
    for batch in data.walk(0):
        known, mask = _arrays(batch)
        total = total + known.sum(0, dtype=np.float64)
        count = count + (len(known) if mask is None else mask.sum(0))
        dtype = known.dtype
    return np.asarray(total / np.maximum(count, 1), dtype)


def warn_if_means_dominate(data: Batches, advice: str) -> None:
    """Warn if the means of the features have more than 10 times the energy of the variation around them.

    They are estimated from some of the samples. Constant data do not vary, and are left alone.
    """
    generator = np.random.default_rng(0)
    n_features = data.head(1, generator).X.shape[1]
    known, mask = _arrays(data.head(max(16, min(_SAMPLES, _ENTRIES // n_features)), generator))
    if len(known) <= _DOMINANT:
        return
    count = np.maximum(len(known) if mask is None else mask.sum(0), 1)
    means = known.sum(0, dtype=np.float64) / count
    deviations = known - means if mask is None else (known - means) * mask
    energy, variance = float(means @ means), float((np.square(deviations).sum(0) / count).sum())
    rounding = (len(known) * np.finfo(np.float64).eps) ** 2 * energy
    if energy > _DOMINANT * variance > _DOMINANT * rounding:
        warnings.warn(
            f"the means of the features have {energy / variance:.3g} times the energy of the variation "
            f"around them, so that all atoms point towards the mean: {advice}",
            RuntimeWarning,
            stacklevel=5,
        )


def _arrays(batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
    """Return samples, zero where they are unobserved, and mask as arrays."""
    X, mask = (
        values.cpu().numpy() if isinstance(values, Tensor) else values for values in (batch.X, batch.mask)
    )
    return (X if mask is None else np.where(mask, X, X.dtype.type(0))), mask
