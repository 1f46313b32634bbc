"""Sets of coil sensitivities, calibrated from the fully sampled middle of k-space (ESPIRiT).

    coil_c = sum over sets k of  s_kc * x_k        c = 1 .. n_coils

One set describes an object inside the field of view. If the object is larger, two parts of it fall on the
same pixel with different sensitivities, and two sets are needed.

All patches of the k-space of all coils lie near a subspace. The projection on it, applied to every patch and
averaged, is a convolution of k-space, hence a matrix G(r) of n_coils x n_coils at each pixel r. Where the
object is, the eigenvectors of G(r) with eigenvalues near 1 are the sensitivities (Uecker et al., "ESPIRiT: an
eigenvalue approach to autocalibrating parallel MRI", 2014). Here

- the subspace is spanned by the singular vectors whose singular values exceed the largest that noise alone
  has, ``sigma (sqrt(m) + sqrt(n))`` for complex noise in an m x n matrix (Marchenko and Pastur 1967);
- an eigenvector with eigenvalue l has the weight ``1 / (1 + ((1 - l) / .2)^2)``: no sharp cut decides on
  which pixels there is a second set.
"""

import math

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, takes_tensors
from calepin.core.checks import check_integer, check_number, check_tensor
from calepin.core.threads import single_threaded_torch
from calepin.operators.base import LinearOperator
from calepin.operators.fourier import centred_ifft, middle

__all__ = ["Sensitivities", "calibration_size", "espirit_maps", "kspace_noise"]

KERNEL = 8  # largest side of a patch of k-space
LEAST_SIDE = 6  # of the fully sampled middle
MOST_SIDE = 48  # of the middle, if both of its sides are larger
WIDTH = 0.2  # of the weight of an eigenvalue below 1
FLOOR = 2e-3  # of the largest singular value: smaller ones are not signal, whatever the noise
OUTER = 0.1  # fraction of the acquired samples, the farthest from the middle, that are taken as noise
WINDOW = 32  # side of the middle that tells the phase of an image
ROWS = 16  # rows of pixels whose matrices are in memory at the same time


