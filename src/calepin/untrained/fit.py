"""The weights of an untrained network, fitted to one observation.

    minimise over w    nll( A N_w + offset, y )

Heckel and Soltanolkotabi, "Compressive sensing with un-trained neural networks", 2020, eq. 2. A batch of
observations is a batch of independent problems: each has its own weights, converges, diverges and
stops by itself, and none changes another's numbers.
"""

import os
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from calepin._files import load_arrays, save_arrays
from calepin._progress import progress_bar
from calepin._samples import expand, norm
from calepin.errors import IncompatibleError
from calepin.likelihoods import Gaussian, Likelihood
from calepin.networks.jacobian import Jacobian
from calepin.networks.untrained import UntrainedNetwork
from calepin.operators import LinearOperator
from calepin.problem import Problem
from calepin.untrained.consistency import data_consistent
from calepin.untrained.optimizers import Adam, GradientDescent, Optimizer, Point, State, choose

__all__ = ["FitProgress", "UntrainedSolution", "fit_untrained"]

KIND = "untrained-fit"
_RUNAWAY = 10.0  # a loss so many times that of the start has diverged
_MOST_REDUCTIONS = 10
_PLATEAU_GAIN = 0.01


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
    fit = _Fit(network, problem, optimizer, tol, patience, n_starts, _hold_out(y, held_out, generator))
    state = _restored(checkpoint, fit) if checkpoint is not None and resume else None
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
                    _save(checkpoint, fit, state)
                    saved = begun
    finally:
        # a state is replaced as a whole: after Ctrl-C this is the last whole one
        if checkpoint is not None:
            _save(checkpoint, fit, state)
    _warn(state, tol)
    return _solution(fit, state, consistent)


