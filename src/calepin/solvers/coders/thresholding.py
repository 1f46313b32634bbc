"""Codes by iterative hard thresholding, for dense dictionaries."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from scipy import sparse
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_boolean, check_integer, check_number
from calepin.core.threads import run_blocks, single_threaded_torch
from calepin.penalties import HardThreshold, Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import Codes, GradientRule
from calepin.solvers.coders.lasso import require_constants
from calepin.solvers.kernels.encode import DenseTerms, dense_terms
from calepin.solvers.proximal import IHT
from calepin.solvers.solve import solve
from calepin.solvers.sparse_layers import sparse_layers

__all__ = ["IHTCoder"]

_STEP_SIZE = 0.2
_BLOCK = 256  # samples per block, independent of the number of threads


@dataclass(frozen=True)
class IHTCoder:
    """A fixed number of iterations of `calepin.solvers.IHT`, starting from zero.

        z <- H_b( z + step_size (y - z D) D^T )

    H_b keeps entries of magnitude above b, at any step size. Meant for atoms of unit norm (Rambhatla, Li and
    Haupt, "NOODL", 2019, Algorithm 1).

    Parameters
    ----------
    threshold : float
        Threshold b, positive.
    nonnegative : bool, default False
        Whether codes are nonnegative.
    step_size : float, optional
        Step size. Default: 0.2, as in the paper, but at most 1 / L, with L the largest eigenvalue of D D^T.
    n_iter : int, default 50
        Number of iterations.
    """

    threshold: float
    nonnegative: bool = False
    step_size: float | None = None
    n_iter: int = 50

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, above=0)
        check_boolean("nonnegative", self.nonnegative)
        check_number("step_size", self.step_size, above=0, optional=True)
        check_integer("n_iter", self.n_iter)
        check_fields(self)

    @property
    def penalty(self) -> Penalty:
        """The hard threshold, which adds nothing to the objective."""
        return HardThreshold(self.threshold, nonnegative=self.nonnegative)

    def encode(
        self, problem: Problem, *, z0: Tensor | None = None, gradient: GradientRule | None = None
    ) -> Codes:
        """Return codes; their convergence is unknown."""
        check_arguments(IHTCoder.encode, locals())
        require_constants("IHTCoder", gradient)
        terms = dense_terms(problem, "IHTCoder")
        step_size = min(_STEP_SIZE, 1 / problem.lipschitz()) if self.step_size is None else self.step_size
        solver = IHT(self.threshold, step_size=step_size, nonnegative=self.nonnegative)
        if terms.y.is_cuda:
            return Codes(self._iterate(terms, slice(None), solver), problem.offset)
        with torch.no_grad():
            found = sparse_layers(terms.problem(slice(None)), solver, self.n_iter)
        if found is not None:
            return Codes(sparse.csr_array(found.numpy()), problem.offset)

        def block(start: int, stop: int) -> sparse.csr_array:
            return sparse.csr_array(self._iterate(terms, slice(start, stop), solver).numpy())

        with single_threaded_torch():
            blocks = run_blocks(block, len(terms.y), _BLOCK)
        codes: Any = blocks[0] if len(blocks) == 1 else sparse.vstack(blocks, format="csr")
        return Codes(sparse.csr_array(codes), problem.offset)

    def shortened(self, n_rounds: int) -> Self:
        """Return the coder itself: it needs all of its iterations."""
        check_integer("n_rounds", n_rounds)
        return self

    def _iterate(self, terms: DenseTerms, rows: slice, solver: IHT) -> Tensor:
        with torch.no_grad():
            return solve(terms.problem(rows), solver, n_iter=self.n_iter).z
