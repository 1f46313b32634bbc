"""Operations on convolutional filters: initialisation, normalisation, centring, search of large residuals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.arrays import as_array
from calepin.core.checks import check_array, check_integer, check_shape
from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batches
from calepin.learning.signals import Signals
from calepin.likelihoods import Gaussian
from calepin.operators.base import Compose
from calepin.operators.conv import ConvDictionary
from calepin.operators.mask import Mask
from calepin.problem import Problem

__all__ = [
    "SPHERE",
    "centre_",
    "dictionary_of",
    "initial_filters",
    "observed_of",
    "residual_of",
    "unit",
    "window_at",
    "window_sums",
    "worst_window",
]

SPHERE = AtomSet("sphere")
_OFF_CENTRE = 0.1  # tolerance as a fraction of the kernel, at least two entries: filters may be asymmetric
_LOST = 0.02  # largest fraction of a filter's energy that centring may push over the edge of the kernel


def initial_filters(
    n_components: int,
    kernel_size: tuple[int, ...],
    data: Batches,
    *,
    init: str | np.ndarray | Tensor,
    generator: np.random.Generator,
    largest: float | None = None,
) -> Tensor:
    """Return initial filters (n_components, channels, *kernel_size) of unit norm.

    Parameters
    ----------
    n_components : int
        Number of filters.
    kernel_size : tuple of int
        Spatial shape of a filter.
    data : Batches
        Source of the signals; it also determines the number of channels and the dtype.
    init : {"data", "random"} or array
        Kind of initialisation, or the filters themselves. "data": for each filter, the window with the
        most energy among eight random windows of signals without their mean. "random": Gaussian noise.
    generator : numpy.random.Generator
        Random generator for the choice of windows and for the noise.
    largest : float, optional
        Largest norm of a window that may become a filter; windows above it are artefacts.

    Raises
    ------
    ValueError
        If `init` is an unknown name, or an array of the wrong shape, with a zero filter, or with NaN or
        infinity.
    """
    check_arguments(initial_filters, locals())
    check_integer("n_components", n_components)
    check_shape("kernel_size", tuple(kernel_size))
    groups = data.head(4 * n_components, generator).X
    n_channels = groups[0].y.shape[1]
    shape = (n_components, n_channels, *kernel_size)
    if any(len(kernel_size) != group.y.ndim - 2 for group in groups):
        raise ValueError(f"kernel_size: expected one size an axis of the signals, got {kernel_size}")
    if any(width > size for g in groups for width, size in zip(kernel_size, g.y.shape[2:], strict=True)):
        raise ValueError(f"kernel_size: expected at most the size of the signals, got {kernel_size}")
    if isinstance(init, str):
        if init not in ("data", "random"):
            raise ValueError(f"init: expected 'data', 'random' or an array, got {init!r}")
        filters = torch.from_numpy(generator.standard_normal(shape))
        if init == "data":
            filters = torch.stack(
                [_random_window(groups, kernel_size, generator, largest) for _ in range(n_components)]
            )
            dead = ~filters.flatten(1).any(1)
            filters[dead] = torch.from_numpy(generator.standard_normal(shape)).to(filters)[dead]
    else:
        filters = torch.from_numpy(check_array("init", as_array(init)))
        if tuple(filters.shape) != shape:
            raise ValueError(
                f"init: expected shape (n_components, channels, *kernel_size) = {shape}, "
                f"got {tuple(filters.shape)}"
            )
        if not torch.linalg.vector_norm(filters.flatten(1), dim=1).all():
            raise ValueError("init: expected filters, none of them zero")
    return unit(filters.to(groups[0].y))


def _random_window(
    groups: Sequence[Signals],
    kernel_size: tuple[int, ...],
    generator: np.random.Generator,
    largest: float | None,
) -> Tensor:
    """Return the window with the most energy among eight random ones, without the mean of its signal."""
    windows = []
    for _ in range(8):
        group = groups[int(generator.integers(len(groups)))]
        sample = int(generator.integers(len(group.y)))
        y = _level(group, sample)
        place = [
            int(generator.integers(n - size + 1)) for n, size in zip(y.shape[1:], kernel_size, strict=True)
        ]
        windows.append(window_at(y, place, kernel_size))
    energies = [float(window.square().sum()) for window in windows]
    sound = [energy for energy in energies if largest is None or energy <= largest**2]
    return windows[energies.index(max(sound or [min(energies)]))]


def _level(group: Signals, sample: int) -> Tensor:
    """Return a signal without its baseline and mean, zero where it is missing."""
    y = group.y[sample]
    if isinstance(group.likelihood, Gaussian) and isinstance(group.offset, Tensor):
        y = y - group.offset[sample]
    y = y - y.flatten(1).mean(1).view(-1, *[1] * (y.ndim - 1))
    return y if group.observed is None else y * group.observed[sample]


def residual_of(problem: Problem, codes: Tensor) -> Tensor:
    """Return the residual ``y - mean``, zero where entries are missing."""
    residual = problem.likelihood.score(problem.eta(codes), problem.y)
    seen = observed_of(problem)
    return residual if seen is None else residual * seen


def observed_of(problem: Problem) -> Tensor | None:
    """Return where signals are observed, or None if they are everywhere."""
    operator = problem.operator
    if isinstance(operator, Compose) and isinstance(operator.outer, Mask):
        return operator.outer.observed
    return None


def dictionary_of(problem: Problem) -> ConvDictionary:
    """Return the convolutional dictionary of a problem."""
    operator = problem.operator
    dictionary = operator.inner if isinstance(operator, Compose) else operator
    assert isinstance(dictionary, ConvDictionary)
    return dictionary


def window_sums(values: Tensor, kernel: Sequence[int]) -> Tensor:
    """Return the sums (n, *positions) of values (n, *spatial) over windows; the cost is that of one sum."""
    total = values.double()
    for axis, size in enumerate(kernel, start=1):
        total = F.pad(total.movedim(axis, -1).cumsum(-1), (1, 0))
        total = (total[..., size:] - total[..., :-size]).movedim(-1, axis)
    return total.clamp_min(0)


def worst_window(
    residual: Tensor, kernel: Sequence[int], allowed: Tensor | None = None
) -> tuple[Tensor, float]:
    """Return the window of a residual (n, channels, *spatial) with the most energy, and its energy.

    `allowed` (n, *positions) says which windows may be chosen.
    """
    energy = window_sums(residual.square().sum(1), kernel)
    if allowed is not None:
        energy = energy.where(allowed, -1.0)
    best = int(energy.argmax())
    sample, *place = np.unravel_index(best, energy.shape)
    return window_at(residual[int(sample)], place, kernel), float(energy.flatten()[best])


def window_at(signal: Tensor, place: Sequence[Any], kernel: Sequence[int]) -> Tensor:
    """Return the window of a signal (channels, *spatial) that begins at a place."""
    for axis, (start, size) in enumerate(zip(place, kernel, strict=True), start=1):
        signal = signal.narrow(axis, int(start), size)
    return signal


def centre_(filters: Tensor) -> list[int]:
    """Shift unit filters towards the centre of their kernel, in place; return the indices of shifted ones.

    Only filters whose centre of energy is far from the middle are shifted. The entries pushed over the
    edge carry at most 2 % of the energy. Zeros are inserted at the opposite edge.
    """
    moved = []
    for j, h in enumerate(filters):
        shifts = [_off_centre(h, axis) for axis in range(1, h.ndim)]
        if any(shifts):
            # a negative padding crops; F.pad expects the last axis first
            pads = [pad for shift in reversed(shifts) for pad in (-shift, shift)]
            filters[j] = unit(F.pad(h, pads)[None])[0]
            moved.append(j)
    return moved


def _off_centre(h: Tensor, axis: int) -> int:
    """Return the shift that centres a filter along an axis, or 0 if it is close to the centre."""
    size = h.shape[axis]
    energy = h.square().transpose(0, axis).flatten(1).sum(1).double()
    place = torch.arange(size, dtype=energy.dtype, device=h.device) - (size - 1) / 2
    off = float(energy @ place / energy.sum())
    if not abs(off) > max(_OFF_CENTRE * size, 2):  # NaN for a filter without energy
        return 0
    lost = (energy if off > 0 else energy.flip(0)).cumsum(0) / energy.sum()
    return int(math.copysign(min(round(abs(off)), int((lost <= _LOST).sum())), off))


def unit(filters: Tensor) -> Tensor:
    """Return filters (n_components, channels, *kernel) scaled to unit norm."""
    return SPHERE.project(filters.flatten(1)).view_as(filters)
