"""Noise models: the distribution of observations given clean samples.

    GaussianNoise          y = x + n,  n ~ N(0, sigma^2 I)
    VaryingGaussianNoise   y = x + n,  n ~ N(0, diag(sigma^2))
    PoissonNoise           y ~ Poisson(x / q),  q = max(x) / peak for each sample
    CorrelatedNoise        y = x + n,  n ~ N(0, R),  stationary: `calepin.datasets.correlated_noise`
    PoissonGaussianNoise   y = g p + b + n,  p ~ Poisson((x - b) / g),  n ~ N(0, r^2 I)

`GaussianNoise` and `PoissonNoise` are models for training, too: they can be called on batches of tensors.
`add_noise` adds noise to one image with a seed, for benchmarks. Denoisers take the same objects as their
assumption about the noise.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields, takes_tensors
from calepin.core.checks import check_array, check_number, pixels_of
from calepin.core.random import RandomState, numpy_generator, randn
from calepin.datasets.correlated_noise import CorrelatedNoise

__all__ = [
    "GaussianNoise",
    "Noise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "VaryingGaussianNoise",
    "add_noise",
]


class Noise(Protocol):
    """The interface of noise models for training. A model is a dataclass, whose fields are its settings."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return noisy observations of x, (n, ...)."""
        ...

    def scale(self, x: Tensor) -> Tensor | float:
        """Return the unit q of the observations y: the mean of y is x / q."""
        ...


@dataclass(frozen=True)
class GaussianNoise:
    """Normal noise, whose standard deviation is constant or drawn uniformly for each sample.

    Parameters
    ----------
    sigma : float
        Standard deviation, in the units of the samples. With `sigma_max`, the lower end of an interval.
    sigma_max : float, optional
        Upper end of the interval. Default: `sigma`, a constant standard deviation.
    """

    sigma: float
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, least=0)
        check_number("sigma_max", self.sigma_max, least=self.sigma, optional=True)
        check_fields(self)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return noisy observations of x, (n, ...)."""
        level = self.levels(x, generator)
        return x + level * randn(x.shape, like=x, generator=generator)

    def levels(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a standard deviation for each sample of x, (n, ...), as a tensor (n, 1, ...)."""
        place = torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, generator=generator).to(x.device)
        return self.sigma + (self._highest - self.sigma) * place

    def scale(self, x: Tensor) -> float:
        """Return 1, because observations have the units of x."""
        return 1.0

    def draw(self, image: NDArray, random_state: RandomState) -> NDArray[np.float64]:
        """Return one noisy image, without clipping."""
        clean = check_array("image", image)
        generator = numpy_generator(random_state)
        level = self.sigma if self._highest == self.sigma else generator.uniform(self.sigma, self._highest)
        noisy = generator.normal(0, level, clean.shape)
        noisy += clean
        return noisy

    @property
    def _highest(self) -> float:
        return self.sigma if self.sigma_max is None else self.sigma_max


@dataclass(frozen=True, eq=False)
class VaryingGaussianNoise:
    """Normal noise whose standard deviation is known for each pixel.

    Parameters
    ----------
    sigma : array (h, w) or (h, w, 3), or that of a stack
        Standard deviation of each pixel, or of each channel of each pixel, in the units of the image. For
        `calepin.denoise` of a stack it has the axes of the stack, or of one of its planes, for all.
    """

    sigma: NDArray[np.floating]

    def __post_init__(self) -> None:
        sigma = check_array("sigma", self.sigma)
        if sigma.ndim < 2:
            raise ValueError(f"sigma: expected shape (h, w), (h, w, 3) or that of a stack, got {sigma.shape}")
        if sigma.dtype.kind not in "iuf" or not np.isfinite(sigma).all() or (sigma < 0).any():
            raise ValueError("sigma: expected finite real numbers of at least 0")

    def level(self, image: NDArray) -> NDArray[np.floating]:
        """Return the standard deviations of an image, (h, w) or in its shape.

        Raises
        ------
        ValueError
            Another shape than that of the image.
        """
        check_arguments(VaryingGaussianNoise.level, locals())
        sigma = np.asarray(self.sigma)
        if sigma.shape not in (image.shape, image.shape[:2]):
            raise ValueError(
                f"sigma: expected shape {image.shape}, as the image, or {image.shape[:2]}, got {sigma.shape}"
            )
        return sigma

    def draw(self, image: NDArray, random_state: RandomState) -> NDArray[np.float64]:
        """Return one noisy image, without clipping."""
        clean = check_array("image", image)
        sigma = self.level(clean)
        sigma = sigma if sigma.ndim == clean.ndim else sigma[..., None]
        return clean + sigma * numpy_generator(random_state).standard_normal(clean.shape)


