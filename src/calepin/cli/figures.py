"""Figures of images before and after a command, in the samples of their file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calepin.cli.measures import Measure
from calepin.cli.units import name_of_samples, samples_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from calepin.datasets.images import Image

__all__ = ["draw_images", "draw_planes", "save"]

SHOWN = 6  # planes of a stack in a figure


def draw_images(
    images: "Mapping[str, NDArray[np.floating]]",
    like: "Image",
    *,
    measures: Mapping[str, Measure] | None = None,
    differences: "Mapping[str, NDArray[np.floating]] | None" = None,
    counted: float | None = None,
) -> "Figure":
    """Return a figure of images of one scene, with their PSNR, and differences of them.

    Pixels are those of `like`, and are shown as samples of its file; `counted` is the pixel of one photon if
    they are shown as counts.
    """
    from calepin.report.figures import before_after

    captions = {
        name: f"{found.psnr:.2f} dB" for name, found in (measures or {}).items() if found.psnr is not None
    }
    unit, black, scale = _scale(like, counted)
    return before_after(
        {name: unit * pixels + black for name, pixels in images.items()},
        captions={name: text for name, text in captions.items() if name in images},
        differences={name: unit * pixels for name, pixels in (differences or {}).items()},
        **scale,
    )


def draw_planes(
    before: "NDArray[Any]", after: "NDArray[Any]", names: tuple[str, str], like: str, *, subtract: bool
) -> "Figure":
    """Return a contact sheet of a few planes (n, h, w) or (n, h, w, channels) spread over a stack.

    Parameters
    ----------
    before, after
        Samples of the file; a fourth channel, opacity, is left out.
    names
        What they are.
    like
        Type of the samples before.
    subtract
        Whether the difference is shown, too.
    """
    import numpy as np

    from calepin.report.figures import sheet

    places = np.unique(np.linspace(0, len(before) - 1, SHOWN).round().astype(int))
    columns = {
        name: np.asarray(_colours(planes)[places], np.float64)
        for name, planes in zip(names, (before, after), strict=True)
    }
    first, second = columns.values()
    differences = {f"{names[0]} - {names[1]}": first - second} if subtract else {}
    return sheet(
        columns,
        names=[f"plane {k}" for k in places],
        differences=differences,
        value_range=_range_of_type(like),
        units=f"samples ({like})",
    )


def save(figure: "Figure | None", path: Path | None) -> None:
    """Write a figure, if there is one and a file for it."""
    if figure is not None and path is not None:
        from calepin.report.figures import save_figure

        save_figure(figure, path)


def _scale(like: "Image", counted: float | None) -> tuple[float, float, dict[str, Any]]:
    """Return the unit and black of what is shown, and the settings of its scale."""
    if counted is not None:
        return 1 / counted, 0.0, {"value_range": (0.0, 255.0), "units": "photons"}
    unit, black = samples_of(like)
    dtype = None if like.levels is None else like.levels.dtype
    limits = (0.0, unit) if dtype is None else _range_of_type(dtype)
    return unit, black, {"value_range": limits, "units": name_of_samples(like)}


def _range_of_type(dtype: str) -> tuple[float, float]:
    return {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}.get(dtype, (0.0, 1.0))


def _colours(planes: "NDArray[Any]") -> "NDArray[Any]":
    return planes[..., :3] if planes.ndim == 4 else planes
