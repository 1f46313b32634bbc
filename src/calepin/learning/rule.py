"""What moves atoms and weights: a rule, a frozen value, and its state, which carries all that changes.

A rule is plugged into the training loop (`calepin.learning.train`), which names no field of a state: a
checkpoint is what `State.tensors` and `State.scalars` give, and `Rule.restore` takes back.
`calepin.testing.check_rule` holds a new rule to the contract.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from calepin.core.checkpoint import describe
from calepin.learning.batches import Batch

__all__ = [
    "AtomState",
    "BaseRule",
    "DivergedError",
    "Rule",
    "State",
    "require_finite",
    "tensor_of",
    "warn_if_vanished",
    "within",
]


class DivergedError(ArithmeticError):
    """Training met a NaN or an infinity; what was saved before is untouched."""


@dataclass
class State:
    """All that a rule carries from step to step: a dataclass of tensors, arrays, scalars and other states.

    Tensors live where the batches are, arrays (counters) on the CPU. A dictionary of tensors is what an
    optimiser remembers. A state changes in place.
    """

    def tensors(self) -> dict[str, Any]:
        """Return tensors and arrays by name; a state within adds its own name and a dot."""
        found: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, State):
                found |= {f"{f.name}.{name}": tensor for name, tensor in value.tensors().items()}
            elif isinstance(value, dict):
                found |= {f"{f.name}.{name}": tensor for name, tensor in value.items()}
            elif isinstance(value, Tensor | np.ndarray):
                found[f.name] = value
        return found

    def scalars(self) -> dict[str, Any]:
        """Return numbers by name, as JSON can hold them."""
        found: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, State):
                found |= {f"{f.name}.{name}": scalar for name, scalar in value.scalars().items()}
            elif isinstance(value, int | float):
                found[f.name] = value
        return found

    def to(self, device: torch.device | str | None) -> Self:
        """Return the state with its tensors on a device; counters, among them those of optimisers, stay."""
        if device is None:
            return self
        moved = {f.name: _moved(getattr(self, f.name), device) for f in fields(self)}
        return replace(self, **moved)

    @classmethod
    def restore(cls, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> Self:
        """Return the state of which `tensors` and `scalars` are what is given, on the CPU.

        Raises
        ------
        ValueError
            A name that is missing, or that the state does not have.
        """
        kinds = get_type_hints(cls)
        given: dict[str, Any] = {}
        for f in fields(cls):
            kind = kinds[f.name]
            if isinstance(kind, type) and issubclass(kind, State):
                given[f.name] = kind.restore(within(f.name, tensors), within(f.name, scalars))
            elif get_origin(kind) is dict:
                given[f.name] = {key: tensor_of(value) for key, value in within(f.name, tensors).items()}
            elif f.name in tensors:
                value = tensors[f.name]
                given[f.name] = np.array(value) if kind is np.ndarray else tensor_of(value)
            elif f.name in scalars:
                given[f.name] = scalars[f.name]
            elif type(None) in get_args(kind):
                given[f.name] = None
            else:
                raise ValueError(f"{f.name}: expected a value for {cls.__name__}, got none")
        state = cls(**given)
        unknown = tensors.keys() - state.tensors().keys() | scalars.keys() - state.scalars().keys()
        if unknown:
            raise ValueError(f"{cls.__name__}: expected no {min(unknown)!r}, which it does not have")
        return state


@dataclass
class AtomState(State):
    """The state of a rule that moves atoms.

    Attributes
    ----------
    atoms : Tensor, shape (n_components, ...)
    """

    atoms: Tensor


StateT = TypeVar("StateT", bound=Any)


class Rule(Protocol[StateT]):
    """What the training loop asks of a rule."""

    def init(self, atoms: Any) -> StateT:
        """Return the state of a run that begins with these atoms, of which it takes a copy."""
        ...

    def restore(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> StateT:
        """Return the state that a checkpoint holds, on the CPU."""
        ...

    def step(self, state: StateT, batch: Batch) -> np.ndarray:
        """Work on a batch, in place, and return each sample's objective before the change."""
        ...

    def end_pass(self, state: StateT) -> dict[str, float]:
        """Do what happens once per pass over the data; return what its record should say besides."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return the rule as JSON, to recognise a checkpoint of another run."""
        ...


@dataclass(frozen=True)
class BaseRule:
    """What most rules share: settings from their fields, and a state that restores itself."""

    name: ClassVar[str]
    state: ClassVar[type[State]] = AtomState

    def restore(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> Any:
        """Return the state that a checkpoint holds."""
        return self.state.restore(tensors, scalars)

    def end_pass(self, state: Any) -> dict[str, float]:
        """Do nothing: a pass has no meaning for the rule."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return the rule as JSON."""
        return {"rule": self.name, **describe(self)}


def require_finite(name: str, values: Tensor) -> None:
    """Raise DivergedError if a tensor holds NaN or infinity."""
    if not bool(torch.isfinite(values).all()):
        raise DivergedError(
            f"the {name} became NaN or infinite: check the scale of X, the step size and the learning rate"
        )


def warn_if_vanished(any_nonzero: bool) -> None:
    """Warn of a batch all of whose codes are zero: nothing is learned from it."""
    if not any_nonzero:
        warnings.warn(
            "all codes of a batch are zero, from which nothing is learned: the penalty's alpha, or "
            "threshold, is too large for X",
            RuntimeWarning,
            stacklevel=4,
        )


def tensor_of(values: Any) -> Tensor:
    """Return numbers, an array or a tensor, as a contiguous tensor that shares no memory with them."""
    if isinstance(values, Tensor):
        return values.detach().clone(memory_format=torch.contiguous_format)
    return torch.from_numpy(np.array(values, order="C"))


def within(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what belongs to a field: its names begin with that of the field and a dot."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, State):
        return value.to(device)
    if isinstance(value, dict):
        # torch keeps an optimiser's count of steps on the CPU
        return {name: tensor if tensor.ndim == 0 else tensor.to(device) for name, tensor in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
