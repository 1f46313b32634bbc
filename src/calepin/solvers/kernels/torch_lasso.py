"""The lasso for batches of tensors on any device, with the certificate of the compiled coder.

    minimise over z   0.5 ||x - z D||^2 + alpha ||z||_1      (optionally z >= 0)

FISTA (Beck and Teboulle 2009), with a step size per atom and restarts per sample (O'Donoghue and Candes
2015), finds supports and signs; the code on the support is then solved for in float64. The gap is computed
from the true residual; samples that reach their goal are removed from the batch.
"""

import warnings

import torch
from torch import Tensor

from calepin.solvers.kernels.torch_support import (
    gather_support,
    sample_blocks,
    scatter_support,
    solve_support,
    support_gram,
)

__all__ = ["batched_lasso"]

MAX_ITER = 20_000
CHECK_EVERY = 20


def batched_lasso(
    X: Tensor,
    atoms: Tensor,
    alpha: float,
    *,
    tol: float = 1e-6,
    nonnegative: bool = False,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return codes, duality gaps, squared residual norms and 0 of checked samples.

    X (n, m) holds zeros where `mask` (n, m) is False; atoms (p, m). float32 or float64.
    """
    codes = X.new_zeros(len(X), len(atoms))
    gap, residual = (X.new_zeros(len(X), dtype=torch.float64) for _ in range(2))
    step = _steps(atoms)
    if step is not None:
        for rows in sample_blocks(len(X), *atoms.shape):
            batch = _Batch(X[rows], atoms, alpha, tol, nonnegative, None if mask is None else mask[rows])
            codes[rows], gap[rows], residual[rows] = batch.run(step)
    else:
        residual[:] = X.double().square().sum(1)
    missed = int((gap > tol * X.double().square().sum(1)).sum())
    if missed:
        from sklearn.exceptions import ConvergenceWarning

        warnings.warn(
            f"the duality gap of {missed} of {len(X)} samples exceeds tol = {tol:g} times ||x||^2",
            ConvergenceWarning,
            stacklevel=2,
        )
    return codes, gap, residual, 0


def _steps(atoms: Tensor) -> Tensor | None:
    """Return step sizes of the coefficients, (p,), so that D^T D is at most diag(1 / step)."""
    norms = torch.linalg.vector_norm(atoms.double(), dim=1)
    if not norms.any():
        return None
    # The coefficient of a zero atom never changes: any step size is valid.
    norms = torch.where(norms > 0, norms, norms.max())
    bound = torch.linalg.matrix_norm(atoms.double() / norms.unsqueeze(1), 2).square()
    return (1 / (1.01 * bound * norms.square())).to(atoms.dtype)


class _Batch:
    """Samples that are coded together, and the best codes found for each."""

    def __init__(self, X, atoms, alpha, tol, nonnegative, mask):
        self.X, self.atoms, self.mask = X, atoms, mask
        self.alpha, self.nonnegative = alpha, nonnegative
        n = len(X)
        self.goal = tol * X.double().square().sum(1)
        self.codes = X.new_zeros(n, len(atoms))
        self.gap = X.new_full((n,), torch.inf, dtype=torch.float64)
        self.residual = torch.zeros_like(self.gap)

    def run(self, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Iterate until every duality gap is small enough; return codes, gaps and residuals."""
        rows = torch.arange(len(self.X), device=self.X.device)
        Z = self.codes.clone()
        self._keep(rows, Z.double())
        rows = rows[self.gap > self.goal]
        X, Z = self.X[rows], Z[rows]
        Y, t = Z, Z.new_ones(len(Z), 1)
        for iteration in range(1, MAX_ITER + 1):
            if not len(rows):
                break
            mask = None if self.mask is None else self.mask[rows]
            new = self._shrink(Y + step * _correlate(X, Y, self.atoms, mask)[1], step)
            uphill = ((Y - new) * (new - Z) / step).sum(1, keepdim=True) > 0
            t_new = torch.where(uphill, 1.0, (1 + (1 + 4 * t * t).sqrt()) / 2)
            Y = new + torch.where(uphill, 0.0, (t - 1) / t_new) * (new - Z)
            Z, t = new, t_new
            if iteration % CHECK_EVERY == 0:
                self._keep(rows, Z.double())
                self._keep(rows, self._on_support(rows, Z))
                left = self.gap[rows] > self.goal[rows]
                rows, X, Z, Y, t = rows[left], X[left], Z[left], Y[left], t[left]
        return self.codes, self.gap, self.residual

    def _shrink(self, V: Tensor, step: Tensor) -> Tensor:
        size = ((V if self.nonnegative else V.abs()) - step * self.alpha).clamp_min(0)
        return size if self.nonnegative else V.sign() * size

    def _on_support(self, rows: Tensor, Z: Tensor) -> Tensor:
        """Solve the optimality conditions for the supports and signs of Z, in float64."""
        atoms, X = self.atoms.double(), self.X[rows].double()
        index, valid = gather_support(Z != 0)
        if index.shape[1] > atoms.shape[1]:  # the support is still too large
            return Z.double()
        mask = None if self.mask is None else self.mask[rows].double()
        gram = support_gram(atoms, index, valid, mask)
        signs = Z.gather(1, index).sign().double()
        right = (X @ atoms.T).gather(1, index) - self.alpha * signs
        code = solve_support(gram, torch.where(valid, right, 0))
        code = torch.where(code * signs > 0, code, 0)
        return scatter_support(code, index, valid, len(atoms))

    def _keep(self, rows: Tensor, Z: Tensor) -> None:
        """Certify codes in float64, and store those with a smaller gap than before."""
        X, atoms = self.X[rows].double(), self.atoms.double()
        mask = None if self.mask is None else self.mask[rows]
        W, C = _correlate(X, Z, atoms, mask)
        rounded = Z.to(self.codes.dtype)
        R = W if rounded.dtype == Z.dtype else _correlate(X, rounded.double(), atoms, mask)[0]
        largest = (C if self.nonnegative else C.abs()).amax(1).clamp_min(0)
        ww, wx = (W * W).sum(1), (W * X).sum(1)
        scale = torch.where(ww > 0, wx / ww, 1.0)
        scale = torch.where(largest * scale > self.alpha, self.alpha / largest, scale).clamp_min(0)
        residual = (R * R).sum(1)
        primal = 0.5 * residual + self.alpha * rounded.double().abs().sum(1)
        gap = (primal - scale * wx + 0.5 * scale.square() * ww).clamp_min(0)
        better = gap < self.gap[rows]
        rows = rows[better]
        self.codes[rows], self.gap[rows] = rounded[better], gap[better]
        self.residual[rows] = residual[better]


def _correlate(X: Tensor, Z: Tensor, atoms: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the residuals X - Z D over observed entries, and their correlations with the atoms."""
    R = X - Z @ atoms
    if mask is not None:
        R = R * mask
    return R, R @ atoms.T
