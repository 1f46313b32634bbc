"""The test sets of Table 2, the photons that are drawn from them, and the PSNR that a network reaches.

An image with pixels x in 0 .. 255 and a peak gives the counts ``y ~ Poisson(x / q)`` with
``q = max(x) / peak``; the generator of the image of index i in its sorted folder is
``numpy.random.default_rng(1000 + i)``. The estimate is ``q exp(eta)``, unclipped, and the peak of its
PSNR is max(x): with 255 it would be .28 dB higher on Set12 and .11 dB on BSD68.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from calepin.datasets import PoissonNoise, add_noise
from calepin.imaging import NetworkDenoiser, denoise
from calepin.metrics import psnr
from calepin.networks import UnfoldedAutoencoder
from calepin_papers._common import gray_images

__all__ = ["IMAGES", "PAPER", "QUOTED", "SETS", "clean_images", "draw_counts", "psnr_of_each"]

SETS = {"set12": 12, "bsd68": 68}
"""The test sets by the name of their folder, and how many images each has."""

QUOTED = {
    "spda": {
        1: {
            "boat": 21.42,
            "bridge": 19.2,
            "camera": 20.23,
            "house": 22.73,
            "peppers": 19.99,
            "set12": 20.39,
        },
        2: {
            "boat": 21.73,
            "bridge": 20.15,
            "camera": 21.54,
            "house": 25.09,
            "peppers": 21.23,
            "set12": 21.7,
        },
        4: {
            "boat": 22.46,
            "bridge": 20.55,
            "camera": 21.9,
            "house": 26.09,
            "peppers": 22.09,
            "set12": 22.56,
        },
    },
    "bm3d": {
        1: {
            "man": 21.62,
            "couple": 21.14,
            "boat": 21.47,
            "bridge": 19.22,
            "camera": 20.37,
            "house": 22.35,
            "peppers": 19.89,
            "bsd68": 21.01,
        },
        2: {
            "man": 23.11,
            "couple": 22.65,
            "boat": 22.9,
            "bridge": 20.31,
            "camera": 22.13,
            "house": 24.18,
            "peppers": 21.97,
            "bsd68": 22.21,
        },
        4: {
            "man": 24.32,
            "couple": 24.1,
            "boat": 24.16,
            "bridge": 21.5,
            "camera": 23.94,
            "house": 26.04,
            "peppers": 24.07,
            "bsd68": 23.54,
        },
    },
    "class_agnostic": {
        1: {
            "man": 22.49,
            "couple": 22.11,
            "boat": 22.38,
            "bridge": 19.83,
            "camera": 21.59,
            "house": 22.87,
            "peppers": 21.43,
            "set12": 21.51,
            "bsd68": 21.78,
        },
        2: {
            "man": 23.64,
            "couple": 23.3,
            "boat": 23.66,
            "bridge": 20.8,
            "camera": 23.25,
            "house": 24.77,
            "peppers": 23.19,
            "set12": 22.97,
            "bsd68": 22.9,
        },
        4: {
            "man": 24.77,
            "couple": 24.6,
            "boat": 24.86,
            "bridge": 21.81,
            "camera": 24.87,
            "house": 26.59,
            "peppers": 24.83,
            "set12": 24.4,
            "bsd68": 23.98,
        },
    },
    "tied": {
        1: {
            "man": 22.03,
            "couple": 21.76,
            "boat": 21.8,
            "bridge": 19.72,
            "camera": 20.68,
            "house": 21.7,
            "peppers": 20.22,
            "set12": 20.72,
            "bsd68": 21.27,
        },
        2: {
            "man": 23.1,
            "couple": 2.79,
            "boat": 22.9,
            "bridge": 20.6,
            "camera": 22.01,
            "house": 23.22,
            "peppers": 21.7,
            "set12": 22.02,
            "bsd68": 22.31,
        },
        4: {
            "man": 24.26,
            "couple": 24.08,
            "boat": 24.25,
            "bridge": 21.59,
            "camera": 23.6,
            "house": 25.11,
            "peppers": 23.68,
            "set12": 23.51,
            "bsd68": 23.54,
        },
    },
    "untied": {
        1: {
            "man": 22.44,
            "couple": 22.16,
            "boat": 22.34,
            "bridge": 19.87,
            "camera": 21.47,
            "house": 23.0,
            "peppers": 20.91,
            "set12": 21.37,
            "bsd68": 21.84,
        },
        2: {
            "man": 23.57,
            "couple": 23.3,
            "boat": 23.51,
            "bridge": 20.82,
            "camera": 22.94,
            "house": 24.52,
            "peppers": 22.94,
            "set12": 22.79,
            "bsd68": 22.92,
        },
        4: {
            "man": 24.82,
            "couple": 24.69,
            "boat": 24.89,
            "bridge": 21.83,
            "camera": 24.66,
            "house": 26.47,
            "peppers": 24.71,
            "set12": 24.37,
            "bsd68": 24.1,
        },
    },
}
"""Table 2 as it is printed: PSNR in dB by method, peak, and image or mean of a set.

"tied" is DCEA-C, "untied" DCEA-UC. "couple", tied, at peak 2 is printed as 2.79.
"""

PAPER = {
    (name, kind): {peak: QUOTED[kind][peak][name] for peak in (1, 2, 4)}
    for name in SETS
    for kind in ("tied", "untied")
}
"""Means of Table 2 by set, weights and peak."""

IMAGES = {"camera": 1, "house": 2, "peppers": 3, "boat": 10, "man": 11, "couple": 12}
"""Images of Table 2 that are in Set12, with their numbers there; "bridge" is not."""

SEED = 1000


def clean_images(folder: str, count: int | None = None) -> list[NDArray[np.float64]]:
    """Return the first `count` images of a folder of the public data, all by default, in 0 .. 255."""
    return [np.round(255 * image.astype(np.float64)) for image in gray_images(folder, count)]


def draw_counts(clean: NDArray[np.float64], peak: float, index: int) -> tuple[NDArray[np.float64], float]:
    """Return the counts of image `index`, and the unit q in which it is counted."""
    noise = PoissonNoise(peak)
    return add_noise(clean, noise, random_state=SEED + index), noise.unit(clean)


def psnr_of_each(
    network: UnfoldedAutoencoder,
    clean: Sequence[NDArray[np.float64]],
    peak: float,
    *,
    done: Callable[[int], None] = lambda n: None,
) -> NDArray[np.float64]:
    """Return the PSNR of each image of a set, denoised as a whole; `done` gets their number after each."""
    reached = []
    for index, image in enumerate(clean):
        counts, unit = draw_counts(image, peak, index)
        method = NetworkDenoiser(network, fallback=False)
        estimate = denoise(counts, method=method, noise=PoissonNoise(peak)).image
        reached.append(psnr(unit * estimate, image, data_range=float(image.max())))
        done(index + 1)
    return np.array(reached)
