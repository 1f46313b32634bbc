"""Planes of an image denoised by a trained network, tile by tile."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.imaging.contrast import value_range
from calepin.imaging.fit import fits
from calepin.imaging.result import WEAK
from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.unfolded_denoiser import UnfoldedDenoiser

__all__ = ["Network", "Report", "Shift", "denoise_planes", "predictions"]

Network = UnfoldedAutoencoder | UnfoldedDenoiser
Report = Callable[[float], object]
Shift = tuple[int, ...]
Plane = NDArray[np.float32]

# For a network for all levels, an image is scaled to this range of values. The levels of its training, if its
# card does not tell them.
RANGE = 0.9
LEVELS = (0.0, 75 / 255)

TILE = 768  # side of the squares that are denoised one by one, to bound the memory
MARGIN = 64  # pixels around a tile that are denoised with it and dropped: edge effects reach less far

# Below this level of the noise, for images in [0, 1], the risk of the estimate is computed, from a probe of
# so many levels. The estimate is not used if the risk is above this part of that of the noisy image.
PROBED, PROBE, WORSE = 8 / 255, 0.1, 0.95


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
    """Return denoised planes (c, h, w) in units of the noise, or None if they must fit and do not.

    `sigma` is the level of the noise in the units of the image, and `level`, (h, w) or (c, h, w), that of
    each pixel over it. Default: 1. Planes fit if the residual is no larger than the noise
    (`calepin.imaging.fit`), and for weak noise, if the estimate has a smaller risk than the noisy plane.
    """
    if level is not None and not isinstance(network, UnfoldedDenoiser):
        raise IncompatibleError("noise: a network for one level of noise needs GaussianNoise(sigma)")
    tiles = list(_tiles(planes.shape[1:], network.stride))
    done, total = 0, len(planes) * len(tiles)
    denoised = np.empty_like(planes)
    levels = [None] * len(planes) if level is None else np.broadcast_to(level, planes.shape)
    for plane, out, mine in zip(planes, denoised, levels, strict=True):
        known = _known_level(network, plane, sigma)
        offset = float(plane.mean(dtype=np.float64))
        for outer, inner, place in tiles:
            noise = None if mine is None else mine[outer]

            def estimate(
                pixels: Plane, report: Report, noise=noise, inner=inner, known=known, offset=offset
            ) -> Plane:
                return _estimate(network, pixels, known, noise, offset, shifts, report)[inner]

            out[place] = estimate(plane[outer], lambda part, done=done: report((done + part) / total))
            done += 1
            variance = 1.0
            if mine is not None:
                variance = np.square(mine[place])
                out[place] = np.where(mine[place] < WEAK, plane[place], out[place])
            if not must_fit:
                continue
            if not fits(plane[place], out[place], variance, 0.0):
                return None
            if known < PROBED and not _helps(plane, out, variance, (outer, inner, place), estimate):
                return None
    return denoised


def _known_level(network: Network, plane: Plane, sigma: float) -> float:
    """Return the level of the noise to which a plane in units of the noise is scaled.

    A network for one level gets that level. One for all levels gets the plane in a range like that of the
    images that it has learned from, and the level that the noise then has.
    """
    if isinstance(network, UnfoldedAutoencoder):
        return network.card.get("sigma", sigma)
    strongest = network.card.get("sigma_range", LEVELS)[1]
    return RANGE / max(value_range(plane), RANGE / strongest)


def _estimate(
    network: Network,
    pixels: Plane,
    known: float,
    level: Plane | None,
    offset: float,
    shifts: list[Shift],
    report: Report,
) -> Plane:
    """Return the estimate of pixels in units of the noise, averaged over shifts."""
    settings: dict[str, Any] = {}
    if isinstance(network, UnfoldedDenoiser):
        levels = known if level is None else torch.from_numpy(level * known)[None, None].to(network.atoms)
        settings = {"sigma": levels, "offset": offset * known}
    y = torch.from_numpy(pixels * known)[None, None].to(network.atoms)
    mean = torch.zeros_like(y)
    for n, prediction in enumerate(predictions(network, y, shifts, **settings), start=1):
        mean += prediction / len(shifts)
        report(n / len(shifts))
    return np.asarray(mean[0, 0].cpu().numpy() / known, dtype=np.float32)


def _helps(
    plane: Plane,
    denoised: Plane,
    variance: float | Plane,
    windows: "tuple[Window, Window, Window]",
    estimate: Callable[[Plane, Report], Plane],
) -> bool:
    """Return whether the estimate of a tile has a smaller risk than its noisy pixels.

    The risk is Stein's unbiased estimate, |d - y|^2 - sum v + 2 sum v_i dd_i/dy_i, whose divergence comes
    from a random probe (Ramani, Blu and Unser, "Monte-Carlo SURE", 2008).
    """
    outer, inner, place = windows
    probe = np.random.default_rng(0).standard_normal(plane[outer].shape, dtype=np.float32)
    pixels = np.asarray(plane[outer] + PROBE * probe, dtype=np.float32)
    moved = estimate(pixels, lambda part: None)
    slope = probe[inner] * (moved - denoised[place]) / PROBE
    risk = np.square(denoised[place] - plane[place]) - variance + 2 * variance * slope
    return bool(risk.mean() < WORSE * np.mean(variance))


def predictions(network: Network, y: Tensor, shifts: list[Shift], **settings: Any) -> Iterator[Tensor]:
    """Yield the linear predictor for each shift of the grid, one at a time to save memory."""
    for shift in shifts:
        with torch.no_grad():
            prediction = network(y, shifts=[shift], **settings)
        yield prediction


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
