"""How the weights of many independent problems move: first-order and quasi-Newton steps.

An optimiser works on weight vectors (n, P) and never lets two problems meet: every inner product, step
and test is one number a problem. Its state is a dictionary of tensors, given and returned, so that a
checkpoint is that dictionary in a file.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from calepin.core.samples import expand, inner

__all__ = ["LBFGS", "Adam", "GradientDescent", "Optimizer", "Point", "choose"]

_ARMIJO = 1e-4
_HALVINGS = 12


@dataclass(frozen=True, eq=False)
class Point:
    """Weights (n, P), their loss (n,) and its gradient, and what was seen on the way."""

    weights: Tensor
    loss: Tensor
    gradient: Tensor
    residual: Tensor
    held_out: Tensor
    x: Tensor


Evaluate = Callable[[Tensor], Point]
State = dict[str, Tensor]


class Optimizer(Protocol):
    """What the fit asks of an optimiser."""

    def init(self, point: Point, step: float | None) -> State:
        """Return the state at the start; `step` is the theory's, None where there is none."""
        ...

    def step(self, evaluate: Evaluate, point: Point, state: State, scale: Tensor) -> tuple[Point, State]:
        """Return the next point; `scale` (n, 1) shrinks the steps of problems that diverged."""
        ...


@dataclass(frozen=True)
class GradientDescent:
    """Plain steps, or heavy-ball momentum.

        v <- momentum v - step gradient,        w <- w + v

    Parameters
    ----------
    step : float, optional
        Default: `factor` times Theorem 2's ``1 / (curvature ||A||^2 ||J||^2)``, J the Jacobian of
        the network: a bound on it, or its norm at the start.
    momentum : float, default 0
        In [0, 1).
    factor : float, default 1
        Of the theory's step. A rectifier passes half of its inputs: 2 is safe there too.
    """

    step_size: float | None = None
    momentum: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.step_size is not None:
            _check_positive("step_size", self.step_size)
        _check_positive("factor", self.factor)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {self.momentum}")

    def init(self, point: Point, step: float | None) -> State:
        """Return no velocity, and the step."""
        chosen = self.factor * (step or 1.0) if self.step_size is None else self.step_size
        return {
            "velocity": torch.zeros_like(point.weights),
            "step": point.loss.new_full((len(point.loss), 1), chosen),
        }

    def step(self, evaluate: Evaluate, point: Point, state: State, scale: Tensor) -> tuple[Point, State]:
        """Move against the gradient."""
        velocity = self.momentum * state["velocity"] - scale * state["step"] * point.gradient
        return evaluate(point.weights + velocity), {"velocity": velocity, "step": state["step"]}


@dataclass(frozen=True)
class Adam:
    """Steps scaled by running moments of the gradient (Kingma and Ba, "Adam", 2015).

    Parameters
    ----------
    lr : float, default 0.01
    betas : tuple of float, default (0.9, 0.999)
    epsilon : float, default 1e-8
    """

    lr: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_positive("lr", self.lr)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {self.betas}")

    def init(self, point: Point, step: float | None) -> State:
        """Return moments of zero."""
        zero = torch.zeros_like(point.weights)
        return {"first": zero, "second": zero, "count": point.loss.new_zeros(len(point.loss), 1)}

    def step(self, evaluate: Evaluate, point: Point, state: State, scale: Tensor) -> tuple[Point, State]:
        """Move by the first moment over the root of the second."""
        one, two = self.betas
        count = state["count"] + 1
        first = torch.lerp(state["first"], point.gradient, 1 - one)
        second = torch.addcmul(two * state["second"], point.gradient, point.gradient, value=1 - two)
        denominator = torch.sqrt(second / (1 - two**count)) + self.epsilon
        move = -scale * self.lr / (1 - one**count) * first / denominator
        return evaluate(point.weights + move), {"first": first, "second": second, "count": count}


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS with a backtracking search (Nocedal and Wright, algorithm 7.4).

    Parameters
    ----------
    memory : int, default 10
        Pairs of moves and changes of the gradient that are kept.
    """

    memory: int = 10

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"memory: expected at least 1, got {self.memory}")

    def init(self, point: Point, step: float | None) -> State:
        """Return no pairs."""
        n, size = point.weights.shape
        pairs = point.weights.new_zeros(n, self.memory, size)
        return {
            "moves": pairs,
            "changes": pairs,
            "rho": point.loss.new_zeros(n, self.memory),
            "gamma": point.loss.new_zeros(n),
        }

    def step(self, evaluate: Evaluate, point: Point, state: State, scale: Tensor) -> tuple[Point, State]:
        """Search along the quasi-Newton direction; each problem halves its own step.

        A problem whose search fails stays where it is and forgets its pairs.
        """
        direction = -self._product(point.gradient, state)
        slope = inner(direction, point.gradient)
        t = scale[:, 0]
        accepted = torch.zeros_like(t, dtype=torch.bool)
        chosen = point
        for _ in range(_HALVINGS):
            trial = evaluate(point.weights + t[:, None] * direction)
            chosen = choose(~accepted & (trial.loss <= point.loss + _ARMIJO * t * slope), trial, chosen)
            accepted = accepted | (trial.loss <= point.loss + _ARMIJO * t * slope)
            if bool(accepted.all()):
                break
            t = t / 2
        return chosen, self._remember(point, chosen, state, accepted)

    def _product(self, gradient: Tensor, state: State) -> Tensor:
        """Return the inverse Hessian's estimate times the gradient, by the two-loop recursion."""
        pairs = [state[name].unbind(1) for name in ("moves", "changes", "rho")]
        q, factors = gradient, []
        for s, y, rho in zip(*pairs, strict=True):
            factors.append(rho * inner(s, q))
            q = q - factors[-1][:, None] * y
        length = torch.linalg.vector_norm(gradient, dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        known = state["gamma"] > 0
        q = torch.where(known, state["gamma"], (1 / length).clamp_max(1.0))[:, None] * q
        for s, y, rho, factor in reversed(list(zip(*pairs, factors, strict=True))):
            q = q + (factor - rho * inner(y, q))[:, None] * s
        return q

    def _remember(self, before: Point, after: Point, state: State, moved: Tensor) -> State:
        """Put the newest pair in front; one without positive curvature weighs nothing."""
        s, y = after.weights - before.weights, after.gradient - before.gradient
        product, length = inner(s, y), inner(y, y)
        good = moved & (product > torch.finfo(s.dtype).eps * length)
        rho = torch.where(good, 1 / product, torch.zeros_like(product))
        return {
            "moves": torch.cat([s[:, None], state["moves"][:, :-1]], 1),
            "changes": torch.cat([y[:, None], state["changes"][:, :-1]], 1),
            "rho": torch.cat([rho[:, None], state["rho"][:, :-1]], 1) * moved[:, None],
            "gamma": torch.where(good, product / length, state["gamma"]) * moved,
        }


def choose(which: Tensor, there: Point, here: Point) -> Point:
    """Return a point that is `there` for some problems, (n,) of bool, and `here` for the others."""
    if bool(which.all()):
        return there
    if not bool(which.any()):
        return here
    pairs = ((getattr(there, f.name), getattr(here, f.name)) for f in fields(Point))
    return Point(*(torch.where(expand(which, a), a, b) for a, b in pairs))


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