class Sensitivities(LinearOperator):
    """Map one image for each set of sensitivities to the images of the coils.

    ``MultiCoilMRI(acquired, n_coils=n_coils) @ Sensitivities(maps)`` maps them to k-space.

    Parameters
    ----------
    maps : complex Tensor, shape (n_sets, n_coils, height, width)
        See `espirit_maps`.

    Raises
    ------
    ValueError
        If the maps are real, have another shape, or contain NaN or infinity.
    """

    maps: Tensor

    def __init__(self, maps: Tensor) -> None:
        check_arguments(Sensitivities.__init__, locals())
        check_tensor("maps", maps)
        if not maps.is_complex() or maps.ndim != 4:
            raise ValueError(
                "maps: expected a complex tensor of shape (n_sets, n_coils, height, width), "
                f"got {maps.dtype} of {tuple(maps.shape)}"
            )
        if not torch.isfinite(maps).all():
            raise ValueError("maps: expected finite values, got NaN or infinity")
        n_sets, n_coils, *size = maps.shape
        super().__init__((n_sets, *size), (n_coils, *size))
        self.register_buffer("maps", maps)

    @takes_tensors
    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, n_sets, height, width) to coils (n, n_coils, height, width)."""
        self.check_input(x)
        coils = x[:, 0, None] * self.maps[0]
        for image, one in zip(x.unbind(1)[1:], self.maps[1:], strict=True):
            coils = coils + image[:, None] * one
        return coils

    @takes_tensors
    def adjoint(self, y: Tensor) -> Tensor:
        """Map coils (n, n_coils, height, width) to images, each the sum over coils of conj(s) y."""
        self.check_output(y)
        return torch.stack([(one.conj() * y).sum(1) for one in self.maps], 1)

    def _compute_norm_squared(self, generator: torch.Generator | None) -> float:
        pixels = self.maps.flatten(2).permute(2, 0, 1)
        return float(torch.linalg.matrix_norm(pixels @ pixels.mH, 2).max())


@takes_tensors
def calibration_size(acquired: Tensor) -> tuple[int, int]:
    """Return the sides of the largest fully sampled rectangle around the zero frequency, (0, 0) if none.

    Parameters
    ----------
    acquired : bool Tensor, shape (height, width)

    Raises
    ------
    ValueError
        If the mask is not boolean or has another shape.
    """
    check_arguments(calibration_size, locals())
    _check_mask(acquired)
    height, width = acquired.shape
    best = (0, 0)
    for columns in range(1, width + 1):
        full = middle(acquired, (height, columns)).all(1)
        rows = 0
        while rows < height and bool(middle(full[:, None], (rows + 1,)).all()):
            rows += 1
        if not rows:
            break
        if rows * columns > best[0] * best[1]:
            best = rows, columns
    return best


def kspace_noise(kspace: Tensor, acquired: Tensor) -> float:
    """Estimate the standard deviation of real and imaginary part of the noise of k-space.

    The tenth of the acquired samples that are farthest from the zero frequency are taken as noise: the median
    of their magnitudes over that of normal numbers of standard deviation 1, ``sqrt(2 log 2)``. Fine detail of
    the image is in these samples too, so that the estimate is rather too large than too small.

    Parameters
    ----------
    kspace : complex Tensor, shape (n_coils, height, width)
        Samples of every coil, with the zero frequency in the middle.
    acquired : bool Tensor, shape (height, width)
        Which samples were acquired, at least one.

    Returns
    -------
    float
        In the units of k-space.

    Raises
    ------
    ValueError
        If k-space is real, not finite or of another shape than the mask, or if the mask has no sample.
    """
    check_arguments(kspace_noise, locals())
    _check_kspace(kspace, acquired)
    rows, columns = (
        (torch.arange(n, device=kspace.device) - n // 2) / max(n // 2, 1) for n in acquired.shape
    )
    distance = rows[:, None].square() + columns.square()
    return outer_noise(kspace[:, acquired], distance[acquired])


def outer_noise(samples: Tensor, distance: Tensor) -> float:
    """Return the noise of samples (n_coils, n) at distances (n,) from the zero frequency (`kspace_noise`)."""
    farthest = float(np.quantile(distance.cpu().numpy(), 1 - OUTER))
    return float(samples[:, distance >= farthest].abs().median()) / math.sqrt(2 * math.log(2))


def espirit_maps(
    kspace: Tensor, acquired: Tensor, *, n_sets: int = 2, noise: float | None = None, kernel: int = KERNEL
) -> Tensor:
    """Estimate sets of sensitivities from the fully sampled middle of k-space.

    Eigenvectors have a free phase. It is chosen such that the low-resolution image of each set is real and
    positive, so that reconstructed images are nearly real.

    Parameters
    ----------
    kspace : complex Tensor, shape (n_coils, height, width)
        Samples of every coil, with the zero frequency in the middle; what was not acquired has no effect.
    acquired : bool Tensor, shape (height, width)
        Which samples were acquired. The largest full rectangle in the middle has at least 6 x 6 samples.
    n_sets : int, default 2
        Number of sets, at most that of the coils.
    noise : float, optional
        Standard deviation of real and imaginary part of the noise. Default: `kspace_noise`.
    kernel : int, default 8
        Largest side of a patch; it is at most half a side of the middle.

    Returns
    -------
    Tensor, shape (n_sets, n_coils, height, width), dtype of `kspace`
        The matrix of coils and sets has a spectral norm of at most 1 at each pixel.

    Raises
    ------
    ValueError
        If k-space is real, not finite or of another shape than the mask; if the middle is too small, or is
        noise alone; for a number out of range.
    """
    check_arguments(espirit_maps, locals())
    _check_kspace(kspace, acquired)
    check_integer("n_sets", n_sets, most=len(kspace))
    check_integer("kernel", kernel, least=2)
    check_number("noise", noise, least=0, optional=True)
    size = calibration_size(acquired)
    if min(size) < LEAST_SIDE:
        raise ValueError(
            f"acquired: expected at least {LEAST_SIDE} x {LEAST_SIDE} samples in the middle, all acquired, "
            f"got {size[0]} x {size[1]}"
        )
    if min(size) > MOST_SIDE:
        size = (MOST_SIDE, MOST_SIDE)
    sigma = kspace_noise(kspace, acquired) if noise is None else noise
    sides = (min(kernel, (size[0] + 1) // 2), min(kernel, (size[1] + 1) // 2))
    with torch.no_grad(), single_threaded_torch():
        vectors = _signal_space(middle(kspace.movedim(0, -1), size).movedim(-1, 0), sides, sigma)
        kernels = _autocorrelation(vectors.view(-1, len(kspace), *sides))
        low = _low_resolution(kspace, size)
        height, width = acquired.shape
        along = _phases(width, sides[1], kernels)
        # (coils, coils, shift along columns, column)
        kernels = torch.einsum("abij,wj->abiw", kernels / math.prod(sides), along)
        down = _phases(height, sides[0], kernels)
        maps = torch.empty(n_sets, *kspace.shape, dtype=kspace.dtype, device=kspace.device)
        for top in range(0, height, ROWS):
            rows = slice(top, top + ROWS)
            matrices = torch.einsum("abiw,hi->hwab", kernels, down[rows])
            maps[:, :, rows] = _eigenvectors(matrices, low[:, rows], n_sets).to(kspace.dtype)
    return maps


def _signal_space(samples: Tensor, sides: tuple[int, int], sigma: float) -> Tensor:
    """Return an orthonormal basis (n, coils * patch) of the patches of samples (coils, h, w)."""
    patches = samples.to(torch.complex128).unfold(1, sides[0], 1).unfold(2, sides[1], 1)
    matrix = patches.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    energies, vectors = torch.linalg.eigh(matrix.mH @ matrix)
    singular = energies.clamp_min(0).sqrt()
    edge = math.sqrt(2) * sigma * sum(math.sqrt(n) for n in matrix.shape)
    kept = singular > max(edge, FLOOR * float(singular[-1]))
    if not bool(kept.any()):
        raise ValueError("kspace: expected signal in its middle, got nothing above the noise")
    return vectors[:, kept].mH


def _autocorrelation(vectors: Tensor) -> Tensor:
    """Return sum_n sum_d v_n[a, d] conj(v_n[b, d - e]) for shifts e, (coils, coils, 2 k - 1, 2 k - 1)."""
    sides = vectors.shape[-2:]
    padded = tuple(2 * n for n in sides)
    spectra = torch.fft.fft2(vectors, padded).permute(2, 3, 1, 0)
    power = torch.fft.ifft2((spectra @ spectra.mH).permute(2, 3, 0, 1))
    shifts = [torch.arange(1 - n, n, device=vectors.device) % (2 * n) for n in sides]
    return power[:, :, shifts[0][:, None], shifts[1]]


def _phases(length: int, side: int, like: Tensor) -> Tensor:
    """Return ``exp(2 pi i e r / length)``, (length, 2 side - 1), of pixels r around the middle, shifts e."""
    r = torch.arange(length, dtype=torch.float64, device=like.device) - length // 2
    e = torch.arange(1 - side, side, dtype=torch.float64, device=like.device)
    angle = 2 * math.pi / length * r[:, None] * e
    return torch.polar(torch.ones_like(angle), angle)


def _low_resolution(kspace: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the images of the coils from a Hann window over the middle of k-space."""
    window = torch.zeros(kspace.shape[1:], dtype=torch.float64, device=kspace.device)
    rows, columns = (
        # one entry more on either side: the window is zero at its ends, which are cut off
        torch.hann_window(n + 2, periodic=False, dtype=window.dtype, device=window.device)[1:-1]
        for n in (min(side, WINDOW) for side in size)
    )
    middle(window, (len(rows), len(columns))).copy_(rows[:, None] * columns)
    return centred_ifft(kspace.to(torch.complex128) * window)


