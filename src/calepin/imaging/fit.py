"""Whether a denoised image fits the noisy one: a test of the residual, which needs no clean image.

The residual y - x of the true image x is the noise n. Where a denoiser removes more than that, it removes
parts of the image, and the squares of its residual sum to more than those of the noise, for which

    E[sum n^2] = sum v,   Var[sum n^2] = sum (2 v^2 + k)

for independent entries of variance v and fourth cumulant k (0 for Gaussian noise, v for Poisson noise).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["fits"]

BLOCK = 32  # pixels per side of the squares that are tested one by one
LOCAL = 2.0  # times the variance of the noise that the residual of a square may have: as much error as noise
DEVIATIONS = 4.0  # standard deviations of the sum of squares that are due to chance


def fits(
    noisy: NDArray[np.floating],
    denoised: NDArray[np.floating],
    variance: NDArray[np.floating] | float,
    cumulant: NDArray[np.floating] | float,
) -> bool:
    """Return whether the residual of a plane is no larger than the noise, and nowhere twice as large.

    Parameters
    ----------
    noisy, denoised : arrays (h, w)
        The plane with and without noise.
    variance, cumulant : floats or arrays (h, w)
        Variance and fourth cumulant of the noise of each pixel.
    """
    squares = np.square(np.subtract(noisy, denoised, dtype=np.float64))
    residual, expected, spread = (
        _sums(np.broadcast_to(values, squares.shape))
        for values in (squares, variance, 2 * np.square(variance) + cumulant)
    )
    everywhere = residual.sum() <= expected.sum() + DEVIATIONS * np.sqrt(spread.sum())
    return bool(everywhere and (residual <= LOCAL * expected + DEVIATIONS * np.sqrt(spread)).all())


def _sums(plane: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the sums over squares of BLOCK pixels per side or a little more."""
    rows, columns = (np.linspace(0, n, max(1, n // BLOCK), endpoint=False).astype(int) for n in plane.shape)
    return np.add.reduceat(np.add.reduceat(plane.astype(np.float64), rows), columns, axis=1)
