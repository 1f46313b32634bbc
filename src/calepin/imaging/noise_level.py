"""Estimate of the noise level of an image, from flat patches."""

import numpy as np
from scipy import stats

from calepin.core.arguments import check_arguments

__all__ = ["estimate_noise"]

PATCH_SIZE = 7
MAX_PATCHES = 250_000
CONFIDENCE = 0.99  # probability that a flat patch is accepted; closer to 1, faint texture is accepted, too


def estimate_noise(image: np.ndarray, *, n_iter: int = 5) -> float:
    """Estimate the standard deviation of white Gaussian noise in an image.

    A patch is x + n with n ~ N(0, sigma^2 I). If x lies in a subspace, the smallest eigenvalue
    of the covariance of the patches is sigma^2. Textured patches do not lie in a subspace, so the covariance
    is taken over patches whose gradient energy can be explained by noise alone, with the sigma of the
    previous round (Liu, Tanaka and Okutomi 2013). The smallest of q sample eigenvalues of n patches is near
    sigma^2 (1 - sqrt(q / n))^2 (Marchenko and Pastur 1967); this factor is divided out.

    Parameters
    ----------
    image : float array (h, w) or (h, w, channels)
        The noisy image, at least 16 pixels per side. If all values lie in [0, 1], patches with a pixel
        of 0 or 1 are left out, because their noise is clipped.
    n_iter : int
        Rounds of selecting flat patches.

    Returns
    -------
    float
        Standard deviation, in the units of the image; the root mean square over channels.

    Raises
    ------
    ValueError
        An image that is too small, not real and finite, or of another shape.
    """
    check_arguments(estimate_noise, locals())
    image = np.asarray(image)
    if image.ndim not in (2, 3) or min(image.shape[:2]) < 16:
        raise ValueError(
            f"image: expected shape (h, w) or (h, w, channels) with at least 16 pixels per side, "
            f"got {image.shape}"
        )
    if image.dtype.kind != "f" or not np.isfinite(image).all():
        raise ValueError(f"image: expected finite floating-point numbers, got {image.dtype}")
    planes = np.moveaxis(np.atleast_3d(image), 2, 0)
    return float(np.sqrt(np.mean([_plane_variance(plane, n_iter) for plane in planes])))


def _plane_variance(plane: np.ndarray, n_iter: int) -> float:
    patches = _unclipped(_some_patches(plane.astype(np.float64) - plane.mean(dtype=np.float64)), plane)
    gradients = _gradient_operator(PATCH_SIZE)
    energy = np.square(patches @ gradients.T).sum(axis=1)
    # The energy of a flat patch with unit noise is approximately gamma distributed, with equal mean and rank.
    rank, trace = np.linalg.matrix_rank(gradients), np.square(gradients).sum()
    ceiling = float(stats.gamma.ppf(CONFIDENCE, rank / 2, scale=2 * trace / rank))
    variance = _smallest_eigenvalue(patches)
    for _ in range(n_iter):
        flat = patches[energy < ceiling * variance]
        if len(flat) < 4 * patches.shape[1]:
            break  # too few for a covariance: keep the last estimate
        variance = _smallest_eigenvalue(flat)
    return variance


def _some_patches(plane: np.ndarray) -> np.ndarray:
    """Return all patches, or about MAX_PATCHES of them on a grid."""
    step = int(np.ceil(np.sqrt(plane.size / MAX_PATCHES)))
    windows = np.lib.stride_tricks.sliding_window_view(plane, (PATCH_SIZE, PATCH_SIZE))
    return windows[::step, ::step].reshape(-1, PATCH_SIZE**2)


def _unclipped(patches: np.ndarray, plane: np.ndarray) -> np.ndarray:
    if plane.min() < 0 or plane.max() > 1:
        return patches
    centre = plane.mean(dtype=np.float64)
    low, high = -centre, 1 - centre
    inside = ((patches > low) & (patches < high)).all(axis=1)
    return patches[inside] if inside.sum() >= 4 * PATCH_SIZE**2 else patches


def _gradient_operator(p: int) -> np.ndarray:
    """Return the matrix of central differences along both axes of a patch of p x p pixels."""
    difference = (np.eye(p - 2, p, k=2) - np.eye(p - 2, p)) / 2
    return np.concatenate([np.kron(difference, np.eye(p)), np.kron(np.eye(p), difference)])


def _smallest_eigenvalue(patches: np.ndarray) -> float:
    n, q = patches.shape
    smallest = np.linalg.eigvalsh(np.cov(patches, rowvar=False))[0]
    return max(float(smallest), 0.0) / (1 - np.sqrt(q / n)) ** 2
