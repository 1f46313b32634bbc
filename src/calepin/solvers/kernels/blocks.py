"""Inputs and outputs of the compiled kernels: prepared atoms, blocks of samples, joined codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from calepin.core.compiled import padded
from calepin.core.threads import single_threaded_blas

__all__ = [
    "Codes",
    "Encoded",
    "PreparedAtoms",
    "block_size",
    "codes_of",
    "join_codes",
    "observed_block",
    "replace_rows",
]


@dataclass(frozen=True)
class Encoded:
    """Codes with their known properties.

    Parameters
    ----------
    codes : csr_array, shape (n_samples, n_components)
        Codes, with sorted column indices.
    residual : ndarray of float64, shape (n_samples,), or None
        ||x - z D||^2 over the observed entries.
    gap : ndarray of float64, shape (n_samples,), or None
        Certified duality gap (lasso).
    n_refined : int
        Number of samples that were coded again in float64.
    """

    codes: sparse.csr_array
    residual: np.ndarray | None = None
    gap: np.ndarray | None = None
    n_refined: int = 0


@dataclass(frozen=True)
class PreparedAtoms:
    """Atoms scaled to norms near one by a power of two (exact), and padded with zero atoms.

    Parameters
    ----------
    atoms : ndarray, shape (padded n_components, n_features)
        Scaled atoms.
    n_components : int
        Number of atoms without padding.
    scale : float
        The given atoms are scale * atoms, so codes of the kernels must be divided by scale.
    """

    atoms: np.ndarray
    n_components: int
    scale: float

    @classmethod
    def of(cls, atoms: np.ndarray, dtype: np.dtype) -> "PreparedAtoms":
        """Prepare finite atoms (n_components, n_features)."""
        largest = float(np.abs(atoms).max(initial=0.0))
        norm = largest * float(np.sqrt((np.square(atoms / largest)).sum(1).max())) if largest else 1.0
        scale = 2.0 ** np.round(np.log2(norm))
        rows = np.zeros((padded(len(atoms)), atoms.shape[1]), dtype)
        rows[: len(atoms)] = atoms if scale == 1 else np.asarray(atoms, np.float64) / scale
        return cls(rows, len(atoms), scale)

    @cached_property
    def gram(self) -> np.ndarray:
        """Return the inner products of all atoms."""
        with single_threaded_blas():
            return self.atoms @ self.atoms.T

    @cached_property
    def squares(self) -> np.ndarray:
        """Return the squared entries of the atoms."""
        return np.square(self.atoms)

    def gram_rows(self, masked: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return a Gram matrix and which of its rows are computed: none if entries are missing."""
        p = len(self.atoms)
        if masked:
            return np.empty((p, p), self.atoms.dtype), np.zeros(p, dtype=bool)
        return self.gram, np.ones(p, dtype=bool)

    def energies(self, mask: np.ndarray) -> np.ndarray:
        """Return squared norms of the atoms over the observed entries of each sample, (n or 1, padded p)."""
        return mask.astype(self.atoms.dtype) @ self.squares.T


def block_size(n_samples: int) -> int:
    """Return the number of samples per block; it must not depend on the number of threads."""
    return 256 if n_samples >= 4096 else 64


def observed_block(
    X: np.ndarray, mask: np.ndarray | None, start: int, stop: int, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples with zeros at missing entries, and the mask (one row of True if all are observed)."""
    block = np.array(X[start:stop], dtype=dtype, order="C")
    if mask is None:
        return block, np.ones((1, X.shape[1]), dtype=bool)
    observed = np.ascontiguousarray(mask[start:stop])
    block[~observed] = 0
    return block, observed


Codes = tuple[np.ndarray, np.ndarray, np.ndarray]  # counts of each row, column indices, values


def join_codes(blocks: Sequence[Codes], n_components: int, dtype: np.dtype) -> sparse.csr_array:
    """Return the codes of consecutive blocks as one CSR array."""
    counts, columns, values = (
        [np.concatenate(parts) for parts in zip(*blocks, strict=True)]
        if blocks
        else [np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0)]
    )
    nnz = len(columns)
    indptr = np.zeros(len(counts) + 1, np.int32 if nnz < 2**31 else np.int64)
    np.cumsum(counts, out=indptr[1:])
    columns = columns.astype(indptr.dtype, copy=False)
    codes = sparse.csr_array(
        (values.astype(dtype, copy=False), columns, indptr), shape=(len(counts), n_components)
    )
    codes.has_sorted_indices = True
    return codes


def codes_of(Z: np.ndarray) -> Codes:
    """Return dense codes in the format of the kernels."""
    rows, columns = np.nonzero(Z)
    counts = np.bincount(rows, minlength=len(Z)).astype(np.int64)
    return counts, columns.astype(np.int32), Z[rows, columns]


def replace_rows(codes: sparse.csr_array, rows: np.ndarray, by: sparse.csr_array) -> sparse.csr_array:
    """Return codes with the given rows replaced."""
    n = len(codes.indptr) - 1
    order = np.arange(n)
    order[rows] = n + np.arange(len(rows))
    stacked: Any = sparse.vstack([codes, by], format="csr")
    return sparse.csr_array(stacked[order])
