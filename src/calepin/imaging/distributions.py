"""Probabilities from `scipy.special`: importing `scipy.stats` takes as long as denoising a small image."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtri, gammaincinv, gammaln, ndtr, pdtr, pdtrc, xlogy

__all__ = [
    "chi2_quantile",
    "gamma_quantile",
    "normal_above",
    "normal_below",
    "normal_density",
    "poisson_above",
    "poisson_below",
    "poisson_probability",
]

Floats = NDArray[np.float64]


def normal_density(x: ArrayLike) -> Floats:
    """Return the density of the standard normal distribution."""
    return np.exp(-0.5 * np.square(x, dtype=np.float64)) / np.sqrt(2 * np.pi)


def normal_below(x: ArrayLike) -> Floats:
    """Return P(X <= x) of the standard normal distribution."""
    return ndtr(x)


def normal_above(x: ArrayLike) -> Floats:
    """Return P(X > x) of the standard normal distribution."""
    return ndtr(np.negative(x))


def gamma_quantile(probability: float, shape: float, scale: float) -> float:
    """Return the quantile of a gamma distribution."""
    return float(scale * gammaincinv(shape, probability))


def chi2_quantile(probability: ArrayLike, degrees: float) -> Floats:
    """Return the quantile of a chi-squared distribution."""
    return chdtri(degrees, 1 - np.asarray(probability, dtype=np.float64))


def poisson_below(counts: ArrayLike, mean: ArrayLike) -> Floats:
    """Return P(N <= counts) of a Poisson variable."""
    counts = np.floor(counts)
    return np.where(counts < 0, 0.0, pdtr(np.maximum(counts, 0), mean))


def poisson_above(counts: ArrayLike, mean: ArrayLike) -> Floats:
    """Return P(N > counts) of a Poisson variable."""
    counts = np.floor(counts)
    return np.where(counts < 0, 1.0, pdtrc(np.maximum(counts, 0), mean))


def poisson_probability(counts: ArrayLike, mean: ArrayLike) -> Floats:
    """Return P(N = counts) of a Poisson variable, for whole counts >= 0."""
    return np.exp(xlogy(counts, mean) - gammaln(np.add(counts, 1.0)) - mean)
