"""The latent behind an observation: `decode` runs a solver from several starts and keeps the best.

    minimise over z   nll(A G(z) + offset, y) + (prior / 2) ||z||^2      with ||z|| <= radius

The objective has local minima, so that starts matter: a generator may know a good one, a z of an
earlier decoding is one, and of several random ones the best is kept for each sample.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from calepin.core.checks import check_integer, check_number, check_tensor
from calepin.core.random import randn
from calepin.core.threads import single_threaded_torch
from calepin.generators.latent_problem import LatentProblem, require_latent_problem
from calepin.likelihoods import Gaussian
from calepin.solvers.iterate import Solver, check_requirements, iterate
from calepin.solvers.levenberg_marquardt import LevenbergMarquardt

__all__ = ["Decoded", "LatentSolver", "decode"]

_BLOCK = 1 << 24  # entries of the Jacobians that are held at once
_TELLS_STARTS_APART = 1e-4  # `tol` of all starts; only the best of them goes on to its own


class LatentSolver(Solver[Any, Any], Protocol):
    """What `decode` asks of a solver, beside what `solve` does; its states have ``take(rows)``."""

    n_iter: ClassVar[int]
    """Largest number of iterations, unless `decode` is given another."""

    def rests(self, problem: Any, state: Any, tol: float) -> Tensor:
        """Return which samples have nothing to gain any more, (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class Decoded:
    """What `decode` returns.

    Attributes
    ----------
    z : Tensor, shape (n, k)
        The best latents of each sample.
    objective : Tensor, shape (n,)
        nll and prior there.
    n_iter : int
        Iterations of the slowest start.
    converged : bool Tensor, shape (n,)
        Samples whose best start came to rest within `n_iter`; never with Adam.
    """

    z: Tensor
    objective: Tensor
    n_iter: int
    converged: Tensor


@torch.no_grad()
@single_threaded_torch()
def decode(
    problem: LatentProblem,
    *,
    solver: LatentSolver | None = None,
    n_starts: int = 1,
    z0: Tensor | None = None,
    n_iter: int | None = None,
    tol: float = 1e-6,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Find the latent of each sample; the best of several starts is kept.

    All starts go on until they can be told apart, the best of them to its end. The result is the same
    whatever the number of threads.

    Parameters
    ----------
    problem : LatentProblem
    solver : LatentSolver, optional
        `LevenbergMarquardt` (the default), `Adam`, or another of `calepin.solvers`.
    n_starts : int, default 1
        The first start is `z0`, else what the generator's ``initial_latents(problem)`` proposes (for a
        Gaussian likelihood), else random. Random ones are standard normal and the same for all
        samples, so that what is found for one does not depend on those beside it.
    z0 : Tensor, shape (n, k), optional
        A warm start: latents of an earlier decoding, or an encoder's.
    n_iter : int, optional
        Largest number of iterations, by default the solver's: 100 for Levenberg-Marquardt, 1000 for Adam.
    tol : float, default 1e-6
        A sample rests when a gradient step would gain less than this fraction of its objective.
    generator : torch.Generator, optional
        Draws the starts; by default a fresh one with seed 0.

    Returns
    -------
    Decoded

    Raises
    ------
    IncompatibleError
        If the problem is no `LatentProblem`.
    ValueError
        If an argument is out of range, or if the generator and the operator don't fit.
    """
    problem = require_latent_problem("decode", problem)
    solver = LevenbergMarquardt() if solver is None else solver
    n_iter = solver.n_iter if n_iter is None else n_iter
    check_requirements(problem, solver)
    check_integer("n_starts", n_starts)
    check_integer("n_iter", n_iter)
    check_number("tol", tol, least=0)
    starts = _starts(problem, n_starts, z0, generator)
    problem = problem.with_gram()
    if not problem.separable:
        return _search(problem, solver, starts, n_iter, tol)
    n, k = problem.code_shape
    n_coefficients = math.prod(problem.problem.operator.in_shape)
    block = max(1, _BLOCK // (n_starts * k * n_coefficients))
    parts = []
    for i in range(0, n, block):
        rows = torch.arange(i, min(i + block, n), device=starts[0].device)
        some = [start[rows] for start in starts]
        parts.append(_search(problem.take(rows), solver, some, n_iter, tol))
    return Decoded(
        torch.cat([part.z for part in parts]),
        torch.cat([part.objective for part in parts]),
        max(part.n_iter for part in parts),
        torch.cat([part.converged for part in parts]),
    )


def _starts(
    problem: LatentProblem, n_starts: int, z0: Tensor | None, generator: torch.Generator | None
) -> list[Tensor]:
    shape, like = problem.code_shape, problem.problem.y.real
    if z0 is not None and (check_tensor("z0", z0).shape != shape or z0.dtype != like.dtype):
        raise ValueError(f"z0: expected shape {shape} and {like.dtype}, got {tuple(z0.shape)} and {z0.dtype}")
    propose = getattr(problem.generator, "initial_latents", None)
    first = [] if z0 is None else [z0]
    if z0 is None and propose is not None and isinstance(problem.problem.likelihood, Gaussian):
        first = [propose(problem.problem)]
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    drawn = [
        randn(shape[1:], like=like, generator=generator).expand(shape) for _ in range(n_starts - len(first))
    ]
    return first + drawn


def _search(
    problem: LatentProblem, solver: LatentSolver, starts: list[Tensor], n_iter: int, tol: float
) -> Decoded:
    """Run all starts until they are told apart, and the best of each sample to its end."""
    if len(starts) == 1:
        return _run(problem, solver, starts[0], n_iter, tol)
    coarse = max(tol, _TELLS_STARTS_APART)
    n = len(starts[0])
    if problem.separable:  # as one batch
        each = torch.arange(n, device=starts[0].device).repeat(len(starts))
        found = _run(problem.take(each), solver, torch.cat(starts), n_iter, coarse)
        z, values = found.z.view(len(starts), n, -1), found.objective.view(len(starts), n)
        count, rest = found.n_iter, found.converged.view(len(starts), n)
    else:
        runs = [_run(problem, solver, start, n_iter, coarse) for start in starts]
        z, values = torch.stack([run.z for run in runs]), torch.stack([run.objective for run in runs])
        count, rest = max(run.n_iter for run in runs), torch.stack([run.converged for run in runs])
    best = values.nan_to_num(nan=math.inf).argmin(0)
    rows = torch.arange(n, device=best.device)
    if count >= n_iter or tol >= coarse:
        done = rest[best, rows] if tol >= coarse else torch.zeros_like(rest[0])
        return Decoded(z[best, rows], values[best, rows], count, done)
    end = _run(problem, solver, z[best, rows], n_iter - count, tol)
    return replace(end, n_iter=count + end.n_iter)


def _run(problem: LatentProblem, solver: LatentSolver, z0: Tensor, n_iter: int, tol: float) -> Decoded:
    """Iterate until all samples rest."""

    def rests(problem: LatentProblem, before: Tensor, state: Any) -> Tensor:
        return solver.rests(problem, state, tol)

    state = solver.init(problem, z0)
    run = iterate(problem, solver, state, n_iter=n_iter, rests=rests, freeze=True)
    return Decoded(run.z, problem.objective(run.z), run.n_iter, run.resting)
