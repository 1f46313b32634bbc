"""Exact codes of a problem with a dense dictionary: compiled on the CPU, batched torch on a GPU.

    y ~ N(z D + offset, I)     over the observed entries, D the rows of a `Dense` operator

Settings are plain arguments. The coders store the settings and return the results as `Codes`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Gaussian
from calepin.operators.base import Compose
from calepin.operators.dense import Dense
from calepin.operators.mask import Mask
from calepin.problem import Problem
from calepin.solvers.kernels.checks import check_finite

__all__ = [
    "DenseTerms",
    "Found",
    "batched_lasso_codes",
    "batched_pursuit_codes",
    "dense_terms",
    "lasso_codes",
    "pursuit_codes",
]


@dataclass(frozen=True, eq=False)
class DenseTerms:
    """The tensors of a dense Gaussian problem: y (n, m), atoms (p, m), observed (n, m) or None.

    Missing entries of y are zero.
    """

    y: Tensor
    atoms: Tensor
    observed: Tensor | None = None

    def problem(self, rows: slice = slice(None)) -> Problem:
        """Return the problem of some rows."""
        operator = Dense(self.atoms)
        if self.observed is None:
            return Problem(operator, Gaussian(), self.y[rows])
        return Problem(Mask(self.observed[rows], per_sample=True) @ operator, Gaussian(), self.y[rows])


@dataclass(frozen=True, eq=False)
class Found:
    """Codes (CSR on the CPU, a tensor on a GPU), gaps and squared residual norms; unknown ones are None."""

    values: Any
    gap: Tensor | None
    residual: Tensor | None


def dense_terms(problem: Problem, coder: str) -> DenseTerms:
    """Return the terms of a problem; raise IncompatibleError if it is not dense, real and Gaussian."""
    operator, observed = problem.operator, None
    if isinstance(operator, Compose) and isinstance(operator.outer, Mask):
        operator, observed = operator.inner, operator.outer.observed
    if not isinstance(operator, Dense) or operator.atoms.is_complex():
        raise IncompatibleError(
            f"{coder} needs a real Dense operator, with or without a Mask, got "
            f"{type(problem.operator).__name__}; ProximalCoder takes any operator"
        )
    if not isinstance(problem.likelihood, Gaussian):
        raise IncompatibleError(
            f"{coder} needs a Gaussian likelihood, got {type(problem.likelihood).__name__}; "
            "ProximalCoder takes any likelihood"
        )
    y = problem.y
    if isinstance(problem.offset, Tensor) or problem.offset:
        y = y - problem.offset
    if observed is not None:
        observed = observed.expand(y.shape)
        y = torch.where(observed, y, 0)
    return DenseTerms(y.detach(), operator.atoms.detach(), observed)


def lasso_codes(terms: DenseTerms, alpha: float, *, tol: float, nonnegative: bool, certify: bool) -> Found:
    """Return lasso codes of a dense problem: see `encode_lasso` and `batched_lasso`."""
    if terms.y.is_cuda:
        return batched_lasso_codes(terms, alpha, tol=tol, nonnegative=nonnegative)
    from calepin.solvers.kernels.encode_lasso import encode_lasso

    y, atoms, mask = _arrays(terms)
    return _found(encode_lasso(y, atoms, alpha, tol=tol, nonnegative=nonnegative, mask=mask, certify=certify))


def batched_lasso_codes(terms: DenseTerms, alpha: float, *, tol: float, nonnegative: bool) -> Found:
    """Return lasso codes by batched torch, on the device of the terms."""
    from calepin.solvers.kernels.torch_lasso import batched_lasso

    codes, gap, residual, _ = batched_lasso(
        terms.y, terms.atoms, alpha, tol=tol, nonnegative=nonnegative, mask=terms.observed
    )
    return Found(codes, gap, residual)


def pursuit_codes(
    terms: DenseTerms,
    *,
    n_nonzero: int | None,
    tol: np.ndarray | None,
    selection: str,
    nonnegative: bool,
    certify: bool,
) -> Found:
    """Return greedy codes of a dense problem: see `encode_pursuit` and `batched_pursuit`."""
    if terms.y.is_cuda:
        return batched_pursuit_codes(
            terms, n_nonzero=n_nonzero, tol=tol, selection=selection, nonnegative=nonnegative
        )
    from calepin.solvers.kernels.encode_pursuit import encode_pursuit

    y, atoms, mask = _arrays(terms)
    return _found(
        encode_pursuit(
            y, atoms, n_nonzero=n_nonzero, tol=tol, selection=selection, nonnegative=nonnegative,
            mask=mask, certify=certify,
        )
    )  # fmt: skip


def batched_pursuit_codes(
    terms: DenseTerms, *, n_nonzero: int | None, tol: np.ndarray | None, selection: str, nonnegative: bool
) -> Found:
    """Return greedy codes by batched torch, on the device of the terms."""
    from calepin.solvers.kernels.torch_pursuit import batched_pursuit

    codes, _, residual, _ = batched_pursuit(
        terms.y, terms.atoms, n_nonzero=n_nonzero, tol=tol, selection=selection, nonnegative=nonnegative,
        mask=terms.observed,
    )  # fmt: skip
    return Found(codes, None, residual)


def _arrays(terms: DenseTerms) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the terms as contiguous arrays; kernels do not support NaN, infinity or overflow."""
    samples = terms.y.contiguous()
    y, atoms = samples.numpy(), terms.atoms.contiguous().numpy()
    flat = samples.view(-1)
    if not 1e-280 <= float(torch.dot(flat, flat)) <= 1e280:  # one fast pass; the check needs two
        check_finite(y, "y")
    check_finite(atoms, "atoms")
    if terms.observed is None or bool(terms.observed.all()):
        return y, atoms, None
    return y, atoms, terms.observed.numpy()


def _found(encoded: Any) -> Found:
    gap, residual = (None if v is None else torch.from_numpy(v) for v in (encoded.gap, encoded.residual))
    return Found(encoded.codes, gap, residual)
