"""Stacks of frames: the order of their axes, the level of their noise, and which frames show one scene."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from calepin.imaging.noise_level import estimate_noise
from calepin.imaging.result import check_values

__all__ = [
    "SMALLEST",
    "at_rest",
    "check_axes",
    "check_stack",
    "estimate_stack_noise",
    "from_frames",
    "related_runs",
    "to_frames",
]

SMALLEST = 16  # pixels per side of a frame

_FRAMES = 9  # of which the level of the noise is estimated
_SIDE = 4  # of the blocks of pixels whose means are compared
_AROUND = 5  # blocks per side whose mean is subtracted
_REACH = 2  # blocks by which a scene may move between frames
_RELATED = 0.4  # correlation of successive frames of one scene; of others it is below .3
_CERTAIN = 3.0  # standard errors of the correlation
_NOISE = (1 - 1 / _AROUND**2) / _SIDE**2  # variance of what is compared, for noise of variance 1


def check_axes(axes: Any) -> str:
    """Return the axes of a stack; raise ValueError unless they are Y, X, and Z or T, each once."""
    if not isinstance(axes, str) or sorted(axes) not in (sorted("ZYX"), sorted("TYX")):
        raise ValueError(
            "axes: expected the letters Y, X and Z (depth) or T (time) in the order of the axes of a stack, "
            f"such as 'ZYX', or None for an image, got {axes!r:.60}"
        )
    return axes


def check_stack(stack: Any, axes: str, *, integers: bool = False) -> NDArray:
    """Return a stack as an array.

    Parameters
    ----------
    stack : array (d, h, w), or frames
    axes : str
        As of `check_axes`.
    integers : bool
        Whether integers (counts) are allowed, too.

    Raises
    ------
    ValueError
        Frames of several sizes, another number of axes, frames with fewer than 16 pixels per side, another
        dtype, NaN, infinity or masked entries.
    """
    if isinstance(stack, list | tuple):
        shapes = list(dict.fromkeys(np.shape(frame) for frame in stack))
        if len(shapes) > 1:
            raise ValueError(f"image: expected frames of one size, got {shapes[0]} and {shapes[1]}")
    shape = np.shape(stack)
    if len(shape) != 3:
        raise ValueError(f"image: expected the three axes {axes}, got shape {shape}")
    stack = check_values(stack, integers=integers)
    d, h, w = to_frames(stack, axes).shape
    if d < 1 or min(h, w) < SMALLEST:
        raise ValueError(
            f"image: expected frames of at least {SMALLEST} x {SMALLEST} pixels, got {d} of {h} x {w} (axes "
            f"{axes}, shape {shape})"
        )
    return stack


def to_frames(stack: NDArray, axes: str) -> NDArray:
    """Return a view (d, h, w) of a stack."""
    return stack.transpose([axes.index(letter) for letter in _first(axes) + "YX"])


def from_frames(frames: NDArray, axes: str) -> NDArray:
    """Return a view of frames (d, h, w) with these axes: the inverse of `to_frames`."""
    return frames.transpose([(_first(axes) + "YX").index(letter) for letter in axes])


def _first(axes: str) -> str:
    return "T" if "T" in axes else "Z"


def estimate_stack_noise(frames: NDArray[np.floating]) -> float:
    """Estimate the standard deviation of white Gaussian noise in frames (d, h, w).

    It is the median of the levels of at most nine frames, spread over the stack; frames without noise do not
    count unless all have none. The warnings of `calepin.imaging.estimate_noise` about the frame of this level
    are given.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))
    found = []
    for k in chosen:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found.append((estimate_noise(np.ascontiguousarray(frames[k])), int(k), told))
    found = sorted([one for one in found if one[0] > 0] or found, key=lambda one: one[:2])
    sigma, k, told = found[len(found) // 2]
    for warning in told:
        warnings.warn(f"frame {k}: {warning.message}", stacklevel=3)
    return sigma


def related_runs(frames: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Return first frame and end of each run of successive frames that show one scene.

    Parameters
    ----------
    frames : array (d, h, w)
        In units of the noise, whose standard deviation is 1.

    Successive frames are compared by the means of blocks of 4x4 pixels, from which the mean of 5x5 blocks is
    subtracted. The correlation, without the variance of the noise, is the largest of all shifts by at most
    two blocks. A run ends where it is less than .4, with certainty: noisy frames stay together.
    """
    starts = [0]
    before = _details(frames[0])
    for k in range(1, len(frames)):
        here = _details(frames[k])
        if not _is_related(before, here):
            starts.append(k)
        before = here
    return list(zip(starts, [*starts[1:], len(frames)], strict=True))


def at_rest(frames: NDArray[np.floating]) -> float:
    """Return how much a scene stays where it is from frame to frame: 1 at rest, near 0 in fast motion.

    It is the correlation of the blocks that `related_runs` compares, in the same place, over all successive
    frames; its upper end where it is uncertain.
    """
    before, product, signal = _details(frames[0]), 0.0, 0.0
    for frame in frames[1:]:
        here = _details(frame)
        product += float(np.mean(before * here))
        signal += float(np.mean(before**2 + here**2)) / 2 - _NOISE
        before = here
    product += _CERTAIN * _NOISE * np.sqrt(max(len(frames) - 1, 1) / before.size)
    return min(product / signal, 1.0) if signal > 0 else 1.0


def _details(frame: NDArray[np.floating]) -> NDArray[np.float64]:
    rows, columns = (n // _SIDE for n in frame.shape)
    blocks = frame[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE)
    means = blocks.mean(axis=(1, 3), dtype=np.float64)
    return means - uniform_filter(means, _AROUND)


def _is_related(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    signal = np.sqrt(max(np.mean(a**2) - _NOISE, 0) * max(np.mean(b**2) - _NOISE, 0))
    largest = max(
        float(np.mean(_shifted(a, rows, columns) * _shifted(b, -rows, -columns)))
        for rows in range(-_REACH, _REACH + 1)
        for columns in range(-_REACH, _REACH + 1)
    )
    return bool(largest + _CERTAIN * _NOISE / np.sqrt(a.size) >= _RELATED * signal)


def _shifted(values: NDArray, rows: int, columns: int) -> NDArray:
    """Return the part of an array that remains if it is moved by rows and columns."""
    h, w = values.shape
    return values[max(0, rows) : h + min(0, rows), max(0, columns) : w + min(0, columns)]
