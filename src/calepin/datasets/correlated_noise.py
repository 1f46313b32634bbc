"""Stationary Gaussian noise whose pixels are correlated, given by its power spectral density.

    CorrelatedNoise        y = x + n,  n ~ N(0, R),  R the covariance of a stationary field

Its power spectral density (PSD) S is the Fourier transform of the autocovariance r:

    r(d) = E[n(u) n(u + d)],     S(f) = sum over d of r(d) exp(-2 pi i <f, d>),     mean over f of S(f) = r(0)

White noise has S(f) = sigma^2 at all frequencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.checks import check_array, check_integer, check_number, pixels_of
from calepin.core.random import RandomState, numpy_generator

__all__ = ["CorrelatedNoise", "periodograms"]

_SYMMETRY = 1e-3  # largest difference of S(f) and S(-f), over the largest S
_BLOCK = 64  # pixels per side of the blocks of a dark frame
_SMALLEST = 16  # pixels per side of a dark frame
_HOT = 6.0  # standard deviations of a dark frame beyond which a pixel is hot
_TO_SIGMA = 1.4826  # standard deviation of normal numbers over their median absolute deviation


@dataclass(frozen=True, eq=False)
class CorrelatedNoise:
    """Normal noise that is correlated between pixels, with the same distribution everywhere.

    Parameters
    ----------
    psd : array (a, b) or (a, b, 3)
        Power spectral density, or that of each channel, at the frequencies of ``numpy.fft.fft2``, zero
        frequency first, in squared units of the image. Its mean is the variance of a pixel. The shape need
        not be that of an image: a, b are the periods of the autocovariance, at least twice the distance over
        which pixels are correlated. Channels are taken as independent; with one density they share it.

    Raises
    ------
    ValueError
        Another shape, negative or infinite entries, or no symmetry ``S(f) = S(-f)``.

    Notes
    -----
    The convention of scientific Python for a density per sample, independent of the size of the image. The
    density of `bm3d.bm3d`, the mean squared magnitude of ``fft2(noise)``, is that times the number of
    pixels: ``CorrelatedNoise(psd / psd.size)``.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.datasets import CorrelatedNoise, add_noise
    >>> noise = CorrelatedNoise.from_kernel(np.ones((1, 5)), sigma=0.1)  # horizontal dashes
    >>> noise.psd.shape, round(noise.sigma, 3)
    ((1, 9), 0.1)
    >>> y = add_noise(np.zeros((200, 200)), noise)
    >>> round(float(np.corrcoef(y[:, :-1].ravel(), y[:, 1:].ravel())[0, 1]), 1)
    0.8
    """

    psd: NDArray[np.floating]

    def __post_init__(self) -> None:
        psd = check_array("psd", self.psd)
        if psd.ndim not in (2, 3) or 0 in psd.shape or (psd.ndim == 3 and psd.shape[2] != 3):
            raise ValueError(f"psd: expected shape (a, b) or (a, b, 3), got {psd.shape}")
        if psd.dtype.kind not in "iuf" or not np.isfinite(psd).all() or (psd < 0).any():
            raise ValueError("psd: expected finite real numbers of at least 0")
        mirrored = np.roll(psd[::-1, ::-1], 1, axis=(0, 1))
        if (np.abs(psd - mirrored) > _SYMMETRY * psd.max()).any():
            raise ValueError(
                "psd: expected S(f) = S(-f) with the zero frequency first, as of fft2 (numpy.fft.ifftshift "
                "moves it there)"
            )

    @classmethod
    def from_kernel(cls, kernel: ArrayLike, sigma: float | None = None) -> "CorrelatedNoise":
        """Return the noise ``kernel * w``, the convolution with white noise w of standard deviation 1.

        Parameters
        ----------
        kernel : array (a, b)
            Kernel, in the units of the image.
        sigma : float, optional
            Standard deviation of a pixel, to which the kernel is scaled. Default: the norm of the kernel.

        Raises
        ------
        ValueError
            A kernel of another shape, of zeros alone, or with NaN or infinity.
        """
        taps = check_array("kernel", kernel)
        if taps.ndim != 2 or taps.dtype.kind not in "iuf" or not np.isfinite(taps).all() or not taps.any():
            raise ValueError(
                f"kernel: expected finite real numbers (a, b), not all 0, got shape {taps.shape}"
            )
        check_number("sigma", sigma, least=0, optional=True)
        taps = np.asarray(taps, np.float64)
        if sigma is not None:
            taps = taps * (sigma / np.linalg.norm(taps))
        # so large that opposite ends of the autocovariance do not overlap
        a, b = (2 * n - 1 for n in taps.shape)
        return cls(np.square(np.abs(np.fft.fft2(taps, (a, b)))))

    @classmethod
    def from_dark_frames(cls, frames: ArrayLike | Sequence[ArrayLike]) -> "CorrelatedNoise":
        """Return the noise of one or several images of nothing: dark frames, or images of an even surface.

        The mean of the periodograms of overlapping blocks of 64x64 pixels (Welch 1967). Of several frames
        their mean, the fixed pattern, is subtracted; of one frame, which cannot tell it from noise, a
        constant. Hot pixels, more than 6 standard deviations from the median, are replaced by it.

        Parameters
        ----------
        frames : array (h, w) or (h, w, 3), or a list of them
            Dark frames, in the units of the image.

        Raises
        ------
        ValueError
            Frames of other or different shapes, of fewer than 16 pixels per side, or with NaN or infinity.
        """
        stack = [_frame(one) for one in (frames if isinstance(frames, list | tuple) else [frames])]
        if not stack:
            raise ValueError("frames: expected at least one frame, got none")
        if any(frame.shape != stack[0].shape for frame in stack):
            raise ValueError(f"frames: expected one shape, got {[frame.shape for frame in stack]}")
        pattern = np.mean(stack, axis=0) if len(stack) > 1 else np.zeros_like(stack[0])
        lost = len(stack) / max(len(stack) - 1, 1)  # variance that goes with the mean of the frames
        densities = [_welch(frame - pattern) for frame in stack]
        return cls(lost * np.mean(densities, axis=0))

    @property
    def sigma(self) -> float:
        """Standard deviation of a pixel, the root mean square of those of the channels."""
        return float(np.sqrt(np.mean(self.psd, dtype=np.float64)))

    def autocovariance(self, reach: int) -> NDArray[np.float64]:
        """Return r(d) for -reach < d < reach along both axes.

        It is 0 from half of the period of the density.

        Parameters
        ----------
        reach : int
            One more than the largest distance, in pixels.

        Returns
        -------
        array (2 reach - 1, 2 reach - 1) or (2 reach - 1, 2 reach - 1, 3)
            The distance 0 is in the middle.
        """
        check_integer("reach", reach)
        lags = np.arange(1 - reach, reach)
        return self._at(lags, lags)

    def covariance(self, patch_size: int) -> NDArray[np.float64]:
        """Return the covariance of the noise of a square patch, whose pixels are in row-major order.

        Returns
        -------
        array (patch_size^2, patch_size^2), or (3, patch_size^2, patch_size^2)
        """
        check_integer("patch_size", patch_size)
        r = self.autocovariance(patch_size)
        i = np.arange(patch_size)
        lag = patch_size - 1 + i - i[:, None]
        blocks = r[lag[:, None, :, None], lag[None, :, None, :]]
        square = blocks.reshape(patch_size**2, patch_size**2, *r.shape[2:])
        return square if r.ndim == 2 else np.moveaxis(square, 2, 0)

    def draw(self, image: NDArray, random_state: RandomState) -> NDArray[np.float64]:
        """Return one noisy image, without clipping: white noise filtered by the root of the density.

        Raises
        ------
        ValueError
            A density of three channels and an image of another number.
        """
        clean = check_array("image", image)
        self.check_channels(clean)
        if clean.ndim not in (2, 3):
            raise ValueError(f"image: expected shape (h, w) or (h, w, channels), got {clean.shape}")
        generator = numpy_generator(random_state)
        noisy = np.array(clean, dtype=np.float64)
        planes = noisy[..., None] if noisy.ndim == 2 else noisy
        # a period so much longer than the image that its opposite borders are independent
        sides = [n + a for n, a in zip(clean.shape[:2], self.psd.shape[:2], strict=True)]
        r = self._at(*(np.rint(n * np.fft.fftfreq(n)).astype(int) for n in sides))
        # the density at the frequencies of the longer period; rounding leaves it just below 0
        root = np.sqrt(np.maximum(np.fft.rfft2(r, axes=(0, 1)).real, 0)).reshape(sides[0], -1, self._channels)
        for c in range(planes.shape[2]):
            white = np.fft.rfft2(generator.standard_normal(sides))
            field = np.fft.irfft2(white * root[..., min(c, self._channels - 1)], sides)
            planes[..., c] += field[: clean.shape[0], : clean.shape[1]]
        return noisy

    @property
    def _channels(self) -> int:
        return 1 if self.psd.ndim == 2 else self.psd.shape[2]

    def _at(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return r(d) for distances along both axes, 0 from half of the period of the density."""
        periodic = np.fft.ifft2(self.psd, axes=(0, 1)).real
        sides = periodic.shape[:2]
        out = periodic[np.ix_(rows % sides[0], columns % sides[1])]
        out[np.abs(rows) > (sides[0] - 1) // 2] = 0
        out[:, np.abs(columns) > (sides[1] - 1) // 2] = 0
        return out

    def check_channels(self, image: NDArray) -> None:
        """Raise ValueError if the density has three channels and the image has not."""
        if self.psd.ndim == 3 and (image.ndim != 3 or image.shape[2] != 3):
            raise ValueError(
                f"psd: expected shape (a, b) for an image of shape {image.shape}, got {self.psd.shape}"
            )


def periodograms(blocks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return periodograms of blocks (n, a, b) without their means, under a Hann window.

    Their expectation is the density, smoothed over neighbouring frequencies: 1 for white noise of variance 1.
    """
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in blocks.shape[1:]))
    window /= np.sqrt(np.mean(window**2))
    means = np.mean(window * blocks, axis=(1, 2), keepdims=True) / window.mean()
    return np.square(np.abs(np.fft.fft2(window * (blocks - means)))) / window.size


def _frame(frame: Any) -> NDArray[np.float64]:
    """Return a dark frame as float64; hot pixels are replaced by the median of their channel."""
    pixels = pixels_of("frames", frame)
    colour = pixels.ndim == 3 and pixels.shape[2] == 3
    if (pixels.ndim != 2 and not colour) or min(pixels.shape[:2]) < _SMALLEST:
        raise ValueError(
            f"frames: expected frames (h, w) or (h, w, 3) of at least {_SMALLEST} pixels per side, "
            f"got {pixels.shape}"
        )
    if pixels.dtype.kind not in "iuf" or not np.isfinite(pixels).all():
        raise ValueError(f"frames: expected finite real numbers, got {pixels.dtype} or NaN or infinity")
    median = np.median(pixels, axis=(0, 1))
    gap = np.abs(pixels - median)
    spread = _TO_SIGMA * np.median(gap, axis=(0, 1))
    spread = np.where(spread > 0, spread, pixels.std(axis=(0, 1)))  # most pixels may be equal
    return np.where(gap > _HOT * spread, median, pixels).astype(np.float64)


def _welch(frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean periodogram of blocks that overlap by half."""
    if frame.ndim == 3:
        return np.stack([_welch(frame[..., c]) for c in range(frame.shape[2])], axis=2)
    sides = [min(_BLOCK, n) for n in frame.shape]
    step = [max(1, n // 2) for n in sides]
    rows, columns = (
        np.unique(np.append(np.arange(0, n - side, k), n - side))
        for n, side, k in zip(frame.shape, sides, step, strict=True)
    )
    windows = np.lib.stride_tricks.sliding_window_view(frame - frame.mean(), sides)
    density = np.mean([periodograms(windows[row, columns]).mean(axis=0) for row in rows], axis=0)
    # the zero frequency, lost with the means of the blocks, is like its neighbours
    around = [density[i, j] for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, 1))]
    density[0, 0] = np.mean(around)
    return (density + np.roll(density[::-1, ::-1], 1, axis=(0, 1))) / 2
