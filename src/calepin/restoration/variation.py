"""The images of least total variation that fit measurements.

    minimise over x    1/2 ||A x - y||^2 + weight sum over pixels ( sum over images |grad x|^2 )^(1/2)

All images of a sample share their edges. The iteration is that of Condat, "A primal-dual splitting method for
convex optimization involving Lipschitzian, proximable and linear composite terms", 2013, algorithm 3.1, which
needs no inverse of A: steps t of x and s of the dual with ``1 / t - s ||grad||^2 >= ||A||^2 / 2``.
"""

import torch
from torch import Tensor

from calepin.operators.base import LinearOperator

__all__ = ["least_variation"]

STEP = 1.8  # t ||A||^2, less than 2
GRADIENT_NORM_SQUARED = 8.0


@torch.no_grad()
def least_variation(
    operator: LinearOperator, y: Tensor, *, weight: float, max_iter: int, tol: float
) -> tuple[Tensor, int, bool]:
    """Return the images, the number of iterations, and whether an iteration changed them by at most `tol`.

    Parameters
    ----------
    operator : LinearOperator
        A, from images (n_images, height, width).
    y : Tensor, shape (1, *operator.out_shape)
        Measurements.
    weight : float
        Weight of the total variation.
    max_iter : int
        Iterations at most.
    tol : float
        Change of the images in an iteration, relative to their norm, that ends the run.
    """
    step = STEP / operator.norm_squared()
    dual_step = (1 / step - operator.norm_squared() / 2) / GRADIENT_NORM_SQUARED
    back = operator.adjoint(y)
    x, dual = back.clone(), torch.zeros_like(_gradient(back))
    for k in range(max_iter):
        slope = operator.adjoint(operator(x)) - back + _adjoint_gradient(dual)
        moved = x - step * slope
        dual = dual + dual_step * _gradient(2 * moved - x)
        length = torch.linalg.vector_norm(dual, dim=(0, 2), keepdim=True)
        dual = dual / (length / weight).clamp_min(1)
        change = torch.linalg.vector_norm(moved - x)
        x = moved
        # the first change is zero where A^H A is a projection: the dual is still zero
        if k and float(change) <= tol * float(torch.linalg.vector_norm(x)):
            return x, k + 1, True
    return x, max_iter, False


def _gradient(x: Tensor) -> Tensor:
    """Return the differences to the next row and column, periodic like the Fourier transform, (2, ...)."""
    return torch.stack([x.roll(-1, axis) - x for axis in (-2, -1)])


def _adjoint_gradient(p: Tensor) -> Tensor:
    return p[0].roll(1, -2) - p[0] + p[1].roll(1, -1) - p[1]
