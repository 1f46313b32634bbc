"""Weighted measurements."""

import math
from typing import NamedTuple

from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_floating
from calepin.operators.base import LinearOperator
from calepin.operators.diagonal import Diagonal

__all__ = ["Weighted", "weighted"]


class Weighted(NamedTuple):
    """A weighted and scaled problem: signals are `scale` times the solutions for `operator` and `y`."""

    operator: LinearOperator
    y: Tensor
    scale: float


def weighted(operator: LinearOperator, y: Tensor, weights: Tensor) -> Weighted:
    """Return the problem ``w A x ~ w y``, scaled such that ``A^H w y`` has a mean square of one.

    Networks start with values around one: call `fit_untrained` with the returned operator and y, and multiply
    its signals by `scale`.

    Parameters
    ----------
    operator : LinearOperator
        A.
    y : Tensor, shape (n, *operator.out_shape)
        Measurements, not all zero.
    weights : Tensor
        w, on the device of y; broadcasts to `operator.out_shape`. For k-space see
        `calepin.operators.density_weights`.

    Raises
    ------
    ValueError
        All measurements are zero.
    """
    check_arguments(weighted, locals())
    operator.check_output(y)
    check_floating("y", y)
    check_floating("weights", weights, real=True)
    try:
        weights.expand(operator.out_shape)
    except RuntimeError:
        raise ValueError(
            f"weights: expected a shape that broadcasts to {operator.out_shape}, got {tuple(weights.shape)}"
        ) from None
    target = weights * y
    scale = float(operator.adjoint(target).abs().square().mean().sqrt())
    if scale == math.inf:
        raise ValueError("weights: expected smaller numbers, got products with y that overflow")
    if not scale > 0:
        raise ValueError("y: expected measurements that are not all zero, got only zeros")
    expanded = weights.expand(operator.out_shape).clone()
    return Weighted(Diagonal(expanded) @ operator, target / scale, scale)
