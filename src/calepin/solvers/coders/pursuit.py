"""Greedy codes, for dense dictionaries."""

import warnings
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_array, check_boolean, check_integer, check_one_of
from calepin.problem import Problem
from calepin.solvers.coders.coder import Codes, GradientRule
from calepin.solvers.coders.lasso import require_constants
from calepin.solvers.kernels.checks import check_tol
from calepin.solvers.kernels.encode import dense_terms, pursuit_codes

__all__ = ["PursuitCoder"]


@dataclass(frozen=True)
class PursuitCoder:
    """Greedy pursuit, one atom at a time, for Gaussian data and a real dense dictionary.

        minimise over z   ||y - z D||^2     with at most n_nonzero nonzeros, or
        minimise over z   ||z||_0           with ||y - z D||^2 <= tol

    Orthogonal matching pursuit (Pati et al. 1993) or orthogonal least squares (Chen et al. 1989); all
    coefficients are refitted in each step.

    Parameters
    ----------
    n_nonzero : int, optional
        Largest number of atoms in a code.
    tol : float or array of shape (n,), optional
        Squared residual norm at which to stop. At least one of `n_nonzero` and `tol` is required.
    nonnegative : bool, default False
        Whether codes are nonnegative.
    selection : {"omp", "ols"}, default "omp"
        Next atom: "omp" selects the one most correlated with the residual, ``|<d, r>| / ||d||``; "ols" the
        one that lowers the residual norm most.
    certify : bool, default True
        Whether residuals are computed even without a `tol`.
    """

    n_nonzero: int | None = None
    tol: Any = None
    nonnegative: bool = False
    selection: Literal["omp", "ols"] = "omp"
    certify: bool = True

    def __post_init__(self) -> None:
        check_one_of("selection", self.selection, ("omp", "ols"))
        check_boolean("nonnegative", self.nonnegative)
        if self.n_nonzero is None and self.tol is None:
            raise ValueError("n_nonzero: expected a number of atoms, or tol given, got neither")
        check_integer("n_nonzero", self.n_nonzero, optional=True)
        if self.tol is not None:
            check_tol(self.tol, None) if np.ndim(self.tol) == 0 else check_array("tol", self.tol)
        check_fields(self)

    @property
    def penalty(self) -> None:
        """None: the number of nonzeros or the residual is limited instead."""
        return None

    def encode(
        self, problem: Problem, *, z0: Tensor | None = None, gradient: GradientRule | None = None
    ) -> Codes:
        """Return codes, with squared residual norms if they are computed."""
        check_arguments(PursuitCoder.encode, locals())
        require_constants("PursuitCoder", gradient)
        terms = dense_terms(problem, "PursuitCoder")
        if self.n_nonzero is not None and self.n_nonzero > len(terms.atoms):
            warnings.warn(
                f"n_nonzero: expected at most {len(terms.atoms)}, the number of atoms, got {self.n_nonzero}; "
                "all atoms may be used",
                RuntimeWarning,
                stacklevel=2,
            )
        tol = None if self.tol is None else check_tol(self.tol, len(terms.y))
        found = pursuit_codes(
            terms,
            n_nonzero=None if self.n_nonzero is None else min(self.n_nonzero, len(terms.atoms)),
            tol=tol,
            selection=self.selection,
            nonnegative=bool(self.nonnegative),
            certify=self.certify,
        )
        converged = None
        if found.residual is not None and tol is not None:
            converged = found.residual <= torch.as_tensor(tol, device=found.residual.device)
        return Codes(found.values, problem.offset, None, found.residual, converged)

    def shortened(self, n_rounds: int) -> Self:
        """Return the coder itself: fewer atoms would give other codes."""
        check_integer("n_rounds", n_rounds)
        return self
