"""Levenberg-Marquardt for latents: damped Gauss-Newton steps, with separate damping for each sample."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.checks import check_number
from calepin.core.samples import inner, norm
from calepin.generators.latent_problem import LatentProblem, Point

__all__ = ["LMState", "LevenbergMarquardt"]

_LARGEST_DAMPING = 1e10
_SMALLEST_DAMPING = 1e-9
_BISECTIONS = 60
_SMALL = 1 << 16  # number of entries below which computing all Jacobians is faster than selecting some


@dataclass(frozen=True, eq=False)
class LMState(Point):
    """A point with normal equations, damping, last predicted decrease and rounding error."""

    gradient: Tensor
    hessian: Tensor
    damping: Tensor
    promise: Tensor
    rounding: Tensor


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped Gauss-Newton steps for a whole batch, with separate damping for each sample.

        (H + damping * tr(H)/k * I) step = -gradient,        H = J^H W J + prior I

    A step is accepted if it lowers the objective. The damping decreases if the quadratic model predicted the
    decrease well, and increases otherwise (Nocedal and Wright, "Numerical optimization", section 10.3). With
    a radius, a step goes to the minimum of the damped model within the ball.

    Parameters
    ----------
    damping : float, default 0.1
        Initial damping, positive.
    """

    damping: float = 0.1

    n_iter: ClassVar[int] = 100

    def __post_init__(self) -> None:
        check_number("damping", self.damping, above=0)
        check_fields(self)

    @property
    def requires(self) -> Mapping[str, str]:
        """Required attributes of the problem: see `calepin.solvers.Solver`."""
        return {"problem.generator": "give LatentProblem(problem, generator)"}

    def check(self, problem: LatentProblem) -> None:
        """Do nothing: no setting makes the method diverge."""

    @torch.no_grad()
    def init(self, problem: LatentProblem, z0: Tensor) -> LMState:
        """Return the state at z0, projected onto the ball."""
        point = problem.at(problem.project(z0))
        y = problem.problem.y
        rounding = torch.finfo(point.value.dtype).eps ** 2 * inner(y, y)
        damping = torch.full_like(point.value, self.damping)
        promise = torch.full_like(damping, math.inf)
        return LMState(*_parts(point), *problem.normal_equations(point), damping, promise, rounding)

    @torch.no_grad()
    def step(self, problem: LatentProblem, state: LMState) -> LMState:
        """Return the state after one trial step per sample, accepted where it lowers the objective."""
        move = _damped_step(state) if problem.radius is None else _step_in_ball(state, problem.radius)
        slope = state.gradient + 0.5 * (state.hessian @ move[..., None])[..., 0]
        predicted = -(move * slope).sum(1)
        trial, decrease = problem.move(state, state.z + move)
        ratio = decrease / predicted.clamp_min(torch.finfo(decrease.dtype).tiny)
        accepted = decrease > 0  # False for NaN
        factor = torch.where(
            accepted, torch.where(ratio > 0.75, 0.2, torch.where(ratio > 0.25, 1.0, 4.0)), 6.0
        )
        damping = (state.damping * factor).clamp(_SMALLEST_DAMPING, _LARGEST_DAMPING)
        # without a Cholesky factor there is no prediction yet: more damping gives a factor
        promise = torch.where(predicted > 0, predicted, math.inf)
        state = replace(state, damping=damping, promise=promise)
        return _moved(problem, state, trial, accepted)

    def rests(self, problem: LatentProblem, state: LMState, tol: float) -> Tensor:
        """Return which samples have converged: their predicted decrease is below `tol` times the objective.

        The prediction is the smaller one of a gradient step and of the last step, which is short at a kink
        where all longer steps were rejected. For an exact fit, the bound is the rounding error of the
        objective.
        """
        step = state.gradient / _trace(state.hessian)[:, None]
        if problem.radius is not None:
            step = state.z - problem.project(state.z - step)
        gain = 0.5 * (step * state.gradient).sum(1)
        # also False where the objective is not finite
        moving = torch.minimum(gain, state.promise) > tol * state.value + state.rounding
        return ~moving


def _damped_step(state: LMState) -> Tensor:
    """Solve the damped normal equations; without a Cholesky factor (NaN) the step is zero."""
    k = state.z.shape[1]
    damped = state.hessian.clone()
    damped.diagonal(dim1=1, dim2=2).add_((state.damping / k * _trace(state.hessian))[:, None])
    factor, failed = torch.linalg.cholesky_ex(damped)
    step = torch.cholesky_solve(-state.gradient[..., None], factor)[..., 0]
    return torch.where((failed == 0)[:, None], step, 0.0)


def _step_in_ball(state: LMState, radius: float) -> Tensor:
    """Return the step to the minimum of the damped model over ``||z|| <= radius``.

    It solves ``(H + damping I + mu I) z = b``; the norm of z falls as mu grows from 0, and mu is found
    by bisection of its logarithm in the eigenbasis of H.
    """
    values, vectors = torch.linalg.eigh(state.hessian.nan_to_num())
    extra = state.damping * _trace(state.hessian) / state.z.shape[1]
    values = values.clamp_min(0) + extra[:, None]
    in_basis = (vectors.mT @ state.z[..., None])[..., 0]
    target = values * in_basis - (vectors.mT @ state.gradient[..., None])[..., 0]
    high = norm(target) / radius
    low, mu = torch.zeros_like(high), torch.zeros_like(high)
    for _ in range(_BISECTIONS):
        outside = norm(target / (values + mu[:, None])) > radius
        low, high = torch.where(outside, mu, low), torch.where(outside, high, mu)
        mu = (low.clamp_min(1e-12 * high) * high).sqrt()
    return (vectors @ (target / (values + high[:, None]))[..., None])[..., 0] - state.z


def _moved(problem: LatentProblem, state: LMState, trial: Point, accepted: Tensor) -> LMState:
    """Return the state at accepted trial points; large Jacobians are recomputed only for those samples."""
    point = trial.where(accepted, state)
    if state.z.numel() * trial.coefficients.shape[1] < _SMALL or not problem.separable:
        gradient, hessian = problem.normal_equations(point)
    else:
        rows = torch.nonzero(accepted).flatten()
        if len(rows) == 0:
            return state
        gradient, hessian = problem.take(rows).normal_equations(point.take(rows))
        gradient = state.gradient.index_copy(0, rows, gradient)
        hessian = state.hessian.index_copy(0, rows, hessian)
    return LMState(*_parts(point), gradient, hessian, state.damping, state.promise, state.rounding)


def _parts(point: Point) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return point.z, point.value, point.coefficients, point.image


def _trace(hessian: Tensor) -> Tensor:
    """Return the trace of each matrix, above 0."""
    return hessian.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(hessian.dtype).tiny)
