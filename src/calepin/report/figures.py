"""Figures of images and curves.

They use matplotlib's Figure directly, without global state and without windows, and so also work on servers.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
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
MISSING = "#56B4E9"  # pixels that are NaN
FAINT = 0.25  # images that use less of the range from black to white are shown with a range of their own
EXTREME = 0.005  # fraction of the pixels that may be darker than black, and as many lighter than white
BAR = 0.9  # inches below a figure for its colour bars
FAR = 0.995  # fraction of differences that are within the ends of their colours
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
    differences: Mapping[str, NDArray[np.floating]] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    units: str | None = None,
) -> Figure:
    """Return a figure of images of one scene side by side, each with an enlarged detail below.

    All images have one scale, see `gray_limits`; differences of them have a symmetric one of their own. NaN
    is shown in blue.

    Parameters
    ----------
    images : mapping of str to array (h, w) or (h, w, 3)
        Pixels by title ("noisy", "denoised", "clean"); all images have the same size.
    captions : mapping of str to str, optional
        Text to append to a title, such as the PSNR.
    window : (slice, slice), optional
        Rows and columns of the detail. Default: `detail_window` of the last image.
    differences : mapping of str to array (h, w) or (h, w, 3), optional
        Differences of images by title, such as residuals, from negative (blue) to positive (red), gray where
        they are NaN; of colours the mean over the channels.
    value_range : (float, float), default (0, 1)
        Values of black and white of images that use at least a quarter of the range between.
    units : str, optional
        Units of the values; with them there are colour bars.

    Raises
    ------
    ValueError
        If the images have different sizes.
    """
    check_arguments(before_after, locals())
    differences, captions = differences or {}, captions or {}
    for name, panels in (("images", images), ("differences", differences)):
        for title, image in panels.items():
            if np.ndim(_checked(f"{name}[{title!r}]", image)) not in (2, 3):
                raise ValueError(f"{name}: expected shape (h, w) or (h, w, 3), got {np.shape(image)}")
    shapes = {image.shape[:2] for image in (*images.values(), *differences.values())}
    if len(shapes) != 1:
        raise ValueError(f"images: expected images of the same size, got {sorted(shapes)}")
    height, width = shapes.pop()
    window = window or detail_window(list(images.values())[-1])
    n, panel = len(images) + len(differences), 4.2
    detail = panel * (window[0].stop - window[0].start) / (window[1].stop - window[1].start)
    bars = 0.0 if units is None else BAR
    size = (panel * n, panel * height / width + detail + 0.4 + bars)
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots(2, n, squeeze=False, height_ratios=[panel * height / width, detail])
    step = max(1, round(max(height, width) / PANEL_PIXELS))
    thin = (slice(None, None, step), slice(None, None, step))
    scales = _scales([image[thin] for image in images.values()], differences.values(), value_range)
    panels = {**images, **{title: _mean(difference) for title, difference in differences.items()}}
    for k, (title, image) in enumerate(panels.items()):
        top, bottom, scale = *axes[:, k], scales[k >= len(images)]
        _show(top, image[thin], scale, (0, width, height, 0))
        caption = captions.get(title)
        top.set_title(title if caption is None else f"{title}   {caption}", fontsize=13)
        rows, columns = window
        corner = (columns.start, rows.start)
        size = (columns.stop - columns.start, rows.stop - rows.start)
        top.add_patch(Rectangle(corner, *size, fill=False, edgecolor=MARK, linewidth=1.8))
        _show(bottom, image[tuple(window)], scale)
        for side in bottom.spines.values():
            side.set(visible=True, color=MARK, linewidth=1.8)
    _add_bars(figure, axes, len(images), scales, units)
    return figure


def detail_window(image: NDArray[np.floating]) -> tuple[slice, slice]:
    """Return the rows and columns of a detail with many edges near the middle of an image.

    The detail is a square whose side is a quarter of the shorter side of the image. Edges are gradients above
    the 90 % quantile, clipped at the 90 % quantile of those. The threshold removes texture, and the clipping
    limits the weight of a single strong edge.
    """
    step = max(1, round(max(image.shape[:2]) / PANEL_PIXELS))
    gray = image[::step, ::step]
    gray = np.nan_to_num(gray.mean(axis=2) if gray.ndim == 3 else gray)
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


def sheet(
    columns: Mapping[str, NDArray[np.floating]],
    *,
    n_rows: int = 6,
    names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    differences: Mapping[str, NDArray[np.floating]] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    units: str | None = None,
) -> Figure:
    """Return a figure with one sample in each row, and its images in the columns.

    Scales, differences and units are those of `before_after`.

    Parameters
    ----------
    columns : mapping of str to array (n, h, w) or (n, h, w, 3)
        Images of n samples, by the title of their column.
    n_rows : int, default 6
        Number of samples to show, from the first.
    names : sequence of str, optional
        Names of the samples, beside the rows.
    groups : sequence of str, optional
        The group of each sample, such as its channel. Samples of one group, which follow each other, have
        scales of their own. Default: all samples have one scale.
    differences : mapping of str to array (n, h, w) or (n, h, w, 3), optional
        Differences of images, in columns of their own.
    value_range : (float, float), default (0, 1)
        Values of black and white of images that use at least a quarter of the range between.
    units : str, optional
        Units of the values; with them there are colour bars.

    Raises
    ------
    ValueError
        If the images have another number of axes.
    """
    check_arguments(sheet, locals())
    check_integer("n_rows", n_rows)
    columns, differences = (
        {title: _checked(f"{name}[{title!r}]", images) for title, images in (panels or {}).items()}
        for name, panels in (("columns", columns), ("differences", differences))
    )
    for name, panels in (("columns", columns), ("differences", differences)):
        for images in panels.values():
            if images.ndim not in (3, 4):
                raise ValueError(f"{name}: expected shape (n, h, w) or (n, h, w, 3), got {images.shape}")
    n_rows = min(n_rows, *(len(images) for images in (*columns.values(), *differences.values())))
    n, side = len(columns) + len(differences), 1.2 if names is None else 2.0
    height, width = next(iter(columns.values())).shape[1:3]
    parts = _runs(n_rows, groups)
    bars = 0.0 if units is None else BAR * len(parts)
    figure = Figure(
        figsize=(side * n, 0.96 * side * n_rows * height / width + 0.3 + bars), layout="compressed"
    )
    axes = figure.subplots(n_rows, n, squeeze=False)
    for group, rows in parts:
        shown = [images[rows] for images in columns.values()]
        apart = [_mean(images[rows], ndim=3) for images in differences.values()]
        scales = _scales(shown, apart, value_range)
        for k, images in enumerate((*shown, *apart)):
            for place, image in zip(axes[rows, k], images, strict=True):
                _show(place, image, scales[k >= len(columns)])
        _add_bars(figure, axes[rows], len(columns), scales, f"{units}, {group}" if units and group else units)
    for place, title in zip(axes[0], (*columns, *differences), strict=True):
        place.set_title(title.replace("_", "\n"), fontsize=9)
    for place, name in zip(axes[:, 0], names or (), strict=False):
        place.set_ylabel(name, fontsize=9)
    return figure


def _runs(n_rows: int, groups: Sequence[str] | None) -> list[tuple[str, slice]]:
    """Return the name and the rows of each group, of which there is one if no groups are given."""
    names = [""] * n_rows if groups is None else list(groups)[:n_rows]
    if len(names) != n_rows:
        raise ValueError(f"groups: expected one of each sample, {n_rows}, got {len(names)}")
    starts = [k for k, name in enumerate(names) if k == 0 or name != names[k - 1]]
    return [(names[a], slice(a, b)) for a, b in zip(starts, [*starts[1:], n_rows], strict=True)]


def gray_limits(
    images: Sequence[NDArray[np.floating]], value_range: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """Return the values of black and white of images that are compared.

    They are those of `value_range` if the last image, in general the cleanest, uses at least a quarter of
    the range, else the quantiles .005 and .995 of its values, or of those of all images if it is constant.
    """
    black, white = value_range
    for few in (images[-1:], images):
        values = np.concatenate([np.asarray(image, np.float64).ravel() for image in few])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, [EXTREME, 1 - EXTREME]) if values.size else (black, black)
        unit = white - black
        if low >= black - unit and high <= white + unit and high - low >= FAINT * unit:
            return black, white
        if high > low:
            return float(low), float(high)
    return black, white


def _scales(
    images: Sequence[NDArray[np.floating]],
    differences: Iterable[NDArray[np.floating]],
    value_range: tuple[float, float],
) -> tuple[ScalarMappable, ScalarMappable]:
    """Return the scale of the images, and the symmetric one of their differences."""
    far = [np.abs(values[np.isfinite(values)]) for values in map(np.asarray, differences)]
    end = max((float(np.quantile(values, FAR)) for values in far if values.size), default=0.0) or 1.0
    ends = Normalize(*gray_limits(images, value_range)), Normalize(-end, end)
    gray = colormaps["gray"].with_extremes(bad=MISSING)
    diverging = colormaps["RdBu_r"].with_extremes(bad="0.7")
    return ScalarMappable(ends[0], gray), ScalarMappable(ends[1], diverging)


def _add_bars(
    figure: Figure,
    axes: NDArray[Any],
    n_images: int,
    scales: tuple[ScalarMappable, ScalarMappable],
    units: str | None,
) -> None:
    """Add a colour bar for the images, and one for the differences, below them."""
    if units is None:
        return
    for panels, scale in zip((axes[:, :n_images], axes[:, n_images:]), scales, strict=True):
        if panels.size:
            figure.colorbar(
                scale,
                ax=panels.ravel().tolist(),
                label=units,
                location="bottom",
                aspect=25 * panels.shape[1],
                extend="both",
            )


def _checked(name: str, image: Any) -> NDArray[Any]:
    """Return an image whose pixels are numbers or NaN."""
    values = np.asarray(image)
    check_array(
        name, np.nan_to_num(values, posinf=np.inf, neginf=-np.inf) if values.dtype.kind == "f" else image
    )
    return values


def _mean(image: NDArray[np.floating], ndim: int = 2) -> NDArray[np.floating]:
    """Return the mean over the channels of a colour image."""
    return image.mean(axis=-1) if np.ndim(image) > ndim else image


def _show(
    axes: Any,
    image: NDArray[np.floating],
    scale: ScalarMappable,
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    shown: Any = image
    if np.ndim(image) == 3:
        shown = np.clip(np.asarray(scale.norm(image)), 0, 1)
        shown[np.isnan(image).any(axis=2)] = to_rgb(MISSING)
    axes.imshow(
        shown,
        cmap=scale.cmap,
        norm=scale.norm,
        extent=extent,
        interpolation="antialiased" if extent else "nearest",
    )
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
