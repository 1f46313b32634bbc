"""`solve` runs an iterative solver on a problem, and can differentiate its result."""

from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, check_methods, check_number, check_one_of, check_tensor
from calepin.core.errors import IncompatibleError
from calepin.generators.latent_problem import LatentProblem
from calepin.problem import Problem
from calepin.solvers.implicit import implicit_codes
from calepin.solvers.iterate import (
    Iterated,
    Iteration,
    RelativeChange,
    Solution,
    Solver,
    State,
    check_requirements,
    iterate,
    ran_away,
)

__all__ = ["Solution", "Solver", "solve"]

DIFFERENTIATE = ("none", "unroll", "last-k", "implicit")

ProblemT = TypeVar("ProblemT", Problem, LatentProblem)
StateT = TypeVar("StateT", bound=State)


def solve(
    problem: ProblemT,
    solver: Solver[ProblemT, StateT],
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
    sample is at most `tol`. This is not a bound on the error of the codes: a solver with small steps may be
    far from its limit.

    Parameters
    ----------
    problem : Problem or LatentProblem
        Observations and their model.
    solver : Solver
        Iterative method, for example ``FISTA(L1(0.1))``; for a LatentProblem ``LevenbergMarquardt()`` or
        ``Adam()``.
    n_iter : int
        Largest number of iterations; without a `tol`, the exact number.
    z0 : Tensor, shape (n, *operator.in_shape), optional
        Initial codes, by default zero.
    differentiate : {"none", "unroll", "last-k", "implicit"}, default "none"
        "none" returns codes without a graph. "unroll" back-propagates through every iteration to y, z0, and
        the tensors of the operator, the offset and the penalty; computed step sizes are constants.
        "last-k" back-propagates through the last `last_k` iterations, whose start is a constant.
        "implicit" returns the exact lasso solution, the limit of the solver, with the gradient of infinitely
        many iterations (`calepin.solvers.implicit`). It needs a Gaussian likelihood, a Dense operator, and
        L1 or NonNegativeL1. It does not iterate, so n_iter, z0 and tol have no effect.
    last_k : int, optional
        Number of iterations to differentiate, only with "last-k". With a `tol` they are done after
        convergence.
    checkpoint_every : int, optional
        Limits the memory of "unroll" and "last-k". States are stored only at intervals of this number of
        iterations, and the iterations in between are recomputed once for the gradient. The memory is smallest
        at about the square root of the number of iterations. Not allowed with a `tol`.
        On Linux, glibc may keep freed buffers below 32 MB, so that a process seems to use more memory than it
        does; with the environment variable MALLOC_MMAP_THRESHOLD_=65536 they are returned.
    tol : float, optional
        Relative change below which a sample has converged.

    Returns
    -------
    Solution

    Raises
    ------
    IncompatibleError
        If a term of the problem lacks what the solver, or "implicit", requires.
    ValueError
        If an argument is out of range, or if the codes diverged because of the solver's step size.
    """
    check_methods("solver", solver, "init", "step")
    _check_arguments(problem, n_iter, z0, differentiate, tol)
    _check_modes(differentiate, last_k, checkpoint_every, tol)
    check_requirements(problem, solver)
    check_arguments(solve, locals())
    if differentiate == "implicit":
        z = implicit_codes(_linear(problem), solver)
        converged = torch.ones(len(z), dtype=torch.bool, device=z.device)
        return Solution(z, 0, converged, finite=_finite(z), history=z.detach().new_empty(0))
    if differentiate == "none":
        problem = problem.prepared()
    z0 = problem.zeros() if z0 is None else z0
    rests = None if tol is None else RelativeChange(tol)
    n_recorded = {"none": 0, "unroll": n_iter}.get(differentiate, min(last_k or 0, n_iter))
    with torch.set_grad_enabled(n_recorded == n_iter and torch.is_grad_enabled()):
        state = solver.init(problem, z0)
    with torch.no_grad():
        run = iterate(problem, solver, state, n_iter=n_iter - n_recorded, rests=rests)
    if n_recorded:
        begun = run
        if checkpoint_every is None:
            until_rest = differentiate == "unroll"
            run = iterate(problem, solver, begun.state, n_iter=n_recorded, rests=rests, until_rest=until_rest)
        else:
            run = _checkpointed(problem, solver, begun.state, n_recorded, checkpoint_every)
        run = _joined(begun, run)
    z = run.state.z
    if ran_away(z0, run.first, run.before, z):
        solver.check(problem)
    never = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    return Solution(
        z=z,
        n_iter=run.n_iter,
        converged=never if rests is None or rests.converged is None else rests.converged,
        finite=_finite(z),
        history=z0.detach().real.new_tensor(rests.history if rests else []),
    )


def _checkpointed(
    problem: ProblemT, solver: Iteration[ProblemT, StateT], state: StateT, n_iter: int, every: int
) -> Iterated[StateT]:
    """Iterate, and store one state per segment for the gradient."""

    def segment(state: StateT, length: int) -> tuple[Tensor, StateT]:
        run = iterate(problem, solver, state, n_iter=length)
        return run.before.detach(), run.state

    first = before = state.z
    for done in range(0, n_iter, every):
        # iterations draw no random numbers
        before, state = checkpoint(
            segment, state, min(every, n_iter - done), use_reentrant=False, preserve_rng_state=False
        )  # pyright: ignore[reportGeneralTypeIssues]
        first = state.z.detach() if done == 0 else first
    never = torch.zeros(len(before), dtype=torch.bool, device=before.device)
    return Iterated(state.z, state, n_iter, never, first, before)


def _joined(begun: Iterated[StateT], ended: Iterated[StateT]) -> Iterated[StateT]:
    """Return two consecutive runs as one."""
    first = begun.first if begun.n_iter else ended.first
    return Iterated(
        ended.z, ended.state, begun.n_iter + ended.n_iter, ended.resting, first, ended.before.detach()
    )


def _linear(problem: Problem | LatentProblem) -> Problem:
    if isinstance(problem, LatentProblem):
        raise IncompatibleError("'implicit' needs a Problem, whose codes are linear, got a LatentProblem")
    return problem


def _finite(z: Tensor) -> Tensor:
    return torch.isfinite(z.detach()).flatten(1).all(1)


def _check_arguments(problem: Any, n_iter: Any, z0: Any, differentiate: str, tol: Any) -> None:
    if not isinstance(problem, Problem | LatentProblem):
        raise TypeError(f"problem: expected a Problem or LatentProblem, got {type(problem).__name__}")
    check_integer("n_iter", n_iter)
    check_one_of("differentiate", differentiate, DIFFERENTIATE)
    check_number("tol", tol, least=0, optional=True)
    if z0 is not None and (check_tensor("z0", z0).shape, z0.dtype) != (
        problem.code_shape,
        problem.code_dtype,
    ):
        raise ValueError(
            f"z0: expected shape {problem.code_shape} and {problem.code_dtype}, "
            f"got {tuple(z0.shape)} and {z0.dtype}"
        )


def _check_modes(
    differentiate: str, last_k: int | None, checkpoint_every: int | None, tol: float | None
) -> None:
    """Raise ValueError for an argument that the differentiation mode needs but lacks, or does not use."""
    if (last_k is None) == (differentiate == "last-k"):
        expected = "a positive integer" if last_k is None else "None"
        raise ValueError(f"last_k: expected {expected} with differentiate={differentiate!r}, got {last_k!r}")
    check_integer("last_k", last_k, optional=True)
    check_integer("checkpoint_every", checkpoint_every, optional=True)
    if checkpoint_every is not None and differentiate not in ("unroll", "last-k"):
        raise ValueError(
            f"checkpoint_every: expected None with differentiate={differentiate!r}, got {checkpoint_every!r}"
        )
    if checkpoint_every is not None and tol is not None:
        raise ValueError(f"tol: expected None with checkpoint_every, got {tol!r}")
