"""Denoise an image with a network trained on other images: Gaussian noise, or photon counts."""

import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.checks import check_integer, check_number
from calepin.core.random import RandomState
from calepin.datasets.noise import PoissonNoise
from calepin.imaging.result import DenoiseResult, check_size, from_planes, sigma_of, to_planes
from calepin.likelihoods import Gaussian, Likelihood, Poisson
from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.pretrained_networks import PRETRAINED, pretrained

__all__ = ["NETWORKS", "PEAKS", "NetworkDenoiser", "load_network", "network_for_peak"]

GAUSSIAN = "bsd-gaussian"
COUNTS = "dcea-poisson"

NETWORKS = tuple(name for name in PRETRAINED if name.startswith((GAUSSIAN, COUNTS)))
"""Names of the denoising networks that calepin ships."""

PEAKS = (1, 2, 4)
"""Peaks (expected counts of the brightest pixel) for which networks are shipped."""

_DEVIANCE = 2.0  # of a pixel, from which on a result is doubted

TILE = 768  # side of the squares that are denoised one by one, to bound the memory
MARGIN = 64  # pixels around a tile that are denoised with it and dropped: edge effects reach less far


def load_network(model: str | os.PathLike) -> UnfoldedAutoencoder:
    """Return a shipped network, by name, or one from a file, ``PATH.safetensors``."""
    if str(model) in NETWORKS:
        return pretrained(str(model))
    if Path(model).suffix != ".safetensors" and not Path(model).exists():
        raise ValueError(f"model: expected PATH.safetensors or one of {', '.join(NETWORKS)}, got {model!r}")
    return UnfoldedAutoencoder.load(model)


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
    """

    model: str | os.PathLike | UnfoldedAutoencoder | None = None
    n_shifts: int | None = None

    def __post_init__(self) -> None:
        check_integer("n_shifts", self.n_shifts, optional=True)
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

        Nothing is random, so `random_state` has no effect. The only stage of `callback` is "network".

        Raises
        ------
        IncompatibleError
            Another noise model than `GaussianNoise` with one level or `PoissonNoise`.
        ValueError
            A network with another likelihood or for other data, an image smaller than its kernel, or too many
            shifts.

        Warns
        -----
        UserWarning
            No shipped network was trained for counts with a similar peak.
        """
        counts = isinstance(noise, PoissonNoise)
        sigma = None if counts else sigma_of(noise, type(self).__name__)
        network = self.network(noise)
        _check_network(network, Poisson if counts else Gaussian)
        check_size(image, network.kernel)
        shifts = _spread(network.all_shifts(), self.n_shifts)
        report = partial(callback or _ignore, "network")
        if sigma is None:
            _check_counts(image)
            denoised = _from_counts(network, image, shifts, report)
        else:
            denoised = image.copy() if sigma == 0 else _from_pixels(network, image, sigma, shifts, report)
        return DenoiseResult(denoised, noise, _unit_atoms(network))

    def network(self, noise: object) -> UnfoldedAutoencoder:
        """Return the network: the given one, loaded from its file, or the shipped one for a noise model."""
        if isinstance(self.model, UnfoldedAutoencoder):
            return self.model
        if self.model is not None:
            return load_network(self.model)
        if not isinstance(noise, PoissonNoise):
            return pretrained(GAUSSIAN)
        if not PEAKS[0] / 2 <= noise.peak <= 2 * PEAKS[-1]:
            warnings.warn(
                f"peak {noise.peak:g} is far from the peaks of the shipped networks, {PEAKS}",
                stacklevel=4,
            )
        return network_for_peak(noise.peak)


def _ignore(stage: str, fraction: float) -> None:
    pass


Shift = tuple[int, ...]
Report = Callable[[float], object]


