"""Denoisers that serve as priors, beside the dictionary: wavelets, total variation and groups of patches.

A denoiser for white noise of level s is a prior: it moves an image towards the images that are likely, the
farther the larger s is (Venkatakrishnan, Bouman and Wohlberg, "Plug-and-play priors for model based
reconstruction", 2013). Each class here is a `calepin.imaging.Denoiser`, so it denoises images as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.checks import check_array, check_integer, check_number
from calepin.core.random import RandomState
from calepin.imaging.groups import GroupFilter
from calepin.imaging.result import DenoiseResult, check_size, from_planes, sigma_of, to_planes
from calepin.operators.wavelet import Wavelet

__all__ = ["GroupDenoiser", "TVDenoiser", "WaveletDenoiser"]

_BATCH = 2**22  # pixels of shifted images that are transformed together


def _checked(image: Any) -> NDArray:
    """Return an image (h, w) or (h, w, 3) of finite numbers, unchanged if it is an array."""
    checked = check_array("image", image)
    if checked.ndim not in (2, 3):
        raise ValueError(f"image: expected shape (h, w) or (h, w, 3), got {checked.shape}")
    kept = isinstance(image, np.ndarray) and image.dtype.kind == "f"
    return image if kept else checked


@dataclass(frozen=True)
class WaveletDenoiser:
    """Shrink wavelet coefficients, averaged over shifts of the image (cycle spinning).

        x = mean over shifts s of  S_-s W T_t W^T S_s y,     T_t(c) = c if |c| > t else 0

    Coifman and Donoho, "Translation-invariant de-noising", 1995. The coarsest image is kept as it is. Colour
    images are transformed to a mean and two differences first.

    Parameters
    ----------
    threshold : float, default=3.0
        Threshold t, in standard deviations of the noise.
    moments : int, default=2
        Vanishing moments of the wavelets.
    levels : int, default=4
        Levels; fewer for images that are too small for them.
    n_shifts : int, default=4
        Shifts along each axis.
    """

    threshold: float = 3.0
    moments: int = 2
    levels: int = 4
    n_shifts: int = 4

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, least=0)
        check_integer("moments", self.moments, most=10)
        check_integer("levels", self.levels)
        check_integer("n_shifts", self.n_shifts)
        check_fields(self)

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callable[[str, float], object] | None = None,
    ) -> DenoiseResult:
        """Return the denoised image; see `calepin.denoise`. `random_state` has no effect.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level.
        ValueError
            Fewer pixels along a side than two wavelets have.
        """
        image, sigma = _checked(image), sigma_of(noise, type(self).__name__)
        check_size(image, [2 * self.moments] * 2)
        if sigma == 0:
            return DenoiseResult(image.copy(), noise)
        planes = torch.from_numpy(to_planes(image, sigma))
        levels = min(self.levels, int(math.log2(min(image.shape[:2]) / self.moments)))
        return DenoiseResult(from_planes(self._spin(planes, levels).numpy(), sigma, image), noise)

    def _spin(self, planes: Tensor, levels: int) -> Tensor:
        """Return planes (c, h, w) with noise of level 1 denoised, averaged over shifts."""
        sides = planes.shape[1:]
        # mirrored to whole blocks, and by at least one wavelet, so that opposite borders do not meet
        block = 2**levels
        padding = [block - n % block if n % block or n < block else 0 for n in sides]
        padded = planes
        for axis, more in enumerate(padding, start=1):
            padded = torch.cat([padded, padded.flip(axis).narrow(axis, 0, more)], axis)
        wavelet = Wavelet(tuple(padded.shape[1:]), moments=self.moments, levels=levels)
        rows, columns = wavelet.coarse_shape
        step = block // self.n_shifts | 1  # odd, so that a few shifts cover the phases of all levels
        span = [k * step % block for k in range(self.n_shifts)]
        shifts = [(a, b) for a in span for b in span]
        total = torch.zeros_like(padded)
        size = max(1, _BATCH // padded.numel())
        for first in range(0, len(shifts), size):
            chosen = shifts[first : first + size]
            moved = torch.cat([padded.roll(shift, (1, 2)) for shift in chosen])
            coefficients = wavelet.adjoint(moved)
            coarse = coefficients[:, :rows, :columns].clone()
            kept = torch.nn.functional.hardshrink(coefficients, self.threshold)
            kept[:, :rows, :columns] = coarse
            spun = wavelet(kept).unflatten(0, (len(chosen), len(planes)))
            for (a, b), one in zip(chosen, spun, strict=True):
                total += one.roll((-a, -b), (1, 2))
        return (total / len(shifts))[:, : sides[0], : sides[1]]


@dataclass(frozen=True)
class TVDenoiser:
    """Minimise the total variation near the image, by `skimage.restoration.denoise_tv_chambolle`.

        x = argmin_x  0.5 ||x - y||^2 + weight sigma TV(x)

    Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", 1992.

    Parameters
    ----------
    weight : float, default=1.0
        Weight of the total variation, relative to the level of the noise.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_number("weight", self.weight, above=0)
        check_fields(self)

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callable[[str, float], object] | None = None,
    ) -> DenoiseResult:
        """Return the denoised image; see `calepin.denoise`. `random_state` has no effect.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level.
        """
        from skimage.restoration import denoise_tv_chambolle

        image, sigma = _checked(image), sigma_of(noise, type(self).__name__)
        if sigma == 0:
            return DenoiseResult(image.copy(), noise)
        scaled = image / sigma
        axis = -1 if image.ndim == 3 else None
        found = np.asarray(denoise_tv_chambolle(scaled, weight=self.weight, channel_axis=axis))
        return DenoiseResult((found * sigma).astype(image.dtype), noise)


@dataclass(frozen=True)
class GroupDenoiser:
    """Shrink groups of similar patches, found on a first estimate by wavelets.

    `calepin.imaging.DictionaryDenoiser` has the same groups after its dictionary; without it they cost less.

    Parameters
    ----------
    patch_size : int, default=6
        Side of the patches.
    group_size : int, default=24
        Patches in a group.
    n_passes : int, default=2
        Passes; each finds its groups on the result of the one before.
    """

    patch_size: int = 6
    group_size: int = 24
    n_passes: int = 2

    def __post_init__(self) -> None:
        check_integer("patch_size", self.patch_size, least=2)
        check_integer("group_size", self.group_size, least=2)
        check_integer("n_passes", self.n_passes)
        check_fields(self)

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callable[[str, float], object] | None = None,
    ) -> DenoiseResult:
        """Return the denoised image; see `calepin.denoise`. `random_state` has no effect.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level.
        ValueError
            Fewer pixels along a side than a patch has.
        """
        image, sigma = _checked(image), sigma_of(noise, type(self).__name__)
        check_size(image, [self.patch_size] * 2)
        if sigma == 0:
            return DenoiseResult(image.copy(), noise)
        noisy = to_planes(image, sigma)
        guide = to_planes(WaveletDenoiser().denoise(image, noise).image, sigma, like=image)
        groups = GroupFilter(self.patch_size, self.group_size, mean="level", common=True)
        for _ in range(self.n_passes):
            guide = groups.apply(noisy, guide, 1.0)
        return DenoiseResult(from_planes(guide, sigma, image), noise)
