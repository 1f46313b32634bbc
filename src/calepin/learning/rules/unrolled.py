"""Learning by back-propagation through unfolded sparse coding, as a rule of the one training loop."""

import warnings
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batch
from calepin.learning.gradients import (
    Differentiate,
    GradientRule,
    UnfoldedSolver,
    unfolded_encoder,
    unfolded_loss,
)
from calepin.learning.optimizers import OPTIMIZER, Optimizer, along_sphere, describe_optimizer, move
from calepin.learning.train import DivergedError
from calepin.likelihoods import Gaussian
from calepin.operators.dense import Dense
from calepin.penalties import L1, HardThreshold, NonNegativeL1, Penalty
from calepin.problem import Problem
from calepin.solvers.proximal import ISTA
from calepin.solvers.solve import solve

__all__ = ["Optimizer", "Unfolded"]

_SMALLEST_DECAY = 1e-3
# share of the longest valid step that a learned one may take
_SHARE = {"ista": 0.95, "fista": 0.5}


@dataclass(frozen=True)
class Unfolded:
    """PUDLE: atoms move by an optimiser along a gradient through T unfolded layers of sparse coding.

    Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022, Algorithm 2;
    the gradients are those of `calepin.learning.dictionary_gradient`. Memory for the optimiser is
    among the run's arrays, so that a resumed run equals an uninterrupted one.

    Parameters
    ----------
    penalty : Penalty
        L1, NonNegativeL1 or HardThreshold.
    n_unfold : int
        Layers T of the encoder; unused by differentiate "implicit".
    step_size : float, optional
        Of the layers; 1 / L, with L of the atoms at hand, by default. Warns above 1 / L.
    gradient : {"dec", "ae-lasso", "ae-ls"}
    solver : {"ista", "fista"}
    differentiate : {"unroll", "last-k", "implicit"}
    last_k, checkpoint_every : int, optional
        See `calepin.solve`.
    decay, decay_drop, decay_every : float, float, int
        The factor beta of the penalty from layer to layer begins at `decay` and falls by
        `decay_drop` after every `decay_every` steps.
    optimizer : callable
        Makes a torch optimiser of a list of parameters: ``partial(torch.optim.Adam, lr=2e-3)``.
    atom_set : AtomSet
        What atoms are projected on after each step; the sphere normalises them.
    tangent : bool
        Take from each atom's gradient the part along the atom, so that the optimiser moves it along
        the sphere's tangent space (Absil, Mahony and Sepulchre, 2008, section 3.6.1).
    learn_step, learn_threshold : bool
        Whether the optimiser moves the step size, which all layers share, and alpha, one for each atom,
        along with the atoms. A step stays below 2 / L (fista: 1 / L), alpha nonnegative. Both are learned
        through the encoder, so not with "dec". The loss of data that are all to be explained falls as
        alpha falls: without noise, or without another reason to stop early, thresholds end near 0.
    """

    penalty: Penalty
    n_unfold: int = 50
    step_size: float | None = None
    gradient: GradientRule = "ae-ls"
    solver: UnfoldedSolver = "ista"
    differentiate: Differentiate = "unroll"
    last_k: int | None = None
    checkpoint_every: int | None = None
    decay: float = 1.0
    decay_drop: float = 0.0
    decay_every: int = 30
    optimizer: Optimizer = field(default=partial(torch.optim.Adam, lr=1e-3))
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere"))
    tangent: bool = False
    learn_step: bool = False
    learn_threshold: bool = False

    def __post_init__(self) -> None:
        if self.tangent and self.atom_set.shape != "sphere":
            raise ValueError(f"atom_set: expected the sphere with tangent=True, got {self.atom_set.shape!r}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay: expected a number in (0, 1], got {self.decay!r}")
        if not self.decay_drop >= 0 or self.decay_every < 1:
            raise ValueError(
                "decay_drop: expected at least 0 and decay_every at least 1, "
                f"got {self.decay_drop!r} and {self.decay_every!r}"
            )
        if self.gradient == "dec" and (self.learn_step or self.learn_threshold):
            raise ValueError(
                "gradient: expected 'ae-lasso' or 'ae-ls' with learn_step or learn_threshold, got 'dec', "
                "which does not differentiate the encoder"
            )
        if self.learn_step and self.differentiate == "implicit":
            raise ValueError("learn_step: expected False with 'implicit', whose codes depend on no step size")
        if self.learn_threshold and not isinstance(self.penalty, L1 | NonNegativeL1):
            raise ValueError(
                "learn_threshold: expected False unless the penalty is L1 or NonNegativeL1, "
                f"got {type(self.penalty).__name__}"
            )

    @property
    def replace_every(self) -> int:
        """Return 1: `replace_idle` costs nothing."""
        return 1

    def init(self, atoms: Any) -> dict[str, Any]:
        """Return the arrays that learning carries from step to step."""
        arrays = {"atoms": atoms, "t": np.zeros(1, dtype=np.int64)}
        like = torch.as_tensor(atoms)
        if self.learn_step:
            longest = 1 / _lipschitz(like) if self.step_size is None else self.step_size
            arrays["step"] = like.new_full((1,), longest)
        if self.learn_threshold:
            assert isinstance(self.penalty, L1 | NonNegativeL1)
            alpha = torch.as_tensor(self.penalty.alpha).to(like)
            arrays["alpha"] = alpha.expand(len(like)).clone()
        if isinstance(atoms, np.ndarray):
            return {name: np.asarray(value) for name, value in arrays.items()}
        return arrays

    def step(self, arrays: dict[str, Any], batch: Batch) -> np.ndarray:
        """Move the atoms in place and return each sample's objective before the move.

        The objective is half the squared error plus the penalty, whatever the gradient is of.

        Raises
        ------
        ValueError
            Missing entries, or a step size that makes the codes grow without bound.
        DivergedError
            Atoms or a gradient with NaN or infinity.
        """
        if batch.mask is not None:
            raise ValueError("mask: expected None for rule 'unfolded', which has no use for missing entries")
        atoms = torch.as_tensor(arrays["atoms"])
        y = _samples(batch.X, atoms)
        t = int(arrays["t"][0])
        learned = {name: torch.as_tensor(arrays[name]) for name in self._learned}
        for name, values in learned.items():
            _require_finite(name, values)
        leaves = {name: values.detach().clone().requires_grad_() for name, values in learned.items()}
        penalty, step = self._layers(leaves)
        if t == 0:
            ISTA(self.penalty, self.step_size).check(Problem(Dense(atoms), Gaussian(), y))
        with torch.enable_grad():
            loss, codes = unfolded_loss(
                y, leaves["atoms"], penalty=penalty, n_unfold=self.n_unfold, step=step,
                rule=self.gradient, solver=self.solver, differentiate=self.differentiate,
                last_k=self.last_k, checkpoint_every=self.checkpoint_every, decay=self.decay_at(t),
            )  # fmt: skip
            gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        for gradient in gradients.values():
            _require_finite("gradient", gradient)
        _warn_if_vanished(codes)
        value = _objective(y, codes, atoms, penalty)
        if self.tangent:
            gradients["atoms"] = along_sphere(gradients["atoms"], atoms)
        self._move(arrays, learned, gradients)
        arrays["t"] += 1
        return value

    @torch.no_grad()
    def encode(self, arrays: dict[str, Any], X: Any) -> Any:
        """Return the codes (n, n_components) that a step would find now, exact ones with "implicit"."""
        atoms = torch.as_tensor(arrays["atoms"])
        y = _samples(X, atoms)
        penalty, step = self._layers({name: torch.as_tensor(arrays[name]) for name in self._learned})
        decay = self.decay_at(int(arrays["t"][0]))
        encoder = unfolded_encoder(penalty, step=step, solver=self.solver, decay=decay)
        problem = Problem(Dense(atoms), Gaussian(), y)
        how = "implicit" if self.differentiate == "implicit" else "none"
        codes = solve(problem, encoder, n_iter=self.n_unfold, differentiate=how).z
        return codes if isinstance(X, Tensor) else codes.cpu().numpy()

    def objective(self, arrays: dict[str, Any], X: Any, codes: Any) -> np.ndarray:
        """Return half the squared error plus the penalty of each sample, as `step` does."""
        atoms = torch.as_tensor(arrays["atoms"])
        y, z = _samples(X, atoms), _samples(codes, atoms)
        penalty, _ = self._layers({name: torch.as_tensor(arrays[name]) for name in self._learned})
        return _objective(y, z, atoms, penalty)

    def decay_at(self, t: int) -> float:
        """Return the factor beta of step t = 0, 1, ..."""
        return max(self.decay - self.decay_drop * (t // self.decay_every), _SMALLEST_DECAY)

    def end_pass(self, arrays: dict[str, Any]) -> None:
        """Do nothing: a pass has no meaning for the rule."""

    def replace_idle(self, arrays: dict[str, Any]) -> int:
        """Return 0: every atom keeps its place."""
        return 0

    def settings(self) -> dict[str, Any]:
        """Return the rule as JSON, to recognise a checkpoint of another run."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            "rule": "unfolded",
            **given,
            "penalty": {type(self.penalty).__name__: _plain(vars(self.penalty))},
            "optimizer": describe_optimizer(self.optimizer),
            "atom_set": vars(self.atom_set),
        }

    @property
    def _learned(self) -> list[str]:
        """Names of the arrays that the optimiser moves."""
        return ["atoms", *["step"] * self.learn_step, *["alpha"] * self.learn_threshold]

    def _layers(self, learned: dict[str, Tensor]) -> tuple[Penalty, float | Tensor | None]:
        """Return penalty and step size of the layers, learned or not."""
        step = learned["step"][0] if self.learn_step else self.step_size
        penalty: Any = type(self.penalty)
        return (penalty(learned["alpha"]) if self.learn_threshold else self.penalty), step

    def _move(self, arrays: dict[str, Any], learned: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        atoms = learned["atoms"]
        move(arrays, atoms, gradients["atoms"], self.optimizer)
        for name in self._learned[1:]:
            # an optimiser that couples its parameters is asked for each on its own
            move(arrays, learned[name], gradients[name], self.optimizer, memory=f"{name}_{OPTIMIZER}")
        with torch.no_grad():
            atoms.copy_(self.atom_set.project(atoms))
            if self.learn_step:
                longest = 2 * _SHARE[self.solver] / _lipschitz(atoms)
                learned["step"].clamp_(min=1e-3 * longest, max=longest)
            if self.learn_threshold:
                learned["alpha"].clamp_(min=0)


def _samples(values: Any, like: Tensor) -> Tensor:
    # torch warns of arrays that it may not write to
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.require(values, None, "W"))
    return tensor.to(like)


def _lipschitz(atoms: Tensor) -> float:
    return Dense(atoms.detach()).norm_squared()


@torch.no_grad()
def _objective(y: Tensor, codes: Tensor, atoms: Tensor, penalty: Penalty) -> np.ndarray:
    value = 0.5 * (y - codes @ atoms).square().sum(1)
    if not isinstance(penalty, HardThreshold):
        value = value + penalty.value(codes)
    return value.cpu().numpy().astype(np.float64)


def _warn_if_vanished(codes: Tensor) -> None:
    if not codes.any():
        warnings.warn(
            "all codes of a batch are zero, from which nothing is learned: the penalty's alpha, or "
            "threshold, is too large for X",
            RuntimeWarning,
            stacklevel=4,
        )


def _require_finite(name: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise DivergedError(
            f"the {name} became NaN or infinite: check the scale of X, the step size and the learning rate"
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: v.tolist() if hasattr(v, "tolist") else v for name, v in values.items()}
