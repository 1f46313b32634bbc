"""Sparse dictionary learning as the paper compares with it, evaluated in three ways.

Codes are orthogonal matching pursuit's, as in the libraries the paper used (scikit-learn's transform and
nel215/ksvd both default to OMP with a tenth of the features as nonzeros):

- "default": that code, of which the k largest coefficients are kept, as the paper did;
- "omp": OMP with k nonzeros, which is the best use of k coefficients that these libraries offer;
- "uncut": the default code as it is (Fig. 5).

Cutting a code after it was fitted is a poor use of k coefficients, and it decides the paper's ordering;
the values of both are therefore always reported side by side.
"""

import warnings
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import MiniBatchDictionaryLearning

from calepin import sparse_encode
from calepin.learning import KSVD, AtomSet, Batch, ClassicalState
from calepin.solvers import PursuitCoder

__all__ = ["WAYS", "Baseline", "KSVDBaseline", "MODBaseline", "reconstruct", "rounded"]

WAYS = ("default", "omp", "uncut")
DIGITS = 4
_KSVD_SWEEPS = 5

Array = NDArray[np.float64]


class Baseline(Protocol):
    """A dictionary that learns from one batch after another."""

    @property
    def atoms(self) -> Array:
        """The atoms, unit rows."""
        ...

    def learn(self, y: Array) -> None:
        """Learn from one more batch, (n, m)."""
        ...


class MODBaseline:
    """The paper's "MOD": scikit-learn's mini-batch learner (Mairal et al. 2009), with its defaults."""

    def __init__(self, n_components: int, seed: int) -> None:
        self._learner = MiniBatchDictionaryLearning(n_components, random_state=seed)

    @property
    def atoms(self) -> Array:
        """The atoms that are not zero: scikit-learn begins with fewer samples than atoms."""
        atoms = np.asarray(self._learner.components_, dtype=np.float64)
        norms = np.linalg.norm(atoms, axis=1, keepdims=True)
        return (atoms / np.where(norms > 0, norms, 1))[norms[:, 0] > 0]

    def learn(self, y: Array) -> None:
        """Take scikit-learn's step on a batch."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its coder warns where lasso paths end early
            self._learner.partial_fit(y)


class KSVDBaseline:
    """Approximate K-SVD (Rubinstein et al. 2008), a few sweeps on each batch from the atoms before."""

    def __init__(self, n_components: int, seed: int) -> None:
        self._n_components, self._rng = n_components, np.random.default_rng(seed)
        self._state: ClassicalState | None = None

    @property
    def atoms(self) -> Array:
        """The atoms."""
        return np.zeros((0, 0)) if self._state is None else self._state.atoms.numpy()

    def learn(self, y: Array) -> None:
        """Sweep over the batch; the first one's samples and noise are where the atoms begin."""
        rule = KSVD(PursuitCoder(_default_nonzero(y.shape[1])), AtomSet("sphere"), replace_every=None)
        if self._state is None:
            atoms = self._rng.standard_normal((self._n_components, y.shape[1])) * y.std()
            n = min(len(y), self._n_components)
            atoms[:n] = y[:n]
            self._state = rule.init(rule.atom_set.project(atoms))
        for _ in range(_KSVD_SWEEPS):
            rule.step(self._state, Batch(y, None))


def reconstruct(y: Array, atoms: Array, k: int) -> dict[str, Array]:
    """Return the reconstructions of y from its codes, in each of the three ways."""
    default = sparse_encode(y, atoms, method="omp", n_nonzero=min(_default_nonzero(y.shape[1]), len(atoms)))
    short = sparse_encode(y, atoms, method="omp", n_nonzero=min(k, len(atoms)))
    return {
        "default": rounded(_largest(default, k)) @ atoms,
        "omp": rounded(short) @ atoms,
        "uncut": default @ atoms,
    }


def rounded(codes):
    """Return codes, an array or a tensor, with 4 digits after the point."""
    return torch.round(codes, decimals=DIGITS) if isinstance(codes, torch.Tensor) else np.round(codes, DIGITS)


def _default_nonzero(n_features: int) -> int:
    return max(1, n_features // 10)


def _largest(codes: Array, k: int) -> Array:
    """Return codes with all but the k entries of largest magnitude set to zero."""
    if k >= codes.shape[1]:
        return codes
    kept = np.argpartition(-np.abs(codes), k - 1, axis=1)[:, :k]
    cut = np.zeros_like(codes)
    np.put_along_axis(cut, kept, np.take_along_axis(codes, kept, 1), 1)
    return cut
