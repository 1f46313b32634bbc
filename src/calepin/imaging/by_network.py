"""Denoise an image with a network trained on other images."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calepin.imaging.by_dictionary import DenoiseResult, from_planes, to_planes
from calepin.imaging.noise import estimate_noise
from calepin.likelihoods import Gaussian
from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.pretrained_networks import pretrained

__all__ = ["DENOISERS", "denoise_with", "load_model"]

DENOISERS = ("bsd-gaussian",)
"""Names of the networks for images that calepin ships."""

TILE = 768  # side of the squares that are denoised one after the other, so that memory stays bounded
MARGIN = 64  # pixels around a tile that are denoised with it and dropped: what reaches further is not seen


def load_model(model: str | os.PathLike) -> UnfoldedAutoencoder:
    """Return a network of calepin's own, by name, or one from a file, ``PATH.safetensors``."""
    if str(model) in DENOISERS:
        return pretrained(str(model))
    if Path(model).suffix != ".safetensors" and not Path(model).exists():
        raise ValueError(f"model: expected PATH.safetensors or one of {', '.join(DENOISERS)}, got {model!r}")
    return UnfoldedAutoencoder.load(model)


def denoise_with(
    model: str | os.PathLike | UnfoldedAutoencoder,
    image: np.ndarray,
    *,
    sigma: float | None = None,
    n_shifts: int | None = None,
    callback: Callable[[float], None] | None = None,
) -> DenoiseResult:
    """Remove white Gaussian noise from an image by a trained network: a matter of a second.

    The network knows one level of noise, ``card["sigma"]``. An image with another level is scaled to
    it, denoised, and scaled back: a network with `local_mean` does not see where grey lies, only
    contrasts, which then are smaller or larger than those it has learned from.

    Large images are denoised in tiles that overlap by more than an edge is seen, so that memory beyond
    a few copies of the image does not grow. Colour is turned into a mean and two differences first, each
    denoised as a gray image.

    Parameters
    ----------
    model : str, path or UnfoldedAutoencoder
        A network's name ("bsd-gaussian"), its file, or itself: for gray images in [0, 1] and Gaussian
        data.
    image : float array (h, w) or (h, w, 3)
        Noisy image, gray or colour; each side at least as long as the network's kernel.
    sigma : float, optional
        Standard deviation of the noise. Default: estimated by `calepin.imaging.estimate_noise`.
    n_shifts : int, optional
        Shifts of the grid to average over; all by default, 16 for stride 4. Fewer are faster and worse:
        "bsd-gaussian" loses .5 dB with four, 1.7 with one.
    callback : callable, optional
        Called with the share of the work that is done.

    Returns
    -------
    DenoiseResult
        The image, the noise level, and the network's decoder as atoms; no history.

    Examples
    --------
    >>> import numpy as np, calepin
    >>> from skimage import data
    >>> clean = data.camera()[100:200, 150:250] / 255
    >>> noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    >>> result = calepin.denoise_with("bsd-gaussian", noisy, sigma=0.1)
    >>> bool(np.std(result.image - clean) < 0.45 * np.std(noisy - clean))
    True
    """
    network = model if isinstance(model, UnfoldedAutoencoder) else load_model(model)
    _check_network(network)
    image = _check_image(image, network)
    sigma = estimate_noise(image) if sigma is None else sigma
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma: expected a finite number of at least 0, or None, got {sigma!r}")
    shifts = _spread(network.all_shifts(), n_shifts)
    atoms = _unit_atoms(network)
    if sigma == 0:
        return DenoiseResult(image.copy(), 0.0, atoms, [])

    known = network.card.get("sigma", sigma)
    planes = to_planes(image, sigma)
    tiles = list(_tiles(image.shape[:2], network.stride))
    done, total = 0, len(planes) * len(tiles) * len(shifts)
    denoised = np.empty_like(planes)
    for plane, out in zip(planes, denoised, strict=True):
        for outer, inner, place in tiles:
            y = torch.from_numpy(plane[outer] * known)[None, None].to(network.atoms)
            mean = torch.zeros_like(y)
            for shift in shifts:
                mean += _predict(network, y, shift) / len(shifts)
                done += 1
                if callback is not None:
                    callback(done / total)
            out[place] = mean[0, 0].cpu().numpy()[inner] / known
    return DenoiseResult(from_planes(denoised, sigma, image), float(sigma), atoms, [])


@torch.no_grad()
def _predict(network: UnfoldedAutoencoder, y: Tensor, shift: tuple[int, ...]) -> Tensor:
    return network(y, shifts=[shift])


def _spread(shifts: list[tuple[int, ...]], n: int | None) -> list[tuple[int, ...]]:
    """Return n of the shifts, far from each other."""
    if n is None:
        return shifts
    if not 1 <= n <= len(shifts):
        raise ValueError(f"n_shifts: expected 1 to {len(shifts)}, or None, got {n!r}")
    return [shifts[i * len(shifts) // n] for i in range(n)]


Window = tuple[slice, slice]


def _tiles(shape: tuple[int, int], stride: int) -> Iterator[tuple[Window, Window, Window]]:
    """Yield the window to denoise, what of it to keep, and where that lies in the image.

    Windows begin at multiples of the stride, where the grid of the whole image has its positions.
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


def _unit_atoms(network: UnfoldedAutoencoder) -> np.ndarray:
    """Return the decoder's atoms as rows of unit norm."""
    atoms = (network.atoms if network.tied else network.decoder_atoms).detach().flatten(1)
    norm = torch.linalg.vector_norm(atoms, dim=1, keepdim=True).clamp_min(torch.finfo(atoms.dtype).tiny)
    return (atoms / norm).cpu().numpy()


def _check_network(network: UnfoldedAutoencoder) -> None:
    if (
        len(network.kernel) != 2
        or network.atoms.shape[1] != 1
        or not isinstance(network.likelihood, Gaussian)
    ):
        raise ValueError(
            "model: expected a network for gray images and Gaussian data, got atoms of shape "
            f"{tuple(network.atoms.shape)} for {type(network.likelihood).__name__} data"
        )


def _check_image(image: np.ndarray, network: UnfoldedAutoencoder) -> np.ndarray:
    image = np.asarray(image)
    gray_or_colour = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not gray_or_colour or image.dtype.kind != "f":
        raise ValueError(
            "image: expected floating-point numbers of shape (h, w) or (h, w, 3), "
            f"got {image.dtype} {image.shape}"
        )
    if any(size < width for size, width in zip(image.shape[:2], network.kernel, strict=True)):
        raise ValueError(
            f"image: expected at least the kernel's {network.kernel} pixels, got {image.shape[:2]}"
        )
    if not np.isfinite(image).all():
        raise ValueError("image: expected finite numbers, got NaN or infinity")
    return image
