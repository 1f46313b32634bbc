"""One iteration of an untrained fit, and its state."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.core.samples import Rows, norm
from calepin.networks.jacobian import Jacobian
from calepin.networks.untrained import UntrainedNetwork
from calepin.problem import Problem
from calepin.solvers.first_order import DescentState, Optimizer

__all__ = ["FitIteration", "FitPoint", "FitProblem", "FitState"]

_RUNAWAY = 10.0  # a fit has diverged if its loss exceeds the best by so many times the initial loss
_MOST_REDUCTIONS = 10
_PLATEAU_GAIN = 0.01


@dataclass(frozen=True, eq=False)
class FitPoint(Rows):
    """Weights z (n, P), their loss (n,) and its gradient, signals and residuals.

    `held_out` is the loss on the held-out measurements, or the loss itself if there are none.
    """

    z: Tensor
    value: Tensor
    gradient: Tensor
    residual: Tensor
    held_out: Tensor
    x: Tensor


@dataclass(frozen=True, eq=False)
class FitProblem:
    """The loss as a function of weights: a `Problem` whose signals are the output of a network.

    Parameters
    ----------
    network : UntrainedNetwork
    problem : Problem
        Its operator acts on the signals of the network.
    n_starts : int
        Number of weight vectors of each observation; they are neighbours in a batch.
    held : bool Tensor, shape (1, *y.shape[1:]), optional
        True for measurements that are held out.
    """

    network: UntrainedNetwork
    problem: Problem
    n_starts: int = 1
    held: Tensor | None = None

    def evaluate(self, z: Tensor) -> FitPoint:
        """Return loss and gradient of each problem; the gradient of the sum is that of each."""
        weights = z.detach().requires_grad_()
        with torch.enable_grad():
            x = self.network(weights)
            eta = self._predictor(x)
            y = self._repeated(self.problem.y)
            loss = self._loss(eta, y, self.held)
            (gradient,) = torch.autograd.grad(loss.sum(), weights)
        with torch.no_grad():
            miss = y - self.problem.likelihood.mean(eta)
            fitted = miss if self.held is None else miss.masked_fill(self.held, 0)
            target = y if self.held is None else y.masked_fill(self.held, 0)
            residual = norm(fitted) / norm(target).clamp_min(torch.finfo(loss.dtype).tiny)
            held_out = loss.detach() if self.held is None else self._loss(eta, y, ~self.held)
        return FitPoint(weights.detach(), loss.detach(), gradient, residual, held_out.detach(), x.detach())

    def lipschitz(self, z: Tensor) -> float:
        """Return ``curvature ||A||^2 ||J||^2``, with a bound on ||J|| or else its value at the first weights.

        Raises
        ------
        IncompatibleError
            If the second derivative of the likelihood has no bound.
        """
        if self.problem.likelihood.curvature is None:
            raise IncompatibleError(
                f"a step size of 1 / L needs likelihood.curvature, which "
                f"{type(self.problem.likelihood).__name__} does not have; give step_size"
            )
        bound = self.network.jacobian_norm_squared()
        if bound is None:
            bound = Jacobian(self.network, z[0]).norm_squared()
        return self.problem.lipschitz() * bound

    def _predictor(self, x: Tensor) -> Tensor:
        """Return A x + offset; an operator with a part for each sample sees one start at a time."""
        operator, offset = self.problem.operator, self.problem.offset
        if self.problem.separable or self.n_starts == 1:
            return operator(x) + (self._repeated(offset) if isinstance(offset, Tensor) else offset)
        starts = x.view(-1, self.n_starts, *x.shape[1:]).unbind(1)
        return torch.stack([operator(one) + offset for one in starts], 1).flatten(0, 1)

    def _repeated(self, values: Tensor) -> Tensor:
        """Repeat the value of each problem for its starts."""
        if self.n_starts == 1 or values.ndim < self.problem.y.ndim or len(values) == 1:
            return values
        return values.repeat_interleave(self.n_starts, 0)

    def _loss(self, eta: Tensor, y: Tensor, without: Tensor | None) -> Tensor:
        """Return the nll; entries that are left out have observation and predictor zero."""
        if without is not None:
            eta, y = eta.masked_fill(without, 0), y.masked_fill(without, 0)
        return self.problem.likelihood.nll(eta, y)


@dataclass(frozen=True, eq=False)
class FitState(Rows):
    """State of a fit, with one row per problem (and start).

    Attributes
    ----------
    optimizer : DescentState
        Current iterate, and the memory of the optimiser.
    best : FitPoint
        Iterate with the lowest loss so far (the held-out loss if there is one), and its iteration.
    reference, reference_iteration : Tensor (n,)
        Best loss at the last progress, and its iteration.
    first_loss : Tensor (n,)
    done, converged : bool Tensor (n,)
        Whether a problem is finished, and whether it has converged.
    n_reductions : Tensor (n,)
        How often the step size was halved after a divergence.
    n_iter : int
    """

    optimizer: DescentState[FitPoint]
    best: FitPoint
    best_iteration: Tensor
    reference: Tensor
    reference_iteration: Tensor
    first_loss: Tensor
    done: Tensor
    converged: Tensor
    n_reductions: Tensor
    n_iter: int = 0

    @property
    def point(self) -> FitPoint:
        """The current iterate."""
        return self.optimizer.point

    @property
    def z(self) -> Tensor:
        """Its weights."""
        return self.optimizer.z


@dataclass(frozen=True)
class FitIteration:
    """A step of an optimiser, with recovery from divergence and stopping rules.

    Parameters
    ----------
    optimizer : Optimizer
    tol : float
        A problem has converged when its residual is at most this; 0 never stops.
    patience : int, optional
        It has also converged after so many iterations without progress: without a decrease of the loss by one
        percent, or without any decrease of the held-out loss.
    """

    optimizer: Optimizer
    tol: float
    patience: int | None

    def init(self, problem: FitProblem, z0: Tensor) -> FitState:
        """Return the state at weights z0; raise ValueError if a loss there is not finite."""
        point = problem.evaluate(z0)
        if not bool(torch.isfinite(point.value).all()):
            raise ValueError("start: expected weights with a finite loss, got NaN or infinity")
        zeros = torch.zeros_like(point.value, dtype=torch.int64)
        never = torch.zeros_like(point.value, dtype=torch.bool)
        state = FitState(
            optimizer=self.optimizer.begin(problem, point),
            best=point,
            best_iteration=zeros,
            reference=_score(problem, point),
            reference_iteration=zeros,
            first_loss=point.value,
            done=never,
            converged=never,
            n_reductions=zeros,
        )
        return self._judged(problem, state)

    def step(self, problem: FitProblem, state: FitState) -> FitState:
        """Take one step in every problem that is not finished."""
        optimizer = self.optimizer.step(problem, state.optimizer)
        point: FitPoint = optimizer.point.where(~state.done, state.point)
        finite = torch.isfinite(point.value) & torch.isfinite(point.gradient).all(1)
        diverged = ~finite | (point.value - state.best.value > _RUNAWAY * state.first_loss.abs())
        better = ~diverged & ~state.done & (_score(problem, point) < _score(problem, state.best))
        state = replace(
            state,
            optimizer=replace(optimizer, point=point),
            best=point.where(better, state.best),
            best_iteration=torch.where(better, state.n_iter + 1, state.best_iteration),
            n_iter=state.n_iter + 1,
        )
        if bool(diverged.any()):
            state = self._recovered(problem, state, diverged)
        return self._judged(problem, state)

    def _recovered(self, problem: FitProblem, state: FitState, diverged: Tensor) -> FitState:
        """Reset problems to their best iterates, with half the step size and an empty memory."""
        fresh = self.optimizer.begin(problem, state.best)
        n_reductions = state.n_reductions + diverged.to(torch.int64)
        return replace(
            state,
            optimizer=replace(fresh, scale=state.optimizer.scale / 2).where(diverged, state.optimizer),
            n_reductions=n_reductions,
            done=state.done | (n_reductions >= _MOST_REDUCTIONS),
        )

    def _judged(self, problem: FitProblem, state: FitState) -> FitState:
        """Mark the problems that are finished."""
        best = _score(problem, state.best)
        reached = (state.best.residual <= self.tol) & bool(self.tol > 0)
        if problem.held is None:
            progress = best < state.reference - _PLATEAU_GAIN * state.reference.abs()
        else:
            progress = best < state.reference
        state = replace(
            state,
            reference=torch.where(progress, best, state.reference),
            reference_iteration=torch.where(progress, state.n_iter, state.reference_iteration),
        )
        if self.patience is not None:
            reached = reached | (state.n_iter - state.reference_iteration >= self.patience)
        return replace(state, converged=state.converged | (reached & ~state.done), done=state.done | reached)


def _score(problem: FitProblem, point: FitPoint) -> Tensor:
    """Return the loss by which the best iterate is chosen."""
    return point.value if problem.held is None else point.held_out
