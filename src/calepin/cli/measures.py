"""PSNR and SSIM of an image, and PSNR of a stack, in the range of the clean one."""

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from calepin.cli.output import Output
from calepin.cli.units import samples_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from calepin.datasets.images import Image
    from calepin.datasets.stacks import Stack

__all__ = ["CleanStack", "Measure", "Range", "measure", "show_measures"]

KNOWN = frozenset("TCZYXS")  # axes of known meaning


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


@dataclass(frozen=True)
class CleanStack:
    """The planes of a clean stack, with which those of another are compared.

    Attributes
    ----------
    planes
        Planes (n, h, w) or (n, h, w, channels), in the samples of their file.
    unit
        What one of their samples is in those of the other stack.
    """

    planes: "NDArray[Any]"
    unit: float

    @classmethod
    def of(cls, clean: "Stack", name: str, stack: "Stack") -> "CleanStack":
        """Return the planes of a clean stack in a file, for a stack of the same shape and axes.

        Samples are those of the other stack, but where both are fractions of the range of two types: integers
        of 8 or 16 bits, and floats from 0 to 1.

        Raises
        ------
        ValueError
            If shape or axes differ, or samples are not finite.
        """
        import numpy as np

        both = zip(clean.axes, stack.axes, strict=False)
        differ = any(a != b for a, b in both if {a, b} <= KNOWN)
        if clean.samples.shape != stack.samples.shape or differ:
            raise ValueError(
                f"reference: expected shape {stack.samples.shape} and axes {stack.axes}, those of the stack, "
                f"got {clean.samples.shape} and {clean.axes} in {name}"
            )
        if not np.isfinite(clean.samples).all():
            raise ValueError(f"reference: expected finite samples, got NaN or infinity in {name}")
        whole, own = (_whole_range(one.samples) for one in (clean, stack))
        return cls(clean.planes, 1.0 if whole is None or own is None else own / whole)

    @property
    def range(self) -> Range:
        """From the smallest to the largest sample, in those of the other stack; 0 to 1 if it is constant."""
        low, high = (self.unit * float(end) for end in (self.planes.min(), self.planes.max()))
        low, high = (low, high) if high > low else (0.0, 1.0)
        return Range(low, high, high - low)

    def psnr(self, planes: "NDArray[Any]") -> "StackMeasure":
        """Return the PSNR of planes, in which samples that are NaN do not count."""
        import numpy as np

        squares, counts = [], []
        for plane, clean in zip(planes, self.planes, strict=True):
            error = (plane.astype(np.float64) - self.unit * clean.astype(np.float64)) ** 2
            squares.append(float(np.nansum(error)))
            counts.append(np.count_nonzero(~np.isnan(error)))
        means = [one / n for one, n in zip(squares, counts, strict=True) if n]
        with np.errstate(divide="ignore"):
            ratios = 10 * np.log10(self.range.pixels**2 / np.array([sum(squares) / sum(counts), *means]))
        found = [ratios[0], ratios[1:].min(), np.median(ratios[1:]), ratios[1:].max()]
        return StackMeasure(*(float(ratio) if isfinite(ratio) else None for ratio in found))


@dataclass(frozen=True)
class StackMeasure:
    """PSNR of a stack, and the lowest, median and highest of its planes, None where it is infinite."""

    psnr: float | None
    low: float | None
    median: float | None
    high: float | None

    @property
    def of_planes(self) -> list[float | None]:
        """The lowest, median and highest of the planes."""
        return [self.low, self.median, self.high]


def _whole_range(samples: "NDArray[Any]") -> float | None:
    """Return the largest sample of a type that is its own range, 1 of floats from 0 to 1; None for others."""
    import numpy as np

    from calepin.datasets.images import automatic_range

    if automatic_range(samples)[0] is not None:
        return None
    return 1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype).max)
