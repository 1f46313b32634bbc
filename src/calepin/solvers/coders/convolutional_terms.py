"""Convolutional coding problems: their construction from arrays, and their terms for compiled coders."""

from typing import Any

import torch
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Gaussian, Likelihood
from calepin.operators.base import Compose
from calepin.operators.conv import ConvDictionary
from calepin.operators.mask import Mask
from calepin.problem import Problem
from calepin.solvers.kernels.checks import check_convolutional

__all__ = ["convolutional_problem", "convolutional_terms", "require_gaussian"]


def convolutional_problem(
    y: Any,
    atoms: Any,
    *,
    likelihood: Likelihood | None = None,
    offset: Any = 0.0,
    boundary: str = "zero",
    mask: Any = None,
) -> Problem:
    """Check signals and atoms, and return the problem of coding them at stride one.

    Where `mask` is False, y is ignored and may be NaN.
    """
    values, rows, observed = check_convolutional(y, atoms, mask)
    device = y.device if isinstance(y, Tensor) else None
    filters = torch.from_numpy(rows).to(device)
    operator = ConvDictionary(filters, signal_shape=values.shape[2:], boundary=boundary)
    signals = torch.from_numpy(values).to(device)
    family = likelihood or Gaussian()
    if observed is None:
        return Problem(operator, family, signals, offset)
    seen = torch.from_numpy(observed).to(device)
    return Problem(Mask(seen, per_sample=True) @ operator, family, torch.where(seen, signals, 0), offset)


def convolutional_terms(problem: Problem, coder: str) -> tuple[ConvDictionary, Tensor | None]:
    """Return dictionary and mask of a problem; raise IncompatibleError if it has other terms."""
    operator, mask = problem.operator, None
    if isinstance(operator, Compose) and isinstance(operator.outer, Mask):
        operator, mask = operator.inner, operator.outer.observed.expand(problem.y.shape)
    if not isinstance(operator, ConvDictionary) or operator.stride != 1:
        stride = f" of stride {operator.stride}" if isinstance(operator, ConvDictionary) else ""
        raise IncompatibleError(
            f"{coder} needs a ConvDictionary of stride 1, with or without a Mask, got "
            f"{type(problem.operator).__name__}{stride}; ProximalCoder takes any operator"
        )
    return operator, mask


def require_gaussian(coder: str, problem: Problem) -> None:
    """Raise IncompatibleError unless the data are Gaussian."""
    if not isinstance(problem.likelihood, Gaussian):
        raise IncompatibleError(
            f"{coder} needs a Gaussian likelihood, got {type(problem.likelihood).__name__}; ProximalCoder "
            "takes any likelihood, ConvolutionalPursuitCoder takes counts"
        )