@dataclass(frozen=True)
class PoissonNoise:
    """Poisson noise, for example of photon counts: ``y ~ Poisson(x / q)``, ``q = max(x) / peak`` per sample.

    Parameters
    ----------
    peak : float, optional
        Expected count at the brightest entry of a sample. Default: unknown, for denoising alone, which
        estimates it from the counts where it needs it.
    """

    peak: float | None = None

    def __post_init__(self) -> None:
        check_number("peak", self.peak, above=0, optional=True)
        check_fields(self)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return counts for nonnegative x, (n, ...)."""
        rate = (x / self.scale(x)).to(generator.device)
        return torch.poisson(rate, generator=generator).to(x.device)

    @takes_tensors
    def scale(self, x: Tensor) -> Tensor:
        """Return the unit q of the counts of each sample, (n, 1, ...); 1 for a sample of zeros."""
        if self.peak is None:
            raise ValueError("peak: expected a number, to draw counts or to find their unit, got None")
        brightest = x.flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1))
        return torch.where(brightest > 0, brightest / self.peak, 1.0)

    def draw(self, image: NDArray, random_state: RandomState) -> NDArray[np.float64]:
        """Return counts for one nonnegative image."""
        if not np.all(check_array("image", image) >= 0):
            raise ValueError("image: expected no negative entries and no NaN for Poisson noise")
        rate = np.asarray(image, np.float64) / self.unit(image)
        return numpy_generator(random_state).poisson(rate).astype(np.float64)

    def unit(self, image: NDArray) -> float:
        """Return the unit q of one image: ``q * counts`` has the units of the image."""
        return float(self.scale(torch.from_numpy(check_array("image", image))[None]))


@dataclass(frozen=True)
class PoissonGaussianNoise:
    """Noise of cameras (CCD, sCMOS): photons are counted, amplified, and read with Gaussian noise.

    ``y = gain * Poisson((x - offset) / gain) + offset + N(0, read^2)``, where x is the clean image in the
    units of the file.

    Parameters
    ----------
    gain : float, default 1
        Units of the image for each photon (each electron that was detected), above 0.
    offset : float, default 0
        Value of a pixel without light.
    read : float, default 0
        Standard deviation of a pixel without light, in the units of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.datasets import PoissonGaussianNoise, add_noise
    >>> noise = PoissonGaussianNoise(gain=2.0, offset=100.0, read=3.0)
    >>> y = add_noise(np.full((300, 300), 180.0), noise)
    >>> round(float(y.mean())), round(float(y.var()))  # 2 * (180 - 100) + 3^2
    (180, 169)
    """

    gain: float = 1.0
    offset: float = 0.0
    read: float = 0.0

    def __post_init__(self) -> None:
        check_number("gain", self.gain, above=0)
        check_number("offset", self.offset)
        check_number("read", self.read, least=0)
        check_fields(self)

    def draw(self, image: NDArray, random_state: RandomState) -> NDArray[np.float64]:
        """Return one noisy image, neither rounded nor clipped."""
        clean = check_array("image", image)
        if not np.all(clean >= self.offset):
            raise ValueError(f"image: expected entries of at least the offset, {self.offset:g}, and no NaN")
        generator = numpy_generator(random_state)
        photons = generator.poisson((np.asarray(clean, np.float64) - self.offset) / self.gain)
        return self.gain * photons + self.offset + self.read * generator.standard_normal(clean.shape)


def add_noise(
    image: NDArray,
    noise: GaussianNoise | PoissonNoise | VaryingGaussianNoise | PoissonGaussianNoise | CorrelatedNoise,
    *,
    random_state: RandomState = 0,
) -> NDArray[np.float64]:
    """Add noise to one image, reproducibly and without clipping.

    Gaussian noise gives ``image + default_rng(random_state).normal(0, sigma, image.shape)``. In the
    literature sigma is usually on a scale of 0 to 255: ``GaussianNoise(25 / 255)`` for an image in [0, 1].
    Poisson noise gives counts ``default_rng(random_state).poisson(image / q)``; the unit q of the counts is
    `PoissonNoise.unit`.

    Parameters
    ----------
    image : array of any shape
        The clean image. It is one sample: the peak of Poisson noise is over all channels.
    noise : GaussianNoise, PoissonNoise, VaryingGaussianNoise, PoissonGaussianNoise or CorrelatedNoise
        The noise model.
    random_state : int, Generator, RandomState or None, default=0
        Seed of the noise.

    Returns
    -------
    float64 array of the shape of image
        The noisy image, or the counts.

    Raises
    ------
    ValueError
        If the noise is Poisson and the image has negative or NaN entries, or entries below the offset, or if
        entries are masked.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.datasets import PoissonNoise, add_noise
    >>> noise, image = PoissonNoise(peak=4), np.full((2, 3), 0.5)
    >>> counts = add_noise(image, noise)
    >>> counts.shape, noise.unit(image)
    ((2, 3), 0.125)
    """
    check_arguments(add_noise, locals())
    return noise.draw(pixels_of("image", image), random_state)
