"""The interface of update rules: a rule is immutable, its state holds everything that changes.

A rule updates atoms or network weights in the training loop (`calepin.learning.train`). The loop does not
depend on the fields of a state. A checkpoint stores what `State.tensors` and `State.scalars` return, and
`Rule.restore` rebuilds the state from it. `calepin.testing.check_rule` checks a new rule.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from calepin.core.checkpoint import describe
from calepin.core.checks import all_finite
from calepin.learning.batches import Batch

__all__ = [
    "AtomState",
    "BaseRule",
    "DivergedError",
    "Rule",
    "State",
    "in_a_stream",
    "require_finite",
    "tensor_of",
    "warn_if_vanished",
    "within",
]


class DivergedError(ArithmeticError):
    """NaN or infinity occurred during training. An earlier checkpoint is kept."""


@dataclass
class State:
    """Everything that a rule changes during training: tensors, arrays, scalars and other states.

    Subclasses are dataclasses, and a step changes them in place. Tensors are on the device of the batches.
    Arrays, such as counters, are on the CPU. A field that is a dictionary of tensors holds the memory of an
    optimiser.
    """

    def tensors(self) -> dict[str, Any]:
        """Return tensors and arrays by name; those of a nested state are named ``field.name``."""
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
        """Return numbers by name, for JSON."""
        found: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, State):
                found |= {f"{f.name}.{name}": scalar for name, scalar in value.scalars().items()}
            elif isinstance(value, int | float):
                found[f.name] = value
        return found

    def to(self, device: torch.device | str | None) -> Self:
        """Return the state with its tensors on a device; counters and step counts stay on the CPU."""
        if device is None:
            return self
        moved = {f.name: _moved(getattr(self, f.name), device) for f in fields(self)}
        return replace(self, **moved)

    @classmethod
    def restore(cls, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> Self:
        """Return the state, on the CPU, whose `tensors` and `scalars` methods returned the arguments.

        Raises
        ------
        ValueError
            If a field is missing, or a name belongs to no field.
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
    """The state of a rule that updates atoms.

    Attributes
    ----------
    atoms : Tensor, shape (n_components, ...)
        The dictionary.
    """

    atoms: Tensor


StateT = TypeVar("StateT", bound=Any)


class Rule(Protocol[StateT]):
    """The interface between the training loop and a rule."""

    def init(self, atoms: Any) -> StateT:
        """Return the initial state with a copy of these atoms."""
        ...

    def restore(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> StateT:
        """Return the state stored in a checkpoint, on the CPU."""
        ...

    def step(self, state: StateT, batch: Batch) -> np.ndarray:
        """Update the state with a batch, in place; return the objective of each sample before the update."""
        ...

    def end_pass(self, state: StateT) -> dict[str, float]:
        """Update the state after a pass over the data; return additional entries for the history."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return the settings of the rule for JSON; a checkpoint with other settings is refused."""
        ...


@dataclass(frozen=True)
class BaseRule:
    """Base class of rules: `settings` come from the fields, `restore` from the class of the state."""

    name: ClassVar[str]
    state: ClassVar[type[State]] = AtomState

    def restore(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> Any:
        """Return the state stored in a checkpoint, on the CPU."""
        return self.state.restore(tensors, scalars)

    def end_pass(self, state: Any) -> dict[str, float]:
        """Do nothing and return no entries for the history."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Return the name and the fields of the rule for JSON."""
        return {"rule": self.name, **describe(self)}


def in_a_stream(rule: Any) -> Any:
    """Return a rule for passes that are parts of a stream; a rule without ``stream`` is returned itself."""
    is_known = isinstance(rule, BaseRule) and hasattr(rule, "stream")
    return replace(rule, **{"stream": True}) if is_known else rule


def require_finite(name: str, values: Tensor) -> None:
    """Raise DivergedError if a tensor holds NaN or infinity."""
    if not all_finite(values):
        raise DivergedError(
            f"the {name} became NaN or infinite: check the scale of X, the step size and the learning rate"
        )


def warn_if_vanished(any_nonzero: bool, of: str = "batch") -> None:
    """Warn if all codes of a batch, or of a pass, are zero, because nothing is learned from it."""
    if not any_nonzero:
        warnings.warn(
            f"all codes of a {of} are zero, so nothing is learned from it: the penalty's alpha, or "
            "threshold, is too large for X",
            RuntimeWarning,
            stacklevel=4,
        )


def tensor_of(values: Any) -> Tensor:
    """Return a contiguous tensor with a copy of an array or a tensor."""
    if isinstance(values, Tensor):
        return values.detach().clone(memory_format=torch.contiguous_format)
    return torch.from_numpy(np.array(values, order="C"))


def within(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the items whose names start with `name` and a dot, without that prefix."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, State):
        return value.to(device)
    if isinstance(value, dict):
        # torch keeps the step count of an optimiser on the CPU
        return {name: tensor if tensor.ndim == 0 else tensor.to(device) for name, tensor in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value
