"""The operator that weights the entries of a signal, or of its measurements."""

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_tensor
from calepin.operators.base import LinearOperator

__all__ = ["Diagonal"]


class Diagonal(LinearOperator):
    """Multiply each entry by a weight.

    ``Diagonal(w) @ A``, fitted to ``w * y``, gives least squares with the weights ``w**2``, for example for
    entries of different noise levels.

    Parameters
    ----------
    weights : Tensor
        Weights in the shape of one sample, real or complex, finite.
    """

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        check_arguments(Diagonal.__init__, locals())
        check_tensor("weights", weights)
        if not torch.isfinite(weights).all():
            raise ValueError("weights: expected finite values, got NaN or infinity")
        super().__init__(tuple(weights.shape), tuple(weights.shape))
        self.register_buffer("weights", weights)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sample."""
        self.check_input(x)
        return x * self.weights

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Return y times the conjugate weights."""
        self.check_output(y)
        return y * self.weights.conj()

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor:
        """Return ``(A A^H + weight I)^-1 y``."""
        self.check_gram(y, weight)
        return y / (self.weights.abs().square() + weight)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        return float(self.weights.abs().square().max())
