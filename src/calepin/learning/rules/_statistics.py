"""Statistics of a batch and its codes for the classical rules.

Sparse codes (CSR) come from compiled coders and are on the CPU; compiled kernels process them. Dense codes
are tensors on any device; torch processes them.
"""

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from calepin.core.threads import single_threaded_blas
from calepin.learning.atoms import AtomSet

__all__ = ["add_moments", "descend", "energy", "ksvd_update", "moments", "residual", "usage"]


def moments(atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Return zero moments A (p, p), the sum of z z^T, and B (p, m), the sum of z x^T, in float64."""
    p, m = atoms.shape
    double = {"dtype": torch.float64, "device": atoms.device}
    return torch.zeros((p, p), **double), torch.zeros((p, m), **double)


def add_moments(A: Tensor, B: Tensor, codes: Any, X: Tensor, *, decay: float = 1.0) -> None:
    """Multiply A and B by `decay`, then add the sums of z z^T and z x^T over the batch, in place."""
    if decay != 1.0:
        A *= decay
        B *= decay
    if isinstance(codes, Tensor):
        A += codes.T @ codes
        B += codes.T @ X
        return
    from calepin.learning.rules import _kernels

    _kernels.add_moments(codes.indptr, codes.indices, codes.data, X.numpy(), A.numpy(), B.numpy())


def residual(codes: Any, X: Tensor, atoms: Tensor) -> Tensor:
    """Return the residual x - z D of every sample, shape (n, m)."""
    if isinstance(codes, Tensor):
        return X - codes @ atoms
    from calepin.learning.rules import _kernels

    out = torch.empty_like(X)
    _kernels.residuals(codes.indptr, codes.indices, codes.data, X.numpy(), atoms.numpy(), out.numpy())
    return out


def usage(codes: Any) -> np.ndarray:
    """Return the number of samples that use each atom, shape (p,)."""
    if isinstance(codes, Tensor):
        return (codes != 0).sum(0).cpu().numpy()
    return np.bincount(codes.indices[codes.data != 0], minlength=codes.shape[1])


def energy(codes: Any) -> Tensor:
    """Return the sum of the squared codes of each atom, shape (p,), in float64."""
    if isinstance(codes, Tensor):
        return codes.double().square().sum(0)
    squares = np.square(codes.data, dtype=np.float64)
    sums = np.bincount(codes.indices, squares, minlength=codes.shape[1])
    return torch.from_numpy(sums.astype(np.float64, copy=False))  # of integers if there is no code


def descend(atoms: Tensor, A: Tensor, B: Tensor, atom_set: AtomSet, *, n_sweeps: int = 1) -> None:
    """Decrease tr(D^T A D)/2 - tr(D^T B) by block coordinate descent over the atoms, in place.

    Source: Mairal et al. (2009), Algorithm 2.
    """
    A, B = A.to(atoms.dtype), B.to(atoms.dtype)
    if atoms.device.type != "cpu":
        for _ in range(n_sweeps):
            _descend_tensor(atoms, A, B, atom_set)
        return
    from calepin.learning.rules import _kernels

    sphere = atom_set.shape == "sphere"
    with single_threaded_blas():
        for _ in range(n_sweeps):
            _kernels.descend_blocks(atoms.numpy(), A.numpy(), B.numpy(), sphere, atom_set.nonnegative)


def _descend_tensor(atoms: Tensor, A: Tensor, B: Tensor, atom_set: AtomSet) -> None:
    for j in torch.nonzero(A.diagonal() > 0).flatten().tolist():
        moved = atom_set.project((atoms[j] + (B[j] - A[j] @ atoms) / A[j, j])[None])[0]
        if moved.any():
            atoms[j] = moved


def ksvd_update(atoms: Tensor, codes: Any, E: Tensor, atom_set: AtomSet, *, nonnegative_codes: bool) -> None:
    """Update each atom and its coefficients by one power step on its residual; change atoms and E in place.

    Source: Rubinstein, Zibulevsky and Elad (2008), Algorithm 5 (approximate K-SVD).
    """
    if isinstance(codes, Tensor):
        _ksvd_tensor(atoms, codes, E, atom_set, nonnegative_codes)
        return
    from calepin.learning.rules import _kernels

    by_atom = sparse.csc_array(codes)
    _kernels.ksvd_sweep(
        by_atom.indptr, by_atom.indices, by_atom.data, E.numpy(), atoms.numpy(), nonnegative_codes,
        atom_set.nonnegative,
    )  # fmt: skip


def _ksvd_tensor(atoms: Tensor, codes: Tensor, E: Tensor, atom_set: AtomSet, nonnegative_codes: bool) -> None:
    for j in torch.nonzero(codes.any(dim=0)).flatten().tolist():
        users = torch.nonzero(codes[:, j]).flatten()
        old = E[users] + torch.outer(codes[users, j], atoms[j])
        moved = AtomSet("sphere", atom_set.nonnegative).project((codes[users, j] @ old)[None])[0]
        if moved.any():
            atoms[j] = moved
        new = old @ atoms[j]
        codes[users, j] = new.clip(min=0) if nonnegative_codes else new
        E[users] = old - torch.outer(codes[users, j], atoms[j])


def decay_of_stream(
    n_past: int, n_samples: int, forgetting: float = 3.0, horizon: int | None = None
) -> float:
    """Return the weight of what was learned from a stream of `n_past` samples, at its next `n_samples`."""
    t = (n_past + n_samples) / n_samples
    return (1 - 1 / min(t, horizon or t)) ** forgetting if n_past else 0.0
