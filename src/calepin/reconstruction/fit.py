"""The weights of an untrained network, fitted to one observation.

    minimise over w    nll( A N_w + offset, y )

Heckel and Soltanolkotabi, "Compressive sensing with un-trained neural networks", 2020, eq. 2. A batch of
observations is a batch of independent problems: each has its own weights and its own convergence,
divergence and stopping. The result of one does not depend on the others.
"""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from calepin.core.checks import check_integer, check_methods, check_number, check_tensor
from calepin.core.errors import IncompatibleError
from calepin.core.interrupt import between_steps
from calepin.core.progress import Bar, progress_bar
from calepin.core.reading import reading
from calepin.likelihoods import Gaussian, Likelihood
from calepin.networks.untrained import UntrainedNetwork
from calepin.operators.base import LinearOperator
from calepin.problem import Problem
from calepin.reconstruction._iteration import FitIteration, FitProblem, FitState
from calepin.reconstruction.consistency import data_consistent
from calepin.solvers.first_order import Adam, Optimizer
from calepin.solvers.iterate import iterate

__all__ = [
    "LEARNING_RATE",
    "MAX_ITER",
    "PATIENCE",
    "TOL",
    "FitProgress",
    "UntrainedSolution",
    "fit_untrained",
]

LEARNING_RATE = 0.03
"""Learning rate of the default optimiser, `Adam`."""
MAX_ITER = 1000
TOL = 1e-2
PATIENCE = 300

_CHECKPOINT = "untrained-fit"


@dataclass(frozen=True, eq=False)
class FitProgress:
    """Argument of a callback: the current iterate, with one row per problem (and start).

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
    """Result of `fit_untrained`.

    Attributes
    ----------
    x : Tensor (n, *network.out_shape)
        Signals of the best iterates, averaged over starts.
    weights : Tensor (n * n_starts, n_parameters)
        Weights of the best iterates; starts of the same problem are neighbours.
    loss, residual : Tensor (n * n_starts,)
        Loss and relative residual of the best iterates.
    best_iteration : Tensor (n * n_starts,)
    n_iter : int
        Iterations done.
    converged : Tensor (n * n_starts,) of bool
    n_reductions : Tensor (n * n_starts,)
        How often a problem diverged and went back to its best iterate with half the step size.
    history : dict of ndarray (n_iter + 1, n * n_starts)
        "loss" and "residual" of every iterate; "held_out" if measurements are held out.
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
    max_iter: int = MAX_ITER,
    tol: float = TOL,
    patience: int | None = PATIENCE,
    start: Tensor | None = None,
    n_starts: int = 1,
    held_out: float = 0.0,
    consistent: bool = False,
    callback: Callable[[FitProgress], bool | None] | None = None,
    generator: torch.Generator | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    resume: bool = False,
    verbose: bool = False,
) -> UntrainedSolution:
    """Fit the weights of a network to each observation; return the iterates with the lowest loss.

    Parameters
    ----------
    network : UntrainedNetwork
        Maps weights to signals.
    operator : LinearOperator
        A, the measurement; its input are the signals of the network.
    y : Tensor, shape (n, *operator.out_shape)
        Observations; precision and device of the fit are those of y.
    likelihood : Likelihood, optional
        Family of the observations; `Gaussian` by default.
    offset : float or Tensor, default 0
        Known part of the linear predictor.
    optimizer : Optimizer, optional
        ``Adam(0.03)`` by default; see `calepin.solvers`.
    max_iter : int, default 1000
        Iterations at most.
    tol : float, default 1e-2
        A problem has converged when ``||y - mean|| / ||y||`` is at most this; 0 never stops.
    patience : int or None, default 300
        A problem has also converged when its best loss decreased by less than one percent in so many
        iterations; with held-out measurements, when their loss did not decrease. None never stops.
    start : Tensor, shape (n * n_starts, n_parameters), optional
        Initial weights; by default those of `UntrainedNetwork.initial`.
    n_starts : int, default 1
        Random starts for each observation; their signals are averaged.
    held_out : float, default 0
        Fraction of the measurements that is held out. The iterate that predicts them best is then
        returned, instead of the one with the lowest training loss.
    consistent : bool, default False
        Whether to replace the signals by the nearest ones that agree with the measurements (Gaussian only).
    callback : callable, optional
        Called with a `FitProgress` after every iteration; a true result ends the fit.
    generator : torch.Generator, optional
        Draws the weights and the held-out measurements; by default a new one with a fixed seed.
    checkpoint : path, optional
        File for the state of the fit, written at the end, on Ctrl-C and SIGTERM (after the current
        iteration), and every `checkpoint_seconds`.
    checkpoint_seconds : float, default 60.0
        Time between two checkpoints, in seconds.
    resume : bool, default False
        Continue from `checkpoint` if that file exists; the result is that of an uninterrupted run.
    verbose : bool, default False
        Show a progress bar with the residual.

    Returns
    -------
    UntrainedSolution

    Raises
    ------
    ValueError
        Arguments that do not fit together, or an observation that is zero everywhere.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM, once the checkpoint is written.

    Warns
    -----
    ConvergenceWarning
        A problem reached neither `tol` nor a plateau; the message has the residual.
    """
    likelihood = Gaussian() if likelihood is None else likelihood
    optimizer = Adam(LEARNING_RATE) if optimizer is None else optimizer
    check_methods("network", network, "initial", "forward")
    check_methods("operator", operator, "forward", "adjoint")
    check_methods("likelihood", likelihood, "nll", "score", "mean")
    check_methods("optimizer", optimizer, "begin", "step")
    check_tensor("y", y)
    _check_settings(max_iter, tol, patience, n_starts, held_out, consistent, likelihood)
    check_arguments(fit_untrained, locals())
    if y.dtype in (torch.float16, torch.bfloat16, torch.complex32):
        raise ValueError(f"y: expected single or double precision, got {y.dtype}")
    problem = _checked_problem(network, operator, likelihood, y, offset)
    fit = FitProblem(network, problem, n_starts, _hold_out(y, held_out, generator))
    file = None
    if checkpoint is not None:
        file = Checkpoint(checkpoint, _CHECKPOINT, _settings(fit, optimizer), seconds=checkpoint_seconds)
    iteration = FitIteration(optimizer, tol, patience)
    run = _Run(fit, iteration.init(fit, _start(fit, start, generator)))
    if file is not None and resume:
        run.resume(file)
    with progress_bar("fitting", total=max_iter, done=run.state.n_iter, shown=verbose) as bar:
        _iterate(run, iteration, max_iter, callback, file, bar)
    _warn(run.state, tol)
    return run.solution(consistent)


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
                    f"y: expected measurements of a signal, got A^H (y - offset) = 0 for sample "
                    f"{int(empty.nonzero()[0])}: nothing was measured, or all that was is zero"
                )
    return problem


