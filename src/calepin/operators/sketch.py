"""The Gaussian random matrix of compressive sensing.

    y = A x,        entries of A (m, n) independent N(0, 1/m),  so that  E ||A x||^2 = ||x||^2

The rows are drawn in chunks; each chunk is determined by the seed and its index. A large matrix is not
stored: its chunks are drawn again in every use. A product with a 16384 x 65536 matrix then takes a few
megabytes instead of four gigabytes, and a few seconds instead of a fraction of a second.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.random import torch_generator
from calepin.operators.base import LinearOperator

__all__ = ["GaussianSketch"]

_CHUNK_ENTRIES = 2**22
_DENSE_ENTRIES = 2**26
_EXACT_NORM_SIZE = 4096


class GaussianSketch(LinearOperator):
    """Independent Gaussian measurements of a signal of any shape.

    Parameters
    ----------
    in_shape : tuple of int
        Shape of one signal; its n entries are measured as one vector.
    n_measurements : int
        Number of measurements m, from 1 to n.
    generator : torch.Generator, optional
        Draws the seed of the matrix; by default a generator with a fixed seed.
    chunked : bool, optional
        Whether the matrix is drawn again in every use instead of stored; by default if it has more than 2^26
        entries. The matrix is the same in both cases, drawn in single precision.
    """

    matrix: Tensor

    def __init__(
        self,
        in_shape: tuple[int, ...],
        n_measurements: int,
        *,
        generator: torch.Generator | None = None,
        chunked: bool | None = None,
    ) -> None:
        check_arguments(GaussianSketch.__init__, locals())
        n = check_counts(in_shape, n_measurements)
        super().__init__(in_shape, (n_measurements,))
        self.seed = draw_seed(generator)
        self.chunked = n_measurements * n > _DENSE_ENTRIES if chunked is None else chunked
        matrix = torch.empty(0, n) if self.chunked else torch.cat(list(self._chunks()))
        self.register_buffer("matrix", matrix)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Measure signals (n, *in_shape): (n, m)."""
        self.check_input(x)
        flat = x.flatten(1)
        return Linear.apply(flat, self._measure, self._spread) if self.chunked else self._measure(flat)

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map measurements (n, m) to A^T y, (n, *in_shape)."""
        self.check_output(y)
        flat = Linear.apply(y, self._spread, self._measure) if self.chunked else self._spread(y)
        return flat.view(-1, *self.in_shape)

    def _measure(self, x: Tensor) -> Tensor:
        if not self.chunked:
            return x @ self.matrix.to(x.dtype).T
        return torch.cat([x @ chunk.to(x).T for chunk in self._chunks()], 1)

    def _spread(self, y: Tensor) -> Tensor:
        if not self.chunked:
            return y @ self.matrix.to(y.dtype)
        total = y.new_zeros(len(y), math.prod(self.in_shape))
        start = 0
        for chunk in self._chunks():
            total += y[:, start : start + len(chunk)] @ chunk.to(y)
            start += len(chunk)
        return total

    def _chunks(self) -> Iterator[Tensor]:
        """Yield the rows of A in order, drawn on the CPU, so that every device gets the same matrix."""
        m, n = self.out_shape[0], math.prod(self.in_shape)
        height = max(1, _CHUNK_ENTRIES // n)
        for place, start in enumerate(range(0, m, height)):
            generator = torch_generator(np.random.default_rng([self.seed, place]))
            yield torch.randn(min(height, m - start), n, generator=generator) / math.sqrt(m)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        """Return the value from the smaller Gram matrix, or an upper bound for a large matrix.

        With probability at least 1 - exp(-t^2/2), the norm is at most 1 + sqrt(n/m) + t/sqrt(m)
        (Davidson and Szarek 2001, Theorem II.13); t = 5 here.
        """
        m, n = self.out_shape[0], math.prod(self.in_shape)
        if self.chunked or m > _EXACT_NORM_SIZE:
            return (1 + math.sqrt(n / m) + 5 / math.sqrt(m)) ** 2
        matrix = self.matrix.double()
        return float(torch.linalg.eigvalsh(matrix @ matrix.T)[-1])


class Linear(torch.autograd.Function):
    """Apply a linear map with a known adjoint: no tensor is stored for the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, apply: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]) -> Tensor:
        """Return apply(x)."""
        return apply(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Store the two maps."""
        _, ctx.map, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Apply the adjoint."""
        return Linear.apply(gradients[0], ctx.transpose, ctx.map), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Apply the map."""
        return Linear.apply(tangents[0], ctx.map, ctx.transpose)


def check_counts(in_shape: tuple[int, ...], n_measurements: int) -> int:
    """Return the number n of entries of a signal; raise ValueError unless 1 <= n_measurements <= n."""
    n = math.prod(in_shape)
    if n < 1:
        raise ValueError(f"in_shape: expected positive sizes, got {tuple(in_shape)}")
    if not 1 <= n_measurements <= n:
        raise ValueError(
            f"n_measurements: expected 1 to {n}, the entries of a signal of shape {tuple(in_shape)}, "
            f"got {n_measurements}"
        )
    return n


def draw_seed(generator: torch.Generator | None) -> int:
    """Return a seed drawn from a generator, or a fixed seed without one."""
    generator = generator or torch.Generator().manual_seed(0)
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
