"""Mutations of one argument: what a user might pass by mistake instead of a valid value."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["mutations"]

Mutation = tuple[str, Callable[[], Any]]


def mutations(value: Any) -> list[Mutation]:
    """Return named functions that return a mutated value."""
    return [*_of_any_kind(value), *_of_this_kind(value)]


def _of_any_kind(value: Any) -> Iterator[Mutation]:
    yield "None", lambda: None
    yield "a word", lambda: "nonsense"
    yield "an object", object
    yield "a list of words", lambda: ["a", "b"]
    yield "an empty tuple", lambda: ()
    yield "a dict", lambda: {"a": 1}
    yield "NaN", lambda: math.nan
    yield "a complex number", lambda: 1.5 + 2j
    yield "an array", lambda: np.ones((2, 3))
    yield "a tensor", lambda: torch.ones(2, 3)
    yield "its class", lambda: type(value)


def _of_this_kind(value: Any) -> Iterator[Mutation]:
    if isinstance(value, bool):
        yield from _of_booleans()
    elif isinstance(value, int | float):
        yield from _of_numbers(value)
    elif isinstance(value, str):
        yield from _of_words(value)
    elif isinstance(value, np.ndarray):
        yield from _of_arrays(value)
    elif isinstance(value, Tensor):
        yield from _of_tensors(value)
    elif isinstance(value, tuple | list) and value:
        yield from _of_sequences(value)


def _of_booleans() -> Iterator[Mutation]:
    yield "two", lambda: 2
    yield "yes", lambda: "yes"
    yield "a NumPy bool", lambda: np.bool_(True)


def _of_numbers(value: float) -> Iterator[Mutation]:
    yield "infinity", lambda: math.inf
    yield "minus infinity", lambda: -math.inf
    yield "zero", lambda: type(value)(0)
    yield "its negative", lambda: -value
    yield "minus one", lambda: -1
    yield "a fraction", lambda: value + 0.5
    yield "a bool", lambda: True
    yield "a word of digits", lambda: str(value)
    yield "a NumPy number", lambda: np.float32(value)
    yield "an array of no axes", lambda: np.array(value)
    yield "a tensor of no axes", lambda: torch.tensor(value)
    yield "an array of NaN", lambda: np.array([math.nan, 1.0])
    if isinstance(value, float):
        yield "huge", lambda: 1e300
        yield "tiny", lambda: 1e-300


def _of_words(value: str) -> Iterator[Mutation]:
    yield "upper case", lambda: value.upper() + "X"
    yield "no word", lambda: ""
    yield "bytes", value.encode
    yield "a number", lambda: 3


def _of_arrays(value: np.ndarray) -> Iterator[Mutation]:
    yield from _of_any_array(value)
    yield "a tensor of it", lambda: torch.from_numpy(np.ascontiguousarray(value))
    yield "objects", lambda: value.astype(object)
    yield "words", lambda: value.astype(str)
    yield "a list", value.tolist
    yield "half precision", lambda: value.astype(np.float16)
    yield "big endian", lambda: value.astype(value.dtype.newbyteorder(">"))
    yield "read only", lambda: _read_only(value)
    yield "every other", lambda: value[::2]
    yield "complex", lambda: value + 1j
    yield "masked", lambda: np.ma.masked_invalid(value)
    yield "a ragged list", lambda: [[1.0, 2.0], [3.0]]
    if value.dtype.kind == "f":
        yield "huge", lambda: value * 1e200
        yield "tiny", lambda: value * 1e-200
        yield "integers", lambda: np.rint(value).astype(np.int64)
    yield "bools", lambda: value.astype(bool)
    yield "dates", lambda: np.full(value.shape, np.datetime64("2026-01-01"))


def _of_tensors(value: Tensor) -> Iterator[Mutation]:
    yield from _of_any_array(value)
    yield "an array of it", lambda: value.detach().numpy()
    yield "a list", value.tolist
    yield "every other", lambda: value[::2]
    yield "complex", lambda: value + 1j
    yield "integers", lambda: value.to(torch.int64)
    yield "bools", lambda: value.bool()
    yield "half precision", lambda: value.to(torch.bfloat16)
    yield (
        "the other precision",
        lambda: value.to(torch.float32 if value.dtype == torch.float64 else torch.float64),
    )
    if value.is_floating_point():
        yield "huge", lambda: value * 1e30
        yield "tiny", lambda: value * 1e-30
        yield "a leaf", lambda: value.detach().clone().requires_grad_()


def _of_any_array(value: Any) -> Iterator[Mutation]:
    yield "with NaN", lambda: _with(value, math.nan)
    yield "with infinity", lambda: _with(value, math.inf)
    yield "all NaN", lambda: value * math.nan
    yield "its negative", lambda: value * -1
    yield "zeros", lambda: value * 0
    yield "no samples", lambda: value[:0]
    yield "one sample", lambda: value[:1]
    yield "flat", lambda: value.reshape(-1)
    yield "a further axis", lambda: value[None]
    yield "fewer axes", lambda: value[0]
    yield "one less at the end", lambda: value[..., :-1]


def _of_sequences(value: tuple | list) -> Iterator[Mutation]:
    kind = type(value)
    yield "a list of it", lambda: list(value)
    yield "one more", lambda: kind([*value, value[-1]])
    yield "one less", lambda: kind(value[:-1])
    yield "its first", lambda: value[0]
    yield "reversed", lambda: kind(value[::-1])
    for name, mutate in mutations(value[0]):
        yield f"first: {name}", lambda mutate=mutate: kind([mutate(), *value[1:]])


def _with(value: Any, number: float) -> Any:
    changed = value * 1.0
    changed[(0,) * changed.ndim] = number
    return changed


def _read_only(value: np.ndarray) -> np.ndarray:
    changed = value.copy()
    changed.flags.writeable = False
    return changed
