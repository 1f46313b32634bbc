"""The state of an untrained fit in a file."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calepin.core.files import load_arrays, save_arrays
from calepin.reconstruction._iteration import Fit, FitState
from calepin.reconstruction.optimizers import Point

__all__ = ["restore", "save"]

KIND = "untrained-fit"
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


def save(path: str | os.PathLike, fit: Fit, state: FitState) -> None:
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


def restore(path: str | os.PathLike, fit: Fit) -> FitState | None:
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
    return FitState(
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
