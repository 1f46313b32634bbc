"""The Jacobian of an untrained network as an operator."""

import torch
from torch import Tensor

from calepin.networks.untrained import UntrainedNetwork
from calepin.operators.base import LinearOperator

__all__ = ["Jacobian"]

_CHUNK = 32  # problems at a time: each has activations of its own


class Jacobian(LinearOperator):
    """J of a network at some weights: moves of the weights to moves of the signal.

    Nothing is stored: a product with J or its transpose is a few passes through the network.

    Parameters
    ----------
    network : UntrainedNetwork
    weights : Tensor, shape (n_parameters,)
        Where the network is linearised.
    """

    weights: Tensor

    def __init__(self, network: UntrainedNetwork, weights: Tensor) -> None:
        if weights.shape != (network.n_parameters,):
            raise ValueError(f"weights: expected shape ({network.n_parameters},), got {tuple(weights.shape)}")
        super().__init__((network.n_parameters,), network.out_shape)
        self.network = network.plain()
        self.register_buffer("weights", weights.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Map moves of the weights, (n, n_parameters), to those of the signal, (n, *out_shape)."""
        self.check_input(x)
        return torch.cat([self._push(part) for part in x.split(_CHUNK)])

    def adjoint(self, y: Tensor) -> Tensor:
        """Map (n, *out_shape) to J^T y, (n, n_parameters)."""
        self.check_output(y)
        return torch.cat([self._pull(part) for part in y.split(_CHUNK)])

    def _pull(self, y: Tensor) -> Tensor:
        weights = self.weights.expand(len(y), -1)
        return torch.func.vjp(self.network, weights)[1](y)[0]

    def _push(self, x: Tensor) -> Tensor:
        """Return J x as the gradient of <J^T u, x> in u: torch's forward mode is still a patchwork."""
        image = x.new_zeros(len(x), *self.out_shape)
        return torch.func.vjp(self._pull, image)[1](x)[0]
