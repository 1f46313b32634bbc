"""Metrics of the difference between an image and a clean reference image."""

import numpy as np
from numpy.typing import ArrayLike

from calepin.core.checks import check_array, check_number

__all__ = ["psnr", "ssim"]

BAND = 256  # rows processed together: bounds the memory, since SSIM needs ten arrays of the size of its input
WINDOW = 7


def psnr(pixels: ArrayLike, clean: ArrayLike, *, peak: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio ``10 log10(peak^2 / mean((pixels - clean)^2))`` in dB.

    `peak` is the largest possible pixel value. The ratio is infinite for equal images.

    Raises
    ------
    ValueError
        If shapes differ, or `peak` is not positive.
    """
    pixels, clean = _same_shape(pixels, clean)
    check_number("peak", peak, above=0, most=1e140)
    total = sum(
        float(((pixels[i : i + BAND].astype(np.float64) - clean[i : i + BAND]) ** 2).sum())
        for i in range(0, len(clean), BAND)
    )
    return float(10 * np.log10(peak**2 * clean.size / total)) if total else float("inf")


def ssim(pixels: ArrayLike, clean: ArrayLike, *, peak: float = 1.0) -> float:
    """Return the mean structural similarity (Wang et al. 2004) of two images (h, w) or (h, w, 3).

    The result is that of skimage.metrics.structural_similarity with its default window of 7 x 7 equal
    weights. It is computed in bands of rows, which limits the memory for large images. `peak` is the largest
    possible pixel value.

    Raises
    ------
    ValueError
        If shapes differ, or a side has fewer than 7 pixels.
    """
    from skimage.metrics import structural_similarity

    pixels, clean = _same_shape(pixels, clean)
    check_number("peak", peak, above=0, most=1e140)
    if clean.ndim not in {2, 3} or min(clean.shape[:2]) < WINDOW:
        raise ValueError(f"pixels: expected at least {WINDOW} rows and columns, got shape {clean.shape}")
    margin = WINDOW // 2
    total, count = 0.0, 0
    for start in range(margin, len(clean) - margin, BAND):
        stop = min(start + BAND, len(clean) - margin)
        rows = slice(start - margin, stop + margin)
        similarity = structural_similarity(
            clean[rows].astype(np.float64),
            pixels[rows].astype(np.float64),
            data_range=peak,
            channel_axis=2 if clean.ndim == 3 else None,
            full=True,
        )[1]
        inside = np.asarray(similarity)[margin:-margin, margin:-margin]
        total, count = total + float(inside.sum()), count + inside.size
    return total / count


def _same_shape(pixels: ArrayLike, clean: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    check_array("pixels", pixels)
    check_array("clean", clean)
    pixels, clean = np.asarray(pixels), np.asarray(clean)
    if pixels.shape != clean.shape or clean.size == 0:
        raise ValueError(f"pixels and clean: expected the same shape, got {pixels.shape} and {clean.shape}")
    return pixels, clean
