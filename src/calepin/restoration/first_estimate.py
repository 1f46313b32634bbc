"""A first image from measurements, and the level of their noise."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from calepin.core.samples import inner
from calepin.operators.base import LinearOperator
from calepin.operators.least_squares import conjugate_gradients

__all__ = ["Rows", "first_estimate", "held_out_level", "noise_level", "smooth_estimate", "value_range"]

_WIDTHS = (0.7, 1.5, 3.0, 6.0, 12.0, 24.0)  # standard deviations in pixels
_ENOUGH = 0.05  # smallest coverage of a pixel, relative to the largest, that needs no wider Gaussian
_TO_SIGMA = 1.4826  # standard deviation of normal numbers over their median absolute deviation
_BLOCK = 8  # pixels per side of the blocks of a residual
_FEWEST_BLOCKS = 4  # along a side of an image that has flat ones
_ROUNDS = 4
_FIRST_STEPS = 20  # of conjugate gradients
_SETTLED = 0.05  # relative change of the noise level between two rounds
_FIRST_LEVEL = 0.1  # of the range of the image
_HELD_OUT = 0.1  # of the measurements
_HALF_DECADES = 5  # levels that are tried, each lower by the root of ten
_LEAST_LEVEL = 1e-4


def first_estimate(operator: LinearOperator, y: Tensor) -> Tensor:
    """Return a first image: `spectral_estimate` of a vector of measurements, else `smooth_estimate`."""
    return spectral_estimate(operator, y) if y.ndim == 2 else smooth_estimate(operator, y)


def spectral_estimate(operator: LinearOperator, y: Tensor) -> Tensor:
    """Return the image by a few steps of conjugate gradients from zero, in the spectrum of natural images.

    The amplitudes of natural images fall with the frequency f like 1 / f (Field 1987). Least squares in
    ``x = C^T (w / (1 + f))``, with the cosine transform C, meet the low frequencies first, and stop before
    they meet the noise.
    """
    spectrum = _Spectrum(operator.in_shape).to(device=y.device)
    weights, _ = conjugate_gradients(
        operator @ spectrum,
        torch.zeros((1, *operator.in_shape), dtype=y.dtype, device=y.device),
        y,
        weight=0.0,
        n_iter=_FIRST_STEPS,
    )
    return spectrum(weights)


class _Spectrum(LinearOperator):
    """Images from coefficients of their cosine transform, divided by 1 + f (half periods per side)."""

    rows: Tensor
    columns: Tensor
    amplitudes: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, shape)
        rows, columns = (_cosines(n) for n in shape[-2:])
        f = torch.hypot(torch.arange(shape[-2]).double()[:, None], torch.arange(shape[-1]).double())
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        self.register_buffer("amplitudes", 1 / (1 + f))

    def forward(self, x: Tensor) -> Tensor:
        """Return C^T (w x)."""
        rows, columns, amplitudes = (t.to(x.dtype) for t in (self.rows, self.columns, self.amplitudes))
        return rows.T @ (amplitudes * x) @ columns

    def adjoint(self, y: Tensor) -> Tensor:
        """Return w C y."""
        rows, columns, amplitudes = (t.to(y.dtype) for t in (self.rows, self.columns, self.amplitudes))
        return amplitudes * (rows @ y @ columns.T)


def _cosines(n: int) -> Tensor:
    """Return the orthogonal matrix of the cosine transform of n samples."""
    k, t = torch.arange(n).double()[:, None], torch.arange(n).double()
    matrix = math.sqrt(2 / n) * torch.cos(math.pi / n * (t + 0.5) * k)
    matrix[0] /= math.sqrt(2)
    return matrix


def smooth_estimate(operator: LinearOperator, y: Tensor) -> Tensor:
    """Return what was measured of each pixel, and of its neighbours where that is little.

        x = G(A^H y) / G(A^H A 1)

    G is the narrowest Gaussian for which the denominator is far from zero everywhere (normalised convolution;
    Knutsson and Westin 1993). If there is none, as for random signs, it is ``A^H y / ||A||^2``.
    """
    back = operator.adjoint(y)
    coverage = operator.adjoint(operator(torch.ones_like(back)))
    coverage = coverage.real if coverage.is_complex() else coverage
    for width in _WIDTHS:
        spread = _smoothed(coverage, width)
        if float(spread.min()) > _ENOUGH * float(spread.max()):
            return _smoothed(back, width) / spread
    return back / max(operator.norm_squared(), torch.finfo(coverage.dtype).tiny)


def value_range(x: Tensor) -> float:
    """Return the difference of largest and smallest value, or the largest magnitude of complex ones."""
    return float(x.abs().max()) if x.is_complex() else float(x.max() - x.min())


def noise_level(
    operator: LinearOperator, y: Tensor, start: Tensor, restored: Callable[[Tensor, float], Tensor]
) -> float:
    """Return the standard deviation of white noise of y, that of its real part if y is complex.

    An image is restored with a level that is too high, so that the residual is the noise, and detail in some
    places. Its standard deviation in flat blocks, the lowest tenth, is the next level; and so on
    until the level stays. Measurements that are no image are one block, with the median absolute deviation.

    Parameters
    ----------
    operator : LinearOperator
    y, start : Tensors of one sample
        Measurements, and an image to begin with.
    restored : callable
        Returns the restored image, given an image to begin with and a level of the noise.
    """
    measured = (operator(operator.adjoint(torch.ones_like(y))).abs() > 0)[0]
    gain = math.sqrt(float(inner(operator(start), operator(start)) / inner(start, start).clamp_min(1e-300)))
    top = value_range(start) * max(gain, math.sqrt(torch.finfo(torch.float32).eps))
    level = _FIRST_LEVEL * top
    for _ in range(_ROUNDS):
        miss = (y - operator(restored(start, level)))[0]
        before, level = level, max(_deviation(miss, measured), _LEAST_LEVEL * top)
        if abs(level - before) <= _SETTLED * before:
            break
    return level


class Rows(LinearOperator):
    """Some of the measurements of an operator whose measurements are a vector.

    Parameters
    ----------
    operator : LinearOperator
    kept : Tensor of bool, shape operator.out_shape
    """

    def __init__(self, operator: LinearOperator, kept: Tensor) -> None:
        super().__init__(operator.in_shape, (int(kept.sum()),))
        self.operator, self.kept = operator, kept

    def forward(self, x: Tensor) -> Tensor:
        """Measure images (n, *in_shape)."""
        return self.operator(x)[:, self.kept]

    def adjoint(self, y: Tensor) -> Tensor:
        """Map measurements (n, m) to images; those that are left out are zero."""
        whole = y.new_zeros(len(y), *self.operator.out_shape)
        whole[:, self.kept] = y
        return self.operator.adjoint(whole)


def held_out_level(
    operator: LinearOperator,
    y: Tensor,
    restored: Callable[[LinearOperator, Tensor, Tensor, float], Tensor],
) -> float:
    """Return the level of noise whose restoration predicts measurements best that it has not seen.

    With fewer measurements than pixels the residual tells little of the noise: an image fits it too. So a
    tenth of the measurements is held out, and the level is lowered by half decades from a tenth of their
    range as long as the error of their prediction falls (cross-validation; Ward 2009, "Compressed sensing
    with cross validation").

    Parameters
    ----------
    operator : LinearOperator
        With measurements of one axis.
    y : Tensor (1, m)
    restored : callable
        Returns the restored image, given an operator, measurements, an image to begin with, and a level.
    """
    generator = torch.Generator().manual_seed(0)
    m = y.shape[1]
    held = torch.zeros(m, dtype=torch.bool)
    held[torch.randperm(m, generator=generator)[: max(1, round(_HELD_OUT * m))]] = True
    held = held.to(y.device)
    rest, seen = Rows(operator, ~held), y[:, ~held]
    x = spectral_estimate(rest, seen)
    gain = math.sqrt(float(inner(operator(x), operator(x)) / inner(x, x).clamp_min(1e-300)) * x.numel() / m)
    level = _FIRST_LEVEL * max(value_range(x), torch.finfo(torch.float32).tiny) * gain
    best, least, start = level, math.inf, x
    for _ in range(_HALF_DECADES):
        x = restored(rest, seen, start, level)
        error = float((operator(x) - y)[:, held].square().mean().sqrt())
        if error >= least:
            break
        best, least, level = level, error, level / math.sqrt(10)
    return max(best, min(m / x.numel(), 1.0) * least)  # an image that was fitted to few misses the others


def _deviation(miss: Tensor, measured: Tensor) -> float:
    """Return the standard deviation of a residual where it is flat."""
    if miss.is_complex():
        parts = [_deviation(part, measured) for part in (miss.real, miss.imag)]
        return math.sqrt((parts[0] ** 2 + parts[1] ** 2) / 2)
    if miss.ndim < 2 or min(miss.shape[-2:]) < _FEWEST_BLOCKS * _BLOCK:
        return _TO_SIGMA * float(miss[measured].abs().median())
    counts, squares = (_block_sums(values) for values in (measured.to(miss.dtype), miss.square() * measured))
    enough = counts >= _BLOCK
    variances = squares[enough] / counts[enough]
    if not len(variances):
        return _TO_SIGMA * float(miss[measured].abs().median())
    # the lowest tenth of the standard deviations of n normal numbers ends near 1 - 1.28 / sqrt(2 n)
    chance = 1 - 1.2816 / math.sqrt(2 * float(counts[enough].mean()))
    return math.sqrt(float(variances.quantile(0.1))) / chance


def _block_sums(x: Tensor) -> Tensor:
    """Return sums over blocks of the last two axes; rows and columns beyond whole blocks are left out."""
    rows, columns = (n // _BLOCK * _BLOCK for n in x.shape[-2:])
    x = x[..., :rows, :columns].unflatten(-2, (-1, _BLOCK)).unflatten(-1, (-1, _BLOCK))
    return x.sum((-3, -1))


def _smoothed(x: Tensor, width: float) -> Tensor:
    """Convolve the last two axes of a batch with a Gaussian; zeros lie outside."""
    if x.is_complex():
        return torch.complex(_smoothed(x.real, width), _smoothed(x.imag, width))
    for axis in (-2, -1):
        reach = min(math.ceil(3 * width), x.shape[axis] - 1)
        t = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        kernel = (-0.5 * (t / width) ** 2).exp()
        moved = x.movedim(axis, -1)
        lines = moved.reshape(-1, 1, moved.shape[-1])
        smooth = torch.nn.functional.conv1d(lines, (kernel / kernel.sum()).view(1, 1, -1), padding=reach)
        x = smooth.view(moved.shape).movedim(-1, axis)
    return x
