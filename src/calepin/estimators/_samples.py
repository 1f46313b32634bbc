"""What estimators of dense dictionaries take as X: arrays, sparse matrices, files, iterables of batches."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import sparse
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from calepin.core.arrays import as_array, is_stored
from calepin.learning.batches import IterableBatches, only_array

__all__ = ["as_samples", "is_stream", "joined", "row_blocks", "tensor_of_dataset"]

_BLOCK = 4096  # rows of a file or of a sparse matrix that become dense together


def as_samples(X: Any, **settings: Any) -> Any:
    """Return X as an array, a CSR matrix, an array outside of memory, or `IterableBatches` with settings."""
    X = tensor_of_dataset(X)
    if isinstance(X, IterableBatches):
        return X
    if sparse.issparse(X):
        return X.tocsr()
    array_like = hasattr(X, "__array__") or hasattr(X, "__getitem__")
    if isinstance(X, str | bytes | Mapping) or not (array_like or is_stream(X)):
        kind = type(X).__name__
        raise TypeError(f"X: expected samples (n_samples, n_features) or an iterable of batches, got {kind}")
    if isinstance(X, Tensor) or (isinstance(X, np.ndarray) and X.dtype == np.float16):
        return as_array(X)
    if is_stored(X):
        if len(X.shape) == 2 and np.dtype(X.dtype).kind in "fiub":
            return X
        return as_array(X[:1]) if X.shape else np.asarray(X)  # scikit-learn says what is wrong with it
    if isinstance(X, list | tuple):
        if len(X) and _is_batch(X[0]):
            return IterableBatches(X, **settings)
        return as_array(X) if any(isinstance(row, Tensor) for row in X) else X
    return IterableBatches(X, **settings) if is_stream(X) else X


def is_stream(X: Any) -> bool:
    """Return whether X is an iterable of batches that is no array and no list, or a function for one."""
    array_like = hasattr(X, "__array__") or (hasattr(X, "__getitem__") and not isinstance(X, IterableDataset))
    stream = isinstance(X, Iterable | IterableBatches) or (callable(X) and not isinstance(X, type))
    return stream and not array_like


def tensor_of_dataset(X: Any) -> Any:
    """Return the tensor of a TensorDataset, and anything else unchanged.

    Raises
    ------
    ValueError
        If X is another PyTorch dataset, or one with several tensors.
    """
    if isinstance(X, TensorDataset):
        if len(X.tensors) != 1:
            raise ValueError(
                f"X: expected a TensorDataset of one tensor, got {len(X.tensors)}; leave labels out"
            )
        return X.tensors[0]
    if isinstance(X, Dataset) and not isinstance(X, IterableDataset):
        raise ValueError(
            f"X: expected samples or batches, got {type(X).__name__}; "
            "torch.utils.data.DataLoader(dataset, batch_size=256) gives batches"
        )
    return X


def row_blocks(X: Any, mask: Any) -> Iterable[tuple[Any, Any]]:
    """Yield what `as_samples` returns as arrays with masks: in blocks if it is not in memory or sparse."""
    if isinstance(X, IterableBatches):
        require_no_mask(mask)
        batch = None
        for batch in X.walk(0):
            yield as_array(batch.X), None if batch.mask is None else as_array(batch.mask)
        if batch is None:
            raise X.empty()
    elif sparse.issparse(X) or is_stored(X):
        for start in range(0, max(X.shape[0], 1), _BLOCK):
            rows = slice(start, start + _BLOCK)
            yield as_array(X[rows]), None if mask is None else mask[rows]
    else:
        yield X, mask


def require_no_mask(mask: Any) -> None:
    """Raise ValueError if a mask was given with an iterable."""
    if mask is not None:
        raise ValueError("mask: expected None if X is an iterable, whose missing entries are NaN")


def joined(parts: Iterable[Any]) -> Any:
    """Return results of blocks, dense or sparse, one below the other."""
    found = list(parts)
    if len(found) == 1:
        return found[0]
    return sparse.csr_array(sparse.vstack(found)) if sparse.issparse(found[0]) else np.concatenate(found)


def _is_batch(first: Any) -> bool:
    """Return whether the first entry of a list is a batch, and not a sample or a row of numbers."""
    first = only_array(first)
    return len(getattr(first, "shape", ())) > 1
