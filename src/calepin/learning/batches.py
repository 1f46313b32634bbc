"""Batches of training samples, from arrays, memory-mapped files or any iterable.

The order of the samples is a function of (seed, pass, step, rank). It is computed when needed and never
stored. A run can therefore resume in the middle of a pass, and several workers can use one data set
without exchanging a permutation. The function is a keyed bijection of ``range(n)`` (a Feistel network
with cycle walking, Black and Rogaway 2002).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
import torch

from calepin.core.arguments import check_arguments

__all__ = ["ArrayBatches", "Batch", "Batches", "IterableBatches", "permuted"]

Array = np.ndarray | torch.Tensor

_AHEAD = 8192  # samples whose order is computed at once: a few arrays that stay in the cache


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

    Attributes
    ----------
    X : array or tensor, shape (n, ...)
        The samples; a list of `Signals` for convolutional dictionaries.
    mask : bool array or tensor of X's shape, optional
        True where X was observed. None: everywhere.
    """

    X: Any
    mask: Any = None


class Batches(Protocol):
    """A source of training samples that can be iterated over once per pass.

    ``n_steps`` is the number of batches of a pass, or None if it is not known in advance.
    """

    n_steps: int | None

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of pass `n_pass`, without the first `skip` of them."""
        ...

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return about `n_samples` samples to initialise a model; a pass still yields all samples."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return JSON values that identify the data: a resumed run must have the same ones."""
        ...


