"""Figures of the atoms of a dictionary: patches as tiles of one image, other atoms as curves."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number

__all__ = ["atom_curves", "atom_figure", "atom_tiles", "patch_shape"]

BACKGROUND = 0.12
DPI = 150  # of a saved figure: a pixel of an atom is a block of whole pixels
COLOUR = "#0072B2"  # of curves, from the palette in `calepin.report.figures`
FLAT = 0.02  # contrast is not stretched if the range of an atom is below this fraction of its magnitude


def patch_shape(n_features: int) -> tuple[int, ...] | None:
    """Return the shape (p, p) or (p, p, 3) of a square patch with `n_features` entries, or None.

    The shape is unique, because no number is both a square and three times a square.
    """
    check_integer("n_features", n_features)
    side = math.isqrt(n_features)
    if side * side == n_features:
        return (side, side)
    side = math.isqrt(n_features // 3)
    return (side, side, 3) if 3 * side * side == n_features else None


def atom_tiles(
    atoms: ArrayLike, shape: Sequence[int] | None = None, *, width: int = 960
) -> NDArray[np.float32]:
    """Return an image, with pixels in [0, 1], of all atoms as tiles, each with its own contrast.

    In an atom with positive and negative entries, zero is mid gray. An atom with entries of one sign is
    stretched from black to white. The contrast is the same for all colour channels of an atom.

    Parameters
    ----------
    atoms : array of shape (n_components, n_features) or (n_components, *shape)
        The atoms.
    shape : sequence of int, optional
        Shape of a patch, (h, w) or (h, w, 3). Default: that of the atoms, or a square patch of n_features.
    width : int, default 960
        Approximate width of the image in pixels. Each entry of an atom becomes a block of pixels.

    Raises
    ------
    ValueError
        If no patch has this number of entries, or entries are not finite.
    """
    check_arguments(atom_tiles, locals())
    check_integer("width", width)
    patches = _as_patches(atoms, shape)
    n_components, height, side = patches.shape[:3]
    columns = max(1, math.ceil(math.sqrt(n_components * height / side)))
    rows = math.ceil(n_components / columns)
    zoom = max(1, width // (columns * (side + 1) + 1))
    gap = max(1, zoom // 2)
    cell = (height * zoom + gap, side * zoom + gap)
    canvas = np.full(
        (rows * cell[0] + gap, columns * cell[1] + gap, *patches.shape[3:]), BACKGROUND, np.float32
    )
    for i, patch in enumerate(patches):
        top, left = gap + i // columns * cell[0], gap + i % columns * cell[1]
        block = _stretch(patch).repeat(zoom, axis=0).repeat(zoom, axis=1)
        canvas[top : top + block.shape[0], left : left + block.shape[1]] = block
    return canvas


def atom_figure(
    atoms: ArrayLike,
    shape: Sequence[int] | None = None,
    *,
    labels: Sequence[str] | None = None,
    sampling_rate: float | None = None,
    channel_names: Sequence[str] | None = None,
) -> Figure:
    """Return a figure of atoms or filters, each with its number: patches as tiles, others as curves.

    Parameters
    ----------
    atoms : array of shape (n_components, n_features) or (n_components, channels, *kernel)
        The atoms, or filters of one or two axes, whose channels are drawn one after another.
    shape : sequence of int, optional
        Shape of an atom as a patch, (h, w) or (h, w, 3). Default: a square patch if n_features is one,
        otherwise atoms are curves.
    labels : sequence of str, optional
        A label for each atom. Default: its number, from 0. That of a filter is followed by its channel if
        there are several.
    sampling_rate : float, optional
        Sampling rate in Hz of filters of one axis, which are then drawn over seconds.
    channel_names : sequence of str, optional
        Names of the channels of filters. Default: their numbers.

    Raises
    ------
    ValueError
        If atoms have another number of axes, no patch has this number of entries, or entries are not finite.
    """
    check_arguments(atom_figure, locals())
    values = check_array("atoms", atoms)
    if not 2 <= values.ndim <= 4:
        raise ValueError(
            f"atoms: expected (n_components, n_features) or filters of one or two axes, got {values.shape}"
        )
    labels = list(map(str, range(len(values)))) if labels is None else list(labels)
    if len(labels) != len(values):
        raise ValueError(f"labels: expected one for each of {len(values)} atoms, got {len(labels)}")
    check_number("sampling_rate", sampling_rate, above=0, optional=True)
    if sampling_rate is not None and values.ndim != 3:
        raise ValueError(f"sampling_rate: expected None for atoms of shape {values.shape}")
    channels = _channels(values, channel_names)
    if values.ndim > 2:
        if channels:
            labels = [f"{label}, {channel}" for label in labels for channel in channels]
        values = values.reshape(-1, *values.shape[2:])
    if (values.ndim == 2 and shape is None and patch_shape(values.shape[1]) is None) or np.ndim(atoms) == 3:
        return _curve_figure(values, labels, sampling_rate)
    return _tile_figure(_as_patches(values, shape), labels)


def atom_curves(atoms: ArrayLike) -> Figure:
    """Return a figure of the atoms (n_components, n_features) as curves, each with its number and scale."""
    check_arguments(atom_curves, locals())
    values = check_array("atoms", atoms)
    if values.ndim != 2:
        raise ValueError(f"atoms: expected finite values in 2 axes, got shape {values.shape}")
    return _curve_figure(values, [str(i) for i in range(len(values))])


def _channels(values: NDArray[np.floating], names: Sequence[str] | None) -> list[str]:
    """Return what to write of each channel of filters; nothing of a single one without a name."""
    n_channels = values.shape[1] if values.ndim > 2 else 0
    if names is None:
        return [f"channel {c}" for c in range(n_channels)] if n_channels > 1 else []
    if len(names) != n_channels:
        raise ValueError(f"channel_names: expected one for each of {n_channels} channels, got {len(names)}")
    return list(names)


def _curve_figure(
    values: NDArray[np.floating], labels: Sequence[str], sampling_rate: float | None = None
) -> Figure:
    """Return curves in a grid of cells on common axes; each cell names the largest magnitude of its atom."""
    from matplotlib.collections import LineCollection

    n_components, n_features = values.shape
    columns = max(1, round(math.sqrt(n_components / 2)))
    rows = math.ceil(n_components / columns)
    scale = np.abs(values).max(axis=1, keepdims=True)
    heights = 0.34 * values / np.where(scale > 0, scale, 1)
    x = np.linspace(0.06, 0.94, n_features) if n_features > 1 else np.array([0.5])
    cells = [(i % columns, -(i // columns) - 0.58) for i in range(n_components)]
    lines = [np.column_stack([column + x, row + y]) for (column, row), y in zip(cells, heights, strict=True)]
    zeros = [[(column + 0.06, row), (column + 0.94, row)] for column, row in cells]
    width = min(max(2.2 * columns, 4.4), 14)
    figure = Figure(figsize=(width, min(max(rows, 1.6) + 0.6, 16)), layout="constrained")
    axes = figure.add_subplot()
    axes.add_collection(LineCollection(zeros, colors="0.75", linewidths=0.8))
    # one entry is a point, which has to be seen, too
    axes.add_collection(LineCollection(lines, colors=COLOUR, linewidths=1.2, capstyle="round"))
    size = _font_size(72 * width / columns, max(len(label) for label in labels) + 9)
    for (column, row), label, largest in zip(cells, labels, scale[:, 0], strict=True):
        _write(axes, column + 0.06, row + 0.55, label, fontsize=size, va="top", fontweight="bold")
        _write(axes, column + 0.94, row + 0.55, f"\u00b1{largest:.2g}", fontsize=size, va="top", ha="right")
    ends = [
        (column + end, str(k) if sampling_rate is None else f"{k / sampling_rate:.3g}")
        for column in range(columns)
        for end, k in _ends(x, n_features)
    ]
    axes.set_xticks([at for at, _ in ends], [text for _, text in ends], fontsize=size)
    axes.set(xlim=(0, columns), ylim=(-rows, 0), yticks=[])
    axis = "index in the atom" if sampling_rate is None else "time in the atom (s)"
    axes.set_xlabel(f"{axis}; the line is zero, \u00b1 gives the largest magnitude", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _ends(x: NDArray[np.floating], n_features: int) -> list[tuple[float, int]]:
    """Return the places of the first and the last entry in a cell, and their numbers."""
    ends = [(float(x[0]), 0), (float(x[-1]), n_features - 1)]
    return ends if n_features > 1 else ends[:1]


def _tile_figure(patches: NDArray[np.float32], labels: Sequence[str]) -> Figure:
    """Return patches in a grid of cells, each with its label above it."""
    n_components, height, side = patches.shape[:3]
    columns = max(4, math.ceil(math.sqrt(n_components * height / side)))
    width = min(max(4.4, 0.62 * columns), 12)
    size = _font_size(72 * width / columns, max(map(len, labels)))
    # one canvas, because hundreds of images in a figure take seconds
    zoom = max(1, round(DPI * width / columns / (1.08 * side)))
    gap = max(1, round(0.08 * side * zoom))
    cell = side * zoom + gap
    band = round(1.6 * size / 72 * cell * columns / width)  # for the label, above the patch
    rows = math.ceil(n_components / columns)
    step = band + height * zoom
    canvas = np.ones((rows * step, columns * cell, 3), np.float32)
    figure = Figure(figsize=(width, width * rows * step / (columns * cell) + 0.45), layout="constrained")
    axes = figure.add_subplot()
    for i, (patch, label) in enumerate(zip(patches, labels, strict=True)):
        top, left = i // columns * step + band, i % columns * cell
        block = _stretch(patch).reshape(height, side, -1).repeat(zoom, axis=0).repeat(zoom, axis=1)
        canvas[top : top + block.shape[0], left : left + block.shape[1]] = block
        _write(axes, left, top - 0.25 * band, label, fontsize=size, va="baseline")
    axes.imshow(canvas, extent=(0, canvas.shape[1], canvas.shape[0], 0))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"{height} x {side} pixels each, with its own contrast; zero is mid gray", fontsize=9)
    return figure


def _write(axes: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Write a text that is not a formula, and that the layout need not measure: that takes seconds."""
    axes.text(x, y, text, parse_math=False, **style).set_in_layout(False)


