"""Photon counts: what an image of them is, its brightest pixels, and what no noise explains."""

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import rank_filter, uniform_filter

from calepin.datasets.noise import PoissonGaussianNoise, PoissonNoise
from calepin.imaging.distributions import poisson_above, poisson_below

__all__ = ["check_counts", "estimate_peak", "in_units", "isolated", "photons_of", "with_unexplained"]

_UNEXPLAINED = 1e-3  # probability that noise alone changes a pixel of an image
_BELOW = 0.01  # fraction of pixels below the offset that is said
_DIM = 0.2  # photons of the brightest pixels that are hardly an image
_NEIGHBOURS = np.ones((3, 3), bool)
_NEIGHBOURS[1, 1] = False


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


def photons_of(image: NDArray, noise: PoissonNoise | PoissonGaussianNoise) -> tuple[NDArray, float]:
    """Return the photons of an image, and the standard deviation of their read noise."""
    if isinstance(noise, PoissonNoise):
        check_counts(image)
        return image, 0.0
    if noise.offset == 0 and noise.read == 0 and (image < 0).any():
        raise ValueError(
            f"image: expected no negative values without an offset and read noise, got {np.min(image):g}"
        )
    photons, read = np.subtract(image, noise.offset, dtype=np.float64), noise.read / noise.gain
    photons /= noise.gain
    _check_camera(photons, read)
    return photons, read


def _check_camera(photons: NDArray, read: float) -> None:
    """Raise ValueError for an image without light, and warn of an offset or a gain that hardly fit."""
    if not (photons > 0).any():
        raise ValueError(
            "image: expected values above the offset, got none: is it too large, or the image in other units?"
        )
    below = float(np.mean(photons < -4 * read - 1))
    if below > _BELOW:
        warnings.warn(
            f"offset: {below:.0%} of the pixels lie further below it than the read noise explains: is it too "
            "large, or the image in other units?",
            stacklevel=5,
        )
    brightest = float(np.quantile(photons, 0.999))
    if read < brightest < _DIM:
        warnings.warn(
            f"gain: the brightest pixels have {brightest:.2g} photons: is it too large?",
            stacklevel=5,
        )


def in_units(photons: NDArray, noise: PoissonNoise | PoissonGaussianNoise) -> NDArray:
    """Return expected photons in the units of the image."""
    return photons if isinstance(noise, PoissonNoise) else noise.gain * photons + noise.offset


def isolated(counts: NDArray) -> NDArray[np.bool_]:
    """Return where single pixels are bright beyond what their neighbours explain.

    Sums of blocks of pixels would spread the photons of points of light. A count is isolated if one as large
    has a probability of less than 0.001 in a whole image of this size, its mean being that of the two
    largest neighbours (a line has two) or, if this is more, of the 9x9 pixels around it.
    """
    planes = np.atleast_3d(np.asarray(counts, np.float64))
    around = (81 * uniform_filter(planes, 9, axes=(0, 1)) - planes) / 80
    two = [rank_filter(planes, rank, footprint=_NEIGHBOURS[..., None]) for rank in (-1, -2)]
    expected = np.maximum(np.maximum(around, 0), sum(two) / 2)
    tail = poisson_above(planes - 1, expected)
    return (tail < _UNEXPLAINED / planes.size).reshape(np.shape(counts))


def with_unexplained(mean: NDArray[np.float64], counts: NDArray) -> NDArray[np.float64]:
    """Return a denoised mean with the counts themselves where no noise explains them.

    On a ground of nearly no counts the noise is weaker than the transformation assumes, so that a single
    bright pixel is taken for noise and vanishes. Where such a count or a larger one (below the mean, a
    smaller one) has a probability of less than 0.001 in a whole image of this size, it is the estimate.
    """
    far = np.abs(counts - mean) > 2 + 3 * np.sqrt(mean)
    y, expected = counts[far], mean[far]
    tail = np.where(y > expected, poisson_above(y - 1, expected), poisson_below(y, expected))
    found = mean.copy()
    found[far] = np.where(tail < _UNEXPLAINED / counts.size, y, expected)
    return found
