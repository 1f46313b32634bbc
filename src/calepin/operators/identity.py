"""The operator that changes nothing: the signal itself is observed."""

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.operators.base import LinearOperator

__all__ = ["Identity"]


class Identity(LinearOperator):
    """Return each sample as it is.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        check_arguments(Identity.__init__, locals())
        super().__init__(shape, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        self.check_input(x)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return y."""
        self.check_output(y)
        return y

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor:
        """Return ``(A A^H + weight I)^-1 y``."""
        self.check_gram(y, weight)
        return y / (1 + weight)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        return 1.0
