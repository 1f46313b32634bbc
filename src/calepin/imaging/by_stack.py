"""Denoise a volume or a time series by groups of similar patches over all its axes."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calepin.core.arguments import check_fields
from calepin.core.checks import check_integer
from calepin.core.random import RandomState
from calepin.datasets.noise import GaussianNoise, PoissonGaussianNoise, PoissonNoise
from calepin.imaging.by_dictionary import DictionaryDenoiser, beyond_precision
from calepin.imaging.counts import estimate_peak, in_units, photons_of
from calepin.imaging.frames import at_rest, check_stack, related_runs
from calepin.imaging.result import DenoiseResult, sigma_of
from calepin.imaging.stabilisation import Stabiliser
from calepin.imaging.volume_groups import VolumeGroupFilter

__all__ = ["StackDenoiser"]

Callback = Callable[[str, float], object]

BLUR = 1.0  # standard deviation in pixels of the filter on whose result the first groups are found
DEPTHS = ((0.8, 4), (0.2, 2), (-np.inf, 1))  # how much a scene stays where it is, and frames of a patch
PASSES = ("group 1", "group 2", "group 3")
FEW = 20.0  # peak in photons up to which counts are denoised several times
SHARES = (1.0, 0.7, 0.5)  # of the counts, each time


@dataclass(frozen=True)
class StackDenoiser:
    """Denoise a volume (d, h, w), or a time series of frames: y = x + n, n ~ N(0, sigma^2 I).

    1. Similar patches of several frames are found in a smoothed copy of the stack, around the same place of
       the frames before and after; in each frame around the best place of the frame before, since objects
       move. The singular values of each noisy group are shrunk (Gavish and Donoho 2017). Overlapping results
       are averaged.
    2. Twice more, groups are found in the estimate so far, and shrunk along the principal components that
       they have in it (`calepin.imaging.groups`; Lebrun, Buades and Morel 2013).

    Where the scene changes from one frame to the next, the stack is cut: patches of several frames would mix
    unrelated images. A frame without a related neighbour is denoised alone, by
    `calepin.imaging.DictionaryDenoiser`.

    Photon counts, with or without read noise, are transformed to values whose noise has the standard
    deviation 1, denoised, and transformed back by the exact unbiased inverse (Makitalo and Foi 2011, 2013);
    up to 20 photons three times, the second and third time in mixtures with the estimate so far (Azzari and
    Foi 2016).

    The memory is bounded by three copies of the stack in float32, four for counts, and a few frames. Nothing
    is random but the training patches of single frames; the result is the same, bit for bit, for any number
    of threads.

    Parameters
    ----------
    depth : int, optional
        Frames in a patch. Fewer suit slices much thicker than the pixels within them and fast motion.
        Default: 4 if a scene moves by about a pixel a frame at most, 2 up to about 4 pixels, else 1, by the
        correlation of successive frames. Never more than there are related frames.

    Raises
    ------
    ValueError
        A parameter out of range; the message names it.
    """

    depth: int | None = None

    def __post_init__(self) -> None:
        check_integer("depth", self.depth, most=16, optional=True)
        check_fields(self)

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callback | None = None,
    ) -> DenoiseResult:
        """Return the denoised stack; see `calepin.denoise`.

        `image` has the axes (d, h, w). `callback` is called in the stages "group 1" to "group 3", for counts
        in each step again; in frames without a related neighbour in those of the dictionary.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level, `PoissonNoise` or `PoissonGaussianNoise`.
        ValueError
            Fewer than 16 pixels per side of a frame; no counts for `PoissonNoise`.

        Warns
        -----
        UserWarning
            The noise is too weak for single precision; the stack is returned as it is.
        """
        photons = isinstance(noise, PoissonNoise | PoissonGaussianNoise)
        image = check_stack(image, "ZYX", integers=photons)
        report = callback or _ignore
        if isinstance(noise, PoissonNoise | PoissonGaussianNoise):
            return self._denoise_photons(image, noise, random_state, report)
        sigma = sigma_of(noise, type(self).__name__)
        if beyond_precision(image, sigma):
            return DenoiseResult(image.copy(), noise)
        restored = self._denoise_units(
            np.divide(image, sigma, dtype=np.float32, casting="same_kind"), random_state, report
        )
        restored *= np.float32(sigma)
        return DenoiseResult(restored.astype(image.dtype, copy=False), noise)

    def _denoise_units(
        self, noisy: NDArray[np.float32], random_state: RandomState, report: Callback
    ) -> NDArray[np.float32]:
        """Return the denoised frames (d, h, w) for noise of the standard deviation 1."""
        restored = np.empty_like(noisy)
        for first, end in related_runs(noisy):
            part = _part_of(report, first / len(noisy), end / len(noisy))
            if end - first == 1:
                alone = DictionaryDenoiser().denoise(
                    noisy[first], GaussianNoise(1.0), random_state=random_state, callback=part
                )
                restored[first] = alone.image
            else:
                restored[first:end] = self._denoise_run(noisy[first:end], part)
        return restored

    def _denoise_run(self, noisy: NDArray[np.float32], report: Callback) -> NDArray[np.float32]:
        estimate = np.asarray(gaussian_filter(noisy, BLUR), dtype=np.float32)
        depth = min(_depth_for(at_rest(noisy)) if self.depth is None else self.depth, len(noisy))
        for k, (groups, level) in enumerate(_passes(depth)):

            def of_pass(fraction: float, k: int = k) -> None:
                report(PASSES[k], (k + fraction) / len(PASSES))

            estimate = groups.apply(noisy, estimate, level, report=of_pass)
        return estimate

    def _denoise_photons(
        self,
        image: NDArray,
        noise: PoissonNoise | PoissonGaussianNoise,
        random_state: RandomState,
        report: Callback,
    ) -> DenoiseResult:
        """Return the expected photons, in the units of the stack."""
        photons, read = photons_of(image, noise)
        photons = photons.astype(np.float32)
        peak = max(max(estimate_peak(frame) for frame in photons), np.finfo(np.float64).tiny)
        shares = SHARES if peak**2 / (peak + read**2) <= FEW else SHARES[:1]
        estimate = photons.copy()
        for (start, end), share in zip(pairwise(np.linspace(0, 1, len(shares) + 1)), shares, strict=True):
            stabiliser = Stabiliser(share, read)
            for frame, values in zip(photons, estimate, strict=True):
                values[:] = stabiliser.apply(share * frame + (1 - share) * values)
            estimate = self._denoise_units(estimate, random_state, _part_of(report, start, end))
            for values in estimate:
                values[:] = np.maximum(stabiliser.invert(values), 0)
        dtype = image.dtype if image.dtype.kind == "f" else np.float64
        return DenoiseResult(in_units(estimate, noise).astype(dtype, copy=False), noise)


def _depth_for(rest: float) -> int:
    """Return the frames of a patch for a scene that stays where it is by so much, see `at_rest`."""
    return next(depth for least, depth in DEPTHS if rest >= least)


def _passes(depth: int) -> tuple[tuple[VolumeGroupFilter, float], ...]:
    """Return the passes for patches of some frames, and the relative noise level that each assumes."""
    step = -(-depth // 2)
    first = VolumeGroupFilter((depth, 5, 5), 48, (step, 3, 3), "noisy")
    level = VolumeGroupFilter((depth, 4, 4), 18, (step, 2, 2), "level")
    patch = VolumeGroupFilter((depth, 4, 4), 14, (step, 2, 2), "patch")
    return (first, 1.0), (level, 1.0), (patch, 0.9)


def _part_of(report: Callback, start: float, end: float) -> Callback:
    """Return the callback of a part of the work."""
    return lambda stage, fraction: report(stage, start + (end - start) * fraction)


def _ignore(stage: str, fraction: float) -> None:
    pass
