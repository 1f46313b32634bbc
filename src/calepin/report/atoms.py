"""Figures of the atoms of a dictionary: patches as tiles of one image, other atoms as curves."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer

__all__ = ["atom_curves", "atom_tiles", "patch_shape"]

BACKGROUND = 0.12
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


def atom_curves(atoms: ArrayLike) -> Figure:
    """Return a figure of the atoms (n_components, n_features) as curves, each with its own scale."""
    check_arguments(atom_curves, locals())
    from matplotlib.collections import LineCollection

    values = check_array("atoms", atoms)
    if values.ndim != 2:
        raise ValueError(f"atoms: expected finite values in 2 axes, got shape {values.shape}")
    n_components, n_features = values.shape
    columns = max(1, round(math.sqrt(n_components / 2)))
    rows = math.ceil(n_components / columns)
    scale = np.abs(values).max(axis=1, keepdims=True)
    heights = 0.42 * values / np.where(scale > 0, scale, 1)
    x = np.linspace(0.06, 0.94, n_features)
    cells = [(i % columns, -(i // columns) - 0.5) for i in range(n_components)]
    lines = [np.column_stack([column + x, row + y]) for (column, row), y in zip(cells, heights, strict=True)]
    axes_lines = [[(column + 0.06, row), (column + 0.94, row)] for column, row in cells]
    figure = Figure(figsize=(min(2.2 * columns, 14), min(0.9 * rows, 16)), layout="constrained")
    axes = figure.add_subplot()
    axes.add_collection(LineCollection(axes_lines, colors="0.85", linewidths=0.8))
    axes.add_collection(LineCollection(lines, colors="#0072B2", linewidths=1.2))
    axes.set(xlim=(0, columns), ylim=(-rows, 0))
    axes.set_axis_off()
    return figure


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
