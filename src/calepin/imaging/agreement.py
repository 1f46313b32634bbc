"""How far another estimate of an image can be believed, place by place, without a clean image.

Two good estimates of an image differ by a small part of what they remove and restore. Their squared distance,
averaged over a window, is compared with the part of the noise that the residual of the other one lacks,
v - |y - x|^2 for noise of variance v, which is about the risk of a good estimate. If the first one lacks
more, in strong noise, it keeps noise, which is not held against the other one. In photographs the ratio is
.1 to .2 on the whole; where the other estimate invents or loses a pattern, .3 to 100.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from calepin.imaging.contrast import value_range

__all__ = ["agreement"]

Plane = NDArray[np.float32]

WINDOW = 64  # pixels per side of the windows

# Ratios up to which the other estimate is fully believed, and from which not at all.
BELIEVED, DOUBTED = 0.08, 0.2

STRONG = 20.0  # range of values, in units of the noise, below which an estimate may keep noise

DEVIATIONS = 4.0  # standard deviations of the mean of squared noise that are added to what it spares


def agreement(
    noisy: NDArray[np.float32],
    estimate: NDArray[np.float32],
    other: NDArray[np.float32],
    level: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Return for each pixel of planes how far another estimate can be believed: 0 not at all, 1 fully.

    Parameters
    ----------
    noisy, estimate, other : float32 arrays (c, h, w)
        Planes in units of the noise, and two estimates of them.
    level : array (h, w) or (c, h, w), optional
        Standard deviation of the noise of each pixel. Default: 1.
    """
    levels = [None] * len(noisy) if level is None else np.broadcast_to(level, noisy.shape)
    return np.stack([_of_plane(*planes) for planes in zip(noisy, estimate, other, levels, strict=True)])


def _of_plane(
    noisy: Plane, estimate: Plane, other: Plane, level: NDArray[np.floating] | None
) -> NDArray[np.float32]:
    """Do it for one plane, to save memory."""
    variance = np.ones_like(noisy) if level is None else np.square(level, dtype=np.float32)
    pixels = min(WINDOW, noisy.shape[0]) * min(WINDOW, noisy.shape[1])
    chance = DEVIATIONS * np.sqrt(2 / pixels * _mean(np.square(variance)))
    noise = _mean(variance)
    own, spared = (np.maximum(noise - _mean(np.square(noisy - x)), 0) for x in (estimate, other))
    kept = np.maximum(own - spared, 0) if value_range(noisy) < STRONG else 0
    distance = _mean(np.square(estimate - other)) - kept
    ratio = distance / np.maximum(spared + chance, np.finfo(np.float32).eps)
    return np.asarray(np.clip((DOUBTED - ratio) / (DOUBTED - BELIEVED), 0, 1), dtype=np.float32)


def _mean(plane: Plane) -> Plane:
    """Return the means of squares over windows around each pixel."""
    return np.maximum(uniform_filter(plane, WINDOW), 0)  # running sums may end below zero
