"""First-order and quasi-Newton optimisers for many independent problems at once.

    minimise over z    objective(z),        one number per sample

Samples are independent: every inner product, step size and test is computed per sample. A problem needs one
function, ``evaluate(z)``, which returns objective and gradient. The same optimisers are used for the latents
of a `LatentProblem` and for the weights of an untrained fit. Parameters that all samples share (atoms,
networks) are trained by torch's own optimisers instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.checks import check_integer, check_number
from calepin.core.errors import IncompatibleError
from calepin.core.samples import Rows, inner

__all__ = [
    "LBFGS",
    "Adam",
    "AdamState",
    "DescentState",
    "Evaluated",
    "GradientDescent",
    "GradientDescentState",
    "LBFGSState",
    "Objective",
    "Optimizer",
]

_ARMIJO = 1e-4
_HALVINGS = 12


class Evaluated(Protocol):
    """The result of ``evaluate``: a `Rows` with z (n, k), the objective (n,) and its gradient (n, k)."""

    @property
    def z(self) -> Tensor:
        """The point at which the objective was evaluated."""
        ...

    @property
    def value(self) -> Tensor:
        """The objective."""
        ...

    @property
    def gradient(self) -> Tensor:
        """Its gradient."""
        ...

    def where(self, which: Tensor, other: Self) -> Self:
        """Return these rows where `which` is True, and the rows of `other` elsewhere."""
        ...


PointT = TypeVar("PointT", bound=Evaluated)
PointT_co = TypeVar("PointT_co", bound=Evaluated, covariant=True)


class Objective(Protocol[PointT_co]):
    """Interface of a problem for an optimiser."""

    def evaluate(self, z: Tensor) -> PointT_co:
        """Return objective and gradient at z, or at the nearest feasible point."""
        ...


@dataclass(frozen=True, eq=False)
class DescentState(Rows, Generic[PointT]):
    """The state that all optimisers share.

    Attributes
    ----------
    point : Evaluated
        Current iterate, with its objective and gradient.
    scale : Tensor, shape (n, 1)
        Factor of the step size, initially 1; smaller for a sample whose steps were too long.
    """

    point: PointT
    scale: Tensor

    @property
    def z(self) -> Tensor:
        """The current iterate, (n, k)."""
        return self.point.z


class Optimizer(Protocol):
    """Interface of an optimiser for `fit_untrained`: an iteration that can start at any evaluated point."""

    def begin(self, problem: Any, point: Any) -> Any:
        """Return the `DescentState` at a point, without memory of earlier steps."""
        ...

    def step(self, problem: Any, state: Any) -> Any:
        """Return the state one step later."""
        ...


class _FirstOrder:
    """Base class of the optimisers, with the interface that `solve` and `decode` use."""

    n_iter: ClassVar[int] = 1000

    @property
    def requires(self) -> Mapping[str, str]:
        """Required attributes of the problem: see `calepin.solvers.Solver`."""
        return {"problem.evaluate": "give LatentProblem(problem, generator)"}

    def check(self, problem: Any) -> None:
        """Do nothing: the step size is chosen by the caller."""

    def rests(self, problem: Any, state: DescentState[Any], tol: float) -> Tensor:
        """Return False everywhere: the size of a step does not bound the remaining decrease."""
        return torch.zeros_like(state.point.value, dtype=torch.bool)


def _unscaled(point: Evaluated) -> Tensor:
    return torch.ones_like(point.value)[:, None]


@dataclass(frozen=True, eq=False)
class GradientDescentState(DescentState[PointT]):
    """A state with the velocity (n, k) and the step size (n, 1)."""

    velocity: Tensor
    step_size: Tensor


@dataclass(frozen=True)
class GradientDescent(_FirstOrder):
    """Gradient descent, with or without heavy-ball momentum.

        v <- momentum v - step_size gradient,        z <- z + v

    Parameters
    ----------
    step_size : float, optional
        By default `factor` times ``1 / L``, for a problem with ``lipschitz(z)``, which returns a bound L on
        the curvature at z. For an untrained fit this is ``1 / (curvature ||A||^2 ||J||^2)`` of Theorem 2,
        where ||J|| is the norm of the network's Jacobian at the start, or a bound on it.
    momentum : float, default 0
        Momentum factor, in [0, 1).
    factor : float, default 1
        Factor of the default step size. With a ReLU, which passes half of its inputs, 2 is safe too.
    """

    step_size: float | None = None
    momentum: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        check_number("step_size", self.step_size, above=0, optional=True)
        check_number("momentum", self.momentum, least=0, below=1)
        check_number("factor", self.factor, above=0)
        check_fields(self)

    @property
    def requires(self) -> Mapping[str, str]:
        """Required attributes of the problem: see `calepin.solvers.Solver`."""
        needs = dict(super().requires)
        return needs if self.step_size is not None else needs | {"problem.lipschitz": "give step_size"}

    def init(self, problem: Objective[PointT], z0: Tensor) -> GradientDescentState[PointT]:
        """Return the state at z0."""
        return self.begin(problem, problem.evaluate(z0))

    def begin(self, problem: Objective[PointT], point: PointT) -> GradientDescentState[PointT]:
        """Return the state at a point, with zero velocity."""
        step_size = self._step_size(problem, point)
        return GradientDescentState(
            point,
            _unscaled(point),
            velocity=torch.zeros_like(point.z),
            step_size=point.value.new_full((len(point.value), 1), step_size),
        )

    def step(
        self, problem: Objective[PointT], state: GradientDescentState[PointT]
    ) -> GradientDescentState[PointT]:
        """Return the state after a step against the gradient."""
        velocity = self.momentum * state.velocity - state.scale * state.step_size * state.point.gradient
        return replace(state, point=problem.evaluate(state.z + velocity), velocity=velocity)

    def _step_size(self, problem: Any, point: Evaluated) -> float:
        if self.step_size is not None:
            return self.step_size
        lipschitz = getattr(problem, "lipschitz", None)
        if lipschitz is None:
            raise IncompatibleError(
                f"GradientDescent needs problem.lipschitz, which {type(problem).__name__} does not have; "
                "give step_size"
            )
        return self.factor * (1 / lipschitz(point.z))


@dataclass(frozen=True, eq=False)
class AdamState(DescentState[PointT]):
    """A state with both moments (n, k) and the number of steps (n, 1)."""

    first: Tensor
    second: Tensor
    count: Tensor


@dataclass(frozen=True)
class Adam(_FirstOrder):
    """Steps scaled by running moments of the gradient (Kingma and Ba, "Adam", 2015).

    Parameters
    ----------
    learning_rate : float, default 0.01
        Size of a step.
    betas : tuple of float, default (0.9, 0.999)
        Decay factors of the first and of the second moment, in [0, 1).
    epsilon : float, default 1e-8
        Added to the root of the second moment in the denominator.
    """

    learning_rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("epsilon", self.epsilon, above=0)
        check_fields(self)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {self.betas}")

    def init(self, problem: Objective[PointT], z0: Tensor) -> AdamState[PointT]:
        """Return the state at z0."""
        return self.begin(problem, problem.evaluate(z0))

    def begin(self, problem: Objective[PointT], point: PointT) -> AdamState[PointT]:
        """Return the state at a point, with moments of zero."""
        zero = torch.zeros_like(point.z)
        return AdamState(
            point, _unscaled(point), zero, zero, count=point.value.new_zeros(len(point.value), 1)
        )

    def step(self, problem: Objective[PointT], state: AdamState[PointT]) -> AdamState[PointT]:
        """Return the state after a step along the first moment, divided by the root of the second."""
        one, two = self.betas
        gradient, count = state.point.gradient, state.count + 1
        first = torch.lerp(state.first, gradient, 1 - one)
        second = torch.addcmul(two * state.second, gradient, gradient, value=1 - two)
        denominator = torch.sqrt(second / (1 - two**count)) + self.epsilon
        move = -state.scale * self.learning_rate / (1 - one**count) * first / denominator
        return AdamState(problem.evaluate(state.z + move), state.scale, first, second, count)


@dataclass(frozen=True, eq=False)
class LBFGSState(DescentState[PointT]):
    """A state with pairs of steps and gradient changes (n, memory, k), their rho (n, memory), gamma (n,)."""

    moves: Tensor
    changes: Tensor
    rho: Tensor
    gamma: Tensor


@dataclass(frozen=True)
class LBFGS(_FirstOrder):
    """Limited-memory BFGS with a backtracking line search (Nocedal and Wright, algorithm 7.4).

    Parameters
    ----------
    memory : int, default 10
        Number of stored pairs of steps and gradient changes.
    """

    memory: int = 10

    def __post_init__(self) -> None:
        check_integer("memory", self.memory)
        check_fields(self)

    def init(self, problem: Objective[PointT], z0: Tensor) -> LBFGSState[PointT]:
        """Return the state at z0."""
        return self.begin(problem, problem.evaluate(z0))

    def begin(self, problem: Objective[PointT], point: PointT) -> LBFGSState[PointT]:
        """Return the state at a point, without pairs."""
        n, size = point.z.shape
        pairs = point.z.new_zeros(n, self.memory, size)
        return LBFGSState(
            point,
            _unscaled(point),
            moves=pairs,
            changes=pairs,
            rho=point.value.new_zeros(n, self.memory),
            gamma=point.value.new_zeros(n),
        )

    def step(self, problem: Objective[PointT], state: LBFGSState[PointT]) -> LBFGSState[PointT]:
        """Return the state after a line search along the quasi-Newton direction, separate for each sample.

        A sample whose line search fails does not move, and its pairs are deleted.
        """
        point = chosen = state.point
        direction = -_times_inverse(state, point.gradient)
        slope = inner(direction, point.gradient)
        t = state.scale[:, 0]
        accepted = torch.zeros_like(t, dtype=torch.bool)
        for _ in range(_HALVINGS):
            trial = problem.evaluate(point.z + t[:, None] * direction)
            lower = trial.value <= point.value + _ARMIJO * t * slope
            chosen = trial.where(~accepted & lower, chosen)
            accepted = accepted | lower
            if bool(accepted.all()):
                break
            t = t / 2
        return _remembered(state, chosen, accepted)


def _times_inverse(state: LBFGSState[Any], gradient: Tensor) -> Tensor:
    """Return the estimated inverse Hessian times the gradient, by the two-loop recursion."""
    pairs = [values.unbind(1) for values in (state.moves, state.changes, state.rho)]
    q, factors = gradient, []
    for s, y, rho in zip(*pairs, strict=True):
        factors.append(rho * inner(s, q))
        q = q - factors[-1][:, None] * y
    length = torch.linalg.vector_norm(gradient, dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
    known = state.gamma > 0
    q = torch.where(known, state.gamma, (1 / length).clamp_max(1.0))[:, None] * q
    for s, y, rho, factor in reversed(list(zip(*pairs, factors, strict=True))):
        q = q + (factor - rho * inner(y, q))[:, None] * s
    return q


def _remembered(state: LBFGSState[PointT], after: PointT, moved: Tensor) -> LBFGSState[PointT]:
    """Return the state with the newest pair in front; without positive curvature its weight is zero."""
    s, y = after.z - state.z, after.gradient - state.point.gradient
    product, length = inner(s, y), inner(y, y)
    good = moved & (product > torch.finfo(s.dtype).eps * length)
    rho = torch.where(good, 1 / product, torch.zeros_like(product))
    return LBFGSState(
        after,
        state.scale,
        moves=torch.cat([s[:, None], state.moves[:, :-1]], 1),
        changes=torch.cat([y[:, None], state.changes[:, :-1]], 1),
        rho=torch.cat([rho[:, None], state.rho[:, :-1]], 1) * moved[:, None],
        gamma=torch.where(good, product / length, state.gamma) * moved,
    )
