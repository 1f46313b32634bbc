"""The rule that trains a variational auto-encoder."""

from typing import Any

import torch
from torch import Tensor

from calepin.learning.rules.module import ModuleRule
from calepin.networks.vae import VAE

__all__ = ["VAERule"]


class VAERule(ModuleRule):
    """Trains a `VAE` in the one loop; see `calepin.learning.train`.

    Parameters
    ----------
    network : VAE
        Trained in place.
    optimizer : torch.optim.Optimizer, optional
        Over the network's parameters; ``Adam(lr=1e-3)`` by default.
    seed : int, default 0
        Of the draws of z.
    """

    def __init__(
        self, network: VAE, *, optimizer: torch.optim.Optimizer | None = None, seed: int = 0
    ) -> None:
        super().__init__(network, optimizer, seed)
        self.network = network

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return minus the evidence lower bound of each sample."""
        return self.network.negative_elbo(x, generator)

    def settings(self) -> dict[str, Any]:
        """Return network, optimiser and seed as JSON."""
        return {
            "rule": "vae",
            "network": self.network.settings(),
            "optimizer": self.optimizer_settings(),
            "seed": self.seed,
        }
