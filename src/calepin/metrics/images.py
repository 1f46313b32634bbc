"""Metrics of the difference between an image and a clean reference image."""

import numpy as np
from numpy.typing import ArrayLike

from calepin.core.checks import check_array, check_number, is_number

__all__ = ["psnr", "ssim"]

BAND = 256  # rows processed together: bounds the memory, since SSIM needs ten arrays of the size of its input
WINDOW = 7


def psnr(pixels: ArrayLike, clean: ArrayLike, *, data_range: float | None = None) -> float:
    """Return the peak signal-to-noise ratio ``10 log10(data_range^2 / mean((pixels - clean)^2))`` in dB.

    The ratio is infinite for equal images. Masked entries of either array are left out.

    Parameters
    ----------
    pixels, clean : array of any shape
        The image, and the reference.
    data_range : float, optional
        Distance of the largest possible value from the smallest, as in `skimage.metrics`. Default: 255 if
        `clean` has the dtype uint8, 1 if it is boolean, or of floats in [0, 1], otherwise its maximum minus
        its minimum.

    Raises
    ------
    ValueError
        If shapes differ, `data_range` is not positive, the reference is constant and has no range of its
        own, or all entries are masked.
    """
    pixels, clean = _unmasked(pixels, clean)
    unit = _data_range(clean, data_range)
    pixels, clean = _same_shape(pixels, clean)
    total = sum(
        float(((pixels[i : i + BAND].astype(np.float64) - clean[i : i + BAND]) ** 2).sum())
        for i in range(0, len(clean), BAND)
    )
    return float(10 * np.log10(unit**2 * clean.size / total)) if total else float("inf")


def ssim(pixels: ArrayLike, clean: ArrayLike, *, data_range: float | None = None) -> float:
    """Return the mean structural similarity (Wang et al. 2004) of two images (h, w) or (h, w, 3).

    The result is that of skimage.metrics.structural_similarity with its default window of 7 x 7 equal
    weights. It is computed in bands of rows, which limits the memory for large images.

    Parameters
    ----------
    pixels, clean : array (h, w) or (h, w, 3)
        The image, and the reference.
    data_range : float, optional
        As of `psnr`, with the same default.

    Raises
    ------
    ValueError
        If shapes differ, a side has fewer than 7 pixels, entries are masked, or for `data_range` as by
        `psnr`.
    """
    from skimage.metrics import structural_similarity

    for name, values in (("pixels", pixels), ("clean", clean)):
        if np.ma.is_masked(values):
            raise ValueError(
                f"{name}: expected no masked entries, which windows would cross; psnr takes them"
            )
    unit = _data_range(clean, data_range)
    pixels, clean = _same_shape(pixels, clean)
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
            data_range=unit,
            channel_axis=2 if clean.ndim == 3 else None,
            full=True,
        )[1]
        inside = np.asarray(similarity)[margin:-margin, margin:-margin]
        total, count = total + float(inside.sum()), count + inside.size
    return total / count


def _data_range(clean: ArrayLike, data_range: float | None) -> float:
    """Return the range of values, given or that of a reference."""
    if is_number(data_range):
        data_range = float(data_range)  # the bound is no number in single precision
    check_number("data_range", data_range, above=0, most=1e140, optional=True)
    if data_range is not None:
        return data_range
    values, dtype = check_array("clean", clean), np.asarray(clean).dtype
    if dtype == np.uint8:
        return 255.0
    low, high = float(values.min()), float(values.max())
    if dtype.kind == "b" or (dtype.kind == "f" and low >= 0 and high <= 1):
        return 1.0
    if high == low:
        raise ValueError(f"data_range: expected a number for a constant reference, {low:g}, got None")
    return high - low


def _unmasked(pixels: ArrayLike, clean: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
    """Return arrays without what is masked in one of them."""
    if not (np.ma.is_masked(pixels) or np.ma.is_masked(clean)) or np.shape(pixels) != np.shape(clean):
        return pixels, clean
    image, reference = np.ma.asarray(pixels), np.ma.asarray(clean)
    known = ~(np.ma.getmaskarray(image) | np.ma.getmaskarray(reference))
    if not known.any():
        raise ValueError("pixels: expected entries that are not masked, got none")
    return image.data[known], reference.data[known]


def _same_shape(pixels: ArrayLike, clean: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    check_array("pixels", pixels)
    check_array("clean", clean)
    pixels, clean = np.asarray(pixels), np.asarray(clean)
    if pixels.shape != clean.shape or clean.size == 0:
        raise ValueError(f"pixels and clean: expected the same shape, got {pixels.shape} and {clean.shape}")
    return pixels, clean
