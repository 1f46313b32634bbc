"""Networks whose layers are the iterations of a solver."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calepin.networks.training import CosineDecay, GaussianNoise, NetworkRule, PoissonNoise
    from calepin.networks.unfolded import UnfoldedAutoencoder
    from calepin.networks.vae import VAE, VAERule

_HOME = {
    "CosineDecay": "calepin.networks.training",
    "VAE": "calepin.networks.vae",
    "VAERule": "calepin.networks.vae",
    "GaussianNoise": "calepin.networks.training",
    "NetworkRule": "calepin.networks.training",
    "PoissonNoise": "calepin.networks.training",
    "UnfoldedAutoencoder": "calepin.networks.unfolded",
}

__all__ = [
    "VAE",
    "CosineDecay",
    "GaussianNoise",
    "NetworkRule",
    "PoissonNoise",
    "UnfoldedAutoencoder",
    "VAERule",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'calepin.networks' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
