"""Denoise an image with a network trained on other images: Gaussian noise, or photon counts."""

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.core.arguments import check_fields
from calepin.core.checks import check_boolean, check_integer, check_number
from calepin.core.files import read_header
from calepin.core.random import RandomState
from calepin.datasets.noise import PoissonNoise, VaryingGaussianNoise
from calepin.imaging.by_dictionary import SMALLEST, DictionaryDenoiser
from calepin.imaging.counts import check_counts, estimate_peak
from calepin.imaging.fit import fits
from calepin.imaging.network_planes import Network, Report, Shift, denoise_planes, predictions
from calepin.imaging.result import (
    DenoiseResult,
    check_size,
    from_planes,
    level_planes,
    root_mean_square,
    sigma_of,
    to_planes,
)
from calepin.likelihoods import Gaussian, Likelihood, Poisson
from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.pretrained_networks import PRETRAINED, pretrained
from calepin.networks.unfolded_denoiser import UnfoldedDenoiser

__all__ = [
    "NETWORKS",
    "PEAKS",
    "NetworkDenoiser",
    "check_network",
    "levels_of",
    "load_network",
    "network_for_peak",
    "unit_atoms",
]

GAUSSIAN = "bsd-gaussian"
COUNTS = "dcea-poisson"

NETWORKS = tuple(name for name in PRETRAINED if name.startswith((GAUSSIAN, COUNTS)))
"""Names of the denoising networks that calepin ships."""

PEAKS = (1, 2, 4)
"""Peaks (expected counts of the brightest pixel) for which networks are shipped."""

SUITED = (0.25, 5.0)
"""Peaks between which the shipped networks may be used; see `calepin.imaging.GuidedDenoiser`."""

# Mean relative difference between the levels of pixels and those around them, above which the network is .3
# to 12 dB behind groups of patches.
ROUGH = 0.22

KINDS: dict[str, type[Network]] = {
    "unfolded-autoencoder": UnfoldedAutoencoder,
    "unfolded-denoiser": UnfoldedDenoiser,
}


def levels_of(image: NDArray, noise: object, method: str) -> tuple[float, NDArray[np.float32] | None]:
    """Return the level of the noise, and that of each pixel over it, None if it is the same.

    It has the shape (h, w), or (3, h, w) for levels that differ between the channels of a pixel.

    Raises
    ------
    IncompatibleError
        Another noise model.
    """
    if not isinstance(noise, VaryingGaussianNoise):
        return sigma_of(noise, method), None
    levels = noise.level(image)
    sigma = root_mean_square(levels)
    return sigma, level_planes(levels / sigma) if sigma > 0 else None


def load_network(model: str | os.PathLike) -> Network:
    """Return a shipped network, by name, or one from a file, ``PATH.safetensors``."""
    if str(model) in NETWORKS:
        return pretrained(str(model))
    if Path(model).suffix != ".safetensors" and not Path(model).exists():
        raise ValueError(f"model: expected PATH.safetensors or one of {', '.join(NETWORKS)}, got {model!r}")
    return KINDS.get(read_header(model)["kind"], UnfoldedAutoencoder).load(model)


def network_for_peak(peak: float) -> UnfoldedAutoencoder:
    """Return the shipped untied network whose peak is nearest on a logarithmic scale.

    Counts cannot be scaled to another peak: scaled counts do not have the variance of a Poisson distribution.
    """
    check_number("peak", peak, above=0)
    nearest = min(PEAKS, key=lambda known: abs(math.log(known) - math.log(peak)))
    return pretrained(f"{COUNTS}-untied-peak{nearest}")