def _check_settings(
    max_iter: int,
    tol: float,
    patience: int | None,
    n_starts: int,
    held_out: float,
    consistent: bool,
    likelihood: Likelihood,
) -> None:
    check_integer("max_iter", max_iter)
    check_integer("n_starts", n_starts)
    check_integer("patience", patience, optional=True)
    check_number("tol", tol, least=0)
    check_number("held_out", held_out, least=0, below=1)
    if consistent is True and not isinstance(likelihood, Gaussian):
        raise IncompatibleError(f"consistent needs Gaussian observations, got {type(likelihood).__name__}")


def _hold_out(y: Tensor, fraction: float, generator: torch.Generator | None) -> Tensor | None:
    """Draw the held-out entries, the same for every observation: (1, *y.shape[1:])."""
    if fraction == 0:
        return None
    generator = generator or torch.Generator().manual_seed(1)
    drawn = torch.rand(1, *y.shape[1:], generator=generator, device=generator.device) < fraction
    if not bool(drawn.any()) or bool(drawn.all()):
        raise ValueError(
            f"held_out: expected a fraction that takes some measurements and leaves some, got {fraction}"
        )
    return drawn.to(y.device)


def _start(fit: FitProblem, start: Tensor | None, generator: torch.Generator | None) -> Tensor:
    n, y = len(fit.problem.y) * fit.n_starts, fit.problem.y
    if start is None:
        return fit.network.initial(n, like=y, generator=generator)
    if check_tensor("start", start).shape != (n, fit.network.n_parameters):
        raise ValueError(f"start: expected shape {(n, fit.network.n_parameters)}, got {tuple(start.shape)}")
    if start.dtype != y.dtype.to_real() or not bool(torch.isfinite(start).all()):
        raise ValueError(f"start: expected finite numbers of {y.dtype.to_real()}, got {start.dtype}")
    return start


