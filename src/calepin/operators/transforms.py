"""Randomised fast transforms, subsampled.

    y = sqrt(N / m) R F D P x,      E ||A x||^2 = ||x||^2

P pads the signal with zeros if the transform needs it, D flips random signs, F is orthonormal
(Walsh-Hadamard, or the cosine transform) and R keeps m of its N coefficients, drawn without
replacement. It is a sketch like a Gaussian matrix, but needs only N log N operations and no stored
matrix (Tropp, "Improved analysis of the subsampled randomized Hadamard transform", 2011).
"""

import math
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.random import torch_generator
from calepin.operators.base import LinearOperator
from calepin.operators.sketch import check_counts, draw_seed

__all__ = ["SubsampledDCT", "SubsampledHadamard", "cosine_transform", "walsh_hadamard"]

_BITS_PER_PASS = 6


class _SubsampledTransform(LinearOperator):
    """Random signs, an orthonormal transform, and a random subset of its coefficients."""

    signs: Tensor
    kept: Tensor

    def __init__(
        self,
        in_shape: tuple[int, ...],
        n_measurements: int,
        n_coefficients: int,
        *,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(in_shape, (n_measurements,))
        own = torch_generator(draw_seed(generator))
        self.n_coefficients = n_coefficients
        self.scale = math.sqrt(n_coefficients / n_measurements)
        signs = 1 - 2 * torch.randint(2, in_shape, generator=own, dtype=torch.int8)
        kept = torch.randperm(n_coefficients, generator=own)[:n_measurements].sort().values
        self.register_buffer("signs", signs)
        self.register_buffer("kept", kept)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Measure signals (n, *in_shape): (n, m)."""
        self.check_input(x)
        return self._transform(self.scale * (self.signs * x)).index_select(1, self.kept)

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map measurements (n, m) to A^T y, (n, *in_shape)."""
        self.check_output(y)
        coefficients = y.new_zeros(len(y), self.n_coefficients).index_copy(1, self.kept, y)
        return self.scale * (self.signs * self._inverse(coefficients).view(-1, *self.in_shape))

    def _transform(self, x: Tensor) -> Tensor:
        """Return all coefficients, (n, n_coefficients)."""
        raise NotImplementedError

    def _inverse(self, coefficients: Tensor) -> Tensor:
        """Return the signals with these coefficients, flat and without padding."""
        raise NotImplementedError

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        return self.scale**2


class SubsampledHadamard(_SubsampledTransform):
    """The subsampled Walsh-Hadamard transform, with random signs, of the signal as one vector.

    A signal whose size is not a power of two is padded with zeros to the next one, `n_coefficients`.
    `norm_squared` is then an upper bound.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of one signal.
    n_measurements : int
        Number of measurements m, from 1 to the number of entries of a signal.
    generator : torch.Generator, optional
        Draws the seed of the signs and of the subset; by default a generator with a fixed seed.
    """

    def __init__(
        self, in_shape: tuple[int, ...], n_measurements: int, *, generator: torch.Generator | None = None
    ) -> None:
        check_arguments(SubsampledHadamard.__init__, locals())
        n = check_counts(in_shape, n_measurements)
        super().__init__(in_shape, n_measurements, 1 << (n - 1).bit_length(), generator=generator)

    def _transform(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return walsh_hadamard(F.pad(flat, (0, self.n_coefficients - flat.shape[1])))

    def _inverse(self, coefficients: Tensor) -> Tensor:
        return walsh_hadamard(coefficients)[:, : math.prod(self.in_shape)]

    def extra_repr(self) -> str:
        """Return the shapes and the padding, for ``repr``."""
        n = math.prod(self.in_shape)
        padded = "" if n == self.n_coefficients else f", {n} entries padded to {self.n_coefficients}"
        return super().extra_repr() + padded


class SubsampledDCT(_SubsampledTransform):
    """The subsampled cosine transform, with random signs, along every axis of a signal.

    Signals of any size need no padding.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of one signal.
    n_measurements : int
        Number of measurements m, from 1 to the number of entries of a signal.
    generator : torch.Generator, optional
        Draws the seed of the signs and of the subset; by default a generator with a fixed seed.
    """

    def __init__(
        self, in_shape: tuple[int, ...], n_measurements: int, *, generator: torch.Generator | None = None
    ) -> None:
        check_arguments(SubsampledDCT.__init__, locals())
        n = check_counts(in_shape, n_measurements)
        super().__init__(in_shape, n_measurements, n, generator=generator)

    @takes_tensors
    def solve_gram(self, y: Tensor, weight: float) -> Tensor:
        """Return ``(A A^T + weight I)^-1 y``; A A^T is a multiple of the identity."""
        self.check_gram(y, weight)
        return y / (self.scale**2 + weight)

    def _transform(self, x: Tensor) -> Tensor:
        for axis in range(1, x.ndim):
            x = cosine_transform(x.movedim(axis, -1)).movedim(-1, axis)
        return x.flatten(1)

    def _inverse(self, coefficients: Tensor) -> Tensor:
        x = coefficients.view(-1, *self.in_shape)
        for axis in range(1, x.ndim):
            x = cosine_transform(x.movedim(axis, -1), inverse=True).movedim(-1, axis)
        return x


def walsh_hadamard(x: Tensor) -> Tensor:
    """Return the orthonormal Walsh-Hadamard transform of the last axis, its own inverse.

    The matrix of size 2^L is a Kronecker product of small ones, each applied in one pass over the data. Six
    butterflies are combined into one product with a matrix of size 64, which is faster than six passes.
    """
    shape, size = x.shape, x.shape[-1]
    if size < 1 or size & (size - 1):
        raise ValueError(f"x: expected a power of two along the last axis, got {size}")
    stride = 1
    while stride < size:
        block = min(size // stride, 1 << _BITS_PER_PASS)
        matrix = _hadamard_matrix(block).to(x)
        x = matrix @ x.reshape(-1, block, stride) if stride > 1 else x.reshape(-1, block) @ matrix
        stride *= block
    return x.reshape(shape)


def cosine_transform(x: Tensor, *, inverse: bool = False) -> Tensor:
    """Return the orthonormal DCT-II of the last axis, or its inverse, by one complex FFT.

    The entries are reordered: even ones first, then odd ones reversed. The cosine transform is the real part
    of their rotated spectrum (Makhoul, "A fast cosine transform in one and two dimensions", 1980).
    """
    if x.is_complex():
        return torch.complex(
            cosine_transform(x.real, inverse=inverse), cosine_transform(x.imag, inverse=inverse)
        )
    n = x.shape[-1]
    order = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2).flip(0)]).to(x.device)
    angle = -torch.pi * torch.arange(n, dtype=x.dtype, device=x.device) / (2 * n)
    scale = torch.full_like(angle, math.sqrt(2 / n))
    scale[0] = math.sqrt(1 / n)
    turn = torch.polar(scale, angle)
    if not inverse:
        return (torch.fft.fft(x.index_select(-1, order)) * turn).real
    # the transpose of the above: the real part of the adjoint FFT
    rotated = x * turn.conj()
    reordered = torch.fft.ifft(rotated, norm="forward").real
    return torch.empty_like(x).index_copy(-1, order, reordered)


@cache
def _hadamard_matrix(size: int) -> Tensor:
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)
