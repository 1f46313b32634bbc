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
from calepin.learning.gradients import Differentiate, GradientRule, UnfoldedSolver, unfolded_loss
from calepin.learning.optimizers import Optimizer, along_sphere, describe_optimizer, move
from calepin.learning.train import DivergedError
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.penalties import HardThreshold, Penalty
from calepin.problem import Problem
from calepin.solvers import ISTA

__all__ = ["Optimizer", "Unfolded"]

_SMALLEST_DECAY = 1e-3


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

    def __post_init__(self) -> None:
        if self.tangent and self.atom_set.shape != "sphere":
            raise ValueError(f"atom_set must be the sphere with tangent=True, got {self.atom_set.shape!r}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {self.decay!r}")
        if not self.decay_drop >= 0 or self.decay_every < 1:
            raise ValueError(
                "decay_drop must be at least 0 and decay_every at least 1, "
                f"got {self.decay_drop!r} and {self.decay_every!r}"
            )

    @property
    def replace_every(self) -> int:
        """Return 1: `replace_idle` costs nothing."""
        return 1

    def init(self, atoms: Any) -> dict[str, Any]:
        """Return the arrays that learning carries from step to step."""
        return {"atoms": atoms, "t": np.zeros(1, dtype=np.int64)}

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
            raise ValueError("mask must be None for rule 'unfolded', which has no use for missing entries")
        atoms = torch.as_tensor(arrays["atoms"])
        y = batch.X if isinstance(batch.X, Tensor) else torch.from_numpy(np.require(batch.X, None, "W"))
        y = y.to(atoms)
        t = int(arrays["t"][0])
        _require_finite("atoms", atoms)
        leaf = atoms.detach().clone().requires_grad_()
        if t == 0:
            ISTA(self.penalty, self.step_size).check(Problem(Dense(leaf.detach()), Gaussian(), y))
        with torch.enable_grad():
            loss, codes = unfolded_loss(
                y, leaf, penalty=self.penalty, n_unfold=self.n_unfold, step=self.step_size,
                rule=self.gradient, solver=self.solver, differentiate=self.differentiate,
                last_k=self.last_k, checkpoint_every=self.checkpoint_every, decay=self.decay_at(t),
            )  # fmt: skip
            (gradient,) = torch.autograd.grad(loss, leaf)
        _require_finite("gradient", gradient)
        value = _objective(y, codes, leaf.detach(), self.penalty)
        if self.tangent:
            gradient = along_sphere(gradient, atoms)
        move(arrays, atoms, gradient, self.optimizer)
        with torch.no_grad():
            atoms.copy_(self.atom_set.project(atoms))
        arrays["t"] += 1
        return value

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


@torch.no_grad()
def _objective(y: Tensor, codes: Tensor, atoms: Tensor, penalty: Penalty) -> np.ndarray:
    if not codes.any():
        warnings.warn(
            "all codes of a batch are zero, from which nothing is learned: the penalty's alpha, or "
            "threshold, is too large for X",
            RuntimeWarning,
            stacklevel=4,
        )
    value = 0.5 * (y - codes @ atoms).square().sum(1)
    if not isinstance(penalty, HardThreshold):
        value = value + penalty.value(codes)
    return value.cpu().numpy().astype(np.float64)


def _require_finite(name: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise DivergedError(
            f"the {name} became NaN or infinite: check the scale of X, the step size and the learning rate"
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: v.tolist() if hasattr(v, "tolist") else v for name, v in values.items()}
