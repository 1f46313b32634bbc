"""The deep decoder: an untrained network of 1x1 convolutions and fixed upsampling.

    B_{i+1} = cn( ReLU( U_i B_i C_i ) ),      x = sigmoid( B_d c )

cn normalises each channel to zero mean and unit variance, then scales and shifts it (Heckel and Hand,
"Deep decoder", 2019; Heckel and Soltanolkotabi, "Compressive sensing with un-trained neural
networks", 2020, eq. 4). The 1x1 convolution commutes with the upsampling. It is computed first, on the
smaller grid. The normalisation is an affine map of each channel and is merged into the weights of the next
convolution.
"""

import math
from copy import copy
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_floating, check_integer
from calepin.core.random import torch_generator
from calepin.networks._upsampling import interpolation_matrix, moments, rectified_moments, upsample
from calepin.networks.untrained import UntrainedNetwork

__all__ = ["DeepDecoder", "layer_sizes"]

_EPSILON = 1e-5


class DeepDecoder(UntrainedNetwork):
    """A deep decoder for signals (1-D) or images (2-D).

    Parameters
    ----------
    out_size : tuple of int
        Size of the signal along each axis, one or two numbers of pixels.
    out_channels : int, default 1
        Number of channels of the signal, which has shape (out_channels, *out_size).
    channels : int, default 256
        Number of channels of every layer.
    depth : int, default 5
        Number of upsampling layers.
    in_size : int or tuple of int, default 16
        Size of the fixed input in pixels, at most that of the signal.
    upsampling : "linear" or Tensor (width,), default "linear"
        Upsampling of a layer. "linear": linear interpolation (bilinear in 2-D). A kernel of odd width: the
        interpolation is followed by a circular convolution with the kernel along each axis.
    normalisation : bool, default True
        Whether channels are normalised. Each layer then has a scale and a shift for each channel.
    output : {"sigmoid", "none"}, default "sigmoid"
        Activation of the last layer.
    input_generator : torch.Generator, optional
        Random generator of the fixed input, uniform in [0, 0.1]. Default: a new one with a fixed seed.
    compiled : bool, default True
        Whether compiled kernels are used on the CPU. They are faster, but only support first derivatives by
        back-propagation.
    """

    input: Tensor

    def __init__(
        self,
        out_size: tuple[int, ...],
        *,
        out_channels: int = 1,
        channels: int = 256,
        depth: int = 5,
        in_size: int | tuple[int, ...] = 16,
        upsampling: Literal["linear"] | Tensor = "linear",
        normalisation: bool = True,
        output: Literal["sigmoid", "none"] = "sigmoid",
        input_generator: torch.Generator | None = None,
        compiled: bool = True,
    ) -> None:
        check_arguments(DeepDecoder.__init__, locals())
        if len(out_size) not in (1, 2):
            raise ValueError(f"out_size: expected one or two axes, got {tuple(out_size)}")
        for name, value in (("out_channels", out_channels), ("channels", channels), ("depth", depth)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if output not in ("sigmoid", "none"):
            raise ValueError(f"output: expected 'sigmoid' or 'none', got {output!r}")
        smallest = (in_size,) * len(out_size) if isinstance(in_size, int) else tuple(in_size)
        if len(smallest) != len(out_size) or not all(
            1 <= a <= b for a, b in zip(smallest, out_size, strict=True)
        ):
            raise ValueError(f"in_size: expected 1 to {tuple(out_size)}, got {in_size}")
        shapes: dict[str, tuple[int, ...]] = {}
        for i in range(depth):
            shapes[f"convolution{i}"] = (channels, channels)
            if normalisation:
                shapes |= {f"scale{i}": (channels,), f"shift{i}": (channels,)}
        shapes["last"] = (out_channels, channels)
        super().__init__((out_channels, *out_size), shapes)
        self.depth, self.normalisation, self.output, self.compiled = depth, normalisation, output, compiled
        self.sizes = layer_sizes(smallest, tuple(out_size), depth)
        self.kernel = None if isinstance(upsampling, str) else _checked_kernel(upsampling)
        generator = input_generator or torch_generator(0)
        drawn = 0.1 * torch.rand(channels, *smallest, generator=generator, device=generator.device)
        self.register_buffer("input", drawn)

    def initial(self, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the weights of n problems: convolutions as in torch, scales 1 and shifts 0."""
        check_arguments(DeepDecoder.initial, locals())
        check_integer("n", n)
        check_floating("like", like)
        generator = generator or torch.Generator().manual_seed(0)
        drawn = []
        for name, shape in self.shapes.items():
            bound = 0.0 if len(shape) == 1 else 1 / math.sqrt(shape[1])
            uniform = torch.rand(
                n, math.prod(shape), dtype=like.dtype.to_real(), generator=generator, device=generator.device
            )
            drawn.append((2 * uniform - 1) * bound + float(name.startswith("scale")))
        return torch.cat(drawn, 1).to(like.device)

    @takes_tensors
    def forward(self, weights: Tensor) -> Tensor:
        """Map weight vectors (n, n_parameters) to signals (n, *out_shape)."""
        w = self.unpack(weights)
        compiled = self.compiled and weights.device.type == "cpu"
        a = self.input.to(weights).expand(len(weights), *self.input.shape)
        scale = shift = None
        for i, size in enumerate(self.sizes[1:]):
            c = _convolve(a, w[f"convolution{i}"], scale, shift)
            if self.kernel is None:
                a, mean, variance = rectified_moments(c, size, compiled=compiled)
            else:
                a, mean, variance = moments(torch.relu(upsample(c, self._matrices(i))))
            if self.normalisation:
                scale = w[f"scale{i}"] / torch.sqrt(variance + _EPSILON)
                shift = w[f"shift{i}"] - mean * scale
        x = _convolve(a, w["last"], scale, shift)
        return torch.sigmoid(x) if self.output == "sigmoid" else x

    def plain(self) -> "DeepDecoder":
        """Return the same network without compiled kernels."""
        twin = copy(self)
        twin.compiled = False
        return twin

    def _matrices(self, layer: int) -> list[np.ndarray]:
        """Return the matrix of each axis for a layer: interpolation, then convolution with the kernel."""
        matrices = []
        for old, new in zip(self.sizes[layer], self.sizes[layer + 1], strict=True):
            between = interpolation_matrix(old, new)
            reach = len(self.kernel) // 2  # pyright: ignore[reportArgumentType]
            matrices.append(
                sum(
                    float(value) * np.roll(between, shift - reach, axis=0)
                    for shift, value in enumerate(self.kernel)  # pyright: ignore[reportArgumentType]
                )
            )
        return matrices


def layer_sizes(start: tuple[int, ...], end: tuple[int, ...], depth: int) -> list[tuple[int, ...]]:
    """Return the sizes of the input and of each layer, which grow by a constant factor and are rounded up."""
    axes = [
        [math.ceil(a * (b / a) ** (i / depth) - 1e-9) for i in range(depth)] + [b]
        for a, b in zip(start, end, strict=True)
    ]
    return list(zip(*axes, strict=True))


def _convolve(a: Tensor, matrix: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Return the 1x1 convolution of ``scale * a + shift``, with one matrix for each problem."""
    flat = a.flatten(2)
    if scale is None or shift is None:
        out = matrix @ flat
    else:
        bias = matrix @ shift.unsqueeze(2)
        out = torch.baddbmm(bias, matrix * scale.unsqueeze(1), flat)
    return out.view(*out.shape[:2], *a.shape[2:])


def _checked_kernel(kernel: Tensor) -> Tensor:
    if kernel.ndim != 1 or len(kernel) % 2 == 0:
        raise ValueError(f"upsampling: expected 'linear' or a kernel of odd width, got {tuple(kernel.shape)}")
    return kernel
