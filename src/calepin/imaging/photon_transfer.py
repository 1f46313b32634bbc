"""Gain and read noise of a camera, from how the variance of the noise grows with the signal.

The noise of `calepin.PoissonGaussianNoise` has the variance ``gain * (x - offset) + read^2`` at the mean x: a
straight line, the photon transfer curve (Janesick 2007). Its slope is the gain. Offset and read noise are not
seen separately in the curve: the offset has to be known, or a dark frame shows both.
"""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_number
from calepin.datasets.noise import PoissonGaussianNoise

__all__ = ["estimate_photon_transfer"]

Floats = NDArray[np.float64]

_BLOCK = 8  # side of the blocks of one image, in pixels
_LEVELS = 24  # classes of brightness
_FLAT = 0.3  # of the blocks of a class: those with the least texture
_ROUNDS = 20
_FEWEST = 48  # pixels per side of a single image
_STEEP = 0.9  # quantile of the slope of the brightness above which motion shows
_EXCESS = 1.5  # variance there over that of the flat half, both relative to the line
_FLICKER = 0.1  # share of the differences of frames that may be common to all pixels
_MOVES = "the scene moves or changes between frames"


def estimate_photon_transfer(
    images: ArrayLike, *, offset: float = 0.0, dark: ArrayLike | None = None
) -> PoissonGaussianNoise:
    """Return the noise model of a camera, from one image or from a stack of images of the same scene.

    The variance at each brightness is that of the differences of successive images of a stack. In a single
    image it is the mean square of the differences along both diagonals of 2x2 pixels in the flattest blocks;
    texture is judged by the means of 2x2 pixels, whose noise is independent of these differences. The line
    is fitted by weighted least squares; a variance of a variance grows with its square.

    Parameters
    ----------
    images : array (h, w) or (n, h, w)
        One image, or at least two images of a scene that does not move. The values of saturated pixels
        should be left out by cropping: they have no noise.
    offset : float, default 0
        Value of a pixel without light, in the units of the images.
    dark : array, optional
        Image or images without light, from which offset and read noise are taken.

    Returns
    -------
    PoissonGaussianNoise
        Gain, offset and read noise.

    Raises
    ------
    ValueError
        Too small an image, an image in colour, no brightness but one, images without noise or with noise that
        does not grow with the brightness (or with motion instead of it), more light without light than with,
        or both of `offset` and `dark`.

    Warns
    -----
    UserWarning
        The line is below zero without light: the offset is probably larger than the given one. Or the scene
        of a stack moves or changes between frames: their differences are larger where the brightness has a
        slope, or all have one sign.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.datasets import PoissonGaussianNoise, add_noise
    >>> from calepin.imaging import estimate_photon_transfer
    >>> clean = np.linspace(100, 1100, 64)[:, None] * np.ones((64, 64))
    >>> camera = PoissonGaussianNoise(gain=2.0, offset=100.0, read=6.0)
    >>> stack = np.stack([add_noise(clean, camera, random_state=seed) for seed in range(8)])
    >>> found = estimate_photon_transfer(stack, offset=100.0)
    >>> 1.9 < found.gain < 2.1
    True
    """
    check_arguments(estimate_photon_transfer, locals())
    frames = check_array("images", images).astype(np.float64)
    if frames.ndim not in (2, 3) or (frames.ndim == 3 and len(frames) < 2):
        raise ValueError(
            f"images: expected shape (h, w), or (n, h, w) with n of at least 2, got {frames.shape}"
        )
    if not np.isfinite(frames).all():
        raise ValueError("images: expected finite values")
    if frames.ndim == 3 and frames.shape[2] in (3, 4) and len(frames) > 4:
        raise ValueError(f"images: expected a stack (n, h, w), got {frames.shape}, as of an image in colour")
    known = None
    if dark is not None:
        if offset:
            raise ValueError("offset: expected none beside dark frames, which show it")
        darkness = check_array("dark", dark).astype(np.float64)
        offset, known = float(darkness.mean()), float(darkness.std())
    check_number("offset", offset)
    usual = float(np.median(frames))
    if usual < offset:
        name = "offset" if known is None else "dark"
        raise ValueError(f"{name}: expected less than in the images, {usual:g}, got {offset:g}")
    mean, variance, weight = _classes(*(_of_stack(frames) if frames.ndim == 3 else _of_image(frames)))
    if not variance.any():
        raise ValueError("images: expected noise, got none: are the images of the stack the same?")
    gain, constant = _line(mean - offset, variance, weight, None if known is None else known**2)
    moves = frames.ndim == 3 and _changes(frames, gain, constant - gain * offset)
    if not gain > 0:
        raise ValueError(
            f"images: expected a scene at rest, but {_MOVES}"
            if moves
            else "images: expected noise that grows with the brightness, as that of photons does; cut out "
            "saturated and hot pixels"
        )
    if moves:
        warnings.warn(f"images: {_MOVES}: the gain is too large", stacklevel=2)
        return PoissonGaussianNoise(gain, float(offset), float(np.sqrt(max(constant, 0.0))))
    read = known if known is not None else _read(gain, constant)
    return PoissonGaussianNoise(gain, float(offset), read)


