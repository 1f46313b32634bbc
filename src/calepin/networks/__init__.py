"""Networks whose layers are the iterations of a solver."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calepin.networks.training import GaussianNoise, NetworkRule
    from calepin.networks.unfolded import UnfoldedAutoencoder

_HOME = {
    "GaussianNoise": "calepin.networks.training",
    "NetworkRule": "calepin.networks.training",
    "UnfoldedAutoencoder": "calepin.networks.unfolded",
}

__all__ = ["GaussianNoise", "NetworkRule", "UnfoldedAutoencoder"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'calepin.networks' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
