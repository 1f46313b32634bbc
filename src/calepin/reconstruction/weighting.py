"""Measurements that do not all count alike."""

from typing import NamedTuple

from torch import Tensor

from calepin.operators.base import LinearOperator
from calepin.operators.diagonal import Diagonal

__all__ = ["Weighted", "weighted"]


class Weighted(NamedTuple):
    """A weighted problem in its own unit: signals are `scale` times what `operator` sees in `y`."""

    operator: LinearOperator
    y: Tensor
    scale: float


def weighted(operator: LinearOperator, y: Tensor, weights: Tensor) -> Weighted:
    """Return the problem ``w A x ~ w y``, in the unit in which ``A^H w y`` has a mean square of one.

    Networks begin with values around one: `fit_untrained` is given what is returned, and its signals are
    multiplied by `scale`.

    Parameters
    ----------
    operator : LinearOperator
        A.
    y : Tensor, shape (n, *operator.out_shape)
        Not all zeros.
    weights : Tensor
        w, of y's device; broadcasts to `operator.out_shape`. `calepin.operators.density_weights` for k-space.

    Raises
    ------
    ValueError
        Measurements that are all zero.
    """
    target = weights * y
    scale = float(operator.adjoint(target).abs().square().mean().sqrt())
    if not scale > 0:
        raise ValueError("y: expected measurements that are not all zero, got none")
    expanded = weights.expand(operator.out_shape).clone()
    return Weighted(Diagonal(expanded) @ operator, target / scale, scale)
