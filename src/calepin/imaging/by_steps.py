"""Photon counts by a denoiser of Gaussian noise: variance stabilisation, from coarse to fine.

The arithmetic is that of `calepin.imaging.stabilisation` (Azzari and Foi 2016).
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calepin.datasets.noise import PoissonGaussianNoise, PoissonNoise
from calepin.imaging.counts import estimate_peak, in_units, isolated, photons_of, with_unexplained
from calepin.imaging.result import DenoiseResult, check_size
from calepin.imaging.stabilisation import expected_photons, steps_for

__all__ = ["denoise_photons"]

Callback = Callable[[str, float], object]


def denoise_photons(
    denoise: Callable[[NDArray, Callback | None], DenoiseResult],
    image: NDArray,
    noise: PoissonNoise | PoissonGaussianNoise,
    *,
    smallest: int,
    callback: Callback | None,
) -> DenoiseResult:
    """Return the expected photons, in the units of the image, and atoms and history of the last step.

    `denoise` removes Gaussian noise of level 1 from an image of at least `smallest` pixels per side. It is
    called with the callback of a step: `callback` is called in its stages, in each step again.
    """
    check_size(image, [smallest] * 2)
    photons, read = photons_of(image, noise)
    peak = max(estimate_peak(photons), np.finfo(np.float64).tiny)
    steps = steps_for(peak**2 / (peak + read**2), min(image.shape[:2]) // smallest)
    results: list[DenoiseResult] = []

    def denoise_step(values: NDArray, step: int) -> NDArray:
        report = None if callback is None else _part_of(callback, step, len(steps))
        results.append(denoise(values, report))
        return results[-1].image

    if isinstance(noise, PoissonNoise):
        points = isolated(photons)
        ground = np.where(points, 0, photons)
        mean = with_unexplained(expected_photons(ground, read, steps, denoise_step), ground)
        mean = np.where(points, photons, mean)
    else:
        mean = expected_photons(photons, read, steps, denoise_step)
    return replace(results[-1], image=in_units(mean, noise), noise=noise)


def _part_of(callback: Callback, step: int, n_steps: int) -> Callback:
    """Return the callback of one of several steps."""
    return lambda stage, fraction: callback(stage, (step + fraction) / n_steps)
