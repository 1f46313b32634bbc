"""Nonnegative least squares for a batch of observations and a few atoms."""

import torch
from torch import Tensor

__all__ = ["nonnegative_least_squares"]

_MOST_SWEEPS = 500


@torch.no_grad()
def nonnegative_least_squares(y: Tensor, atoms: Tensor, *, tol: float | None = None) -> Tensor:
    """Return ``argmin_{u >= 0} ||y - u atoms||^2`` of each sample, (n, k).

    Cyclic coordinate descent on the Gram matrix, vectorised over samples, from the clipped least squares
    solution. Intended for a small number k of atoms.

    Parameters
    ----------
    y : Tensor, shape (n, m)
        Observations, real or complex.
    atoms : Tensor, shape (k, m)
        Atoms, real or complex.
    tol : float, optional
        Relative change in one sweep at which to stop; by default the square root of the machine precision.
    """
    gram: Tensor = (atoms @ atoms.mH).real
    target = (y @ atoms.mH).real
    rest: float = torch.finfo(gram.dtype).eps ** 0.5 if tol is None else tol
    diagonal = gram.diagonal()
    u = (target @ torch.linalg.pinv(gram, hermitian=True)).clamp_min(0)
    for _ in range(_MOST_SWEEPS):
        before = u.clone()
        for i in torch.nonzero(diagonal > 0).flatten().tolist():
            u[:, i] = (u[:, i] + (target[:, i] - u @ gram[i]) / diagonal[i]).clamp_min(0)
        if float((u - before).abs().max()) <= rest * float(u.abs().max()):
            break
    return u
