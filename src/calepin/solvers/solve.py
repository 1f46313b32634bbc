"""The one loop that runs every iterative solver.

A solver is a frozen value with two functions, `init` and `step`, on an explicit state. What the loop
adds is the same for all: when to stop, how the result is differentiated, what is reported.
"""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from calepin.core.errors import IncompatibleError
from calepin.core.samples import norm
from calepin.problem import Problem
from calepin.solvers.implicit import implicit_codes

__all__ = ["Solution", "Solver", "State", "check_requirements", "solve"]

DIFFERENTIATE = ("none", "unroll", "last-k", "implicit")
_RUNAWAY = 1e4


class State(Protocol):
    """What a solver carries from one iteration to the next; the loop reads the code alone."""

    @property
    def z(self) -> Tensor:
        """The code, (n, *in_shape)."""
        ...


StateT = TypeVar("StateT", bound=State)


class Solver(Protocol[StateT]):
    """What `solve` asks of a solver."""

    @property
    def requires(self) -> Mapping[str, str]:
        """What its terms must have, and how to do without.

        Maps "term.capability", where the term is an attribute of the problem or of the solver itself,
        to advice for a term without it (an empty string: no way round).
        """
        ...

    def check(self, problem: Problem) -> None:
        """Raise ValueError if a setting of the solver is to blame when codes run away.

        The loop asks only then, since the answer may cost a norm of the operator.
        """
        ...

    def init(self, problem: Problem, z0: Tensor) -> StateT:
        """Return the state before the first iteration."""
        ...

    def step(self, problem: Problem, state: StateT) -> StateT:
        """Return the state one iteration later; the given one stays as it is."""
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
        Samples whose code has neither NaN nor infinity. A sample that has is not iterated for: the
        loop ends when all others have converged.
    history : Tensor, shape (n_iter,)
        Largest relative change of a sample in each iteration; empty without a `tol`, which saves
        the time to measure it (``tol=0`` records it and stops for a fixed point alone).
    """

    z: Tensor
    n_iter: int
    converged: Tensor
    finite: Tensor
    history: Tensor


def solve(
    problem: Problem,
    solver: Solver[StateT],
    *,
    n_iter: int,
    z0: Tensor | None = None,
    differentiate: str = "none",
    last_k: int | None = None,
    checkpoint_every: int | None = None,
    tol: float | None = None,
) -> Solution:
    """Iterate a solver on a problem.

    With a `tol` the loop ends when the relative change ``||z_k - z_{k-1}|| / ||z_k||`` of every
    sample is at most `tol`. This says that the codes have come to rest; for a solver with slow steps
    it is no bound on their error.

    Parameters
    ----------
    problem : Problem
    solver : Solver
        For example ``FISTA(L1(0.1))``.
    n_iter : int
        Largest number of iterations; exactly that many without a `tol`.
    z0 : Tensor, shape (n, *operator.in_shape), optional
        First codes, zero by default.
    differentiate : {"none", "unroll", "last-k", "implicit"}
        "none" returns codes without a graph. "unroll" back-propagates through every iteration, to y,
        z0 and whatever the operator, the offset and the penalty hold; step sizes count as constants.
        "last-k" does so through the last `last_k` iterations, whose start counts as a constant.
        "implicit" returns the exact solution of the lasso that the solver tends to, with the gradient
        of infinitely many iterations (`calepin.solvers.implicit`): Gaussian likelihood, Dense
        operator, L1 or NonNegativeL1. It iterates not at all, so n_iter, z0 and tol play no part.
    last_k : int, optional
        Iterations to differentiate, with "last-k" only. With a `tol` they follow those that come to rest.
    checkpoint_every : int, optional
        Bounds the memory of "unroll" and "last-k": only every that many iterations is kept, and those
        in between are computed again for the gradient, once. The memory is least for about the
        square root of the iterations. Not with a `tol`.
        On Linux, glibc may keep freed buffers below 32 MB to itself, so that a process looks larger
        than what it uses; the environment variable MALLOC_MMAP_THRESHOLD_=65536 has them returned.
    tol : float, optional
        Relative change of a sample that counts as rest.

    Returns
    -------
    Solution

    Raises
    ------
    IncompatibleError
        If a term of the problem lacks what the solver, or "implicit", requires; names all of them.
    ValueError
        If an argument is out of range, or if the codes ran away because of the solver's own step size.
    """
    _check_arguments(problem, n_iter, z0, differentiate, tol)
    _check_modes(differentiate, last_k, checkpoint_every, tol)
    check_requirements(problem, solver)
    if differentiate == "implicit":
        z = implicit_codes(problem, solver)
        rests = torch.ones(len(z), dtype=torch.bool, device=z.device)
        return Solution(z, 0, converged=rests, finite=_finite(z), history=z.detach().new_empty(0))
    if differentiate == "none":
        problem = problem.prepared()
    z0 = problem.zeros() if z0 is None else z0
    n_recorded = {"none": 0, "unroll": n_iter}.get(differentiate, min(last_k or 0, n_iter))
    run = _Run(problem, solver, z0, tol)
    with torch.set_grad_enabled(n_recorded == n_iter and torch.is_grad_enabled()):
        state = solver.init(problem, z0)
    with torch.no_grad():
        state = run.advance(state, n_iter - n_recorded)
    if checkpoint_every is None:
        state = run.advance(state, n_recorded, stop_at_rest=differentiate == "unroll")
    else:
        state = run.advance_checkpointed(state, n_recorded, checkpoint_every)
    if run.ran_away(state.z):
        solver.check(problem)
    return Solution(
        z=state.z,
        n_iter=run.n_iter,
        converged=run.converged,
        finite=_finite(state.z),
        history=torch.stack(run.history) if run.history else z0.detach().real.new_empty(0),
    )


class _Run(Generic[StateT]):
    """A run of a solver: takes it further, and keeps what has to be known of the iterations done."""

    def __init__(self, problem: Problem, solver: Solver[StateT], z0: Tensor, tol: float | None) -> None:
        self.problem, self.solver, self.tol = problem, solver, tol
        self.n_iter = 0
        self.history: list[Tensor] = []
        self.converged = torch.zeros(len(z0), dtype=torch.bool, device=z0.device)
        self._z0 = self._z1 = self._before = z0.detach()

    def advance(self, state: StateT, n_iter: int, *, stop_at_rest: bool = True) -> StateT:
        for _ in range(n_iter):
            before, state = state.z, self.solver.step(self.problem, state)
            self._note(before, state.z, 1)
            if self.tol is not None and self._rests(before, state.z, self.tol) and stop_at_rest:
                break
        return state

    def advance_checkpointed(self, state: StateT, n_iter: int, every: int) -> StateT:
        """Take the solver further and keep one state of each segment for the gradient."""
        for done in range(0, n_iter, every):
            length = min(every, n_iter - done)
            # nothing in an iteration is random
            before, state = checkpoint(
                self._segment, state, length, use_reentrant=False, preserve_rng_state=False
            )  # pyright: ignore[reportGeneralTypeIssues]
            self._note(before, state.z, length)
        return state

    def _segment(self, state: StateT, length: int) -> tuple[Tensor, StateT]:
        before = state.z
        for _ in range(length):
            before, state = state.z, self.solver.step(self.problem, state)
        return before.detach(), state

    def _note(self, before: Tensor, z: Tensor, n_iter: int) -> None:
        if self.n_iter == 0:
            self._z1 = z.detach()
        self._before = before.detach()
        self.n_iter += n_iter

    def _rests(self, before: Tensor, z: Tensor, tol: float) -> bool:
        """Record the largest relative change, and say whether every finite sample has come to rest."""
        change = _relative_change(before, z)
        self.history.append(change.max())
        self.converged = change <= tol
        # the change of a sample that is no longer finite is NaN: it waits for nothing
        return not (change > tol).any()

    @torch.no_grad()
    def ran_away(self, z: Tensor) -> bool:
        """Whether the last move of a sample dwarfs its first: a descent does not accelerate for ever.

        The moves of a proximal gradient method with a valid step never grow; momentum lets them grow
        at most with the number of iterations.
        """
        bound = _RUNAWAY * (norm(self._z0) + norm(self._z1 - self._z0))
        return not bool((norm(z - self._before) <= bound).all())


def check_requirements(problem: Problem, solver: Solver) -> None:
    """Raise IncompatibleError, naming solver, term and capability, if a term lacks one."""
    for requirement, advice in solver.requires.items():
        name, capability = requirement.split(".")
        term = getattr(problem if hasattr(problem, name) else solver, name)
        # a capability of None, as the curvature of a Poisson likelihood, is a missing one
        if getattr(term, capability, None) is None:
            raise IncompatibleError(
                f"{type(solver).__name__} needs {requirement}, which {type(term).__name__} does not "
                f"have{'; ' * bool(advice)}{advice}"
            )


@torch.no_grad()
def _relative_change(before: Tensor, z: Tensor) -> Tensor:
    """Return ``||z - before|| / ||z||`` of each sample, 0 for a code that stays at zero."""
    length = norm(z)
    return norm(z - before) / length.clamp_min(torch.finfo(length.dtype).tiny)


def _finite(z: Tensor) -> Tensor:
    return torch.isfinite(z.detach()).flatten(1).all(1)


def _check_arguments(
    problem: Problem, n_iter: int, z0: Tensor | None, differentiate: str, tol: float | None
) -> None:
    if not isinstance(n_iter, numbers.Integral) or n_iter < 1:
        raise ValueError(f"n_iter: expected an integer of at least 1, got {n_iter!r}")
    if differentiate not in DIFFERENTIATE:
        raise ValueError(f"differentiate: expected one of {DIFFERENTIATE}, got {differentiate!r}")
    if tol is not None and (not isinstance(tol, numbers.Real) or not tol >= 0):
        raise ValueError(f"tol: expected a number of at least 0 or None, got {tol!r}")
    if z0 is not None and (z0.shape, z0.dtype) != (problem.code_shape, problem.y.dtype):
        raise ValueError(
            f"z0: expected shape {problem.code_shape} and {problem.y.dtype}, "
            f"got {tuple(z0.shape)} and {z0.dtype}"
        )


def _check_modes(
    differentiate: str, last_k: int | None, checkpoint_every: int | None, tol: float | None
) -> None:
    """Raise ValueError for a keyword that the way of differentiating lacks or does not use."""
    if (last_k is None) == (differentiate == "last-k"):
        expected = "a positive integer" if last_k is None else "None"
        raise ValueError(f"last_k: expected {expected} with differentiate={differentiate!r}, got {last_k!r}")
    for name, value in (("last_k", last_k), ("checkpoint_every", checkpoint_every)):
        if value is not None and (not isinstance(value, numbers.Integral) or value < 1):
            raise ValueError(f"{name}: expected a positive integer or None, got {value!r}")
    if checkpoint_every is not None and differentiate not in ("unroll", "last-k"):
        raise ValueError(
            f"checkpoint_every: expected None with differentiate={differentiate!r}, got {checkpoint_every!r}"
        )
    if checkpoint_every is not None and tol is not None:
        raise ValueError(f"tol: expected None with checkpoint_every, got {tol!r}")
