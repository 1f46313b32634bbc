"""Linear upsampling, rectifier, and mean and variance of each channel, in one compiled kernel.

    a = ReLU(U c),    mean and variance of a over the pixels of each channel

Along an axis, a pixel of the larger grid is interpolated between two pixels of the smaller one, as with
``align_corners=False``. A channel of an image fits into the cache of a core. The compiled kernel reads and
writes it once, whereas separate library calls access memory seven times. On other devices, and for second or
forward-mode derivatives, the same is computed by torch operations.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calepin.core.compiled import FAST, njit
from calepin.core.gradients import differentiable_once
from calepin.core.threads import n_threads, run_blocks

__all__ = ["interpolation_matrix", "rectified_moments"]

_BLOCK_ENTRIES = 1 << 20


def rectified_moments(c: Tensor, size: tuple[int, ...], *, compiled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return a (n, channels, *size), its means and its variances (n, channels), for c (n, channels, ...)."""
    if compiled:
        return _RectifiedMoments.apply(c, size)  # pyright: ignore[reportReturnType]
    a = upsample(c, [interpolation_matrix(old, new) for old, new in zip(c.shape[2:], size, strict=True)])
    return moments(torch.relu(a))


def moments(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a, and its means and variances over the pixels of each channel."""
    variance, mean = torch.var_mean(a.flatten(2), 2, correction=0)
    return a, mean, variance


def upsample(c: Tensor, matrices: list[NDArray[np.float64]]) -> Tensor:
    """Apply one interpolation matrix along each spatial axis."""
    for axis, matrix in enumerate(matrices, start=2):
        m = torch.as_tensor(matrix).to(c)
        c = (m @ c.movedim(axis, -2).contiguous() if axis != c.ndim - 1 else c @ m.T).movedim(
            -2 if axis != c.ndim - 1 else -1, axis
        )
    return c


@cache
def interpolation_matrix(old: int, new: int) -> NDArray[np.float64]:
    """Return the matrix (new, old) of linear interpolation between the centres of pixels."""
    low, high, weight = _neighbours(old, new)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), low), 1 - weight)
    np.add.at(matrix, (np.arange(new), high), weight)
    return matrix


@cache
def _neighbours(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return, for each new pixel, the old pixels before and after it, and the weight of the second one."""
    place = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0)
    low = np.minimum(place.astype(np.int64), old - 1)
    return low, np.minimum(low + 1, old - 1), place - low


class _RectifiedMoments(torch.autograd.Function):
    """The compiled kernels as a torch function with a gradient."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, size: tuple[int, ...]) -> Any:
        planes = _planes(c.detach())
        height, width = (1, *size)[-2:]
        grid = _grid(planes.shape[1:], (height, width), planes.dtype)
        a = np.empty((len(planes), height, width), planes.dtype)
        mean, variance = np.empty(len(planes), planes.dtype), np.empty(len(planes), planes.dtype)

        def work(start: int, stop: int) -> None:
            part = slice(start, stop)
            _forward(planes[part], grid, a[part], mean[part], variance[part])

        _divide(work, len(planes), height * width)
        rectified = torch.from_numpy(a).view(*c.shape[:2], *size)
        means, variances = (torch.from_numpy(v).view(c.shape[:2]) for v in (mean, variance))
        ctx.save_for_backward(rectified, means)
        ctx.shape, ctx.grid = c.shape, grid
        return rectified, means, variances

    @staticmethod
    @differentiable_once("compiled=False")
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        rectified, means = ctx.saved_tensors
        by_a, by_mean, by_variance = gradients
        n_pixels = rectified[0, 0].numel()
        slope = (2 * by_variance / n_pixels).flatten().numpy()
        constant = (by_mean / n_pixels).flatten().numpy() - slope * means.flatten().numpy()
        a, g = _planes(rectified), _planes(by_a.contiguous())
        out = np.empty((len(a), *(1, *ctx.shape[2:])[-2:]), a.dtype)

        def work(start: int, stop: int) -> None:
            part = slice(start, stop)
            _backward(a[part], g[part], constant[part], slope[part], ctx.grid, out[part])

        _divide(work, len(a), n_pixels)
        return torch.from_numpy(out).view(ctx.shape), None


def _divide(work: Callable[[int, int], None], planes: int, n_pixels: int) -> None:
    """Distribute the planes over threads if there are enough; the result does not depend on the threads."""
    if n_threads() > 1 and planes * n_pixels > _BLOCK_ENTRIES:
        run_blocks(work, planes, max(1, _BLOCK_ENTRIES // n_pixels))
    else:
        work(0, planes)  # starting a thread pool takes as long as a small layer


def _planes(x: Tensor) -> NDArray:
    """Return (n, channels, *pixels) as planes (n * channels, height, width); a signal has one row."""
    return x.contiguous().view(-1, *((1,) if x.ndim == 3 else ()), *x.shape[2:]).numpy()


def _grid(old: tuple[int, ...], new: tuple[int, int], dtype: np.dtype) -> Any:
    """Return the neighbours and weights of interpolation along both axes."""
    axes = [_neighbours(before, after) for before, after in zip(old, new, strict=True)]
    return tuple((low, high, weight.astype(dtype)) for low, high, weight in axes)


@njit(**FAST)
def _forward(c, grid, a, mean, variance):
    (row_low, row_high, row_weight), (low, high, weight) = grid
    planes, old_height, _ = c.shape
    _, height, width = a.shape
    wide = np.empty((old_height, width), c.dtype)
    one = c.dtype.type(1)
    size = c.dtype.type(height * width)
    for p in range(planes):
        for r in range(old_height):
            for j in range(width):
                wide[r, j] = (one - weight[j]) * c[p, r, low[j]] + weight[j] * c[p, r, high[j]]
        total = c.dtype.type(0)
        for i in range(height):
            upper, lower = wide[row_low[i]], wide[row_high[i]]
            w = row_weight[i]
            for j in range(width):
                value = max((one - w) * upper[j] + w * lower[j], c.dtype.type(0))
                a[p, i, j] = value
                total += value
        centre = total / size
        spread = c.dtype.type(0)
        for i in range(height):
            for j in range(width):
                spread += (a[p, i, j] - centre) * (a[p, i, j] - centre)
        mean[p] = centre
        variance[p] = spread / size


@njit(**FAST)
def _backward(a, g, constant, slope, grid, out):
    (row_low, row_high, row_weight), (low, high, weight) = grid
    planes, old_height, _ = out.shape
    _, height, width = a.shape
    wide = np.empty((old_height, width), a.dtype)
    one, zero = a.dtype.type(1), a.dtype.type(0)
    for p in range(planes):
        wide[:] = zero
        for i in range(height):
            upper, lower = wide[row_low[i]], wide[row_high[i]]
            w = row_weight[i]
            same = row_low[i] == row_high[i]
            first, second = (one if same else one - w), (zero if same else w)
            for j in range(width):
                value = a[p, i, j]
                back = g[p, i, j] + constant[p] + slope[p] * value if value > zero else zero
                upper[j] += first * back
                lower[j] += second * back
        out[p] = zero
        for r in range(old_height):
            for j in range(width):
                out[p, r, low[j]] += (one - weight[j]) * wide[r, j]
                out[p, r, high[j]] += weight[j] * wide[r, j]
