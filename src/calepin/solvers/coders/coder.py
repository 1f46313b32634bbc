"""The interface of coders, which find the codes of dense and convolutional problems.

    minimise over z   nll(A z + offset, y) + penalty(z)

A coder is a frozen dataclass of settings. `calepin.testing.check_coder` tests a new coder.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from calepin.penalties import L1, HardThreshold, NonNegativeL1, Penalty
from calepin.problem import Problem

__all__ = [
    "FAR",
    "Coder",
    "Codes",
    "GradientRule",
    "like_input",
    "objective",
    "penalty_of",
    "violation",
    "warn_if_far",
]

FAR = 0.05
"""Violation of the optimality conditions above which codes are called far from the minimiser."""

GradientRule = Literal["dec", "ae-lasso", "ae-ls"]
"""The kind of gradient of a dictionary: see `calepin.learning.dictionary_gradient`."""


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of a batch, with their known properties; unknown ones are None.

    Attributes
    ----------
    values : csr_array (n, n_components), or Tensor (n, *operator.in_shape)
        The codes: sparse from compiled coders of dense dictionaries, otherwise a tensor.
    offset : float or Tensor
        Offset of the linear predictor for which the codes were found.
    gap : Tensor (array if the inputs were arrays) of float64, shape (n,), optional
        Certified duality gap, an upper bound on the objective minus its minimum.
    residual : Tensor of float64, shape (n,), optional
        Squared norm of the residual over the observed entries.
    converged : bool Tensor, shape (n,), optional
        Whether the coder has converged, for each sample.
    """

    values: Any
    offset: float | Tensor = 0.0
    gap: Any = None
    residual: Any = None
    converged: Any = None

    def dense(self) -> Tensor:
        """Return the values as a tensor."""
        return torch.from_numpy(self.values.toarray()) if sparse.issparse(self.values) else self.values


def like_input(codes: Codes, values: Any) -> Codes:
    """Return codes with new values; the other fields become arrays unless the values are a tensor."""
    if isinstance(values, Tensor):
        return replace(codes, values=values)
    known = {name: getattr(codes, name) for name in ("gap", "residual", "converged")}
    arrays = {name: None if v is None else v.cpu().numpy() for name, v in known.items()}
    return replace(codes, values=values, **arrays)


class Coder(Protocol):
    """Interface of a coder."""

    @property
    def penalty(self) -> Penalty | None:
        """The penalty of codes; None if the number of nonzeros is limited instead."""
        ...

    @property
    def nonnegative(self) -> bool:
        """Whether codes are nonnegative."""
        ...

    def encode(
        self, problem: Problem, *, z0: Tensor | None = None, gradient: GradientRule | None = None
    ) -> Codes:
        """Return the codes of a problem.

        Parameters
        ----------
        problem : Problem
            Observations and their model.
        z0 : Tensor, optional
            Warm start; some coders ignore it.
        gradient : {"dec", "ae-lasso", "ae-ls"}, optional
            With "ae-lasso" and "ae-ls", the values carry the graph of their computation; a coder without a
            graph raises IncompatibleError. By default, and with "dec", they are constants.
        """
        ...

    def shortened(self, n_rounds: int) -> Self:
        """Return a coder with `n_rounds` times fewer iterations, for the first of several rounds.

        A coder with a stopping criterion returns itself.
        """
        ...


def penalty_of(penalty: Penalty | None, values: Any) -> np.ndarray:
    """Return the penalty of each code, (n,) in float64; 0 without a penalty or with a hard threshold.

    The `value` of a hard threshold is the penalty of another objective and is not counted.
    """
    if penalty is None or isinstance(penalty, HardThreshold):
        return np.zeros(values.shape[0])
    if not sparse.issparse(values):
        return penalty.value(values.detach()).double().cpu().numpy()
    if isinstance(penalty, L1 | NonNegativeL1) and not isinstance(penalty.alpha, Tensor):
        return np.asarray(penalty.alpha * abs(values).sum(1), np.float64)
    return penalty.value(torch.from_numpy(values.toarray())).double().numpy()


@torch.no_grad()
def objective(problem: Problem, codes: Codes, penalty: Penalty | None) -> np.ndarray:
    """Return ``nll(A z + offset, y) + penalty(z)`` of each sample, (n,) in float64.

    For Gaussian data the nll is half the squared residual over the observed entries. Without a penalty,
    where the number of nonzeros is limited, it is the nll alone.
    """
    z = codes.dense().to(problem.y.device)
    nll = problem.likelihood.nll(problem.operator(z) + codes.offset, problem.y)
    return nll.double().cpu().numpy() + penalty_of(penalty, codes.values)


@torch.no_grad()
def violation(problem: Problem, codes: Codes, penalty: Penalty | None) -> np.ndarray:
    """Return how much codes violate the conditions of a minimiser of nll + penalty, (n,) in float64.

    With the gradient g of the nll at z, and a step size s,

        max |z - prox(z - s g, s)| / (s max |g|)

    is 0 for a minimiser of a convex problem, and at most about 1. For the l1 norm it is the largest
    difference between a correlation with the residual and the value that it has in the solution, in units of
    alpha. The measure takes one gradient. Without a penalty, or with a hard threshold, whose result is not a
    minimiser, it is 0.
    """
    z = codes.dense().to(problem.y.device)
    if penalty is None or isinstance(penalty, HardThreshold):
        return np.zeros(len(z))
    problem = replace(problem, offset=codes.offset)
    lipschitz = (problem.likelihood.curvature or 1.0) * problem.operator.norm_squared()
    step = 1 / lipschitz if lipschitz > 0 else 1.0
    gradient = problem.gradient(z)
    residual = (z - penalty.prox(z - step * gradient, step)) / step
    largest, scale = (values.abs().flatten(1).amax(1).double() for values in (residual, gradient))
    return (largest / scale.clamp_min(torch.finfo(scale.dtype).tiny)).cpu().numpy()


def warn_if_far(violations: np.ndarray, iterations: str) -> None:
    """Warn if codes are far from the minimiser; `iterations` is the parameter that was too small."""
    far = violations > FAR
    if far.any():
        from sklearn.exceptions import ConvergenceWarning

        warnings.warn(
            f"{int(far.sum())} of {len(far)} codes are far from the minimiser after {iterations} iterations: "
            f"their optimality conditions are violated by up to {violations.max():.2g} times the gradient "
            f"(expected at most {FAR:g}), and their largest entries are too small",
            ConvergenceWarning,
            stacklevel=4,
        )