def _font_size(width: float, n_letters: int) -> float:
    """Return the size at which a text fits into a width in points."""
    return float(np.clip(0.9 * width / (0.62 * max(n_letters, 1)), 3, 9))


def _as_patches(atoms: ArrayLike, shape: Sequence[int] | None) -> NDArray[np.float32]:
    values = check_array("atoms", atoms).astype(np.float32)
    if values.ndim < 2 or not np.isfinite(values).all():
        raise ValueError(f"atoms: expected finite values of at least one atom, got shape {values.shape}")
    n_features = values[0].size
    if shape is None:
        shape = values.shape[1:] if values.ndim > 2 else patch_shape(n_features)
        if shape is None:
            raise ValueError(
                f"shape: expected (h, w) or (h, w, 3), because {n_features} features are not a square patch, "
                "got None"
            )
    shape = tuple(shape)
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    if not is_image or min(shape) < 1 or math.prod(shape) != n_features:
        raise ValueError(f"shape: expected (h, w) or (h, w, 3) with {n_features} entries, got {shape}")
    return values.reshape(len(values), *shape)


def _stretch(patch: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = float(patch.min()), float(patch.max())
    size = max(abs(low), abs(high))
    if high - low <= FLAT * size or size == 0:
        return np.full_like(patch, 0.5 if size == 0 else 0.5 + 0.5 * (low + high) / (2 * size))
    if low >= 0 or high <= 0:
        return (patch - low) / (high - low)
    return 0.5 + 0.5 * patch / size
