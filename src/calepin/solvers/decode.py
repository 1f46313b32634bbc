"""Solvers for the latent behind an observation, and `decode`, which runs them from several starts.

    minimise over z   nll(A G(z) + offset, y) + (prior / 2) ||z||^2      with ||z|| <= radius

The objective has local minima, so that starts matter: a generator may know a good one, a z of an
earlier decoding is one, and of several random ones the best is kept for each sample.
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.core.random import randn
from calepin.core.samples import expand, inner, norm
from calepin.core.threads import single_threaded_torch
from calepin.generators.latent_problem import LatentProblem, Point, Rows
from calepin.likelihoods import Gaussian
from calepin.problem import Problem

__all__ = ["Adam", "Decoded", "LatentProblem", "LatentSolver", "LevenbergMarquardt", "decode"]

_BLOCK = 1 << 24  # entries of the Jacobians that are held at once
_LARGEST_DAMPING = 1e10
_SMALLEST_DAMPING = 1e-9
_BISECTIONS = 60
_LEAVE = 0.7  # part of a batch that still works, below which the others leave it
_SMALL = 1 << 16  # entries of Jacobians below which it is faster to compute all than to choose
_TELLS_STARTS_APART = 1e-4  # `tol` of all starts; only the best of them goes on to its own


class LatentSolver(Protocol):
    """What `decode` asks of a solver, beside what `solve` does."""

    n_iter: ClassVar[int]

    def init(self, problem: Any, z0: Tensor) -> Any:
        """Return the state before the first iteration, with `z`, `value` and `take(rows)`."""
        ...

    def step(self, problem: Any, state: Any) -> Any:
        """Return the state one iteration later."""
        ...

    def rests(self, problem: Any, state: Any, tol: float) -> Tensor:
        """Return which samples have nothing to gain any more, (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class LMState(Point):
    """A point, its normal equations, each sample's damping, what its last step promised, and rounding."""

    gradient: Tensor
    hessian: Tensor
    damping: Tensor
    promise: Tensor
    rounding: Tensor


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped Gauss-Newton steps, for the whole batch at once, each sample with its own damping.

        (H + damping * tr(H)/k * I) step = -gradient,        H = J^H W J + prior I

    A step that lowers the objective is taken; damping falls where the quadratic model predicted well
    and rises where it did not (Nocedal and Wright, "Numerical optimization", section 10.3). With a
    radius, a step goes to the minimum of the damped model within the ball.

    Parameters
    ----------
    damping : float, default 0.1
        The first one.
    """

    damping: float = 0.1

    n_iter: ClassVar[int] = 100
    requires: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if not 0 < self.damping < math.inf:
            raise ValueError(f"damping: expected a finite number above 0, got {self.damping!r}")

    def check(self, problem: Problem) -> None:
        """Do nothing: no setting lets a descent run away."""

    @torch.no_grad()
    def init(self, problem: Problem, z0: Tensor) -> LMState:
        """Return the state at z0, projected onto the ball."""
        problem = _latent(self, problem)
        point = problem.at(problem.project(z0))
        rounding = torch.finfo(point.value.dtype).eps ** 2 * inner(problem.y, problem.y)
        damping = torch.full_like(point.value, self.damping)
        promise = torch.full_like(damping, math.inf)
        return LMState(*_parts(point), *problem.normal_equations(point), damping, promise, rounding)

    @torch.no_grad()
    def step(self, problem: Problem, state: LMState) -> LMState:
        """Try one step for every sample, and take it where it lowers the objective."""
        problem = _latent(self, problem)
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
        # a matrix without a factor promises nothing yet: more damping gives it one
        promise = torch.where(predicted > 0, predicted, math.inf)
        state = replace(state, damping=damping, promise=promise)
        return _moved(problem, state, trial, accepted)

    def rests(self, problem: LatentProblem, state: LMState, tol: float) -> Tensor:
        """Return where a gradient step, or the last one, promises to gain less than `tol` of the objective.

        The last one is short where a kink has refused all longer ones. The floor is what rounding leaves of
        the objective of an exact fit.
        """
        step = state.gradient / _trace(state.hessian)[:, None]
        if problem.radius is not None:
            step = state.z - problem.project(state.z - step)
        gain = 0.5 * (step * state.gradient).sum(1)
        # false too where the objective is not finite
        working = torch.minimum(gain, state.promise) > tol * state.value + state.rounding
        return ~working


@dataclass(frozen=True, eq=False)
class AdamState(Rows):
    """Latents, the objective at the ones before, Adam's two moments, and the number of steps."""

    z: Tensor
    value: Tensor
    mean: Tensor
    square: Tensor
    t: Tensor


@dataclass(frozen=True)
class Adam:
    """Adam on the latents (Kingma and Ba 2015): the paper's recipe, 1000 steps of 1e-2.

    Parameters
    ----------
    learning_rate : float, default 1e-2
    """

    learning_rate: float = 1e-2

    n_iter: ClassVar[int] = 1000
    requires: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: expected a finite number above 0, got {self.learning_rate!r}")

    def check(self, problem: Problem) -> None:
        """Do nothing: Adam's steps are bounded."""

    def init(self, problem: Problem, z0: Tensor) -> AdamState:
        """Return the state at z0, projected onto the ball."""
        problem = _latent(self, problem)
        z = problem.project(z0)
        zero = torch.zeros_like(z)
        with torch.no_grad():
            return AdamState(z, problem.objective(z), zero, zero, torch.zeros_like(z[:, :1]))

    def step(self, problem: Problem, state: AdamState) -> AdamState:
        """Take one step for every sample."""
        problem = _latent(self, problem)
        value, gradient = problem.objective_and_gradient(state.z)
        with torch.no_grad():
            t = state.t + 1
            mean = 0.9 * state.mean + 0.1 * gradient
            square = 0.999 * state.square + 0.001 * gradient * gradient
            scale = (square / (1 - 0.999**t)).sqrt() + 1e-8
            z = problem.project(state.z - self.learning_rate * (mean / (1 - 0.9**t)) / scale)
        return AdamState(z, value, mean, square, t)

    def rests(self, problem: LatentProblem, state: AdamState, tol: float) -> Tensor:
        """Return False everywhere: its steps have no size that tells."""
        return torch.zeros_like(state.value, dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class Decoded:
    """What `decode` returns.

    Attributes
    ----------
    z : Tensor, shape (n, k)
        The best latents of each sample.
    objective : Tensor, shape (n,)
        nll and prior there.
    n_iter : int
        Iterations of the slowest start.
    converged : bool Tensor, shape (n,)
        Samples whose best start came to rest within `n_iter`; never with Adam.
    """

    z: Tensor
    objective: Tensor
    n_iter: int
    converged: Tensor


@torch.no_grad()
@single_threaded_torch()
def decode(
    problem: LatentProblem,
    *,
    solver: LatentSolver | None = None,
    n_starts: int = 1,
    z0: Tensor | None = None,
    n_iter: int | None = None,
    tol: float = 1e-6,
    rng: torch.Generator | None = None,
) -> Decoded:
    """Find the latent of each sample; the best of several starts is kept.

    All starts go on until they can be told apart, the best of them to its end. The result is the same
    whatever the number of threads.

    Parameters
    ----------
    problem : LatentProblem
    solver : LevenbergMarquardt or Adam, optional
        ``LevenbergMarquardt()`` by default.
    n_starts : int, default 1
        The first start is `z0`, else what the generator's ``initial_latents(problem)`` proposes (for a
        Gaussian likelihood), else random. Random ones are standard normal and the same for all
        samples, so that what is found for one does not depend on those beside it.
    z0 : Tensor, shape (n, k), optional
        A warm start: latents of an earlier decoding, or an encoder's.
    n_iter : int, optional
        Largest number of iterations: 100 for Levenberg-Marquardt, 1000 for Adam by default.
    tol : float, default 1e-6
        A sample rests when a gradient step would gain less than this share of its objective.
    rng : torch.Generator, optional
        Draws the starts; by default a fresh one with seed 0.

    Returns
    -------
    Decoded

    Raises
    ------
    ValueError
        If an argument is out of range, or if the generator and the operator don't fit.
    """
    solver = LevenbergMarquardt() if solver is None else solver
    n_iter = solver.n_iter if n_iter is None else n_iter
    for name, value in (("n_starts", n_starts), ("n_iter", n_iter)):
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name}: expected a positive integer, got {value!r}")
    starts = _starts(problem, n_starts, z0, rng)
    problem = problem.with_gram()
    if not problem.separable:
        return _search(problem, solver, starts, n_iter, tol)
    n, k = problem.code_shape
    n_coefficients = math.prod(problem.operator.in_shape)
    block = max(1, _BLOCK // (n_starts * k * n_coefficients))
    parts = []
    for i in range(0, n, block):
        rows = torch.arange(i, min(i + block, n), device=problem.y.device)
        some = [start[rows] for start in starts]
        parts.append(_search(problem.take(rows), solver, some, n_iter, tol))
    return Decoded(
        torch.cat([part.z for part in parts]),
        torch.cat([part.objective for part in parts]),
        max(part.n_iter for part in parts),
        torch.cat([part.converged for part in parts]),
    )


def _starts(
    problem: LatentProblem, n_starts: int, z0: Tensor | None, rng: torch.Generator | None
) -> list[Tensor]:
    shape, like = problem.code_shape, problem.y.real
    if z0 is not None and (z0.shape != shape or z0.dtype != like.dtype):
        raise ValueError(f"z0: expected shape {shape} and {like.dtype}, got {tuple(z0.shape)} and {z0.dtype}")
    propose = getattr(problem.generator, "initial_latents", None)
    first = [] if z0 is None else [z0]
    if z0 is None and propose is not None and isinstance(problem.likelihood, Gaussian):
        first = [propose(problem)]
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    drawn = [randn(shape[1:], like=like, generator=rng).expand(shape) for _ in range(n_starts - len(first))]
    return first + drawn


def _search(
    problem: LatentProblem, solver: LatentSolver, starts: list[Tensor], n_iter: int, tol: float
) -> Decoded:
    """Run all starts until they are told apart, and the best of each sample to its end."""
    if len(starts) == 1:
        return _run(problem, solver, starts[0], n_iter, tol)
    coarse = max(tol, _TELLS_STARTS_APART)
    n = len(starts[0])
    if problem.separable:  # as one batch
        each = torch.arange(n, device=problem.y.device).repeat(len(starts))
        found = _run(problem.take(each), solver, torch.cat(starts), n_iter, coarse)
        z, values = found.z.view(len(starts), n, -1), found.objective.view(len(starts), n)
        count, rest = found.n_iter, found.converged.view(len(starts), n)
    else:
        runs = [_run(problem, solver, start, n_iter, coarse) for start in starts]
        z, values = torch.stack([run.z for run in runs]), torch.stack([run.objective for run in runs])
        count, rest = max(run.n_iter for run in runs), torch.stack([run.converged for run in runs])
    best = values.nan_to_num(nan=math.inf).argmin(0)
    rows = torch.arange(n, device=best.device)
    if count >= n_iter or tol >= coarse:
        done = rest[best, rows] if tol >= coarse else torch.zeros_like(rest[0])
        return Decoded(z[best, rows], values[best, rows], count, done)
    end = _run(problem, solver, z[best, rows], n_iter - count, tol)
    return replace(end, n_iter=count + end.n_iter)


def _run(problem: LatentProblem, solver: LatentSolver, z0: Tensor, n_iter: int, tol: float) -> Decoded:
    """Iterate until all samples rest.

    One that rests is kept as it is: who else is in the batch, and for how long, must not matter. When
    enough of them rest to pay for the copies, they leave the batch.
    """
    whole, z = problem, z0.clone()
    resting = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    rows = torch.arange(len(z), device=z.device)
    state, count = solver.init(problem, z0), 0
    kept, rest = state.z, resting
    for count in range(1, n_iter + 1):  # noqa: B007  used below
        state = solver.step(problem, state)
        kept = torch.where(rest[:, None], kept, state.z)
        rest = rest | solver.rests(problem, state, tol)
        n_working = len(rest) - int(rest.sum())
        if n_working == 0:
            break
        if problem.separable and n_working < _LEAVE * len(rest):
            z[rows], resting[rows] = kept, rest
            left = torch.nonzero(~rest).flatten()
            problem, state, rows = problem.take(left), state.take(left), rows[left]
            kept, rest = state.z, torch.zeros_like(rest[left])
    z[rows], resting[rows] = kept, rest
    return Decoded(z, whole.objective(z), count, resting)


def _damped_step(state: LMState) -> Tensor:
    """Solve the damped normal equations; a matrix without a factor (NaN) gives no step."""
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
    """Return the state at the trial where it is accepted; a large Jacobian is new only there."""
    point = Point(
        *(
            torch.where(expand(accepted, new), new, old)
            for new, old in zip(_parts(trial), _parts(state), strict=True)
        )
    )
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


def _latent(solver: Any, problem: Problem) -> LatentProblem:
    if not isinstance(problem, LatentProblem):
        raise IncompatibleError(
            f"{type(solver).__name__} needs problem.generator, which {type(problem).__name__} does not "
            "have; give a LatentProblem"
        )
    return problem
