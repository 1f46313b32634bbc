"""Batches of training samples, from arrays in memory or in files, or from any iterable.

The order of the samples is a function of (seed, pass, step, rank). It is computed when needed and never
stored. A run can therefore resume in the middle of a pass, and several workers can use one data set
without exchanging a permutation. The function is a keyed bijection of ``range(n)`` (a Feistel network
with cycle walking, Black and Rogaway 2002).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse

from calepin.core.arguments import check_arguments
from calepin.core.arrays import as_array, read_rows
from calepin.core.checks import check_integer

__all__ = ["ArrayBatches", "Batch", "Batches", "BlockBatches", "IterableBatches", "permuted"]

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
    X : ndarray, tensor or sparse matrix, shape (n_samples, ...)
        The samples. Only the rows of one batch are read at a time; those of a sparse matrix become dense.
    batch_size : int or None
        Number of samples of a batch on one worker. None: one batch of all samples, not shuffled.
    seed : int, default 0
        Seed of the order of the samples.
    mask : bool array of X's shape, optional
        True where X was observed. Default: everywhere.
    missing : bool, default False
        Whether NaN marks a missing entry, in addition to `mask`.
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
        X: Any,
        batch_size: int | None,
        *,
        seed: int = 0,
        mask: Array | None = None,
        missing: bool = False,
        dtype: Any = None,
        device: torch.device | str | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        check_arguments(ArrayBatches.__init__, locals())
        n = X.shape[0]
        if n == 0:
            raise ValueError("X has 0 samples, expected at least 1")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: expected a positive integer or None, got {batch_size}")
        if mask is not None and tuple(mask.shape) != tuple(X.shape):
            raise ValueError(f"mask: expected X's shape {tuple(X.shape)}, got {tuple(mask.shape)}")
        self.X, self.mask, self.missing, self.seed = X, mask, missing, seed
        self.n_samples, self.batch_size = n, n if batch_size is None else min(batch_size, n)
        self.dtype, self.device = dtype, device
        check_integer("world", world)
        check_integer("rank", rank, least=0, most=world - 1)
        self.rank, self.world = rank, world
        self.n_steps: int | None = -(-n // (self.batch_size * world))

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of pass `n_pass`, without the first `skip` of them."""
        n, size = self.n_samples, self.batch_size
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
        n = self.n_samples
        return self.take(np.sort(generator.choice(n, size=min(n_samples, n), replace=False)))

    def take(self, rows: np.ndarray | slice) -> Batch:
        """Return a batch of the given rows, in the dtype and on the device of the batches."""
        X = _writable(self._read(self.X, rows), self.dtype)
        mask = None if self.mask is None else self._read(self.mask, rows)
        return _placed(X, _observed(X, mask, self.missing), self.device)

    def fingerprint(self) -> dict[str, Any]:
        """Return the shape, batch size, seed and number of workers, and the sum of a few rows."""
        rows = np.unique(np.linspace(0, self.n_samples - 1, 8).astype(np.int64))
        probe = np.nan_to_num(np.asarray(as_array(self._read(self.X, rows)), dtype=np.float64))
        return {
            "shape": list(self.X.shape),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "world": self.world,
            "probe": float(probe.sum()),
        }

    def _read(self, values: Any, rows: np.ndarray | slice) -> Any:
        found = values[rows]
        return found.toarray() if sparse.issparse(found) else found


