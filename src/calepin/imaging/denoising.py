"""Denoise an image, with a choice of noise model and method."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calepin.core.checks import pixels_of
from calepin.core.random import RandomState
from calepin.datasets.correlated_noise import CorrelatedNoise
from calepin.datasets.noise import (
    GaussianNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    VaryingGaussianNoise,
)
from calepin.imaging.by_dictionary import DictionaryDenoiser
from calepin.imaging.by_guide import GuidedDenoiser
from calepin.imaging.by_network import NetworkDenoiser
from calepin.imaging.by_stack import StackDenoiser
from calepin.imaging.frames import (
    check_axes,
    check_stack,
    estimate_stack_noise,
    from_frames,
    stack_levels,
    to_frames,
)
from calepin.imaging.noise_level import estimate_noise
from calepin.imaging.result import DenoiseResult, check_image

__all__ = ["METHODS", "Denoiser", "denoise"]

AnyNoise = Noise | VaryingGaussianNoise | CorrelatedNoise | PoissonGaussianNoise

METHODS = {
    "dictionary": DictionaryDenoiser,
    "network": NetworkDenoiser,
    "best": GuidedDenoiser,
}
"""Names of the methods, each with the defaults of its class."""


@runtime_checkable
class Denoiser(Protocol):
    """A denoising method with its settings."""

    def denoise(
        self,
        image: NDArray,
        noise: AnyNoise,
        *,
        random_state: RandomState,
        callback: Callable[[str, float], object] | None,
    ) -> DenoiseResult:
        """Return the denoised image.

        Parameters
        ----------
        image : array (h, w) or (h, w, 3), or frames (d, h, w) or (d, h, w, 3) if `calepin.denoise` has `axes`
            Finite; floating-point for `GaussianNoise`, any real numbers for other noise. Must not be changed.
        noise : GaussianNoise, PoissonNoise or another noise model
            Never None. A method raises IncompatibleError for noise that it does not support.
        random_state : int, Generator, RandomState or None
            Seed of everything random.
        callback : callable or None
            Called as ``callback(stage, fraction)``: the current stage, and the finished fraction of the
            whole work.
        """
        ...


def denoise(
    image: NDArray,
    *,
    method: str | Denoiser | None = None,
    noise: AnyNoise | None = None,
    axes: str | None = None,
    random_state: RandomState = 0,
    callback: Callable[[str, float], object] | None = None,
) -> DenoiseResult:
    """Return a denoised image, volume or time series.

    Parameters
    ----------
    image : array (h, w) or (h, w, 3), or a stack with the axes `axes`
        Noisy image or stack, gray or colour: floating-point numbers of any range for Gaussian noise, counts
        for Poisson noise. NaN and masked samples of a stack are missing, and are filled; those of an image
        `calepin.imaging.inpaint` fills.
    method : {"dictionary", "network", "best"} or Denoiser, optional
        "dictionary": a dictionary learned from the patches of the image, and groups of similar patches.
        "network": a network trained on other images. "best": groups of similar patches, guided by the
        network. These are `calepin.imaging.DictionaryDenoiser`, `NetworkDenoiser` and `GuidedDenoiser` with
        their defaults; any object with the same method `denoise` is accepted. Default: "best" for
        `PoissonNoise` and `PoissonGaussianNoise`, otherwise "dictionary"; for a stack
        `calepin.imaging.StackDenoiser`, or an object that takes one.
    noise : GaussianNoise, CorrelatedNoise, PoissonNoise or another model, optional
        The noise model: ``GaussianNoise(sigma)`` with the standard deviation in the units of the image,
        ``VaryingGaussianNoise(sigma)`` with that of each pixel, ``CorrelatedNoise(psd)`` with a
        power spectral density, ``PoissonNoise()`` for counts, or
        ``PoissonGaussianNoise(gain, offset, read)`` for cameras, whose numbers
        `calepin.imaging.estimate_photon_transfer` finds. Default: Gaussian noise with the level estimated by
        `calepin.imaging.estimate_noise`, for each volume or time series of a stack its median over nine
        frames. With level 0 the image is returned unchanged.
    axes : str, optional
        What the axes of a stack are, in any order: Y, X and others of the letters Z (depth), T (time), C
        (channels) and S (the three colours of RGB), such as "ZYX" for a volume (depth, height, width), "TYX"
        for a time series (time, height, width) or "TCZYX". Frames that are neighbours in depth, or in time
        without a depth, help each other; each channel, and each volume in time, is a stack of its own, and
        colours are denoised together. Default: one image, whose third axis, if any, is colour.
    random_state : int, Generator, RandomState or None, default=0
        Seed of everything random.
    callback : callable, optional
        Called as ``callback(stage, fraction)``: the current stage, and the finished fraction of the whole
        work.

    Returns
    -------
    DenoiseResult
        The image and the noise model, or a tuple of those that were estimated, one for each volume or time
        series; atoms and history of learning if the method has them.

    Raises
    ------
    ValueError
        An invalid argument; the message names it.
    TypeError
        A callback that is no function.
    IncompatibleError
        The method does not support the noise model.

    Warns
    -----
    UserWarning
        Samples of a stack are NaN, or the level of the noise of each pixel is 0 everywhere. Denoising may
        have warnings of its own.

    Examples
    --------
    >>> import numpy as np, calepin
    >>> from skimage import data
    >>> clean = data.camera()[100:200, 150:250] / 255
    >>> noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    >>> result = calepin.denoise(noisy, noise=calepin.GaussianNoise(0.1))
    >>> bool(np.std(result.image - clean) < 0.45 * np.std(noisy - clean))
    True

    Photon counts:

    >>> counts = np.random.default_rng(0).poisson(4 * clean)
    >>> result = calepin.denoise(counts, noise=calepin.PoissonNoise())
    >>> bool(np.mean((result.image - 4 * clean) ** 2) < 0.2 * np.mean((counts - 4 * clean) ** 2))
    True

    A time series of a scene that moves by a pixel a frame:

    >>> frames = np.stack([data.camera()[100:148, 150 + t : 198 + t] for t in range(6)]) / 255
    >>> noisy = frames + np.random.default_rng(0).normal(0, 0.1, frames.shape)
    >>> result = calepin.denoise(noisy, noise=calepin.GaussianNoise(0.1), axes="TYX")
    >>> bool(np.std(result.image - frames) < 0.4 * np.std(noisy - frames))
    True
    """
    if isinstance(noise, VaryingGaussianNoise) and not np.any(noise.sigma):
        warnings.warn("noise: sigma is 0 everywhere, so that no noise is removed", stacklevel=2)
    if axes is not None:
        return _denoise_stack(image, check_axes(axes), method, noise, random_state, callback)
    if method is None:
        method = "best" if isinstance(noise, PoissonNoise | PoissonGaussianNoise) else "dictionary"
    denoiser = _instance(method)
    _check_callback(callback)
    image = pixels_of("image", image)
    if image.ndim == 3 and image.shape[2] != 3:
        raise ValueError(
            f"image: expected shape (h, w) or (h, w, 3), got {image.shape}; for a stack give its axes, such "
            "as axes='ZYX'"
        )
    image = check_image(image, integers=_takes_integers(noise))
    if noise is None:
        noise = GaussianNoise(estimate_noise(image))
    return denoiser.denoise(image, noise, random_state=random_state, callback=callback)


def _denoise_stack(
    image: NDArray,
    axes: str,
    method: str | Denoiser | None,
    noise: AnyNoise | None,
    random_state: RandomState,
    callback: Callable[[str, float], object] | None,
) -> DenoiseResult:
    denoiser = StackDenoiser() if method is None else method
    if isinstance(denoiser, (str, type, *METHODS.values())) or not isinstance(denoiser, Denoiser):
        raise ValueError(
            f"method: expected None or calepin.imaging.StackDenoiser() for a stack, got {method!r:.60}"
        )
    _check_callback(callback)
    stack = check_stack(image, axes, integers=_takes_integers(noise))
    _warn_of_gaps(image, stack, denoiser)
    volumes = to_frames(stack, axes)
    levels = None
    if isinstance(noise, VaryingGaussianNoise):
        levels = to_frames(stack_levels(noise.sigma, stack.shape, axes), axes)
    results: list[DenoiseResult] = []
    for k, frames in enumerate(volumes):
        own = noise if levels is None else VaryingGaussianNoise(levels[k])
        if own is None:
            own = GaussianNoise(estimate_stack_noise(frames))
        report = None if callback is None else _part_of(callback, k, len(volumes))
        results.append(denoiser.denoise(frames, own, random_state=random_state, callback=report))
    if len(results) == 1:
        return replace(results[0], image=from_frames(results[0].image[None], axes, stack.shape))
    found = from_frames(np.stack([result.image for result in results]), axes, stack.shape)
    return DenoiseResult(found, tuple(result.noise for result in results) if noise is None else noise)


def _warn_of_gaps(image: Any, stack: NDArray, denoiser: Denoiser) -> None:
    """Say how many samples are missing that no mask says to be, or that the denoiser cannot have them."""
    n = np.count_nonzero(np.isnan(stack)) if stack.dtype.kind == "f" else 0
    if not n:
        return
    if not isinstance(denoiser, StackDenoiser):
        raise ValueError(f"image: expected finite values for {denoiser!r:.60}, got {n} that are missing")
    if not isinstance(image, np.ma.MaskedArray):
        warnings.warn(f"image: {n / stack.size:.2g} of the samples are NaN: they are filled", stacklevel=4)


def _part_of(callback: Callable[[str, float], object], k: int, n: int) -> Callable[[str, float], object]:
    """Return the callback of one of n volumes."""
    return lambda stage, fraction: callback(stage, (k + fraction) / n)


def _check_callback(callback: object) -> None:
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function or None, got {callback!r:.60}")


def _takes_integers(noise: object) -> bool:
    return not (noise is None or isinstance(noise, GaussianNoise | VaryingGaussianNoise | CorrelatedNoise))


def _instance(method: str | Denoiser) -> Denoiser:
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    if isinstance(method, Denoiser) and not isinstance(method, type):
        return method
    words = ", ".join(repr(word) for word in METHODS)
    raise ValueError(f"method: expected one of {words}, or an object with a method denoise, got {method!r}")
