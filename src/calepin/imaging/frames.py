"""Stacks of frames: the order of their axes, the level of their noise, and which frames show one scene."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from calepin.core.arrays import as_array
from calepin.imaging.inpainting import interpolate_gaps
from calepin.imaging.noise_level import estimate_noise
from calepin.imaging.result import check_values

__all__ = [
    "SMALLEST",
    "at_rest",
    "check_axes",
    "check_stack",
    "estimate_stack_noise",
    "fill_gaps",
    "from_frames",
    "related_runs",
    "stack_levels",
    "to_frames",
]

SMALLEST = 16  # pixels per side of a frame

_ROUNDS = 4  # of filling gaps with noise
_FRAMES = 9  # of which the level of the noise is estimated
_SIDE = 4  # of the blocks of pixels whose means are compared
_AROUND = 5  # blocks per side whose mean is subtracted
_REACH = 2  # blocks by which a scene may move between frames
_RELATED = 0.4  # correlation of successive frames of one scene; of others it is below .3
_CERTAIN = 3.0  # standard errors of the correlation
_NOISE = (1 - 1 / _AROUND**2) / _SIDE**2  # variance of what is compared, for noise of variance 1


def check_axes(axes: Any) -> str:
    """Return the axes of a stack; raise ValueError unless they are Y, X and others, each once."""
    right = isinstance(axes, str) and {"Y", "X"} < set(axes) <= set("TCZYXS") and len(set(axes)) == len(axes)
    if not right:
        raise ValueError(
            "axes: expected the letters Y, X and Z (depth), T (time), C (channels) or S (colours) in the "
            f"order of the axes of a stack, such as 'ZYX', or None for an image, got {axes!r:.60}"
        )
    return axes


def check_stack(stack: Any, axes: str, *, integers: bool = False) -> NDArray:
    """Return a stack as an array, with NaN where samples are missing.

    Parameters
    ----------
    stack : array, or frames
        NaN and masked entries are missing.
    axes : str
        As of `check_axes`.
    integers : bool
        Whether integers (counts) are allowed, too.

    Raises
    ------
    ValueError
        No samples, frames of several sizes, another number of axes, another number of colours than three,
        frames with fewer than 16 pixels per side, another dtype, infinity, or nothing but missing entries.
    """
    if isinstance(stack, list | tuple):
        shapes = list(dict.fromkeys(np.shape(frame) for frame in stack))
        if len(shapes) > 1:
            raise ValueError(f"image: expected frames of one size, got {shapes[0]} and {shapes[1]}")
        masked = any(isinstance(frame, np.ma.MaskedArray) for frame in stack)
        stack = np.ma.stack(stack) if masked else stack
    shape = np.shape(stack)
    if 0 in shape:
        raise ValueError(f"image: expected a stack with samples, got an empty one of shape {shape}")
    if len(shape) != len(axes):
        number = f"{len(axes)} axes" if len(axes) != 3 else "three axes"
        raise ValueError(f"image: expected the {number} {axes}, got shape {shape}")
    values = np.ma.getdata(stack) if isinstance(stack, np.ma.MaskedArray) else as_array(stack)
    missing = np.ma.getmaskarray(stack) if isinstance(stack, np.ma.MaskedArray) else np.zeros(shape, bool)
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values)
    checked = check_values(np.where(missing, 0, values) if missing.any() else values, integers=integers)
    sizes = dict(zip(axes, shape, strict=True))
    if min(sizes["Y"], sizes["X"]) < SMALLEST:
        raise ValueError(
            f"image: expected frames of at least {SMALLEST} x {SMALLEST} pixels, got {sizes['Y']} x "
            f"{sizes['X']} (axes {axes}, shape {shape})"
        )
    if sizes.get("S", 3) != 3:
        raise ValueError(
            f"image: expected three colours along S, got {sizes['S']} (axes {axes}, shape {shape})"
        )
    if not missing.any():
        return checked
    if missing.all():
        raise ValueError("image: expected samples, all of them are missing")
    return np.where(missing, np.nan, checked if checked.dtype.kind == "f" else checked.astype(np.float64))


def to_frames(stack: NDArray, axes: str) -> NDArray:
    """Return a view (n, d, h, w) or (n, d, h, w, 3) of n volumes or time series of a stack, or a copy.

    The frames of each are neighbours in depth, or in time without a depth.
    """
    order = _order(axes)
    ordered = stack.transpose([axes.index(letter) for letter in order])
    n_leading = order.index("Y")
    n_frames = ordered.shape[n_leading - 1] if _first(axes) else 1
    return ordered.reshape(-1, n_frames, *ordered.shape[n_leading:])


def from_frames(frames: NDArray, axes: str, shape: tuple[int, ...]) -> NDArray:
    """Return frames with these axes, in the shape of the stack: the inverse of `to_frames`."""
    order = _order(axes)
    ordered = frames.reshape([shape[axes.index(letter)] for letter in order])
    return ordered.transpose([order.index(letter) for letter in axes])


def _first(axes: str) -> str:
    """Return the axis along which frames are neighbours."""
    return next((letter for letter in "ZT" if letter in axes), "")


def _order(axes: str) -> str:
    """Return the axes in the order of `to_frames`: others, neighbours, rows, columns, colours."""
    last = _first(axes) + "YX" + "S" * ("S" in axes)
    return "".join(letter for letter in axes if letter not in last) + last


def stack_levels(sigma: NDArray[np.floating], shape: tuple[int, ...], axes: str) -> NDArray[np.floating]:
    """Return the standard deviation of each sample of a stack.

    `sigma` is that of each sample, or of each pixel of all planes, with or without the axis of colours.

    Raises
    ------
    ValueError
        Another shape.
    """
    sizes = dict(zip(axes, shape, strict=True))
    plane = "".join(letter for letter in axes if letter in "YXS")
    given = [axes, axes.replace("S", ""), plane, plane.replace("S", "")]
    for letters in given:
        if sigma.shape == tuple(sizes[letter] for letter in letters):
            at = tuple(slice(None) if letter in letters else None for letter in axes)
            return np.broadcast_to(np.asarray(sigma)[at], shape)
    whole, one = shape, tuple(sizes[letter] for letter in plane)
    raise ValueError(f"sigma: expected shape {whole}, as the stack, or {one}, as a plane, got {sigma.shape}")


def fill_gaps(frames: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.bool_] | None]:
    """Return frames (d, h, w) or (d, h, w, 3) with estimates in place of NaN, and where they are.

    They are means over the neighbourhood in all axes. None if there is no gap.

    Raises
    ------
    ValueError
        Nothing but gaps, in all or in one channel of the frames.
    """
    missing = np.isnan(frames)
    if not missing.any():
        return frames, None
    if missing.all(axis=(0, 1, 2)).any():
        raise ValueError("image: expected samples in each volume and channel, all of one are missing")
    if frames.ndim == 3:
        return interpolate_gaps(frames, ~missing), missing
    channels = [interpolate_gaps(frames[..., c], ~missing[..., c]) for c in range(frames.shape[3])]
    return np.stack(channels, axis=3), missing


def estimate_stack_noise(frames: NDArray[np.floating]) -> float:
    """Estimate the standard deviation of white Gaussian noise in frames (d, h, w) or (d, h, w, 3).

    It is the median of the levels of at most nine frames, spread over the stack; frames without noise do not
    count unless all have none. The warnings of `calepin.imaging.estimate_noise` about the frame of this level
    are given.

    Gaps (NaN) are filled by means of their neighbourhood with noise of the level of the round before.
    """
    frames, missing = fill_gaps(frames)
    sigma = _median_level(frames)
    if missing is None:
        return sigma
    noise = np.random.default_rng(0).standard_normal(np.count_nonzero(missing))
    for _ in range(_ROUNDS):
        whole = frames.copy()
        whole[missing] += (sigma * noise).astype(frames.dtype)
        sigma = _median_level(whole)
    return sigma


def _median_level(frames: NDArray[np.floating]) -> float:
    chosen = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))
    found = []
    for k in chosen:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found.append((estimate_noise(np.ascontiguousarray(frames[k])), int(k), told))
    found = sorted([one for one in found if one[0] > 0] or found, key=lambda one: one[:2])
    sigma, k, told = found[len(found) // 2]
    for warning in told:
        warnings.warn(f"frame {k}: {warning.message}", stacklevel=4)
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
