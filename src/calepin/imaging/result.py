"""Input and output of denoisers: checked images, planes in units of the noise, the result."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.checks import check_number, pixels_of
from calepin.core.errors import IncompatibleError
from calepin.datasets.noise import GaussianNoise

__all__ = [
    "WEAK",
    "DenoiseResult",
    "check_image",
    "check_size",
    "check_values",
    "far_level",
    "from_planes",
    "level_planes",
    "root_mean_square",
    "sigma_of",
    "to_planes",
    "warn_of_weak",
]

# Magnitudes of images and noise whose products are normal numbers in single precision.
_SMALLEST, _LARGEST = 1e-30, 1e30

# An image is far from zero if its median is more than so many times its range: single precision of its values
# is less than that of their differences. The range leaves this share of the pixels out at each end; so many
# pixels tell both.
FAR, OUTSIDE, PIXELS = 2.0, 0.01, 2**16

# Level of a pixel, over the root mean square of all, below which it stays as it is: in single precision the
# groups cannot resolve noise that differs more.
WEAK = 0.03

# Rows are orthonormal, so that white noise stays white with the same sigma: the mean of the channels
# times sqrt(3), then two differences of colours.
OPPONENT = np.array(
    [
        [1 / np.sqrt(3), 1 / np.sqrt(3), 1 / np.sqrt(3)],
        [1 / np.sqrt(2), 0, -1 / np.sqrt(2)],
        [1 / np.sqrt(6), -2 / np.sqrt(6), 1 / np.sqrt(6)],
    ]
)


@dataclass(frozen=True)
class DenoiseResult:
    """Result of `calepin.denoise`.

    Attributes
    ----------
    image : float array
        The denoised image or stack, with the shape and units of the noisy one, not clipped: the estimate of x
        for Gaussian noise, the expected counts x / q for Poisson noise.
    noise : object
        The assumed noise model; `GaussianNoise` with the estimated level if none was given, or a tuple of
        them for several volumes or time series.
    atoms : float array (n_components, n_features) or None
        Atoms of unit norm, if the method has any.
    history : list of dict
        One entry for each pass of learning: pass, objective, seconds, n_replaced. Empty without learning.
    """

    image: NDArray[np.floating]
    noise: object
    atoms: NDArray[np.floating] | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def sigma(self) -> float | None:
        """Standard deviation of Gaussian noise, given or estimated; None for other noise."""
        return self.noise.sigma if isinstance(self.noise, GaussianNoise) else None

    @property
    def _shown(self) -> NDArray[np.floating]:
        """The image, or the middle one of a stack along its first axis."""
        shown = self.image
        while shown.ndim > 2 and not (shown.ndim == 3 and shown.shape[2] == 3):
            shown = shown[len(shown) // 2]
        return shown

    def _repr_html_(self) -> str:
        """Return the image, the noise and the atoms as HTML for notebooks."""
        from calepin.report.notebook import atoms_snippet, image_snippet, snippet

        figures = {"denoised image": image_snippet(self._shown)}
        figures |= {} if self.atoms is None else atoms_snippet(self.atoms)
        return snippet("DenoiseResult", {"noise": self.noise}, figures)


def check_image(image: NDArray, *, integers: bool = False) -> NDArray:
    """Return an image as an array.

    Parameters
    ----------
    image : array (h, w) or (h, w, 3)
    integers : bool
        Whether integers (counts) are allowed, too.

    Raises
    ------
    ValueError
        Another shape, another dtype, NaN, infinity or masked entries.
    """
    image = pixels_of("image", image)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"image: expected shape (h, w) or (h, w, 3), got {image.shape}")
    return check_values(image, integers=integers)


def check_values(image: Any, *, integers: bool = False) -> NDArray:
    """Return an array of any shape; raise ValueError for its values as `check_image` does."""
    image = pixels_of("image", image)
    if image.dtype.kind not in ("iuf" if integers else "f"):
        # no conversion of skimage here: it divides by the range of the dtype, and would change the units
        hint = "; image.astype(float) keeps its units" * (image.dtype.kind in "iu")
        expected = "real" if integers else "floating-point"
        raise ValueError(f"image: expected {expected} numbers, got {image.dtype}{hint}")
    if not np.isfinite(image).all():
        raise ValueError(
            f"image: expected finite values, got {np.count_nonzero(~np.isfinite(image))} NaN or infinities"
        )
    peak = max(float(image.max()), -float(image.min())) if image.size else 0.0
    if peak and not _SMALLEST <= peak <= _LARGEST:
        raise ValueError(
            f"image: expected a largest magnitude from {_SMALLEST:g} to {_LARGEST:g}, got {peak:.3g}: "
            "scale it"
        )
    return image


def check_size(image: NDArray, least: Sequence[int]) -> None:
    """Raise ValueError for an image with fewer than `least` rows or columns."""
    height, width = image.shape[:2]
    if height < least[0] or width < least[1]:
        raise ValueError(f"image: expected at least {least[0]} x {least[1]} pixels, got {height} x {width}")


def sigma_of(noise: object, method: str) -> float:
    """Return the level of Gaussian noise.

    Raises
    ------
    IncompatibleError
        Another noise model, or a range of levels.
    """
    if isinstance(noise, GaussianNoise) and noise.sigma_max in (None, noise.sigma):
        check_number("sigma", noise.sigma, most=_LARGEST)
        return noise.sigma
    raise IncompatibleError(
        f"noise: {method} removes Gaussian noise of one level, GaussianNoise(sigma), and PoissonNoise(), "
        f"got {noise!r:.60}"
    )


def root_mean_square(levels: NDArray[np.floating]) -> float:
    """Return the standard deviation of all noise whose standard deviation varies."""
    return float(np.sqrt(np.mean(np.square(levels, dtype=np.float64))))


def level_planes(level: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the levels of an image, (h, w) or (h, w, 3), as (h, w) or planes (3, h, w).

    Warns of pixels with noise that is too weak beside that of others.
    """
    planes = level if level.ndim == 2 else np.moveaxis(level, 2, 0)
    warn_of_weak(planes, stacklevel=6)
    return np.ascontiguousarray(planes, dtype=np.float32)


