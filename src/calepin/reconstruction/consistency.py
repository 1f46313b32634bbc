"""Data consistency: the nearest signal that agrees with the measurements."""

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_floating, check_integer, check_number
from calepin.operators.base import LinearOperator
from calepin.operators.least_squares import conjugate_gradients

__all__ = ["data_consistent"]


@torch.no_grad()
def data_consistent(
    operator: LinearOperator, x: Tensor, y: Tensor, *, weight: float = 0.0, n_iter: int = 30
) -> Tensor:
    """Return the signal near x that agrees with the measurements, by conjugate gradients.

        argmin_z  ||A z - y||^2 + weight ||z - x||^2,        weight = 0: the nearest z with A z = y

    Parameters
    ----------
    operator : LinearOperator
        A.
    x : Tensor, shape (n, *operator.in_shape)
    y : Tensor, shape (n, *operator.out_shape)
    weight : float, default 0
        Weight of the distance to x; 0 for measurements without noise.
    n_iter : int, default 30
        Iterations; one is enough if the rows of A are orthogonal, as in a subsampled transform.

    Raises
    ------
    ValueError
        A negative weight.
    """
    check_arguments(data_consistent, locals())
    check_floating("x", x)
    check_floating("y", y)
    operator.check_input(x)
    operator.check_output(y)
    check_number("weight", weight, least=0)
    check_integer("n_iter", n_iter, least=0)
    return conjugate_gradients(operator, x, y, weight=weight, n_iter=n_iter)[0]
