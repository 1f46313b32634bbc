"""Signals as a learner of convolutional dictionaries takes them, with the baseline and trials of each.

Signals of different length are never padded: a batch holds one group for each size among its signals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.learning.batches import Batch, permuted
from calepin.likelihoods import Binomial, Likelihood
from calepin.operators.base import LinearOperator
from calepin.problem import Problem

__all__ = ["SignalBatches", "Signals"]


@dataclass(frozen=True, eq=False)
class Signals:
    """Signals of one size, (n, channels, *spatial), their family and the known part of their predictor."""

    y: Tensor
    likelihood: Likelihood
    offset: float | Tensor

    def problem(self, dictionary: LinearOperator) -> Problem:
        """Return the problem of coding them."""
        return Problem(dictionary, self.likelihood, self.y, self.offset)


class SignalBatches:
    """Shuffled batches of signals; ``X`` of a batch is a list of `Signals`, one for each size in it.

    Parameters
    ----------
    signals : array (n, channels, *spatial), or list of arrays (channels, *spatial)
        An array may be memory-mapped: only the signals of a batch are read at a time.
    batch_size : int or None
        Signals of a step; None takes all, unshuffled.
    likelihood : Likelihood
        Family of all of them.
    trials : sequence of arrays, optional
        Of each signal, broadcast against it: the family is then binomial with these trials.
    offset : float or sequence of arrays
        Known part of the linear predictor, or that of each signal, broadcast against it.
    seed : int
        Chooses the order.
    dtype, device
        Of the tensors.
    """

    def __init__(
        self,
        signals: Any,
        batch_size: int | None,
        *,
        likelihood: Likelihood,
        trials: Sequence[Any] | None = None,
        offset: float | Sequence[Any] = 0.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        self.signals, self.likelihood, self.trials = signals, likelihood, trials
        self.offset: Any = offset
        self.batch_size = len(signals) if batch_size is None else min(batch_size, len(signals))
        self.seed, self.dtype, self.device = seed, dtype, device
        self.n_steps: int | None = -(-len(signals) // self.batch_size)

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of pass `n_pass`, without its first `skip`."""
        n = len(self.signals)
        for step in range(skip, self.n_steps or 0):
            rows = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, n), dtype=np.uint64)
            if self.batch_size < n:
                rows = permuted(rows, n, (self.seed, n_pass))
            yield Batch([signals for _, signals in self.take(rows.astype(np.int64))])

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return min(n_samples, all) different signals, chosen by `generator`."""
        n = len(self.signals)
        rows = np.sort(generator.choice(n, size=min(n_samples, n), replace=False))
        return Batch([signals for _, signals in self.take(rows)])

    def take(self, rows: np.ndarray) -> list[tuple[np.ndarray, Signals]]:
        """Return the signals of some rows, size by size, each group with its rows."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for row in rows.tolist():
            groups.setdefault(tuple(self.signals[row].shape), []).append(row)
        return [(np.array(group), self._group(group)) for group in groups.values()]

    def fingerprint(self) -> dict[str, Any]:
        """Return number and shapes of the signals, batch size, seed, and the sum of a few signals."""
        rows = np.unique(np.linspace(0, len(self.signals) - 1, 8).astype(np.int64)).tolist()
        probe = sum(float(np.asarray(self.signals[row], np.float64).sum()) for row in rows)
        shapes = [list(self.signals[row].shape) for row in rows]
        return {
            "n_signals": len(self.signals),
            "shapes": shapes,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "probe": probe,
        }

    def _group(self, rows: list[int]) -> Signals:
        if isinstance(self.signals, np.ndarray):
            y = self._tensor(self.signals[rows])
        else:
            y = torch.stack([self._tensor(self.signals[row]) for row in rows])
        likelihood = self.likelihood
        if self.trials is not None:
            likelihood = Binomial(self._stack(self.trials, rows))
        offset = self.offset if isinstance(self.offset, float) else self._stack(self.offset, rows)
        return Signals(y, likelihood, offset)

    def _stack(self, values: Sequence[Any], rows: list[int]) -> Tensor:
        return self._tensor(np.stack(np.broadcast_arrays(*[np.asarray(values[row]) for row in rows])))

    def _tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(np.array(values), dtype=self.dtype, device=self.device)