def warn_of_weak(level: NDArray[np.floating], *, stacklevel: int = 5) -> None:
    """Warn of levels, over the root mean square of all, of noise that is too weak beside that of others."""
    share = np.mean((level > 0) & (level < WEAK))
    if share > 0:
        warnings.warn(
            f"noise: {share:.1%} of the pixels keep theirs, whose level is below {WEAK:.0%} of the root mean "
            "square of all levels",
            stacklevel=stacklevel,
        )


def far_level(image: NDArray[np.floating], *, colour: bool) -> NDArray[np.floating] | None:
    """Return what to subtract from an image, in its own precision, before it is converted to single.

    It is the median of each channel whose values are far from zero, and 0 of others; None if all are near.
    Differences to it are exact, so that an image with an offset of 1e6 keeps its noise.
    """
    values = image.reshape(-1, image.shape[-1] if colour else 1)
    chosen = values[:: max(1, len(values) // PIXELS)].astype(np.float64)
    low, middle, high = np.quantile(chosen, [OUTSIDE, 0.5, 1 - OUTSIDE], axis=0)
    far = np.abs(middle) > FAR * (high - low)
    if not far.any():
        return None
    return np.where(far, middle, 0).astype(image.dtype)[slice(None) if colour else 0]


def to_planes(
    image: NDArray[np.floating],
    sigma: float,
    *,
    opponent: bool = True,
    like: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """Return float32 planes (c, h, w) in units of the noise, without the `far_level` of the image.

    Colour becomes a mean and two differences, or stays in three channels without `opponent`. Planes of two
    images can be compared if both are without the level of one, `like`.
    """
    level = far_level(image if like is None else like, colour=image.ndim == 3)
    if level is not None:
        image = image - level
    if not opponent:
        return np.ascontiguousarray(np.moveaxis(image / sigma, 2, 0), dtype=np.float32)
    if image.ndim == 2:
        return np.divide(image, sigma, dtype=np.result_type(image, np.float32))[None].astype(np.float32)
    planes = np.empty((3, *image.shape[:2]), dtype=np.float32)
    for c, weights in enumerate(OPPONENT / sigma):
        planes[c] = image @ weights.astype(image.dtype)
    return planes


def from_planes(
    planes: NDArray[np.float32], sigma: float, like: NDArray[np.floating], *, opponent: bool = True
) -> NDArray[np.floating]:
    """Return the image of these planes, with shape and dtype of `like`: the inverse of `to_planes`."""
    out = np.empty(like.shape, dtype=like.dtype)
    if not opponent:
        out[...] = sigma * np.moveaxis(planes, 0, 2)
    elif like.ndim == 2:
        np.multiply(planes[0], sigma, out=out, casting="same_kind")
    else:
        for channel in range(3):
            weights = (OPPONENT[:, channel] * sigma).astype(np.float32)
            out[..., channel] = np.tensordot(weights, planes, axes=1)
    level = far_level(like, colour=like.ndim == 3)
    if level is not None:
        out += level
    return out
