"""The rule of dictionary learning by back-propagation through unfolded sparse coding."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_fields
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
from calepin.solvers.coders.proximal import Differentiate, UnfoldedSolver, unfolded_codes, unfolded_encoder
from calepin.solvers.proximal import ISTA

__all__ = ["Unfolded", "UnfoldedState"]

_SMALLEST_DECAY = 1e-3
# upper bound of a learned step size, as a fraction of 2 / L
_LONGEST = {"ista": 0.95, "fista": 0.5}


@dataclass
class UnfoldedState(AtomState):
    """State of `Unfolded`.

    Attributes
    ----------
    atoms : Tensor, shape (n_components, n_features)
        The dictionary.
    n_steps : int
        Number of batches so far.
    step_size : Tensor, shape (1,), optional
        Step size of the layers; None if it is not learned.
    alpha : Tensor, shape (n_components,), optional
        Weight of the penalty for each atom; None if it is not learned.
    atoms_memory, step_size_memory, alpha_memory : dict of tensors
        Memory of the optimiser of each.
    """

    n_steps: int
    step_size: Tensor | None
    alpha: Tensor | None
    atoms_memory: dict[str, Tensor]
    step_size_memory: dict[str, Tensor]
    alpha_memory: dict[str, Tensor]

    def learned(self) -> dict[str, Tensor]:
        """Return the learned tensors by name."""
        known = {"atoms": self.atoms, "step_size": self.step_size, "alpha": self.alpha}
        return {name: values for name, values in known.items() if values is not None}


@dataclass(frozen=True)
class Unfolded(BaseRule):
    """PUDLE: updates of the atoms along a gradient through T unfolded layers of sparse coding.

    Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022, Algorithm 2.
    The gradients are those of `calepin.learning.dictionary_gradient`.

    Parameters
    ----------
    penalty : Penalty
        Penalty of the codes; its proximal map is the nonlinearity of the layers. It must be L1 or
        NonNegativeL1 for learned thresholds and for "implicit".
    n_unfold : int, default 50
        Number of layers T of the encoder; not used with "implicit".
    step_size : float, optional
        Step size of the layers. Default: 1 / L of the current atoms. A value above 1 / L raises a warning.
    gradient : {"dec", "ae-lasso", "ae-ls"}, default "ae-ls"
        The gradient with respect to the atoms.
    solver : {"ista", "fista"}, default "ista"
        Iteration of the layers.
    differentiate : {"unroll", "last-k", "implicit"}, default "unroll"
        How the encoder is differentiated, see `calepin.solve`.
    last_k, checkpoint_every : int, optional
        See `calepin.solve`.
    decay, decay_drop, decay_every : float, float, int, default 1.0, 0.0, 30
        The penalty is multiplied by beta from layer to layer. beta is `decay` at first and decreases by
        `decay_drop` after every `decay_every` steps.
    optimizer : callable, optional
        A function from a list of parameters to a torch optimiser. Default:
        ``partial(torch.optim.Adam, lr=1e-3)``.
    atom_set : AtomSet, optional
        The set that atoms are projected onto after each step; the unit sphere by default.
    tangent : bool, default False
        Whether the gradient of each atom is projected onto the tangent space of the sphere (Absil, Mahony
        and Sepulchre, 2008, section 3.6.1).
    likelihood : Likelihood, optional
        Family of the samples, Gaussian by default. Its negative log-likelihood is the loss.
    learn_step, learn_threshold : bool, default False
        Whether the step size, common to all layers, and alpha, one weight for each atom, are learned
        together with the atoms. The step size is kept below 2 / L (fista: at most 1 / L), and alpha
        nonnegative. Both need a gradient through the encoder, so not "dec". A smaller alpha gives a
        smaller reconstruction error on the training data. Without noise or early stopping, alpha therefore
        tends to 0.
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
        check_fields(self)
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
                "which does not pass through the encoder"
            )
        if self.learn_step and self.differentiate == "implicit":
            raise ValueError(
                "learn_step: expected False with 'implicit', whose codes do not depend on the step size"
            )
        if self.learn_threshold and not isinstance(self.penalty, L1 | NonNegativeL1):
            raise ValueError(
                "learn_threshold: expected False unless the penalty is L1 or NonNegativeL1, "
                f"got {type(self.penalty).__name__}"
            )

    def init(self, atoms: Any) -> UnfoldedState:
        """Return the initial state with these atoms."""
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
        """Update the atoms in place, and return the objective of each sample before the update.

        For all gradients the objective is the nll (half the squared error for Gaussian data) plus the
        penalty.

        Raises
        ------
        ValueError
            If the batch has a mask, or the step size makes the codes diverge.
        DivergedError
            If the atoms or a gradient contain NaN or infinity.
        """
        if batch.mask is not None:
            raise ValueError("mask: expected None, rule 'unfolded' does not support missing entries")
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
        """Return the codes of X in the current state, exact ones with "implicit", and their objectives."""
        y = torch.as_tensor(X).to(state.atoms)
        penalty, step_size = self._layers(state.learned())
        decay = self.decay_at(state.n_steps)
        encoder = unfolded_encoder(penalty, step_size=step_size, solver=self.solver, decay=decay)
        problem = self._problem(state.atoms, y)
        how = "implicit" if self.differentiate == "implicit" else "unroll"
        codes = unfolded_codes(problem, encoder, n_iter=self.n_unfold, gradient="dec", differentiate=how)
        return codes, objective(problem, Codes(codes), penalty)

    def decay_at(self, n_steps: int) -> float:
        """Return the factor beta in the step with index `n_steps`, counted from 0."""
        return max(self.decay - self.decay_drop * (n_steps // self.decay_every), _SMALLEST_DECAY)

    def _problem(self, atoms: Tensor, y: Tensor) -> Problem:
        return Problem(Dense(atoms), self.likelihood, y)

    def _layers(self, learned: dict[str, Tensor]) -> tuple[Penalty, float | Tensor | None]:
        """Return penalty and step size of the layers, with learned values if there are any."""
        step_size = learned["step_size"][0] if self.learn_step else self.step_size
        penalty: Any = type(self.penalty)
        return (penalty(learned["alpha"]) if self.learn_threshold else self.penalty), step_size

    def _move(self, state: UnfoldedState, gradients: dict[str, Tensor]) -> None:
        # one optimiser per tensor, also for optimisers that couple their parameters
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
