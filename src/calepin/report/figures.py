"""Figures of images and curves.

They use matplotlib's Figure directly, without global state and without windows, and so also work on servers.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_one_of
from calepin.core.files import atomic_write

__all__ = [
    "COLOURS",
    "Curve",
    "before_after",
    "curves",
    "detail_window",
    "gray_limits",
    "save_figure",
    "sheet",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito, which colour-blind readers can distinguish."""

DASHES = ("-", "--", ":")  # for more lines than colours
MARK = "#E69F00"
FAINT = 0.02  # images in [0, 1] of less contrast would be seen as one gray
PANEL_PIXELS = 900  # images are subsampled to this size, because more pixels are not visible in a panel


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure in the format of the suffix of `path`. An old file is replaced only after success."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def before_after(
    images: Mapping[str, NDArray[np.floating]],
    *,
    captions: Mapping[str, str] | None = None,
    window: tuple[slice, slice] | None = None,
) -> Figure:
    """Return a figure of images of one scene side by side, each with an enlarged detail below.

    Parameters
    ----------
    images : mapping of str to array (h, w) or (h, w, 3)
        Pixels by title ("noisy", "denoised", "clean"), in [0, 1] or, with one gray scale for all images, of
        any other range; all images have the same size.
    captions : mapping of str to str, optional
        Text to append to a title, such as the PSNR.
    window : (slice, slice), optional
        Rows and columns of the detail. Default: `detail_window` of the last image.

    Raises
    ------
    ValueError
        If the images have different sizes.
    """
    check_arguments(before_after, locals())
    for title, image in images.items():
        if np.ndim(check_array(f"images[{title!r}]", image)) < 2:
            raise ValueError(f"images: expected shape (h, w) or (h, w, 3), got {np.shape(image)}")
    captions = captions or {}
    shapes = {image.shape[:2] for image in images.values()}
    if len(shapes) != 1:
        raise ValueError(f"images: expected images of the same size, got {sorted(shapes)}")
    height, width = shapes.pop()
    window = window or detail_window(list(images.values())[-1])
    panel = 4.2
    detail = panel * (window[0].stop - window[0].start) / (window[1].stop - window[1].start)
    figure = Figure(
        figsize=(panel * len(images), panel * height / width + detail + 0.4), layout="constrained"
    )
    axes = figure.subplots(2, len(images), squeeze=False, height_ratios=[panel * height / width, detail])
    step = max(1, round(max(height, width) / PANEL_PIXELS))
    shown = gray_limits([image[::step, ::step] for image in images.values()])
    for (title, image), top, bottom in zip(images.items(), axes[0], axes[1], strict=True):
        _show(top, image[::step, ::step], shown, (0, width, height, 0))
        caption = captions.get(title)
        top.set_title(title if caption is None else f"{title}   {caption}", fontsize=13)
        rows, columns = window
        corner = (columns.start, rows.start)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        top.add_patch(Rectangle(corner, *size, fill=False, edgecolor=MARK, linewidth=1.8))
        _show(bottom, image[tuple(window)], shown)
        for side in bottom.spines.values():
            side.set(visible=True, color=MARK, linewidth=1.8)
    return figure


