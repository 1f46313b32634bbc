"""PSNR and SSIM of an image, in the range of the clean one."""

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from calepin.cli.output import Output
from calepin.cli.units import samples_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image

__all__ = ["Measure", "Range", "measure", "show_measures"]


@dataclass(frozen=True)
class Range:
    """The range of values that PSNR and SSIM are relative to.

    Attributes
    ----------
    low, high
        Its ends, in the samples of the file.
    pixels
        Its length, in pixels.
    """

    low: float
    high: float
    pixels: float

    @classmethod
    def of(cls, clean: "Image | None", image: "Image", units: Any) -> "Range | None":
        """Return the range of an image and the clean one.

        It is what --range says, the range of the type for an image of 8 bits, and from the smallest to the
        largest sample of the clean image for all others.
        """
        if clean is None:
            return None
        if isinstance(units, tuple):
            return cls(units[0], units[1], (units[1] - units[0]) / samples_of(image)[0])
        if image.bits == 8 if image.levels is None else image.levels.dtype == "uint8":
            return cls(0.0, 255.0, 255 / samples_of(image)[0])
        unit, black = samples_of(clean)
        low, high = float(clean.pixels.min()), float(clean.pixels.max())
        if high == low:  # a constant image has no range
            low, high = 0.0, 1.0
        return cls(unit * low + black, unit * high + black, high - low)

    def __str__(self) -> str:
        return f"range {self.low:.6g} to {self.high:.6g}"

    @property
    def values(self) -> list[float]:
        """Both ends, for programs."""
        return [float(f"{end:.9g}") for end in (self.low, self.high)]


@dataclass(frozen=True)
class Measure:
    """PSNR and SSIM against the clean image; None if unknown."""

    psnr: float | None
    ssim: float | None


def measure(
    pixels: "NDArray[np.floating]", clean: "NDArray[np.floating] | None", scale: Range | None
) -> Measure:
    """Return PSNR and SSIM in a range, each None if it is not defined."""
    from calepin.metrics.images import psnr, ssim

    if clean is None or scale is None:
        return Measure(None, None)
    ratio = psnr(pixels, clean, data_range=scale.pixels)
    large = min(clean.shape[:2]) >= 7
    return Measure(
        ratio if isfinite(ratio) else None, ssim(pixels, clean, data_range=scale.pixels) if large else None
    )


def show_measures(output: Output, measures: dict[str, Measure], scale: Range | None) -> None:
    """Print a table of images: name, PSNR with its range, SSIM; nothing without a clean image."""
    if scale is None:
        return
    rows = [
        [
            name,
            "-" if found.psnr is None else f"{found.psnr:.2f}",
            "-" if found.ssim is None else f"{found.ssim:.4f}",
        ]
        for name, found in measures.items()
    ]
    output.table(["", f"PSNR (dB, {scale})", "SSIM"], rows)