def _from_counts(
    network: UnfoldedAutoencoder, counts: NDArray, shifts: list[Shift], report: Report
) -> NDArray[np.float64]:
    """Return the expected counts."""
    planes = np.moveaxis(np.atleast_3d(counts), 2, 0)[:, None].astype(np.float64)
    y = torch.from_numpy(planes).to(network.atoms)
    eta = torch.zeros_like(y)
    for n, prediction in enumerate(_predictions(network, y, shifts)):
        eta += prediction / len(shifts)
        report((n + 1) / len(shifts))
    _check_fit(network.likelihood, eta, y)
    mean = network.likelihood.mean(eta)
    return np.moveaxis(mean[:, 0].double().cpu().numpy(), 0, 2).reshape(counts.shape)


def _check_fit(likelihood: Likelihood, eta: Tensor, counts: Tensor) -> None:
    """Warn if the means do not fit the counts, and raise ValueError if their average fits better."""
    average = counts.mean((-2, -1), keepdim=True).clamp_min(torch.finfo(counts.dtype).tiny)
    saturated = likelihood.nll(counts.clamp_min(1e-12).log(), counts)

    def deviance(at: Tensor) -> float:
        """Return the mean deviance of a pixel, about 1 for the true means."""
        return float(2 * (likelihood.nll(at, counts) - saturated).double().sum() / counts.numel())

    fit, flat = deviance(eta), deviance(average.log().expand_as(counts))
    if fit <= _DEVIANCE:
        return
    what = f"deviance {fit:.3g} a pixel, about 1 for the true means, {flat:.3g} for the average of the counts"
    if not fit <= flat:
        raise ValueError(f"image: expected counts of a lower peak, the network diverges on these ({what})")
    warnings.warn(f"the denoised image does not fit the counts ({what})", stacklevel=5)


def _from_pixels(
    network: UnfoldedAutoencoder,
    image: NDArray[np.floating],
    sigma: float,
    shifts: list[Shift],
    report: Report,
) -> NDArray[np.floating]:
    """Return the denoised pixels, by planes and tiles."""
    known = network.card.get("sigma", sigma)
    planes = to_planes(image, sigma)
    tiles = list(_tiles(image.shape[:2], network.stride))
    done, total = 0, len(planes) * len(tiles) * len(shifts)
    denoised = np.empty_like(planes)
    for plane, out in zip(planes, denoised, strict=True):
        for outer, inner, place in tiles:
            y = torch.from_numpy(plane[outer] * known)[None, None].to(network.atoms)
            mean = torch.zeros_like(y)
            for prediction in _predictions(network, y, shifts):
                mean += prediction / len(shifts)
                done += 1
                report(done / total)
            out[place] = mean[0, 0].cpu().numpy()[inner] / known
    return from_planes(denoised, sigma, image)


def _predictions(network: UnfoldedAutoencoder, y: Tensor, shifts: list[Shift]) -> Iterator[Tensor]:
    """Yield the linear predictor for each shift of the grid, one at a time to save memory."""
    for shift in shifts:
        with torch.no_grad():
            prediction = network(y, shifts=[shift])
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


def _unit_atoms(network: UnfoldedAutoencoder) -> NDArray[np.floating]:
    """Return the atoms of the decoder as rows of unit norm."""
    atoms = (network.atoms if network.tied else network.decoder_atoms).detach().flatten(1)
    norm = torch.linalg.vector_norm(atoms, dim=1, keepdim=True).clamp_min(torch.finfo(atoms.dtype).tiny)
    return (atoms / norm).cpu().numpy()


def _check_network(network: UnfoldedAutoencoder, family: type[Likelihood]) -> None:
    one_channel = len(network.kernel) == 2 and network.atoms.shape[1] == 1
    if not one_channel or not isinstance(network.likelihood, family):
        raise ValueError(
            f"model: expected a network for gray images and {family.__name__} data, got atoms of shape "
            f"{tuple(network.atoms.shape)} for {type(network.likelihood).__name__} data"
        )


def _check_counts(image: NDArray) -> None:
    if (image < 0).any() or (image.dtype.kind == "f" and (image != np.floor(image)).any()):
        raise ValueError("image: expected counts for PoissonNoise, whole numbers of at least 0")
