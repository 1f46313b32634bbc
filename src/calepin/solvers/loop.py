"""The one loop that runs every iterative solver.

A solver is a frozen value with two functions, `init` and `step`, on an explicit state. What the loop
adds is the same for all: when to stop, how the result is differentiated, what is reported.
"""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from calepin._samples import norm
from calepin.errors import IncompatibleError
from calepin.problem import Problem

__all__ = ["Solution", "Solver", "State", "check_requirements", "solve"]

DIFFERENTIATE = ("none", "unroll")
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
    differentiate : {"none", "unroll"}
        "none" returns codes without a graph. "unroll" back-propagates through every iteration, to y,
        z0 and whatever the operator, the offset and the penalty hold; step sizes count as constants.
    tol : float, optional
        Relative change of a sample that counts as rest.

    Returns
    -------
    Solution

    Raises
    ------
    IncompatibleError
        If a term of the problem lacks what the solver requires; names all three.
    ValueError
        If an argument is out of range, or if the codes ran away because of the solver's own step size.
    """
    _check_arguments(problem, n_iter, z0, differentiate, tol)
    check_requirements(problem, solver)
    with torch.set_grad_enabled(differentiate == "unroll" and torch.is_grad_enabled()):
        z0 = problem.zeros() if z0 is None else z0
        state = solver.init(problem, z0)
        z1 = before = z0
        history: list[Tensor] = []
        converged = torch.zeros(len(z0), dtype=torch.bool, device=z0.device)
        k = 0
        for k in range(n_iter):
            before, state = state.z, solver.step(problem, state)
            if k == 0:
                z1 = state.z
            if tol is not None:
                change = _relative_change(before, state.z)
                history.append(change.max())
                converged = change <= tol
                # the change of a sample that is no longer finite is NaN: it waits for nothing
                if not (change > tol).any():
                    break
    if _ran_away(z0, z1, before, state.z):
        solver.check(problem)
    return Solution(
        z=state.z,
        n_iter=k + 1,
        converged=converged,
        finite=torch.isfinite(state.z.detach()).flatten(1).all(1),
        history=torch.stack(history) if history else z0.detach().real.new_empty(0),
    )


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


@torch.no_grad()
def _ran_away(z0: Tensor, z1: Tensor, before: Tensor, z: Tensor) -> bool:
    """Whether the last move of a sample dwarfs its first: a descent does not accelerate for ever.

    The moves of a proximal gradient method with a valid step never grow; momentum lets them grow at
    most with the number of iterations.
    """
    bound = _RUNAWAY * (norm(z0) + norm(z1 - z0))
    return not bool((norm(z - before) <= bound).all())


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
