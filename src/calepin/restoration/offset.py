"""Patterns of light cannot be negative: their mean outweighs what differs between them.

A matrix of patterns, with entries 0 and 1 for example, has one singular value s_1 that is far above the
others: that of the mean of the image. Steps of an algorithm that follow the norm are then too short for all
the rest. With the left singular vector u of s_1, both sides of y = A x are multiplied by

    P = I - (1 - s_2 / s_1) u u^T

so that the largest singular value of P A is the second one of A. The image is the same; the noise along u
becomes smaller, which costs the mean of the image some of its precision, the one number that is known best.
"""

import torch
from torch import Tensor

from calepin.core.random import randn
from calepin.operators.base import LinearOperator

__all__ = ["balanced"]

OUTLIER = 2.0  # ratio of the first two singular values above which they are balanced
N_ITER = 30  # of the power method: a value that is twice the next one needs few


class _Shrunk(LinearOperator):
    """An operator whose measurements along one direction are made smaller."""

    u: Tensor

    def __init__(self, operator: LinearOperator, u: Tensor, factor: float) -> None:
        super().__init__(operator.in_shape, operator.out_shape)
        self.operator, self.factor = operator, factor
        self.register_buffer("u", u)

    def shrink(self, y: Tensor) -> Tensor:
        """Return P y for measurements (n, m)."""
        u = self.u.to(y)
        return y - (1 - self.factor) * (y @ u)[:, None] * u

    def forward(self, x: Tensor) -> Tensor:
        """Return P A x."""
        return self.shrink(self.operator(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T P y."""
        return self.operator.adjoint(self.shrink(y))


@torch.no_grad()
def balanced(operator: LinearOperator, y: Tensor) -> tuple[LinearOperator, Tensor]:
    """Return an operator and its measurements (1, m) without an outlier among the singular values.

    An operator that has none, or whose measurements have several axes or are complex, is returned as it is.
    """
    if y.ndim != 2 or y.is_complex() or y.shape[1] < 2:
        return operator, y
    u = operator(torch.ones((1, *operator.in_shape), dtype=y.dtype, device=y.device))
    if not bool((u != 0).any()):
        u = randn(y.shape, like=y, generator=torch.Generator().manual_seed(0))
    for _ in range(N_ITER):
        u = operator(operator.adjoint(u / torch.linalg.vector_norm(u)))
    first = float(torch.linalg.vector_norm(u)) ** 0.5
    u = (u / torch.linalg.vector_norm(u))[0]
    second = _Shrunk(operator, u, 0.0).norm_squared() ** 0.5
    if first <= OUTLIER * second or second == 0:
        return operator, y
    shrunk = _Shrunk(operator, u, second / first)
    return shrunk, shrunk.shrink(y)
