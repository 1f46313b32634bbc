"""Variance stabilisation of photon counts with read noise, once or from coarse to fine.

The photons of a pixel are y = Poisson(x) + N(0, r^2). For means of about 3 and more the values of

    f(y) = 2 sqrt(y + 3/8 + r^2)

have a standard deviation near 1 (Anscombe 1948; with read noise Starck, Murtagh and Bijaoui 1998). A denoiser
of Gaussian noise estimates D = E[f(y) | x]; the exact unbiased inverse is the x of this D (Makitalo and Foi
2011, 2013), which is computed here by summation.

At low counts f hides the signal. Then counts are denoised several times (Azzari and Foi 2016). Step i
stabilises

    s_i y + (1 - s_i) x_{i-1},

a share s_i of the counts and the rest of the estimate of the step before. If x_{i-1} were exact, this value
over s_i^2 would have the mean x / s_i^2, and a variance of as much plus that of read noise r / s_i: more
photons, whose f is nearer to linear. The first steps add up blocks of pixels, which have more photons too;
their estimate is spread over the pixels by cubic splines that keep the sum of each block.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

from calepin.imaging.distributions import normal_density, poisson_probability

__all__ = ["Stabiliser", "Steps", "expected_photons", "steps_for"]

Floats = NDArray[np.float64]
Steps = tuple[tuple[int, float], ...]
"""Side of the blocks and share of the counts of each step."""

_TABULATED = 400.0  # largest tabulated mean: from here on the asymptotic inverse is exact to 1e-7
_STEP = 0.02  # of the square root of the mean, between entries of the table
_NORMAL = np.linspace(-6, 6, 97)  # deviations of read noise in the sum over its distribution
_SPREADS = 9  # corrections of the sums of blocks

# Sides of the blocks, and the share of the counts in each step, up to a peak in photons. Chosen on the first
# four images of Set12.
_STEPS = (
    (0.5, ((8, 1.0), (8, 0.7), (4, 0.5), (2, 0.3))),
    (1.5, ((4, 1.0), (4, 0.7), (2, 0.5), (1, 0.3))),
    (3.0, ((4, 1.0), (2, 0.7), (2, 0.5), (1, 0.3))),
    (7.0, ((2, 1.0), (2, 0.7), (1, 0.55), (1, 0.4))),
    (20.0, ((1, 1.0), (1, 0.7), (1, 0.5))),
    (np.inf, ((1, 1.0),)),
)


@dataclass(frozen=True)
class Stabiliser:
    """The transformation of counts of which a share is mixed with an exact estimate, and its inverse.

    Parameters
    ----------
    share : float, default 1
        Share s of the counts.
    read : float, default 0
        Standard deviation r of the read noise, in photons.
    """

    share: float = 1.0
    read: float = 0.0

    def apply(self, values: NDArray) -> Floats:
        """Return ``2 sqrt(v / s^2 + 3/8 + (r / s)^2)`` of counts or mixtures v, 0 where the root has none."""
        inside = np.asarray(values, np.float64) / self.share**2 + self._constant
        return 2 * np.sqrt(np.maximum(inside, 0))

    def invert(self, values: NDArray) -> Floats:
        """Return the means x >= 0 whose transformed values have these means, 0 for smaller ones."""
        values = np.asarray(values, np.float64)
        table = _means(self.share, self.read)
        asymptotic = self.share**2 * (np.square(values) / 4 - 1 / 8) - self.read**2
        return np.where(values < table.x[-1], table(np.clip(values, table.x[0], table.x[-1])), asymptotic)

    @property
    def _constant(self) -> float:
        return 3 / 8 + (self.read / self.share) ** 2


@lru_cache(maxsize=64)
def _means(share: float, read: float) -> PchipInterpolator:
    """Return the means x as a monotone function of the mean of their transformed values."""
    stabiliser = Stabiliser(share, read)
    means = np.square(np.arange(0, np.sqrt(_TABULATED) + _STEP, _STEP))
    counts = np.arange(int(_TABULATED + 12 * np.sqrt(_TABULATED)))
    probability = poisson_probability(counts, means[:, None])
    noises, weights = (_NORMAL, normal_density(_NORMAL)) if read > 0 else (np.zeros(1), np.ones(1))
    expected = np.zeros(len(means))
    for noise, weight in zip(noises, weights / weights.sum(), strict=True):
        mixed = share * (counts + read * noise) + (1 - share) * means[:, None]
        expected += weight * np.einsum("ij,ij->i", probability, stabiliser.apply(mixed))
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(expected)) > 0])
    return PchipInterpolator(expected[rising], means[rising])


def steps_for(peak: float, n_fit: int) -> Steps:
    """Return the steps for counts of a peak.

    Parameters
    ----------
    peak : float
        Photons of the brightest pixels; with read noise their squared signal-to-noise ratio.
    n_fit : int
        How many of the smallest images fit along the shorter side: the side of a block is no larger.
    """
    steps = next(steps for most, steps in _STEPS if peak <= most)
    largest = 2 ** int(np.log2(max(n_fit, 1)))
    return tuple((min(side, largest), share) for side, share in steps)


def expected_photons(
    photons: NDArray,
    read: float,
    steps: Steps,
    denoise: Callable[[Floats, int], NDArray],
) -> Floats:
    """Return the estimate of x >= 0 from photons (h, w) or (h, w, 3).

    Parameters
    ----------
    photons : array
        Photons with read noise of the standard deviation `read`.
    read : float
        In photons.
    steps : tuple of (int, float)
        As of `steps_for`.
    denoise : function
        Called as ``denoise(values, step)`` with an image whose noise has standard deviation 1, and the number
        of the step; returns the denoised image.
    """
    height, width = photons.shape[:2]
    most = max(side for side, _ in steps)
    margins = [(0, -height % most), (0, -width % most), *[(0, 0)] * (photons.ndim - 2)]
    whole = np.pad(photons.astype(np.float64), margins, mode="symmetric")
    estimate = whole
    for step, (side, share) in enumerate(steps):
        stabiliser = Stabiliser(share, float(read * side))
        mixed = _sums(share * whole + (1 - share) * estimate, side)
        means = stabiliser.invert(denoise(stabiliser.apply(mixed), step))
        estimate = np.maximum(_spread(means, side, whole.shape), 0)
    return estimate[:height, :width]


def _sums(image: Floats, side: int) -> Floats:
    """Return the sums of blocks of pixels."""
    height, width = image.shape[:2]
    blocks = image.reshape(height // side, side, width // side, side, *image.shape[2:])
    return blocks.sum(axis=(1, 3)) if side > 1 else image


def _spread(sums: Floats, side: int, shape: tuple[int, ...]) -> Floats:
    """Return a smooth image whose blocks have these sums."""
    if side == 1:
        return sums
    image = np.zeros(shape)
    factors = (side, side, *[1] * (len(shape) - 2))
    for _ in range(_SPREADS):
        missing = (sums - _sums(image, side)) / side**2
        image += np.asarray(ndimage.zoom(missing, factors, order=3, mode="reflect", grid_mode=True))
    return image
