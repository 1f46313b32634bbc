"""Denoisers of photon counts beside bm3d of stabilised counts: ``python -m benchmarks.photon_denoisers``.

Mean PSNR in dB relative to the peak over Set12 (`CALEPIN_DATA`; --every N takes every N-th image), and CPU
seconds per image, by the peak. "bm3d" is the Anscombe transformation, bm3d, and the closed form of the exact
unbiased inverse (Makitalo and Foi 2011); it needs the package bm3d. The last rows have read noise, for which
bm3d gets the generalised transformation and inverse of calepin. Steps were chosen on images 01 to 04:
means of the others are printed too.
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import calepin
from calepin.datasets import PoissonGaussianNoise, PoissonNoise
from calepin.imaging import NetworkDenoiser
from calepin.imaging.stabilisation import Stabiliser
from calepin.metrics import psnr
from calepin_papers.dcea.photons import clean_images
from calepin_papers.dcea.table import bm3d

PEAKS = (0.5, 1, 2, 4, 10, 30, 100)
CHOSEN_ON = 4
CAMERAS = ((5.0, 1.5), (20.0, 3.0), (60.0, 3.0))  # peak and read noise, in photons


def by_bm3d(photons: np.ndarray, read: float) -> np.ndarray:
    """Return the expected photons by one stabilisation and bm3d."""
    stabiliser = Stabiliser(read=read)
    return stabiliser.invert(bm3d(stabiliser.apply(photons)))


def by_calepin(photons: np.ndarray, read: float, method: Any = None) -> np.ndarray:
    """Return the expected photons by a method of calepin."""
    noise = PoissonGaussianNoise(read=read) if read else PoissonNoise()
    return calepin.denoise(photons, method=method, noise=noise).image


def methods(peak: float, read: float) -> dict[str, Callable[[np.ndarray, float], np.ndarray]]:
    """Return the methods for a peak by name, the default first."""
    known: dict[str, Callable] = {"default": by_calepin}
    if not read:
        known["dictionary"] = partial(by_calepin, method="dictionary")
        if 0.5 <= peak <= 4:
            known["network"] = partial(by_calepin, method=NetworkDenoiser(fallback=False))
    if importlib.util.find_spec("bm3d") is not None:
        known["bm3d"] = by_bm3d
    return known


def compare(peak: float, read: float, every: int) -> None:
    """Print one line for each method."""
    images = clean_images("set12")[::every]
    for name, denoise in methods(peak, read).items():
        reached, begun, spent = [], 0.0, 0.0
        for index, image in enumerate(images):
            clean = peak * image / image.max()
            rng = np.random.default_rng(index)
            photons = rng.poisson(clean) + read * rng.standard_normal(clean.shape)
            begun = time.process_time()
            found = denoise(photons if read else photons.round(), read)
            spent += time.process_time() - begun
            reached.append(psnr(np.clip(found, 0, peak), clean, data_range=peak))
        others = f"   not chosen on {np.mean(reached[CHOSEN_ON:]):6.2f}" if every == 1 else ""
        print(
            f"peak {peak:5g}   read noise {read:3g}   {name:10} {np.mean(reached):6.2f} dB{others}"
            f"   {spent / len(images):5.2f} s CPU",
            flush=True,
        )


def main() -> None:
    """Print a table for every peak, then for cameras."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.photon_denoisers", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th image")
    parser.add_argument("--peaks", type=float, nargs="*", default=list(PEAKS))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    by_calepin(np.ones((32, 32)), 0.0)  # compiles
    for peak in given.peaks:
        compare(peak, 0.0, given.every)
    for peak, read in CAMERAS:
        compare(peak, read, given.every)


if __name__ == "__main__":
    main()
