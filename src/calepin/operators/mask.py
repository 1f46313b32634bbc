"""The operator that removes missing entries."""

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_tensor
from calepin.operators.base import LinearOperator

__all__ = ["Mask"]


class Mask(LinearOperator):
    """Keep the observed entries of each sample and set the missing ones to zero.

    If the missing entries of y are zero too, ``Problem(Mask(observed) @ dictionary, likelihood, y)`` fits
    the observed entries only: the gradient in the code does not depend on missing entries.

    Parameters
    ----------
    observed : bool Tensor
        True where an entry is observed: the shape of one sample, or (n, ...) with `per_sample`.
    per_sample : bool, default False
        Whether the first axis of `observed` is that of the samples, each with its own missing entries.
    """

    observed: Tensor

    def __init__(self, observed: Tensor, *, per_sample: bool = False) -> None:
        check_arguments(Mask.__init__, locals())
        check_tensor("observed", observed)
        if observed.dtype != torch.bool:
            raise ValueError(f"observed: expected dtype torch.bool, got {observed.dtype}")
        if per_sample and observed.ndim == 0:
            raise ValueError("observed: expected shape (n, ...) with per_sample, got ()")
        shape = tuple(observed.shape[1:] if per_sample else observed.shape)
        super().__init__(shape, shape, n_samples=observed.shape[0] if per_sample else None)
        self.register_buffer("observed", observed)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Return x with zeros at the missing entries, even where x is NaN."""
        self.check_input(x)
        return x.masked_fill(~self.observed, 0)

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Return y with zeros at the missing entries: a mask is its own adjoint."""
        self.check_output(y)
        return y.masked_fill(~self.observed, 0)

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor:
        """Return ``(A A^H + weight I)^-1 y``."""
        self.check_gram(y, weight)
        return y / (self.observed.to(y.dtype) + weight)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        return float(self.observed.any())
