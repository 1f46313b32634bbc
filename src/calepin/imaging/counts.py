"""Photon counts as an image with Gaussian noise, and back.

For counts y ~ Poisson(x), the values of

    f(y) = 2 sqrt(y + 3/8)

have a standard deviation near 1 for means of about 3 and more (Anscombe 1948). A denoiser of Gaussian noise
estimates D = E[f(y) | x]; the exact unbiased inverse is the x of this D. The algebraic inverse
(D / 2)^2 - 3/8 is too small, because f is concave. Source: Makitalo and Foi (2011), Optimal inversion of the
Anscombe transformation in low-count Poisson image denoising.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import uniform_filter

__all__ = ["check_counts", "estimate_peak", "inverse_anscombe", "stabilised", "with_unexplained"]

_TABULATED = 400.0  # largest tabulated mean: from here on the asymptotic inverse is exact to 1e-7
_UNEXPLAINED = 1e-3  # probability that noise alone changes a pixel of an image
_STEP = 0.02  # of the square root of the mean, between entries of the table


def check_counts(image: NDArray) -> None:
    """Raise ValueError unless all entries are whole numbers of at least 0."""
    if (image < 0).any() or (image.dtype.kind == "f" and (image != np.floor(image)).any()):
        raise ValueError("image: expected counts for PoissonNoise, whole numbers of at least 0")


def estimate_peak(counts: NDArray) -> float:
    """Return the expected count of the brightest pixels: nearly the largest of the means of 9x9 pixels.

    The quantile .99 of these means is within 20 % of the peak on photographs, from 0.5 to 100 photons.
    """
    means = uniform_filter(counts.astype(np.float64), 9, axes=(0, 1))
    return float(np.quantile(means, 0.99))


def stabilised(counts: NDArray) -> NDArray[np.float64]:
    """Return 2 sqrt(y + 3/8), whose noise has a standard deviation near 1."""
    return 2 * np.sqrt(counts.astype(np.float64) + 3 / 8)


def inverse_anscombe(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the means x >= 0 with E[2 sqrt(Poisson(x) + 3/8)] = D for the values D, 0 for smaller ones."""
    values = np.asarray(values, dtype=np.float64)
    table = _means()
    asymptotic = np.square(values) / 4 - 1 / 8
    return np.where(values < table.x[-1], table(np.clip(values, table.x[0], table.x[-1])), asymptotic)


def with_unexplained(mean: NDArray[np.float64], counts: NDArray) -> NDArray[np.float64]:
    """Return a denoised mean with the counts themselves where no noise explains them.

    On a ground of nearly no counts the noise is weaker than the transformation assumes, so that a single
    bright pixel is taken for noise and vanishes. Where such a count or a larger one (below the mean, a
    smaller one) has a probability of less than 0.001 in a whole image of this size, it is the estimate.
    """
    far = np.abs(counts - mean) > 2 + 3 * np.sqrt(mean)
    y, expected = counts[far], mean[far]
    tail = np.where(y > expected, stats.poisson.sf(y - 1, expected), stats.poisson.cdf(y, expected))
    found = mean.copy()
    found[far] = np.where(tail < _UNEXPLAINED / counts.size, y, expected)
    return found


@cache
def _means() -> PchipInterpolator:
    """Return the means x as a monotone function of D = E[2 sqrt(Poisson(x) + 3/8)]."""
    means = np.square(np.arange(0, np.sqrt(_TABULATED) + _STEP, _STEP))
    counts = np.arange(int(_TABULATED + 12 * np.sqrt(_TABULATED)))
    return PchipInterpolator(stats.poisson.pmf(counts, means[:, None]) @ stabilised(counts), means)
