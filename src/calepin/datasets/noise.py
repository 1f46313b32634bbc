"""What is done to clean samples before they are observed: noise models, as values."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from calepin.core.random import randn

__all__ = ["GaussianNoise", "Noise", "PoissonNoise"]


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
    """Normal noise whose level is drawn for each sample, uniformly from an interval.

    Parameters
    ----------
    sigma : float
        The level, or the lowest one.
    sigma_max : float, optional
        The highest level; `sigma` by default.
    """

    sigma: float
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        highest = self.sigma if self.sigma_max is None else self.sigma_max
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma: expected a finite number of at least 0, got {self.sigma!r}")
        if not self.sigma <= highest < math.inf:
            raise ValueError(f"sigma_max: expected a finite number of at least sigma, got {self.sigma_max!r}")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return x, (n, ...), with noise."""
        highest = self.sigma if self.sigma_max is None else self.sigma_max
        place = torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, generator=generator).to(x.device)
        level = self.sigma + (highest - self.sigma) * place
        return x + level * randn(x.shape, like=x, generator=generator)

    def scale(self, x: Tensor) -> float:
        """Return 1: x is observed as it is."""
        return 1.0


@dataclass(frozen=True)
class PoissonNoise:
    """Photons: ``y ~ Poisson(x / q)``, where ``q = max(x) / peak`` for each sample.

    Parameters
    ----------
    peak : float
        Expected count at a sample's brightest entry.
    """

    peak: float

    def __post_init__(self) -> None:
        if not 0 < self.peak < math.inf:
            raise ValueError(f"peak: expected a finite number above 0, got {self.peak!r}")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return counts of x, (n, ...), which is nowhere negative."""
        rate = (x / self.scale(x)).to(generator.device)
        return torch.poisson(rate, generator=generator).to(x.device)

    def scale(self, x: Tensor) -> Tensor:
        """Return q, (n, 1, ...); 1 for a sample that is black."""
        brightest = x.flatten(1).amax(1).view(-1, *[1] * (x.ndim - 1))
        return torch.where(brightest > 0, brightest / self.peak, 1.0)
