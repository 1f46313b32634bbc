"""Denoise photon counts by a trained network and by a dictionary of the image."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.typing import NDArray

from calepin.core.errors import IncompatibleError
from calepin.core.random import RandomState
from calepin.datasets.noise import PoissonNoise
from calepin.imaging.by_dictionary import DictionaryDenoiser
from calepin.imaging.by_network import NetworkDenoiser
from calepin.imaging.counts import check_counts, estimate_peak
from calepin.imaging.result import DenoiseResult

__all__ = ["CombinedDenoiser"]

HELPFUL = (0.75, 5.0)  # peaks between which a network helps
OF_NETWORK = 0.4  # of the work


@dataclass(frozen=True)
class CombinedDenoiser:
    """Denoise photon counts by the mean of the estimates of a trained network and of a dictionary.

    The network (`calepin.imaging.NetworkDenoiser`) knows what photographs look like, the dictionary
    (`calepin.imaging.DictionaryDenoiser`) what this image repeats; their errors differ. For peaks below .75
    or above 5 photons, and where the network does not fit the counts, it is the dictionary alone.
    """

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callable[[str, float], object] | None = None,
    ) -> DenoiseResult:
        """Return the denoised image, and the atoms of the dictionary; see `calepin.denoise`.

        `callback` is called in the stage "network", then in those of the dictionary.

        Raises
        ------
        IncompatibleError
            Another noise model than `PoissonNoise`.
        ValueError
            Fewer than 16 pixels per side; no counts.
        """
        if not isinstance(noise, PoissonNoise):
            raise IncompatibleError(f"noise: CombinedDenoiser removes PoissonNoise(), got {noise!r:.60}")
        check_counts(image)
        report = callback or _ignore
        peak = estimate_peak(image) if noise.peak is None else noise.peak
        mean = None
        if HELPFUL[0] <= peak <= HELPFUL[1]:
            mean = NetworkDenoiser().expected_counts(
                image, peak, lambda fraction: report("network", OF_NETWORK * fraction)
            )
        before = 0.0 if mean is None else OF_NETWORK
        result = DictionaryDenoiser().denoise(
            image,
            noise,
            random_state=random_state,
            callback=lambda stage, fraction: report(stage, before + (1 - before) * fraction),
        )
        return result if mean is None else replace(result, image=(mean + result.image) / 2)


def _ignore(stage: str, fraction: float) -> None:
    pass
