"""The one loop of everything that iterates on a problem.

An iteration is a frozen value with two functions, `init` and `step`, on an explicit state. What the loop
adds is the same for all: when to stop, which samples rest, what a callback sees, and what tells divergence.
Three functions run it: `solve` for sparse codes, `decode` for latents and `fit_untrained` for the weights
of untrained networks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

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

_LEAVE = 0.7  # part of a batch that still moves, below which the samples that rest leave it
_RUNAWAY = 1e4


class State(Protocol):
    """What is carried from one iteration to the next; the loop itself reads z alone.

    For `freeze` a state must also have ``take(rows)``, as a `calepin.core.samples.Rows` does.
    """

    @property
    def z(self) -> Tensor:
        """What is sought, samples first."""
        ...


StateT = TypeVar("StateT", bound=State)
ProblemT = TypeVar("ProblemT")
ProblemT_contra = TypeVar("ProblemT_contra", contravariant=True)
StateT_contra = TypeVar("StateT_contra", bound=State, contravariant=True)


class Iteration(Protocol[ProblemT_contra, StateT]):
    """What the loop asks of an iteration."""

    def init(self, problem: ProblemT_contra, z0: Tensor) -> StateT:
        """Return the state before the first iteration."""
        ...

    def step(self, problem: ProblemT_contra, state: StateT) -> StateT:
        """Return the state one iteration later; the given one stays as it is."""
        ...


class Solver(Iteration[ProblemT_contra, StateT], Protocol[ProblemT_contra, StateT]):
    """What `solve` asks of an iteration, beside its two functions."""

    @property
    def requires(self) -> Mapping[str, str]:
        """What its terms must have, and how to do without.

        Maps "term.capability" to advice for a term without it (an empty string: no way round). The term is
        "problem" itself, or an attribute of the problem or of the solver.
        """
        ...

    def check(self, problem: ProblemT_contra) -> None:
        """Raise ValueError if a setting of the solver is to blame when codes run away.

        The loop asks only then, since the answer may cost a norm of the operator.
        """
        ...


class Rests(Protocol[ProblemT_contra, StateT_contra]):
    """Which samples need no further iteration."""

    def __call__(self, problem: ProblemT_contra, before: Tensor, state: StateT_contra, /) -> Tensor:
        """Return one bool a sample, (n,), given z before the last iteration and the state after it."""
        ...


@dataclass(frozen=True, eq=False)
class Solution:
    """What `solve` returns.

    Attributes
    ----------
    z : Tensor, shape (n, *in_shape)
        Codes after the last iteration, also where they are not finite.
    n_iter : int
        Iterations done.
    converged : bool Tensor, shape (n,)
        Samples whose last relative change was at most `tol`; False everywhere without a `tol`.
    finite : bool Tensor, shape (n,)
        Samples whose code has neither NaN nor infinity. The loop does not wait for the others: it ends
        when all finite samples have converged.
    history : Tensor, shape (n_iter,)
        Largest relative change of a sample in each iteration; empty without a `tol`, which saves
        the time to measure it (``tol=0`` records it and stops for a fixed point alone).
    """

    z: Tensor
    n_iter: int
    converged: Tensor
    finite: Tensor
    history: Tensor


@dataclass(frozen=True, eq=False)
class Iterated(Generic[StateT]):
    """What `iterate` returns.

    Attributes
    ----------
    z : Tensor
        Of all samples, after the last iteration of each.
    state : State
        After the last iteration, of the samples that were still in the batch.
    n_iter : int
        Iterations done.
    resting : bool Tensor, shape (n,)
        Samples that rest; False everywhere without `rests`.
    first, before : Tensor
        z after the first iteration, and before the last one; see `ran_away`.
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
    """Iterate until all samples rest, a callback stops, or `n_iter` iterations are done.

    Parameters
    ----------
    problem : Problem, LatentProblem, or whatever the iteration takes
    iteration : Iteration
    state : State
        Where to begin: what ``iteration.init`` returned, or the state of an earlier run.
    n_iter : int
        Largest number of iterations; 0 returns what was given.
    rests : callable, optional
        ``rests(problem, before, state)`` tells the samples that need no further iteration.
    until_rest : bool, default True
        Whether the loop ends when all samples rest.
    freeze : bool, default False
        Whether a sample that rests once is kept as it is: the other samples of the batch, and how long
        they take, must not matter. Once enough samples rest to pay for the copies, they leave the batch
        (``problem.take(rows)``, ``state.take(rows)``), if the problem is separable.
    callbacks : sequence of callables
        Each is called with the state after every iteration; a true result ends the loop.

    Returns
    -------
    Iterated
    """
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
    """z of the samples of a run, and which rest, as they are after the last iteration."""

    def __init__(self, z: Tensor) -> None:
        self.z = z
        self.resting = torch.zeros(len(z), dtype=torch.bool, device=z.device)

    @property
    def size(self) -> int:
        return len(self.resting)

    def moved(self, z: Tensor) -> None:
        self.z = z

    def rested(self, rests: Tensor) -> int:
        """Note the samples that rest, and return how many others there are."""
        self.resting = rests
        return len(rests) - int(rests.sum())

    def shrunk(self, problem: Any, state: Any) -> tuple[Any, Any]:
        return problem, state

    def whole(self) -> tuple[Tensor, Tensor]:
        return self.z, self.resting


