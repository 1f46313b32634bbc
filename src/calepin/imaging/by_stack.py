"""Denoise a volume or a time series by groups of similar patches over all its axes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calepin.core.arguments import check_fields
from calepin.core.checks import check_integer
from calepin.core.random import RandomState
from calepin.datasets.noise import GaussianNoise, PoissonGaussianNoise, PoissonNoise, VaryingGaussianNoise
from calepin.imaging.by_dictionary import DictionaryDenoiser, beyond_precision, core_of, resolved
from calepin.imaging.counts import estimate_peak, in_units, photons_of
from calepin.imaging.frames import at_rest, check_stack, fill_gaps, related_runs, stack_levels
from calepin.imaging.inpainting import inpaint
from calepin.imaging.result import (
    WEAK,
    DenoiseResult,
    far_level,
    from_planes,
    root_mean_square,
    sigma_of,
    to_planes,
    warn_of_weak,
)
from calepin.imaging.stabilisation import Stabiliser
from calepin.imaging.volume_groups import VolumeGroupFilter

__all__ = ["StackDenoiser"]

Callback = Callable[[str, float], object]

BLUR = 1.0  # standard deviation in pixels of the filter on whose result the first groups are found
DEPTHS = ((0.8, 4), (0.2, 2), (-np.inf, 1))  # how much a scene stays where it is, and frames of a patch
FEW = 20.0  # peak in photons up to which counts are denoised several times
SHARES = (1.0, 0.7, 0.5)  # of the counts, each time
FEW_GAPS = 0.1  # fraction of the samples that are missing
TINY = 1e-30  # standard deviation for a stack of zeros


@dataclass(frozen=True)
class StackDenoiser:
    """Denoise a volume or a time series of frames, gray or in colour: y = x + n, n ~ N(0, sigma^2 I).

    1. Similar patches of several frames are found in a smoothed copy of the stack, around the same place of
       the frames before and after; in each frame around the best place of the frame before, since objects
       move. The singular values of each noisy group are shrunk (Gavish and Donoho 2017). Overlapping results
       are averaged.
    2. Twice more, groups are found in the estimate so far, and shrunk along the principal components that
       they have in it (`calepin.imaging.groups`; Lebrun, Buades and Morel 2013).

    Where the scene changes from one frame to the next, the stack is cut: patches of several frames would mix
    unrelated images. A frame without a related neighbour is denoised alone, by
    `calepin.imaging.DictionaryDenoiser`.

    Colours are transformed to a mean and two differences, with groups found on the mean. Where samples are
    missing, or the level of the noise varies, each has a weight of its own in the later passes; missing ones
    are first interpolated, and then estimated anew by each pass.

    Photon counts, with or without read noise, are transformed to values whose noise has the standard
    deviation 1, denoised, and transformed back by the exact unbiased inverse (Makitalo and Foi 2011, 2013);
    up to 20 photons three times, the second and third time in mixtures with the estimate so far (Azzari and
    Foi 2016).

    The memory is bounded by three copies of the stack in float32, four for counts, one more for each of gaps,
    varying levels and weights, and a few frames. Nothing is random but the training patches of single frames;
    the result is the same, bit for bit, for any number of threads.

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
        """Return the denoised stack, without gaps; see `calepin.denoise`.

        `image` has the axes (d, h, w), or (d, h, w, 3) for colours. NaN and masked samples are missing.
        `callback` is called in the stages "group 1" to the last pass, for counts in each step again; in
        frames without a related neighbour in those of the dictionary.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level, `VaryingGaussianNoise`, `PoissonNoise` or
            `PoissonGaussianNoise`.
        ValueError
            Fewer than 16 pixels per side of a frame; no counts for `PoissonNoise`; levels of another shape.

        Warns
        -----
        UserWarning
            The noise is too weak for single precision, and the stack is returned as it is, or up to a tenth
            of it that is far brighter or darker than the rest; or that of some pixels is too weak beside that
            of others, and they keep theirs.
        """
        photons = isinstance(noise, PoissonNoise | PoissonGaussianNoise)
        axes = "ZYXS" if np.ndim(image) == 4 else "ZYX"
        image = check_stack(image, axes, integers=photons)
        report = callback or _ignore
        if isinstance(noise, PoissonNoise | PoissonGaussianNoise):
            return self._denoise_photons(image, noise, random_state, report)
        filled, missing = fill_gaps(image)
        is_map = isinstance(noise, VaryingGaussianNoise)
        varying = stack_levels(noise.sigma, image.shape, axes) if is_map else None
        sigma = sigma_of(noise, type(self).__name__) if varying is None else root_mean_square(varying)
        colour = image.ndim == 4
        core = core_of(filled, sigma, colour=colour)
        if core is not None:
            given = core if missing is None else np.where(missing, np.nan, core).astype(core.dtype)
            result = self.denoise(given, noise, random_state=random_state, callback=callback)
            return replace(result, image=np.where(core == filled, result.image, filled))
        weak = beyond_precision(filled, sigma, colour=colour)
        if weak:
            if missing is None:
                return DenoiseResult(image.copy(), noise)
            sigma, varying = max(2 * resolved(filled, colour=colour), TINY), None
        level = None if varying is None else np.divide(varying, sigma, dtype=np.float32, casting="same_kind")
        if level is not None:
            warn_of_weak(level)
        far = far_level(filled, colour=colour)
        restored = self._denoise_units(
            _in_noise(filled, sigma, far),
            _with_gaps(level, missing),
            random_state,
            report,
        )
        restored *= np.float32(sigma)
        restored = restored.astype(image.dtype, copy=False)
        if far is not None:
            restored += far
        if weak and missing is not None:
            restored = np.where(missing, restored, image)
        return DenoiseResult(restored, noise)

    def _denoise_units(
        self,
        noisy: NDArray[np.float32],
        level: NDArray[np.float32] | None,
        random_state: RandomState,
        report: Callback,
    ) -> NDArray[np.float32]:
        """Return the denoised frames (d, h, w) or (d, h, w, 3) for noise of the standard deviation 1.

        `level` is that of each sample, infinite where it is missing and `noisy` holds an estimate of it.
        """
        restored = np.empty_like(noisy)
        gray = noisy if noisy.ndim == 3 else np.sqrt(np.float32(3)) * noisy.mean(axis=3)  # of the same noise
        for first, end in related_runs(gray):
            part = _part_of(report, first / len(noisy), end / len(noisy))
            run = slice(first, end)
            own = None if level is None else level[run]
            if end - first == 1:
                restored[run] = _alone(noisy[first], None if own is None else own[0], random_state, part)
            else:
                restored[run] = self._denoise_run(noisy[run], own, part)
        return restored if level is None else np.where(level < WEAK, noisy, restored)

    def _denoise_run(
        self, noisy: NDArray[np.float32], level: NDArray[np.float32] | None, report: Callback
    ) -> NDArray[np.float32]:
        """Return the denoised frames of a scene, as planes: a mean and two differences of colours.

        Channels with gaps or noise of their own stay as they are; groups are found in their mean.
        """
        apart = level is not None and level.ndim == 4 and bool((level != level[..., :1]).any())
        flat = noisy.reshape(-1, *noisy.shape[2:])
        planes = to_planes(flat, 1.0, opponent=not apart).reshape(-1, *noisy.shape[:3])
        weight = missing = None
        if level is not None:
            own = level[..., 0] if level.ndim == 4 and not apart else level
            own = np.moveaxis(own, 3, 0) if apart else own
            weight = 1 / np.square(np.maximum(own, np.float32(WEAK)))
            missing = np.broadcast_to(np.isinf(own), planes.shape)
        estimate = np.stack([gaussian_filter(plane, BLUR) for plane in planes])
        depth = min(_depth_for(at_rest(planes[0])) if self.depth is None else self.depth, len(noisy))
        passes = _passes(depth, 0.0 if missing is None else float(missing.mean()))
        for k, (groups, factor) in enumerate(passes):

            def of_pass(fraction: float, k: int = k) -> None:
                report(f"group {k + 1}", (k + fraction) / len(passes))

            guide = estimate.mean(axis=0) if apart else None
            estimate = groups.apply(planes, estimate, factor, weight=weight, guide=guide, report=of_pass)
            if missing is not None and missing.any():
                planes = np.where(missing, estimate, planes)
        found = np.asarray(estimate.reshape(-1, *flat.shape[:2]), np.float32)
        return from_planes(found, 1.0, flat, opponent=not apart).reshape(noisy.shape)

    def _denoise_photons(
        self,
        image: NDArray,
        noise: PoissonNoise | PoissonGaussianNoise,
        random_state: RandomState,
        report: Callback,
    ) -> DenoiseResult:
        """Return the expected photons, in the units of the stack."""
        gaps = np.isnan(image)
        whole = np.where(gaps, np.quantile(image[~gaps], 0.5, method="lower"), image) if gaps.any() else image
        photons, read = photons_of(whole, noise)
        photons, missing = fill_gaps(np.where(gaps, np.nan, photons).astype(np.float32))
        peak = max(max(estimate_peak(frame) for frame in photons), np.finfo(np.float64).tiny)
        shares = SHARES if peak**2 / (peak + read**2) <= FEW else SHARES[:1]
        estimate = photons.copy()
        for (start, end), share in zip(pairwise(np.linspace(0, 1, len(shares) + 1)), shares, strict=True):
            stabiliser = Stabiliser(share, read)
            photons = photons if missing is None else np.where(missing, estimate, photons)
            for frame, values in zip(photons, estimate, strict=True):
                values[:] = stabiliser.apply(share * frame + (1 - share) * values)
            part = _part_of(report, start, end)
            estimate = self._denoise_units(estimate, _with_gaps(None, missing), random_state, part)
            for values in estimate:
                values[:] = np.maximum(stabiliser.invert(values), 0)
        dtype = image.dtype if image.dtype.kind == "f" else np.float64
        return DenoiseResult(in_units(estimate, noise).astype(dtype, copy=False), noise)


