"""Denoise an image with a dictionary learned from its own patches, and with groups of similar patches."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from calepin.core.arguments import check_fields
from calepin.core.checks import check_array, check_integer, check_one_of
from calepin.core.random import RandomState, numpy_generator
from calepin.datasets.correlated_noise import CorrelatedNoise
from calepin.datasets.noise import (
    GaussianNoise,
    PoissonGaussianNoise,
    PoissonNoise,
    VaryingGaussianNoise,
)
from calepin.imaging.by_steps import denoise_photons
from calepin.imaging.contrast import value_range
from calepin.imaging.first_pass import RULES, atoms_of_patches, code_planes, learn_atoms, start_atoms
from calepin.imaging.groups import GroupFilter
from calepin.imaging.result import (
    WEAK,
    DenoiseResult,
    check_size,
    far_level,
    from_planes,
    level_planes,
    root_mean_square,
    sigma_of,
    to_planes,
)
from calepin.imaging.whitening import Whitening, covariances, noise_of_planes, window_estimate

__all__ = ["SMALLEST", "DictionaryDenoiser", "Planes", "Report", "beyond_precision"]

Passes = tuple[tuple[GroupFilter, float], ...]
Report = Callable[[float], None]
Planes = NDArray[np.float32]
Guide = Callable[[Planes, Planes, float, Planes | None, Report], tuple[Planes, Planes]]

# Passes over groups of similar patches, and the relative noise level that each assumes: later passes start
# from better estimates, whose covariances need less shrinkage.
GROUP_PASSES: Passes = (
    (GroupFilter(patch_size=10, group_size=32, radius=20, stride=5, mean="level", common=True), 1.0),
    (GroupFilter(patch_size=8, group_size=32, radius=20, stride=4, mean="level", common=True), 0.95),
    (GroupFilter(patch_size=6, group_size=32, radius=20, stride=3, common=True), 0.9),
)

# The same if patches hold three channels: their covariance needs more patches.
JOINT_PASSES: Passes = (
    (GroupFilter(patch_size=6, group_size=64, radius=20, stride=3, mean="level"), 1.0),
    (GroupFilter(patch_size=6, group_size=64, radius=20, stride=3, mean="level"), 0.95),
    (GroupFilter(patch_size=5, group_size=64, radius=20, stride=3), 0.9),
)

# Noise that is strong relative to the contrast needs more passes: this number over the range of values, in
# units of the noise, rounded, and never fewer than all kinds of passes or more than the most.
PASSES_AT_RANGE, MOST_PASSES = 17.0, 8

# Range, in units of the noise, from which passes add what the residuals of a group share: in stronger noise
# smooth areas would gain noise.
COMMON_AT_RANGE = 10.0

# Weight of the estimate of a guide before the last pass, where it can be believed, and patches of one plane
# in a group of that pass. Then if that pass adds what residuals share, and if not: its relative noise level,
# and the weight of the guide after it.
BEFORE, GUIDED_SIZE = 0.6, 24
GUIDED_FACTORS, AFTER = (1.0, 0.95), (0.1, 0.25)

# Range, in units of correlated noise, from which the result is probed: errors of the estimate may be larger
# than the noise. Level of the probe over that of the noise, its seed, none that users would take for theirs,
# and the part of what was removed below which it is told.
PROBED_AT_RANGE, PROBE, PROBE_SEED, TOLD_SHARE = 300.0, 0.3, 8_254_129, 0.5

SMALLEST = 16  # pixels per side

STRONGER = 2.0  # deviation of the noise, over that of the noisy image, that must be a mistake

# Smallest noise that single precision resolves, as parts of the range of the image, whose squares are summed
# over a patch, and of its largest value.
OF_RANGE, OF_VALUE = 2.0**-13, 2.0**-18

# Range around the median, in standard deviations of the noise, in which an image with a few pixels far beyond
# is denoised; the largest share of such pixels.
CORE, FEW = 2.0**11, 0.1


@dataclass(frozen=True)
class DictionaryDenoiser:
    """Denoise an image by a dictionary learned from its patches: y = x + n, n ~ N(0, sigma^2 I).

    1. A dictionary D starts from one learned on natural images and is trained further on the patches of
       the noisy image.
    2. All overlapping patches are coded with the smallest number of atoms whose residual is at the noise
       level: minimise ||z||_0 such that ||x - z D||^2 <= p^2 (1.1 sigma)^2. The decoded patches
       are averaged (Elad and Aharon 2006).
    3. With this estimate, groups of similar patches are found and shrunk along their principal components
       (`calepin.imaging.groups`; Lebrun, Buades and Morel 2013), three times, up to eight times if the noise
       is strong relative to the contrast of the image. In weak noise, a texture that the estimate has lost
       comes back if the patches of a group share it.

    Colour images are first transformed to a mean and two differences. Each is treated as a gray image, with
    groups found on the mean. The memory is bounded by a few copies of the image in float32, and there are no
    tiles, hence no seams. The same seed gives the same result, bit for bit, for any number of threads.

    If the level of the noise varies, patches are scaled by the root mean square of their levels in steps 1
    and 2, and in step 3 each pixel has a variance of its own. An array (h, w, 3) of levels makes one patch of
    the three channels, since their noise would be correlated after the transformation of colours. Pixels
    whose level is below 3 % of the root mean square of all stay as they are.

    If the noise is correlated, patches are whitened by its covariance for steps 1 and 2, around the means of
    a pilot image from windows of cosines (`calepin.imaging.whitening`). Step 3 shrinks by that covariance.
    Where the contrast is more than 300 times the noise, it is done a second time with a little more noise, to
    see how much of what was removed is noise, and the rest is put back.

    Photon counts, with or without read noise, are transformed to values whose noise has the standard
    deviation 1, denoised, and transformed back by the exact unbiased inverse (Makitalo and Foi 2011, 2013).
    Up to 20 photons this is iterated, first over sums of blocks of pixels and then over mixtures of the
    counts with the estimate so far (Azzari and Foi 2016), by steps that follow the peak of the counts.

    Parameters
    ----------
    patch_size : int, default=8
        Side p of the patches.
    n_components : int, default=256
        Number of atoms.
    rule : {"ksvd", "mod", "online"}, default="ksvd"
        How atoms are updated, as in `calepin.DictionaryLearner`.
    n_iter : int, default=5
        Passes of learning over 20,000 patches; 0 keeps the initial dictionary.
    group_passes : int, optional
        Number of passes of step 3, at most 8; 0 returns the result of step 2. Default: three to eight, by the
        range of values in units of the noise.
    dictionary : float array (n_components, p^2), optional
        Initial atoms in place of those of natural images, for example the `atoms` of another result; with
        ``n_iter=0`` they stay as they are. `patch_size` and `n_components` are then those of the array.

    Raises
    ------
    ValueError
        A parameter out of range; the message names it.
    """

    patch_size: int = 8
    n_components: int = 256
    rule: str = "ksvd"
    n_iter: int = 5
    group_passes: int | None = None
    dictionary: NDArray[np.floating] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dictionary is not None:
            atoms = atoms_of_patches("dictionary", check_array("dictionary", self.dictionary, ndim=2))
            object.__setattr__(self, "dictionary", atoms)
            object.__setattr__(self, "n_components", len(atoms))
            object.__setattr__(self, "patch_size", int(np.sqrt(atoms.shape[1])))
        check_integer("patch_size", self.patch_size, least=2)
        check_integer("n_components", self.n_components)
        check_one_of("rule", self.rule, sorted(RULES))
        check_integer("n_iter", self.n_iter, least=0)
        check_integer("group_passes", self.group_passes, least=0, most=MOST_PASSES, optional=True)
        check_fields(self)

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callable[[str, float], object] | None = None,
    ) -> DenoiseResult:
        """Return the denoised image and the learned atoms; see `calepin.denoise`.

        `random_state` chooses the training patches. `callback` is called in the stages "learn", "code" and
        "group 1" to the last pass, for counts in each step again.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level, `VaryingGaussianNoise`,
            `CorrelatedNoise`, `PoissonNoise` or `PoissonGaussianNoise`.
        ValueError
            Fewer than 16 pixels per side, or fewer than in a patch; no counts for `PoissonNoise`; levels of
            another shape; densities of three channels for a gray image.

        Warns
        -----
        UserWarning
            The noise is too weak for single precision; the image is returned as it is, or, if up to a tenth
            of it is far brighter or darker than the rest and the noise is white, that part. Correlated noise
            is stronger than the image, or more than half of what was removed was put back.
        """
        if isinstance(noise, PoissonNoise | PoissonGaussianNoise):

            def of_step(values: NDArray, report: Callable[[str, float], object] | None) -> DenoiseResult:
                return self.denoise(values, GaussianNoise(1.0), random_state=random_state, callback=report)

            return denoise_photons(of_step, image, noise, smallest=self.smallest, callback=callback)
        if isinstance(noise, CorrelatedNoise):
            return self._denoise_correlated(image, noise, random_state, callback)
        return self.denoise_pixels(image, noise, random_state=random_state, callback=callback)

    def denoise_pixels(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState,
        callback: Callable[[str, float], object] | None,
        guide: Guide | None = None,
    ) -> DenoiseResult:
        """Do it for Gaussian noise, with the help of another estimate.

        Before the last pass over the groups, and after it, the estimate becomes a mean with that of `guide`.
        It is called with the noisy planes and their estimate in units of the noise, the level of the noise in
        those of the image, that of each pixel over it, and a progress callback. It returns its estimate, and
        how far it can be believed in each pixel, from 0 to 1.
        """
        check_size(image, [self.smallest] * 2)
        varying = noise.level(image) if isinstance(noise, VaryingGaussianNoise) else None
        sigma = sigma_of(noise, type(self).__name__) if varying is None else root_mean_square(varying)
        generator = numpy_generator(random_state)
        core = core_of(image, sigma, colour=image.ndim == 3)
        if core is not None:
            result = self.denoise_pixels(
                core, noise, random_state=random_state, callback=callback, guide=guide
            )
            return replace(result, image=np.where(core == image, result.image, image))
        start = self._start(generator)
        if beyond_precision(image, sigma, colour=image.ndim == 3):
            return DenoiseResult(image.copy(), noise, start)

        # noise that differs between the channels would be correlated after the transformation of colours
        apart = varying is not None and varying.ndim == 3
        noisy = to_planes(image, sigma, opponent=not apart)
        level = None if varying is None else level_planes(varying / sigma)
        passes = _chosen_passes(noisy, self.group_passes, JOINT_PASSES if apart else GROUP_PASSES)
        report = _reporter(callback, len(passes), guided=guide is not None)
        atoms, history = learn_atoms(
            noisy,
            start,
            rule=self.rule,
            n_iter=self.n_iter,
            random_state=generator,
            level=level,
            report=report("learn"),
        )
        estimate = code_planes(noisy, atoms, level=level, report=report("code"))

        def filtered(estimate: Planes, groups: GroupFilter, factor: float, *, k: int) -> Planes:
            assumed = factor if level is None else factor * np.maximum(level, WEAK)
            return groups.apply(noisy, estimate, assumed, report=report(f"group {k}"))

        for k, (groups, factor) in enumerate(passes, start=1):
            if guide is None or k < len(passes):
                estimate = filtered(estimate, groups, factor, k=k)
            else:
                other = guide(noisy, estimate, sigma, level, report("network"))
                last = partial(filtered, k=k)
                estimate = _guided_pass(last, estimate, other, groups, factor, joint=apart)
        if level is not None:
            estimate = np.where(level < WEAK, noisy, estimate)
        return DenoiseResult(from_planes(estimate, sigma, image, opponent=not apart), noise, atoms, history)

    def _start(self, generator: np.random.Generator) -> NDArray[np.floating]:
        """Return the initial atoms: those that are given, or natural ones."""
        if self.dictionary is not None:
            return self.dictionary
        return start_atoms(self.n_components, self.patch_size, generator)

    def _denoise_correlated(
        self,
        image: NDArray,
        noise: CorrelatedNoise,
        random_state: RandomState,
        callback: Callable[[str, float], object] | None,
    ) -> DenoiseResult:
        """Do the same with whitened patches and the covariance of the noise."""
        check_size(image, [self.smallest] * 2)
        noise.check_channels(image)
        generator = numpy_generator(random_state)
        if beyond_precision(image, noise.sigma, colour=image.ndim == 3):
            return DenoiseResult(image.copy(), noise, self._start(generator))
        _warn_of_units(image, noise)
        contrast = value_range(to_planes(image, noise.sigma)[0])
        if contrast < PROBED_AT_RANGE:
            return self._whitened(image, noise, generator, callback)
        again = deepcopy(generator)
        result = self._whitened(image, noise, generator, _half_of(callback, 0))
        added = noise.draw(np.zeros(image.shape), PROBE_SEED)
        probe = (image + PROBE * added).astype(image.dtype)
        of_probe = self._whitened(probe, noise, again, _half_of(callback, 1)).image
        share = _noise_share(image, result.image, probe, of_probe)
        if share < TOLD_SHARE:
            warnings.warn(
                f"noise: {1 - share:.0%} of what would be removed is kept as detail: the contrast is "
                f"{contrast:.0f} times the noise",
                stacklevel=4,
            )
        mixed = image + share * (result.image - image)
        return replace(result, image=mixed.astype(image.dtype, copy=False))

    def _whitened(
        self,
        image: NDArray,
        noise: CorrelatedNoise,
        generator: np.random.Generator,
        callback: Callable[[str, float], object] | None,
    ) -> DenoiseResult:
        """Return an image denoised by whitened patches and groups."""
        start = self._start(generator)
        noisy = to_planes(image, noise.sigma)
        noises = noise_of_planes(noise, len(noisy))
        pilot = window_estimate(noisy, noises)
        whitening = Whitening.of(pilot, covariances(noises, self.patch_size))
        n_passes = len(GROUP_PASSES) if self.group_passes is None else self.group_passes
        passes = _chosen_passes(noisy, n_passes, GROUP_PASSES)
        report = _reporter(callback, len(passes))
        atoms, history = learn_atoms(
            noisy,
            whitening.atoms(start),
            rule=self.rule,
            n_iter=self.n_iter,
            random_state=generator,
            whitening=whitening,
            report=report("learn"),
        )
        estimate = code_planes(noisy, atoms, whitening=whitening, report=report("code"))
        for k, (groups, factor) in enumerate(passes, start=1):
            covariance = covariances(noises, groups.patch_size)
            estimate = groups.apply(
                noisy, estimate, factor, covariance=covariance, report=report(f"group {k}")
            )
        restored = from_planes(estimate, noise.sigma, image)
        return DenoiseResult(restored, noise, whitening.unwhitened(atoms), history)

    @property
    def smallest(self) -> int:
        """Fewest pixels per side of an image."""
        return max(self.patch_size, SMALLEST)


def _half_of(
    callback: Callable[[str, float], object] | None, k: int
) -> Callable[[str, float], object] | None:
    """Return the callback of the first or second half of the work."""
    return None if callback is None else lambda stage, fraction: callback(stage, (k + fraction) / 2)


def _noise_share(image: NDArray, restored: NDArray, probe: NDArray, of_probe: NDArray) -> float:
    """Return the part of what was removed, r = y - f(y), with the least error: <n, r> / <r, r>, from 0 to 1.

    The noise n is not known, but how much of a known one b is removed, b - (f(y + b) - f(y)), and their
    product with b has the same mean (Ramani, Blu and Unser 2008, Monte-Carlo SURE).
    """
    added = np.subtract(probe, image, dtype=np.float64)
    removed = np.subtract(image, restored, dtype=np.float64)
    kept = np.subtract(of_probe, restored, dtype=np.float64)
    power = float(np.mean(removed**2))
    if power == 0:
        return 1.0
    return float(np.clip(np.mean(added * (added - kept)) / PROBE**2 / power, 0, 1))


def _chosen_passes(noisy: NDArray[np.float32], n_passes: int | None, kinds: Passes) -> Passes:
    """Return so many passes over the groups of planes (c, h, w) in units of the noise.

    More than the three kinds of passes repeat the first two. Default: as many as the noise needs.
    """
    contrast = value_range(noisy[0])
    if contrast < COMMON_AT_RANGE:
        kinds = tuple((replace(groups, common=False), factor) for groups, factor in kinds)
    if n_passes is None:
        wanted = PASSES_AT_RANGE / max(contrast, PASSES_AT_RANGE / MOST_PASSES)
        n_passes = max(round(wanted), len(kinds))
    if n_passes <= len(kinds):
        return kinds[:n_passes]
    first, second, last = kinds
    n_first = n_passes // 2
    return (first,) * n_first + (second,) * (n_passes - 1 - n_first) + (last,)


def _guided_pass(
    filtered: Callable[[Planes, GroupFilter, float], Planes],
    estimate: Planes,
    guide: tuple[Planes, Planes],
    groups: GroupFilter,
    factor: float,
    *,
    joint: bool,
) -> Planes:
    """Return the last pass over a mean with another estimate, and its mean with that."""
    other, believed = guide
    kind = 0 if groups.common else 1
    if believed.mean(dtype=np.float64) > 0.5:
        size = groups.group_size if joint else GUIDED_SIZE
        groups, factor = replace(groups, group_size=size), GUIDED_FACTORS[kind]
    estimate = filtered(_mixed(estimate, other, BEFORE * believed), groups, factor)
    return _mixed(estimate, other, AFTER[kind] * believed)


def _mixed(estimate: Planes, other: Planes, weight: NDArray[np.floating]) -> Planes:
    """Return the mean of two estimates, with a weight of the second."""
    return np.asarray(estimate + weight * (other - estimate), dtype=np.float32)


def _reporter(
    callback: Callable[[str, float], object] | None, n_passes: int, *, guided: bool = False
) -> Callable[[str], Callable[[float], None]]:
    """Return a function from a stage to its progress callback, which reports the overall progress."""
    stages = ["learn", "code", *(f"group {k + 1}" for k in range(n_passes))]
    if guided:
        stages.insert(-1, "network")

    def of_stage(stage: str) -> Callable[[float], None]:
        def report(fraction: float) -> None:
            if callback is not None:
                callback(stage, (stages.index(stage) + fraction) / len(stages))

        return report

    return of_stage


def _warn_of_units(image: NDArray[np.floating], noise: CorrelatedNoise) -> None:
    """Warn of a density that cannot be that of the image's noise."""
    spread = float(np.std(image, dtype=np.float64))
    if noise.sigma > STRONGER * spread:
        warnings.warn(
            f"psd: its noise is {noise.sigma / max(spread, np.finfo(float).tiny):.3g} times as strong as the "
            "whole image: the mean of a density is the variance (for bm3d, that times the number of pixels)",
            stacklevel=4,
        )


