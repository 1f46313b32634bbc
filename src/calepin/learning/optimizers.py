"""Use of torch optimisers inside a rule, with the optimiser's memory stored in the state of the rule.

A torch optimiser stores its memory (moments, step count) in itself. Here it is kept in a dictionary of
tensors instead, which a checkpoint can hold, so that a run can be resumed bit for bit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.checks import check_integer, check_methods, check_number
from calepin.core.errors import IncompatibleError

__all__ = ["CosineDecay", "Optimizer", "along_sphere", "move", "tensor_state"]

Optimizer = Callable[[list[Tensor]], torch.optim.Optimizer]
"""A function from a list of parameters to a torch optimiser: ``partial(torch.optim.Adam, lr=2e-3)``."""


def move(memory: dict[str, Tensor], atoms: Tensor, gradient: Tensor, optimizer: Optimizer) -> None:
    """Take one step of an optimiser on `atoms`, in place, and update the optimiser's memory.

    Parameters
    ----------
    memory : dict of tensors
        Memory of the optimiser for these atoms. Empty before the first step; changed in place.
    atoms : Tensor
        The values to update.
    gradient : Tensor, shape of atoms
        Gradient of the loss.
    optimizer : callable
        A function from a list of parameters to a torch optimiser, see `Optimizer`.

    Raises
    ------
    IncompatibleError
        If the optimiser's memory holds anything but tensors.
    """
    parameter = torch.nn.Parameter(atoms)  # shares the memory of atoms
    working = optimizer([parameter])
    check_methods("optimizer", working, "step")
    if memory:
        working.state[parameter] = dict(memory)
    parameter.grad = gradient
    working.step()
    memory.update(tensor_state(working, parameter))


def tensor_state(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """Return an optimiser's memory of a parameter; raise IncompatibleError unless it consists of tensors."""
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
    """Project the gradient of each atom onto the tangent space of the sphere at the atom.

    The component along the atom is removed (Absil, Mahony and Sepulchre, 2008, sec. 3.6.1).
    """
    axes = tuple(range(1, atoms.ndim))
    tiny = torch.finfo(atoms.dtype).tiny  # an atom that is zero keeps its gradient
    energy = (atoms * atoms).sum(axes, keepdim=True).clamp_min(tiny)
    along = (gradient * atoms).sum(axes, keepdim=True) / energy
    return gradient - along * atoms


@dataclass(frozen=True)
class CosineDecay:
    """Schedule of the learning rate: cosine decay with a linear warm-up.

    Parameters
    ----------
    n_steps : int
        Number of steps of the schedule. Afterwards the learning rate stays constant.
    warm_up : float, default 0.05
        Fraction of the steps over which the learning rate rises.
    last : float, default 0.01
        Final learning rate, as a fraction of the highest one.
    """

    n_steps: int
    warm_up: float = 0.05
    last: float = 0.01

    def __post_init__(self) -> None:
        check_integer("n_steps", self.n_steps)
        check_number("warm_up", self.warm_up, least=0, most=1)
        check_number("last", self.last, least=0, most=1)
        check_fields(self)

    def __call__(self, n_step: int) -> float:
        """Return the factor of the learning rate in the step with index `n_step`, counted from 0."""
        part = min((n_step + 1) / self.n_steps, 1.0)
        rising = min(part / self.warm_up, 1.0) if self.warm_up else 1.0
        return rising * (self.last + (1 - self.last) * 0.5 * (1 + math.cos(math.pi * part)))
