"""Noise models, as values: what is done to clean samples before they are observed.

    GaussianNoise    y = x + n,  n ~ N(0, sigma^2 I)
    PoissonNoise     y ~ Poisson(x / q),  q = max(x) / peak for each sample

A model adds noise to batches of tensors, which is what training needs, and `add_noise` adds it to one image
from a seed, as benchmarks of denoisers do. A denoiser takes the same models as what it assumes.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calepin.core.checks import check_number
from calepin.core.random import RandomState, numpy_generator, randn

__all__ = ["GaussianNoise", "Noise", "PoissonNoise", "add_noise"]


class Noise(Protocol):
    """What is done to clean samples before a network sees them; a dataclass, so that it has settings."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return what is observed of x, (n, ...)."""
        ...

    def scale(self, x: Tensor) -> Tensor | float:
        """Return q, the unit in which x is observed: the mean of y is x / q."""
        ...


@dataclass(frozen=True)
class GaussianNoise:
    """Normal noise of one level, or of a level drawn for each sample, uniformly from an interval.

    Parameters
    ----------
    sigma : float
        Standard deviation, in the units of the samples; the lowest one of an interval.
    sigma_max : float, optional
        The highest standard deviation; `sigma` by default.
    """

    sigma: float
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, least=0)
        check_number("sigma_max", self.sigma_max, least=self.sigma, optional=True)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return x, (n, ...), with noise."""
        place = torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, generator=generator).to(x.device)
        level = self.sigma + (self._highest - self.sigma) * place
        return x + level * randn(x.shape, like=x, generator=generator)

    def scale(self, x: Tensor) -> float:
        """Return 1: x is observed as it is."""
        return 1.0

    def draw(self, image: NDArray, random_state: RandomState) -> NDArray[np.float64]:
        """Return one image with noise, not clipped."""
        generator = numpy_generator(random_state)
        level = self.sigma if self._highest == self.sigma else generator.uniform(self.sigma, self._highest)
        noisy = generator.normal(0, level, image.shape)
        noisy += image
        return noisy

    @property
    def _highest(self) -> float:
        return self.sigma if self.sigma_max is None else self.sigma_max


@dataclass(frozen=True)
class PoissonNoise:
    """Counts, of photons for example: ``y ~ Poisson(x / q)``, where ``q = max(x) / peak`` for each sample.

    Parameters
    ----------
    peak : float
        Expected count at a sample's brightest entry.
    """

    peak: float

    def __post_init__(self) -> None:
        check_number("peak", self.peak, above=0)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return counts of x, (n, ...), which is nowhere negative."""
        rate = (x / self.scale(x)).to(generator.device)
        return torch.poisson(rate, generator=generator).to(x.device)

    def scale(self, x: Tensor) -> Tensor:
        """Return q, (n, 1, ...); 1 for a sample that is black."""
        brightest = x.flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1))
        return torch.where(brightest > 0, brightest / self.peak, 1.0)

    def draw(self, image: NDArray, random_state: RandomState) -> NDArray[np.float64]:
        """Return the counts of one image, which is nowhere negative."""
        if not np.all(np.asarray(image) >= 0):
            raise ValueError("image: expected no negative entries and no NaN for Poisson noise")
        rate = np.asarray(image, np.float64) / self.unit(image)
        return numpy_generator(random_state).poisson(rate).astype(np.float64)

    def unit(self, image: NDArray) -> float:
        """Return q of one image: ``q * counts`` is in the image's units."""
        return float(self.scale(torch.from_numpy(np.asarray(image, np.float64))[None]))


def add_noise(
    image: NDArray, noise: GaussianNoise | PoissonNoise, *, random_state: RandomState = 0
) -> NDArray[np.float64]:
    """Return what is observed of one image: for the same seed always the same numbers, not clipped.

    Gaussian noise is ``image + default_rng(random_state).normal(0, sigma, image.shape)``. The literature
    gives sigma on a scale of 0 to 255: ``GaussianNoise(25 / 255)`` for an image in [0, 1]. Poisson noise
    gives the counts ``default_rng(random_state).poisson(image / q)``, and `PoissonNoise.unit` their unit q.

    Parameters
    ----------
    image : array of any shape
        The clean image, one sample: its largest entry is the brightest of all channels.
    noise : GaussianNoise or PoissonNoise
    random_state : int, Generator, RandomState or None, default=0

    Returns
    -------
    float64 array of the shape of image

    Raises
    ------
    ValueError
        Poisson noise for an image with negative or NaN entries.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.datasets import PoissonNoise, add_noise
    >>> noise, image = PoissonNoise(peak=4), np.full((2, 3), 0.5)
    >>> counts = add_noise(image, noise)
    >>> counts.shape, noise.unit(image)
    ((2, 3), 0.125)
    """
    return noise.draw(np.asarray(image), random_state)
