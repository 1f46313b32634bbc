"""Estimate of the power spectral density of the noise of an image, from flat windows.

Structure adds energy to a window, noise has the same density S in all of them. So S is the median periodogram
of the windows whose energy, over S, is what noise alone would have, in each of four bands of frequencies; the
windows depend on S and S on the windows, which is iterated. Blocks of least energy as the place of the noise:
Ponomarenko et al. 2007; a density for each frequency from them: Colom, Lebrun, Buades and Morel 2014.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from calepin.core.arguments import check_arguments
from calepin.core.checks import pixels_of
from calepin.datasets.correlated_noise import CorrelatedNoise
from calepin.imaging.distributions import chi2_quantile

__all__ = ["estimate_noise_psd"]

Floats = NDArray[np.float64]

SMALLEST = 48  # pixels per side of an image
WINDOW = 32  # pixels per side of a window; half of that for images of fewer than four windows per side
MAX_WINDOWS = 4000
BANDS = (2.5, 5.0, 9.0)  # radii between the bands, in frequencies of a window
START, LEAST = 0.1, 0.05  # share of the windows that are taken first, and at least
ROUNDS = 5
CEILING = 1.5  # standard deviations of the energy of noise, up to which a window is flat
FLOOR = 1e-6  # smallest density, relative to its mean
TINY = 1e-36  # the same, relative to the square of the range of the image
CONSTANT = 5  # pixels per side of an area that is exactly constant
CLIPPED = 0.05  # share of the pixels of a window at a limit of the range
REPEATED = 1e-3  # share of the pixels with the smallest or largest value that makes it a limit


def estimate_noise_psd(image: np.ndarray) -> CorrelatedNoise:
    """Estimate the power spectral density of stationary Gaussian noise in an image.

    The image is cut into overlapping windows of 32x32 pixels (16x16 below 128 pixels per side). From each, a
    fitted plane is subtracted; P_i(f) is its periodogram under a Hann window. In a flat window P_i(f) / S(f)
    is exponentially distributed with mean 1, so that

        S(f) = median of P_i(f) over flat windows / ln 2

    A window is flat if the mean of P_i(f) / S(f) is at most 1.5 standard deviations above 1 in each of four
    bands of frequencies. The first S is that of the tenth of the windows with the least energy over the
    lower quartile of all periodograms.

    Parameters
    ----------
    image : float array (h, w) or (h, w, 3)
        The noisy image, at least 48 pixels per side. The channels of a colour image have one choice of flat
        windows and a density each; their noise is taken as independent.

    Returns
    -------
    CorrelatedNoise
        The density at 32x32 (16x16) frequencies, in squared units of the image. Details finer than two of
        these frequencies are smoothed: correlation over more than 16 (8) pixels is not seen.

    Raises
    ------
    ValueError
        An image that is too small, not real and finite, constant, or of another shape; a mask.

    Warns
    -----
    UserWarning
        The density is 0, fewer than 5 % of the windows are flat, or most of them have clipped or constant
        pixels.

    Notes
    -----
    What fills all windows alike, such as the weave of a cloth, is taken as noise. So are shading and blurred
    structure at the lowest frequencies, if the noise is weaker than they are.

    References
    ----------
    Ponomarenko, Lukin, Zriakhov, Kaarna and Astola, "An automatic approach to lossy compression of AVIRIS
    images", IGARSS 2007. Colom, Lebrun, Buades and Morel, "A non-parametric approach for the estimation of
    intensity-frequency dependent noise", ICIP 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.datasets import CorrelatedNoise, add_noise, load_sample
    >>> from calepin.imaging import estimate_noise_psd
    >>> noise = CorrelatedNoise.from_kernel(np.ones((1, 5)), sigma=0.1)
    >>> found = estimate_noise_psd(add_noise(load_sample("camera").pixels, noise))
    >>> found.psd.shape, round(found.sigma, 1)
    ((32, 32), 0.1)
    """
    image = pixels_of("image", image)
    check_arguments(estimate_noise_psd, locals())
    colour = image.ndim == 3 and image.shape[2] == 3
    if (image.ndim != 2 and not colour) or min(image.shape[:2]) < SMALLEST:
        raise ValueError(
            f"image: expected shape (h, w) or (h, w, 3) with at least {SMALLEST} pixels per side, "
            f"got {image.shape}"
        )
    if image.dtype.kind != "f" or not np.isfinite(image).all():
        raise ValueError(f"image: expected finite floating-point numbers, got {image.dtype}")
    planes = np.moveaxis(np.atleast_3d(image), 2, 0).astype(np.float64)
    if (np.ptp(planes, axis=(1, 2)) == 0).any():
        raise ValueError("image: expected noise, got a constant image or channel")
    unit = np.ptp(planes)
    planes = (planes - planes.min()) / unit
    side = WINDOW if min(image.shape[:2]) >= 4 * WINDOW else WINDOW // 2
    usable = ~np.any([_bad_windows(plane, side) for plane in planes], axis=0)
    share_usable = np.count_nonzero(usable) / usable.size
    if share_usable < LEAST:
        usable[:] = True
    energy = np.stack([_periodograms(plane, side)[usable] for plane in planes], axis=-1)
    density, share_flat = _flat_density(energy)
    psd = np.square(unit) * _completed(density)
    noise = CorrelatedNoise(psd[..., 0] if image.ndim == 2 else psd)
    if noise.sigma <= np.finfo(image.dtype).eps * np.abs(image).max():
        _warn("it is 0")
    elif share_usable < 0.5:
        _warn("most windows of the image have constant or clipped pixels")
    elif share_flat < LEAST:
        _warn(f"only {100 * share_flat:.1f} % of the windows of the image are flat")
    return noise


def _warn(reason: str) -> None:
    warnings.warn(f"the estimated density of the noise may be wrong: {reason}", stacklevel=3)


def _windows(plane: NDArray, side: int) -> NDArray:
    """Return windows (n, side, side) at every quarter of their side, fewer of a large image."""
    step = max(side // 4, int(np.ceil(np.sqrt(plane.size / MAX_WINDOWS))))
    views = np.lib.stride_tricks.sliding_window_view(plane, (side, side))
    return views[::step, ::step].reshape(-1, side, side)


def _bad_windows(plane: Floats, side: int) -> NDArray[np.bool_]:
    """Return which windows touch a constant area or have many clipped pixels."""
    clipped = np.zeros(plane.shape, dtype=bool)
    for limit in (plane.min(), plane.max()):
        at_limit = plane == limit
        if np.count_nonzero(at_limit) > REPEATED * plane.size:
            clipped |= at_limit
    constant = ndimage.maximum_filter(plane, CONSTANT) == ndimage.minimum_filter(plane, CONSTANT)
    return _windows(constant, side).any(axis=(1, 2)) | (_windows(clipped, side).mean(axis=(1, 2)) > CLIPPED)


def _hann(side: int) -> Floats:
    """Return the weights of a window, of mean square 1."""
    weights = np.outer(*2 * (np.hanning(side + 2)[1:-1],))
    return weights / np.sqrt(np.mean(weights**2))


def _plane_terms(side: int) -> tuple[Floats, Floats]:
    """Return 1 and both coordinates (3, side, side), and the weighted sums of their squares."""
    u = np.arange(side) - (side - 1) / 2
    terms = np.stack([np.ones((side, side)), *np.meshgrid(u, u, indexing="ij")]).astype(np.float64)
    return terms, np.asarray(np.sum(_hann(side) * terms**2, axis=(1, 2)), dtype=np.float64)


def _periodograms(plane: Floats, side: int) -> Floats:
    """Return periodograms (n, side, side) of windows without their fitted planes."""
    weights = _hann(side)
    terms, squares = _plane_terms(side)
    windows = _windows(plane, side)
    # weighted least squares: the terms are orthogonal under the symmetric weights
    slopes = np.tensordot(windows, weights * terms, axes=((1, 2), (1, 2))) / squares
    flat = windows - np.tensordot(slopes, terms, axes=1)
    return np.square(np.abs(np.fft.fft2(weights * flat))) / side**2


def _left(side: int) -> Floats:
    """Return the expected periodogram of white noise of variance 1 without its fitted plane."""
    weights = _hann(side)
    terms, squares = _plane_terms(side)
    total = np.full((side, side), np.sum(weights**2))
    for term, square in zip(terms, squares, strict=True):
        of_term = np.fft.fft2(weights * term)
        total -= 2 * (of_term.conj() * np.fft.fft2(weights**2 * term)).real / square
        total += np.square(np.abs(of_term)) * np.sum((weights * term) ** 2) / square**2
    total[0, 0] = side**2  # nothing is left of the mean
    return total / side**2


def _density(energy: Floats, share: float) -> Floats:
    """Return the density (side, side, channels) from a quantile of periodograms (n, side, side, channels).

    Over the density they are exponentially distributed, at the four real frequencies as a squared normal
    number.
    """
    side = energy.shape[1]
    real = np.isin(np.arange(side), (0, side // 2))
    expected = np.where(np.outer(real, real), chi2_quantile(share, 1), -np.log1p(-share))
    found = np.quantile(energy, share, axis=0) / expected[..., None]
    return np.maximum(found, FLOOR * found.mean(axis=(0, 1)) + TINY)


def _excess(energy: Floats, density: Floats) -> Floats:
    """Return by how many standard deviations the energy of each window is above that of noise.

    It is the largest of the bands. The energy of a band, a mean of squares, is gamma distributed; its cube
    root is near normal (Wilson and Hilferty 1931).
    """
    side, channels = energy.shape[1], energy.shape[3]
    k = np.rint(side * np.fft.fftfreq(side))
    band = np.digitize(np.hypot(k[:, None], k), BANDS)
    ratio = np.mean(energy / density, axis=3)
    # frequencies that are independent under the window, each of them and its opposite once
    spread = 2 * np.mean(_hann(side) ** 4)
    excess = []
    for b in range(len(BANDS) + 1):
        n = channels * max(np.count_nonzero(band == b) / spread, 1)
        root = np.cbrt(ratio[:, band == b].mean(axis=1))
        excess.append(3 * np.sqrt(n) * (root - 1 + 1 / (9 * n)))
    return np.max(excess, axis=0)


def _flat_density(energy: Floats) -> tuple[Floats, float]:
    """Return the density of flat windows, and which share of the windows they are."""
    least = int(np.ceil(LEAST * len(energy)))
    first = int(np.ceil(START * len(energy)))
    density = _density(energy, 0.25)
    for _ in range(ROUNDS):
        chosen = np.argsort(_excess(energy, density), kind="stable")[:first]
        density = _density(energy[chosen], 0.5)
    flat = 0
    for _ in range(ROUNDS):
        excess = _excess(energy, density)
        flat = np.count_nonzero(excess < CEILING)
        chosen = np.argsort(excess, kind="stable")[: max(flat, least)]
        density = _density(energy[chosen], 0.5)
    return density, flat / len(energy)


def _completed(density: Floats) -> Floats:
    """Return a density with the share that fitted planes took, symmetric."""
    left = _left(len(density))[..., None]
    density = density / left
    around = [density[i, j] for i, j in ((0, 1), (1, 0), (1, 1), (-1, 1))]  # the others are symmetric
    density[0, 0] = np.mean(around, axis=0)
    return (density + np.roll(density[::-1, ::-1], 1, axis=(0, 1))) / 2
