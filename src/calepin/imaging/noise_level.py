"""Estimate of the noise level of an image, from flat patches."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from calepin.core.arguments import check_arguments
from calepin.core.checks import pixels_of
from calepin.core.threads import single_threaded_blas
from calepin.imaging.distributions import gamma_quantile, normal_above, normal_below, normal_density

__all__ = ["estimate_noise"]

PATCH_SIZE = 7
MAX_PATCHES = 250_000
FEWEST = 4 * PATCH_SIZE**2  # patches for a covariance
CONFIDENCE = 0.99  # probability that a flat patch is accepted; closer to 1, faint texture is accepted, too
UNEQUAL = 2.0  # ratio of the largest level of a channel to the smallest that is said
CLIPPED = 0.6  # largest fraction of clipped pixels of a patch
REPEATED = 1e-3  # fraction of pixels with the smallest or largest value that makes it a limit of the range
WHITE = 1.55  # eigenvalue at 5/8 of their order, over the variance, above which noise is not white


def estimate_noise(image: np.ndarray, *, n_iter: int = 5) -> float:
    """Estimate the standard deviation of white Gaussian noise in an image.

    A patch is x + n with n ~ N(0, sigma^2 I). If x lies in a subspace, the smallest eigenvalue
    of the covariance of the patches is sigma^2. Textured patches do not lie in a subspace, so the covariance
    is taken over patches whose gradient energy can be explained by noise alone, with the sigma of the
    previous round (Liu, Tanaka and Okutomi 2013). The smallest of q sample eigenvalues of n patches is near
    sigma^2 (1 - sqrt(q / n))^2 (Marchenko and Pastur 1967); this factor is divided out.

    Patches in exactly constant areas (margins, saturated areas) are left out, because they have no noise, and
    so are patches with more than 60 % of clipped pixels. For the others, sigma is that of normal noise
    which has the variance found after it was clipped.

    Parameters
    ----------
    image : float array (h, w) or (h, w, channels)
        The noisy image, at least 16 pixels per side. If all values lie in [0, 1], pixels of 0 or 1 are
        clipped; otherwise those of the smallest or largest value, if there are many of them.
    n_iter : int
        Rounds of selecting flat patches.

    Returns
    -------
    float
        Standard deviation, in the units of the image; the root mean square over channels.

    Raises
    ------
    ValueError
        An image that is too small, not real and finite, or of another shape; a mask.

    Warns
    -----
    UserWarning
        The estimate is 0, the channels have different levels, most pixels are clipped, or the patches do not
        have the covariance of white noise.
    """
    image = pixels_of("image", image)
    check_arguments(estimate_noise, locals())
    if image.ndim not in (2, 3) or min(image.shape[:2]) < 16:
        raise ValueError(
            f"image: expected shape (h, w) or (h, w, channels) with at least 16 pixels per side, "
            f"got {image.shape}"
        )
    if image.dtype.kind != "f" or not np.isfinite(image).all():
        raise ValueError(f"image: expected finite floating-point numbers, got {image.dtype}")
    image = image.astype(np.result_type(image, np.float32), copy=False)
    with single_threaded_blas():  # so narrow matrices gain nothing from threads, which wait on a busy CPU
        levels = [_plane_level(plane, n_iter) for plane in np.moveaxis(np.atleast_3d(image), 2, 0)]
    sigma = float(np.sqrt(np.mean([level.variance for level in levels])))
    if sigma <= np.finfo(image.dtype).eps * np.abs(image).max():
        warnings.warn(
            "the noise level of the image is estimated as 0; give the level if the image has noise",
            stacklevel=2,
        )
        return 0.0
    own = np.sqrt([level.variance for level in levels])
    if own.max() > UNEQUAL * own.min():
        warnings.warn(
            "the channels have noise of different levels, "
            f"{', '.join(f'{one / own.max():.3g}' for one in own)} of the highest: the level is their mean "
            "(of variances); a call for each channel uses its own",
            stacklevel=2,
        )
    if any(level.clipped for level in levels):
        warnings.warn(
            "the estimated noise level is that of clipped noise: most pixels have the smallest "
            "or the largest value, so that the level before clipping cannot be known",
            stacklevel=2,
        )
    if not all(level.white for level in levels):
        warnings.warn(
            "the estimated noise level may be wrong: the noise is not white (neighbouring pixels are "
            "correlated), or there is texture everywhere; CorrelatedNoise, --psd estimated on the command "
            "line, takes its density",
            stacklevel=2,
        )
    return sigma


@dataclass(frozen=True)
class _Level:
    """Variance of the noise of a plane, and what is known of its distribution.

    `white` says whether patches have the covariance of white noise, `clipped` whether most pixels are
    clipped, so that the variance is that of the clipped noise.
    """

    variance: float
    white: bool
    clipped: bool = False


def _plane_level(plane: np.ndarray, n_iter: int) -> _Level:
    low, high = _limits(plane)
    step = int(np.ceil(np.sqrt(plane.size / MAX_PATCHES)))  # about MAX_PATCHES patches, on a grid
    constant = _touches_constant_area(plane)[::step, ::step].ravel()
    clipped = _clipped_fraction(plane, low, high)[::step, ::step].ravel() > CLIPPED
    usable = ~constant & ~clipped
    centre = plane.mean(dtype=np.float64)
    patches = _windows(plane.astype(np.float64) - centre)[::step, ::step].reshape(-1, PATCH_SIZE**2)
    if np.count_nonzero(usable) >= FEWEST:
        patches = patches[usable]
    flat, variance = _flat_patches(patches, n_iter)
    if flat is None and constant.any():
        return _Level(0.0, True)  # a drawing: nothing but constant areas and edges
    chosen = patches if flat is None else flat
    if 2 * np.count_nonzero(clipped & ~constant) > np.count_nonzero(~constant):
        return _Level(variance, True, clipped=True)
    variance = _unclipped(variance, chosen.mean(axis=1), low - centre, high - centre)
    return _Level(variance, _is_white(chosen, variance))


def _flat_patches(patches: np.ndarray, n_iter: int) -> tuple[np.ndarray | None, float]:
    """Return the flat patches, None if there are too few, and the variance of their noise."""
    gradients = _gradient_operator(PATCH_SIZE)
    energy = np.square(patches @ gradients.T).sum(axis=1)
    # The energy of a flat patch with unit noise is approximately gamma distributed, with equal mean and rank.
    rank, trace = np.linalg.matrix_rank(gradients), np.square(gradients).sum()
    ceiling = gamma_quantile(CONFIDENCE, rank / 2, 2 * trace / rank)
    flat, variance = None, _smallest_eigenvalue(patches)
    for _ in range(n_iter):
        selected = patches[energy < ceiling * variance]
        if len(selected) < FEWEST:
            break  # too few for a covariance: keep the last estimate
        flat, variance = selected, _smallest_eigenvalue(selected)
    return flat, variance


def _windows(plane: np.ndarray) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(plane, (PATCH_SIZE, PATCH_SIZE))


def _limits(plane: np.ndarray) -> tuple[float, float]:
    """Return the values at which the noise is clipped, or infinities."""
    low, high = plane.min(), plane.max()
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    many = REPEATED * plane.size
    return (
        float(low) if np.count_nonzero(plane == low) > many else -np.inf,
        float(high) if np.count_nonzero(plane == high) > many else np.inf,
    )


def _clipped_fraction(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the fraction of clipped pixels of each patch."""
    clipped = ((plane <= low) | (plane >= high)).astype(np.float32)
    half = PATCH_SIZE // 2
    if not clipped.any():
        return np.zeros(_windows(plane).shape[:2])
    return ndimage.uniform_filter(clipped, PATCH_SIZE)[half:-half, half:-half]


