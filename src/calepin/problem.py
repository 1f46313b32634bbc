"""The sparse coding problem: observations, operator, likelihood and offset."""

import numbers
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from calepin.core.arguments import check_fields, takes_tensors
from calepin.core.checks import check_tensor
from calepin.core.errors import IncompatibleError
from calepin.core.samples import take_rows, with_fields
from calepin.likelihoods import Likelihood
from calepin.operators.base import LinearOperator

__all__ = ["Problem"]


@dataclass(frozen=True, eq=False)
class Problem:
    """A batch of observations and their model.

        y ~ family( mean = f^{-1}(eta) ),        eta = operator(z) + offset

    The unknown is the code z of each sample. Its penalty is a setting of the solver (`calepin.solvers`).

    Parameters
    ----------
    operator : LinearOperator
        Maps codes to linear predictors: a dictionary, or a measurement of it, ``Mask(...) @ Dense(...)``.
    likelihood : Likelihood
        Family of the observations.
    y : Tensor, shape (n, *operator.out_shape)
        Observations, floating or complex. The codes take their dtype and device.
    offset : float or Tensor, default 0
        Known part of the linear predictor (a baseline); broadcasts against y.

    Raises
    ------
    TypeError
        If y is not a tensor, or the offset is neither a tensor nor a number.
    ValueError
        If y has no samples, does not have the output shape of the operator, or has an entry that the
        likelihood cannot produce; or if the offset does not broadcast.
    """

    operator: LinearOperator
    likelihood: Likelihood
    y: Tensor
    offset: float | Tensor = 0.0

    def __post_init__(self) -> None:
        check_tensor("y", self.y)
        if not isinstance(self.offset, numbers.Number):
            check_tensor("offset", self.offset)
        if not (self.y.is_floating_point() or self.y.is_complex()):
            raise ValueError(f"y: expected a floating or complex dtype, got {self.y.dtype}")
        check_fields(self)
        self.operator.check_output(self.y)
        if self.y.shape[0] == 0:
            raise ValueError(f"y: expected at least one sample, got shape {tuple(self.y.shape)}")
        for name, tensor in self.operator.state_dict().items():
            _check_same_kind(self.y, f"operator.{name}", tensor)
        self.likelihood.check(self.y)
        if not bool(torch.isfinite(torch.as_tensor(self.offset)).all()):
            raise ValueError("offset: expected finite values, got NaN or infinity")
        if isinstance(self.offset, Tensor) and not _broadcasts(self.offset, self.y):
            raise ValueError(
                f"offset: expected a shape that broadcasts to that of y, {tuple(self.y.shape)}, "
                f"got {tuple(self.offset.shape)}"
            )

    def prepared(self) -> "Problem":
        """Return the same problem with a prepared operator (`LinearOperator.prepared`)."""
        operator = self.operator.prepared()
        return self if operator is self.operator else replace(self, operator=operator)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of the codes, (n, *operator.in_shape)."""
        return (self.y.shape[0], *self.operator.in_shape)

    @property
    def code_dtype(self) -> torch.dtype:
        """Dtype of the codes, that of y."""
        return self.y.dtype

    @property
    def separable(self) -> bool:
        """Whether some of the samples form a problem too: the operator is the same for all samples."""
        return self.operator.n_samples is None

    @takes_tensors
    def take(self, rows: Tensor) -> "Problem":
        """Return the problem of some of the samples, which may be repeated.

        Raises
        ------
        IncompatibleError
            If the operator differs between samples.
        """
        if not self.separable:
            raise IncompatibleError(
                f"Problem.take needs an operator that is the same for all samples, got one that "
                f"differs between {self.operator.n_samples} samples"
            )
        offset = self.offset
        if isinstance(offset, Tensor):
            offset = take_rows(offset, rows, self.y.ndim)
        # only families with separate parameters for each sample have `take`
        take: Any = getattr(self.likelihood, "take", None)
        likelihood = self.likelihood if take is None else take(rows, self.y.ndim)
        y = self.y[rows]
        if y.shape[0] == 0:
            raise ValueError("rows: expected at least one sample, got none")
        return with_fields(self, y=y, offset=offset, likelihood=likelihood)

    def zeros(self) -> Tensor:
        """Return codes that are all zero."""
        return self.y.new_zeros(self.code_shape)

    @takes_tensors
    def eta(self, z: Tensor) -> Tensor:
        """Return the linear predictor of codes z, shape of y."""
        eta = self.operator(check_tensor("z", z))
        return eta + self.offset if isinstance(self.offset, Tensor) or self.offset else eta

    @takes_tensors
    def nll(self, z: Tensor) -> Tensor:
        """Return the negative log-likelihood of codes z, one number per sample, (n,)."""
        return self.likelihood.nll(self.eta(z), self.y)

    @takes_tensors
    def gradient(self, z: Tensor) -> Tensor:
        """Return the gradient of `nll` in z: ``-A^H score(eta(z), y)``, shape of z."""
        return -self.operator.adjoint(self.likelihood.score(self.eta(z), self.y))

    def lipschitz(self) -> float:
        """Return a Lipschitz constant of `gradient`, ``curvature * norm_squared``.

        Raises
        ------
        IncompatibleError
            If the second derivative of the likelihood has no bound.
        """
        curvature = self.likelihood.curvature
        if curvature is None:
            raise IncompatibleError(
                f"Problem.lipschitz needs likelihood.curvature, which {type(self.likelihood).__name__} "
                "does not have"
            )
        return curvature * self.operator.norm_squared()


def _check_same_kind(y: Tensor, name: str, tensor: Tensor) -> None:
    """Raise ValueError if y and a tensor of the operator differ in device or precision."""
    if tensor.device != y.device:
        raise ValueError(f"y: expected the device of {name}, {tensor.device}, got {y.device}")
    numeric = tensor.is_floating_point() or tensor.is_complex()
    if numeric and tensor.dtype.to_real() != y.dtype.to_real():
        raise ValueError(f"y: expected the precision of {name}, {tensor.dtype}, got {y.dtype}")


def _broadcasts(offset: Tensor, y: Tensor) -> bool:
    try:
        return torch.broadcast_shapes(offset.shape, y.shape) == y.shape
    except RuntimeError:
        return False
