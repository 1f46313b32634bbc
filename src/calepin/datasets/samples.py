"""Sample images and digits from the installed scikit-image and scikit-learn, without downloads."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calepin.datasets.images import Image, read_image

__all__ = ["SAMPLES", "load_digits", "load_sample"]

FILES = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble": "hubble_deep_field.jpg",
    "moon": "moon.png",
    "page": "page.png",
    "rocket": "rocket.jpg",
    "text": "text.png",
}

SAMPLES = tuple(FILES)
"""Names for `load_sample`; astronaut, cat, coffee, hubble and rocket are colour images."""


def load_sample(name: str) -> Image:
    """Return a sample image by name.

    Raises
    ------
    ValueError
        If no sample image has this name.
    FileNotFoundError
        If scikit-image is not installed.
    """
    if name not in FILES:
        raise ValueError(f"sample: expected one of {', '.join(SAMPLES)}, got {name!r}")
    # Find the folder without importing scikit-image, which takes a second.
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the sample images need scikit-image, which is not installed")
    return read_image(Path(spec.origin).parent / "data" / FILES[name])


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the 1797 digits of scikit-learn as rows of 64 pixels in [0, 1], and their labels."""
    from sklearn.datasets import load_digits as bundled_digits

    data, labels = bundled_digits(return_X_y=True)
    return (np.asarray(data) / 16).astype(np.float32), np.asarray(labels).astype(np.int64)