def resolved(image: NDArray[np.floating], *, colour: bool) -> float:
    """Return the largest level of noise that single precision does not resolve."""
    axes, level = tuple(range(image.ndim - colour)), far_level(image, colour=colour)
    low, high = image.min(axes), image.max(axes)
    if level is not None:
        low, high = low - level, high - level
    low, high = low.min(), high.max()
    return float(max(OF_RANGE * (high - low), OF_VALUE * max(high, -low)))


def core_of(image: NDArray[np.floating], sigma: float, *, colour: bool) -> NDArray[np.floating] | None:
    """Return the image with a few far brighter or darker pixels filled, if single precision needs it.

    Each takes the value of the nearest other pixel, of its channel: a clipped one would spoil all patches
    around it.

    None if the noise is strong enough for the image as it is, or too weak for most of it.
    """
    if sigma <= 0 or sigma > resolved(image, colour=colour):
        return None
    middle = np.median(image, axis=tuple(range(image.ndim - colour)))
    far = np.abs(image - middle) > CORE * sigma
    share = float(far.mean())
    if not 0 < share <= FEW:
        return None
    planes = range(image.shape[-1]) if colour else [slice(None)]
    core = image.copy()
    for plane in planes:
        part = (..., plane)
        if far[part].all():
            return None
        nearest = np.asarray(distance_transform_edt(far[part], return_distances=False, return_indices=True))
        core[part] = image[part][tuple(nearest)]
    if sigma <= resolved(core, colour=colour):
        return None
    warnings.warn(
        f"{share:.2g} of the samples are more than {CORE:.0f} times the noise from the median, and stay as "
        "they are",
        stacklevel=5,
    )
    return core


def beyond_precision(image: NDArray[np.floating], sigma: float, *, colour: bool) -> bool:
    """Return whether the noise is too weak to be removed in single precision, and warn if there is any."""
    least = resolved(image, colour=colour)
    if sigma > 0 and sigma <= least:
        warnings.warn(
            "the noise is too weak for the contrast of the image in single precision, by a factor of "
            f"{least / sigma:.3g}: the image is returned as it is",
            stacklevel=4,
        )
    return bool(sigma <= least)
