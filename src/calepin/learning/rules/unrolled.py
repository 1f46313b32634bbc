"""Learning by back-propagation through unfolded sparse coding, as a rule of the one training loop."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batch
from calepin.learning.gradients import unfolded_loss
from calepin.learning.optimizers import Optimizer, along_sphere, move
from calepin.learning.rule import AtomState, BaseRule, require_finite, tensor_of, warn_if_vanished
from calepin.likelihoods import Gaussian, Likelihood
from calepin.operators.dense import Dense
from calepin.penalties import L1, NonNegativeL1, Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import Codes, GradientRule, objective
from calepin.solvers.coders.proximal import Differentiate, UnfoldedSolver, unfolded_encoder
from calepin.solvers.proximal import ISTA
from calepin.solvers.solve import solve

__all__ = ["Unfolded", "UnfoldedState"]

_SMALLEST_DECAY = 1e-3
# fraction of the longest valid step that a learned one may take
_LONGEST = {"ista": 0.95, "fista": 0.5}


@dataclass
class UnfoldedState(AtomState):
    """Atoms, what is learned besides, the number of steps, and what the optimisers of each remember.

    Attributes
    ----------
    step_size : Tensor, shape (1,), optional
        Of the layers, where it is learned.
    alpha : Tensor, shape (n_components,), optional
        Thresholds of the atoms, where they are learned.
    """

    n_steps: int
    step_size: Tensor | None
    alpha: Tensor | None
    atoms_memory: dict[str, Tensor]
    step_size_memory: dict[str, Tensor]
    alpha_memory: dict[str, Tensor]

    def learned(self) -> dict[str, Tensor]:
        """Return what the optimiser moves, by name."""
        known = {"atoms": self.atoms, "step_size": self.step_size, "alpha": self.alpha}
        return {name: values for name, values in known.items() if values is not None}


@dataclass(frozen=True)
class Unfolded(BaseRule):
    """PUDLE: atoms move by an optimiser along a gradient through T unfolded layers of sparse coding.

    Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022, Algorithm 2;
    the gradients are those of `calepin.learning.dictionary_gradient`.

    Parameters
    ----------
    penalty : Penalty
        With a `prox`; L1 or NonNegativeL1 for learned thresholds and "implicit".
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
    likelihood : Likelihood
        Family of the samples; its nll is the loss.
    learn_step, learn_threshold : bool
        Whether the optimiser moves the step size, which all layers share, and alpha, one for each atom,
        along with the atoms. A step stays below 2 / L (fista: 1 / L), alpha nonnegative. Both are learned
        through the encoder, so not with "dec". The loss of data that are all to be explained falls as
        alpha falls: without noise, or without another reason to stop early, thresholds end near 0.
    """

    name: ClassVar[str] = "unfolded"
    state: ClassVar[type[AtomState]] = UnfoldedState

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
    likelihood: Likelihood = field(default_factory=Gaussian)
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

    def init(self, atoms: Any) -> UnfoldedState:
        """Return the state of a run that begins with these atoms."""
        atoms = tensor_of(atoms)
        step_size = alpha = None
        if self.learn_step:
            step_size = atoms.new_full(
                (1,), 1 / self._lipschitz(atoms) if self.step_size is None else self.step_size
            )
        if self.learn_threshold:
            assert isinstance(self.penalty, L1 | NonNegativeL1)
            alpha = torch.as_tensor(self.penalty.alpha).to(atoms).expand(len(atoms)).clone()
        return UnfoldedState(atoms, 0, step_size, alpha, {}, {}, {})

    def step(self, state: UnfoldedState, batch: Batch) -> np.ndarray:
        """Move the atoms in place and return each sample's objective before the move.

        The objective is the nll (half the squared error of Gaussian data) plus the penalty, whatever the
        gradient is of.

        Raises
        ------
        ValueError
            Missing entries, or a step size that makes the codes grow without bound.
        DivergedError
            Atoms or a gradient with NaN or infinity.
        """
        if batch.mask is not None:
            raise ValueError("mask: expected None for rule 'unfolded', which learns from whole samples")
        y = torch.as_tensor(batch.X).to(state.atoms)
        learned = state.learned()
        for name, values in learned.items():
            require_finite(name, values)
        leaves = {name: values.detach().clone().requires_grad_() for name, values in learned.items()}
        penalty, step_size = self._layers(leaves)
        if state.n_steps == 0:
            ISTA(self.penalty, self.step_size).check(self._problem(state.atoms, y))
        with torch.enable_grad():
            loss, codes = unfolded_loss(
                y, leaves["atoms"], penalty=penalty, n_unfold=self.n_unfold, step_size=step_size,
                gradient=self.gradient, solver=self.solver, differentiate=self.differentiate,
                last_k=self.last_k, checkpoint_every=self.checkpoint_every,
                decay=self.decay_at(state.n_steps), likelihood=self.likelihood,
            )  # fmt: skip
            gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        for gradient in gradients.values():
            require_finite("gradient", gradient)
        warn_if_vanished(bool(codes.any()))
        value = objective(self._problem(state.atoms, y), Codes(codes), penalty)
        if self.tangent:
            gradients["atoms"] = along_sphere(gradients["atoms"], state.atoms)
        self._move(state, gradients)
        state.n_steps += 1
        return value

    @torch.no_grad()
    def encode(self, state: UnfoldedState, X: Any) -> tuple[Tensor, np.ndarray]:
        """Return the codes that a step would find now, exact ones with "implicit", and their objectives."""
        y = torch.as_tensor(X).to(state.atoms)
        penalty, step_size = self._layers(state.learned())
        decay = self.decay_at(state.n_steps)
        encoder = unfolded_encoder(penalty, step_size=step_size, solver=self.solver, decay=decay)
        problem = self._problem(state.atoms, y)
        how = "implicit" if self.differentiate == "implicit" else "none"
        codes = solve(problem, encoder, n_iter=self.n_unfold, differentiate=how).z
        return codes, objective(problem, Codes(codes), penalty)

    def decay_at(self, n_steps: int) -> float:
        """Return the factor beta of the step after `n_steps` others."""
        return max(self.decay - self.decay_drop * (n_steps // self.decay_every), _SMALLEST_DECAY)

    def _problem(self, atoms: Tensor, y: Tensor) -> Problem:
        return Problem(Dense(atoms), self.likelihood, y)

    def _layers(self, learned: dict[str, Tensor]) -> tuple[Penalty, float | Tensor | None]:
        """Return penalty and step size of the layers, learned or not."""
        step_size = learned["step_size"][0] if self.learn_step else self.step_size
        penalty: Any = type(self.penalty)
        return (penalty(learned["alpha"]) if self.learn_threshold else self.penalty), step_size

    def _move(self, state: UnfoldedState, gradients: dict[str, Tensor]) -> None:
        # an optimiser that couples its parameters is asked for each on its own
        for name, values in state.learned().items():
            move(getattr(state, f"{name}_memory"), values, gradients[name], self.optimizer)
        with torch.no_grad():
            state.atoms.copy_(self.atom_set.project(state.atoms))
            if state.step_size is not None:
                longest = 2 * _LONGEST[self.solver] / self._lipschitz(state.atoms)
                state.step_size.clamp_(min=1e-3 * longest, max=longest)
            if state.alpha is not None:
                state.alpha.clamp_(min=0)

    def _lipschitz(self, atoms: Tensor) -> float:
        return (self.likelihood.curvature or 1.0) * Dense(atoms.detach()).norm_squared()
