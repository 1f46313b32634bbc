"""What is the same for every network that the one loop trains: weights and optimiser live in its arrays.

All that a step changes is in the run's arrays, and everything random in it is a function of the seed and
the number of the step: a run resumed from a checkpoint equals an uninterrupted one bit for bit.
"""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calepin.core.random import torch_generator
from calepin.learning.batches import Batch
from calepin.learning.optimizers import OPTIMIZER, restored_state

__all__ = ["ModuleRule"]


class ModuleRule:
    """Trains a network with any optimiser of torch; a subclass says what the loss is.

    Parameters
    ----------
    network : nn.Module
        Trained in place.
    optimizer : torch.optim.Optimizer, optional
        Over the network's parameters; ``Adam(lr=1e-3)`` by default. Its state must be tensors.
    seed : int
        Of everything random in a step.
    """

    replace_every = 1 << 62  # a network has no idle atoms to replace

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer | None, seed: int) -> None:
        self._module = network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3) if optimizer is None else optimizer
        self.seed = seed
        self._bound: dict[str, Any] | None = None

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each sample of x for one draw of what is random."""
        raise NotImplementedError(f"{type(self).__name__} does not define loss")

    def before_step(self, n_step: int) -> None:
        """Do what precedes a step of the optimiser: a new rate, for example."""

    def after_step(self) -> None:
        """Do what follows a step of the optimiser: a projection, for example."""

    def settings(self) -> dict[str, Any]:
        """Return network, optimiser and what is random as JSON."""
        raise NotImplementedError(f"{type(self).__name__} does not define settings")

    def init(self, atoms: Any = None) -> dict[str, Any]:
        """Return the arrays of a run that begins with the network's weights, or with other `atoms`."""
        self.optimizer.state.clear()
        arrays: dict[str, Any] = {
            name: parameter.detach().clone() for name, parameter in self._module.named_parameters()
        }
        if atoms is not None:
            arrays["atoms"] = torch.as_tensor(atoms)
        arrays["n_steps"] = np.zeros(1, dtype=np.int64)
        self.bind(arrays)
        return arrays

    def bind(self, arrays: dict[str, Any]) -> None:
        """Let network and optimiser go on from the arrays of a run, a resumed one for example.

        Afterwards the arrays are the network's own weights and the optimiser's own state.
        """
        for name, parameter in self._module.named_parameters():
            with torch.no_grad():
                parameter.copy_(torch.as_tensor(arrays[name]).view_as(parameter))
            state = restored_state(arrays, f"{OPTIMIZER}{name}.", parameter)
            self.optimizer.state.pop(parameter, None)
            if state:
                self.optimizer.state[parameter] = state
        self._publish(arrays)
        self._bound = arrays

    def step(self, arrays: dict[str, Any], batch: Batch) -> np.ndarray:
        """Take one step of the optimiser and return the loss of each sample."""
        if self._bound is not arrays:
            self.bind(arrays)
        if batch.mask is not None:
            raise ValueError("mask: expected None, a network learns from whole samples")
        n_step = int(arrays["n_steps"][0])
        generator = torch_generator(np.random.default_rng([self.seed, n_step]))
        weights = next(self._module.parameters())
        x = torch.as_tensor(batch.X).to(weights.device, weights.dtype)
        loss = self.loss(x, generator)
        self.optimizer.zero_grad()
        loss.mean().backward()
        self.before_step(n_step)
        self.optimizer.step()
        self.after_step()
        arrays["n_steps"] += 1
        self._publish(arrays)
        return loss.detach().double().cpu().numpy()

    def end_pass(self, arrays: dict[str, Any]) -> None:
        """Do nothing: a pass means nothing to a network."""

    def replace_idle(self, arrays: dict[str, Any]) -> int:
        """Replace nothing."""
        return 0

    def optimizer_settings(self) -> dict[str, Any]:
        """Return name and settings of the optimiser as JSON."""
        group = {key: value for key, value in self.optimizer.param_groups[0].items() if key != "params"}
        return {"name": type(self.optimizer).__name__, **json.loads(json.dumps(group, default=str))}

    def _publish(self, arrays: dict[str, Any]) -> None:
        """Put the live tensors into the run's arrays."""
        for name, parameter in self._module.named_parameters():
            arrays[name] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    arrays[f"{OPTIMIZER}{name}.{key}"] = value
                elif value is not None:
                    raise ValueError(
                        f"optimizer: expected a state of tensors, got {key}={value!r} in "
                        f"{type(self.optimizer).__name__}, which a checkpoint cannot hold"
                    )
