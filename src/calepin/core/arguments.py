"""Checks of arguments against the annotations of a function: the kinds of things, not their bounds.

A function or a class of settings makes one call. What else it asks for (bounds, shapes) is left to `checks`:

    def psnr(pixels: ArrayLike, clean: ArrayLike, *, peak: float = 1.0) -> float:
        check_arguments(psnr, locals())
"""

import collections.abc
import inspect
import math
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calepin.core.checks import CONVERSION, is_integer, is_number
from calepin.core.errors import IncompatibleError

__all__ = ["check_arguments", "check_fields", "takes_tensors"]


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError for an argument that is not of the kind of its annotation.

    Numbers are finite (infinity is allowed where it is the default), and no bool is one. Names that the
    function does not have, and annotations that are not classes, are not looked at.
    """
    for name, (kinds, unbounded, exact) in _kinds(function).items():
        if name in arguments and type(arguments[name]) not in exact:
            _check(name, arguments[name], kinds, unbounded)


def check_fields(settings: Any) -> None:
    """Do the same for the fields of a dataclass."""
    check_arguments(type(settings).__init__, vars(settings))


@cache
def _kinds(function: Callable[..., Any]) -> dict[str, tuple[tuple[Any, ...], bool, frozenset[type]]]:
    """Return the kinds of each parameter, whether it may be infinite, and types that are enough."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        kinds = _members(_resolved(parameter.annotation, function))
        if not variadic and all(_is_known(kind) for kind in kinds):
            default = parameter.default
            unbounded = isinstance(default, float) and math.isinf(default) and default > 0
            found[name] = kinds, unbounded, frozenset(filter(_is_enough, map(_type_of, kinds)))
    return found


def _type_of(kind: Any) -> Any:
    return type(None) if kind is None else int if kind is float else kind  # an int is a finite number


def _is_enough(kind: Any) -> bool:
    """Return whether an object whose type is this kind needs no further look."""
    return isinstance(kind, type) and kind is not np.ndarray and not getattr(kind, "_is_protocol", False)


def _resolved(annotation: Any, function: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, getattr(function, "__globals__", {}))  # a name in quotes
    except NameError:  # it is imported for type checkers alone
        return Any


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, those of nested ones too; `ArrayLike` is one kind."""
    if annotation == ArrayLike:
        return (ArrayLike,)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        rest = typing.get_args(annotation)
        like = typing.get_args(ArrayLike)
        if set(like) <= set(rest):  # a union has taken ArrayLike apart
            return (ArrayLike, *(kind for kind in rest if kind not in like))
        return tuple(kind for part in rest for kind in _members(part))
    return (annotation,)


def _is_known(kind: Any) -> bool:
    if kind is ArrayLike or kind is None or kind is type(None):
        return True
    if kind in (inspect.Parameter.empty, object, Any) or isinstance(kind, typing.TypeVar):
        return False
    origin = typing.get_origin(kind)
    return isinstance(kind, type) if origin is None else origin is typing.Literal or isinstance(origin, type)


def _check(name: str, value: Any, kinds: tuple[Any, ...], unbounded: bool) -> None:
    if any(_is_of(value, kind, unbounded) for kind in kinds):
        return
    some = [kind for kind in kinds if kind not in (None, type(None))]
    expected = " or ".join(dict.fromkeys(_described(kind) for kind in some))
    plain = (int, float, bool, str)
    values = any(k in plain or typing.get_origin(k) in (typing.Literal, tuple) for k in some)
    hint = CONVERSION if Tensor in some and hasattr(value, "__array__") else ""
    raise (ValueError if values else TypeError)(f"{name}: expected {expected}, got {_shown(value)}{hint}")


def _shown(value: Any) -> str:
    """Return a value as text, an array or a tensor by its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, np.ndarray | Tensor):
        return f"{type(value).__module__}.{type(value).__qualname__} of shape {tuple(value.shape)}"
    return " ".join(f"{value!r:.80}".split())


def _is_of(value: Any, kind: Any, unbounded: bool) -> bool:
    if kind is None or kind is type(None):
        return value is None
    if kind is int:
        return is_integer(value)
    if kind is float:
        return is_number(value) or (unbounded and isinstance(value, float) and value == math.inf)
    if kind is bool:
        return isinstance(value, bool | np.bool_)
    if kind is ArrayLike:
        return _is_array(value)
    if (
        isinstance(value, type)
        and kind is not type
        and typing.get_origin(kind) is not collections.abc.Callable
    ):
        return False
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in parts)
    if origin is None:
        return _is_instance(value, kind)
    if origin is np.ndarray:
        return _is_instance(value, np.ndarray)
    if origin is collections.abc.Callable:
        return callable(value)
    if issubclass(origin, Sequence):
        return _is_sequence(value, parts, unbounded)
    return _is_instance(value, origin)


