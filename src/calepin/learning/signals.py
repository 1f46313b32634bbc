"""Batches of signals for convolutional dictionaries, with the offset and the trials of each signal.

Signals of different size are never padded: a batch has one group of signals for each size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.arrays import StoredRows, is_mapped
from calepin.core.checkpoint import checksum, describe
from calepin.core.checks import check_integer
from calepin.core.samples import take_rows
from calepin.learning.batches import Batch, permuted
from calepin.learning.trend import Trend
from calepin.likelihoods import Binomial, Gaussian, Likelihood
from calepin.operators.base import LinearOperator
from calepin.operators.mask import Mask
from calepin.problem import Problem

__all__ = ["SignalBatches", "Signals", "detrended", "signals_of"]


@dataclass(frozen=True, eq=False)
class Signals:
    """Signals of one size.

    Attributes
    ----------
    y : Tensor, shape (n, channels, *spatial)
        The observations.
    likelihood : Likelihood
        Family of the observations.
    offset : float or Tensor
        Known part of the linear predictor; a tensor broadcasts to the shape of y.
    observed : bool Tensor, shape of y, optional
        False where an entry is missing; there y is the offset of real numbers, and zero of counts. Default:
        all are observed.
    """

    y: Tensor
    likelihood: Likelihood
    offset: float | Tensor
    observed: Tensor | None = None

    def problem(self, dictionary: LinearOperator) -> Problem:
        """Return the sparse coding problem of the signals."""
        seen = self.observed
        operator = dictionary if seen is None else Mask(seen, per_sample=True) @ dictionary
        return Problem(operator, self.likelihood, self.y, self.offset)

    def take(self, rows: Tensor) -> "Signals":
        """Return some of the signals."""
        offset = self.offset
        if isinstance(offset, Tensor):
            offset = take_rows(offset, rows, self.y.ndim)
        of_each: Any = getattr(self.likelihood, "take", None)
        likelihood = self.likelihood if of_each is None else of_each(rows, self.y.ndim)
        return Signals(
            self.y[rows], likelihood, offset, None if self.observed is None else self.observed[rows]
        )

    def without(self, entries: Tensor) -> "Signals":
        """Return the signals without some of their entries; the bool tensor broadcasts to the shape of y."""
        kept = (~entries).expand(self.y.shape)
        observed = kept if self.observed is None else self.observed & kept
        filled = self.offset if isinstance(self.likelihood, Gaussian) else 0.0
        return replace(self, y=torch.where(observed, self.y, filled), observed=observed)


class SignalBatches:
    """Shuffled batches of signals; ``X`` of a batch is a list of `Signals`, one for each signal size.

    Parameters
    ----------
    signals : array (n, channels, *spatial), or list of arrays (channels, *spatial)
        The signals. An array may be memory-mapped or a `StoredRows`: only the signals of one batch are read
        at a time.
    batch_size : int or None
        Number of signals of a batch. None: one batch of all signals, not shuffled.
    likelihood : Likelihood
        Family of all signals.
    trials : sequence of arrays, optional
        Number of trials of each signal, broadcast against the signal. The family is then binomial with
        these trials.
    offset : float or sequence of arrays, default 0.0
        Known part of the linear predictor: one number, or one array for each signal, broadcast against the
        signal.
    mask : array (n, channels, *spatial), or sequence of arrays, of bool, optional
        True where an entry is observed. NaN is always taken for a missing entry.
    trend : Trend, optional
        Baseline that is estimated from each signal and added to its offset. Default: none.
    seed : int, default 0
        Seed of the order of the signals.
    dtype : torch.dtype, default torch.float32
        The dtype of the batches.
    device : torch.device or str, optional
        The device of the batches. Default: the CPU.
    """

    def __init__(
        self,
        signals: Any,
        batch_size: int | None,
        *,
        likelihood: Likelihood,
        trials: Sequence[Any] | None = None,
        offset: float | Sequence[Any] = 0.0,
        mask: Any = None,
        trend: Trend | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        check_arguments(SignalBatches.__init__, locals())
        if isinstance(signals, str | bytes | type) or not hasattr(signals, "__len__"):
            raise TypeError(f"signals: expected an array or a list of arrays, got {signals!r:.60}")
        if not len(signals):
            raise ValueError("signals: expected at least one, got none")
        check_integer("batch_size", batch_size, optional=True)
        self.signals, self.likelihood, self.trials = signals, likelihood, trials
        self.offset: Any = offset
        self.mask, self.trend = mask, trend
        self._knots: dict[int, Tensor] = {}  # of signals that were seen before
        self.batch_size = len(signals) if batch_size is None else min(batch_size, len(signals))
        self.seed, self.dtype, self.device = seed, dtype, device
        self.n_steps: int | None = -(-len(signals) // self.batch_size)

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of pass `n_pass`, without the first `skip` of them."""
        n = len(self.signals)
        for step in range(skip, self.n_steps or 0):
            rows = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, n), dtype=np.uint64)
            if self.batch_size < n:
                rows = permuted(rows, n, (self.seed, n_pass))
            yield Batch([signals for _, signals in self.take(rows.astype(np.int64))])

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return min(n_samples, all) distinct signals, chosen by `generator`."""
        n = len(self.signals)
        rows = np.sort(generator.choice(n, size=min(n_samples, n), replace=False))
        return Batch([signals for _, signals in self.take(rows)])

    def take(self, rows: np.ndarray) -> list[tuple[np.ndarray, Signals]]:
        """Return the signals of the given rows in groups of one size, each with the rows of the group."""
        if hasattr(self.signals, "shape"):
            return [(rows, self._group(rows.tolist()))]
        groups: dict[tuple[int, ...], list[int]] = {}
        for row in rows.tolist():
            groups.setdefault(tuple(self.signals[row].shape), []).append(row)
        return [(np.array(group), self._group(group)) for group in groups.values()]

    def fingerprint(self) -> dict[str, Any]:
        """Return number and shapes of the signals, model, batch size, seed, and a checksum.

        Of signals in a file a few count, otherwise all of them.
        """
        n = len(self.signals)
        rows = np.unique(np.linspace(0, n - 1, 8).astype(np.int64)).tolist()
        in_file = isinstance(self.signals, StoredRows) or is_mapped(self.signals)
        shapes = [list(self.signals[row].shape) for row in rows]
        return {
            "n_signals": n,
            "shapes": shapes,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "checksum": checksum(np.asarray(self.signals[i]) for i in (rows if in_file else range(n))),
            "likelihood": describe(self.likelihood),
            "trials": _summary(self.trials),
            "offset": _summary(self.offset),
            "mask": None if self.mask is None else checksum(np.asarray(self.mask[row]) for row in rows),
            "trend": None if self.trend is None else self.trend.kind,
        }

    def _group(self, rows: list[int]) -> Signals:
        if hasattr(self.signals, "shape"):
            y = self._tensor(self.signals[rows])
        else:
            y = torch.stack([self._tensor(self.signals[row]) for row in rows])
        likelihood = self.likelihood
        if self.trials is not None:
            likelihood = Binomial(self._stack(self.trials, rows))
        offset = self.offset if isinstance(self.offset, float) else self._stack(self.offset, rows)
        mask = None if self.mask is None else np.stack([np.asarray(self.mask[row]) for row in rows])
        if self.trend is None:
            return signals_of(y, likelihood, offset, mask=mask)
        known = all(row in self._knots for row in rows)
        knots = torch.stack([self._knots[row] for row in rows]) if known else None
        signals, knots = detrended(signals_of(y, likelihood, offset, mask=mask), self.trend, knots)
        self._knots.update(zip(rows, knots, strict=True))
        return signals

    def _stack(self, values: Sequence[Any], rows: list[int]) -> Tensor:
        return self._tensor(np.stack(np.broadcast_arrays(*[np.asarray(values[row]) for row in rows])))

    def _tensor(self, values: Any) -> Tensor:
        array = np.array(values)  # torch takes the byte order of the machine alone
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.as_tensor(array, dtype=self.dtype, device=self.device)


def signals_of(
    y: Tensor, likelihood: Likelihood, offset: float | Tensor, *, mask: np.ndarray | None = None
) -> Signals:
    """Return signals with what is observed of them: an entry is missing if it is NaN, or False in `mask`."""
    missing = y.isnan()
    if mask is not None:
        missing |= ~torch.from_numpy(mask).to(y.device)
    if not bool(missing.any()):
        return Signals(y, likelihood, offset)
    return Signals(y.nan_to_num(0.0), likelihood, offset).without(missing)


def detrended(signals: Signals, trend: Trend, knots: Tensor | None = None) -> tuple[Signals, Tensor]:
    """Return signals whose offset contains their baseline, and the knots of these, which may be known."""
    y, observed = signals.y, signals.observed
    if knots is None:
        knots = trend.knots(y - signals.offset, observed)
    baseline = trend.at(knots, y)
    filled = y if observed is None else torch.where(observed, y, y + baseline)
    return replace(signals, y=filled, offset=signals.offset + baseline), knots


def _summary(values: Any) -> Any:
    """Return None, a number, or the arrays of all signals as one, for JSON."""
    if values is None or isinstance(values, float):
        return values
    return describe(np.concatenate([np.ravel(one) for one in values]))
