"""Solvers for all units of a population at once.

    minimise over w_i   f_i(w_i) + penalty(coupling part of w_i),      f_i = nll_i + 0.5 * ridge * ||w_i||^2

The units share one design X, and with it one metric ``G = X' X``: the Hessian of unit i is near ``c_i G``
with the mean weight c_i of its bins. Without a penalty, L-BFGS (Liu and Nocedal 1989) starts each step from
the inverse of this metric. With one, each step minimises the quadratic of this metric plus the penalty
exactly, by the library's lasso (homotopy) or, for groups, by FISTA: a proximal Newton method (Lee, Sun and
Saunders 2014). Both stop when the gain of the next step, as the metric predicts it, is below `tol`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from sklearn.exceptions import ConvergenceWarning

from calepin.core.threads import single_threaded_blas
from calepin.penalties import L1, GroupL1
from calepin.solvers.coders.encode import sparse_encode

__all__ = ["Evaluate", "Metric", "Solution", "solve_penalized", "solve_smooth"]

Floats = NDArray[np.float64]
Evaluate = Callable[[Floats, NDArray[np.intp]], tuple[Floats, Floats]]
"""Weights (n_columns, n) of some units -> values (n,) and gradients (n_columns, n) of f."""

_MEMORY = 8
_ARMIJO = 1e-4
_HALVINGS = 30
_DEPENDENT = 1e-10  # smallest eigenvalue of the metric, relative to the largest
_SUBPROBLEM = 1e-9  # relative duality gap


@dataclass(frozen=True)
class Metric:
    """The metric G of all units, the factor c_i of each, and the ridge."""

    gram: Floats
    scale: Floats
    ridge: float


@dataclass(frozen=True)
class Solution:
    """Weights (n_columns, n_units), and whether each unit has converged."""

    weights: Floats
    converged: NDArray[np.bool_]
    n_iter: int


def solve_smooth(evaluate: Evaluate, start: Floats, metric: Metric, *, max_iter: int, tol: float) -> Solution:
    """Minimise f by L-BFGS in the metric.

    Raises
    ------
    ValueError
        Linearly dependent columns without a ridge.
    """
    with single_threaded_blas():
        values, vectors = np.linalg.eigh(metric.gram)
    if metric.ridge == 0 and values[0] < _DEPENDENT * values[-1]:
        raise ValueError(
            "covariates: expected linearly independent columns, got dependent ones: leave some out, or use "
            "a ridge"
        )
    curvature = np.maximum(values, 0)[:, None] * metric.scale + metric.ridge

    def inverse(gradient: Floats, units: NDArray[np.intp]) -> Floats:
        with single_threaded_blas():
            return vectors @ ((vectors.T @ gradient) / curvature[:, units])

    return _descend(evaluate, start, _LBFGS(inverse), max_iter, tol)


class _LBFGS:
    """Directions of L-BFGS for many units at once; pairs without curvature are left out unit by unit."""

    def __init__(self, inverse: Callable[[Floats, NDArray[np.intp]], Floats]) -> None:
        self.inverse = inverse
        self.pairs: list[tuple[Floats, Floats, Floats]] = []

    def take(self, rows: NDArray[np.bool_]) -> None:
        self.pairs = [(s[:, rows], y[:, rows], rho[rows]) for s, y, rho in self.pairs]

    def add(self, s: Floats, y: Floats) -> None:
        product = (s * y).sum(0)
        rho = np.divide(1, product, out=np.zeros_like(product), where=product > 1e-14)
        self.pairs = [*self.pairs[-_MEMORY + 1 :], (s, y, rho)]

    def direction(self, gradient: Floats, units: NDArray[np.intp]) -> Floats:
        q, factors = gradient.copy(), []
        for s, y, rho in reversed(self.pairs):
            factors.append(rho * (s * q).sum(0))
            q -= factors[-1] * y
        q = self.inverse(q, units)
        for (s, y, rho), factor in zip(self.pairs, reversed(factors), strict=True):
            q += s * (factor - rho * (y * q).sum(0))
        return -q


def _descend(evaluate: Evaluate, start: Floats, memory: _LBFGS, max_iter: int, tol: float) -> Solution:
    weights, units = start.copy(), np.arange(start.shape[1])
    w = weights.copy()
    value, gradient = evaluate(w, units)
    n_iter = 0
    converged = np.zeros(len(units), bool)
    for n_iter in range(1, max_iter + 1):
        step = memory.direction(gradient, units)
        slope = (gradient * step).sum(0)
        moving = -0.5 * slope > tol
        weights[:, units] = w
        converged[units[~moving]] = True
        if not moving.any():
            return Solution(weights, converged, n_iter - 1)
        if not moving.all():
            memory.take(moving)
            w, gradient, step = w[:, moving], gradient[:, moving], step[:, moving]
            value, slope, units = value[moving], slope[moving], units[moving]
        moved, value, new_gradient = _search(evaluate, w, value, gradient, step, slope, units)
        memory.add(moved - w, new_gradient - gradient)
        w, gradient = moved, new_gradient
    weights[:, units] = w
    _warn(len(units), max_iter)
    return Solution(weights, converged, n_iter)


def _search(
    evaluate: Evaluate,
    w: Floats,
    value: Floats,
    gradient: Floats,
    step: Floats,
    slope: Floats,
    units: NDArray[np.intp],
) -> tuple[Floats, Floats, Floats]:
    """Halve the steps that do not lower f enough; return weights, values and gradients after them."""
    size = np.ones(len(units))
    moved = w + step
    new_value, new_gradient = evaluate(moved, units)
    slack = 1e-12 * np.abs(value)
    for _ in range(_HALVINGS):
        bad = ~(new_value <= value + _ARMIJO * size * slope + slack)
        if not bad.any():
            break
        size[bad] /= 2
        moved[:, bad] = w[:, bad] + size[bad] * step[:, bad]
        new_value[bad], new_gradient[:, bad] = evaluate(moved[:, bad], units[bad])
    return moved, new_value, new_gradient


def solve_penalized(
    evaluate: Evaluate,
    start: Floats,
    metric: Metric,
    *,
    penalty: L1 | GroupL1,
    n_free: int,
    max_iter: int,
    tol: float,
) -> Solution:
    """Minimise f plus the penalty on all weights but the first `n_free`, by proximal Newton steps."""
    model = _Quadratic(metric, penalty, n_free)
    weights, units, scale = start.copy(), np.arange(start.shape[1]), metric.scale.copy()
    converged = np.zeros(len(units), bool)
    w = weights.copy()
    value, gradient = evaluate(w, units)
    cost = model.penalty_of(w)
    n_iter = 0
    for n_iter in range(1, max_iter + 1):
        step = model.minimiser(w, gradient, scale) - w
        slope = (gradient * step).sum(0) + model.penalty_of(w + step) - cost
        moving = -slope > 2 * tol
        weights[:, units] = w
        converged[units[~moving]] = True
        if not moving.any():
            return Solution(weights, converged, n_iter - 1)
        w, gradient, step, units = w[:, moving], gradient[:, moving], step[:, moving], units[moving]
        value, slope, scale, cost = value[moving], slope[moving], scale[moving], cost[moving]
        size, slack = np.ones(len(units)), 1e-12 * np.abs(value)
        moved = w + step
        new_value, new_gradient = evaluate(moved, units)
        for _ in range(_HALVINGS):
            total = new_value + model.penalty_of(moved)
            bad = ~(total <= value + cost + _ARMIJO * size * slope + slack)
            if not bad.any():
                break
            size[bad] /= 2
            moved[:, bad] = w[:, bad] + size[bad] * step[:, bad]
            new_value[bad], new_gradient[:, bad] = evaluate(moved[:, bad], units[bad])
        scale = model.scale_after(moved - w, new_gradient - gradient, scale)
        w, value, gradient, cost = moved, new_value, new_gradient, model.penalty_of(moved)
    weights[:, units] = w
    _warn(len(units), max_iter)
    return Solution(weights, converged, n_iter)


class _Quadratic:
    """The quadratic ``g' (v - w) + 0.5 c (v - w)' G (v - w)``, plus a penalty on weights not free."""

    def __init__(self, metric: Metric, penalty: L1 | GroupL1, n_free: int) -> None:
        self.penalty, self.n_free = penalty, n_free
        gram = metric.gram + metric.ridge / np.median(metric.scale) * np.eye(len(metric.gram))
        gram[np.diag_indices_from(gram)] += 1e-9 * np.trace(gram) / len(gram)
        free = slice(0, n_free)
        self.gram, self.cross = gram, gram[n_free:, free]
        with single_threaded_blas():
            self.free = cho_factor(gram[free, free])
            reduced = gram[n_free:, n_free:] - self.cross @ cho_solve(self.free, self.cross.T)
            self.lower = cholesky(reduced, lower=True)

    def minimiser(self, w: Floats, gradient: Floats, scale: Floats) -> Floats:
        """Return the minimiser for each unit.

        The free weights are eliminated. With ``L L' = S``, the rest of the quadratic, and z = c v, this is a
        lasso with the atoms L and the samples ``L^{-1} c q``, with the same penalty for all units.
        """
        n = self.n_free
        with single_threaded_blas():
            b = scale * (self.gram @ w) - gradient
            q = b[n:] - self.cross @ cho_solve(self.free, b[:n])
            samples = solve_triangular(self.lower, q, lower=True).T
            if isinstance(self.penalty, L1):
                alpha = float(self.penalty.alpha)
                codes = sparse_encode(samples, self.lower, alpha=alpha, tol=_SUBPROBLEM)
            else:
                codes = sparse_encode(samples, self.lower, penalty=self.penalty, tol=1e-8)
            v = np.empty_like(w)
            v[n:] = codes.T / scale
            v[:n] = cho_solve(self.free, b[:n] / scale - self.cross.T @ v[n:])
        return v

    def scale_after(self, step: Floats, change: Floats, scale: Floats) -> Floats:
        """Return the factors of the metric that explain the change of the gradient along the last step."""
        with single_threaded_blas():
            length = (step * (self.gram @ step)).sum(0)
        curvature = np.divide((step * change).sum(0), length, out=scale.copy(), where=length > 0)
        return np.clip(curvature, 0.1 * scale, 10 * scale)

    def penalty_of(self, w: Floats) -> Floats:
        """Return the penalty of each unit, (n,)."""
        import torch

        return self.penalty.value(torch.from_numpy(np.ascontiguousarray(w[self.n_free :].T))).numpy()


def _warn(n_units: int, max_iter: int) -> None:
    warnings.warn(
        f"max_iter: {n_units} units have not converged in {max_iter} iterations: raise it, or use a ridge",
        ConvergenceWarning,
        stacklevel=4,
    )
