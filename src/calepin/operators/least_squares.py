"""Least squares near a given signal: what agrees with measurements and is not far from x.

    argmin_z  ||A z - y||^2 + weight ||z - x||^2  =  x + A^H (A A^H + weight I)^-1 (y - A x)

If A A^H is easy to invert, this is a closed form (`LinearOperator.solve_gram`); else conjugate gradients.
"""

import torch
from torch import Tensor

from calepin.core.samples import expand, inner
from calepin.operators.base import LinearOperator

__all__ = ["conjugate_gradients", "regularised_least_squares"]

_ROUNDING = 50  # times the machine precision
_DELAY = 4  # iterations whose decrease of the objective estimates the rest


@torch.no_grad()
def regularised_least_squares(
    operator: LinearOperator,
    x: Tensor,
    y: Tensor,
    *,
    weight: float,
    n_iter: int,
    tol: float = 0.0,
    gap: float = 0.0,
) -> tuple[Tensor, bool]:
    """Return the minimiser, and whether it is exact or conjugate gradients have converged.

    Parameters
    ----------
    operator : LinearOperator
    x : Tensor, shape (n, *operator.in_shape)
    y : Tensor, shape (n, *operator.out_shape)
    weight : float
        Above 0.
    n_iter, tol, gap : int and floats
        Of `conjugate_gradients`, for an operator without a closed form.
    """
    closed = operator.solve_gram(y - operator(x), weight)
    if closed is not None:
        return x + operator.adjoint(closed), True
    return conjugate_gradients(operator, x, y, weight=weight, n_iter=n_iter, tol=tol, gap=gap)


@torch.no_grad()
def conjugate_gradients(
    operator: LinearOperator,
    x: Tensor,
    y: Tensor,
    *,
    weight: float,
    n_iter: int,
    tol: float = 0.0,
    gap: float = 0.0,
) -> tuple[Tensor, bool]:
    """Return the minimiser by conjugate gradients from x, and whether all samples have converged.

    A sample has converged when its gradient is at most `tol` times the first one, or is rounding error, or
    when four iterations have lowered the objective by at most `gap`: an estimate of what it is above its
    minimum (Strakos and Tichy, "On error estimation in the conjugate gradient method", 2002). An error e of
    the minimiser raises the objective by at least ``weight ||e||^2``, so that `gap` bounds it.
    With weight 0 the result is the nearest signal to x that agrees with the measurements best.
    """
    move, miss = torch.zeros_like(x), y - operator(x)
    direction = gradient = operator.adjoint(miss)
    energy = inner(gradient, gradient)
    tiny = torch.finfo(energy.dtype).tiny
    floor = energy * max(tol, _ROUNDING * torch.finfo(x.dtype).eps) ** 2
    falls = [torch.full_like(energy, torch.inf)] * _DELAY
    settled = torch.zeros_like(energy, dtype=torch.bool)
    for _ in range(n_iter):
        # below the floor the gradient is rounding error, partly in the null space of A
        active = (energy > floor) & ~settled
        if not bool(active.any()):
            break
        image = operator(direction)
        curvature = inner(image, image) + weight * inner(direction, direction)
        step = expand(torch.where(active, energy / curvature, torch.zeros_like(energy)), x)
        move = move + step * direction
        miss = miss - expand(step.flatten(), miss) * image
        gradient = operator.adjoint(miss) - weight * move
        falls = [*falls[1:], step.flatten() * energy]
        settled = settled | (torch.stack(falls).sum(0) <= gap)
        before, energy = energy, inner(gradient, gradient)
        direction = gradient + expand(energy / before.clamp_min(tiny), x) * direction
    return x + move, not bool(((energy > floor) & ~settled).any())
