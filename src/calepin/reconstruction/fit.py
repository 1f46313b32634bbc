"""The weights of an untrained network, fitted to one observation.

    minimise over w    nll( A N_w + offset, y )

Heckel and Soltanolkotabi, "Compressive sensing with un-trained neural networks", 2020, eq. 2. A batch of
observations is a batch of independent problems: each has its own weights, converges, diverges and
stops by itself, and none changes another's numbers.
"""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.core.progress import progress_bar
from calepin.likelihoods import Gaussian, Likelihood
from calepin.networks.untrained import UntrainedNetwork
from calepin.operators.base import LinearOperator
from calepin.problem import Problem
from calepin.reconstruction._checkpoint import restore, save
from calepin.reconstruction._iteration import Fit, FitState
from calepin.reconstruction.consistency import data_consistent
from calepin.reconstruction.optimizers import Adam, Optimizer

__all__ = ["FitProgress", "UntrainedSolution", "fit_untrained"]


@dataclass(frozen=True, eq=False)
class FitProgress:
    """What a callback sees after an iteration: the current iterate, one row a problem (and start).

    Attributes
    ----------
    n_iter : int
    x : Tensor (n, *out_shape)
    loss, residual : Tensor (n,)
        Training loss, and ``||y - mean|| / ||y||``.
    weights : Tensor (n, n_parameters)
    """

    n_iter: int
    x: Tensor
    loss: Tensor
    residual: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class UntrainedSolution:
    """What `fit_untrained` found.

    Attributes
    ----------
    x : Tensor (n, *network.out_shape)
        Signals of the best iterates, averaged over the starts.
    weights : Tensor (n * n_starts, n_parameters)
        Weights of the best iterates, the starts of a problem side by side.
    loss, residual : Tensor (n * n_starts,)
        Of the best iterates.
    best_iteration : Tensor (n * n_starts,)
    n_iter : int
        Iterations done.
    converged : Tensor (n * n_starts,) of bool
    n_reductions : Tensor (n * n_starts,)
        How often a problem diverged, went back to its best iterate and halved its step.
    history : dict of ndarray (n_iter + 1, n * n_starts)
        "loss" and "residual" of every iterate, "held_out" with held-out measurements.
    seconds : float
    """

    x: Tensor
    weights: Tensor
    loss: Tensor
    residual: Tensor
    best_iteration: Tensor
    n_iter: int
    converged: Tensor
    n_reductions: Tensor
    history: dict[str, np.ndarray]
    seconds: float


def fit_untrained(
    network: UntrainedNetwork,
    operator: LinearOperator,
    y: Tensor,
    *,
    likelihood: Likelihood | None = None,
    offset: float | Tensor = 0.0,
    optimizer: Optimizer | None = None,
    max_iter: int = 2000,
    tol: float = 1e-3,
    patience: int | None = None,
    start: Tensor | None = None,
    n_starts: int = 1,
    held_out: float = 0.0,
    consistent: bool = False,
    callback: Callable[[FitProgress], bool | None] | None = None,
    generator: torch.Generator | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: float = 60.0,
    resume: bool = False,
    verbose: bool = False,
) -> UntrainedSolution:
    """Fit the weights of a network to each observation; return the iterates of the best loss.

    Parameters
    ----------
    network : UntrainedNetwork
        Makes the signals.
    operator : LinearOperator
        A; what it takes is what the network makes.
    y : Tensor, shape (n, *operator.out_shape)
        Observations; their precision and device are used throughout.
    likelihood : Likelihood, optional
        Family of the observations; `Gaussian` by default.
    offset : float or Tensor, default 0
        Known part of the linear predictor.
    optimizer : Optimizer, optional
        `Adam` by default.
    max_iter : int, default 2000
        Iterations at most.
    tol : float, default 1e-3
        A problem has converged when ``||y - mean|| / ||y||`` is at most this; 0 never stops.
    patience : int, optional
        A problem has converged, too, when its best loss fell by less than one percent in so many
        iterations; with held-out measurements it stops when their loss has not fallen for so many (then
        200 by default).
    start : Tensor, shape (n * n_starts, n_parameters), optional
        Weights to begin with; by default the network's own.
    n_starts : int, default 1
        Random starts for each observation; their signals are averaged.
    held_out : float, default 0
        Share of the measurements that is kept from the fit. The iterate that predicts them best is then
        returned in place of the one with the best training loss.
    consistent : bool, default False
        Whether the signals are moved to the nearest ones that the measurements allow (Gaussian only).
    callback : callable, optional
        Called with a `FitProgress` after every iteration; a true result ends the fit.
    generator : torch.Generator, optional
        Draws the weights and the held-out measurements; by default a fresh one with a fixed seed.
    checkpoint : path, optional
        File that receives the state at the end, on Ctrl-C, and every `checkpoint_seconds`.
    checkpoint_seconds : float, default 60
    resume : bool, default False
        Go on from `checkpoint` where that file exists: the same numbers as without interruption.
    verbose : bool, default False
        Show a progress bar with the residual.

    Returns
    -------
    UntrainedSolution

    Warns
    -----
    ConvergenceWarning
        A problem reached neither `tol` nor a plateau; names the residual, and steps reduced.

    Raises
    ------
    ValueError
        Arguments that don't fit together; an observation that is zero wherever it was measured.
    """
    likelihood = likelihood or Gaussian()
    optimizer = optimizer or Adam()
    problem = _checked_problem(network, operator, likelihood, y, offset)
    _check_settings(max_iter, tol, n_starts, held_out, consistent, likelihood, checkpoint)
    fit = Fit(network, problem, optimizer, tol, patience, n_starts, _hold_out(y, held_out, generator))
    state = restore(checkpoint, fit) if checkpoint is not None and resume else None
    if state is None:
        if start is None:
            start = network.initial(len(y) * n_starts, like=y, generator=generator)
        state = fit.begin(start)
    try:
        with progress_bar("fitting", total=max_iter, done=state.n_iter, shown=verbose) as bar:
            saved = begun = time.monotonic()
            while state.n_iter < max_iter and not bool(state.done.all()):
                state = replace(fit.advance(state), seconds=state.seconds + time.monotonic() - begun)
                begun = time.monotonic()
                bar.update(state.n_iter, f"residual {float(state.best.residual.max()):.2e}")
                point = state.point
                if callback is not None and callback(
                    FitProgress(state.n_iter, point.x, point.loss, point.residual, point.weights)
                ):
                    break
                if checkpoint is not None and begun - saved > checkpoint_seconds:
                    save(checkpoint, fit, state)
                    saved = begun
    finally:
        # a state is replaced as a whole: after Ctrl-C this is the last whole one
        if checkpoint is not None:
            save(checkpoint, fit, state)
    _warn(state, tol)
    return _solution(fit, state, consistent)


