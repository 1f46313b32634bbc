"""Rules for the training of networks. The state of a run holds the network and its optimiser.

    clean target:     mean over entries of ( q f^{-1}(eta(y)) - x )^2,     y = noise(x), q its scale
    observed target:  negative log-likelihood of y under eta(y), divided by the number of entries

Crops, noise and shifts of a step are random. They are functions of the seed and the index of the step, so
that a run resumed from a checkpoint equals an uninterrupted one bit for bit.
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

from calepin.core.arguments import check_arguments
from calepin.core.checkpoint import describe
from calepin.core.checks import check_integer, check_methods, check_number, check_one_of
from calepin.core.random import torch_generator
from calepin.learning.batches import Batch
from calepin.learning.optimizers import Optimizer, along_sphere, tensor_state
from calepin.learning.rule import State, tensor_of, within
from calepin.networks.autoencoder import UnfoldedAutoencoder
from calepin.networks.unfolded_denoiser import UnfoldedDenoiser
from calepin.networks.vae import VAE

__all__ = ["ModuleRule", "NetworkRule", "NetworkState", "VAERule", "random_windows"]

TARGETS = ("clean", "observed")
_OPTIMIZER, _AVERAGE = "optimizer.", "average."  # prefixes of the optimiser's and of averaged tensors


@dataclass(eq=False)
class NetworkState(State):
    """State of the training of a network.

    Attributes
    ----------
    network : nn.Module
        The network in training, a copy of the rule's network.
    optimizer : torch.optim.Optimizer
        Optimiser of its parameters.
    n_steps : int
        Number of steps so far.
    average : dict of tensors
        Running means of the weights by name; empty if none are computed.
    """

    network: Any  # a module of the rule's class
    optimizer: torch.optim.Optimizer
    n_steps: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> dict[str, Any]:
        """Return the weights, their running means, and the optimiser's memory of each weight."""
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
        """Move network, means and optimiser to a device, in place; step counts stay on the CPU."""
        if device is not None:
            self.network.to(device)
            self.average = {name: mean.to(device) for name, mean in self.average.items()}
            for memory in self.optimizer.state.values():
                moved = {k: v.to(device) for k, v in memory.items() if isinstance(v, Tensor) and v.ndim}
                memory.update(moved)
        return self

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        """Set the state from what the methods `tensors` and `scalars` of another state returned.

        Raises
        ------
        ValueError
            If a name is missing, or unknown to this state.
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
    """Base class of rules that train a network with a torch optimiser; a subclass defines the loss.

    Parameters
    ----------
    network : nn.Module
        The initial network. A run trains a copy of it, ``state.network``.
    optimizer : callable or None
        A function from a list of parameters to a torch optimiser whose state consists of tensors. None:
        ``partial(torch.optim.Adam, lr=1e-3)``.
    seed : int
        Seed of all random numbers of a step.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer | None, seed: int) -> None:
        self.network = network
        if optimizer is not None and not callable(optimizer):
            raise ValueError(
                "optimizer: expected a function from a list of parameters to an optimiser, such as "
                f"partial(torch.optim.Adam, lr=1e-3), got {type(optimizer).__name__}"
            )
        self.optimizer: Any = partial(torch.optim.Adam, lr=1e-3) if optimizer is None else optimizer
        self.seed = seed

    def loss(self, network: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each sample of x, with random numbers from `generator`."""
        raise NotImplementedError(f"{type(self).__name__} does not define loss")

    def before_step(self, state: NetworkState) -> None:
        """Prepare a step of the optimiser, for example set the learning rate; nothing by default."""

    def after_step(self, state: NetworkState) -> None:
        """Complete a step of the optimiser, for example by a projection; nothing by default."""

    def settings(self) -> dict[str, Any]:
        """Return the settings of the rule for JSON; a checkpoint with other settings is refused."""
        raise NotImplementedError(f"{type(self).__name__} does not define settings")

    def init(self, atoms: None = None) -> NetworkState:
        """Return the initial state, with a copy of the network."""
        network = copy.deepcopy(self.network)
        return NetworkState(network, self.optimizer(list(network.parameters())))

    def restore(self, tensors: Mapping[str, Any], scalars: Mapping[str, Any]) -> NetworkState:
        """Return the state stored in a checkpoint, on the CPU."""
        state = self.init().to("cpu")
        state.load(tensors, scalars)
        return state

    def step(self, state: NetworkState, batch: Batch) -> np.ndarray:
        """Take one step of the optimiser, and return the loss of each sample before it."""
        if batch.mask is not None:
            raise ValueError("mask: expected None, training of networks does not support missing entries")
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
        """Do nothing and return no entries for the history."""
        return {}

    def finish(self, state: NetworkState) -> None:
        """Complete a run after the last step of `calepin.learning.train_steps`; nothing by default."""


class NetworkRule(ModuleRule):
    """Trains an `UnfoldedAutoencoder` with a torch optimiser.

    Parameters
    ----------
    network : UnfoldedAutoencoder
        The initial network. A run trains a copy of it, ``state.network``.
    optimizer : callable, optional
        A function from a list of parameters to a torch optimiser whose state consists of tensors. Default:
        ``partial(torch.optim.Adam, lr=1e-3)``.
    schedule : callable (n_step) -> factor, a dataclass, optional
        Factor of the learning rates in each step, for example `CosineDecay`. Default: constant rates.
    max_norm : float, optional
        Upper bound on the norm of the gradient, enforced by clipping. Default: no bound.
    noise : Noise, optional
        Noise added to the samples, for example `GaussianNoise`. Default: none.
    target : {"clean", "observed"}, default "clean"
        Target of the loss. "clean": the samples without noise (supervised). "observed": the noisy
        observations (unsupervised).
    crop : int, optional
        Side length of the random window that is cut from each sample. Shorter axes are not cropped.
        Default: whole samples.
    n_shifts : int, default 1
        Number of random shifts of the grid in a step.
    detach_codes : bool, default False
        Whether codes are constants of the gradient ("dec"). Otherwise it passes through the encoder
        ("ae-ls").
    unit_norm : bool, default False
        Whether the atoms of every dictionary have unit norm: their gradients are projected onto the tangent
        space of the sphere, and they are scaled after each step.
    average : int, optional
        Length, in steps, of the exponential running mean of the weights; at first it is the plain mean.
        Averaging reduces the effect of gradient noise on the weights (Polyak and Juditsky 1992). `finish`
        copies the mean into the network of a state. Default: no averaging.
    seed : int, default 0
        Seed of crops, noise and shifts.
    """

    def __init__(
        self,
        network: UnfoldedAutoencoder | UnfoldedDenoiser,
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
        check_methods("network", network, "parameters", "random_shifts")
        if noise is not None:
            check_methods("noise", noise, "scale")
        check_one_of("target", target, TARGETS)
        check_integer("crop", crop, least=max(network.kernel), optional=True)
        check_number("max_norm", max_norm, above=0, optional=True)
        check_integer("average", average, optional=True)
        check_integer("n_shifts", n_shifts)
        network.random_shifts(n_shifts)  # raises ValueError for too many shifts
        super().__init__(network, optimizer, seed)
        check_arguments(NetworkRule.__init__, locals())
        self.schedule, self.max_norm = schedule, max_norm
        self.noise, self.target, self.crop = noise, target, crop
        self.n_shifts, self.detach_codes, self.unit_norm = n_shifts, detach_codes, unit_norm
        self.average = average

    def init(self, atoms: None = None) -> NetworkState:
        """Return the initial state, with a copy of the network."""
        state = super().init()
        if self.average is not None:
            state.average = {name: p.detach().clone() for name, p in state.network.named_parameters()}
        return state

    @torch.no_grad()
    def finish(self, state: NetworkState) -> None:
        """Copy the running mean of the weights into the network, if `average` is given."""
        if self.average is None:
            return
        for name, parameter in state.network.named_parameters():
            parameter.copy_(state.average[name])
        self._project(state.network)

    def before_step(self, state: NetworkState) -> None:
        """Project the gradients of unit atoms, clip all gradients, and set the learning rates.

        Without the projection, Adam's scaling of coordinates turns the pull along an atom, which the norm
        undoes, into a change of its shape.
        """
        if self.unit_norm:
            for atoms in _dictionaries(state.network):
                atoms.grad = None if atoms.grad is None else along_sphere(atoms.grad, atoms.detach())
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), self.max_norm)
        if self.schedule is not None:
            for group in state.optimizer.param_groups:
                first = group.setdefault("initial_lr", group["lr"])
                group["lr"] = first * self.schedule(state.n_steps)

    @torch.no_grad()
    def after_step(self, state: NetworkState) -> None:
        """Project the weights onto their constraint sets, and update their running mean."""
        self._project(state.network)
        if self.average is not None:
            weight = 1 / min(state.n_steps, self.average)
            for name, parameter in state.network.named_parameters():
                state.average[name].lerp_(parameter, weight)

    def loss(self, network: UnfoldedAutoencoder, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each sample of x, (n, channels, *spatial), for random crop, noise and shifts."""
        x = x if self.crop is None else random_windows(x, self.crop, generator)
        y = x if self.noise is None else self.noise(x, generator)
        shifts = network.random_shifts(self.n_shifts, generator=generator)
        eta = network(y, shifts=shifts, detach_codes=self.detach_codes)
        if self.target == "clean":
            scale = 1.0 if self.noise is None else self.noise.scale(x)
            return (scale * network.likelihood.mean(eta) - x).square().flatten(1).mean(1)
        return network.likelihood.nll(eta, y) / math.prod(y.shape[1:])

    def settings(self) -> dict[str, Any]:
        """Return the settings of network, optimiser and random augmentation for JSON."""
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
        for atoms in _dictionaries(network):
            norm = torch.linalg.vector_norm(atoms.flatten(1), dim=1)
            atoms /= norm.clamp_min(torch.finfo(norm.dtype).tiny).view(-1, *[1] * (atoms.ndim - 1))


def _dictionaries(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are dictionaries: one if they are tied, three if not."""
    return [parameter for name, parameter in network.named_parameters() if name.endswith("atoms")]


class VAERule(ModuleRule):
    """Trains a `VAE` by maximising the evidence lower bound.

    Parameters
    ----------
    network : VAE
        The initial network. A run trains a copy of it, ``state.network``.
    optimizer : callable, optional
        A function from a list of parameters to a torch optimiser. Default:
        ``partial(torch.optim.Adam, lr=1e-3)``.
    seed : int, default 0
        Seed of the random latents z.
    """

    def __init__(self, network: VAE, *, optimizer: Optimizer | None = None, seed: int = 0) -> None:
        check_arguments(VAERule.__init__, locals())
        super().__init__(network, optimizer, seed)

    def loss(self, network: VAE, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the negative evidence lower bound of each sample."""
        return network.negative_elbo(x, generator)

    def settings(self) -> dict[str, Any]:
        """Return the settings of network and optimiser, and the seed, for JSON."""
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


def random_windows(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return a window of each sample at an independent random position."""
    windows = []
    for sample in x:
        for axis in range(1, sample.ndim):
            room = sample.shape[axis] - size
            if room > 0:
                begin = int(torch.randint(room + 1, (), generator=generator))
                sample = sample.narrow(axis, begin, size)
        windows.append(sample)
    return torch.stack(windows)
