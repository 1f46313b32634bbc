"""Missing entries."""

import torch
from torch import Tensor

from calepin.core.checks import check_tensor
from calepin.operators.base import LinearOperator

__all__ = ["Mask"]


class Mask(LinearOperator):
    """Keep the observed entries of each sample and set the missing ones to zero.

    With zeros at the missing entries of y too, ``Problem(Mask(observed) @ dictionary, likelihood, y)``
    fits the observed entries alone: the score of a missing entry never reaches the code.

    Parameters
    ----------
    observed : bool Tensor
        True where an entry is observed: the shape of one sample, or (n, ...) with `per_sample`.
    per_sample : bool, default False
        Whether the first axis of `observed` counts samples, each with its own missing entries.
    """

    observed: Tensor

    def __init__(self, observed: Tensor, *, per_sample: bool = False) -> None:
        check_tensor("observed", observed)
        if observed.dtype != torch.bool:
            raise ValueError(f"observed: expected dtype torch.bool, got {observed.dtype}")
        if per_sample and observed.ndim == 0:
            raise ValueError("observed: expected shape (n, ...) with per_sample, got ()")
        shape = tuple(observed.shape[1:] if per_sample else observed.shape)
        super().__init__(shape, shape, n_samples=observed.shape[0] if per_sample else None)
        self.register_buffer("observed", observed)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with zeros at the missing entries, whatever stood there."""
        self.check_input(x)
        return x.masked_fill(~self.observed, 0)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return y with zeros at the missing entries: a mask is its own adjoint."""
        self.check_output(y)
        return y.masked_fill(~self.observed, 0)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        return float(self.observed.any())
