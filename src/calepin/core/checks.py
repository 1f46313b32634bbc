"""Argument checks. Each error is one line: the argument, what was expected, and what was given."""

import math
import numbers
from collections.abc import Iterable
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "CONVERSION",
    "all_finite",
    "check_array",
    "check_boolean",
    "check_device",
    "check_integer",
    "check_number",
    "check_one_of",
    "check_scale",
    "check_shape",
    "check_tensor",
    "check_unmasked",
    "is_integer",
    "is_number",
    "is_plain",
    "largest_magnitude",
    "pixels_of",
]

CONVERSION = "; torch.from_numpy converts an array"  # the end of an error about an array in place of a tensor
_HUGE = 1e140  # the sum of the squares of larger numbers overflows


def is_integer(value: Any) -> TypeGuard[int]:
    """Return whether a value is an integer, of Python or NumPy, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite real number, of Python or NumPy, and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def check_integer(
    name: str, value: Any, *, least: int = 1, most: int | None = None, optional: bool = False
) -> None:
    """Raise ValueError unless a value is an integer from `least` to `most`, or None if it is optional."""
    if value is None and optional:
        return
    if is_integer(value) and value >= least and (most is None or value <= most):
        return
    if most is not None:
        expected = f"an integer from {least} to {most}"
    else:
        expected = "a positive integer" if least == 1 else f"an integer of at least {least}"
    raise ValueError(f"{name}: expected {expected}{' or None' * optional}, got {value!r}")


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> None:
    """Raise ValueError unless a value is a finite number within the bounds, or None if it is optional.

    `least` and `most` are inclusive bounds, `above` and `below` exclusive ones.
    """
    if value is None and optional:
        return
    inside = (
        is_number(value)
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )
    if inside:
        return
    bounds = [
        text
        for text, bound in (
            (f"of at least {least}", least),
            (f"above {above}", above),
            (f"of at most {most}", most),
            (f"below {below}", below),
        )
        if bound is not None
    ]
    expected = " ".join(["a finite number", " and ".join(bounds)]).rstrip()
    raise ValueError(f"{name}: expected {expected}{' or None' * optional}, got {value!r}")


def check_one_of(name: str, value: Any, known: Iterable[Any]) -> None:
    """Raise ValueError unless a value is one of the known values."""
    choices = list(known)
    # types are compared first: an array cannot be compared with the choices
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name}: expected one of {listed}, got {value!r}")


def check_boolean(name: str, value: Any) -> None:
    """Raise ValueError unless a value is True or False."""
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise ValueError(f"{name}: expected True or False, got {value!r}")


def check_methods(name: str, value: Any, *methods: str) -> None:
    """Raise TypeError unless a value is an object (not a class) with these methods."""
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        got = f"the class {value.__name__}" if isinstance(value, type) else f"{value!r:.60}"
        raise TypeError(f"{name}: expected an object with {' and '.join(methods)}, got {got}")


def check_unmasked(name: str, value: Any) -> Any:
    """Return the value; raise ValueError for a masked array, whose masked entries would be taken for data."""
    n_masked = np.ma.count_masked(value) if isinstance(value, np.ma.MaskedArray) else 0
    if n_masked:
        raise ValueError(
            f"{name}: expected no mask, got one that hides {n_masked} of {value.size} entries; fill them "
            "first, with calepin.imaging.inpaint, or with a number by its method filled"
        )
    return value


def pixels_of(name: str, value: Any) -> NDArray[Any]:
    """Return an image as an array; raise ValueError for a mask, rows of several lengths, or huge numbers.

    Rows follow each other in memory: sums over other orders round otherwise.
    """
    try:
        pixels = np.asarray(check_unmasked(name, value), order="C")
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"{name}: expected rows of the same length") from None
    peak = float(np.abs(pixels).max()) if pixels.dtype.kind == "f" and pixels.size else 0.0
    if _HUGE < peak < math.inf:
        raise ValueError(f"{name}: expected values below {_HUGE:g}, got {peak:.3g}")
    return pixels


def check_tensor(name: str, value: Any) -> Tensor:
    """Return the value if it is a tensor; raise TypeError otherwise."""
    if not isinstance(value, Tensor):
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        hint = CONVERSION if hasattr(value, "__array__") else ""
        raise TypeError(f"{name}: expected a torch.{torch.Tensor.__name__}, got {kind}{hint}")
    return value


def largest_magnitude(dtype: Any) -> float:
    """Return the magnitude of numbers whose sums of squares are numbers in this precision."""
    return 1e18 if np.dtype(dtype).itemsize <= 4 else 1e150


def check_scale(name: str, peak: float, dtype: Any) -> None:
    """Raise ValueError if squares of numbers up to `peak` overflow or vanish in this precision."""
    limit = largest_magnitude(dtype)
    if peak and not 1 / limit <= peak <= limit:
        raise ValueError(
            f"{name}: expected a largest magnitude from {1 / limit:g} to {limit:g}, got {peak:.3g}: scale it"
        )


def all_finite(values: Tensor) -> bool:
    """Return whether all entries are finite; a finite sum, the fastest pass, shows that they are."""
    real = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
    if not real.numel() or math.isfinite(real.detach().sum()):
        return True
    return all(math.isfinite(extreme) for extreme in torch.aminmax(real.detach()))


def is_plain(*tensors: Tensor) -> bool:
    """Return whether compiled code can read the tensors: real numbers on the CPU, none of which is traced.

    A transformation such as `torch.func.grad` passes tensors without numbers.
    """
    return all(
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.dtype in (torch.float32, torch.float64)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]
        for tensor in tensors
    )


def check_floating(name: str, value: Any, *, real: bool = False) -> Tensor:
    """Return the value if it is a tensor of finite floating numbers, or also complex ones; else raise."""
    tensor = check_tensor(name, value)
    if real and tensor.is_complex():
        raise ValueError(f"{name}: expected real numbers, got {tensor.dtype}")
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise ValueError(f"{name}: expected a floating or complex dtype, got {tensor.dtype}")
    if not all_finite(tensor):
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return tensor


def check_array(
    name: str, value: Any, *, ndim: int | None = None, empty: bool = False
) -> NDArray[np.float64]:
    """Return a value as an array of finite real numbers in float64; raise ValueError for anything else.

    Masked entries count as NaN. `ndim` is the number of axes. An array without entries is refused unless
    `empty` is True.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ma.MaskedArray):
        value = np.ma.filled(value.astype(np.float64), np.nan)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        got = f"dtype {array.dtype}" if array.ndim else f"{value!r:.60}"
        raise ValueError(f"{name}: expected real numbers, got {got}")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} axes, got shape {array.shape}")
    if not array.size and not empty:
        raise ValueError(f"{name}: expected at least one entry, got shape {array.shape}")
    array = array.astype(np.float64, copy=False)
    if array.size and not max(-array.min(), array.max()) < _HUGE:  # also False for NaN
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
        raise ValueError(f"{name}: expected values below {_HUGE:g}, got {np.abs(array).max():.3g}")
    return array


def check_device(name: str, value: Any) -> None:
    """Raise ValueError unless a value is None or names a device that torch has."""
    if value is None or isinstance(value, torch.device):
        return
    try:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise TypeError
        torch.empty(0, device=value)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):
        raise ValueError(
            f"{name}: expected a device of torch, such as 'cpu' or 'cuda', got {value!r}"
        ) from None


def check_shape(name: str, value: Any, *, least: int = 1, ndim: int | None = None) -> tuple[int, ...]:
    """Return the value as a tuple of integers of at least `least`; raise ValueError for anything else."""
    fits = isinstance(value, tuple | list) and bool(value) and ndim in (None, len(value))
    if fits and all(is_integer(size) and size >= least for size in value):
        return tuple(int(size) for size in value)
    number = "integers" if ndim is None else f"{ndim} integers"
    raise ValueError(f"{name}: expected a tuple of {number} of at least {least}, got {value!r:.60}")
