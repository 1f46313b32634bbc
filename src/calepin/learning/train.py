"""The one training loop: passes over batches, history, stopping, callbacks, checkpoints.

What moves is a rule's business; the loop only knows that a rule carries named arrays from step to
step. All that a run needs to go on is in one explicit value, `TrainState`: a checkpoint is that
value in a file, and a resumed run equals an uninterrupted one bit for bit.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from calepin.core.files import load_arrays, save_arrays
from calepin.learning.batches import Batch, Batches

__all__ = [
    "Callback",
    "DivergedError",
    "Rule",
    "TrainState",
    "load_checkpoint",
    "save_checkpoint",
    "train",
]

CHECKPOINT = "checkpoint"


class DivergedError(ArithmeticError):
    """Training met a NaN or an infinity; what was saved before is untouched."""


class Rule(Protocol):
    """What a step, a pass and a replacement do to a run's arrays."""

    @property
    def replace_every(self) -> int:
        """Steps after which `replace_idle` is called, beside the end of every pass."""
        ...

    def init(self, atoms: Any) -> dict[str, Any]:
        """Return the arrays that learning carries from step to step."""
        ...

    def step(self, arrays: dict[str, Any], batch: Batch) -> np.ndarray:
        """Work on a batch, in place, and return each sample's objective."""
        ...

    def end_pass(self, arrays: dict[str, Any]) -> None:
        """Do what happens once per pass over the data."""
        ...

    def replace_idle(self, arrays: dict[str, Any]) -> int:
        """Replace what serves nobody and return how many."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return the rule as JSON."""
        ...


@dataclass
class TrainState:
    """All that a run carries from step to step.

    Attributes
    ----------
    arrays : dict of arrays or tensors
        The rule's, ``"atoms"`` among them.
    n_steps, n_passes : int
        Batches and whole passes done.
    step_in_pass : int
        Batches done of the pass under way.
    total, n_samples, n_replaced : float, int, int
        Sum of objectives, samples and replaced atoms of the pass under way.
    seconds : float
        Time spent, over all runs.
    history : list of dict
        For each pass: pass, objective (mean over its samples, each coded with the atoms of its
        step), seconds (since the start), n_replaced.
    converged : bool
        Whether `tol` ended the run.
    """

    arrays: dict[str, Any]
    n_steps: int = 0
    n_passes: int = 0
    step_in_pass: int = 0
    total: float = 0.0
    n_samples: int = 0
    n_replaced: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    converged: bool = False


Callback = Callable[[TrainState], bool | None]


def train(
    rule: Rule,
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
        File that receives the state at the end, on Ctrl-C (after the step under way), on an error
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
    KeyboardInterrupt
        After the checkpoint is written.
    """
    if checkpoint is not None and not Path(checkpoint).parent.is_dir():
        raise FileNotFoundError(f"checkpoint: the folder {Path(checkpoint).parent} does not exist")
    saved, begun, before = time.monotonic(), time.monotonic(), state.seconds
    sound = True
    try:
        with _interrupt_between_steps() as interrupted:
            while state.n_passes < max_iter and not state.converged:
                for batch in data.walk(state.n_passes, state.step_in_pass):
                    sound = False
                    objective = rule.step(state.arrays, batch)
                    _count(state, objective)
                    if state.n_steps % rule.replace_every == 0:
                        state.n_replaced += rule.replace_idle(state.arrays)
                    sound = True
                    state.seconds = before + time.monotonic() - begun
                    results = [callback(state) for callback in callbacks]
                    if interrupted.is_set():
                        raise KeyboardInterrupt
                    if any(results):
                        return state
                    if checkpoint is not None and time.monotonic() - saved > checkpoint_seconds:
                        save_checkpoint(checkpoint, rule, data, state)
                        saved = time.monotonic()
                if state.step_in_pass == 0:
                    raise ValueError("X gave no batch: expected an iterable that can be walked through again")
                sound = False
                _end_pass(rule, state, tol)
                sound = True
        return state
    finally:
        # A state in the middle of a step is no state: then the last checkpoint stays.
        if checkpoint is not None and sound:
            save_checkpoint(checkpoint, rule, data, state)


def save_checkpoint(path: str | os.PathLike, rule: Rule, data: Batches, state: TrainState) -> None:
    """Write the state of a run, atomically, as one safetensors file."""
    scalars = {name: value for name, value in vars(state).items() if name != "arrays"}
    parameters = {"settings": rule.settings(), "data": data.fingerprint(), "state": scalars}
    arrays = {
        name: value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        for name, value in state.arrays.items()
    }
    save_arrays(path, CHECKPOINT, arrays, parameters)


def load_checkpoint(
    path: str | os.PathLike, rule: Rule, data: Batches, *, device: torch.device | str | None = None
) -> TrainState:
    """Read the state of a run that `rule` and `data` can go on with.

    Raises
    ------
    FileFormatError
        Not a checkpoint.
    ValueError
        A checkpoint of another rule, other settings or other data; names what differs.
    """
    arrays, parameters = load_arrays(path, CHECKPOINT)
    for what, mine in (("settings", rule.settings()), ("data", data.fingerprint())):
        _require_equal(path, what, parameters[what], _plain(mine))
    fresh = {}
    for name, value in arrays.items():
        # Counters stay arrays; what a rule computes with goes where its batches are.
        on_device = device is not None and name not in {"usage", "pool_error", "t"}
        fresh[name] = torch.as_tensor(value, device=device) if on_device else np.array(value)
    return TrainState(arrays=fresh, **parameters["state"])


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


def _end_pass(rule: Rule, state: TrainState, tol: float) -> None:
    rule.end_pass(state.arrays)
    state.n_replaced += rule.replace_idle(state.arrays)
    state.n_passes += 1
    record = {
        "pass": state.n_passes,
        "objective": state.total / state.n_samples,
        "seconds": state.seconds,
        "n_replaced": state.n_replaced,
    }
    if state.history and tol > 0:
        before = state.history[-1]["objective"]
        state.converged = abs(before - record["objective"]) <= tol * abs(before)
    state.history.append(record)
    state.step_in_pass, state.total, state.n_samples, state.n_replaced = 0, 0.0, 0, 0


@contextmanager
def _interrupt_between_steps() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag, so that no step is cut in two; the second one interrupts."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # only the main thread may set handlers, and only it is interrupted
        return

    def handler(number: int, frame: Any) -> None:
        if interrupted.is_set():
            signal.default_int_handler(number, frame)
        interrupted.set()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _plain(value: Any) -> Any:
    """Return what JSON makes of a value, to compare it with what was read."""
    import json

    return json.loads(json.dumps(value))


def _require_equal(path: str | os.PathLike, what: str, saved: Any, mine: Any, name: str = "") -> None:
    if isinstance(saved, dict) and isinstance(mine, dict):
        for key in sorted(saved.keys() | mine.keys(), key=lambda key: (key != "rule", key)):
            _require_equal(path, what, saved.get(key), mine.get(key), f"{name}.{key}" if name else key)
    elif saved != mine:
        raise ValueError(f"checkpoint: {path} was made with other {what}: {name} was {saved!r}, now {mine!r}")
