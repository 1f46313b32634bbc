"""Pretrained networks of calepin, each with a model card ``weights/NAME.md``, and loading of generators."""

import os
from importlib.resources import as_file, files
from typing import Any

from torch import nn

from calepin.core.files import read_header
from calepin.generators.files import load_generator
from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.unfolded_denoiser import UnfoldedDenoiser
from calepin.networks.vae import VAE

__all__ = ["PRETRAINED", "open_generator", "pretrained"]

PRETRAINED = {
    "bsd-gaussian": "bsd_gaussian.safetensors",
    **{
        f"dcea-poisson-{kind}-peak{peak}": f"dcea_poisson_{kind}_peak{peak}.safetensors"
        for kind in ("tied", "untied")
        for peak in (1, 2, 4)
    },
    "vae-digits": "vae_digits.safetensors",
    "vae-mnist": "vae_mnist.safetensors",
}
"""File name of each pretrained network in ``src/calepin/weights``."""

CLASSES: dict[str, type[UnfoldedAutoencoder] | type[UnfoldedDenoiser] | type[VAE]] = {
    "unfolded-autoencoder": UnfoldedAutoencoder,
    "unfolded-denoiser": UnfoldedDenoiser,
    "vae": VAE,
}


def pretrained(name: str) -> Any:
    """Return a pretrained network by name.

    Parameters
    ----------
    name : str
        Name of the network. "bsd-gaussian": an `UnfoldedDenoiser` for gray images in [0, 1] with Gaussian
        noise of sigma 0 to 75/255. "dcea-poisson-KIND-peakP" with KIND tied or untied and P 1, 2 or 4: an
        `UnfoldedAutoencoder` for photon counts (n, 1, h, w). "vae-mnist", "vae-digits": a `VAE` of 28x28 or
        8x8 digits in [0, 1].

    Raises
    ------
    ValueError
        If no pretrained network has this name.
    """
    if name not in PRETRAINED:
        raise ValueError(f"name: expected one of {', '.join(PRETRAINED)}, got {name!r}")
    with as_file(files("calepin") / "weights" / PRETRAINED[name]) as path:
        return CLASSES[read_header(path)["kind"]].load(path)


def open_generator(source: str | os.PathLike) -> nn.Module:
    """Return the generator of a pretrained or saved VAE, or one saved by `calepin.generators.save_generator`.

    Parameters
    ----------
    source : str or path
        Name of a network in `PRETRAINED`, or a file that ends in ".safetensors".

    Raises
    ------
    ValueError
        If no pretrained network has this name, or it is not a VAE.
    FileNotFoundError, calepin.FileFormatError
        If the file does not exist, or holds no generator.
    """
    if not os.fspath(source).endswith(".safetensors"):
        network = pretrained(os.fspath(source))
        if not isinstance(network, VAE):
            raise ValueError(
                f"generator: expected a VAE or a generator, got {source}, a {type(network).__name__}"
            )
        return network.generator()
    if read_header(source)["kind"] == "vae":
        return VAE.load(source).generator()
    return load_generator(source)
