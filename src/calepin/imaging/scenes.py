"""An observation, the observation as an image, and the clean image if it is known."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calepin.core.random import RandomState
from calepin.datasets.images import Image
from calepin.datasets.noise import GaussianNoise, PoissonNoise, add_noise

__all__ = ["Scene", "noisy_scene", "observed_scene"]

COUNT_BITS = 16  # counts are scaled to the range of the clean image: 8 bits would round them


@dataclass(frozen=True)
class Scene:
    """An observation, and the same as an image.

    Attributes
    ----------
    observed
        Input of the denoising method: pixels, or photon counts.
    noisy
        The observation as an image; its pixels are ``unit * observed``.
    unit
        1 for pixels; for counts the pixel value of one photon.
    clean
        Pixels without noise, or None if unknown.
    """

    observed: NDArray[np.floating]
    noisy: Image
    unit: float
    clean: NDArray[np.floating] | None


def noisy_scene(clean: Image, noise: GaussianNoise | PoissonNoise, *, random_state: RandomState = 0) -> Scene:
    """Add noise to a clean image, with pixels in [0, 1]; see `calepin.datasets.add_noise`.

    Raises
    ------
    ValueError
        A black image, for which all counts are zero.
    """
    if isinstance(noise, PoissonNoise):
        if not clean.pixels.any():
            raise ValueError("image: expected a pixel above 0, all counts of a black image are zero")
        counts = add_noise(clean.pixels, noise, random_state=random_state)
        return _counted(counts, clean, noise.unit(clean.pixels), clean.pixels)
    # float32 is finer than any file format and halves the memory
    pixels = add_noise(clean.pixels, noise, random_state=random_state).astype(np.float32)
    return Scene(pixels, replace(clean, pixels=pixels), 1.0, clean.pixels)


def observed_scene(
    image: Image,
    noise: object = None,
    *,
    reference: Image | None = None,
) -> Scene:
    """Return the scene of an image that is already noisy.

    For `PoissonNoise` the integer samples of the image are the counts. The pixel value of one count is
    ``max(x) / peak`` with the reference x; without a reference it is ``1 / peak``, so that the peak is white.
    If the image was read with a range from 0, it is that of the range, and results are expected counts.
    For an unknown peak it is that of the largest likelihood, ``sum(x) / sum(counts)``; without a reference
    the largest count is white.

    Raises
    ------
    ValueError
        A reference of another shape, or floating-point samples instead of counts.
    """
    clean = None if reference is None else reference.pixels
    if clean is not None and clean.shape != image.pixels.shape:
        raise ValueError(f"reference: expected the image's shape {image.pixels.shape}, got {clean.shape}")
    if not isinstance(noise, PoissonNoise):
        return Scene(image.pixels, image, 1.0, clean)
    if image.levels is not None:
        return _counted_in_units(image, clean)
    if image.bits > 16:
        raise ValueError(
            "image: expected counts in 8 or 16 bits, or with a range, got floating-point samples"
        )
    counts = np.round(image.pixels.astype(np.float64) * (2**image.bits - 1))
    if noise.peak is not None:
        unit = noise.unit(np.ones(1) if clean is None else clean)
    elif clean is None:
        unit = 1 / max(counts.max(), 1.0)
    else:
        unit = float(clean.sum(dtype=np.float64)) / max(counts.sum(), 1.0)
    return _counted(counts, image, unit, clean)


def _counted_in_units(image: Image, clean: NDArray[np.floating] | None) -> Scene:
    """Return the scene of counts that were read with a range; their estimates are written as floats."""
    levels = image.levels
    assert levels is not None
    samples = levels.unit * image.pixels.astype(np.float64)
    counts = np.round(samples)
    if levels.black != 0:
        raise ValueError(f"image: expected counts and a range from 0, got a range from {levels.black:g}")
    parts = ~np.isclose(counts, samples, rtol=1e-5, atol=1e-2, equal_nan=True)
    if parts.any():
        raise ValueError(f"image: expected whole counts, got {samples[parts][0]:.6g}")
    return Scene(counts, replace(image, levels=replace(levels, dtype="float32")), 1 / levels.unit, clean)


def _counted(
    counts: NDArray[np.float64], like: Image, unit: float, clean: NDArray[np.floating] | None
) -> Scene:
    noisy = replace(like, pixels=unit * counts, bits=max(like.bits, COUNT_BITS))
    return Scene(counts, noisy, unit, clean)