class ArrayBatches:
    """Shuffled batches of an array (n_samples, ...), which may be memory-mapped.

    Parameters
    ----------
    X : ndarray or tensor, shape (n_samples, ...)
        The samples. Only the rows of one batch are read at a time.
    batch_size : int or None
        Number of samples of a batch on one worker. None: one batch of all samples, not shuffled.
    seed : int, default 0
        Seed of the order of the samples.
    mask : bool array of X's shape, optional
        True where X was observed. Default: everywhere.
    dtype : numpy dtype, optional
        The dtype that batches are converted to. Default: that of X.
    device : torch.device or str, optional
        The device on which batches become tensors. Default: batches remain arrays.
    rank, world : int, default 0, 1
        Index of this worker and number of workers. The batches of the common order are divided among
        the workers.
    """

    def __init__(
        self,
        X: Array,
        batch_size: int | None,
        *,
        seed: int = 0,
        mask: Array | None = None,
        dtype: Any = None,
        device: torch.device | str | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        check_arguments(ArrayBatches.__init__, locals())
        if len(X) == 0:
            raise ValueError("X has 0 samples, expected at least 1")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: expected a positive integer or None, got {batch_size}")
        if mask is not None and tuple(mask.shape) != tuple(X.shape):
            raise ValueError(f"mask: expected X's shape {tuple(X.shape)}, got {tuple(mask.shape)}")
        self.X, self.mask, self.seed = X, mask, seed
        self.batch_size = len(X) if batch_size is None else min(batch_size, len(X))
        self.dtype, self.device = dtype, device
        self.rank, self.world = rank, world
        self.n_steps: int | None = -(-len(X) // (self.batch_size * world))

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of pass `n_pass`, without the first `skip` of them."""
        n, size = len(self.X), self.batch_size
        if size >= n:  # one batch of all samples: no shuffling, no copy
            steps = [slice(self.rank * size, n)]
            yield from (self.take(rows) for rows in steps[skip:])
            return
        ahead = max(1, _AHEAD // (self.world * size))  # steps whose order is computed together
        rows = np.empty(0, np.int64)
        for step in range(skip, self.n_steps or 0):
            first = (step - skip) % ahead
            if first == 0:
                begin = step * self.world * size
                end = min(begin + ahead * self.world * size, n)
                rows = permuted(np.arange(begin, end, dtype=np.uint64), n, (self.seed, n_pass))
            start = (first * self.world + self.rank) * size
            yield self.take(rows[start : start + size])

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return min(n_samples, all) distinct samples, chosen by `generator`."""
        n = len(self.X)
        return self.take(np.sort(generator.choice(n, size=min(n_samples, n), replace=False)))

    def take(self, rows: np.ndarray | slice) -> Batch:
        """Return a batch of the given rows, in the dtype and on the device of the batches."""
        mask = None if self.mask is None else self._place(_writable(self.mask[rows]))
        return Batch(self._place(_writable(self.X[rows], self.dtype)), mask)

    def fingerprint(self) -> dict[str, Any]:
        """Return the shape, batch size, seed and number of workers, and the sum of a few rows."""
        rows = np.unique(np.linspace(0, len(self.X) - 1, 8).astype(np.int64))
        probe = np.nan_to_num(np.asarray(self.X[rows], dtype=np.float64))
        return {
            "shape": list(self.X.shape),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "world": self.world,
            "probe": float(probe.sum()),
        }

    def _place(self, rows: Any) -> Any:
        return rows if self.device is None else torch.as_tensor(rows, device=self.device)


class IterableBatches:
    """Batches from an iterable of arrays (n, ...), for data that do not fit into memory.

    Each pass iterates over the iterable again. A resumed run equals an uninterrupted one only if every
    iteration gives the same batches.

    Parameters
    ----------
    batches : iterable of arrays (n, ...)
        The batches. An iterator, which gives them only once, allows one pass.
    missing : bool, default False
        Whether NaN marks a missing entry.
    dtype : numpy dtype, optional
        The dtype that batches are converted to. Default: that of the arrays.
    device : torch.device or str, optional
        The device on which batches become tensors. Default: batches remain arrays.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        *,
        missing: bool = False,
        dtype: Any = None,
        device: torch.device | str | None = None,
    ) -> None:
        check_arguments(IterableBatches.__init__, locals())
        self.batches, self.missing = batches, missing
        self.dtype, self.device = dtype, device
        self.n_steps: int | None = len(batches) if hasattr(batches, "__len__") else None  # type: ignore[arg-type]
        self._first = None

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of a new iteration, without the first `skip` of them."""
        iterator = iter(self.batches)
        if iterator is self.batches and n_pass > 0:
            raise ValueError(
                "X is an iterator, which gives its batches only once: pass max_iter=1, "
                "or an iterable that can be iterated over again (a DataLoader, an object with __iter__)"
            )
        if iterator is self.batches and self._first is not None:
            iterator, self._first = chain([self._first], iterator), None
        for rows in islice(iterator, skip, None):
            yield self._batch(rows)

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return samples of the first batch."""
        if self._first is None:  # kept for the first pass: an iterator gives it only once
            self._first = next(iter(self.batches), None)
        if self._first is None:
            raise ValueError("X is an iterable without any batch, expected at least 1")
        batch = self._batch(self._first)
        n = len(batch.X)
        chosen = np.sort(generator.choice(n, size=min(n_samples, n), replace=False))
        return Batch(batch.X[chosen], None if batch.mask is None else batch.mask[chosen])

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of batches, which is known without reading them."""
        return {"n_steps": self.n_steps}

    def _batch(self, rows: Any) -> Batch:
        rows = np.asarray(rows)
        if rows.ndim < 2 or len(rows) == 0:
            raise ValueError(f"X must give batches (n_samples, n_features), got shape {rows.shape}")
        rows = _writable(rows, self.dtype)
        mask = np.isfinite(rows) if self.missing else None
        if mask is None and not np.isfinite(rows).all():
            raise ValueError("X gave a batch with NaN or infinity; missing='allow' treats NaN as missing")
        if self.device is None:
            return Batch(rows, mask)
        place = torch.as_tensor
        return Batch(
            place(rows, device=self.device),
            None if mask is None else place(mask, device=self.device),
        )


def _writable(rows: Any, dtype: Any = None) -> Any:
    """Return an array as a contiguous, writable array of a dtype, copied only if necessary.

    Tensors are returned unchanged. The result is writable because torch warns about arrays that are
    not, such as read-only memory maps.
    """
    return np.require(rows, dtype, ["C", "W"]) if isinstance(rows, np.ndarray) else rows


def permuted(positions: np.ndarray, n: int, key: tuple[int, ...]) -> np.ndarray:
    """Return the images of `positions` (uint64) under a bijection of ``range(n)`` selected by `key`."""
    half = np.uint64(max(1, (int(n - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    keys = np.random.SeedSequence(key).generate_state(4, np.uint64)
    out = _feistel(positions, half, low, keys)
    while (outside := out >= n).any():  # at most 3 of 4 values are outside: a few rounds suffice
        out[outside] = _feistel(out[outside], half, low, keys)
    return out.astype(np.int64)


def _feistel(values: np.ndarray, half: np.uint64, low: np.uint64, keys: np.ndarray) -> np.ndarray:
    left, right = values >> half, values & low
    for key in keys:
        mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)  # wraps modulo 2^64
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        left, right = right, left ^ ((mixed >> np.uint64(32)) & low)
    return (left << half) | right
