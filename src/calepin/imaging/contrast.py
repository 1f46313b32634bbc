"""The contrast of an image in units of its noise."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["value_range"]

BLOCK = 4  # pixels per side whose mean is taken, so that noise widens the range less
OUTSIDE = 1e-3  # share of the blocks that are left out at each end


def value_range(plane: NDArray[np.floating]) -> float:
    """Return the range of a noisy plane (h, w): of means of 4x4 pixels, without the extreme ones."""
    height, width = (size // BLOCK * BLOCK for size in plane.shape)
    blocks = plane[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean((1, 3))
    low, high = np.quantile(blocks, [OUTSIDE, 1 - OUTSIDE])
    return float(high - low)
