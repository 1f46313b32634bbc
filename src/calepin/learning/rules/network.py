"""How networks are trained: a rule for the one loop, whose state owns the network and its optimiser.

    clean target:     mean over entries of ( q f^{-1}(eta(y)) - x )^2,     y = noise(x), q its scale
    observed target:  negative log-likelihood of y under eta(y), divided by the number of entries

Random in a step are crop, noise and shifts, all functions of the seed and the number of the step: a run
resumed from a checkpoint equals an uninterrupted one bit for bit.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calepin.core.checkpoint import describe
from calepin.core.checks import check_integer, check_number, check_one_of
from calepin.core.random import torch_generator
from calepin.learning.batches import Batch
from calepin.learning.optimizers import Optimizer, tensor_state
from calepin.learning.rule import State, tensor_of, within
from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.vae import VAE

__all__ = ["ModuleRule", "NetworkRule", "NetworkState", "VAERule"]

TARGETS = ("clean", "observed")
_OPTIMIZER, _AVERAGE = "optimizer.", "average."  # before the names of an optimiser's and of averaged tensors


@dataclass(eq=False)
class NetworkState(State):
    """A network, its optimiser, the number of steps, and the mean of the weights where one is kept.

    Attributes
    ----------
    network : nn.Module
        A copy of the rule's network, which the run trains.
    optimizer : torch.optim.Optimizer
        Over its parameters.
    n_steps : int
    average : dict of tensors
        Means of the weights, by the names of the weights.
    """

    network: Any  # a module of the rule's class
    optimizer: torch.optim.Optimizer
    n_steps: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Any]:
        """Return weights, means of weights, and what the optimiser remembers of each weight."""
        found: dict[str, Any] = {f"{_AVERAGE}{name}": mean for name, mean in self.average.items()}
        for name, parameter in self.network.named_parameters():
            found[name] = parameter.detach()
            for key, value in tensor_state(self.optimizer, parameter).items():
                found[f"{_OPTIMIZER}{name}.{key}"] = value
        return found

    def scalars(self) -> dict[str, Any]:
        """Return the number of steps."""
        return {"n_steps": self.n_steps}

    def to(self, device: torch.device | str | None) -> "NetworkState":
        """Move network, means and optimiser to a device, in place; counts of steps stay on the CPU."""
        if device is not None:
            self.network.to(device)
            self.average = {name: mean.to(device) for name, mean in self.average.items()}
            for memory in self.optimizer.state.values():
                moved = {k: v.to(device) for k, v in memory.items() if isinstance(v, Tensor) and v.ndim}
                memory.update(moved)
        return self

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        """Take in what `tensors` and `scalars` of another state gave.

        Raises
        ------
        ValueError
            A name that is missing, or that the state does not have.
        """
        for name, parameter in self.network.named_parameters():
            parameter.copy_(tensor_of(_required(name, tensors)))
            memory = within(f"{_OPTIMIZER}{name}", tensors)
            if memory:
                self.optimizer.state[parameter] = {key: tensor_of(value) for key, value in memory.items()}
        for name in self.average:
            self.average[name] = tensor_of(_required(f"{_AVERAGE}{name}", tensors))
        self.n_steps = _required("n_steps", scalars)
        unknown = tensors.keys() - self.tensors().keys() | scalars.keys() - self.scalars().keys()
        if unknown:
            raise ValueError(f"NetworkState: expected no {min(unknown)!r}, which it does not have")


class ModuleRule:
    """Trains a network with any optimiser of torch; a subclass says what the loss is.

    Parameters
    ----------
    network : nn.Module
        Where a run begins; the run trains a copy, ``state.network``.
    optimizer : callable, optional
        Makes a torch optimiser of a list of parameters, ``partial(torch.optim.Adam, lr=1e-3)`` by default.
        Its state must be tensors.
    seed : int
        Of everything random in a step.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer | None, seed: int) -> None:
        self.network = network
        if optimizer is not None and not callable(optimizer):
            raise ValueError(
                "optimizer: expected a callable that makes one of a list of parameters, "
                f"got {type(optimizer).__name__}; partial(torch.optim.Adam, lr=1e-3) is such a callable"
            )
        self.optimizer: Any = partial(torch.optim.Adam, lr=1e-3) if optimizer is None else optimizer
        self.seed = seed

    def loss(self, network: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each sample of x for one draw of what is random."""
        raise NotImplementedError(f"{type(self).__name__} does not define loss")

    def before_step(self, state: NetworkState) -> None:
        """Do what precedes a step of the optimiser: a new learning rate, for example."""

    def after_step(self, state: NetworkState) -> None:
        """Do what follows a step of the optimiser: a projection, for example."""

    def settings(self) -> dict[str, Any]:
        """Return network, optimiser and what is random as JSON."""
        raise NotImplementedError(f"{type(self).__name__} does not define settings")

    def init(self, atoms: None = None) -> NetworkState:
        """Return the state of a run that begins with the network's weights."""
        network = copy.deepcopy(self.network)
        return NetworkState(network, self.optimizer(list(network.parameters())))

    def restore(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> NetworkState:
        """Return the state that a checkpoint holds."""
        state = self.init().to("cpu")
        state.load(tensors, scalars)
        return state

    def step(self, state: NetworkState, batch: Batch) -> np.ndarray:
        """Take one step of the optimiser and return the loss of each sample."""
        if batch.mask is not None:
            raise ValueError("mask: expected None, a network learns from whole samples")
        generator = torch_generator(np.random.default_rng([self.seed, state.n_steps]))
        weights = next(state.network.parameters())
        x = torch.as_tensor(batch.X).to(weights.device, weights.dtype)
        loss = self.loss(state.network, x, generator)
        state.optimizer.zero_grad()
        loss.mean().backward()
        self.before_step(state)
        state.optimizer.step()
        state.n_steps += 1
        self.after_step(state)
        return loss.detach().double().cpu().numpy()

    def end_pass(self, state: NetworkState) -> dict[str, float]:
        """Do nothing: a pass has no meaning for a network."""
        return {}

    def finish(self, state: NetworkState) -> None:
        """Do what ends a run: see `calepin.learning.train_steps`."""


class NetworkRule(ModuleRule):
    """Trains an `UnfoldedAutoencoder` with any optimiser of torch; see `calepin.learning.Rule`.

    Parameters
    ----------
    network : UnfoldedAutoencoder
        Where a run begins; the run trains a copy, ``state.network``.
    optimizer : callable, optional
        Makes a torch optimiser of a list of parameters, ``partial(torch.optim.Adam, lr=1e-3)`` by default.
        Its state must be tensors.
    schedule : callable (n_step) -> factor, a dataclass, optional
        What the optimiser's learning rates are multiplied by in each step, `CosineDecay` for example.
    max_norm : float, optional
        Gradients longer than this are shortened to it.
    noise : Noise, optional
        What is done to the samples before the network sees them, `GaussianNoise` for example.
    target : {"clean", "observed"}, default "clean"
        Whether the network learns to predict the samples behind the noise (supervised), or to explain
        the observations that it sees (unsupervised).
    crop : int, optional
        Side of a window that is cut from each sample, at random; a shorter axis is kept whole.
    n_shifts : int, default 1
        Shifts of the grid in a step, drawn at random.
    detach_codes : bool, default False
        Whether gradients stop at the codes (PUDLE's "dec") or run through the encoder ("ae-ls").
    unit_norm : bool, default False
        Whether every atom of every dictionary is scaled to unit norm after each step.
    average : int, optional
        Steps over which a mean of the weights is kept, which forgets exponentially; of the first steps it is
        the plain mean. Noise of the gradients keeps weights moving about a place that their mean is nearer
        to (Polyak and Juditsky 1992). `finish` puts it into the network of a state.
    seed : int, default 0
        Of crops, noise and shifts.
    """

    def __init__(
        self,
        network: UnfoldedAutoencoder,
        *,
        optimizer: Optimizer | None = None,
        schedule: Any = None,
        max_norm: float | None = None,
        noise: Any = None,
        target: str = "clean",
        crop: int | None = None,
        n_shifts: int = 1,
        detach_codes: bool = False,
        unit_norm: bool = False,
        average: int | None = None,
        seed: int = 0,
    ) -> None:
        check_one_of("target", target, TARGETS)
        check_integer("crop", crop, least=max(network.kernel), optional=True)
        check_number("max_norm", max_norm, above=0, optional=True)
        check_integer("average", average, optional=True)
        network.random_shifts(n_shifts)  # raises for more than there are
        super().__init__(network, optimizer, seed)
        self.schedule, self.max_norm = schedule, max_norm
        self.noise, self.target, self.crop = noise, target, crop
        self.n_shifts, self.detach_codes, self.unit_norm = n_shifts, detach_codes, unit_norm
        self.average = average

    def init(self, atoms: None = None) -> NetworkState:
        """Return the state of a run that begins with the network's weights."""
        state = super().init()
        if self.average is not None:
            state.average = {name: p.detach().clone() for name, p in state.network.named_parameters()}
        return state

    @torch.no_grad()
    def finish(self, state: NetworkState) -> None:
        """Put the mean of the weights into the network, where one is kept."""
        if self.average is None:
            return
        for name, parameter in state.network.named_parameters():
            parameter.copy_(state.average[name])
        self._project(state.network)

    def before_step(self, state: NetworkState) -> None:
        """Bound the gradient and set the learning rates."""
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), self.max_norm)
        if self.schedule is not None:
            for group in state.optimizer.param_groups:
                first = group.setdefault("initial_lr", group["lr"])
                group["lr"] = first * self.schedule(state.n_steps)

    @torch.no_grad()
    def after_step(self, state: NetworkState) -> None:
        """Put learned values back into their sets, and take the weights into their mean."""
        self._project(state.network)
        if self.average is not None:
            weight = 1 / min(state.n_steps, self.average)
            for name, parameter in state.network.named_parameters():
                state.average[name].lerp_(parameter, weight)

    def loss(self, network: UnfoldedAutoencoder, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each sample of x, (n, channels, *spatial), for one draw of what is random."""
        x = x if self.crop is None else _crops(x, self.crop, generator)
        y = x if self.noise is None else self.noise(x, generator)
        shifts = network.random_shifts(self.n_shifts, generator=generator)
        eta = network(y, shifts=shifts, detach_codes=self.detach_codes)
        if self.target == "clean":
            scale = 1.0 if self.noise is None else self.noise.scale(x)
            return (scale * network.likelihood.mean(eta) - x).square().flatten(1).mean(1)
        return network.likelihood.nll(eta, y) / math.prod(y.shape[1:])

    def settings(self) -> dict[str, Any]:
        """Return network, optimiser and what is random as JSON."""
        network: Any = self.network
        return {
            "rule": "network",
            "network": network.settings() | {"atoms": list(network.atoms.shape)},
            "constants": {name: buffer.flatten().tolist() for name, buffer in network.named_buffers()},
            "optimizer": describe(self.optimizer),
            "schedule": describe(self.schedule),
            "max_norm": self.max_norm,
            "noise": describe(self.noise),
            "target": self.target,
            "crop": self.crop,
            "n_shifts": self.n_shifts,
            "detach_codes": self.detach_codes,
            "unit_norm": self.unit_norm,
            "average": self.average,
            "seed": self.seed,
        }

    @torch.no_grad()
    def _project(self, network: Any) -> None:
        network.project_()
        if not self.unit_norm:
            return
        for name, parameter in network.named_parameters():
            if name.endswith("atoms"):
                norm = torch.linalg.vector_norm(parameter.flatten(1), dim=1)
                parameter /= norm.clamp_min(torch.finfo(norm.dtype).tiny).view(
                    -1, *[1] * (parameter.ndim - 1)
                )


class VAERule(ModuleRule):
    """Trains a `VAE` in the one loop; see `calepin.learning.train`.

    Parameters
    ----------
    network : VAE
        Where a run begins; the run trains a copy, ``state.network``.
    optimizer : callable, optional
        Makes a torch optimiser of a list of parameters, ``partial(torch.optim.Adam, lr=1e-3)`` by default.
    seed : int, default 0
        Of the draws of z.
    """

    def __init__(self, network: VAE, *, optimizer: Optimizer | None = None, seed: int = 0) -> None:
        super().__init__(network, optimizer, seed)

    def loss(self, network: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return minus the evidence lower bound of each sample."""
        return network.negative_elbo(x, generator)

    def settings(self) -> dict[str, Any]:
        """Return network, optimiser and seed as JSON."""
        return {
            "rule": "vae",
            "network": describe(self.network),
            "optimizer": describe(self.optimizer),
            "seed": self.seed,
        }


def _required(name: str, values: Mapping[str, Any]) -> Any:
    if name not in values:
        raise ValueError(f"{name}: expected a value for NetworkState, got none")
    return values[name]


def _crops(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cut a window from each sample, each at a place of its own."""
    windows = []
    for sample in x:
        for axis in range(1, sample.ndim):
            room = sample.shape[axis] - size
            if room > 0:
                begin = int(torch.randint(room + 1, (), generator=generator))
                sample = sample.narrow(axis, begin, size)
        windows.append(sample)
    return torch.stack(windows)
