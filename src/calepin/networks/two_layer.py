"""The untrained two-layer generator of the recovery theorems, and kernels for it.

    G(C) = ReLU(U C) v,      v = (1, ..., 1, -1, ..., -1) / sqrt(k)

U is the circular convolution with a fixed kernel. Equations and theorems are those of Heckel and
Soltanolkotabi, "Compressive sensing with un-trained neural networks", 2020; this is eq. 3.
"""

import math

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_floating, check_tensor
from calepin.core.random import randn
from calepin.networks.untrained import UntrainedNetwork

__all__ = ["TwoLayerGenerator", "box_kernel", "gaussian_kernel", "triangular_kernel"]


def triangular_kernel(width: int, *, ndim: int = 1) -> Tensor:
    """Return a triangular kernel with `width` nonzero entries along each axis, of unit sum.

    In 2-D the kernel is the outer product of two kernels in 1-D.
    """
    check_arguments(triangular_kernel, locals())
    place = torch.arange(_odd("width", width), dtype=torch.float64) - width // 2
    return _product(width // 2 + 1 - place.abs(), ndim)


def box_kernel(width: int, *, ndim: int = 1) -> Tensor:
    """Return a constant kernel with `width` entries along each axis, of unit sum."""
    check_arguments(box_kernel, locals())
    return _product(torch.ones(_odd("width", width), dtype=torch.float64), ndim)


def gaussian_kernel(sigma: float, *, ndim: int = 1) -> Tensor:
    """Return a Gaussian kernel of standard deviation `sigma` pixels, truncated at 4 sigma, of unit sum."""
    check_arguments(gaussian_kernel, locals())
    if not 0 < sigma < 1e6:
        raise ValueError(f"sigma: expected a positive number below 1e6, got {sigma!r}")
    reach = math.ceil(4 * sigma)
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    return _product(torch.exp(-0.5 * (place / sigma) ** 2), ndim)


class TwoLayerGenerator(UntrainedNetwork):
    """G(C) = ReLU(U C) v for signals (1-D) or images (2-D).

    Parameters
    ----------
    size : int or tuple of int
        Size of the output: n for signals of shape (n,), (h, w) for images of shape (1, h, w).
    kernel : Tensor
        Convolution kernel with one axis for each axis of the signal, none longer than that of the signal.
        Its middle entry is the weight of the pixel itself.
    channels : int, default 256
        Number k of channels, an even number.
    """

    spectrum: Tensor

    def __init__(self, size: int | tuple[int, ...], *, kernel: Tensor, channels: int = 256) -> None:
        check_arguments(TwoLayerGenerator.__init__, locals())
        check_floating("kernel", kernel, real=True)
        pixels = (size,) if isinstance(size, int) else tuple(size)
        if channels < 2 or channels % 2:
            raise ValueError(f"channels: expected an even number of at least 2, got {channels}")
        shape = pixels if len(pixels) == 1 else (1, *pixels)
        super().__init__(shape, {"coefficients": (channels, *pixels)})
        self.pixels, self.channels = pixels, channels
        kernel = kernel.float() if kernel.element_size() < 4 else kernel  # no transform in half precision
        self.register_buffer("spectrum", torch.fft.fftn(embed_kernel(kernel, pixels)))

    def forward(self, weights: Tensor) -> Tensor:
        """Map coefficients (n, channels * pixels) to signals (n, *out_shape)."""
        axes = tuple(range(2, 2 + len(self.pixels)))
        coefficients = torch.fft.rfftn(self.unpack(weights)["coefficients"], dim=axes)
        half_spectrum = self.spectrum[..., : coefficients.shape[-1]].to(coefficients)
        hidden = torch.relu(torch.fft.irfftn(half_spectrum * coefficients, s=self.pixels, dim=axes))
        half = self.channels // 2
        x = (hidden[:, :half].sum(1) - hidden[:, half:].sum(1)) / math.sqrt(self.channels)
        return x.view(-1, *self.out_shape)

    def initial(self, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw standard normal coefficients. Theorem 2 requires a smaller scale, see `initial_scale`."""
        check_tensor("like", like)
        like = torch.empty(0, dtype=like.dtype.to_real(), device=like.device)
        return randn((n, self.n_parameters), like=like, generator=generator)

    def jacobian_gram(self, weights: Tensor) -> Tensor:
        """Return J J^T, (pixels, pixels), at weights (n_parameters,), in double precision.

        The Jacobian J itself is not computed:

            J J^T = (U U^T) o (D D^T) / k,      D the derivative of the rectifier at U C, (pixels, k)
        """
        check_tensor("weights", weights)
        axes = tuple(range(1, 1 + len(self.pixels)))
        spectrum = self.spectrum.to(torch.complex128)
        c = self.unpack(weights[None])["coefficients"][0].double()
        hidden = torch.fft.ifftn(spectrum * torch.fft.fftn(c, dim=axes), dim=axes).real
        passed = (hidden > 0).flatten(1).double()
        n = passed.shape[1]
        columns = torch.eye(n, dtype=torch.float64).view(n, *self.pixels)
        smoothed = torch.fft.ifftn(spectrum.abs() ** 2 * torch.fft.fftn(columns, dim=axes), dim=axes).real
        return smoothed.view(n, n) * (passed.T @ passed) / self.channels

    def initial_scale(self, y: Tensor, *, error: float = 0.1) -> Tensor:
        """Return the standard deviation of the weights in Theorem 3, (n_problems, 1).

        It is ``error ||y|| / (2 sqrt(n) ||U||)`` for observations y and n pixels.
        """
        norm = torch.linalg.vector_norm(check_tensor("y", y).flatten(1), dim=1, keepdim=True)
        return error * norm / (2 * math.sqrt(math.prod(self.pixels)) * self.jacobian_norm_squared() ** 0.5)

    def jacobian_norm_squared(self) -> float:
        """Return the bound ||U||^2, because ReLU is 1-Lipschitz and v has unit norm."""
        return float(self.spectrum.abs().max() ** 2)


def embed_kernel(kernel: Tensor, pixels: tuple[int, ...]) -> Tensor:
    """Return the kernel padded with zeros to a grid, with its middle entry at the origin."""
    check_tensor("kernel", kernel)
    if kernel.ndim != len(pixels) or any(k > n for k, n in zip(kernel.shape, pixels, strict=True)):
        raise ValueError(
            f"kernel: expected {len(pixels)} axes of at most {pixels}, got {tuple(kernel.shape)}"
        )
    grid = kernel.new_zeros(pixels)
    grid[tuple(slice(0, k) for k in kernel.shape)] = kernel
    middle = [-(k // 2) for k in kernel.shape]
    return torch.roll(grid, middle, dims=list(range(len(pixels))))


def _odd(name: str, width: int) -> int:
    if width < 1 or width % 2 == 0:
        raise ValueError(f"{name}: expected an odd number of at least 1, got {width}")
    return width


def _product(values: Tensor, ndim: int) -> Tensor:
    if ndim not in (1, 2):
        raise ValueError(f"ndim: expected 1 or 2, got {ndim}")
    values = values / values.sum()
    return values if ndim == 1 else torch.outer(values, values)
