"""Measurements along a trajectory of k-space, without the weight of dense samples."""

from torch import Tensor

from calepin.operators.base import Compose, LinearOperator
from calepin.operators.diagonal import Diagonal
from calepin.operators.non_cartesian import NonCartesianFourier, even_weights

__all__ = ["evened"]


def evened(operator: LinearOperator, y: Tensor) -> tuple[LinearOperator, Tensor, float]:
    """Return an operator and its measurements with even weights, and the factor of their noise.

    The noise of the sparse samples counts. Other operators than a `NonCartesianFourier`, alone or after
    others, are returned as they are.
    """
    scanner = operator
    while isinstance(scanner, Compose):
        scanner = scanner.outer
    if not isinstance(scanner, NonCartesianFourier):
        return operator, y, 1.0
    weights = even_weights(scanner).to(y)
    return (
        Diagonal(weights.expand(operator.out_shape).clone()) @ operator,
        weights * y,
        float(weights.abs().max()),
    )
