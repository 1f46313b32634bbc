"""The deep image prior: an untrained convolutional autoencoder with skip connections.

Ulyanov, Vedaldi and Lempitsky, "Deep image prior", 2018. Each level of the encoder halves the size of the
image by a convolution with stride 2. Each level of the decoder doubles it and is also given a few channels
from the same level of the encoder. Several problems are computed as one grouped convolution.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer, check_tensor
from calepin.core.random import torch_generator
from calepin.networks.untrained import UntrainedNetwork

__all__ = ["DeepImagePrior"]

_EPSILON = 1e-5
_SLOPE = 0.2


class DeepImagePrior(UntrainedNetwork):
    """A U-net for images of any size.

    Parameters
    ----------
    out_size : tuple of int
        Size (h, w) of the image in pixels.
    out_channels : int, default 1
        Number of channels of the image, which has shape (out_channels, h, w).
    channels : int, default 32
        Number of channels of every level.
    skip_channels : int, default 4
        Number of channels of a skip connection; 0 for no skip connections.
    depth : int, default 4
        Number of levels. Each halves the image, whose smaller side must be at least
        ``2**depth * (kernel // 2 + 1)``.
    kernel : int, default 3
        Odd width of the convolutions, in pixels. Images are padded by reflection.
    input_channels : int, default 8
        Number of channels of the fixed input, uniform in [0, 0.1].
    output : {"sigmoid", "none"}, default "sigmoid"
        Activation of the last layer.
    input_generator : torch.Generator, optional
        Random generator of the fixed input. Default: a new one with a fixed seed.
    """

    input: Tensor

    def __init__(
        self,
        out_size: tuple[int, int],
        *,
        out_channels: int = 1,
        channels: int = 32,
        skip_channels: int = 4,
        depth: int = 4,
        kernel: int = 3,
        input_channels: int = 8,
        output: str = "sigmoid",
        input_generator: torch.Generator | None = None,
    ) -> None:
        check_arguments(DeepImagePrior.__init__, locals())
        for name, value in (
            ("out_channels", out_channels),
            ("channels", channels),
            ("input_channels", input_channels),
        ):
            check_integer(name, value)
        check_integer("skip_channels", skip_channels, least=0)
        if len(out_size) != 2:
            raise ValueError(f"out_size: expected two axes, got {tuple(out_size)}")
        if kernel % 2 == 0 or kernel < 1:
            raise ValueError(f"kernel: expected an odd number, got {kernel}")
        if depth < 1 or min(out_size) < 2**depth * (kernel // 2 + 1):
            raise ValueError(
                f"depth: expected a positive number of levels, at most as many as the size {tuple(out_size)} "
                f"can be halved, got {depth}"
            )
        if output not in ("sigmoid", "none"):
            raise ValueError(f"output: expected 'sigmoid' or 'none', got {output!r}")
        shapes: dict[str, tuple[int, ...]] = {}

        def add(name: str, out: int, into: int, width: int) -> None:
            shapes[name] = (out, into, width, width)
            shapes[f"{name}_scale"] = shapes[f"{name}_shift"] = (out,)

        for i in range(depth):
            before = channels if i else input_channels
            if skip_channels:
                add(f"skip{i}", skip_channels, before, 1)
            add(f"down{i}", channels, before, kernel)
            add(f"encode{i}", channels, channels, kernel)
            add(f"up{i}", channels, channels + skip_channels, kernel)
            add(f"decode{i}", channels, channels, 1)
        shapes["last"] = (out_channels, channels, 1, 1)
        shapes["bias"] = (out_channels,)
        super().__init__((out_channels, *out_size), shapes)
        self.depth, self.skip_channels, self.output = depth, skip_channels, output
        generator = input_generator or torch_generator(0)
        drawn = 0.1 * torch.rand(input_channels, *out_size, generator=generator, device=generator.device)
        self.register_buffer("input", drawn)

    def initial(self, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the weights of n problems: convolutions as in torch, scales 1 and shifts 0."""
        check_tensor("like", like)
        generator = generator or torch.Generator().manual_seed(0)
        drawn = []
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            uniform = torch.rand(
                n, size, dtype=like.dtype.to_real(), generator=generator, device=generator.device
            )
            bound = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.0
            drawn.append((2 * uniform - 1) * bound + float(name.endswith("scale")))
        return torch.cat(drawn, 1).to(like.device)

    def forward(self, weights: Tensor) -> Tensor:
        """Map weight vectors (n, n_parameters) to images (n, *out_shape)."""
        w = self.unpack(weights)
        x = self.input.to(weights).expand(len(weights), *self.input.shape)
        skips, sizes = [], []
        for i in range(self.depth):
            sizes.append(x.shape[-2:])
            if self.skip_channels:
                skips.append(_layer(x, w, f"skip{i}"))
            x = _layer(x, w, f"down{i}", stride=2)
            x = _layer(x, w, f"encode{i}")
        for i in reversed(range(self.depth)):
            x = F.interpolate(x, size=sizes[i], mode="bilinear", align_corners=False)
            if self.skip_channels:
                x = torch.cat([skips[i], x], 1)
            x = _layer(_layer(x, w, f"up{i}"), w, f"decode{i}")
        x = _convolve(x, w["last"]) + w["bias"][:, :, None, None]
        return torch.sigmoid(x) if self.output == "sigmoid" else x


def _layer(x: Tensor, w: dict[str, Tensor], name: str, *, stride: int = 1) -> Tensor:
    """Apply a convolution, the normalisation of each channel, and a leaky rectifier."""
    x = _convolve(x, w[name], stride=stride)
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    scale = w[f"{name}_scale"][:, :, None, None] / torch.sqrt(variance + _EPSILON)
    return F.leaky_relu((x - mean) * scale + w[f"{name}_shift"][:, :, None, None], _SLOPE)


def _convolve(x: Tensor, kernels: Tensor, *, stride: int = 1) -> Tensor:
    """Convolve each problem with its own kernels, as one convolution with a group for each problem."""
    n, out, into, width, _ = kernels.shape
    if width == 1 and stride == 1:
        return (kernels.view(n, out, into) @ x.flatten(2)).view(n, out, *x.shape[2:])
    reach = width // 2
    padded = F.pad(x, [reach] * 4, mode="reflect") if reach else x
    joined = padded.reshape(1, n * into, *padded.shape[2:])
    y = F.conv2d(joined, kernels.reshape(n * out, into, width, width), stride=stride, groups=n)
    return y.view(n, out, *y.shape[2:])
