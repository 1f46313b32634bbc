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
    from calepin.datasets.stacks import Stack

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
    stack: "Stack",
    before: "NDArray[Any]",
    after: "NDArray[Any]",
    names: tuple[str, str],
    *,
    subtract: bool,
) -> "Figure":
    """Return a contact sheet of a few planes spread over a stack, with a scale for each channel.

    Parameters
    ----------
    stack
        The stack, for the axes of its planes and the type of its samples.
    before, after
        Planes (n, h, w) or (n, h, w, channels) in the samples of the file, NaN where there is none; a fourth
        channel, opacity, is left out.
    names
        What they are.
    subtract
        Whether the difference is shown, too.
    """
    import numpy as np

    from calepin.report.figures import sheet

    numbers = np.array(list(np.ndindex(*(stack.samples.shape[stack.axes.index(a)] for a in stack.leading))))
    channels = numbers[:, stack.leading.index("C")] if "C" in stack.leading else np.zeros(len(before), int)
    gaps = np.isnan(before).reshape(len(before), -1).mean(axis=1)
    places = _shown_planes(channels, gaps)
    columns = {
        name: np.asarray(_colours(planes)[places], np.float64)
        for name, planes in zip(names, (before, after), strict=True)
    }
    first, second = columns.values()
    differences = {f"{names[0]} - {names[1]}": first - second} if subtract else {}
    like = stack.samples.dtype.name
    return sheet(
        columns,
        n_rows=len(places),
        names=[_name_of_plane(stack.leading, numbers[k], k) for k in places],
        groups=[f"C {channels[k]}" for k in places] if channels.any() else None,
        differences=differences,
        value_range=_range_of_type(like),
        units=f"samples ({like})",
    )


def _name_of_plane(leading: str, numbers: "NDArray[np.intp]", k: int) -> str:
    """Return the letters and numbers of a plane, from 0, as "T 3, Z 12"."""
    known = leading and set(leading) <= set("TCZ")
    return ", ".join(f"{a} {n}" for a, n in zip(leading, numbers, strict=True)) if known else f"plane {k}"


def _shown_planes(channels: "NDArray[np.intp]", gaps: "NDArray[np.floating]") -> "NDArray[np.intp]":
    """Return the places of planes to show: some of each channel, with the one that has the most gaps."""
    import numpy as np

    numbers = np.unique(channels)
    spread = np.unique(np.linspace(0, len(numbers) - 1, SHOWN).round().astype(int))
    n = max(SHOWN // len(spread), 1)
    shown = []
    for number in numbers[spread]:
        of_channel = np.flatnonzero(channels == number)
        chosen = of_channel[np.unique(np.linspace(0, len(of_channel) - 1, n).round().astype(int))]
        worst = of_channel[gaps[of_channel].argmax()]
        if gaps[worst] > 0 and not gaps[chosen].any():
            chosen[np.abs(chosen - worst).argmin()] = worst
        shown.append(chosen)
    return np.concatenate(shown)


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
