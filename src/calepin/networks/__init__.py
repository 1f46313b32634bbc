"""Networks whose layers are the iterations of a solver."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calepin.networks.training import CosineDecay, GaussianNoise, NetworkRule, PoissonNoise
    from calepin.networks.unfolded import UnfoldedAutoencoder

_HOME = {
    "CosineDecay": "calepin.networks.training",
    "GaussianNoise": "calepin.networks.training",
    "NetworkRule": "calepin.networks.training",
    "PoissonNoise": "calepin.networks.training",
    "UnfoldedAutoencoder": "calepin.networks.unfolded",
}

__all__ = ["CosineDecay", "GaussianNoise", "NetworkRule", "PoissonNoise", "UnfoldedAutoencoder"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'calepin.networks' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
