"""Any optimiser of torch inside a rule: it moves one array of a run, and its memory is in the run's arrays.

An optimiser keeps what it remembers (moments, a count of steps) to itself. A run that is to be resumed
bit for bit needs it among its arrays, under names that begin with "optimizer.".
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from calepin.core.errors import IncompatibleError

__all__ = ["OPTIMIZER", "Optimizer", "along_sphere", "describe_optimizer", "move", "restored_state"]

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Makes an optimiser of a list of parameters: ``partial(torch.optim.Adam, lr=2e-3)``."""

OPTIMIZER = "optimizer."


def move(
    arrays: dict[str, Any],
    atoms: Tensor,
    gradient: Tensor,
    optimizer: Optimizer,
    *,
    memory: str = OPTIMIZER,
) -> None:
    """Take one step from `atoms` along `gradient`, in place, with the memory that `arrays` hold.

    The names of that memory begin with `memory`, of its own for each array that moves.

    Raises
    ------
    IncompatibleError
        An optimiser that remembers something else than tensors.
    """
    parameter = torch.nn.Parameter(atoms)  # of the same memory
    working = optimizer([parameter])
    state = restored_state(arrays, memory, parameter)
    if state:
        working.state[parameter] = state
    parameter.grad = gradient
    working.step()
    for name, value in working.state[parameter].items():
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise IncompatibleError(
                f"a rule needs optimizer.state made of tensors, which {type(working).__name__} does "
                f"not have: {name} is {type(value).__name__}"
            )
        arrays[memory + name] = value if isinstance(arrays["atoms"], Tensor) else value.numpy()


def restored_state(arrays: Mapping[str, Any], prefix: str, parameter: Tensor) -> dict[str, Tensor]:
    """Return what an optimiser remembers of a parameter, as it was before it went into a file."""
    state = {}
    for name, value in arrays.items():
        if not name.startswith(prefix):
            continue
        tensor = torch.as_tensor(value)
        key = name.removeprefix(prefix)
        if tensor.numel() > 1:
            state[key] = tensor.to(parameter.device)
        elif key == "step" or parameter.numel() > 1:
            # a count or factor, which torch keeps on the CPU; files know no numbers, arrays alone
            state[key] = tensor.reshape(()).cpu()
        else:
            state[key] = tensor.reshape(parameter.shape).to(parameter.device)
    return state


def along_sphere(gradient: Tensor, atoms: Tensor) -> Tensor:
    """Take from each atom's gradient the part along the atom.

    What is left lies in the tangent space of the sphere (Absil, Mahony and Sepulchre, 2008, sec. 3.6.1).
    """
    axes = tuple(range(1, atoms.ndim))
    along = (gradient * atoms).sum(axes, keepdim=True) / (atoms * atoms).sum(axes, keepdim=True)
    return gradient - along * atoms


def describe_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimiser's name and settings as JSON, to recognise a checkpoint of another run."""
    if isinstance(optimizer, partial):
        given = {name: v.tolist() if hasattr(v, "tolist") else v for name, v in optimizer.keywords.items()}
        return {"name": describe_optimizer(optimizer.func)["name"], **given}
    return {"name": getattr(optimizer, "__qualname__", type(optimizer).__qualname__)}