class BlockBatches(ArrayBatches):
    """Batches of an array that is read by slices, such as a dataset of h5py or zarr.

    A batch is a block of consecutive samples, and a pass yields the blocks in random order: reading scattered
    rows from a compressed file would decompress it many times. Blocks are checked when they are read.
    Parameters are those of `ArrayBatches`; X needs ``shape``, ``dtype`` and slices of the first axis.
    """

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of pass `n_pass`, without the first `skip` of them."""
        size = self.batch_size
        steps = np.arange(self.rank, -(-self.n_samples // size), self.world, dtype=np.uint64)
        for step in permuted(steps, -(-self.n_samples // size), (self.seed, n_pass))[skip:].tolist():
            yield self.take(slice(step * size, min((step + 1) * size, self.n_samples)))

    def take(self, rows: np.ndarray | slice) -> Batch:
        """Return a batch of the given rows, which are checked."""
        X = real_rows(self._read(self.X, rows), self.dtype)
        mask = None if self.mask is None else self._read(self.mask, rows)
        _check_finite(X if mask is None else X[mask], missing=self.missing)
        return _placed(X, _observed(X, mask, self.missing), self.device)

    def _read(self, values: Any, rows: np.ndarray | slice) -> Any:
        return read_rows(values, rows)


class IterableBatches:
    """Batches from an iterable of arrays (n, ...), for data that do not fit into memory.

    Each pass iterates over the iterable again. A resumed run equals an uninterrupted one only if every
    iteration gives the same batches.

    Parameters
    ----------
    batches : iterable of arrays (n, ...), or function that returns one
        The batches: arrays, tensors or sparse matrices, or tuples of one of these, as a PyTorch DataLoader
        gives them. They may have different numbers of samples. A function without arguments is called for
        each pass. An iterator, which gives the batches only once, allows one pass.
    missing : bool, default False
        Whether NaN marks a missing entry.
    dtype : numpy dtype, optional
        The dtype that batches are converted to. Default: float32 if the first batch has it or half precision,
        otherwise float64.
    device : torch.device or str, optional
        The device on which batches become tensors. Default: batches remain arrays.
    """

    def __init__(
        self,
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        missing: bool = False,
        dtype: Any = None,
        device: torch.device | str | None = None,
    ) -> None:
        check_arguments(IterableBatches.__init__, locals())
        self.batches, self.missing = batches, missing
        self.dtype, self.device = dtype, device
        self.once = isinstance(batches, Iterator)
        try:
            self.n_steps: int | None = len(batches)  # type: ignore[arg-type]
        except TypeError:
            self.n_steps = None
        self._shape: tuple[int, ...] | None = None  # of a sample
        self._source: Iterator[Any] | None = None  # from which `head` reads
        self._ahead: list[Any] = []  # what it has read: an iterator gives it only once
        self._spent = False

    def walk(self, n_pass: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of a new iteration, without the first `skip` of them."""
        self.check_passes(2 if self._spent else 1)
        source = chain(self._ahead, self.batches) if self.once else self._open()  # type: ignore[arg-type]
        self._ahead, self._source, self._spent = [], None, self.once
        yield from map(self._batch, islice(source, skip, None))

    def head(self, n_samples: int, generator: np.random.Generator) -> Batch:
        """Return at most `n_samples` samples of the first batches, chosen by `generator`."""
        if self._source is None:
            self._ahead, self._source = [], self._open()
        batches = [self._batch(rows) for rows in self._ahead]
        while sum(len(batch.X) for batch in batches) < n_samples:
            rows = next(self._source, None)
            if rows is None:
                break
            self._ahead.append(rows)
            batches.append(self._batch(rows))
        if not batches:
            raise self.empty()
        n = sum(len(batch.X) for batch in batches)
        chosen = np.sort(generator.choice(n, size=min(n_samples, n), replace=False))
        mask = _joined([batch.mask for batch in batches])[chosen] if self.missing else None
        return Batch(_joined([batch.X for batch in batches])[chosen], mask)

    def check_passes(self, n_passes: int) -> None:
        """Raise ValueError if the batches cannot be iterated over so often."""
        if self.once and n_passes > 1:
            raise ValueError(
                "X is an iterator, which gives its batches only once: pass max_iter=1, or an iterable that "
                "can be iterated over again (a list, a DataLoader, a generator function)"
            )

    def empty(self) -> ValueError:
        """Return the error of an iterable that gave no batch."""
        hint = "; an iterator gives its batches only once" if self.once else ""
        return ValueError(f"X is an iterable without any batch, expected at least 1{hint}")

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of batches, which is known without reading them."""
        return {"n_steps": self.n_steps}

    def _open(self) -> Iterator[Any]:
        batches: Any = self.batches
        return iter(batches if hasattr(batches, "__iter__") else batches())

    def _batch(self, rows: Any) -> Batch:
        rows = real_rows(only_array(rows), self.dtype)
        if rows.ndim < 2 or len(rows) == 0:
            raise ValueError(f"X must give batches (n_samples, n_features), got shape {rows.shape}")
        if self._shape is None:
            self._shape, self.dtype = rows.shape[1:], rows.dtype
        if rows.shape[1:] != self._shape:
            raise ValueError(
                f"X: expected batches of samples of shape {self._shape}, as in the first, "
                f"got {rows.shape[1:]}"
            )
        _check_finite(rows, missing=self.missing)
        return _placed(rows, _observed(rows, None, self.missing), self.device)


def only_array(batch: Any) -> Any:
    """Return the array in a tuple or list of one array, such as a batch of a DataLoader; others unchanged.

    Raises
    ------
    ValueError
        If the batch has several arrays, such as samples and labels.
    """
    if not isinstance(batch, list | tuple) or not batch or not hasattr(batch[0], "shape"):
        return batch
    if len(batch[0].shape) < 2:
        return batch  # a list of samples
    if len(batch) > 1:
        raise ValueError(f"X: expected batches of one array, got {len(batch)} in one; leave labels out")
    return next(iter(batch))


def real_rows(values: Any, dtype: Any = None) -> np.ndarray:
    """Return samples as a writable array of `dtype`; by default float32 stays, others become float64."""
    values = as_array(values)
    if np.ma.is_masked(values):
        values = values.astype(np.result_type(values.dtype, np.float32)).filled(np.nan)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"X: expected batches of real numbers, got {values.dtype}")
    return _writable(values, dtype or (np.float32 if values.dtype == np.float32 else np.float64))


def _check_finite(rows: np.ndarray, *, missing: bool) -> None:
    if not np.isfinite(rows).all() and not (missing and not np.isinf(rows).any()):
        if missing:
            raise ValueError("X: expected finite values or NaN, got a batch with infinity")
        raise ValueError(
            "X: expected finite values, got a batch with NaN or infinity; missing='allow' treats NaN as "
            "missing"
        )


def _observed(rows: Any, mask: Any, missing: bool) -> Any:
    """Return a batch's mask, True where entries are observed; None: everywhere."""
    if not missing:
        return mask
    known = ~(torch.isnan if isinstance(rows, torch.Tensor) else np.isnan)(rows)
    return known if mask is None else known & mask


def _placed(rows: Any, mask: Any, device: torch.device | str | None) -> Batch:
    """Return a batch, as tensors on the device if there is one."""
    mask = None if mask is None else _writable(mask)
    if device is None:
        return Batch(rows, mask)
    return Batch(
        torch.as_tensor(rows, device=device), None if mask is None else torch.as_tensor(mask, device=device)
    )


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else np.concatenate(parts)


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
