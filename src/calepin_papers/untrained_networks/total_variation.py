"""Reconstruction with a small total variation, the other classical baseline of section 1.1.

    minimise over x    1/2 ||A x - y||^2 + alpha sum over pixels ( sum over coils |grad x|^2 )^(1/2)

by the primal-dual iteration of Chambolle and Pock, "A first-order primal-dual algorithm for convex problems",
2011, algorithm 1. The gradients of all coils share their edges, since they are images of one object.
"""

import torch
from torch import Tensor

from calepin.operators import MultiCoilMRI
from calepin.reconstruction import data_consistent

__all__ = ["divergence", "gradient", "least_variation", "total_variation"]

_PRIMAL = 30.0  # images are about 1, their dual about alpha
_DUAL = 1 / (8 * _PRIMAL)  # ||grad||^2 is at most 8


def least_variation(operator: MultiCoilMRI, y: Tensor, alpha: float, n_iter: int) -> Tensor:
    """Return the coils' images with a small total variation, moved to the measured samples.

    The operator has no sensitivities: its rows are orthonormal, so that the data term has a closed proximal
    map.
    """
    x = extrapolated = operator.adjoint(y)
    dual = torch.zeros_like(gradient(x))
    for _ in range(n_iter):
        dual = dual + _DUAL * gradient(extrapolated)
        dual = dual / (_length(dual) / alpha).clamp_min(1)
        moved = x + _PRIMAL * divergence(dual)
        moved = moved - _PRIMAL / (1 + _PRIMAL) * operator.adjoint(operator(moved) - y)
        x, extrapolated = moved, 2 * moved - x
    return data_consistent(operator, x, y)


def total_variation(x: Tensor) -> Tensor:
    """Return the total variation of images (n, coils, h, w), (n,)."""
    return _length(gradient(x)).flatten(1).sum(1)


def gradient(x: Tensor) -> Tensor:
    """Return the differences to the next row and column, zero at the last ones, (2, n, coils, h, w)."""
    rows, columns = torch.zeros_like(x), torch.zeros_like(x)
    rows[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    columns[..., :-1] = x[..., 1:] - x[..., :-1]
    return torch.stack([rows, columns])


def divergence(p: Tensor) -> Tensor:
    """Return minus the adjoint of `gradient`, (n, coils, h, w)."""
    rows, columns = p
    out = torch.zeros_like(rows)
    out[..., :-1, :] += rows[..., :-1, :]
    out[..., 1:, :] -= rows[..., :-1, :]
    out[..., :-1] += columns[..., :-1]
    out[..., 1:] -= columns[..., :-1]
    return out


def _length(p: Tensor) -> Tensor:
    """Return the lengths of gradients over directions and coils, (n, 1, h, w)."""
    return p.abs().square().sum((0, 2)).sqrt().unsqueeze(1)
