"""Orthonormal wavelets: images from their wavelet coefficients.

    low(m) = sum_j h(j) x(2m + j),     high(m) = sum_j g(j) x(2m + j),     g(j) = (-1)^j h(2p - 1 - j)

h is Daubechies' filter with p vanishing moments; its 2p taps wrap around at the border. Each level
splits rows, then columns, and the next level splits the low-low quarter again (Daubechies, "Ten lectures
on wavelets", 1992, section 6.4; Mallat, "A wavelet tour of signal processing", 2009, section 7.7).
"""

import math

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.operators.base import LinearOperator

__all__ = ["Wavelet"]


class Wavelet(LinearOperator):
    """Map wavelet coefficients to images; the adjoint is the inverse.

    Coefficients and images have the same shape. The coarsest image is in the upper left corner, of size
    ``coarse_shape``; the details of each level fill the other three quarters of its block.

    Parameters
    ----------
    shape : tuple of int
        Shape (..., height, width) of one sample; each image in it is transformed separately.
    moments : int, default 4
        Number p of vanishing moments, from 1 (Haar) to 10.
    levels : int, default 3
        Number of levels. Both sides must be divisible by ``2**levels``, and at least ``2**levels * moments``.
    """

    def __init__(self, shape: tuple[int, ...], *, moments: int = 4, levels: int = 3) -> None:
        check_arguments(Wavelet.__init__, locals())
        if not 1 <= moments <= 10:
            raise ValueError(f"moments: expected 1 to 10, got {moments}")
        if levels < 1:
            raise ValueError(f"levels: expected at least 1, got {levels}")
        least = 2**levels * moments  # the coarsest block that is split is at least as long as the filter
        if len(shape) < 2 or any(side % 2**levels or side < least for side in shape[-2:]):
            raise ValueError(
                f"shape: expected sides of at least {least}, divisible by {2**levels}, got {tuple(shape)}"
            )
        super().__init__(tuple(shape), tuple(shape))
        self.levels = levels
        low = _scaling_filter(moments)
        high = low[::-1] * (-1.0) ** np.arange(len(low))
        # not a buffer: filters keep float64 and are cast to the dtype of the signals
        self.filters = torch.from_numpy(np.stack([low, high], 1))

    @property
    def coarse_shape(self) -> tuple[int, int]:
        """Sides of the coarsest image."""
        height, width = self.in_shape[-2:]
        return height >> self.levels, width >> self.levels

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map coefficients to images."""
        self.check_input(x)
        x = x.clone()
        for level in reversed(range(self.levels)):
            block = self._block(x, level)
            block.copy_(self._join(self._join(block.mT).mT))
        return x

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map images to coefficients."""
        self.check_output(y)
        y = y.clone()
        for level in range(self.levels):
            block = self._block(y, level)
            block.copy_(self._split(self._split(block).mT).mT)
        return y

    def _block(self, x: Tensor, level: int) -> Tensor:
        """Return a view of the block that a level splits."""
        height, width = self.in_shape[-2:]
        return x[..., : height >> level, : width >> level]

    def _split(self, x: Tensor) -> Tensor:
        """Return the low half, then the high half, of the last axis."""
        filters = self.filters.to(x)
        wrapped = _wrapped(x, 0, len(filters) - 2).unfold(-1, len(filters), 2)
        return (wrapped @ filters).mT.flatten(-2)

    def _join(self, x: Tensor) -> Tensor:
        """Return the last axis, given its low and high halves."""
        taps, half = len(self.filters) // 2, x.shape[-1] // 2
        # x(2m + q) = sum_k h(2k + q) low(m - k) + g(2k + q) high(m - k): the window runs over m - k
        filters = self.filters.to(x).view(taps, 2, 2).flip(0).transpose(1, 2)
        halves = _wrapped(x.unflatten(-1, (2, half)), taps - 1, 0).unfold(-1, taps, 1)
        return torch.einsum("...cmk,kcq->...mq", halves, filters).flatten(-2)

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor:
        """Return ``(A A^T + weight I)^-1 y``; A A^T is the identity."""
        self.check_gram(y, weight)
        return y / (1 + weight)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        return 1.0


def _wrapped(x: Tensor, before: int, after: int) -> Tensor:
    """Return a periodic signal, extended at both ends."""
    parts = [x[..., x.shape[-1] - before :], x, x[..., :after]]
    return torch.cat(parts, -1)


def _scaling_filter(moments: int) -> np.ndarray:
    """Return Daubechies' filter of shortest phase, from the roots of her polynomial.

    |H(w)|^2 = 2 cos(w/2)^{2p} P(sin(w/2)^2),  P(y) = sum_k C(p - 1 + k, k) y^k; of each root y of P
    the one of two solutions of  z + 1/z = 2 - 4 y  inside the unit circle is taken.
    """
    polynomial = [math.comb(moments - 1 + k, k) for k in reversed(range(moments))]
    zeros = []
    for y in np.roots(polynomial):
        pair = np.roots([1.0, 4 * y - 2, 1.0])
        zeros.append(pair[np.abs(pair).argmin()])
    taps = np.real(np.poly([*[-1.0] * moments, *zeros]))
    return taps * math.sqrt(2) / taps.sum()
