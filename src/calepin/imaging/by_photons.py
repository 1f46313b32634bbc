"""Denoise counts of photons with a network trained on other images."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.pretrained_networks import pretrained

__all__ = ["PEAKS", "denoise_counts", "network_for_peak"]

PEAKS = (1, 2, 4)
"""Expected counts of the brightest pixel that calepin's networks were trained for."""


def network_for_peak(peak: float) -> UnfoldedAutoencoder:
    """Return the untied network whose peak is nearest on a logarithmic scale.

    Counts cannot be scaled to another peak: what comes out has another variance than Poisson's.
    """
    if not 0 < peak < math.inf:
        raise ValueError(f"peak: expected a finite number above 0, got {peak!r}")
    nearest = min(PEAKS, key=lambda known: abs(math.log(known / peak)))
    return pretrained(f"dcea-poisson-untied-peak{nearest}")


def denoise_counts(
    counts: NDArray,
    *,
    peak: float,
    network: UnfoldedAutoencoder | None = None,
    callback: Callable[[float], None] | None = None,
) -> NDArray[np.float64]:
    """Return the expected counts behind an image of photon counts.

    Parameters
    ----------
    counts : array (h, w) or (h, w, 3)
        Whole numbers of at least 0; each side at least as long as the network's kernel. The channels
        of a colour image are denoised one by one.
    peak : float
        Expected count of the brightest pixel, which chooses the network.
    network : UnfoldedAutoencoder, optional
        Another network for Poisson data, for one channel.
    callback : callable, optional
        Called with the share of the work that is done.

    Examples
    --------
    >>> import numpy as np
    >>> from skimage import data
    >>> from calepin.imaging import denoise_counts
    >>> rate = data.camera()[100:200, 150:250] / 255 * 4
    >>> counts = np.random.default_rng(0).poisson(rate)
    >>> estimate = denoise_counts(counts, peak=4)
    >>> bool(np.mean((estimate - rate) ** 2) < 0.2 * np.mean((counts - rate) ** 2))
    True
    """
    counts = np.asarray(counts)
    if counts.ndim not in {2, 3} or counts.shape[2:] not in {(), (3,)} or counts.dtype.kind not in "iuf":
        raise ValueError(
            f"counts: expected real numbers of shape (h, w) or (h, w, 3), got {counts.dtype} {counts.shape}"
        )
    network = network_for_peak(peak) if network is None else network
    planes = np.moveaxis(np.atleast_3d(counts), 2, 0)[:, None].astype(np.float64)
    y = torch.from_numpy(planes).to(network.atoms)
    shifts = network.all_shifts()
    eta = torch.zeros_like(y)
    with torch.no_grad():
        for n, shift in enumerate(shifts):
            eta += network(y, shifts=[shift]) / len(shifts)
            if callback is not None:
                callback((n + 1) / len(shifts))
        mean = network.likelihood.mean(eta)
    return np.moveaxis(mean[:, 0].double().cpu().numpy(), 0, 2).reshape(counts.shape)
