"""The training loop for atoms and networks: passes over batches, history, callbacks and checkpoints.

The rule determines how atoms or weights are updated. The loop does not depend on the fields of the rule's
state. A run is described completely by its `TrainState`. A checkpoint stores this state in a file, and a
resumed run equals an uninterrupted one bit for bit.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calepin.core.arguments import check_arguments
from calepin.core.checkpoint import CHECKPOINT_SECONDS, Checkpoint
from calepin.core.checkpoint import load_checkpoint as read_checkpoint
from calepin.core.checks import check_integer, check_methods, check_number
from calepin.core.interrupt import between_steps
from calepin.core.reading import reading
from calepin.learning.batches import ArrayBatches, Batches
from calepin.learning.rule import DivergedError, Rule

__all__ = ["Callback", "TrainState", "load_checkpoint", "save_checkpoint", "train", "train_steps"]

CHECKPOINT = "checkpoint"
_STILL = 100.0  # largest change of an atom, relative to the tolerance of the objective


@dataclass
class TrainState:
    """The complete state of a training run.

    Attributes
    ----------
    learned : State
        State of the rule: the atoms or the network, with counters and the memory of the optimiser.
    n_steps, n_passes : int
        Number of batches and of complete passes so far.
    step_in_pass : int
        Number of batches so far in the current pass.
    total, n_samples : float, int
        Sum of the objectives and number of samples so far in the current pass.
    seconds : float
        Training time in seconds, including that before a resume.
    history : list of dict
        For each pass: pass, objective (mean over its samples, before the update of their step), seconds
        (since the start), and the entries that the rule adds (n_replaced, change).
    converged : bool
        Whether the run stopped because of `tol`.
    """

    learned: Any
    n_steps: int = 0
    n_passes: int = 0
    step_in_pass: int = 0
    total: float = 0.0
    n_samples: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    converged: bool = False


Callback = Callable[[TrainState], bool | None]
"""A function that is called with the state after every step. If it returns True, training stops."""


def train(
    rule: Rule[Any],
    data: Batches,
    state: TrainState,
    *,
    max_iter: int,
    tol: float = 0.0,
    window: int = 1,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainState:
    """Train for `max_iter` passes over the data, or until convergence or a stop by a callback.

    Parameters
    ----------
    rule : Rule
        The update rule.
    data : Batches
        The samples.
    state : TrainState
        Initial state, new or from a checkpoint. It is updated in place.
    max_iter : int
        Maximal number of passes over the data, including those already in `state`.
    tol : float, default 0.0
        Relative tolerance: training stops when the mean objective changes by at most `tol` times its value
        in a pass, and no atom by more than 100 times `tol`, where the rule reports this. 0 disables the test.
    window : int, default 1
        Number of passes for this test: the objective must stay within ``window * tol`` times its value. A
        single pass may by chance change the objective of a stochastic rule by little.
    callbacks : sequence of callables, default ()
        Functions that are called with the state after every step. If one returns True, training stops.
    checkpoint : path, optional
        File to which the state is written: at the end, on Ctrl-C or SIGTERM (after the current step), on an
        error in the data, and every `checkpoint_seconds`.
    checkpoint_seconds : float, default 60.0
        Time between two checkpoints, in seconds.

    Returns
    -------
    TrainState
        The same object as `state`.

    Raises
    ------
    DivergedError
        If the objective becomes NaN or infinite. The last checkpoint is kept.
    ValueError
        If the data give no batch.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after the checkpoint is written.
    """
    check_arguments(train, locals())
    check_methods("rule", rule, "init", "step")
    check_methods("data", data, "walk")
    check_integer("max_iter", max_iter, least=0)
    check_number("tol", tol, least=0)
    file = None if checkpoint is None else _file(checkpoint, rule, data, checkpoint_seconds)
    begun, before = time.monotonic(), state.seconds
    sound = True
    with between_steps() as interruption:
        try:
            stopped = False
            while state.n_passes < max_iter and not state.converged:
                for batch in data.walk(state.n_passes, state.step_in_pass):
                    sound = False
                    _count(state, rule.step(state.learned, batch))
                    sound = True
                    state.seconds = before + time.monotonic() - begun
                    results = [callback(state) for callback in callbacks]
                    interruption.check()
                    stopped = any(results)
                    if stopped:
                        break
                    if file is not None and file.is_due():
                        _save_or_warn(file, state)
                if stopped:
                    break
                if state.step_in_pass == 0:
                    raise ValueError("X gave no batch: expected an iterable that can be iterated over again")
                sound = False
                _end_pass(rule, state, tol, window)
                sound = True
                interruption.check()
        finally:
            # An error inside a step leaves the state inconsistent: keep the last checkpoint in that case.
            if file is not None and sound:
                _save_or_warn(file, state)
        interruption.check()  # a signal may have arrived while the state was written
    return state


def train_steps(
    rule: Any,
    data: ArrayBatches,
    n_steps: int,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    device: torch.device | str | None = None,
) -> TrainState:
    """Train a network for a number of steps, and resume from the checkpoint if that file exists.

    Parameters
    ----------
    rule : ModuleRule
        The update rule of a network, such as `NetworkRule` or `VAERule`. Its `finish` is called after the
        last step, but not if a callback stops the run before.
    data : ArrayBatches
        The samples.
    n_steps : int
        Total number of steps, including those of the checkpoint.
    callbacks : sequence of callables, default ()
        See `train`.
    checkpoint : path, optional
        See `train`.
    checkpoint_seconds : float, default 60.0
        See `train`.
    device : torch.device or str, optional
        Device of the training. Default: that of the rule's network.

    Returns
    -------
    TrainState
        The final state; the trained network is ``state.learned.network``.
    """
    check_arguments(train_steps, locals())
    check_methods("rule", rule, "init", "step")
    check_methods("data", data, "walk")
    check_integer("n_steps", n_steps)
    if device is None:
        device = next(rule.network.parameters()).device
    if checkpoint is not None and Path(checkpoint).exists():
        state = load_checkpoint(checkpoint, rule, data, device=device)
    else:
        state = TrainState(rule.init().to(device))

    def enough(state: TrainState) -> bool:
        return state.n_steps >= n_steps

    if not enough(state):
        passes = -(-n_steps // (data.n_steps or 1))
        train(
            rule,
            data,
            state,
            max_iter=passes,
            callbacks=[*callbacks, enough],
            checkpoint=checkpoint,
            checkpoint_seconds=checkpoint_seconds,
        )
    if enough(state):
        rule.finish(state.learned)
    return state


def save_checkpoint(path: str | os.PathLike, rule: Any, data: Batches, state: TrainState) -> None:
    """Write the state of a run to one safetensors file, atomically."""
    _file(path, rule, data).save(*_contents(state))


def load_checkpoint(
    path: str | os.PathLike, rule: Any, data: Batches, *, device: torch.device | str | None = None
) -> TrainState:
    """Read the state of a run from a checkpoint, to resume it with the same rule and data.

    Raises
    ------
    FileFormatError
        If the file is not a checkpoint.
    ValueError
        If the checkpoint is from another rule, other settings or other data. The message says what differs.
    """
    tensors, scalars = read_checkpoint(path, CHECKPOINT, _settings(rule, data))
    with reading(path, CHECKPOINT):
        learned = rule.restore(tensors, scalars.pop("learned")).to(device)
        return TrainState(learned=learned, **scalars)


def _file(
    path: str | os.PathLike, rule: Any, data: Batches, seconds: float = CHECKPOINT_SECONDS
) -> Checkpoint:
    return Checkpoint(path, CHECKPOINT, _settings(rule, data), seconds=seconds)


def _settings(rule: Any, data: Batches) -> dict[str, Any]:
    return {**rule.settings(), "data": data.fingerprint()}


def _save_or_warn(file: Checkpoint, state: TrainState) -> None:
    file.save_or_warn(*_contents(state))


def _contents(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    scalars = {name: value for name, value in vars(state).items() if name != "learned"}
    return state.learned.tensors(), {**scalars, "learned": state.learned.scalars()}


def _count(state: TrainState, objective: np.ndarray) -> None:
    total = float(objective.sum())
    if not np.isfinite(total):
        raise DivergedError(
            f"the objective became {total} in step {state.step_in_pass + 1} of pass {state.n_passes + 1}: "
            "check the scale of X and the step sizes"
        )
    state.total += total
    state.n_samples += len(objective)
    state.n_steps += 1
    state.step_in_pass += 1


def _end_pass(rule: Any, state: TrainState, tol: float, window: int) -> None:
    report = rule.end_pass(state.learned)
    state.n_passes += 1
    record = {
        "pass": state.n_passes,
        "objective": state.total / state.n_samples,
        "seconds": state.seconds,
        **report,
    }
    state.history.append(record)
    if len(state.history) > window and tol > 0:
        recent = [record["objective"] for record in state.history[-window - 1 :]]
        level = max(recent) - min(recent) <= window * tol * abs(recent[0])
        state.converged = level and report.get("change", 0.0) <= _STILL * tol
    state.step_in_pass, state.total, state.n_samples = 0, 0.0, 0
