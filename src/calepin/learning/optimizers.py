"""Any optimiser of torch inside a rule: it moves one tensor of a state, and its memory is in the state.

An optimiser keeps what it remembers (moments, a count of steps) to itself. A run that is to be resumed
bit for bit needs it in its state: a dictionary of tensors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from calepin.core.checks import check_integer, check_number
from calepin.core.errors import IncompatibleError

__all__ = ["CosineDecay", "Optimizer", "along_sphere", "move", "tensor_state"]

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Makes an optimiser of a list of parameters: ``partial(torch.optim.Adam, lr=2e-3)``."""


def move(memory: dict[str, Tensor], atoms: Tensor, gradient: Tensor, optimizer: Optimizer) -> None:
    """Take one step from `atoms` along `gradient`, in place; what the optimiser remembers is in `memory`.

    Parameters
    ----------
    memory : dict of tensors
        Of these atoms alone; empty at first, changed in place.
    atoms, gradient : Tensor
    optimizer : callable
        See `Optimizer`.

    Raises
    ------
    IncompatibleError
        An optimiser that remembers something else than tensors.
    """
    parameter = torch.nn.Parameter(atoms)  # of the same memory
    working = optimizer([parameter])
    if memory:
        working.state[parameter] = dict(memory)
    parameter.grad = gradient
    working.step()
    memory.update(tensor_state(working, parameter))


def tensor_state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """Return what an optimiser remembers of a parameter; raise IncompatibleError for what is no tensor."""
    found = {}
    for name, value in optimizer.state.get(parameter, {}).items():
        if isinstance(value, Tensor):
            found[name] = value
        elif value is not None:
            raise IncompatibleError(
                f"a rule needs optimizer.state made of tensors, which {type(optimizer).__name__} does not "
                f"have: {name} is {type(value).__name__}"
            )
    return found


def along_sphere(gradient: Tensor, atoms: Tensor) -> Tensor:
    """Take from each atom's gradient the part along the atom.

    What is left lies in the tangent space of the sphere (Absil, Mahony and Sepulchre, 2008, sec. 3.6.1).
    """
    axes = tuple(range(1, atoms.ndim))
    along = (gradient * atoms).sum(axes, keepdim=True) / (atoms * atoms).sum(axes, keepdim=True)
    return gradient - along * atoms


@dataclass(frozen=True)
class CosineDecay:
    """Learning rates that rise for a while, linearly, and fall to almost nothing along half a cosine.

    Parameters
    ----------
    n_steps : int
        Steps until the end; afterwards the rate stays at its last value.
    warm_up : float, default 0.05
        Part of the steps on which the rate rises.
    last : float, default 0.01
        Last rate over the highest.
    """

    n_steps: int
    warm_up: float = 0.05
    last: float = 0.01

    def __post_init__(self) -> None:
        check_integer("n_steps", self.n_steps)
        check_number("warm_up", self.warm_up, least=0, most=1)
        check_number("last", self.last, least=0, most=1)

    def __call__(self, n_step: int) -> float:
        """Return the factor on the learning rate in the step after `n_step` others."""
        part = min((n_step + 1) / self.n_steps, 1.0)
        rising = min(part / self.warm_up, 1.0) if self.warm_up else 1.0
        return rising * (self.last + (1 - self.last) * 0.5 * (1 + math.cos(math.pi * part)))
