"""Denoise an image by a dictionary and groups of similar patches, with a trained network as their guide."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calepin.core.arguments import check_fields
from calepin.core.random import RandomState
from calepin.datasets.noise import (
    GaussianNoise,
    PoissonGaussianNoise,
    PoissonNoise,
    VaryingGaussianNoise,
)
from calepin.imaging.agreement import agreement
from calepin.imaging.by_dictionary import DictionaryDenoiser, Planes, Report
from calepin.imaging.by_network import NetworkDenoiser, check_network
from calepin.imaging.by_steps import denoise_photons
from calepin.imaging.counts import check_counts, estimate_peak
from calepin.imaging.network_planes import Network, denoise_planes
from calepin.imaging.result import DenoiseResult, check_size, sigma_of
from calepin.likelihoods import Gaussian

__all__ = ["GuidedDenoiser"]

OF_NETWORK = 0.4  # of the work, for counts
HELPFUL = (0.75, 5.0)  # peaks between which a network for counts helps
OF_COUNTS = 0.35  # weight of its estimate
UNIT = GaussianNoise(1.0)

Callback = Callable[[str, float], object]


@dataclass(frozen=True)
class GuidedDenoiser:
    """Denoise an image by a dictionary and groups of similar patches, guided by a trained network.

    The dictionary and the groups know what this image repeats (`calepin.imaging.DictionaryDenoiser`), the
    network knows what photographs look like (`calepin.imaging.NetworkDenoiser`); their errors differ. Before
    the last pass over the groups, the estimate becomes a mean of both: it tells which patches are
    similar, and what they have in common. The result is a mean with the network again. Where both differ by
    more than two good estimates would (`calepin.imaging.agreement`), as in regular patterns, which networks
    do not know, the network has a smaller weight, down to none; a warning says so if it has none anywhere.

    The level of the noise may vary between pixels. Photon counts, with or without read noise, are stabilised
    as by the dictionary. From .75 to 5 photons of the brightest pixels, and without read noise, the result is
    a mean with the estimate of the network for counts.

    Parameters
    ----------
    model : str, path or network, optional
        Name or file of the network for Gaussian noise, or the network itself. Default: "bsd-gaussian".
    dictionary : DictionaryDenoiser, optional
        Settings of the dictionary and the groups.
    fallback : bool, default=True
        Whether the network has a smaller weight where it cannot be believed. False gives it the same weight
        everywhere.
    """

    model: str | os.PathLike | Network | None = None
    dictionary: DictionaryDenoiser = field(default_factory=DictionaryDenoiser)
    fallback: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        NetworkDenoiser(self.model, fallback=self.fallback)
        if self.dictionary.group_passes == 0:
            raise ValueError("dictionary: expected passes over groups, which the network guides, got none")

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callback | None = None,
    ) -> DenoiseResult:
        """Return the denoised image, and the learned atoms; see `calepin.denoise`.

        `callback` is called in the stages of the dictionary, with "network" before the last of them, for
        counts in each step again. `random_state` chooses the training patches of the dictionary.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level, `VaryingGaussianNoise`,
            `PoissonNoise` or `PoissonGaussianNoise`.
        ValueError
            Fewer than 16 pixels per side, or than in a patch; a network for other data; no counts for
            `PoissonNoise`.

        Warns
        -----
        UserWarning
            The network is left out everywhere; the noise is too weak for single precision.
        """
        if isinstance(noise, PoissonNoise):
            return self._denoise_counts(image, noise, random_state, callback)
        if isinstance(noise, PoissonGaussianNoise):
            return self._denoise_steps(image, noise, random_state, callback)
        result, part = self._denoise_pixels(image, noise, random_state, callback)
        if part == 0:
            warnings.warn(
                "the network fits this image nowhere: it is denoised by the dictionary alone, "
                'method="dictionary"',
                stacklevel=3,
            )
        return result

    def _denoise_counts(
        self, image: NDArray, noise: PoissonNoise, random_state: RandomState, callback: Callback | None
    ) -> DenoiseResult:
        """Return the expected counts, at a few photons as a mean with those of the network for counts."""
        check_counts(image)
        check_size(image, [self.dictionary.smallest] * 2)
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
        """Return the expected photons by stabilisation; in steps the network is left out without a word."""

        def of_step(values: NDArray, report: Callback | None) -> DenoiseResult:
            return self._denoise_pixels(values, UNIT, random_state, report)[0]

        return denoise_photons(of_step, image, noise, smallest=self.dictionary.smallest, callback=callback)

    def _denoise_pixels(
        self, image: NDArray, noise: object, random_state: RandomState, callback: Callback | None
    ) -> tuple[DenoiseResult, float]:
        """Return the denoised image, and how much of its weight the network kept, from 0 to 1."""
        if not isinstance(noise, VaryingGaussianNoise):
            sigma_of(noise, type(self).__name__)  # raises IncompatibleError
        network = NetworkDenoiser(self.model).network(noise)
        check_network(network, Gaussian)
        part = 1.0

        def guide(
            planes: Planes, estimate: Planes, sigma: float, level: Planes | None, report: Report
        ) -> tuple[Planes, Planes]:
            nonlocal part
            shifts = network.all_shifts()
            other = denoise_planes(network, planes, sigma, shifts, report, must_fit=False, level=level)
            assert other is not None  # as it need not fit
            believed = agreement(planes, estimate, other, level) if self.fallback else np.ones_like(planes)
            part = float(believed.mean(dtype=np.float64))
            return other, believed

        result = self.dictionary.denoise_pixels(
            image, noise, random_state=random_state, callback=callback, guide=guide
        )
        return result, part


def _ignore(stage: str, fraction: float) -> None:
    pass
