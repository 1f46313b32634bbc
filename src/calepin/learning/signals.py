"""Batches of signals for convolutional dictionaries, with the offset and the trials of each signal.

Signals of different size are never padded: a batch has one group of signals for each size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checkpoint import describe
from calepin.core.checks import check_integer
from calepin.learning.batches import Batch, permuted
from calepin.likelihoods import Binomial, Likelihood
from calepin.operators.base import LinearOperator
from calepin.problem import Problem

__all__ = ["SignalBatches", "Signals"]


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
    """

    y: Tensor
    likelihood: Likelihood
    offset: float | Tensor

    def problem(self, dictionary: LinearOperator) -> Problem:
        """Return the sparse coding problem of the signals."""
        return Problem(dictionary, self.likelihood, self.y, self.offset)


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
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        check_arguments(SignalBatches.__init__, locals())
        check_integer("batch_size", batch_size, optional=True)
        if not len(signals):
            raise ValueError("signals: expected at least one, got none")
        self.signals, self.likelihood, self.trials = signals, likelihood, trials
        self.offset: Any = offset
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
        """Return number and shapes of the signals, model, batch size, seed, and the sum of a few signals."""
        rows = np.unique(np.linspace(0, len(self.signals) - 1, 8).astype(np.int64)).tolist()
        probe = sum(float(np.asarray(self.signals[row], np.float64).sum()) for row in rows)
        shapes = [list(self.signals[row].shape) for row in rows]
        return {
            "n_signals": len(self.signals),
            "shapes": shapes,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "probe": probe,
            "likelihood": describe(self.likelihood),
            "trials": _summary(self.trials),
            "offset": _summary(self.offset),
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
        return Signals(y, likelihood, offset)

    def _stack(self, values: Sequence[Any], rows: list[int]) -> Tensor:
        return self._tensor(np.stack(np.broadcast_arrays(*[np.asarray(values[row]) for row in rows])))

    def _tensor(self, values: Any) -> Tensor:
        array = np.array(values)  # torch takes the byte order of the machine alone
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.as_tensor(array, dtype=self.dtype, device=self.device)


def _summary(values: Any) -> Any:
    """Return None, a number, or the arrays of all signals as one, for JSON."""
    if values is None or isinstance(values, float):
        return values
    return describe(np.concatenate([np.ravel(one) for one in values]))
