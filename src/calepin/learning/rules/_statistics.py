"""What classical rules need of a batch and its codes, compiled for arrays and in torch for tensors.

Arrays carry sparse codes (CSR) and run on the compiled kernels; tensors, which live where the user
put them, carry dense codes and run as matrix products.
"""

from typing import Any

import numpy as np
import torch
from scipy import sparse

from calepin.core.threads import single_threaded_blas
from calepin.learning.atoms import AtomSet
from calepin.learning.rules import _kernels

__all__ = ["add_moments", "descend", "ksvd_update", "moments", "residual"]


def moments(atoms: Any) -> tuple[Any, Any]:
    """Return A = 0 (p, p) and B = 0 (p, m): sums of z z^T and of z x^T, in float64."""
    p, m = atoms.shape
    if isinstance(atoms, torch.Tensor):
        return (
            torch.zeros((p, p), dtype=torch.float64, device=atoms.device),
            torch.zeros((p, m), dtype=torch.float64, device=atoms.device),
        )
    return np.zeros((p, p)), np.zeros((p, m))


def add_moments(A: Any, B: Any, codes: Any, X: Any, *, decay: float = 1.0) -> None:
    """Forget a share of A and B, then add the batch's sums of z z^T and z x^T, in place."""
    if decay != 1.0:
        A *= decay
        B *= decay
    if isinstance(codes, torch.Tensor):
        A += codes.T @ codes
        B += codes.T @ X
    else:
        _kernels.add_moments(codes.indptr, codes.indices, codes.data, X, A, B)


def residual(codes: Any, X: Any, atoms: Any) -> Any:
    """Return x - z D of every sample, shape (n, m)."""
    if isinstance(codes, torch.Tensor):
        return X - codes @ atoms
    out = np.empty_like(X)
    _kernels.residuals(codes.indptr, codes.indices, codes.data, X, atoms, out)
    return out


def descend(atoms: Any, A: Any, B: Any, atom_set: AtomSet, *, n_sweeps: int = 1) -> None:
    """Lower tr(D^T A D)/2 - tr(D^T B) by block coordinate descent over atoms in their set, in place.

    Source: Mairal et al. (2009), Algorithm 2.
    """
    sphere = atom_set.shape == "sphere"
    if isinstance(atoms, torch.Tensor):
        for _ in range(n_sweeps):
            _descend_tensor(atoms, A.to(atoms.dtype), B.to(atoms.dtype), atom_set)
        return
    A, B = A.astype(atoms.dtype), B.astype(atoms.dtype)
    with single_threaded_blas():
        for _ in range(n_sweeps):
            _kernels.descend_blocks(atoms, A, B, sphere, atom_set.nonnegative)


def _descend_tensor(atoms: torch.Tensor, A: torch.Tensor, B: torch.Tensor, atom_set: AtomSet) -> None:
    for j in torch.nonzero(A.diagonal() > 0).flatten().tolist():
        moved = atom_set.project((atoms[j] + (B[j] - A[j] @ atoms) / A[j, j])[None])[0]
        if moved.any():
            atoms[j] = moved


def ksvd_update(atoms: Any, codes: Any, E: Any, atom_set: AtomSet, *, positive_code: bool) -> None:
    """Update each atom and its coefficients by one power step on its residual, atoms and E in place.

    Source: Rubinstein, Zibulevsky and Elad (2008), Algorithm 5 (approximate K-SVD).
    """
    if isinstance(codes, torch.Tensor):
        _ksvd_tensor(atoms, codes, E, atom_set, positive_code)
        return
    by_atom = sparse.csc_array(codes)
    _kernels.ksvd_sweep(
        by_atom.indptr, by_atom.indices, by_atom.data, E, atoms, positive_code, atom_set.nonnegative
    )


def _ksvd_tensor(
    atoms: torch.Tensor,
    codes: torch.Tensor,
    E: torch.Tensor,
    atom_set: AtomSet,
    positive_code: bool,
) -> None:
    for j in torch.nonzero(codes.any(dim=0)).flatten().tolist():
        users = torch.nonzero(codes[:, j]).flatten()
        old = E[users] + torch.outer(codes[users, j], atoms[j])
        moved = AtomSet("sphere", atom_set.nonnegative).project((codes[users, j] @ old)[None])[0]
        if moved.any():
            atoms[j] = moved
        new = old @ atoms[j]
        codes[users, j] = new.clip(min=0) if positive_code else new
        E[users] = old - torch.outer(codes[users, j], atoms[j])
