"""One iteration of an untrained fit, and all that it carries to the next."""

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.core.samples import expand, norm
from calepin.networks.jacobian import Jacobian
from calepin.networks.untrained import UntrainedNetwork
from calepin.problem import Problem
from calepin.reconstruction.optimizers import GradientDescent, Optimizer, Point, State, choose

__all__ = ["Fit", "FitState"]

_RUNAWAY = 10.0  # a loss so many times that of the start has diverged
_MOST_REDUCTIONS = 10
_PLATEAU_GAIN = 0.01


@dataclass(frozen=True, eq=False)
class FitState:
    """All that a fit carries from iteration to iteration."""

    point: Point
    best: Point
    best_iteration: Tensor
    reference: Tensor  # the best loss at the last sign of progress, and when that was
    reference_iteration: Tensor
    first_loss: Tensor
    optimizer: State
    scale: Tensor
    done: Tensor
    converged: Tensor
    n_reductions: Tensor
    n_iter: int = 0
    seconds: float = 0.0
    history: dict[str, list[np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Fit:
    """One iteration of a fit, and what does not change."""

    network: UntrainedNetwork
    problem: Problem
    optimizer: Optimizer
    tol: float
    patience: int | None
    n_starts: int
    held: Tensor | None

    def begin(self, start: Tensor) -> FitState:
        expected = (len(self.problem.y) * self.n_starts, self.network.n_parameters)
        if start.shape != expected:
            raise ValueError(f"start: expected shape {expected}, got {tuple(start.shape)}")
        point = self.evaluate(start.detach())
        if not bool(torch.isfinite(point.loss).all()):
            raise ValueError("start: expected weights of a finite loss, got a loss that is not")
        n = point.loss
        zeros = torch.zeros_like(n, dtype=torch.int64)
        never = torch.zeros_like(n, dtype=torch.bool)
        state = FitState(
            point=point,
            best=point,
            best_iteration=zeros,
            reference=self._score(point),
            reference_iteration=zeros,
            first_loss=point.loss,
            optimizer=self.optimizer.init(point, self._theory_step(start)),
            scale=torch.ones_like(n)[:, None],
            done=never,
            converged=never,
            n_reductions=zeros,
        )
        return self._judged(self._recorded(state))

    def advance(self, state: FitState) -> FitState:
        """Move every problem that is not done."""
        point, optimizer = self.optimizer.step(self.evaluate, state.point, state.optimizer, state.scale)
        point = choose(~state.done, point, state.point)
        finite = torch.isfinite(point.loss) & torch.isfinite(point.gradient).all(1)
        diverged = ~finite | (point.loss - state.best.loss > _RUNAWAY * state.first_loss.abs())
        better = ~diverged & ~state.done & (self._score(point) < self._score(state.best))
        state = replace(
            state,
            point=point,
            best=choose(better, point, state.best),
            best_iteration=torch.where(better, state.n_iter + 1, state.best_iteration),
            optimizer=optimizer,
            n_iter=state.n_iter + 1,
        )
        return self._judged(
            self._recorded(self._recovered(state, diverged) if bool(diverged.any()) else state)
        )

    def evaluate(self, weights: Tensor) -> Point:
        """Return loss and gradient; their sum over problems has the gradient of each."""
        weights = weights.detach().requires_grad_()
        with torch.enable_grad():
            x = self.network(weights)
            eta = self._predictor(x)
            y = self._repeated(self.problem.y)
            loss = self._loss(eta, y, None if self.held is None else self.held)
            (gradient,) = torch.autograd.grad(loss.sum(), weights)
        with torch.no_grad():
            miss = y - self.problem.likelihood.mean(eta)
            fitted = miss if self.held is None else miss.masked_fill(self.held, 0)
            target = y if self.held is None else y.masked_fill(self.held, 0)
            residual = norm(fitted) / norm(target).clamp_min(torch.finfo(loss.dtype).tiny)
            held_out = loss.detach() if self.held is None else self._loss(eta, y, ~self.held)
        return Point(weights.detach(), loss.detach(), gradient, residual, held_out.detach(), x.detach())

    def _predictor(self, x: Tensor) -> Tensor:
        """Return A x + offset; an operator of its own for each sample meets one start after another."""
        operator, offset = self.problem.operator, self.problem.offset
        if operator.n_samples is None or self.n_starts == 1:
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

    def _score(self, point: Point) -> Tensor:
        return point.loss if self.held is None else point.held_out

    def _theory_step(self, start: Tensor) -> float | None:
        """Return Theorem 2's step where it is wanted: 1 / (curvature ||A||^2 ||J||^2)."""
        wanted = isinstance(self.optimizer, GradientDescent) and self.optimizer.step_size is None
        if not wanted:
            return None
        if self.problem.likelihood.curvature is None:
            raise IncompatibleError(
                f"GradientDescent without step_size needs likelihood.curvature, which "
                f"{type(self.problem.likelihood).__name__} does not have"
            )
        bound = self.network.jacobian_norm_squared()
        if bound is None:
            bound = Jacobian(self.network, start[0]).norm_squared()
        return 1 / (self.problem.lipschitz() * bound)

    def _recovered(self, state: FitState, diverged: Tensor) -> FitState:
        """Take problems back to their best iterate, with half the step and nothing remembered."""
        fresh = self.optimizer.init(state.best, self._theory_step(state.best.weights))
        optimizer = {
            name: torch.where(expand(diverged, value), fresh[name], value)
            for name, value in state.optimizer.items()
        }
        n_reductions = state.n_reductions + diverged.to(torch.int64)
        return replace(
            state,
            point=choose(diverged, state.best, state.point),
            optimizer=optimizer,
            scale=torch.where(diverged[:, None], state.scale / 2, state.scale),
            n_reductions=n_reductions,
            done=state.done | (n_reductions >= _MOST_REDUCTIONS),
        )

    def _judged(self, state: FitState) -> FitState:
        """Mark the problems that need no more iterations."""
        best = self._score(state.best)
        reached = (state.best.residual <= self.tol) & (self.tol > 0)
        if self.held is None:
            progress = best < state.reference - _PLATEAU_GAIN * state.reference.abs()
        else:
            progress = best < state.reference
        state = replace(
            state,
            reference=torch.where(progress, best, state.reference),
            reference_iteration=torch.where(progress, state.n_iter, state.reference_iteration),
        )
        patience = self.patience or (200 if self.held is not None else None)
        if patience is not None:
            reached = reached | (state.n_iter - state.reference_iteration >= patience)
        return replace(state, converged=state.converged | (reached & ~state.done), done=state.done | reached)

    def _recorded(self, state: FitState) -> FitState:
        names = ("loss", "residual") if self.held is None else ("loss", "residual", "held_out")
        for name in names:
            values = getattr(state.point, name).cpu().numpy()
            record = state.history.setdefault(name, [])
            del record[state.n_iter :]  # what an interrupted iteration may have left
            record.append(values)
        return state

    def settings(self) -> dict[str, Any]:
        """Return what a resumed fit must share, as JSON."""
        y = torch.view_as_real(self.problem.y) if self.problem.y.is_complex() else self.problem.y
        return {
            "network": repr(self.network),
            "operator": repr(self.problem.operator),
            "likelihood": repr(self.problem.likelihood),
            "optimizer": repr(self.optimizer),
            "n_starts": self.n_starts,
            "held_out": None if self.held is None else _checksum(self.held),
            "y": [list(y.shape), str(y.dtype), _checksum(y)],
        }


def _checksum(values: Tensor) -> int:
    return zlib.crc32(values.detach().cpu().contiguous().numpy().tobytes())
