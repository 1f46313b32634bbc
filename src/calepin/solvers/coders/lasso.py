"""Exact lasso codes for dense dictionaries."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_boolean, check_integer, check_number
from calepin.core.errors import IncompatibleError
from calepin.penalties import L1, NonNegativeL1, Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import Codes, GradientRule
from calepin.solvers.kernels.encode import dense_terms, lasso_codes

__all__ = ["LassoCoder", "require_constants"]


@dataclass(frozen=True)
class LassoCoder:
    """Lasso to a certified duality gap, for Gaussian data and a real dense dictionary.

        minimise over z   0.5 ||y - z D||^2 + alpha ||z||_1      (optionally z >= 0)

    Codes are found by compiled homotopy (Osborne et al. 2000; Efron et al. 2004), or by FISTA on a GPU.

    Parameters
    ----------
    alpha : float
        Weight of the l1 norm, positive.
    tol : float, default 1e-6
        Duality gap to reach, relative to ||y||^2.
    nonnegative : bool, default False
        Whether codes are nonnegative.
    certify : bool, default True
        Whether gaps are computed. If not, only samples whose homotopy failed are coded again.
    """

    alpha: float
    tol: float = 1e-6
    nonnegative: bool = False
    certify: bool = True

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, above=0)
        check_number("tol", self.tol, above=0)
        check_boolean("nonnegative", self.nonnegative)
        check_fields(self)

    @property
    def penalty(self) -> Penalty:
        """The l1 norm times alpha."""
        return (NonNegativeL1 if self.nonnegative else L1)(float(self.alpha))

    def encode(
        self, problem: Problem, *, z0: Tensor | None = None, gradient: GradientRule | None = None
    ) -> Codes:
        """Return codes, with gaps and residuals if `certify` is True."""
        check_arguments(LassoCoder.encode, locals())
        require_constants("LassoCoder", gradient)
        terms = dense_terms(problem, "LassoCoder")
        found = lasso_codes(
            terms, float(self.alpha), tol=self.tol, nonnegative=bool(self.nonnegative), certify=self.certify
        )
        converged = None
        if found.gap is not None:
            length = torch.linalg.vector_norm(terms.y, dim=1)  # one pass, without a copy
            converged = found.gap <= self.tol * length.double().square()
        return Codes(found.values, problem.offset, found.gap, found.residual, converged)

    def shortened(self, n_rounds: int) -> Self:
        """Return the coder itself: it stops when the duality gap is small."""
        check_integer("n_rounds", n_rounds)
        return self


def require_constants(coder: str, gradient: GradientRule | None) -> None:
    """Raise IncompatibleError if the gradient needs differentiable codes, which compiled coders lack."""
    if gradient not in (None, "dec"):
        raise IncompatibleError(
            f"{coder} needs gradient 'dec', got {gradient!r}: its codes are constants; ProximalCoder can be "
            "differentiated"
        )
