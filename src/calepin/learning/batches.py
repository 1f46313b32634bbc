"""Where a training loop's samples come from: arrays, memory-mapped files, any iterable of batches.

The order of the samples is a function of (seed, pass, step, rank), computed on the spot and never
stored: a run resumes in the middle of a pass, and many workers share one data set, with no
permutation of all samples kept or sent. It is a keyed bijection of ``range(n)`` (a Feistel network
with cycle walking, Black and Rogaway 2002).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
import torch

__all__ = ["ArrayBatches", "Batch", "Batches", "IterableBatches", "permuted"]

Array = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Batch:
    """Samples (n, ...), and which of their entries were observed (None: all)."""

    X: Any
    mask: Any = None


class Batches(Protocol):
    """A source of training samples that can be walked through again and again."""

    n_steps: int | None  # steps of one pass; None where only walking through tells

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of pass `n_pass`, without its first `skip`."""
        ...

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return about `n_samples` samples to start a model from, without using up the data."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what must be equal for a checkpoint to go on with this data (JSON)."""
        ...


class ArrayBatches:
    """Shuffled batches of an array (n_samples, ...), which may be memory-mapped.

    Parameters
    ----------
    X : ndarray or tensor, shape (n_samples, ...)
        Only the rows of a batch are read at a time.
    batch_size : int or None
        Samples of a step on one worker; None takes all samples as one batch, unshuffled.
    seed : int
        Chooses the order.
    mask : bool array of X's shape, optional
        True where X was observed.
    dtype : numpy dtype, optional
        Batches are converted to it. Default: as X.
    device : torch.device or str, optional
        Batches become tensors there. Default: they stay arrays.
    rank, world : int
        This worker, and how many there are: each sees its own batches of the common order.
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
        """Yield the batches of pass `n_pass`, without its first `skip`."""
        for step in range(skip, self.n_steps or 0):
            start = (step * self.world + self.rank) * self.batch_size
            yield self.take(self._order(start, min(start + self.batch_size, len(self.X)), n_pass))

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return min(n_samples, all) different samples, chosen by `generator`."""
        n = len(self.X)
        return self.take(np.sort(generator.choice(n, size=min(n_samples, n), replace=False)))

    def take(self, rows: np.ndarray | slice) -> Batch:
        """Return the given rows in the dtype and on the device of the batches."""
        mask = None if self.mask is None else self._place(_writable(self.mask[rows]))
        return Batch(self._place(_writable(self.X[rows], self.dtype)), mask)

    def fingerprint(self) -> dict[str, Any]:
        """Return shape, batch size and seed, and the sum of a few rows."""
        rows = np.unique(np.linspace(0, len(self.X) - 1, 8).astype(np.int64))
        probe = np.nan_to_num(np.asarray(self.X[rows], dtype=np.float64))
        return {
            "shape": list(self.X.shape),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "world": self.world,
            "probe": float(probe.sum()),
        }

    def _order(self, start: int, stop: int, n_pass: int) -> np.ndarray | slice:
        if self.batch_size >= len(self.X):
            return slice(start, stop)  # one batch holds everything: no order to choose, no copy
        return permuted(np.arange(start, stop, dtype=np.uint64), len(self.X), (self.seed, n_pass))

    def _place(self, rows: Any) -> Any:
        return rows if self.device is None else torch.as_tensor(rows, device=self.device)


class IterableBatches:
    """Batches as they come from an iterable of arrays (n, ...), for data that no memory holds.

    Each pass iterates anew, so the iterable must give the same batches each time for a resumed run
    to equal an uninterrupted one. NaN marks a missing entry where `missing` is True.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        *,
        missing: bool = False,
        dtype: Any = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.batches, self.missing = batches, missing
        self.dtype, self.device = dtype, device
        self.n_steps: int | None = len(batches) if hasattr(batches, "__len__") else None  # type: ignore[arg-type]
        self._first = None

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of a new iteration, without its first `skip`."""
        iterator = iter(self.batches)
        if iterator is self.batches and n_pass > 0:
            raise ValueError(
                "X is an iterator, which gives its batches only once: pass max_iter=1, "
                "or an iterable that starts anew each time (a list, a DataLoader)"
            )
        if iterator is self.batches and self._first is not None:
            iterator, self._first = chain([self._first], iterator), None
        for rows in islice(iterator, skip, None):
            yield self._batch(rows)

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return samples of the first batch."""
        if self._first is None:  # kept: a one-shot iterator has to give it again in the first pass
            self._first = next(iter(self.batches), None)
        if self._first is None:
            raise ValueError("X is an iterable without any batch, expected at least 1")
        batch = self._batch(self._first)
        n = len(batch.X)
        chosen = np.sort(generator.choice(n, size=min(n_samples, n), replace=False))
        return Batch(batch.X[chosen], None if batch.mask is None else batch.mask[chosen])

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of batches, the only thing known without reading them."""
        return {"n_steps": self.n_steps}

    def _batch(self, rows: Any) -> Batch:
        rows = np.asarray(rows)
        if rows.ndim < 2 or len(rows) == 0:
            raise ValueError(f"X must give batches (n_samples, n_features), got shape {rows.shape}")
        rows = _writable(rows, self.dtype)
        mask = np.isfinite(rows) if self.missing else None
        if mask is None and not np.isfinite(rows).all():
            raise ValueError("X gave a batch with NaN or infinity; missing='allow' takes NaN as missing")
        if self.device is None:
            return Batch(rows, mask)
        place = torch.as_tensor
        return Batch(
            place(rows, device=self.device),
            None if mask is None else place(mask, device=self.device),
        )


def _writable(rows: Any, dtype: Any = None) -> Any:
    """Return rows, contiguous, of a dtype where they are an array; copied only where they have to be.

    torch warns of arrays that it may not write to: of files that are mapped read-only.
    """
    return np.require(rows, dtype, ["C", "W"]) if isinstance(rows, np.ndarray) else rows


def permuted(positions: np.ndarray, n: int, key: tuple[int, ...]) -> np.ndarray:
    """Return where a bijection of ``range(n)``, chosen by `key`, sends `positions` (uint64)."""
    half = np.uint64(max(1, (int(n - 1).bit_length() + 1) // 2))
    low = (np.uint64(1) << half) - np.uint64(1)
    keys = np.random.SeedSequence(key).generate_state(4, np.uint64)
    out = _feistel(positions, half, low, keys)
    while (outside := out >= n).any():  # at most 3 of 4 values lie outside: a few rounds suffice
        out[outside] = _feistel(out[outside], half, low, keys)
    return out.astype(np.int64)


def _feistel(values: np.ndarray, half: np.uint64, low: np.uint64, keys: np.ndarray) -> np.ndarray:
    left, right = values >> half, values & low
    for key in keys:
        mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)  # wraps modulo 2^64
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        left, right = right, left ^ ((mixed >> np.uint64(32)) & low)
    return (left << half) | right
