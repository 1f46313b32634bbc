"""One iteration of an untrained fit, and all that it carries to the next."""

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

_RUNAWAY = 10.0  # a loss so many times that of the start has diverged
_MOST_REDUCTIONS = 10
_PLATEAU_GAIN = 0.01


@dataclass(frozen=True, eq=False)
class FitPoint(Rows):
    """Weights z (n, P), their loss (n,) and its gradient, and what was seen on the way.

    `held_out` is the loss of the measurements that are kept from the fit, the loss itself without such.
    """

    z: Tensor
    value: Tensor
    gradient: Tensor
    residual: Tensor
    held_out: Tensor
    x: Tensor


@dataclass(frozen=True, eq=False)
class FitProblem:
    """The loss of weights: a `Problem` whose signals a network makes, with every start of every observation.

    Parameters
    ----------
    network : UntrainedNetwork
    problem : Problem
        The operator measures the network's signals.
    n_starts : int
        Weights for each observation, side by side.
    held : bool Tensor, shape (1, *y.shape[1:]), optional
        Measurements that are kept from the fit.
    """

    network: UntrainedNetwork
    problem: Problem
    n_starts: int = 1
    held: Tensor | None = None

    def evaluate(self, z: Tensor) -> FitPoint:
        """Return loss and gradient; their sum over problems has the gradient of each."""
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
        """Return ``curvature ||A||^2 ||J||^2``: a bound on ||J||, or its value at the first of the weights.

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
        """Return A x + offset; an operator of its own for each sample meets one start after another."""
        operator, offset = self.problem.operator, self.problem.offset
        if self.problem.separable or self.n_starts == 1:
            return operator(x) + (self._repeated(offset) if isinstance(offset, Tensor) else offset)
        starts = x.view(-1, self.n_starts, *x.shape[1:]).unbind(1)
        return torch.stack([operator(one) + offset for one in starts], 1).flatten(0, 1)

    def _repeated(self, values: Tensor) -> Tensor:
        """Repeat one value a problem for each of its starts."""
        if self.n_starts == 1 or values.ndim < self.problem.y.ndim or len(values) == 1:
            return values
        return values.repeat_interleave(self.n_starts, 0)

    def _loss(self, eta: Tensor, y: Tensor, without: Tensor | None) -> Tensor:
        """Return the nll; entries left out count as observations of zero under a predictor of zero."""
        if without is not None:
            eta, y = eta.masked_fill(without, 0), y.masked_fill(without, 0)
        return self.problem.likelihood.nll(eta, y)


@dataclass(frozen=True, eq=False)
class FitState(Rows):
    """All that a fit carries from iteration to iteration, one row a problem (and start).

    Attributes
    ----------
    optimizer : DescentState
        Where the fit is, and what the optimiser remembers.
    best : FitPoint
        The iterate of the best loss so far, held out where there is such, and its iteration.
    reference, reference_iteration : Tensor (n,)
        The best loss at the last sign of progress, and when that was.
    first_loss : Tensor (n,)
    done, converged : bool Tensor (n,)
        Whether a problem needs no more iterations, and whether because it has converged.
    n_reductions : Tensor (n,)
        How often the steps were halved after a divergence.
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
    """A step of an optimiser, with the way back from a divergence and the signs that a fit is done.

    Parameters
    ----------
    optimizer : Optimizer
    tol : float
        A problem has converged when its residual is at most this; 0 never stops.
    patience : int, optional
        It has converged, too, without progress in so many iterations: a fall of the loss by one percent,
        or of the loss held out by anything.
    """

    optimizer: Optimizer
    tol: float
    patience: int | None

    def init(self, problem: FitProblem, z0: Tensor) -> FitState:
        """Return the state at weights z0; raise ValueError if a loss there is not finite."""
        point = problem.evaluate(z0)
        if not bool(torch.isfinite(point.value).all()):
            raise ValueError("start: expected weights of a finite loss, got a loss that is not")
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
        """Move every problem that is not done."""
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
        """Take problems back to their best iterate, with half the step and nothing remembered."""
        fresh = self.optimizer.begin(problem, state.best)
        n_reductions = state.n_reductions + diverged.to(torch.int64)
        return replace(
            state,
            optimizer=replace(fresh, scale=state.optimizer.scale / 2).where(diverged, state.optimizer),
            n_reductions=n_reductions,
            done=state.done | (n_reductions >= _MOST_REDUCTIONS),
        )

    def _judged(self, problem: FitProblem, state: FitState) -> FitState:
        """Mark the problems that need no more iterations."""
        best = _score(problem, state.best)
        reached = (state.best.residual <= self.tol) & (self.tol > 0)
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
    """Return the loss that says which iterate is best."""
    return point.value if problem.held is None else point.held_out