def detail_window(image: NDArray[np.floating]) -> tuple[slice, slice]:
    """Return the rows and columns of a detail with many edges near the middle of an image.

    The detail is a square whose side is a quarter of the shorter side of the image. Edges are gradients above
    the 90 % quantile, clipped at the 90 % quantile of those. The threshold removes texture, and the clipping
    limits the weight of a single strong edge.
    """
    step = max(1, round(max(image.shape[:2]) / PANEL_PIXELS))
    gray = image[::step, ::step]
    gray = gray.mean(axis=2) if gray.ndim == 3 else gray
    height, width = gray.shape
    side = max(1, min(height, width) // 4)
    slopes = np.zeros(gray.shape)
    slopes[:, 1:] += np.abs(np.diff(gray, axis=1))
    slopes[1:] += np.abs(np.diff(gray, axis=0))
    usual = np.quantile(slopes, 0.9)
    steep = np.quantile(slopes[slopes > usual], 0.9) if (slopes > usual).any() else usual
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = np.clip(slopes - usual, 0, steep - usual).cumsum(axis=0).cumsum(axis=1)
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    off_centre = [np.linspace(-1, 1, n) ** 2 if n > 1 else np.zeros(1) for n in sums.shape]
    sums *= np.maximum(1 - 0.7 * np.add.outer(*off_centre), 0)
    top, left = (int(i) * step for i in np.unravel_index(int(sums.argmax()), sums.shape))
    side = min(side * step, *(n for n in image.shape[:2]))
    return slice(top, top + side), slice(left, left + side)


@dataclass(frozen=True)
class Curve:
    """A line (x, y), optionally with a band (low, high) that shows the spread of several runs.

    Attributes
    ----------
    x, y : array of shape (n,)
        Coordinates of the line.
    low, high : array of shape (n,), optional
        Limits of the band along y.
    """

    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


def curves(
    lines: Mapping[str, Curve],
    *,
    xlabel: str,
    ylabel: str,
    xscale: str = "linear",
    yscale: str = "linear",
    title: str | None = None,
) -> Figure:
    """Return a figure of named curves with their bands."""
    check_arguments(curves, locals())
    for label, line in lines.items():
        if not isinstance(line, Curve):
            raise TypeError(f"lines[{label!r}]: expected a Curve, got {line!r:.60}")
    for name, scale in (("xscale", xscale), ("yscale", yscale)):
        check_one_of(name, scale, ("linear", "log", "symlog", "logit"))
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, line) in enumerate(lines.items()):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        axes.plot(line.x, line.y, color=colour, linestyle=dash, linewidth=1.8, label=name)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    if xscale == "linear" and all(np.asarray(line.x).dtype.kind in "iu" for line in lines.values()):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False)
    if title:
        axes.set_title(title, fontsize=11)
    return figure


def sheet(columns: Mapping[str, NDArray[np.floating]], *, n_rows: int = 6) -> Figure:
    """Return a figure with one sample in each row, and its images in the columns.

    Parameters
    ----------
    columns : mapping of str to array (n, h, w)
        Images of n samples, by the title of their column, in [0, 1] or, with one gray scale for all, of any
        other range.
    n_rows : int, default 6
        Number of samples to show, from the first.
    """
    check_arguments(sheet, locals())
    check_integer("n_rows", n_rows)
    for title, images in columns.items():
        check_array(f"columns[{title!r}]", images, ndim=3)
    n_rows = min(n_rows, *(len(images) for images in columns.values()))
    figure = Figure(figsize=(1.2 * len(columns), 1.15 * n_rows + 0.3), layout="constrained")
    axes = figure.subplots(n_rows, len(columns), squeeze=False)
    shown = gray_limits([images[:n_rows] for images in columns.values()])
    for line, (title, images) in zip(axes.T, columns.items(), strict=True):
        line[0].set_title(title.replace("_", "\n"), fontsize=9)
        for place, image in zip(line, images, strict=False):
            _show(place, image, shown)
    return figure


def gray_limits(images: Sequence[NDArray[np.floating]]) -> tuple[float, float]:
    """Return the values of black and white: 0 and 1 for (noisy) images in [0, 1], else by quantiles."""
    values = np.concatenate([np.asarray(image, np.float64).ravel() for image in images])
    low, high = np.quantile(values, [0.005, 0.995]) if np.isfinite(values).all() else (0.0, 1.0)
    usual = low >= -1 and high <= 2 and high - low >= FAINT
    return (0.0, 1.0) if usual or not high > low else (float(low), float(high))


def _show(
    axes,
    image: NDArray[np.floating],
    limits: tuple[float, float],
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    low, high = limits
    axes.imshow(
        np.clip((image - low) / (high - low), 0, 1),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=extent,
        interpolation="antialiased" if extent else "nearest",
    )
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