@dataclass(frozen=True)
class NetworkDenoiser:
    """Denoise an image by a trained network.

    **Gaussian noise.** The shipped network is for all levels (`calepin.networks.UnfoldedDenoiser`), and the
    level may vary between pixels. The image is scaled to the range of the images that the network has learned
    from, denoised, and scaled back; so is noise above the strongest of the training. Units of the image
    have no effect. An `UnfoldedAutoencoder` is for one level, ``card["sigma"]``, to which images are
    scaled. Large images are denoised in tiles that overlap by more than the range of edge effects, so
    that the memory is bounded by a few copies of the image. Colour images are first transformed to a mean and
    two differences; each is denoised as a gray image.

    **Photon counts.** The network returns the expected counts. The channels of a colour image are
    denoised separately.

    Parameters
    ----------
    model : str, path, UnfoldedDenoiser or UnfoldedAutoencoder, optional
        Name or file of a network, or the network itself, for images of one channel and the likelihood of the
        noise. Default: a shipped network, "bsd-gaussian" for Gaussian noise, and for counts the one whose
        peak (1, 2 or 4) is nearest on a logarithmic scale.
    n_shifts : int, optional
        Number of shifts of the grid to average over. Default: all, 4 of "bsd-gaussian". Fewer are faster and
        less accurate.
    fallback : bool, default=True
        Whether the dictionary denoises the image instead, with a warning, if the residual of the network has
        a larger variance than the noise (on the whole, or twice as large in some place), or if no network is
        shipped for counts of this peak. False returns what the network returns, for example to measure it.
    """

    model: str | os.PathLike | Network | None = None
    n_shifts: int | None = None
    fallback: bool = True

    def __post_init__(self) -> None:
        check_integer("n_shifts", self.n_shifts, optional=True)
        check_boolean("fallback", self.fallback)
        check_fields(self)
        if isinstance(self.model, str) and not self.model:
            raise ValueError("model: expected a name or a file, got an empty text")

    def denoise(
        self,
        image: NDArray,
        noise: object,
        *,
        random_state: RandomState = 0,
        callback: Callable[[str, float], object] | None = None,
    ) -> DenoiseResult:
        """Return the denoised image, and the filters of the decoder as atoms; see `calepin.denoise`.

        The only stage of `callback` is "network", unless the dictionary takes over; `random_state` is for the
        dictionary alone.

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level, `VaryingGaussianNoise`, or
            `PoissonNoise`; levels of each pixel for a network for one level.
        ValueError
            A network with another likelihood or for other data, an image smaller than its kernel, or too many
            shifts; no counts for `PoissonNoise`.

        Warns
        -----
        UserWarning
            The dictionary takes over; the levels vary from pixel to pixel.
        """
        counts = isinstance(noise, PoissonNoise)
        sigma, level = (0.0, None) if counts else levels_of(image, noise, type(self).__name__)
        peak = _peak(image, noise) if counts else None
        network = self.network(PoissonNoise(peak) if counts else noise)
        check_network(network, Poisson if counts else Gaussian)
        check_size(image, network.kernel)
        shifts = _spread(network.all_shifts(), self.n_shifts)
        callback = _never_back(callback or _ignore)
        report = partial(callback, "network")
        if self.fallback and self.model is None and peak is not None and not SUITED[0] <= peak <= SUITED[1]:
            reason = f"no network is shipped for counts of peak {peak:.4g}"
            return _by_dictionary(reason, image, noise, random_state, callback)
        if counts:
            denoised = _from_counts(network, image, shifts, report, self.fallback)
        elif sigma == 0:
            denoised = image.copy()
        else:
            # noise that differs between the channels would be correlated after the transformation of colours
            mixed = level is None or level.ndim == 2
            _warn_of_rough(level)
            planes = denoise_planes(
                network,
                to_planes(image, sigma, opponent=mixed),
                sigma,
                shifts,
                report,
                must_fit=self.fallback,
                level=level,
            )
            denoised = None if planes is None else from_planes(planes, sigma, image, opponent=mixed)
        if denoised is None:
            reason = "the network removes more than the noise of this image"
            return _by_dictionary(reason, image, noise, random_state, callback)
        return DenoiseResult(denoised, noise, unit_atoms(network))

    def expected_counts(self, counts: NDArray, peak: float, report: Report) -> NDArray[np.float64] | None:
        """Return the expected counts (h, w) or (h, w, 3) by the network for a peak; None if it does not fit.

        `report` is called with the finished fraction.
        """
        network = self.network(PoissonNoise(peak))
        check_network(network, Poisson)
        check_size(counts, network.kernel)
        return _from_counts(network, counts, _spread(network.all_shifts(), self.n_shifts), report, True)

    def network(self, noise: object) -> Network:
        """Return the network: the given one, loaded from its file, or the shipped one for a noise model."""
        if isinstance(self.model, Network):
            return self.model
        if self.model is not None:
            return load_network(self.model)
        if not isinstance(noise, PoissonNoise):
            return pretrained(GAUSSIAN)
        if noise.peak is None:
            raise ValueError("peak: expected a number, for which a network is chosen, got None")
        return network_for_peak(noise.peak)


