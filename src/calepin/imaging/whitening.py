"""Correlated noise: a pilot image from windows of cosines, and patches whose noise is made white.

In units of the noise, patch i is y_i = x_i + n_i, n_i ~ N(0, N), with one covariance N for all patches of a
plane. With the mean m_i of the same patch of a pilot image,

    W (y_i - m_i),    W = (N + ridge I)^(-1/2)

has white noise of variance 1 or less, which dictionaries for white noise are made for. The ridge is what the
density does not know: frequencies that it leaves without noise have errors of sparse codes, too.

The pilot: overlapping windows of 32x32 pixels are transformed to cosines. The noise of coefficient k has the
variance v_k = c_k^T R c_k, with the cosine c_k and the covariance R of a window. First, coefficients beyond
2.7 standard deviations are kept (Yaroslavsky 1996; Guleryuz 2007). Then, with the coefficients e_k of that
image, the noisy ones are multiplied by e_k^2 / (e_k^2 + v_k) (empirical Wiener filter; Ghael, Sayeed and
Baraniuk 1997). Windows are averaged with weights near the inverse of their variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import dct, dctn, idctn

from calepin.datasets.correlated_noise import CorrelatedNoise
from calepin.imaging.patches import random_patches
from calepin.imaging.result import OPPONENT

__all__ = ["Whitening", "covariances", "noise_of_planes", "window_estimate"]

WINDOW, STEP = 32, 8  # pixels per side of a window, and between windows
THRESHOLD = 2.7  # standard deviations
LEAST = 1e-3  # variance of a coefficient, relative to that of a pixel
KAISER = 2.0  # shape of the weights of the pixels of a window
BAND = 16  # rows of windows that are in memory at the same time
RIDGE = 0.01  # variance, relative to that of a pixel


def noise_of_planes(noise: CorrelatedNoise, n_planes: int) -> list[CorrelatedNoise]:
    """Return the noise of each plane of `calepin.imaging.result.to_planes`, in units of `noise.sigma`."""
    psd = noise.psd / noise.sigma**2
    if psd.ndim == 2:
        return [CorrelatedNoise(psd)] * n_planes
    return [CorrelatedNoise(psd @ weights) for weights in np.square(OPPONENT)]


def covariances(noises: Sequence[CorrelatedNoise], patch_size: int) -> np.ndarray:
    """Return the covariances (c, p^2, p^2) of the noise of patches of each plane, with the ridge."""
    ridge = RIDGE * np.eye(patch_size**2)
    found = [noise.covariance(patch_size) + ridge for noise in noises]
    # a density that is too short for a patch gives no covariance: negative variances become 0
    return np.stack([_power(N, 1.0, least=RIDGE) for N in found])


@dataclass(frozen=True)
class Whitening:
    """Linear maps between patches and whitened patches, for each plane.

    Attributes
    ----------
    pilot : float32 array (c, h, w)
        The planes whose patch means are subtracted.
    forward, backward : float32 arrays (c, p^2, p^2)
        W and its inverse, symmetric.
    """

    pilot: np.ndarray
    forward: np.ndarray
    backward: np.ndarray

    @classmethod
    def of(cls, pilot: np.ndarray, covariance: np.ndarray) -> "Whitening":
        """Return the maps for these covariances (c, p^2, p^2)."""
        forward, backward = (
            np.stack([_power(N, exponent) for N in covariance]).astype(np.float32) for exponent in (-0.5, 0.5)
        )
        return cls(pilot, forward, backward)

    def samples(self, planes: np.ndarray, n_patches: int, generator: np.random.Generator) -> np.ndarray:
        """Return whitened patches from random positions, equally many of each plane."""
        p = int(np.sqrt(self.forward.shape[1]))
        share = n_patches // len(planes)
        return np.concatenate(
            [
                random_patches(planes[c : c + 1], p, share, generator, means_of=self.pilot[c : c + 1])
                @ self.forward[c]
                for c in range(len(planes))
            ]
        )

    def atoms(self, start: np.ndarray) -> np.ndarray:
        """Return whitened atoms of unit norm, the first of them constant, as many as given."""
        constant = np.ones((1, start.shape[1]), dtype=np.float32)
        atoms = np.concatenate([constant, start[: len(start) - 1]]) @ self.forward[0]
        return atoms / np.linalg.norm(atoms, axis=1, keepdims=True)

    def unwhitened(self, atoms: np.ndarray) -> np.ndarray:
        """Return atoms as patches of an image, of unit norm."""
        patches = atoms @ self.backward[0]
        return patches / np.linalg.norm(patches, axis=1, keepdims=True)


def window_estimate(planes: np.ndarray, noises: Sequence[CorrelatedNoise]) -> np.ndarray:
    """Return a first estimate of planes (c, h, w), in units of the noise."""
    return np.stack([_plane_estimate(plane, noise) for plane, noise in zip(planes, noises, strict=True)])


def _power(N: np.ndarray, exponent: float, *, least: float = 0.0) -> np.ndarray:
    values, vectors = np.linalg.eigh(N)
    return (vectors * np.maximum(values, least) ** exponent) @ vectors.T


def _plane_estimate(plane: np.ndarray, noise: CorrelatedNoise) -> np.ndarray:
    h, w = plane.shape
    before = WINDOW - STEP  # so that pixels at the border are in as many windows as others
    after = [before + -(n + 2 * before) % STEP for n in plane.shape]
    padded = np.pad(plane, [(before, a) for a in after], mode="symmetric")
    variance = _coefficient_variances(noise)
    pilot = _filtered(padded, variance, None)
    return _filtered(padded, variance, pilot)[before : before + h, before : before + w]


def _coefficient_variances(noise: CorrelatedNoise) -> np.ndarray:
    """Return the variance of the noise of each cosine of a window."""
    r = noise.autocovariance(WINDOW)
    cosines = np.asarray(dct(np.eye(WINDOW), axis=0, norm="ortho"))
    products = np.stack([np.correlate(c, c, mode="full") for c in cosines])  # over pairs at each distance
    least = LEAST * r[WINDOW - 1, WINDOW - 1]
    return np.maximum(products @ r @ products.T, least or LEAST).astype(np.float32)


def _filtered(plane: np.ndarray, variance: np.ndarray, pilot: np.ndarray | None) -> np.ndarray:
    """Return a plane, whose sides are multiples of the step, from its filtered windows."""
    shape = tuple(n // STEP for n in plane.shape)
    total = np.zeros((shape[0], STEP, shape[1], STEP), dtype=np.float32)
    weight = np.zeros_like(total)
    kaiser = np.kaiser(WINDOW, KAISER).astype(np.float32)
    window = np.outer(kaiser, kaiser)
    parts = WINDOW // STEP
    n_rows, n_columns = (n - parts + 1 for n in shape)
    for first in range(0, n_rows, BAND):
        last = min(first + BAND, n_rows)
        coefficients = _cosines(plane, first, last)
        if pilot is None:
            gain = (np.square(coefficients) > THRESHOLD**2 * variance).astype(np.float32)
            gain[:, :, 0, 0] = 1
        else:
            power = np.square(_cosines(pilot, first, last))
            gain = power / (power + variance)
        own = window / np.maximum((np.square(gain) * variance).sum(axis=(2, 3)), LEAST)[..., None, None]
        found = own * np.asarray(idctn(gain * coefficients, axes=(2, 3), norm="ortho"))
        for a in range(parts):
            for b in range(parts):
                part = np.s_[:, :, a * STEP : (a + 1) * STEP, b * STEP : (b + 1) * STEP]
                place = np.s_[first + a : last + a, :, b : b + n_columns]
                total[place] += found[part].transpose(0, 2, 1, 3)
                weight[place] += own[part].transpose(0, 2, 1, 3)
    return (total / weight).reshape(plane.shape)


def _cosines(plane: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return the coefficients of rows `first` to `last` of windows."""
    rows = plane[first * STEP : (last - 1) * STEP + WINDOW]
    windows = np.lib.stride_tricks.sliding_window_view(rows, (WINDOW, WINDOW))[::STEP, ::STEP]
    return np.asarray(dctn(windows, axes=(2, 3), norm="ortho"))
