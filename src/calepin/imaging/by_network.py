"""Denoise an image with a network trained on other images: Gaussian noise, or photon counts."""

import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.checks import check_boolean, check_integer, check_number
from calepin.core.errors import IncompatibleError
from calepin.core.files import read_header
from calepin.core.random import RandomState
from calepin.datasets.noise import PoissonNoise
from calepin.imaging.by_dictionary import SMALLEST, DictionaryDenoiser
from calepin.imaging.contrast import value_range
from calepin.imaging.counts import check_counts, estimate_peak
from calepin.imaging.fit import fits
from calepin.imaging.result import DenoiseResult, check_size, from_planes, sigma_of, to_planes
from calepin.likelihoods import Gaussian, Likelihood, Poisson
from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.pretrained_networks import PRETRAINED, pretrained
from calepin.networks.unfolded_denoiser import UnfoldedDenoiser

__all__ = [
    "NETWORKS",
    "PEAKS",
    "Network",
    "NetworkDenoiser",
    "check_network",
    "denoise_planes",
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

# For a network for all levels, an image is scaled to this range of values. The levels of its training, if its
# card does not tell them.
RANGE = 0.9
LEVELS = (0.0, 75 / 255)

TILE = 768  # side of the squares that are denoised one by one, to bound the memory
MARGIN = 64  # pixels around a tile that are denoised with it and dropped: edge effects reach less far


Shift = tuple[int, ...]
Report = Callable[[float], object]
Network = UnfoldedAutoencoder | UnfoldedDenoiser
KINDS: dict[str, type[Network]] = {
    "unfolded-autoencoder": UnfoldedAutoencoder,
    "unfolded-denoiser": UnfoldedDenoiser,
}


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
    nearest = min(PEAKS, key=lambda known: abs(math.log(known / peak)))
    return pretrained(f"{COUNTS}-untied-peak{nearest}")


@dataclass(frozen=True)
class NetworkDenoiser:
    """Denoise an image by a trained network.

    **Gaussian noise.** The network is trained for one noise level, ``card["sigma"]``. An image with
    another level is scaled to it, denoised, and scaled back. A network with `local_mean` does not depend on
    the grey level, but contrasts are then smaller or larger than those of the training images. Large
    images are denoised in tiles that overlap by more than the range of edge effects, so that the memory is
    bounded by a few copies of the image. Colour images are first transformed to a mean and two differences;
    each is denoised as a gray image.

    **Photon counts.** The network returns the expected counts. The channels of a colour image are
    denoised separately.

    Parameters
    ----------
    model : str, path or UnfoldedAutoencoder, optional
        Name or file of a network, or the network itself, for images of one channel and the likelihood of the
        noise. Default: a shipped network, "bsd-gaussian" for Gaussian noise, and for counts the one whose
        peak (1, 2 or 4) is nearest on a logarithmic scale.
    n_shifts : int, optional
        Number of shifts of the grid to average over. Default: all, 16 for stride 4. Fewer are faster and less
        accurate: "bsd-gaussian" loses .5 dB with four shifts and 1.7 dB with one.
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
            Another noise model than `GaussianNoise` with one level or `PoissonNoise`.
        ValueError
            A network with another likelihood or for other data, an image smaller than its kernel, or too many
            shifts; no counts for `PoissonNoise`.

        Warns
        -----
        UserWarning
            The dictionary takes over.
        """
        counts = isinstance(noise, PoissonNoise)
        sigma = None if counts else sigma_of(noise, type(self).__name__)
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
        if sigma is None:
            denoised = _from_counts(network, image, shifts, report, self.fallback)
        elif sigma == 0:
            denoised = image.copy()
        else:
            planes = denoise_planes(
                network, to_planes(image, sigma), sigma, shifts, report, must_fit=self.fallback
            )
            denoised = None if planes is None else from_planes(planes, sigma, image)
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
    for n, prediction in enumerate(_predictions(network, y, shifts)):
        eta += prediction / len(shifts)
        report((n + 1) / len(shifts))
    means = network.likelihood.mean(eta)[:, 0].double().cpu().numpy()
    if must_fit and not all(
        fits(plane[0], mean, mean, mean) for plane, mean in zip(planes, means, strict=True)
    ):
        return None
    return np.moveaxis(means, 0, 2).reshape(counts.shape)


def denoise_planes(
    network: Network,
    planes: NDArray[np.float32],
    sigma: float,
    shifts: list[Shift],
    report: Report,
    *,
    must_fit: bool,
    level: NDArray[np.float32] | None = None,
) -> NDArray[np.float32] | None:
    """Return denoised planes (c, h, w) in units of the noise, tile by tile; None if they must fit and do not.

    `sigma` is the level of the noise in the units of the image, and `level`, (h, w), that of each pixel over
    it. Default: 1.
    """
    if level is not None and not isinstance(network, UnfoldedDenoiser):
        raise IncompatibleError("noise: a network for one level of noise needs GaussianNoise(sigma)")
    tiles = list(_tiles(planes.shape[1:], network.stride))
    done, total = 0, len(planes) * len(tiles) * len(shifts)
    denoised = np.empty_like(planes)
    for plane, out in zip(planes, denoised, strict=True):
        known = _known_level(network, plane, sigma)
        settings: dict[str, Any] = {}
        if isinstance(network, UnfoldedDenoiser):
            settings = {"sigma": known, "offset": float(plane.mean(dtype=np.float64)) * known}
        for outer, inner, place in tiles:
            y = torch.from_numpy(plane[outer] * known)[None, None].to(network.atoms)
            if level is not None:
                settings["sigma"] = torch.from_numpy(level[outer] * known)[None, None].to(network.atoms)
            mean = torch.zeros_like(y)
            for prediction in _predictions(network, y, shifts, **settings):
                mean += prediction / len(shifts)
                done += 1
                report(done / total)
            out[place] = mean[0, 0].cpu().numpy()[inner] / known
            variance = 1.0 if level is None else np.square(level[place])
            if must_fit and not fits(plane[place], out[place], variance, 0.0):
                return None
    return denoised


def _known_level(network: Network, plane: NDArray[np.float32], sigma: float) -> float:
    """Return the level of the noise to which a plane in units of the noise is scaled.

    A network for one level gets that level. One for all levels gets the plane in a range like that of the
    images that it has learned from, and the level that the noise then has.
    """
    if isinstance(network, UnfoldedAutoencoder):
        return network.card.get("sigma", sigma)
    strongest = network.card.get("sigma_range", LEVELS)[1]
    return RANGE / max(value_range(plane), RANGE / strongest)


def _predictions(network: Network, y: Tensor, shifts: list[Shift], **settings: Any) -> Iterator[Tensor]:
    """Yield the linear predictor for each shift of the grid, one at a time to save memory."""
    for shift in shifts:
        with torch.no_grad():
            prediction = network(y, shifts=[shift], **settings)
        yield prediction


def _spread(shifts: list[Shift], n: int | None) -> list[Shift]:
    """Return n of the shifts, far apart."""
    if n is None:
        return shifts
    check_integer("n_shifts", n, most=len(shifts), optional=True)
    return [shifts[i * len(shifts) // n] for i in range(n)]


Window = tuple[slice, slice]


def _tiles(shape: tuple[int, int], stride: int) -> Iterator[tuple[Window, Window, Window]]:
    """Yield the window to denoise, the part of it to keep, and the place of that part in the image.

    Windows begin at multiples of the stride, so that their grid is that of the whole image.
    """
    step, margin = (-(-size // stride) * stride for size in (TILE, MARGIN))
    for top in range(0, shape[0], step):
        for left in range(0, shape[1], step):
            outer, inner, place = [], [], []
            for begin, size in zip((top, left), shape, strict=True):
                end = min(begin + step, size)
                first, last = max(begin - margin, 0), min(end + margin, size)
                outer.append(slice(first, last))
                inner.append(slice(begin - first, end - first))
                place.append(slice(begin, end))
            yield tuple(outer), tuple(inner), tuple(place)


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
