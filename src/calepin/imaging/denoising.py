"""Denoise an image, with a choice of noise model and method."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from numpy.typing import NDArray

from calepin.core.random import RandomState
from calepin.datasets.correlated_noise import CorrelatedNoise
from calepin.datasets.noise import (
    GaussianNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    VaryingGaussianNoise,
)
from calepin.imaging.by_both import CombinedDenoiser
from calepin.imaging.by_dictionary import DictionaryDenoiser
from calepin.imaging.by_network import NetworkDenoiser
from calepin.imaging.noise_level import estimate_noise
from calepin.imaging.result import DenoiseResult, check_image

__all__ = ["METHODS", "Denoiser", "denoise"]

AnyNoise = Noise | VaryingGaussianNoise | CorrelatedNoise | PoissonGaussianNoise

METHODS = {"dictionary": DictionaryDenoiser, "network": NetworkDenoiser, "combined": CombinedDenoiser}
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
        image : array (h, w) or (h, w, 3)
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
    random_state: RandomState = 0,
    callback: Callable[[str, float], object] | None = None,
) -> DenoiseResult:
    """Return a denoised image.

    Parameters
    ----------
    image : array (h, w) or (h, w, 3)
        Noisy image, gray or colour: floating-point numbers of any range for Gaussian noise, counts for
        Poisson noise.
    method : {"dictionary", "network", "combined"} or Denoiser, optional
        "dictionary": a dictionary learned from the patches of the image. "network": a network trained on
        other images. "combined": both, for photon counts. These are `calepin.imaging.DictionaryDenoiser`,
        `NetworkDenoiser` and `CombinedDenoiser` with their defaults; any object with the same method
        `denoise` is accepted. Default: "combined" for `PoissonNoise`, otherwise "dictionary".
    noise : GaussianNoise, CorrelatedNoise, PoissonNoise or another model, optional
        The noise model: ``GaussianNoise(sigma)`` with the standard deviation in the units of the image,
        ``VaryingGaussianNoise(sigma)`` with that of each pixel, ``CorrelatedNoise(psd)`` with a
        power spectral density, ``PoissonNoise()`` for counts, or
        ``PoissonGaussianNoise(gain, offset, read)`` for cameras, whose numbers
        `calepin.imaging.estimate_photon_transfer` finds. Default: Gaussian noise with the level estimated by
        `calepin.imaging.estimate_noise`. With level 0 the image is returned unchanged.
    random_state : int, Generator, RandomState or None, default=0
        Seed of everything random.
    callback : callable, optional
        Called as ``callback(stage, fraction)``: the current stage, and the finished fraction of the whole
        work.

    Returns
    -------
    DenoiseResult
        The image and the noise model; atoms and history of learning if the method has them.

    Raises
    ------
    ValueError
        An invalid argument; the message names it.
    TypeError
        A callback that is no function.
    IncompatibleError
        The method does not support the noise model.

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
    """
    if method is None:
        method = "combined" if isinstance(noise, PoissonNoise) else "dictionary"
    denoiser = _instance(method)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback: expected a function or None, got {callback!r:.60}")
    image = check_image(
        image,
        integers=not (
            noise is None or isinstance(noise, GaussianNoise | VaryingGaussianNoise | CorrelatedNoise)
        ),
    )
    if noise is None:
        noise = GaussianNoise(estimate_noise(image))
    return denoiser.denoise(image, noise, random_state=random_state, callback=callback)


def _instance(method: str | Denoiser) -> Denoiser:
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    if isinstance(method, Denoiser) and not isinstance(method, type):
        return method
    words = ", ".join(repr(word) for word in METHODS)
    raise ValueError(f"method: expected one of {words}, or an object with a method denoise, got {method!r}")
