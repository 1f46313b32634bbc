"""The Jacobian of an untrained network as a linear operator."""

import torch
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_floating
from calepin.networks.untrained import UntrainedNetwork
from calepin.operators.base import LinearOperator

__all__ = ["Jacobian"]

_CHUNK = 32  # problems computed together: bounds the memory for activations


class Jacobian(LinearOperator):
    """The Jacobian J of a network at given weights, from changes of the weights to changes of the signal.

    The matrix is not stored. A product with J or its transpose takes a few forward and backward passes.

    Parameters
    ----------
    network : UntrainedNetwork
        The network to linearise.
    weights : Tensor, shape (n_parameters,)
        The weights at which the network is linearised.
    """

    weights: Tensor

    def __init__(self, network: UntrainedNetwork, weights: Tensor) -> None:
        check_arguments(Jacobian.__init__, locals())
        check_floating("weights", weights, real=True)
        if weights.shape != (network.n_parameters,):
            raise ValueError(f"weights: expected shape ({network.n_parameters},), got {tuple(weights.shape)}")
        super().__init__((network.n_parameters,), network.out_shape)
        self.network = network.plain()
        self.register_buffer("weights", weights.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Return J x, (n, *out_shape), for changes x of the weights, (n, n_parameters)."""
        self.check_input(x)
        return torch.cat([self._push(part) for part in x.split(_CHUNK)])

    def adjoint(self, y: Tensor) -> Tensor:
        """Return J^T y, (n, n_parameters), for changes y of the signal, (n, *out_shape)."""
        self.check_output(y)
        return torch.cat([self._pull(part) for part in y.split(_CHUNK)])

    def _pull(self, y: Tensor) -> Tensor:
        weights = self.weights.expand(len(y), -1)
        return torch.func.vjp(self.network, weights)[1](y)[0]

    def _push(self, x: Tensor) -> Tensor:
        """Return J x as the gradient of <J^T u, x> in u, since torch's forward mode lacks some operations."""
        image = x.new_zeros(len(x), *self.out_shape)
        return torch.func.vjp(self._pull, image)[1](x)[0]
