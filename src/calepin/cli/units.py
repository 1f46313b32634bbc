"""Units of the command line: noise levels on the scale 0 to 255, or in the samples of a file."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from calepin.datasets.images import Image

__all__ = ["RANGE", "level_in_pixels", "name_of_samples", "samples_of", "unit_of"]

RANGE = 255  # from black to white, on the scale of noise levels on the command line


def samples_of(image: "Image") -> tuple[float, float]:
    """Return the samples of a file for a difference of 1 and for 0 in its pixels."""
    if image.levels is not None:
        return image.levels.unit, image.levels.black
    return (1.0 if image.bits > 16 else 2.0**image.bits - 1), 0.0


def unit_of(image: "Image") -> float:
    """Return the difference of white and black, in the units of noise levels on the command line."""
    return RANGE if image.levels is None else image.levels.unit


def level_in_pixels(sigma: float, image: "Image") -> float:
    """Return the noise level of --sigma in the units of the pixels of an image.

    Raises
    ------
    typer.BadParameter
        If it is above the range of the image.
    """
    unit = unit_of(image)
    if sigma > unit:
        raise typer.BadParameter(
            f"expected at most the range of the samples, {unit:g}, got {sigma:g}: noise levels are in the "
            "units of the image",
            param_hint="--sigma",
        )
    return sigma / unit


def name_of_samples(image: "Image") -> str:
    """Return the name of the units of the samples of a file, for figures."""
    dtype = {8: "uint8", 16: "uint16"}.get(image.bits, "float32")
    return f"samples ({dtype if image.levels is None else image.levels.dtype})"
