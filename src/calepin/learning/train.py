"""The training loop, for atoms and for networks: passes over batches, history, callbacks, checkpoints.

What moves is the rule's matter; the loop names no field of a rule's state. All that a run needs to go on is
in one explicit value, `TrainState`: a checkpoint is that value in a file, and a resumed run equals an
uninterrupted one bit for bit.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calepin.core.checkpoint import Checkpoint
from calepin.core.checkpoint import load_checkpoint as read_checkpoint
from calepin.core.interrupt import between_steps
from calepin.learning.batches import ArrayBatches, Batches
from calepin.learning.rule import DivergedError, Rule

__all__ = ["Callback", "TrainState", "load_checkpoint", "save_checkpoint", "train", "train_steps"]

CHECKPOINT = "checkpoint"


@dataclass
class TrainState:
    """All that a run carries from step to step.

    Attributes
    ----------
    learned : State
        The rule's own: atoms, or a network, and what belongs to them.
    n_steps, n_passes : int
        Batches and whole passes done.
    step_in_pass : int
        Batches done of the pass under way.
    total, n_samples : float, int
        Sum of objectives, and samples, of the pass under way.
    seconds : float
        Time spent, over all runs.
    history : list of dict
        For each pass: pass, objective (mean over its samples, each coded with the atoms of its
        step), seconds (since the start), and what the rule reports (n_replaced).
    converged : bool
        Whether `tol` ended the run.
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
"""Called with the state after every step; a true result ends the run."""


def train(
    rule: Rule[Any],
    data: Batches,
    state: TrainState,
    *,
    max_iter: int,
    tol: float = 0.0,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: float = 60.0,
) -> TrainState:
    """Run passes over the data until `max_iter` are done, progress falls under `tol`, or a callback stops.

    Parameters
    ----------
    rule : Rule
        What a step does.
    data : Batches
        The samples.
    state : TrainState
        Where to begin: fresh, or of a checkpoint. It is updated in place.
    max_iter : int
        Passes over the data in total, those already in `state` included.
    tol : float
        Stop when a pass lowers the mean objective by less than `tol` times its value; 0 never stops.
    callbacks : sequence of callables
        Each is called with the state after every step; a true result ends the run.
    checkpoint : path, optional
        File that receives the state at the end, on Ctrl-C or SIGTERM (after the step under way), on an error
        in the data, and every `checkpoint_seconds`.
    checkpoint_seconds : float
        Time between two checkpoints.

    Returns
    -------
    TrainState
        The same object as `state`.

    Raises
    ------
    DivergedError
        An objective became NaN or infinite. The last checkpoint is kept.
    ValueError
        The data give no batch.
    KeyboardInterrupt
        After the checkpoint is written.
    """
    file = None if checkpoint is None else _file(checkpoint, rule, data, checkpoint_seconds)
    begun, before = time.monotonic(), state.seconds
    sound = True
    try:
        with between_steps() as interruption:
            while state.n_passes < max_iter and not state.converged:
                for batch in data.walk(state.n_passes, state.step_in_pass):
                    sound = False
                    _count(state, rule.step(state.learned, batch))
                    sound = True
                    state.seconds = before + time.monotonic() - begun
                    results = [callback(state) for callback in callbacks]
                    interruption.check()
                    if any(results):
                        return state
                    if file is not None and file.is_due():
                        _save(file, state)
                if state.step_in_pass == 0:
                    raise ValueError("X gave no batch: expected an iterable that can be walked through again")
                sound = False
                _end_pass(rule, state, tol)
                sound = True
                interruption.check()
        return state
    finally:
        # A state in the middle of a step is no state: then the last checkpoint stays.
        if file is not None and sound:
            _save(file, state)


def train_steps(
    rule: Any,
    data: ArrayBatches,
    n_steps: int,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
    device: torch.device | str | None = None,
) -> TrainState:
    """Train a network by so many steps, from the rule's network or from the checkpoint where there is one.

    Parameters
    ----------
    rule : ModuleRule
        A rule of networks: `NetworkRule`, `VAERule`. Its `finish` ends a run that was not stopped before.
    data : ArrayBatches
        The samples; as many passes over them are made as the steps take.
    n_steps : int
        Steps in total.
    callbacks, checkpoint
        See `train`.
    device : torch.device or str, optional
        Where to train; by default where the rule's network is.

    Returns
    -------
    TrainState
        With the trained network as ``state.learned.network``.
    """
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
        train(rule, data, state, max_iter=passes, callbacks=[*callbacks, enough], checkpoint=checkpoint)
    if enough(state):
        rule.finish(state.learned)
    return state


def save_checkpoint(path: str | os.PathLike, rule: Any, data: Batches, state: TrainState) -> None:
    """Write the state of a run, atomically, as one safetensors file."""
    _save(_file(path, rule, data), state)


def load_checkpoint(
    path: str | os.PathLike, rule: Any, data: Batches, *, device: torch.device | str | None = None
) -> TrainState:
    """Read the state of a run that `rule` and `data` can go on with.

    Raises
    ------
    FileFormatError
        Not a checkpoint.
    ValueError
        A checkpoint of another rule, other settings or other data; names what differs.
    """
    tensors, scalars = read_checkpoint(path, CHECKPOINT, _settings(rule, data))
    learned = rule.restore(tensors, scalars.pop("learned")).to(device)
    return TrainState(learned=learned, **scalars)


def _file(path: str | os.PathLike, rule: Any, data: Batches, seconds: float = 60.0) -> Checkpoint:
    return Checkpoint(path, CHECKPOINT, _settings(rule, data), seconds=seconds)


def _settings(rule: Any, data: Batches) -> dict[str, Any]:
    return {**rule.settings(), "data": data.fingerprint()}


def _save(file: Checkpoint, state: TrainState) -> None:
    scalars = {name: value for name, value in vars(state).items() if name != "learned"}
    file.save(state.learned.tensors(), {**scalars, "learned": state.learned.scalars()})


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


def _end_pass(rule: Any, state: TrainState, tol: float) -> None:
    report = rule.end_pass(state.learned)
    state.n_passes += 1
    record = {
        "pass": state.n_passes,
        "objective": state.total / state.n_samples,
        "seconds": state.seconds,
        **report,
    }
    if state.history and tol > 0:
        before = state.history[-1]["objective"]
        state.converged = abs(before - record["objective"]) <= tol * abs(before)
    state.history.append(record)
    state.step_in_pass, state.total, state.n_samples = 0, 0.0, 0
