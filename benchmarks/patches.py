"""Natural-image patches of the images that scikit-image ships: the same on every machine."""

import numpy as np
from skimage import data
from skimage.color import rgb2gray


def images() -> list[np.ndarray]:
    """Return gray images with values in [0, 1]."""
    colour = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    gray = [data.camera(), data.coins(), data.moon(), data.brick(), data.grass(), data.gravel()]
    return [image / 255.0 for image in gray] + [rgb2gray(image) for image in colour]


def patches(n: int, side: int, *, contrast: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return n patches (n, side * side) of random places, each with its mean removed, float32.

    `contrast` scales them, to set how many atoms a given penalty uses.
    """
    rng = np.random.default_rng(seed)
    sources = images()
    out = np.empty((n, side * side), dtype=np.float32)
    for k in range(n):
        source = sources[k % len(sources)]
        top = rng.integers(source.shape[0] - side + 1)
        left = rng.integers(source.shape[1] - side + 1)
        patch = source[top : top + side, left : left + side].ravel()
        out[k] = contrast * (patch - patch.mean())
    return out
