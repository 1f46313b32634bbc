"""Networks: layers that are iterations of a solver, generators fitted to one observation, priors."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calepin.networks._pretrained import PRETRAINED, pretrained
    from calepin.networks.deep_decoder import DeepDecoder
    from calepin.networks.deep_image_prior import DeepImagePrior
    from calepin.networks.denoiser import DenoiserSettings, new_denoiser, train_denoiser
    from calepin.networks.jacobian import Jacobian
    from calepin.networks.shallow import shallow_autoencoder
    from calepin.networks.training import CosineDecay, GaussianNoise, NetworkRule, PoissonNoise
    from calepin.networks.two_layer import TwoLayerGenerator, box_kernel, gaussian_kernel, triangular_kernel
    from calepin.networks.unfolded import UnfoldedAutoencoder
    from calepin.networks.untrained import ComplexPair, LinearGenerator, UntrainedNetwork
    from calepin.networks.vae import VAE, VAERule

_HOME = {
    "ComplexPair": "calepin.networks.untrained",
    "CosineDecay": "calepin.networks.training",
    "DeepDecoder": "calepin.networks.deep_decoder",
    "DeepImagePrior": "calepin.networks.deep_image_prior",
    "DenoiserSettings": "calepin.networks.denoiser",
    "GaussianNoise": "calepin.networks.training",
    "Jacobian": "calepin.networks.jacobian",
    "LinearGenerator": "calepin.networks.untrained",
    "NetworkRule": "calepin.networks.training",
    "PRETRAINED": "calepin.networks._pretrained",
    "PoissonNoise": "calepin.networks.training",
    "TwoLayerGenerator": "calepin.networks.two_layer",
    "UnfoldedAutoencoder": "calepin.networks.unfolded",
    "UntrainedNetwork": "calepin.networks.untrained",
    "VAE": "calepin.networks.vae",
    "VAERule": "calepin.networks.vae",
    "box_kernel": "calepin.networks.two_layer",
    "gaussian_kernel": "calepin.networks.two_layer",
    "new_denoiser": "calepin.networks.denoiser",
    "pretrained": "calepin.networks._pretrained",
    "shallow_autoencoder": "calepin.networks.shallow",
    "train_denoiser": "calepin.networks.denoiser",
    "triangular_kernel": "calepin.networks.two_layer",
}

__all__ = [
    "PRETRAINED",
    "VAE",
    "ComplexPair",
    "CosineDecay",
    "DeepDecoder",
    "DeepImagePrior",
    "DenoiserSettings",
    "GaussianNoise",
    "Jacobian",
    "LinearGenerator",
    "NetworkRule",
    "PoissonNoise",
    "TwoLayerGenerator",
    "UnfoldedAutoencoder",
    "UntrainedNetwork",
    "VAERule",
    "box_kernel",
    "gaussian_kernel",
    "new_denoiser",
    "pretrained",
    "shallow_autoencoder",
    "train_denoiser",
    "triangular_kernel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'calepin.networks' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
