"""Operations per sample on batches (samples on the first axis), and states with one row per sample."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

__all__ = ["Rows", "expand", "inner", "norm", "take_rows", "with_fields"]

T = TypeVar("T")


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return the real part of ``sum(conj(a) * b)`` of each sample, shape (n,)."""
    return (a.conj() * b).real.flatten(1).sum(1)


def norm(a: Tensor) -> Tensor:
    """Return the Euclidean norm of each sample, shape (n,)."""
    return torch.linalg.vector_norm(a.flatten(1), dim=1)


def expand(values: Tensor, like: Tensor) -> Tensor:
    """View one value per sample, (n,), as (n, 1, ...), so that it broadcasts against `like`."""
    return values.view(-1, *[1] * (like.ndim - 1))


def take_rows(values: Tensor, rows: Tensor, ndim: int) -> Tensor:
    """Return the values of some samples; `values` broadcast against a batch with `ndim` axes.

    Values without one entry per sample are the same for all samples and are returned unchanged.
    """
    return values[rows] if values.ndim == ndim and len(values) > 1 else values


@dataclass(frozen=True, eq=False)
class Rows:
    """Base class of states: dataclasses of tensors with one row per sample, and of parts that are `Rows` too.

    Other fields are the same for all samples and stay unchanged.
    """

    def take(self, rows: Tensor) -> Self:
        """Return the state of some samples."""
        return self._mapped(lambda mine: mine[rows])

    def where(self, which: Tensor, other: Self) -> Self:
        """Return these rows where `which`, (n,) of bool, is True, and the rows of `other` elsewhere."""
        if bool(which.all()):
            return self
        if not bool(which.any()):
            return other
        return self._mapped(lambda mine, theirs: torch.where(expand(which, mine), mine, theirs), other)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name; a tensor ``name`` of a part ``part`` is called ``part.name``."""
        found = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Rows):
                found |= {f"{f.name}.{name}": tensor for name, tensor in value.tensors().items()}
            elif isinstance(value, Tensor):
                found[f.name] = value
        return found

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        """Return a copy with other tensors, named as in `tensors()`."""
        changes = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Rows):
                prefix = f"{f.name}."
                part = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
                changes[f.name] = value.with_tensors(part)
            elif isinstance(value, Tensor):
                changes[f.name] = tensors[f.name]
        return replace(self, **changes)

    def _mapped(self, function: Callable[..., Tensor], *others: "Rows") -> Self:
        changes = {}
        for f in fields(self):
            mine, theirs = getattr(self, f.name), [getattr(other, f.name) for other in others]
            if isinstance(mine, Rows):
                changes[f.name] = mine._mapped(function, *theirs)
            elif isinstance(mine, Tensor):
                changes[f.name] = function(mine, *theirs)
        return replace(self, **changes)


def with_fields(value: T, **fields: Any) -> T:
    """Return a copy of a frozen dataclass with other fields; its checks, done before, are not repeated."""
    copied = object.__new__(type(value))
    copied.__dict__.update(value.__dict__, **fields)
    return copied
