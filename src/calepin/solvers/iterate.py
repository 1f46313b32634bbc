"""The loop of all iterative methods.

An iteration is a frozen dataclass with two functions, `init` and `step`, on an explicit state. The loop adds
the stopping criterion, the convergence of each sample, callbacks and the detection of divergence. Three
functions use it: `solve` for sparse codes, `decode` for latents and `fit_untrained` for the weights of
untrained networks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, check_methods
from calepin.core.errors import IncompatibleError
from calepin.core.samples import expand, norm
from calepin.generators.latent_problem import LatentProblem

__all__ = [
    "Iterated",
    "Iteration",
    "RelativeChange",
    "Solution",
    "Solver",
    "State",
    "check_requirements",
    "iterate",
    "ran_away",
]

_LEAVE = 0.7  # converged samples are removed from the batch if the fraction of the others is below this
RUNAWAY = 1e4  # a step this many times longer than the first is a divergence


class State(Protocol):
    """State of an iteration; the loop itself reads only z.

    For `freeze` a state must also have ``take(rows)``, as a `calepin.core.samples.Rows` does.
    """

    @property
    def z(self) -> Tensor:
        """The current iterate, samples on the first axis."""
        ...


StateT = TypeVar("StateT", bound=State)
ProblemT = TypeVar("ProblemT")
ProblemT_contra = TypeVar("ProblemT_contra", contravariant=True)
StateT_contra = TypeVar("StateT_contra", bound=State, contravariant=True)


class Iteration(Protocol[ProblemT_contra, StateT]):
    """Interface of an iteration."""

    def init(self, problem: ProblemT_contra, z0: Tensor) -> StateT:
        """Return the state before the first iteration."""
        ...

    def step(self, problem: ProblemT_contra, state: StateT) -> StateT:
        """Return the state one iteration later; the given state is not changed."""
        ...


class Solver(Iteration[ProblemT_contra, StateT], Protocol[ProblemT_contra, StateT]):
    """Interface of a solver for `solve`: an iteration, its requirements and a check of its settings."""

    @property
    def requires(self) -> Mapping[str, str]:
        """Required attributes of the terms, and advice for terms without them.

        Maps "term.capability" to advice for a term without it (an empty string: no alternative). The term is
        "problem" itself, or an attribute of the problem or of the solver.
        """
        ...

    def check(self, problem: ProblemT_contra) -> None:
        """Raise ValueError if a setting of the solver explains the divergence of codes.

        It is called only after divergence, because it may compute the norm of the operator.
        """
        ...


class Rests(Protocol[ProblemT_contra, StateT_contra]):
    """Convergence test of the samples."""

    def __call__(self, problem: ProblemT_contra, before: Tensor, state: StateT_contra, /) -> Tensor:
        """Return converged samples, (n,) of bool, from z before the last iteration and the state after."""
        ...


@dataclass(frozen=True, eq=False)
class Solution:
    """The result of `solve`.

    Attributes
    ----------
    z : Tensor, shape (n, *in_shape)
        Codes after the last iteration, even if they are not finite.
    n_iter : int
        Number of iterations.
    converged : bool Tensor, shape (n,)
        Samples whose last relative change was at most `tol`; False everywhere without a `tol`.
    finite : bool Tensor, shape (n,)
        Samples whose code has neither NaN nor infinity. The others are skipped: the loop ends when all
        finite samples have converged.
    history : Tensor, shape (n_iter,)
        Largest relative change of a sample in each iteration. Empty without a `tol`, since the change is not
        computed then. ``tol=0`` records it and stops only at a fixed point.
    """

    z: Tensor
    n_iter: int
    converged: Tensor
    finite: Tensor
    history: Tensor


@dataclass(frozen=True, eq=False)
class Iterated(Generic[StateT]):
    """The result of `iterate`.

    Attributes
    ----------
    z : Tensor
        Last iterate of every sample.
    state : State
        State after the last iteration, of the samples that were still in the batch.
    n_iter : int
        Number of iterations.
    resting : bool Tensor, shape (n,)
        Samples that have converged; False everywhere without `rests`.
    first, before : Tensor
        z after the first iteration and before the last one; see `ran_away`.
    """

    z: Tensor
    state: StateT
    n_iter: int
    resting: Tensor
    first: Tensor
    before: Tensor


def iterate(
    problem: ProblemT,
    iteration: Iteration[ProblemT, StateT],
    state: StateT,
    *,
    n_iter: int,
    rests: Rests[ProblemT, StateT] | None = None,
    until_rest: bool = True,
    freeze: bool = False,
    callbacks: Sequence[Callable[[StateT], bool | None]] = (),
) -> Iterated[StateT]:
    """Iterate until all samples have converged, a callback returns true, or `n_iter` iterations are done.

    Parameters
    ----------
    problem : Problem, LatentProblem or another problem of the iteration
        Problem to solve.
    iteration : Iteration
        Method, such as a solver.
    state : State
        Initial state: the result of ``iteration.init``, or the state of an earlier run.
    n_iter : int
        Largest number of iterations; 0 returns the initial state.
    rests : callable, optional
        Convergence test: ``rests(problem, before, state)`` returns which samples have converged.
    until_rest : bool, default True
        Whether the loop ends when all samples have converged.
    freeze : bool, default False
        Whether a sample keeps its iterate once it has converged, so that its result does not depend on the
        other samples of the batch. If the problem is separable, converged samples are removed from the batch
        (``problem.take(rows)``, ``state.take(rows)``) when there are enough of them to outweigh the copies.
    callbacks : sequence of callables
        Functions that are called with the state after every iteration; a true result ends the loop.

    Returns
    -------
    Iterated

    Raises
    ------
    TypeError
        If the state has no tensor ``z``.
    """
    check_arguments(iterate, locals())
    check_integer("n_iter", n_iter, least=0)
    check_methods("iteration", iteration, "step")
    if not isinstance(getattr(state, "z", None), Tensor):
        raise TypeError(f"state: expected a state with a tensor z, got {state!r:.60}")
    first = before = state.z
    batch = _Frozen(before) if freeze else _Batch(before)
    done = 0
    for done in range(1, n_iter + 1):
        before, state = state.z, iteration.step(problem, state)
        if done == 1:
            first = state.z.detach()
        batch.moved(state.z)
        n_moving = batch.size
        if rests is not None:
            n_moving = batch.rested(rests(problem, before, state))
        stops = [callback(state) for callback in callbacks]
        if (until_rest and n_moving == 0) or any(stops):
            break
        if freeze and 0 < n_moving < _LEAVE * batch.size:
            problem, state = batch.shrunk(problem, state)
    z, resting = batch.whole()
    return Iterated(z, state, done, resting, first, before)


class _Batch:
    """The iterates of a run after the last iteration, and which samples have converged."""

    def __init__(self, z: Tensor) -> None:
        self.z = z
        self.resting = torch.zeros(len(z), dtype=torch.bool, device=z.device)

    @property
    def size(self) -> int:
        return len(self.resting)

    def moved(self, z: Tensor) -> None:
        self.z = z

    def rested(self, rests: Tensor) -> int:
        """Store which samples have converged, and return the number of the others."""
        self.resting = rests
        return len(rests) - int(rests.sum())

    def shrunk(self, problem: Any, state: Any) -> tuple[Any, Any]:
        return problem, state

    def whole(self) -> tuple[Tensor, Tensor]:
        return self.z, self.resting


class _Frozen(_Batch):
    """A batch whose samples keep their iterate once converged, and are removed later."""

    def __init__(self, z: Tensor) -> None:
        super().__init__(z)
        self._all, self._all_resting = z.clone(), self.resting.clone()
        self._rows = torch.arange(len(z), device=z.device)

    def moved(self, z: Tensor) -> None:
        self.z = torch.where(expand(self.resting, z), self.z, z)

    def rested(self, rests: Tensor) -> int:
        return super().rested(self.resting | rests)

    def shrunk(self, problem: Any, state: Any) -> tuple[Any, Any]:
        """Return problem and state of the samples that have not converged."""
        if not problem.separable:
            return problem, state
        self._write()
        left = torch.nonzero(~self.resting).flatten()
        problem, state, self._rows = problem.take(left), state.take(left), self._rows[left]
        self.z, self.resting = state.z, torch.zeros_like(self.resting[left])
        return problem, state

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return iterates and convergence of all samples, including those removed."""
        self._write()
        return self._all, self._all_resting

    def _write(self) -> None:
        self._all[self._rows], self._all_resting[self._rows] = self.z, self.resting


