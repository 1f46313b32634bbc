"""Denoise an image: the noise model is one choice, the method another."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from numpy.typing import NDArray

from calepin.core.random import RandomState
from calepin.datasets.noise import GaussianNoise, Noise
from calepin.imaging.by_dictionary import DictionaryDenoiser
from calepin.imaging.by_network import NetworkDenoiser
from calepin.imaging.noise_level import estimate_noise
from calepin.imaging.result import DenoiseResult, check_image

__all__ = ["METHODS", "Denoiser", "denoise"]

METHODS = {"dictionary": DictionaryDenoiser, "network": NetworkDenoiser}
"""Methods by the word that is short for their defaults."""


@runtime_checkable
class Denoiser(Protocol):
    """A method of denoising, with its settings."""

    def denoise(
        self,
        image: NDArray,
        noise: Noise,
        *,
        random_state: RandomState,
        callback: Callable[[str, float], object] | None,
    ) -> DenoiseResult:
        """Return the denoised image.

        Parameters
        ----------
        image : array (h, w) or (h, w, 3)
            Finite; floating-point numbers for `GaussianNoise`, any real ones for other noise. Not changed.
        noise : GaussianNoise, PoissonNoise or another noise model
            Never None. IncompatibleError for noise that the method is not made for.
        random_state : int, Generator, RandomState or None
            All that is random follows from it.
        callback : callable or None
            Called as ``callback(stage, fraction)``: what is under way, and the fraction of the whole work
            that is done.
        """
        ...


def denoise(
    image: NDArray,
    *,
    method: str | Denoiser = "dictionary",
    noise: Noise | None = None,
    random_state: RandomState = 0,
    callback: Callable[[str, float], object] | None = None,
) -> DenoiseResult:
    """Return an image without its noise.

    Parameters
    ----------
    image : array (h, w) or (h, w, 3)
        Noisy image, gray or colour: floating-point numbers of any range for Gaussian noise, counts for
        Poisson noise.
    method : {"dictionary", "network"} or Denoiser, default="dictionary"
        How: "dictionary" learns from the image's own patches, "network" is a network trained on other images.
        The words are short for `calepin.imaging.DictionaryDenoiser` and `calepin.imaging.NetworkDenoiser`
        with their defaults; any object with their method `denoise` is accepted.
    noise : GaussianNoise, PoissonNoise or another noise model, optional
        What is known of the noise: ``GaussianNoise(sigma)``, the standard deviation in the image's units, or
        ``PoissonNoise(peak)``, the expected count of the brightest pixel (method "network" only). Default:
        Gaussian noise whose level is estimated by `calepin.imaging.estimate_noise`. With level 0 the image is
        returned as it is.
    random_state : int, Generator, RandomState or None, default=0
        Seed of what a method draws.
    callback : callable, optional
        Called as ``callback(stage, fraction)``: a word for what is under way, and the fraction of the whole
        work that is done.

    Returns
    -------
    DenoiseResult
        The image, the noise model, and atoms and history of learning where there are any.

    Raises
    ------
    ValueError
        An argument outside what is described above; the message names it.
    IncompatibleError
        A method that is not made for the noise.

    Examples
    --------
    >>> import numpy as np, calepin
    >>> from skimage import data
    >>> clean = data.camera()[100:200, 150:250] / 255
    >>> noisy = clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)
    >>> result = calepin.denoise(noisy, noise=calepin.GaussianNoise(0.1))
    >>> bool(np.std(result.image - clean) < 0.45 * np.std(noisy - clean))
    True

    Counts of photons, by a trained network:

    >>> counts = np.random.default_rng(0).poisson(4 * clean)
    >>> result = calepin.denoise(counts, method="network", noise=calepin.PoissonNoise(peak=4))
    >>> bool(np.mean((result.image - 4 * clean) ** 2) < 0.2 * np.mean((counts - 4 * clean) ** 2))
    True
    """
    denoiser = _instance(method)
    image = check_image(image, integers=not (noise is None or isinstance(noise, GaussianNoise)))
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
