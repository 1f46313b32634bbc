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

__all__ = ["PAPER", "SETS", "clean_images", "draw_counts", "psnr_of_each"]

SETS = {"set12": 12, "bsd68": 68}
"""The test sets by the name of their folder, and how many images each has."""

PAPER = {
    ("set12", "tied"): {1: 20.72, 2: 22.02, 4: 23.51},
    ("set12", "untied"): {1: 21.37, 2: 22.79, 4: 24.37},
    ("bsd68", "tied"): {1: 21.27, 2: 22.31, 4: 23.54},
    ("bsd68", "untied"): {1: 21.84, 2: 22.92, 4: 24.10},
}
"""Mean PSNR in dB of Table 2 by set, weights ("tied": DCEA-C, "untied": DCEA-UC) and peak."""

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
        reached.append(psnr(unit * estimate, image, peak=float(image.max())))
        done(index + 1)
    return np.array(reached)
