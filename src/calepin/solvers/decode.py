"""Latents of observations: `decode` runs a solver from several starts and keeps the best result.

    minimise over z   nll(A G(z) + offset, y) + (prior / 2) ||z||^2      with ||z|| <= radius

The objective has local minima, so the result depends on the start. Possible starts are the proposal of the
generator, the latents of an earlier decoding, and random ones. The best result is kept for each sample.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, check_number, check_tensor
from calepin.core.random import randn
from calepin.core.threads import single_threaded_torch
from calepin.generators.latent_problem import LatentProblem, require_latent_problem
from calepin.likelihoods import Gaussian
from calepin.solvers.iterate import Solver, check_requirements, iterate
from calepin.solvers.levenberg_marquardt import LevenbergMarquardt

__all__ = ["Decoded", "LatentSolver", "decode"]

_BLOCK = 1 << 24  # number of entries of the Jacobians in memory at once
_TELLS_STARTS_APART = 1e-4  # `tol` for all starts; only the best start continues to the final `tol`


class LatentSolver(Solver[Any, Any], Protocol):
    """Interface of a solver for `decode`, in addition to that for `solve`; states have ``take(rows)``."""

    n_iter: ClassVar[int]
    """Default of the largest number of iterations in `decode`."""

    def rests(self, problem: Any, state: Any, tol: float) -> Tensor:
        """Return which samples have converged, (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class Decoded:
    """The result of `decode`.

    Attributes
    ----------
    z : Tensor, shape (n, k)
        The best latents of each sample.
    objective : Tensor, shape (n,)
        Sum of nll and prior at z.
    n_iter : int
        Number of iterations of the slowest start.
    converged : bool Tensor, shape (n,)
        Samples whose best start converged within `n_iter` iterations; always False with Adam.
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
    """Estimate the latents of each sample from several starts, and keep the best result.

    All starts iterate to a coarse tolerance; then only the best start of each sample continues to `tol`. The
    result does not depend on the number of threads.

    Parameters
    ----------
    problem : LatentProblem
        Observations, operator, likelihood and generator.
    solver : LatentSolver, optional
        `LevenbergMarquardt` (the default), `Adam`, or another of `calepin.solvers`.
    n_starts : int, default 1
        Number of starts. The first one is `z0` if given. Otherwise it is the proposal of the generator's
        ``initial_latents(problem)``, if it has one and the likelihood is Gaussian. All others are random:
        standard normal, and the same for all samples, so that results do not depend on other samples.
    z0 : Tensor, shape (n, k), optional
        Warm start, such as the latents of an earlier decoding or of an encoder.
    n_iter : int, optional
        Largest number of iterations; by default 100 for Levenberg-Marquardt and 1000 for Adam.
    tol : float, default 1e-6
        A sample has converged if a gradient step would lower its objective by less than this fraction of it.
    generator : torch.Generator, optional
        Draws the random starts; by default a generator with seed 0.

    Returns
    -------
    Decoded

    Raises
    ------
    IncompatibleError
        If the problem is not a `LatentProblem`.
    ValueError
        If an argument is out of range, or if the sizes of generator and operator do not match.
    """
    problem = require_latent_problem("decode", problem)
    check_arguments(decode, locals())
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
    """Run all starts to a coarse tolerance, then the best start of each sample to `tol`."""
    if len(starts) == 1:
        return _run(problem, solver, starts[0], n_iter, tol)
    coarse = max(tol, _TELLS_STARTS_APART)
    n = len(starts[0])
    if problem.separable:  # all starts as one batch
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
    """Iterate until all samples have converged."""

    def rests(problem: LatentProblem, before: Tensor, state: Any) -> Tensor:
        return solver.rests(problem, state, tol)

    state = solver.init(problem, z0)
    run = iterate(problem, solver, state, n_iter=n_iter, rests=rests, freeze=True)
    return Decoded(run.z, problem.objective(run.z), run.n_iter, run.resting)