class RelativeChange:
    """The convergence test ``||z - before|| <= tol ||z||``, which records the largest change.

    Attributes
    ----------
    history : list of float
        Largest relative change of a sample in each iteration. Small tensors that stay would keep the C
        library from reusing the memory of the large ones around them.
    converged : bool Tensor, shape (n,), or None before the first iteration
        Samples whose last change was at most `tol`. A sample that is not finite, whose change is NaN,
        needs no further iteration but has not converged.
    """

    def __init__(self, tol: float) -> None:
        self.tol = tol
        self.history: list[float] = []
        self.converged: Tensor | None = None

    @torch.no_grad()
    def __call__(self, problem: Any, before: Tensor, state: State, /) -> Tensor:
        """Return which samples need no further iteration."""
        length = norm(state.z)
        # 0 for a code that remains zero
        change = norm(state.z - before) / length.clamp_min(torch.finfo(length.dtype).tiny)
        self.history.append(float(change.max()))
        self.converged = change <= self.tol
        return ~(change > self.tol)


@torch.no_grad()
def ran_away(z0: Tensor, first: Tensor, before: Tensor, z: Tensor) -> bool:
    """Return whether the iterates diverge: the last step of a sample is much longer than its first.

    The steps of a proximal gradient method with a valid step size never grow. With momentum they grow at most
    with the number of iterations.
    """
    size = norm(z0) + norm(first - z0)
    size = torch.where(size > 0, size, size.max())  # codes may leave zero later than in the first iteration
    return not bool((norm(z - before) <= RUNAWAY * size).all())


def check_requirements(problem: Any, solver: Solver[Any, Any]) -> None:
    """Raise IncompatibleError, naming solver, term and capability, if a term lacks a required one."""
    who, what = type(solver).__name__, type(problem).__name__
    for requirement, advice in solver.requires.items():
        name, capability = requirement.split(".")
        owner = problem if hasattr(problem, name) else solver
        if name != "problem" and not hasattr(owner, name):
            hint = "; use decode, or LevenbergMarquardt or Adam" if isinstance(problem, LatentProblem) else ""
            raise IncompatibleError(f"{who} needs problem.{name}, which {what} does not have{hint}")
        term = problem if name == "problem" else getattr(owner, name)
        # a capability that is None, such as the curvature of a Poisson likelihood, is missing
        if getattr(term, capability, None) is None:
            raise IncompatibleError(
                f"{who} needs {requirement}, which {type(term).__name__} does not "
                f"have{'; ' * bool(advice)}{advice}"
            )
