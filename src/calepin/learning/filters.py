"""Operations on convolutional filters: initialisation, normalisation, centring, search of large residuals."""

import math
from collections.abc import Sequence

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
from calepin.problem import Problem

__all__ = ["SPHERE", "centre_", "initial_filters", "unit", "worst_window"]

SPHERE = AtomSet("sphere")
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_OFF_CENTRE = 0.1  # tolerance as a fraction of the kernel, at least two entries: filters may be asymmetric
_LOST = 0.02  # largest fraction of a filter's energy that centring may push over the edge of the kernel


def initial_filters(
    n_components: int,
    kernel_size: tuple[int, ...],
    data: Batches,
    *,
    init: str | np.ndarray | Tensor,
    generator: np.random.Generator,
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
                [_random_window(groups, kernel_size, generator) for _ in range(n_components)]
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
    groups: Sequence[Signals], kernel_size: tuple[int, ...], generator: np.random.Generator
) -> Tensor:
    """Return the window with the most energy among eight random ones, without the mean of its signal."""
    windows = []
    for _ in range(8):
        y = groups[int(generator.integers(len(groups)))].y
        y = y[int(generator.integers(len(y)))]
        window = y - y.flatten(1).mean(1).view(-1, *[1] * len(kernel_size))
        for axis, size in enumerate(kernel_size, start=1):
            window = window.narrow(axis, int(generator.integers(window.shape[axis] - size + 1)), size)
        windows.append(window)
    return max(windows, key=lambda window: float(window.square().sum()))


def worst_window(problem: Problem, codes: Tensor, kernel: Sequence[int]) -> tuple[Tensor, float]:
    """Return the window of the residual ``y - mean`` with the most energy, and its energy."""
    residual = problem.likelihood.score(problem.eta(codes), problem.y)
    energy = _AVERAGE[len(kernel)](residual.square().sum(1, keepdim=True), tuple(kernel), stride=1)
    best = int(energy.argmax())
    sample, *place = np.unravel_index(best, (len(energy), *energy.shape[2:]))
    window = residual[int(sample)]
    for axis, (start, size) in enumerate(zip(place, kernel, strict=True), start=1):
        window = window.narrow(axis, int(start), size)
    return window, float(energy.flatten()[best]) * math.prod(kernel)


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