def _checked_problem(
    network: UntrainedNetwork,
    operator: LinearOperator,
    likelihood: Likelihood,
    y: Tensor,
    offset: float | Tensor,
) -> Problem:
    if operator.in_shape != network.out_shape:
        raise ValueError(
            f"network: expected signals of shape {operator.in_shape}, which {type(operator).__name__} "
            f"measures, got {network.out_shape}"
        )
    problem = Problem(operator, likelihood, y, offset)
    with torch.no_grad():
        like = torch.zeros(1, dtype=y.dtype.to_complex() if network.is_complex else y.dtype.to_real())
        zero = like.to(y.device).new_zeros(len(y), *operator.in_shape)
        image = operator(zero)
        if image.is_complex() != y.is_complex():
            kinds = ("complex", "real") if image.is_complex() else ("real", "complex")
            raise ValueError(
                f"y: expected {kinds[0]} values, as {type(operator).__name__} makes of the network's "
                f"signals, got {kinds[1]} ones"
            )
        if isinstance(likelihood, Gaussian):
            empty = ~torch.as_tensor(operator.adjoint(y - offset) != 0).flatten(1).any(1)
            if bool(empty.any()):
                raise ValueError(
                    f"y: expected a signal that was seen, got A^H (y - offset) = 0 for sample "
                    f"{int(empty.nonzero()[0])}: nothing was measured, or all that was is zero"
                )
    return problem


def _check_settings(
    max_iter: int,
    tol: float,
    n_starts: int,
    held_out: float,
    consistent: bool,
    likelihood: Likelihood,
    checkpoint: str | os.PathLike | None,
) -> None:
    for name, value in (("max_iter", max_iter), ("n_starts", n_starts)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if not tol >= 0:
        raise ValueError(f"tol: expected at least 0, got {tol}")
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out: expected a share in [0, 1), got {held_out}")
    if consistent and not isinstance(likelihood, Gaussian):
        raise IncompatibleError(f"consistent needs Gaussian observations, got {type(likelihood).__name__}")
    if checkpoint is not None and not Path(checkpoint).parent.is_dir():
        raise FileNotFoundError(f"checkpoint: the folder {Path(checkpoint).parent} does not exist")


def _hold_out(y: Tensor, share: float, generator: torch.Generator | None) -> Tensor | None:
    """Draw the entries that are kept from the fit, the same for every observation: (1, *y.shape[1:])."""
    if share == 0:
        return None
    generator = generator or torch.Generator().manual_seed(1)
    drawn = torch.rand(1, *y.shape[1:], generator=generator, device=generator.device) < share
    if not bool(drawn.any()) or bool(drawn.all()):
        raise ValueError(f"held_out: expected a share of at least one measurement, not all, got {share}")
    return drawn.to(y.device)


def _solution(fit: Fit, state: FitState, consistent: bool) -> UntrainedSolution:
    best = state.best
    x = best.x.view(-1, fit.n_starts, *best.x.shape[1:]).mean(1)
    if consistent:
        x = data_consistent(fit.problem.operator, x, fit.problem.y - fit.problem.offset)
    return UntrainedSolution(
        x=x,
        weights=best.weights,
        loss=best.loss,
        residual=best.residual,
        best_iteration=state.best_iteration,
        n_iter=state.n_iter,
        converged=state.converged,
        n_reductions=state.n_reductions,
        history={name: np.array(values[: state.n_iter + 1]) for name, values in state.history.items()},
        seconds=state.seconds,
    )


def _warn(state: FitState, tol: float) -> None:
    if bool(state.converged.all()):
        return
    worst = float(torch.where(state.converged, 0, state.best.residual).max())
    reduced = int(state.n_reductions.max())
    message = (
        f"{int((~state.converged).sum())} of {len(state.converged)} fits have not converged after "
        f"{state.n_iter} iterations: residual {worst:.3g}, tol {tol:g}"
    )
    if reduced:
        message += f"; diverged and halved the step up to {reduced} times, the best iterate is kept"
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
