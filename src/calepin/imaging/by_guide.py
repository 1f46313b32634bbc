"""Denoise an image by groups of similar patches, guided by a trained network."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calepin.core.arguments import check_fields
from calepin.core.errors import IncompatibleError
from calepin.core.random import RandomState
from calepin.datasets.noise import (
    GaussianNoise,
    PoissonGaussianNoise,
    PoissonNoise,
    VaryingGaussianNoise,
)
from calepin.imaging.by_dictionary import (
    GROUP_PASSES,
    SMALLEST,
    WEAK,
    DictionaryDenoiser,
    beyond_precision,
    chosen_passes,
    level_planes,
)
from calepin.imaging.by_network import Network, NetworkDenoiser, check_network, denoise_planes, unit_atoms
from calepin.imaging.by_steps import denoise_photons
from calepin.imaging.counts import check_counts, estimate_peak
from calepin.imaging.result import DenoiseResult, check_size, from_planes, sigma_of, to_planes
from calepin.likelihoods import Gaussian

__all__ = ["GuidedDenoiser"]

OF_NETWORK = 0.4  # of the work
HELPFUL = (0.75, 5.0)  # peaks between which a network for counts helps
OF_COUNTS = 0.35  # weight of its estimate
UNIT = GaussianNoise(1.0)

Callback = Callable[[str, float], object]


@dataclass(frozen=True)
class GuidedDenoiser:
    """Denoise an image by groups of similar patches, guided by a trained network.

    The network (`calepin.imaging.NetworkDenoiser`) knows what photographs look like. Its estimate tells which
    patches of the image are similar, and what they have in common; by that the noisy patches of each group
    are shrunk (`calepin.imaging.groups`), three to eight times. This is step 3 of
    `calepin.imaging.DictionaryDenoiser` with another first estimate. Where the network does not fit the
    image, the dictionary takes over, with a warning.

    The level of the noise may vary between pixels. Photon counts, with or without read noise, are stabilised
    as by the dictionary. From .75 to 5 photons of the brightest pixels, and without read noise, the result is
    a mean with the estimate of the network for counts, whose errors differ.

    Parameters
    ----------
    model : str, path or network, optional
        Name or file of the network for Gaussian noise, or the network itself. Default: "bsd-gaussian".
    """

    model: str | os.PathLike | Network | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        NetworkDenoiser(self.model)

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callback | None = None,
    ) -> DenoiseResult:
        """Return the denoised image, and the filters of the network as atoms; see `calepin.denoise`.

        `callback` is called in the stages "network" and "group 1" to the last pass, for counts in each step
        again. `random_state` is for the dictionary, where it takes over.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level, `VaryingGaussianNoise` with levels
            (h, w), `PoissonNoise` or `PoissonGaussianNoise`.
        ValueError
            Fewer than 16 pixels per side; a network for other data; no counts for `PoissonNoise`.

        Warns
        -----
        UserWarning
            The dictionary takes over; the noise is too weak for single precision.
        """
        if isinstance(noise, PoissonNoise):
            return self._denoise_counts(image, noise, random_state, callback)
        if isinstance(noise, PoissonGaussianNoise):
            return self._denoise_steps(image, noise, random_state, callback)
        result = self._denoise_pixels(image, noise, callback)
        if result is None:
            warnings.warn(
                "the network removes more than the noise of this image: it is denoised by the dictionary "
                'alone, method="dictionary"',
                stacklevel=3,
            )
            result = DictionaryDenoiser().denoise(image, noise, random_state=random_state, callback=callback)
        return result

    def _denoise_counts(
        self, image: NDArray, noise: PoissonNoise, random_state: RandomState, callback: Callback | None
    ) -> DenoiseResult:
        """Return the expected counts, at a few photons as a mean with those of the network for counts."""
        check_counts(image)
        check_size(image, [SMALLEST] * 2)
        report = callback or _ignore
        peak = estimate_peak(image) if noise.peak is None else noise.peak
        mean, before = None, 0.0
        if HELPFUL[0] <= peak <= HELPFUL[1]:
            mean = NetworkDenoiser().expected_counts(
                image, peak, lambda fraction: report("network", OF_NETWORK * fraction)
            )
            before = OF_NETWORK
        result = self._denoise_steps(
            image, noise, random_state, lambda stage, part: report(stage, before + (1 - before) * part)
        )
        if mean is None:
            return result
        return replace(result, image=OF_COUNTS * mean + (1 - OF_COUNTS) * result.image)

    def _denoise_steps(
        self,
        image: NDArray,
        noise: PoissonNoise | PoissonGaussianNoise,
        random_state: RandomState,
        callback: Callback | None,
    ) -> DenoiseResult:
        """Return the expected photons by stabilisation; the dictionary takes over in steps without a word."""

        def of_step(values: NDArray, report: Callback | None) -> DenoiseResult:
            result = self._denoise_pixels(values, UNIT, report)
            if result is None:
                result = DictionaryDenoiser().denoise(
                    values, UNIT, random_state=random_state, callback=report
                )
            return result

        return denoise_photons(of_step, image, noise, smallest=SMALLEST, callback=callback)

    def _denoise_pixels(
        self, image: NDArray, noise: object, callback: Callback | None
    ) -> DenoiseResult | None:
        """Return the denoised image, or None if the estimate of the network does not fit it."""
        check_size(image, [SMALLEST] * 2)
        sigma, level = _levels(image, noise)
        network = NetworkDenoiser(self.model).network(noise)
        check_network(network, Gaussian)
        if beyond_precision(image, sigma):
            return DenoiseResult(image.copy(), noise, unit_atoms(network))
        report = callback or _ignore
        noisy = to_planes(image, sigma)
        estimate = denoise_planes(
            network,
            noisy,
            sigma,
            network.all_shifts(),
            lambda fraction: report("network", OF_NETWORK * fraction),
            level=level,
            must_fit=True,
        )
        if estimate is None:
            return None
        passes = chosen_passes(noisy, None, GROUP_PASSES)
        for k, (groups, factor) in enumerate(passes):
            assumed = factor if level is None else factor * np.maximum(level, WEAK)
            estimate = groups.apply(noisy, estimate, assumed, report=_of_pass(report, k, len(passes)))
        if level is not None:
            estimate = np.where(level < WEAK, noisy, estimate)
        return DenoiseResult(from_planes(estimate, sigma, image), noise, unit_atoms(network))


def _levels(image: NDArray, noise: object) -> tuple[float, NDArray[np.float32] | None]:
    """Return the level of the noise, and that of each pixel over it if it varies."""
    if not isinstance(noise, VaryingGaussianNoise):
        return sigma_of(noise, GuidedDenoiser.__name__), None
    levels = noise.level(image)
    if levels.ndim == 3:
        raise IncompatibleError(
            "noise: GuidedDenoiser needs one level for the channels of a pixel; use DictionaryDenoiser"
        )
    sigma = float(np.sqrt(np.mean(np.square(levels, dtype=np.float64))))
    return sigma, level_planes(levels / sigma)


def _of_pass(report: Callback, k: int, n_passes: int) -> Callable[[float], None]:
    """Return the progress callback of pass k over the groups."""

    def inner(fraction: float) -> None:
        report(f"group {k + 1}", OF_NETWORK + (1 - OF_NETWORK) * (k + fraction) / n_passes)

    return inner


def _ignore(stage: str, fraction: float) -> None:
    pass
