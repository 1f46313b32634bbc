"""How an unfolded network is trained: a rule for the one loop, `calepin.learning.train`.

    clean target:     mean over entries of ( q f^{-1}(eta(y)) - x )^2,     y = noise(x), q its scale
    observed target:  negative log-likelihood of y under eta(y), divided by the number of entries

Random in a step are crop, noise and shifts.
"""

import math
import numbers
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.learning.batches import ArrayBatches, Batch
from calepin.learning.rules.module import ModuleRule
from calepin.learning.train import Callback, TrainState, load_checkpoint, train
from calepin.networks.autoencoder import UnfoldedAutoencoder

__all__ = ["CosineDecay", "NetworkRule", "train_steps"]

TARGETS = ("clean", "observed")
AVERAGE = "average."  # before the name of a weight whose mean an array is


@dataclass(frozen=True)
class CosineDecay:
    """Learning rates that rise for a while, linearly, and fall to almost nothing along half a cosine.

    Parameters
    ----------
    n_steps : int
        Steps until the end; afterwards the rate stays at its last value.
    warm_up : float, default 0.05
        Part of the steps on which the rate rises.
    last : float, default 0.01
        Last rate over the highest.
    """

    n_steps: int
    warm_up: float = 0.05
    last: float = 0.01

    def __post_init__(self) -> None:
        if not isinstance(self.n_steps, numbers.Integral) or self.n_steps < 1:
            raise ValueError(f"n_steps: expected a positive integer, got {self.n_steps!r}")
        for name in ("warm_up", "last"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a number from 0 to 1, got {getattr(self, name)!r}")

    def __call__(self, n_step: int) -> float:
        """Return the factor on the learning rate in the step after `n_step` others."""
        part = min((n_step + 1) / self.n_steps, 1.0)
        rising = min(part / self.warm_up, 1.0) if self.warm_up else 1.0
        return rising * (self.last + (1 - self.last) * 0.5 * (1 + math.cos(math.pi * part)))


class NetworkRule(ModuleRule):
    """Trains an `UnfoldedAutoencoder` with any optimiser of torch; see `calepin.learning.Rule`.

    Parameters
    ----------
    network : UnfoldedAutoencoder
        Trained in place.
    optimizer : torch.optim.Optimizer, optional
        Over the network's parameters; ``Adam(lr=1e-3)`` by default. Its state must be tensors.
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
        to (Polyak and Juditsky 1992). `use_average` puts it into the network.
    seed : int, default 0
        Of crops, noise and shifts.
    """

    def __init__(
        self,
        network: UnfoldedAutoencoder,
        *,
        optimizer: torch.optim.Optimizer | None = None,
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
        if target not in TARGETS:
            raise ValueError(f"target: expected one of {TARGETS}, got {target!r}")
        if crop is not None and (not isinstance(crop, numbers.Integral) or crop < max(network.kernel)):
            raise ValueError(f"crop: expected at least the kernel's size {network.kernel}, got {crop!r}")
        if max_norm is not None and not 0 < max_norm < math.inf:
            raise ValueError(f"max_norm: expected a finite number above 0, got {max_norm!r}")
        if average is not None and (not isinstance(average, numbers.Integral) or average < 1):
            raise ValueError(f"average: expected a positive number of steps, got {average!r}")
        network.random_shifts(n_shifts)  # raises for more than there are
        super().__init__(network, optimizer, seed)
        self.network = network
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule, self.max_norm = schedule, max_norm
        self.noise, self.target, self.crop = noise, target, crop
        self.n_shifts, self.detach_codes, self.unit_norm = n_shifts, detach_codes, unit_norm
        self.average = average

    def init(self, atoms: Any = None) -> dict[str, Any]:
        """Return the arrays of a run that begins with the network's weights, or with other `atoms`."""
        arrays = super().init(atoms)
        if self.average is not None:
            means = {f"{AVERAGE}{name}": arrays[name].clone() for name, _ in self.network.named_parameters()}
            arrays |= means
        return arrays

    def step(self, arrays: dict[str, Any], batch: Batch) -> np.ndarray:
        """Take one step of the optimiser and return the loss of each sample."""
        losses = super().step(arrays, batch)
        if self.average is not None:
            share = 1 / min(int(arrays["n_steps"][0]), self.average)
            for name, _ in self.network.named_parameters():
                mean = torch.as_tensor(arrays[f"{AVERAGE}{name}"]).view_as(arrays[name])
                arrays[f"{AVERAGE}{name}"] = mean.lerp_(arrays[name], share)
        return losses

    @torch.no_grad()
    def use_average(self, arrays: dict[str, Any]) -> None:
        """Put the mean of a run's weights into the network, after its last step.

        Raises
        ------
        ValueError
            A rule without `average`.
        """
        if self.average is None:
            raise ValueError("average: expected a number of steps to have kept a mean over, got None")
        for name, parameter in self.network.named_parameters():
            parameter.copy_(torch.as_tensor(arrays[f"{AVERAGE}{name}"]).view_as(parameter))
        self.after_step()

    def before_step(self, n_step: int) -> None:
        """Bound the gradient and set the rates."""
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
        self._set_rates(n_step)

    def after_step(self) -> None:
        """Put learned values back into their sets."""
        self.network.project_()
        if self.unit_norm:
            self._scale_to_unit_norm()

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each sample of x, (n, channels, *spatial), for one draw of what is random."""
        x = x if self.crop is None else _crops(x, self.crop, generator)
        y = x if self.noise is None else self.noise(x, generator)
        shifts = self.network.random_shifts(self.n_shifts, generator=generator)
        eta = self.network(y, shifts=shifts, detach_codes=self.detach_codes)
        if self.target == "clean":
            scale = 1.0 if self.noise is None else self.noise.scale(x)
            return (scale * self.network.likelihood.mean(eta) - x).square().flatten(1).mean(1)
        return self.network.likelihood.nll(eta, y) / math.prod(y.shape[1:])

    def settings(self) -> dict[str, Any]:
        """Return network, optimiser and what is random as JSON."""
        optimizer = self.optimizer_settings()
        if self.schedule is not None:
            optimizer["lr"] = self._rates[0]
        network = self.network
        return {
            "rule": "network",
            "network": network.settings() | {"atoms": list(network.atoms.shape)},
            "constants": {name: buffer.flatten().tolist() for name, buffer in network.named_buffers()},
            "optimizer": optimizer,
            "schedule": _named(self.schedule),
            "max_norm": self.max_norm,
            "noise": _named(self.noise),
            "target": self.target,
            "crop": self.crop,
            "n_shifts": self.n_shifts,
            "detach_codes": self.detach_codes,
            "unit_norm": self.unit_norm,
            "average": self.average,
            "seed": self.seed,
        }

    def _set_rates(self, n_step: int) -> None:
        if self.schedule is None:
            return
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.schedule(n_step)

    @torch.no_grad()
    def _scale_to_unit_norm(self) -> None:
        for name, parameter in self.network.named_parameters():
            if name.endswith("atoms"):
                norm = torch.linalg.vector_norm(parameter.flatten(1), dim=1)
                parameter /= norm.clamp_min(torch.finfo(norm.dtype).tiny).view(
                    -1, *[1] * (parameter.ndim - 1)
                )


def train_steps(
    rule: NetworkRule,
    data: ArrayBatches,
    n_steps: int,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
) -> TrainState:
    """Train the network of a rule by so many steps, and end with the mean of its weights if one is kept.

    A run that the checkpoint holds goes on; one that a callback stops before its end keeps its last weights.
    """
    if checkpoint is not None and Path(checkpoint).exists():
        device = next(rule.network.parameters()).device
        state = load_checkpoint(checkpoint, rule, data, device=device)
        rule.bind(state.arrays)
    else:
        state = TrainState(rule.init())

    def enough(state: TrainState) -> bool:
        return state.n_steps >= n_steps

    if not enough(state):
        passes = -(-n_steps // (data.n_steps or 1))
        train(rule, data, state, max_iter=passes, callbacks=[*callbacks, enough], checkpoint=checkpoint)
    if rule.average is not None and enough(state):
        rule.use_average(state.arrays)
    return state


def _named(part: Any) -> dict[str, Any] | None:
    """Return a dataclass as JSON that also says which it is."""
    return None if part is None else {"name": type(part).__name__, **asdict(part)}


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