class _Frozen(_Batch):
    """The same of samples that are kept once they rest, and leave the batch in time."""

    def __init__(self, z: Tensor) -> None:
        super().__init__(z)
        self._all, self._all_resting = z.clone(), self.resting
        self._rows = torch.arange(len(z), device=z.device)

    def moved(self, z: Tensor) -> None:
        self.z = torch.where(expand(self.resting, z), self.z, z)

    def rested(self, rests: Tensor) -> int:
        return super().rested(self.resting | rests)

    def shrunk(self, problem: Any, state: Any) -> tuple[Any, Any]:
        """Return problem and state of the samples that still move."""
        if not problem.separable:
            return problem, state
        self._write()
        left = torch.nonzero(~self.resting).flatten()
        problem, state, self._rows = problem.take(left), state.take(left), self._rows[left]
        self.z, self.resting = state.z, torch.zeros_like(self.resting[left])
        return problem, state

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return z and rest of all samples that there were."""
        self._write()
        return self._all, self._all_resting

    def _write(self) -> None:
        self._all[self._rows], self._all_resting[self._rows] = self.z, self.resting


class RelativeChange:
    """Samples rest when ``||z - before|| <= tol ||z||``; the largest change of each iteration is kept.

    Attributes
    ----------
    history : list of Tensor
        Largest relative change of a sample in each iteration.
    converged : bool Tensor, shape (n,), or None before the first iteration
        Samples whose last change was at most `tol`. A sample that is not finite, whose change is NaN,
        rests but has not converged.
    """

    def __init__(self, tol: float) -> None:
        self.tol = tol
        self.history: list[Tensor] = []
        self.converged: Tensor | None = None

    @torch.no_grad()
    def __call__(self, problem: Any, before: Tensor, state: State, /) -> Tensor:
        """Return which samples rest."""
        length = norm(state.z)
        # 0 for a code that stays at zero
        change = norm(state.z - before) / length.clamp_min(torch.finfo(length.dtype).tiny)
        self.history.append(change.max())
        self.converged = change <= self.tol
        return ~(change > self.tol)


@torch.no_grad()
def ran_away(z0: Tensor, first: Tensor, before: Tensor, z: Tensor) -> bool:
    """Return whether the last move of a sample dwarfs its first: a descent does not accelerate for ever.

    The moves of a proximal gradient method with a valid step never grow; momentum lets them grow
    at most with the number of iterations.
    """
    bound = _RUNAWAY * (norm(z0) + norm(first - z0))
    return not bool((norm(z - before) <= bound).all())


def check_requirements(problem: Any, solver: Solver[Any, Any]) -> None:
    """Raise IncompatibleError, naming solver, term and capability, if a term lacks one."""
    who, what = type(solver).__name__, type(problem).__name__
    for requirement, advice in solver.requires.items():
        name, capability = requirement.split(".")
        owner = problem if hasattr(problem, name) else solver
        if name != "problem" and not hasattr(owner, name):
            hint = "; use decode, or LevenbergMarquardt or Adam" if isinstance(problem, LatentProblem) else ""
            raise IncompatibleError(f"{who} needs problem.{name}, which {what} does not have{hint}")
        term = problem if name == "problem" else getattr(owner, name)
        # a capability of None, as the curvature of a Poisson likelihood, is a missing one
        if getattr(term, capability, None) is None:
            raise IncompatibleError(
                f"{who} needs {requirement}, which {type(term).__name__} does not "
                f"have{'; ' * bool(advice)}{advice}"
            )
