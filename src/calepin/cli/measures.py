"""PSNR and SSIM of an image."""

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Measure", "measure", "measure_rows"]


@dataclass(frozen=True)
class Measure:
    """PSNR and SSIM against the clean image; None if unknown."""

    psnr: float | None
    ssim: float | None


def measure(pixels: "NDArray[np.floating]", clean: "NDArray[np.floating] | None") -> Measure:
    """Return PSNR (peak 1) and SSIM, each None if it is not defined."""
    from calepin.metrics.images import psnr, ssim

    if clean is None:
        return Measure(None, None)
    ratio = psnr(pixels, clean)
    return Measure(
        ratio if isfinite(ratio) else None, ssim(pixels, clean) if min(clean.shape[:2]) >= 7 else None
    )


def measure_rows(measures: dict[str, Measure]) -> list[list[str]]:
    """Return the rows of a table: name, PSNR, SSIM."""
    return [
        [
            name,
            "-" if found.psnr is None else f"{found.psnr:.2f}",
            "-" if found.ssim is None else f"{found.ssim:.4f}",
        ]
        for name, found in measures.items()
    ]