def _read(gain: float, constant: float) -> float:
    """Return the read noise from the variance without light, and warn where it is negative."""
    if constant < -gain:
        warnings.warn(
            f"offset: the noise vanishes {-constant / gain:.4g} above it, so that the offset is probably "
            "larger by about as much; read noise is taken as 0",
            stacklevel=3,
        )
    return float(np.sqrt(max(constant, 0.0)))


def _changes(frames: Floats, gain: float, constant: float) -> bool:
    """Return whether frames differ by more than noise, whose variance is a line over the mean."""
    steps = np.diff(frames, axis=0)
    squares = steps**2
    if float((steps.mean(axis=(1, 2)) ** 2).mean()) > _FLICKER * float(squares.mean()):
        return True
    mean, variance = frames.mean(axis=0), squares.mean(axis=0) / 2
    if min(mean.shape) < 2:
        return False
    slope = np.hypot(*np.gradient(mean))
    steep, flat = slope >= np.quantile(slope, _STEEP), slope <= np.median(slope)
    # sums, since the expected variance is linear in the mean, whatever the noise of that
    expected = [float((gain * mean[part] + constant).sum()) for part in (steep, flat)]
    if not (gain > 0 and min(expected) > 0):
        expected = [float(np.count_nonzero(part)) for part in (steep, flat)]
    seen = [float(variance[part].sum()) for part in (steep, flat)]
    return seen[0] * expected[1] > _EXCESS * seen[1] * expected[0]


def _of_stack(frames: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of each pixel; slow changes hardly enter differences of successive frames."""
    return frames.mean(axis=0).ravel(), (np.diff(frames, axis=0) ** 2).mean(axis=0).ravel() / 2


def _of_image(image: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of the noise of the flattest blocks of each brightness."""
    if min(image.shape) < _FEWEST:
        raise ValueError(f"images: expected at least {_FEWEST} x {_FEWEST} pixels, got {image.shape}")
    rows, columns = (n // _BLOCK for n in image.shape)
    half = _BLOCK // 2
    four = image[: rows * _BLOCK, : columns * _BLOCK].reshape(rows * half, 2, columns * half, 2)
    diagonal = (four[:, 0, :, 0] - four[:, 0, :, 1] - four[:, 1, :, 0] + four[:, 1, :, 1]) / 2
    means = four.mean(axis=(1, 3))

    def blocks(values: Floats) -> Floats:
        split = values.reshape(rows, half, columns, half)
        return split.transpose(0, 2, 1, 3).reshape(rows * columns, half * half)

    brightness, noise, texture = (
        blocks(means).mean(axis=1), (blocks(diagonal) ** 2).mean(axis=1), blocks(means).var(axis=1)
    )  # fmt: skip
    kept = np.zeros(len(brightness), bool)
    for members in np.array_split(np.argsort(brightness, kind="stable"), _LEVELS):
        flattest = members[np.argsort(texture[members], kind="stable")]
        kept[flattest[: max(int(_FLAT * len(members)), 1)]] = True
    return brightness[kept], noise[kept]


def _classes(mean: Floats, variance: Floats) -> tuple[Floats, Floats, Floats]:
    """Return mean, variance and number of members of classes of equal brightness."""
    if np.ptp(mean) == 0:
        raise ValueError(f"images: expected several brightnesses, got {mean[0]:g} everywhere")
    edges = np.linspace(mean.min(), mean.max(), _LEVELS + 1)[1:-1]
    of = np.searchsorted(edges, mean)
    number = np.bincount(of, minlength=_LEVELS)
    seen = number > 0
    at, of_noise = (
        np.bincount(of, values, minlength=_LEVELS)[seen] / number[seen] for values in (mean, variance)
    )
    return at, of_noise, number[seen].astype(np.float64)


def _line(mean: Floats, variance: Floats, number: Floats, constant: float | None) -> tuple[float, float]:
    """Return slope and constant of the variance over the mean, by reweighted least squares."""
    weight = number.copy()
    slope = 0.0
    found = constant or 0.0
    for _ in range(_ROUNDS):
        if constant is None:
            columns = np.stack([mean, np.ones_like(mean)], axis=1) * np.sqrt(weight)[:, None]
            slope, found = np.linalg.lstsq(columns, variance * np.sqrt(weight), rcond=None)[0].tolist()
        else:
            slope = float((weight * mean * (variance - constant)).sum() / (weight * mean**2).sum())
        fitted = np.maximum(slope * mean + found, 1e-3 * variance.max())
        weight = number / fitted**2
    return float(slope), float(found)
