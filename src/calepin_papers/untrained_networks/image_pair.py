"""The two images of Figure 1, or two of scikit-image where the public data is missing."""

import numpy as np
import torch
from torch import Tensor

from calepin.datasets import data_path, has_data, load_sample, read_image

__all__ = ["load_pair", "shrink", "sketch_shape"]

_GRAY = np.array([0.2989, 0.587, 0.114])
_CENTRE = 256


def load_pair(size: int) -> tuple[dict[str, Tensor], bool]:
    """Return art and grass (1, size, size) as the authors prepare them, and whether they are the paper's.

    Gray, the central 256 pixels, divided by the maximum; then averaged down to `size`.
    """
    papers = has_data("cs_images")
    if papers:
        folder = data_path("cs_images")
        pixels = {
            "art": read_image(folder / "art.jpeg").pixels,
            "grass": read_image(folder / "grass.jpg").pixels,
        }
    else:
        pixels = {"art": load_sample("moon").pixels, "grass": load_sample("grass").pixels}
    return {name: shrink(image, size) for name, image in pixels.items()}, papers


def shrink(pixels: np.ndarray, size: int) -> Tensor:
    """Return the gray centre of an image, averaged down to (1, size, size), its maximum 1."""
    gray = pixels @ _GRAY if pixels.ndim == 3 else pixels
    if _CENTRE % size:
        raise ValueError(f"size: expected a divisor of {_CENTRE}, got {size}")
    top, left = ((n - _CENTRE) // 2 for n in gray.shape)
    centre = gray[top : top + _CENTRE, left : left + _CENTRE]
    step = _CENTRE // size
    small = (centre / centre.max()).reshape(size, step, size, step).mean((1, 3))
    return torch.as_tensor(small, dtype=torch.float32)[None]


def sketch_shape(size: int, fraction: float) -> tuple[tuple[int, int, int], int]:
    """Return the shape of an image and its number of measurements."""
    return (1, size, size), round(fraction * size * size)