@dataclass(frozen=True, eq=False)
class _State:
    """All that a fit carries from iteration to iteration."""

    point: Point
    best: Point
    best_iteration: Tensor
    reference: Tensor  # the best loss at the last sign of progress, and when that was
    reference_iteration: Tensor
    first_loss: Tensor
    optimizer: State
    scale: Tensor
    done: Tensor
    converged: Tensor
    n_reductions: Tensor
    n_iter: int = 0
    seconds: float = 0.0
    history: dict[str, list[np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Fit:
    """One iteration of a fit, and what does not change."""

    network: UntrainedNetwork
    problem: Problem
    optimizer: Optimizer
    tol: float
    patience: int | None
    n_starts: int
    held: Tensor | None

    def begin(self, start: Tensor) -> _State:
        expected = (len(self.problem.y) * self.n_starts, self.network.n_parameters)
        if start.shape != expected:
            raise ValueError(f"start: expected shape {expected}, got {tuple(start.shape)}")
        point = self.evaluate(start.detach())
        if not bool(torch.isfinite(point.loss).all()):
            raise ValueError("start: expected weights of a finite loss, got a loss that is not")
        n = point.loss
        zeros = torch.zeros_like(n, dtype=torch.int64)
        never = torch.zeros_like(n, dtype=torch.bool)
        state = _State(
            point=point,
            best=point,
            best_iteration=zeros,
            reference=self._score(point),
            reference_iteration=zeros,
            first_loss=point.loss,
            optimizer=self.optimizer.init(point, self._theory_step(start)),
            scale=torch.ones_like(n)[:, None],
            done=never,
            converged=never,
            n_reductions=zeros,
        )
        return self._judged(self._recorded(state))

    def advance(self, state: _State) -> _State:
        """Move every problem that is not done."""
        point, optimizer = self.optimizer.step(self.evaluate, state.point, state.optimizer, state.scale)
        point = choose(~state.done, point, state.point)
        finite = torch.isfinite(point.loss) & torch.isfinite(point.gradient).all(1)
        diverged = ~finite | (point.loss - state.best.loss > _RUNAWAY * state.first_loss.abs())
        better = ~diverged & ~state.done & (self._score(point) < self._score(state.best))
        state = replace(
            state,
            point=point,
            best=choose(better, point, state.best),
            best_iteration=torch.where(better, state.n_iter + 1, state.best_iteration),
            optimizer=optimizer,
            n_iter=state.n_iter + 1,
        )
        return self._judged(
            self._recorded(self._recovered(state, diverged) if bool(diverged.any()) else state)
        )

    def evaluate(self, weights: Tensor) -> Point:
        """Return loss and gradient; their sum over problems has the gradient of each."""
        weights = weights.detach().requires_grad_()
        with torch.enable_grad():
            x = self.network(weights)
            eta = self._predictor(x)
            y = self._repeated(self.problem.y)
            loss = self._loss(eta, y, None if self.held is None else self.held)
            (gradient,) = torch.autograd.grad(loss.sum(), weights)
        with torch.no_grad():
            miss = y - self.problem.likelihood.mean(eta)
            fitted = miss if self.held is None else miss.masked_fill(self.held, 0)
            target = y if self.held is None else y.masked_fill(self.held, 0)
            residual = norm(fitted) / norm(target).clamp_min(torch.finfo(loss.dtype).tiny)
            held_out = loss.detach() if self.held is None else self._loss(eta, y, ~self.held)
        return Point(weights.detach(), loss.detach(), gradient, residual, held_out.detach(), x.detach())

    def _predictor(self, x: Tensor) -> Tensor:
        """Return A x + offset; an operator of its own for each sample meets one start after another."""
        operator, offset = self.problem.operator, self.problem.offset
        if operator.n_samples is None or self.n_starts == 1:
            return operator(x) + (self._repeated(offset) if isinstance(offset, Tensor) else offset)
        starts = x.view(-1, self.n_starts, *x.shape[1:]).unbind(1)
        return torch.stack([operator(one) + offset for one in starts], 1).flatten(0, 1)

    def _repeated(self, values: Tensor) -> Tensor:
        """Repeat one value a problem for each of its starts."""
        if self.n_starts == 1 or values.ndim < self.problem.y.ndim or len(values) == 1:
            return values
        return values.repeat_interleave(self.n_starts, 0)

    def _loss(self, eta: Tensor, y: Tensor, without: Tensor | None) -> Tensor:
        """Return the nll; entries left out count as observations of zero under a predictor of zero."""
        if without is not None:
            eta, y = eta.masked_fill(without, 0), y.masked_fill(without, 0)
        return self.problem.likelihood.nll(eta, y)

    def _score(self, point: Point) -> Tensor:
        return point.loss if self.held is None else point.held_out

    def _theory_step(self, start: Tensor) -> float | None:
        """Return Theorem 2's step where it is wanted: 1 / (curvature ||A||^2 ||J||^2)."""
        wanted = isinstance(self.optimizer, GradientDescent) and self.optimizer.step_size is None
        if not wanted:
            return None
        if self.problem.likelihood.curvature is None:
            raise IncompatibleError(
                f"GradientDescent without step_size needs likelihood.curvature, which "
                f"{type(self.problem.likelihood).__name__} does not have"
            )
        bound = self.network.jacobian_norm_squared()
        if bound is None:
            bound = Jacobian(self.network, start[0]).norm_squared()
        return 1 / (self.problem.lipschitz() * bound)

    def _recovered(self, state: _State, diverged: Tensor) -> _State:
        """Take problems back to their best iterate, with half the step and nothing remembered."""
        fresh = self.optimizer.init(state.best, self._theory_step(state.best.weights))
        optimizer = {
            name: torch.where(expand(diverged, value), fresh[name], value)
            for name, value in state.optimizer.items()
        }
        n_reductions = state.n_reductions + diverged.to(torch.int64)
        return replace(
            state,
            point=choose(diverged, state.best, state.point),
            optimizer=optimizer,
            scale=torch.where(diverged[:, None], state.scale / 2, state.scale),
            n_reductions=n_reductions,
            done=state.done | (n_reductions >= _MOST_REDUCTIONS),
        )

    def _judged(self, state: _State) -> _State:
        """Mark the problems that need no more iterations."""
        best = self._score(state.best)
        reached = (state.best.residual <= self.tol) & (self.tol > 0)
        if self.held is None:
            progress = best < state.reference - _PLATEAU_GAIN * state.reference.abs()
        else:
            progress = best < state.reference
        state = replace(
            state,
            reference=torch.where(progress, best, state.reference),
            reference_iteration=torch.where(progress, state.n_iter, state.reference_iteration),
        )
        patience = self.patience or (200 if self.held is not None else None)
        if patience is not None:
            reached = reached | (state.n_iter - state.reference_iteration >= patience)
        return replace(state, converged=state.converged | (reached & ~state.done), done=state.done | reached)

    def _recorded(self, state: _State) -> _State:
        names = ("loss", "residual") if self.held is None else ("loss", "residual", "held_out")
        for name in names:
            values = getattr(state.point, name).cpu().numpy()
            record = state.history.setdefault(name, [])
            del record[state.n_iter :]  # what an interrupted iteration may have left
            record.append(values)
        return state

    def settings(self) -> dict[str, Any]:
        """Return what a resumed fit must share, as JSON."""
        y = torch.view_as_real(self.problem.y) if self.problem.y.is_complex() else self.problem.y
        return {
            "network": repr(self.network),
            "operator": repr(self.problem.operator),
            "likelihood": repr(self.problem.likelihood),
            "optimizer": repr(self.optimizer),
            "n_starts": self.n_starts,
            "held_out": None if self.held is None else _checksum(self.held),
            "y": [list(y.shape), str(y.dtype), _checksum(y)],
        }


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


def _solution(fit: _Fit, state: _State, consistent: bool) -> UntrainedSolution:
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


def _warn(state: _State, tol: float) -> None:
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


_POINTS = ("point", "best")
_TENSORS = (
    "best_iteration",
    "reference",
    "reference_iteration",
    "first_loss",
    "scale",
    "done",
    "converged",
    "n_reductions",
)


def _save(path: str | os.PathLike, fit: _Fit, state: _State) -> None:
    """Write the state of a fit, atomically."""
    tensors = {name: getattr(state, name) for name in _TENSORS}
    for which in _POINTS:
        point = getattr(state, which)
        tensors |= {f"{which}.{f.name}": getattr(point, f.name) for f in fields(Point)}
    tensors |= {f"optimizer.{name}": value for name, value in state.optimizer.items()}
    arrays = {name: value.cpu().numpy() for name, value in tensors.items()}
    for name, values in state.history.items():
        arrays[f"history.{name}"] = np.array(values[: state.n_iter + 1])
    save_arrays(
        path,
        KIND,
        arrays,
        {"settings": fit.settings(), "n_iter": state.n_iter, "seconds": state.seconds},
    )


def _restored(path: str | os.PathLike, fit: _Fit) -> _State | None:
    """Read the state of a fit, None without a file; ValueError for one of another fit."""
    if not Path(path).exists():
        return None
    arrays, parameters = load_arrays(path, KIND)
    for name, mine in fit.settings().items():
        if parameters["settings"].get(name) != mine:
            raise ValueError(f"checkpoint: {path} is of a fit with another {name}")
    device = fit.problem.y.device
    tensors = {name: torch.as_tensor(value, device=device) for name, value in arrays.items()}
    fresh: dict[str, Any] = {name: tensors[name] for name in _TENSORS}
    for which in _POINTS:
        fresh[which] = Point(**{f.name: tensors[f"{which}.{f.name}"] for f in fields(Point)})
    return _State(
        **fresh,
        optimizer={
            name.removeprefix("optimizer."): value
            for name, value in tensors.items()
            if name.startswith("optimizer.")
        },
        n_iter=parameters["n_iter"],
        seconds=parameters["seconds"],
        history={
            name.removeprefix("history."): list(value)
            for name, value in arrays.items()
            if name.startswith("history.")
        },
    )


def _checksum(values: Tensor) -> int:
    return zlib.crc32(values.detach().cpu().contiguous().numpy().tobytes())