def _touches_constant_area(plane: np.ndarray) -> np.ndarray:
    """Return which patches have a pixel in common with a patch that is exactly constant."""
    half = PATCH_SIZE // 2
    if not (plane[:, 1:] == plane[:, :-1]).any():  # most floating-point images: the filters would take longer
        return np.zeros(_windows(plane).shape[:2], dtype=bool)
    highest, lowest = (f(plane, PATCH_SIZE) for f in (ndimage.maximum_filter, ndimage.minimum_filter))
    constant = (highest == lowest)[half:-half, half:-half]
    # patches have a pixel in common if their positions differ by less than their size along both axes
    reach = 2 * PATCH_SIZE - 1
    return ndimage.maximum_filter(constant, reach, mode="constant") if constant.any() else constant


def _gradient_operator(p: int) -> np.ndarray:
    """Return the matrix of central differences along both axes of a patch of p x p pixels."""
    difference = (np.eye(p - 2, p, k=2) - np.eye(p - 2, p)) / 2
    return np.concatenate([np.kron(difference, np.eye(p)), np.kron(np.eye(p), difference)])


def _smallest_eigenvalue(patches: np.ndarray) -> float:
    n, q = patches.shape
    smallest = np.linalg.eigvalsh(np.cov(patches, rowvar=False))[0]
    return max(float(smallest), 0.0) / (1 - np.sqrt(q / n)) ** 2


def _is_white(patches: np.ndarray, variance: float) -> bool:
    """Return whether the eigenvalue at 5/8 of their order is near the variance of the noise.

    Edges and slopes raise the largest eigenvalues. Correlated noise raises most of them over the smallest,
    from which the variance comes.
    """
    eigenvalues = np.linalg.eigvalsh(np.cov(patches, rowvar=False))
    return bool(eigenvalues[5 * len(eigenvalues) // 8] <= WHITE * variance)


def _unclipped(variance: float, means: np.ndarray, low: float, high: float) -> float:
    """Return the variance of normal noise that has the given mean variance once it is clipped.

    `means` are the means of patches of the clipped noise. The mean and variance of a clipped normal variable
    are functions of its mean and deviation before; the deviation is found by fixed-point iteration.
    """
    if variance == 0 or (np.isinf(low) and np.isinf(high)):
        return variance
    sigma = np.sqrt(variance)
    for _ in range(30):
        grid = np.linspace(max(low, means.min()) - 2 * sigma, min(high, means.max()) + 2 * sigma, 512)
        clipped_means, clipped_variances = _clipped_moments(grid, sigma, low, high)
        remaining = np.interp(means, clipped_means, clipped_variances).mean() / sigma**2
        sigma = np.sqrt(variance / max(remaining, 0.1))  # bounded where nearly all pixels are clipped
    return float(sigma**2)


def _clipped_moments(
    mean: np.ndarray, sigma: float, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and variances of normal variables clipped at two limits, one of which may be infinite."""
    below, above = (low - mean) / sigma, (high - mean) / sigma
    density = normal_density(below), normal_density(above)
    p_low, p_high = normal_below(below), normal_above(above)
    inside = 1 - p_low - p_high
    # moments of the standardised variable: the limits are 0 where they have no probability
    a, b = np.where(np.isinf(below), 0, below), np.where(np.isinf(above), 0, above)
    first = density[0] - density[1] + a * p_low + b * p_high
    second = inside + a * density[0] - b * density[1] + a**2 * p_low + b**2 * p_high
    return mean + sigma * first, sigma**2 * (second - first**2)