def _in_noise(
    frames: NDArray[np.floating], sigma: float, far: NDArray[np.floating] | None
) -> NDArray[np.float32]:
    """Return frames in units of the noise, without their `far_level`, one after the other in memory."""
    units = np.empty(frames.shape, np.float32)
    for frame, out in zip(frames, units, strict=True):
        near = frame if far is None else frame - far
        np.divide(near, sigma, dtype=np.float32, casting="same_kind", out=out)
    return units


def _with_gaps(
    level: NDArray[np.float32] | None, missing: NDArray[np.bool_] | None
) -> NDArray[np.float32] | None:
    """Return the level of each sample, infinite where it is missing; None if it is 1 everywhere."""
    if missing is None:
        return level
    if level is None:
        return np.where(missing, np.float32(np.inf), np.float32(1))
    return np.where(missing, np.float32(np.inf), level)


def _alone(
    frame: NDArray[np.float32],
    level: NDArray[np.float32] | None,
    random_state: RandomState,
    report: Callback,
) -> NDArray[np.floating]:
    """Return one frame denoised, or filled and denoised, as an image is."""
    if level is not None:  # what is weaker stays as it is, and was told: not again
        level = np.where((level > 0) & (level < WEAK), np.float32(2 * WEAK), level)
    known = np.ones(frame.shape, bool) if level is None else np.isfinite(level)
    noise = GaussianNoise(1.0) if level is None else VaryingGaussianNoise(np.where(known, level, 1))
    if known.all():
        return DictionaryDenoiser().denoise(frame, noise, random_state=random_state, callback=report).image
    if not known.any(axis=(0, 1)).all():  # nothing is known of it, or of one of its channels
        return frame
    return inpaint(frame, known, noise=noise, callback=report)


def _depth_for(rest: float) -> int:
    """Return the frames of a patch for a scene that stays where it is by so much, see `at_rest`."""
    return next(depth for least, depth in DEPTHS if rest >= least)


def _passes(depth: int, gaps: float) -> tuple[tuple[VolumeGroupFilter, float], ...]:
    """Return the passes for patches of some frames, and the relative noise level that each assumes.

    Each tenth of the samples that is missing, begun, needs one more of the first kind to estimate them.
    """
    step = -(-depth // 2)
    first = VolumeGroupFilter((depth, 5, 5), 48, (step, 3, 3), "noisy")
    level = VolumeGroupFilter((depth, 4, 4), 18, (step, 2, 2), "level")
    patch = VolumeGroupFilter((depth, 4, 4), 14, (step, 2, 2), "patch")
    return ((first, 1.0),) * (1 + math.ceil(gaps / FEW_GAPS)) + ((level, 1.0), (patch, 0.9))


def _part_of(report: Callback, start: float, end: float) -> Callback:
    """Return the callback of a part of the work."""
    return lambda stage, fraction: report(stage, start + (end - start) * fraction)


def _ignore(stage: str, fraction: float) -> None:
    pass
