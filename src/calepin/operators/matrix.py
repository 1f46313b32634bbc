"""Measurements of an image by a matrix, as of a single-pixel camera: a row for each pattern of light."""

import math

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_tensor
from calepin.operators.base import LinearOperator

__all__ = ["Matrix"]

_EXACT_NORM_SIZE = 2048


class Matrix(LinearOperator):
    """Measurements by the rows of a matrix: ``y_i = sum over pixels of A[i, pixel] x[pixel]``.

    Parameters
    ----------
    matrix : Tensor (n_measurements, n_pixels)
        A, of floats; pixels are ordered row by row of the image.
    in_shape : tuple of int
        Shape of one image, (height, width) or (channels, height, width), of n_pixels entries.

    Raises
    ------
    ValueError
        A matrix that is not finite, or does not fit the shape.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, in_shape: tuple[int, ...]) -> None:
        check_arguments(Matrix.__init__, locals())
        check_tensor("matrix", matrix)
        n = math.prod(in_shape)
        if matrix.ndim != 2 or matrix.shape[1] != n or not len(matrix):
            sizes = " x ".join(str(size) for size in in_shape)
            raise ValueError(
                f"matrix: expected shape (n_measurements, {n}) for images of {sizes}, "
                f"got {tuple(matrix.shape)}"
            )
        if not matrix.is_floating_point():
            raise ValueError(f"matrix: expected a floating dtype, got {matrix.dtype}")
        if not torch.isfinite(matrix).all():
            raise ValueError("matrix: expected finite values, got NaN or infinity")
        if not bool((matrix != 0).any()):
            raise ValueError("matrix: expected values that are not all zero")
        super().__init__(in_shape, (len(matrix),))
        self.register_buffer("matrix", matrix)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Measure images (n, *in_shape): (n, n_measurements)."""
        self.check_input(x)
        return x.flatten(1) @ self.matrix.to(x.dtype).T

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map measurements (n, n_measurements) to A^T y, (n, *in_shape)."""
        self.check_output(y)
        return (y @ self.matrix.to(y.dtype)).view(-1, *self.in_shape)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        """Return the value from the smaller Gram matrix, of large matrices by the power method."""
        if min(self.matrix.shape) > _EXACT_NORM_SIZE:
            return super()._compute_norm_squared(generator)
        wide = self.matrix.shape[0] <= self.matrix.shape[1]
        matrix = self.matrix.double()
        gram = matrix @ matrix.T if wide else matrix.T @ matrix
        return float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0))