def _warn_of_rough(level: NDArray[np.float32] | None) -> None:
    """Warn of levels that vary from pixel to pixel: pixels with little noise have no more weight."""
    from scipy.ndimage import uniform_filter

    if level is None:
        return
    around = uniform_filter(level, 5, mode="nearest", axes=(-2, -1))
    if np.mean(np.abs(level - around) / np.maximum(around, np.finfo(np.float32).tiny)) > ROUGH:
        warnings.warn(
            "noise: the levels vary from pixel to pixel, for which the network was not trained; "
            'method="dictionary" and "best" gain more from the pixels with little noise',
            stacklevel=4,
        )


def _ignore(stage: str, fraction: float) -> None:
    pass


def _never_back(callback: Callable[[str, float], object]) -> Callable[[str, float], object]:
    """Return a callback whose fractions never fall: not even where the dictionary begins anew."""
    last = 0.0

    def report(stage: str, fraction: float) -> object:
        nonlocal last
        last = max(last, fraction)
        return callback(stage, last)

    return report


def _peak(counts: NDArray, noise: PoissonNoise) -> float:
    """Return the given peak, or that of the counts, which must be counts."""
    check_counts(counts)
    if noise.peak is not None:
        return noise.peak
    return max(estimate_peak(counts), np.finfo(np.float64).tiny)


def _by_dictionary(
    reason: str,
    image: NDArray,
    noise: object,
    random_state: RandomState,
    callback: Callable[[str, float], object],
) -> DenoiseResult:
    """Warn, and return the image denoised by the dictionary, or as it is if it is too small for that."""
    if min(image.shape[:2]) < SMALLEST:
        warnings.warn(
            f"{reason}, and the dictionary needs {SMALLEST} pixels per side: the image is returned as it is",
            stacklevel=4,
        )
        return DenoiseResult(image.astype(np.result_type(image, np.float32)), noise)
    warnings.warn(f'{reason}: it is denoised by the dictionary instead, method="dictionary"', stacklevel=4)
    return DictionaryDenoiser().denoise(image, noise, random_state=random_state, callback=callback)


def _from_counts(
    network: Network, counts: NDArray, shifts: list[Shift], report: Report, must_fit: bool
) -> NDArray[np.float64] | None:
    """Return the expected counts, or None if they must fit the counts and do not."""
    planes = np.moveaxis(np.atleast_3d(counts), 2, 0)[:, None].astype(np.float64)
    y = torch.from_numpy(planes).to(network.atoms)
    eta = torch.zeros_like(y)
    for n, prediction in enumerate(predictions(network, y, shifts)):
        eta += prediction / len(shifts)
        report((n + 1) / len(shifts))
    means = network.likelihood.mean(eta)[:, 0].double().cpu().numpy()
    if must_fit and not all(
        fits(plane[0], mean, mean, mean) for plane, mean in zip(planes, means, strict=True)
    ):
        return None
    return np.moveaxis(means, 0, 2).reshape(counts.shape)


def _spread(shifts: list[Shift], n: int | None) -> list[Shift]:
    """Return n of the shifts, far apart."""
    if n is None:
        return shifts
    check_integer("n_shifts", n, most=len(shifts), optional=True)
    return [shifts[i * len(shifts) // n] for i in range(n)]


def unit_atoms(network: Network) -> NDArray[np.floating]:
    """Return the atoms of the decoder as rows of unit norm."""
    atoms = (network.atoms if network.tied else network.decoder_atoms).detach().flatten(1)
    norm = torch.linalg.vector_norm(atoms, dim=1, keepdim=True).clamp_min(torch.finfo(atoms.dtype).tiny)
    return (atoms / norm).cpu().numpy()


def check_network(network: Network, family: type[Likelihood]) -> None:
    """Raise ValueError if the network is not for gray images and this family of data."""
    one_channel = len(network.kernel) == 2 and network.atoms.shape[1] == 1
    if not one_channel or not isinstance(network.likelihood, family):
        raise ValueError(
            f"model: expected a network for gray images and {family.__name__} data, got atoms of shape "
            f"{tuple(network.atoms.shape)} for {type(network.likelihood).__name__} data"
        )