def _is_instance(value: Any, kind: type) -> bool:
    if kind is np.ndarray:
        return isinstance(value, kind) and value.dtype.kind in "biufc"
    if not getattr(kind, "_is_protocol", False):
        return isinstance(value, kind)
    # a class of one's own need not have all: what a solver needs is its own check
    return not isinstance(value, str | bytes | np.ndarray | Tensor) and any(
        callable(getattr(value, name, None)) for name in _methods(kind)
    )


@cache
def _methods(protocol: type) -> tuple[str, ...]:
    found = {name: value for base in protocol.__mro__ for name, value in vars(base).items()}
    return tuple(
        name
        for name, value in found.items()
        if inspect.isfunction(value) and (name[0] != "_" or name == "__call__")
    )


def _is_array(value: Any) -> bool:
    """Return whether a value is an array of numbers, or something that NumPy makes one of."""
    if isinstance(value, Tensor):
        return True
    try:
        dtype = (
            value.dtype if isinstance(getattr(value, "dtype", None), np.dtype) else np.asarray(value).dtype
        )
    except (ValueError, TypeError, RuntimeError):
        return False
    return dtype.kind in "biufc"


def _is_sequence(value: Any, parts: tuple[Any, ...], unbounded: bool) -> bool:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return False
    if (len(parts) == 2 and parts[1] is Ellipsis) or len(parts) == 1:
        wanted = [parts[0]] * len(value)
    else:
        wanted = list(parts)
    return len(value) == len(wanted) and all(
        not _is_known(kind) or any(_is_of(one, member, unbounded) for member in _members(kind))
        for one, kind in zip(value, wanted, strict=True)
    )


def _described(kind: Any) -> str:
    if kind is ArrayLike:
        return "an array of numbers"
    simple = {int: "an integer", float: "a finite number", bool: "True or False", str: "a string"}
    simple |= {None: "None", type(None): "None", Tensor: "a torch.Tensor", os.PathLike: "a path"}
    if kind in simple:
        return simple[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if np.ndarray in (kind, origin):
        return "an array of numbers"
    if origin is collections.abc.Callable:
        return "a function"
    if origin is not None and issubclass(origin, Sequence) and parts:
        several = "" if parts[-1] is Ellipsis or len(parts) == 1 else f"{len(parts)} times "
        inner = " or ".join(_described(one) for one in _members(parts[0]))
        return f"a sequence: {several}{inner}"
    plain = origin or kind
    article = "an" if plain.__name__[0] in "AEIOU" else "a"
    return f"{article} {plain.__name__}"


P = ParamSpec("P")
T = TypeVar("T")


def takes_tensors(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a map of tensors, so that an error of torch becomes one that names its arguments.

    Nothing is looked at before the call: such maps are called in inner loops.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (RuntimeError, AttributeError, TypeError, ValueError, IndexError) as error:
            explained = _explained(function, args, kwargs, error)
            if explained is None:
                raise
            raise explained from error

    return call


def _explained(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> Exception | None:
    """Return an error that says which argument is no tensor, or that the tensors do not fit together."""
    if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error) or _is_own(error):
        return None
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    kinds = {
        name: kinds for name, (kinds, *_) in _kinds(function).items() if Tensor in kinds and name in given
    }
    for name, some in kinds.items():
        if not any(_is_of(given[name], kind, False) for kind in some):
            hint = CONVERSION if hasattr(given[name], "__array__") else ""
            return TypeError(f"{name}: expected a torch.Tensor, got {_shown(given[name])}{hint}")
    tensors = {name: given[name] for name in kinds if isinstance(given[name], Tensor)}
    if not tensors:
        return None
    shapes = ", ".join(f"{value.dtype} of shape {tuple(value.shape)}" for value in tensors.values())
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{' and '.join(tensors)}: expected tensors that fit here, got {shapes} ({reason})")


def _is_own(error: Exception) -> bool:
    """Return whether calepin raised an error itself: then it names an argument already."""
    if isinstance(error, IncompatibleError):
        return True
    named = re.match(r"\w[\w.]*( and \w+)*: ", str(error)) is not None
    return named and isinstance(error, TypeError | ValueError)