def _settings(fit: FitProblem, optimizer: Optimizer) -> dict[str, Any]:
    """Return the settings that a resumed fit must have in common with the checkpoint."""
    problem = fit.problem
    return {
        "network": fit.network,
        "operator": problem.operator,
        "likelihood": problem.likelihood,
        "optimizer": optimizer,
        "n_starts": fit.n_starts,
        "held_out": fit.held,
        "y": problem.y,
        "offset": problem.offset,
    }


class _Run:
    """A running fit: last complete state, histories and time, as stored in a checkpoint."""

    def __init__(self, fit: FitProblem, state: FitState) -> None:
        self.fit, self.state = fit, state
        self._begun = time.monotonic()
        self._history: dict[str, list[list[float]]] = {}
        self._record(state)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def note(self, state: FitState) -> None:
        """Record the state after an iteration."""
        self._record(state)
        self.state = state

    def save(self, file: Checkpoint) -> None:
        """Write the last complete state; warn if that fails."""
        histories = {f"history.{name}": values for name, values in self._whole_history().items()}
        scalars = {"n_iter": self.state.n_iter, "seconds": self.seconds}
        file.save_or_warn(self.state.tensors() | histories, scalars)

    def resume(self, file: Checkpoint) -> None:
        """Continue from the state in a file, if there is one."""
        saved = file.load()
        if saved is None:
            return
        arrays, scalars = saved
        device = self.fit.problem.y.device
        with reading(file.path, "checkpoint"):
            tensors = {
                name: torch.as_tensor(value, device=device)
                for name, value in arrays.items()
                if not name.startswith("history.")
            }
            self.state = replace(self.state.with_tensors(tensors), n_iter=scalars["n_iter"])
            self._history = {name: arrays[f"history.{name}"].tolist() for name in self._history}
            self._begun = time.monotonic() - scalars["seconds"]

    def solution(self, consistent: bool) -> UntrainedSolution:
        """Return the best iterates."""
        state, fit, best = self.state, self.fit, self.state.best
        x = best.x.view(-1, fit.n_starts, *best.x.shape[1:]).mean(1)
        if consistent:
            x = data_consistent(fit.problem.operator, x, fit.problem.y - fit.problem.offset)
        return UntrainedSolution(
            x=x,
            weights=best.z,
            loss=best.value,
            residual=best.residual,
            best_iteration=state.best_iteration,
            n_iter=state.n_iter,
            converged=state.converged,
            n_reductions=state.n_reductions,
            history=self._whole_history(),
            seconds=self.seconds,
        )

    def _record(self, state: FitState) -> None:
        rows = {"loss": state.point.value, "residual": state.point.residual}
        if self.fit.held is not None:
            rows["held_out"] = state.point.held_out
        for name, row in rows.items():
            # numbers, not small arrays: between the large ones of an iteration these would keep the C library
            # from reusing their memory, and a fit of 10,000 iterations would grow by gigabytes
            self._history.setdefault(name, []).append(row.tolist())

    def _whole_history(self) -> dict[str, np.ndarray]:
        """Return the rows up to the last complete state: an interrupted iteration may have added more."""
        dtype, n = self.state.best.value.numpy(force=True).dtype, self.state.n_iter + 1
        return {name: np.array(rows[:n], dtype) for name, rows in self._history.items()}


def _iterate(
    run: _Run,
    iteration: FitIteration,
    max_iter: int,
    callback: Callable[[FitProgress], bool | None] | None,
    file: Checkpoint | None,
    bar: Bar,
) -> None:
    """Iterate until all problems are finished, or until Ctrl-C or SIGTERM, and save the last state."""
    with between_steps() as interruption:

        def after(state: FitState) -> bool:
            run.note(state)
            bar.update(state.n_iter, f"residual {float(state.best.residual.max()):.2e}")
            stop = callback is not None and callback(_progress(state))
            if file is not None and file.is_due():
                run.save(file)
            interruption.check()
            return bool(stop)

        left = 0 if bool(run.state.done.all()) else max_iter - run.state.n_iter
        try:
            iterate(run.fit, iteration, run.state, n_iter=left, rests=_done, callbacks=[after])
        finally:
            if file is not None:
                run.save(file)
        interruption.check()  # a signal may have arrived while the state was written


def _done(problem: FitProblem, before: Tensor, state: FitState) -> Tensor:
    return state.done


def _progress(state: FitState) -> FitProgress:
    point = state.point
    return FitProgress(state.n_iter, point.x, point.value, point.residual, point.z)


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
        message += f"; diverged and halved the step size up to {reduced} times, the best iterate is kept"
    warnings.warn(message, ConvergenceWarning, stacklevel=3)