def _eigenvectors(matrices: Tensor, low: Tensor, n_sets: int) -> Tensor:
    """Return the first eigenvectors (sets, coils, h, w) of matrices (h, w, coils, coils), weighted."""
    values, vectors = torch.linalg.eigh(matrices)
    values, vectors = values[..., -n_sets:].flip(-1), vectors[..., -n_sets:].flip(-1)
    image = torch.einsum("hwcs,chw->hws", vectors.conj(), low)
    turned = vectors * torch.polar(torch.ones_like(values), image.angle())[:, :, None]
    weights = 1 / (1 + ((1 - values) / WIDTH).square())
    return (turned * weights[:, :, None]).permute(3, 2, 0, 1)


def _check_mask(acquired: Tensor) -> None:
    if acquired.dtype != torch.bool or acquired.ndim != 2:
        raise ValueError(
            "acquired: expected a boolean tensor of shape (height, width), "
            f"got {acquired.dtype} of {tuple(acquired.shape)}"
        )


def _check_kspace(kspace: Tensor, acquired: Tensor) -> None:
    _check_mask(acquired)
    if not bool(acquired.any()):
        raise ValueError("acquired: expected at least one sample, got none")
    if kspace.ndim != 3 or not kspace.is_complex() or kspace.shape[1:] != acquired.shape:
        raise ValueError(
            f"kspace: expected a complex tensor of shape (n_coils, {acquired.shape[0]}, "
            f"{acquired.shape[1]}), got {kspace.dtype} of {tuple(kspace.shape)}"
        )
    if not bool(torch.isfinite(kspace).all()):
        raise ValueError("kspace: expected finite samples, got NaN or infinity")
