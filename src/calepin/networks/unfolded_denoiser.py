"""A denoiser for all noise levels: sparse coding unfolded, with filters of their own in each layer.

    z_0 = 0
    z_{k+1} = soft( z_k - A_k^T (B_k z_k - y + mean(y)),  t_k + u_k sigma )        k = 0 .. K - 1
    x = D z_K + mean(y)

A_k, B_k and D are convolutional dictionaries with a stride. The thresholds are affine functions of the noise
level, one pair t, u for each filter, so that one network removes noise of every level that it was trained for
(Janjusevic, Khalilian-Didehban and Wang, "CDLNet: Noise-adaptive convolutional dictionary learning network
for blind denoising and demosaicing", 2022, eq. 9 to 11). The output is the mean over shifts of the grid.

The image is a window of a larger scene: atoms may reach over its border, where nothing is observed.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_floating, check_integer, check_number, check_tensor
from calepin.core.files import load_arrays, save_arrays
from calepin.core.random import randn, torch_generator
from calepin.core.reading import check_sizes, reading
from calepin.likelihoods import Gaussian
from calepin.networks._grids import Shift, drawn_shifts

__all__ = ["UnfoldedDenoiser"]

KIND = "unfolded-denoiser"
FIRST_THRESHOLDS = (1e-3, 0.05)  # t and u of all filters before training, for images in [0, 1]
POWER_ITERATIONS = 50
PERIOD = 32  # side, in positions, of the codes that the norm of the initial dictionary is computed on


class UnfoldedDenoiser(nn.Module):
    """A denoiser for gray images with Gaussian noise of a known level.

    Parameters
    ----------
    atoms : Tensor, shape (n_components, 1, kernel, kernel)
        Initial filters of all layers, copied, and scaled such that the first steps are contractions.
    n_unfold : int, default 7
        Number of layers K.
    stride : int, default 2
        Distance between neighbouring positions of an atom, in pixels, of which `kernel` is a multiple.

    Attributes
    ----------
    analysis, synthesis : Parameter, shapes (K, n_components, 1, kernel, kernel) and one layer less
        A_k and B_k; the first layer has nothing to synthesise.
    atoms : Parameter, shape (n_components, 1, kernel, kernel)
        D.
    thresholds : Parameter, shape (K, 2, n_components, 1, 1)
        t and u.
    card : dict
        The model card: data, settings and accuracy, as JSON values.

    Raises
    ------
    ValueError
        If the atoms are not square, have several channels, or the stride does not divide their side.
    """

    card: dict[str, Any]
    tied = False
    likelihood = Gaussian()

    def __init__(self, atoms: Tensor, *, n_unfold: int = 7, stride: int = 2) -> None:
        super().__init__()
        check_integer("n_unfold", n_unfold)
        check_integer("stride", stride)
        check_arguments(UnfoldedDenoiser.__init__, locals())
        check_floating("atoms", atoms)
        if atoms.ndim != 4 or atoms.shape[1] != 1 or atoms.shape[2] != atoms.shape[3] or not atoms.numel():
            raise ValueError(f"atoms: expected shape (n_components, 1, size, size), got {tuple(atoms.shape)}")
        if atoms.shape[2] % stride:
            raise ValueError(f"stride: expected a divisor of the side {atoms.shape[2]}, got {stride}")
        self.n_unfold, self.stride, self.card = n_unfold, stride, {}
        first = atoms.detach() / _norm(atoms.detach(), stride)
        self.analysis = nn.Parameter(first.repeat(n_unfold, 1, 1, 1, 1))
        self.synthesis = nn.Parameter(first.repeat(n_unfold - 1, 1, 1, 1, 1))
        self.atoms = nn.Parameter(first.clone())
        levels = first.new_tensor(FIRST_THRESHOLDS).view(1, 2, 1, 1, 1)
        self.thresholds = nn.Parameter(levels.repeat(n_unfold, 1, len(atoms), 1, 1))

    @classmethod
    def random(cls, n_components: int = 64, kernel: int = 8, *, seed: int = 0, **settings: int) -> Self:
        """Return a network with random atoms; `settings` are those of the class."""
        check_integer("n_components", n_components)
        check_integer("kernel", kernel)
        shape = (n_components, 1, kernel, kernel)
        return cls(randn(shape, like=torch.empty(0), generator=torch_generator(seed)), **settings)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Spatial shape of an atom."""
        return tuple(self.atoms.shape[2:])

    @property
    def decoder_atoms(self) -> Tensor:
        """The filters D of the output."""
        return self.atoms

    @takes_tensors
    def forward(
        self,
        y: Tensor,
        sigma: Tensor | float,
        *,
        offset: Tensor | float | None = None,
        shifts: Sequence[Shift] | None = None,
    ) -> Tensor:
        """Return the denoised images, averaged over shifts.

        Parameters
        ----------
        y : Tensor, shape (n, 1, height, width)
            Noisy images. Each side must be at least as long as that of the kernel.
        sigma : float or Tensor, shape (n, 1, 1, 1) or (n, 1, height, width)
            Standard deviation of the noise, in the units of y: of all images, of each, or of each pixel.
        offset : float or Tensor, optional
            The gray level that is subtracted. Default: the mean of each image.
        shifts : sequence of tuples, optional
            Shifts of the grid, each entry from 0 to ``stride - 1``; all by default.

        Returns
        -------
        Tensor, shape of y

        Raises
        ------
        ValueError
            If y or sigma have the wrong shape, or if `shifts` is empty or has an invalid shift.
        """
        check_tensor("y", y)
        side = self.kernel[0]
        if y.ndim != 4 or y.shape[1] != 1 or min(y.shape[2:]) < side:
            raise ValueError(
                f"y: expected shape (n, 1, {side} or more, {side} or more), got {tuple(y.shape)}"
            )
        sigma = self._levels(sigma, y)
        shifts = self.all_shifts() if shifts is None else list(shifts)
        if not shifts or not set(shifts) <= set(self.all_shifts()):
            raise ValueError(f"shifts: expected pairs of 0 to {self.stride - 1}, got {shifts!r:.60}")
        mean = y.mean((1, 2, 3), keepdim=True) if offset is None else offset
        total = torch.zeros_like(y)
        for shift in shifts:
            total = total + self._denoise(y - mean, sigma, shift)
        return total / len(shifts) + mean

    def all_shifts(self) -> list[Shift]:
        """Return all ``stride ** 2`` shifts of the grid."""
        return list(itertools.product(range(self.stride), repeat=2))

    def random_shifts(self, n_shifts: int, *, generator: torch.Generator | None = None) -> list[Shift]:
        """Return `n_shifts` distinct random shifts, for a step of training."""
        return drawn_shifts(self.all_shifts(), n_shifts, generator)

    @torch.no_grad()
    def project_(self) -> None:
        """Keep the thresholds nonnegative, in place."""
        self.thresholds.clamp_(min=0)

    def settings(self) -> dict[str, Any]:
        """Return the settings for JSON: everything but the weights that `load` needs."""
        return {"n_unfold": self.n_unfold, "stride": self.stride}

    def save(self, path: str | os.PathLike, *, card: Mapping[str, Any] | None = None) -> None:
        """Write weights, settings and the card, by default ``network.card``, to one safetensors file."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        card = dict(self.card if card is None else card)
        save_arrays(path, KIND, arrays, {"settings": self.settings(), "card": card})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a network that `save` wrote.

        Raises
        ------
        FileNotFoundError, calepin.FileFormatError
            If the file does not exist, or holds no such network.
        """
        arrays, parameters = load_arrays(path, KIND)
        with reading(path, "denoising network"):
            settings = dict(parameters["settings"])
            check_sizes(settings, arrays)
            network = cls(torch.from_numpy(np.array(arrays["atoms"])), **settings)
            network.load_state_dict(
                {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
            )
            network.card = parameters["card"]
            return network

    def extra_repr(self) -> str:
        """Return the main settings, for ``repr``."""
        return f"atoms={tuple(self.atoms.shape)}, n_unfold={self.n_unfold}, stride={self.stride}"

    def _levels(self, sigma: Tensor | float, y: Tensor) -> Tensor:
        """Return the noise level as a tensor of shape (1 or n, 1, 1 or height, 1 or width)."""
        if not isinstance(sigma, Tensor):
            check_number("sigma", sigma, least=0)
            return y.new_full((1, 1, 1, 1), sigma)
        shapes = [(len(y), 1, 1, 1), tuple(y.shape)]
        if tuple(sigma.shape) not in shapes:
            raise ValueError(
                f"sigma: expected a number or shape {shapes[0]} or {shapes[1]}, got {tuple(sigma.shape)}"
            )
        return sigma

    def _denoise(self, y: Tensor, sigma: Tensor, shift: Shift) -> Tensor:
        """Return the estimate without the offset for one shift of the grid."""
        height, width = y.shape[2:]
        y = F.pixel_unshuffle(self._on_grid(y, shift), self.stride)
        if sigma.shape[2:] != (1, 1):
            sigma = self._on_codes(self._on_grid(sigma, shift))
        x = F.pixel_shuffle(self._synthesise(self._code(y, sigma), self.atoms), self.stride)
        return x[:, :, shift[0] : shift[0] + height, shift[1] : shift[1] + width].to(self.atoms.dtype)

    def _code(self, phases: Tensor, sigma: Tensor) -> Tensor:
        """Run the layers on the phases of the image, for which the convolutions have stride 1."""
        z = None
        for k, (still, growing) in enumerate(self.thresholds):
            if z is None:
                v = self._analyse(phases, self.analysis[k])
            else:
                v = z - self._analyse(self._synthesise(z, self.synthesis[k - 1]) - phases, self.analysis[k])
            threshold = (still + growing * sigma).to(v.dtype)
            z = _SoftThreshold.apply(v, threshold.expand(len(v), -1, -1, -1))
        assert z is not None
        return z

    def _analyse(self, phases: Tensor, atoms: Tensor) -> Tensor:
        atoms = F.pixel_unshuffle(atoms, self.stride)
        return F.conv2d(phases, atoms, padding=atoms.shape[-1] - 1)

    def _synthesise(self, codes: Tensor, atoms: Tensor) -> Tensor:
        # a convolution with turned filters: as the transpose of `_analyse` torch computes it more slowly
        return F.conv2d(codes, F.pixel_unshuffle(atoms, self.stride).flip(-1, -2).transpose(0, 1))

    def _on_grid(self, image: Tensor, shift: Shift) -> Tensor:
        """Return images continued by reflection to whole cells of a shifted grid."""
        pad = []
        for size, moved in zip(reversed(image.shape[2:]), reversed(shift), strict=True):
            pad += [moved, -(size + self.stride - 1) % self.stride + self.stride - 1 - moved]
        return F.pad(image, pad, mode="reflect")

    def _on_codes(self, sigma: Tensor) -> Tensor:
        """Return the mean of a map of noise levels over the pixels of each atom."""
        sigma = F.avg_pool2d(sigma, self.stride)
        reach = self.kernel[0] // self.stride
        return F.avg_pool2d(F.pad(sigma, [reach - 1] * 4, mode="replicate"), reach, stride=1)


class _SoftThreshold(torch.autograd.Function):
    """``sign(v) max(|v| - t, 0)`` with a threshold (n, components, 1, 1), or one of v's shape.

    The derivative is the sign of the result. Composed of torch's own functions it takes longer than the
    convolutions.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor) -> Tensor:
        """Return the shrunk codes."""
        shrunk = F.relu(v - threshold).sub_(F.relu(-v - threshold))
        ctx.save_for_backward(shrunk)
        ctx.summed = threshold.shape != v.shape
        return shrunk

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients of codes and thresholds."""
        (shrunk,) = ctx.saved_tensors
        sign = torch.sign(shrunk)
        signed = grad * sign
        falling = -(signed.sum((2, 3), keepdim=True) if ctx.summed else signed)
        return sign.mul_(signed), falling


def _norm(atoms: Tensor, stride: int) -> float:
    """Return the norm of the dictionary of these atoms, by power iteration on codes of moderate size."""
    generator = torch_generator(0)
    atoms = F.pixel_unshuffle(atoms, stride)
    z = torch.randn(
        1, len(atoms), PERIOD, PERIOD, generator=generator, dtype=atoms.dtype, device=atoms.device
    )
    norm = 0.0
    for _ in range(POWER_ITERATIONS):
        x = F.conv_transpose2d(z / z.norm(), atoms)
        z = F.conv2d(x, atoms)
        norm = float(x.norm())
    return norm if norm > 0 else 1.0
