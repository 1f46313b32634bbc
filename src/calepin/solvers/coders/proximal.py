"""Differentiable codes by unfolded proximal gradient descent, for every family, operator and penalty."""

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_boolean, check_floating, check_integer, check_number, check_one_of
from calepin.likelihoods import Likelihood
from calepin.penalties import HardThreshold, Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import FAR, Codes, GradientRule, violation
from calepin.solvers.convolutional_layers import convolutional_layers
from calepin.solvers.iterate import Solver
from calepin.solvers.proximal import FISTA, ISTA
from calepin.solvers.solve import solve
from calepin.solvers.sparse_layers import sparse_layers

__all__ = ["Differentiate", "ProximalCoder", "UnfoldedSolver", "unfolded_codes", "unfolded_encoder"]

UnfoldedSolver = Literal["ista", "fista"]
"""Layers without momentum ("ista") or with momentum ("fista")."""

Differentiate = Literal["unroll", "last-k", "implicit"]
"""How an encoder is differentiated: see `calepin.solve`."""


@dataclass(frozen=True)
class ProximalCoder:
    """Unfolded proximal gradient descent on ``nll + penalty``, for every family, operator and stride.

    Parameters
    ----------
    penalty : Penalty
        Penalty with a proximal map.
    n_iter : int, default 100
        Number of iterations, that is layers T; with a `tol`, the largest number.
    step_size : float, "backtracking" or None, default None
        Step size. None means 1 / L for families of bounded curvature, and backtracking for others (Poisson).
    solver : {"fista", "ista"}, default "fista"
        Iterations with momentum ("fista") or without ("ista").
    nonnegative : bool, default False
        Whether the penalty keeps codes nonnegative; used only when codes are refitted.
    tol : float, optional
        Relative change of a code below which it has converged. Without it, exactly `n_iter` iterations are
        done; a code has converged if the violation of its optimality conditions is at most 0.05.
    differentiate : {"unroll", "last-k", "implicit"}, default "unroll"
        How the encoder is differentiated, for gradients that need it.
    last_k, checkpoint_every : int, optional
        See `calepin.solve`.
    """

    penalty: Penalty
    n_iter: int = 100
    step_size: float | Literal["backtracking"] | None = None
    solver: UnfoldedSolver = "fista"
    nonnegative: bool = False
    tol: float | None = None
    differentiate: Differentiate = "unroll"
    last_k: int | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        check_integer("n_iter", self.n_iter)
        check_one_of("solver", self.solver, ("fista", "ista"))
        check_boolean("nonnegative", self.nonnegative)
        check_number("tol", self.tol, least=0, optional=True)
        check_fields(self)

    def encode(
        self, problem: Problem, *, z0: Tensor | None = None, gradient: GradientRule | None = None
    ) -> Codes:
        """Return codes as a tensor, with their graph if the gradient is not "dec".

        Without a gradient the codes say which of them have converged.

        Warns
        -----
        ConvergenceWarning
            With a `tol`, some codes have not converged within `n_iter` iterations.
        """
        check_arguments(ProximalCoder.encode, locals())
        if z0 is not None:
            check_floating("z0", z0, real=True)
        solver = self._solver(problem.likelihood, gradient)
        if self.tol is None:
            values = unfolded_codes(
                problem,
                solver,
                n_iter=self.n_iter,
                z0=z0,
                gradient=gradient or "dec",
                differentiate=self.differentiate,
                last_k=self.last_k,
                checkpoint_every=self.checkpoint_every,
            )
            codes = Codes(values, problem.offset)
            if gradient is not None or isinstance(self.penalty, HardThreshold):
                return codes
            converged = violation(problem, codes, self.penalty) <= FAR
            return replace(codes, converged=torch.from_numpy(converged).to(values.device))
        differentiate = "none" if gradient in (None, "dec") else self.differentiate
        found = solve(
            problem, solver, n_iter=self.n_iter, z0=z0, tol=self.tol, differentiate=differentiate,
            last_k=self.last_k if differentiate == "last-k" else None,
        )  # fmt: skip
        _warn(found.converged, self)
        return Codes(found.z, problem.offset, converged=found.converged)

    def shortened(self, n_rounds: int) -> Self:
        """Return a coder with fewer iterations."""
        check_integer("n_rounds", n_rounds)
        return replace(self, n_iter=-(-self.n_iter // n_rounds))

    def _solver(self, likelihood: Likelihood, gradient: GradientRule | None) -> Any:
        step_size = self.step_size
        if step_size is None and likelihood.curvature is None:
            step_size = "backtracking"
        if self.solver == "ista":
            return ISTA(self.penalty, step_size)
        # restarts are discrete decisions without a gradient
        return FISTA(self.penalty, step_size, restart=gradient in (None, "dec"))


def unfolded_encoder(
    penalty: Penalty, *, step_size: float | Tensor | None, solver: UnfoldedSolver, decay: float
) -> Any:
    """Return the solver whose iterations are the layers."""
    if solver == "ista":
        return ISTA(penalty, step_size, decay=decay)
    return FISTA(penalty, step_size, restart=False, decay=decay)


def unfolded_codes(
    problem: Problem,
    encoder: Solver[Any, Any],
    *,
    n_iter: int,
    gradient: GradientRule,
    z0: Tensor | None = None,
    differentiate: Differentiate = "unroll",
    last_k: int | None = None,
    checkpoint_every: int | None = None,
) -> Tensor:
    """Return codes for a kind of gradient: constants for "dec", otherwise with the graph of the encoder."""
    how: dict[str, Any] = {}
    if gradient != "dec" or differentiate == "implicit":
        how = {"differentiate": differentiate, "last_k": last_k, "checkpoint_every": checkpoint_every}
    with torch.set_grad_enabled(gradient != "dec" and torch.is_grad_enabled()):
        if how.get("differentiate", "unroll") == "unroll":
            codes = convolutional_layers(problem, encoder, n_iter, z0)
            if codes is None and z0 is None:
                codes = sparse_layers(problem, encoder, n_iter)
            if codes is not None:
                return codes
        return solve(problem, encoder, n_iter=n_iter, z0=z0, **how).z


def _warn(converged: Tensor, coder: ProximalCoder) -> None:
    missed = (~converged).nonzero().flatten()
    if not len(missed):
        return
    from sklearn.exceptions import ConvergenceWarning

    warnings.warn(
        f"{len(missed)} of {len(converged)} codes changed by more than tol = {coder.tol:g} in iteration "
        f"n_iter = {coder.n_iter} (the first is sample {int(missed[0])})",
        ConvergenceWarning,
        stacklevel=3,
    )
