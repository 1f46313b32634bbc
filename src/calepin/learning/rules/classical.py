"""The classical rules of dictionary learning: updates of the atoms, given codes.

    minimise over D, z   mean over samples of 0.5 ||x - z D||^2 + penalty(z),   atoms in their set

| rule   | step on a batch                                                | source                   |
| ------ | -------------------------------------------------------------- | ------------------------ |
| online | moments with forgetting, one sweep of block coordinate descent | Mairal et al. 2009       |
| mod    | moments of the whole pass, then D = A^-1 B                     | Engan et al. 1999        |
| ksvd   | each atom and its coefficients by a power step on its residual | Rubinstein et al. 2008   |
| noodl  | D - step (zD - x)^T sign(z) / n, unit atoms                    | Rambhatla et al. 2019    |

Missing entries are replaced by the current reconstruction before the atoms are updated. The result is a
majoriser of the objective over the observed entries, so the same updates apply to masked data.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.threads import single_threaded_blas
from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batch
from calepin.learning.rule import AtomState, BaseRule, tensor_of
from calepin.learning.rules import _statistics as statistics
from calepin.learning.rules.idle import Idle, IdleReplacement
from calepin.solvers.coders.coder import Coder, penalty_of
from calepin.solvers.coders.encode import dense_problem

__all__ = ["KSVD", "MOD", "NOODL", "ClassicalRule", "ClassicalState", "MomentState", "Online"]

IDLE = IdleReplacement(pool=64, rare=0.05, coherence=0.98)


@dataclass
class ClassicalState(AtomState):
    """Atoms, the statistics of idle atoms, and the number of steps.

    Attributes
    ----------
    atoms : Tensor, shape (n_components, n_features)
        The dictionary.
    idle : Idle
        Usage of the atoms, and poorly represented samples.
    n_steps : int
        Number of batches so far.
    """

    idle: Idle
    n_steps: int


@dataclass
class MomentState(ClassicalState):
    """A state with moments of the codes.

    Attributes
    ----------
    A, B : Tensor, shape (p, p) and (p, m)
        Sum of z z^T and sum of z x^T, in float64.
    """

    A: Tensor
    B: Tensor


@dataclass(frozen=True)
class ClassicalRule(BaseRule):
    """Base class of the classical rules: coding, objective, missing entries, replacement of idle atoms.

    Parameters
    ----------
    coder : Coder
        Computes the codes.
    atom_set : AtomSet, optional
        The set that atoms are projected onto.
    replace_every : int or None, default 200
        Number of steps between two replacements of idle atoms. They are also replaced at the end of every
        pass. None: only there.
    """

    state: ClassVar[type[ClassicalState]] = ClassicalState

    coder: Coder
    atom_set: AtomSet = field(default_factory=AtomSet)
    replace_every: int | None = 200

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, atoms: Any) -> ClassicalState:
        """Return the initial state with these atoms, (n_components, n_features)."""
        atoms = tensor_of(atoms)
        return ClassicalState(atoms, IDLE.init(atoms), 0)

    @single_threaded_blas()
    def step(self, state: ClassicalState, batch: Batch) -> np.ndarray:
        """Code a batch, update the atoms in place; return the objective of each sample before the update."""
        atoms = state.atoms
        X = torch.as_tensor(batch.X)
        observed = None if batch.mask is None else torch.as_tensor(batch.mask)
        codes = self.coder.encode(dense_problem(X, atoms, observed)).values
        if isinstance(codes, Tensor):
            codes = codes.detach()
        E = _observed_residual(codes, X, atoms, observed)
        if observed is not None:
            X = E + statistics.residual(-codes, torch.zeros_like(E), atoms)  # missing entries filled
        error = (E * E).sum(-1).double().cpu().numpy()
        value = 0.5 * error + penalty_of(self.coder.penalty, codes)
        state.idle.usage += statistics.usage(codes)
        worst = int(error.argmax())
        IDLE.keep(state.idle, X[worst], error[worst])
        self.move(state, codes, X, E)
        state.n_steps += 1
        if self.replace_every is not None and state.n_steps % self.replace_every == 0:
            self._replace_idle(state)
        return value

    def move(self, state: Any, codes: Any, X: Tensor, E: Tensor) -> None:
        """Update the atoms in place, given the codes and the residuals E = X - codes @ atoms of a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not define move")

    def end_pass(self, state: Any) -> dict[str, float]:
        """Replace idle atoms, and return the number of atoms replaced during the pass."""
        self._replace_idle(state)
        n_replaced, state.idle.n_replaced = state.idle.n_replaced, 0
        return {"n_replaced": n_replaced}

    def forget(self, state: Any, j: int) -> None:
        """Remove atom `j`, which was replaced, from the statistics of the rule."""

    def _replace_idle(self, state: ClassicalState) -> None:
        sphere = AtomSet("sphere", self.atom_set.nonnegative)
        for j in IDLE.replace(state.idle, state.atoms, sphere.project):
            self.forget(state, j)


@dataclass(frozen=True)
class _MomentRule(ClassicalRule):
    """A rule that accumulates moments of the codes."""

    state: ClassVar[type[ClassicalState]] = MomentState

    def init(self, atoms: Any) -> MomentState:
        """Return the initial state with these atoms and zero moments."""
        atoms = tensor_of(atoms)
        return MomentState(atoms, IDLE.init(atoms), 0, *statistics.moments(atoms))

    def forget(self, state: MomentState, j: int) -> None:
        """Set the moments of atom `j`, which was replaced, to zero."""
        state.A[j] = 0
        state.A[:, j] = 0
        state.B[j] = 0


@dataclass(frozen=True)
class Online(_MomentRule):
    """Online dictionary learning (Mairal et al. 2009, Algorithm 1 with mini-batches).

    Parameters
    ----------
    forgetting : float, default 3.0
        Exponent rho of the decay (1 - 1/t)^rho of the past moments at step t (their Section 3.4). With 0
        the moments do not decay.
    horizon : int, optional
        Upper bound of t in this decay, usually the number of steps of a pass, so that codes from earlier
        passes are forgotten. Default: no bound, for streams.
    """

    name: ClassVar[str] = "online"
    forgetting: float = 3.0
    horizon: int | None = None

    def move(self, state: MomentState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Add the batch to the moments, then do one sweep of coordinate descent over the atoms."""
        t = state.n_steps + 1
        # Keep part of the past in every step but the first, because a batch may have few samples.
        decay = (1 - 1 / max(2, min(t, self.horizon or t))) ** self.forgetting if t > 1 else 0.0
        statistics.add_moments(state.A, state.B, codes, X, decay=decay)
        statistics.descend(state.atoms, state.A, state.B, self.atom_set)


@dataclass(frozen=True)
class MOD(_MomentRule):
    """Method of optimal directions (Engan et al. 1999), with moments accumulated over a pass."""

    name: ClassVar[str] = "mod"

    def move(self, state: MomentState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Add the batch to the moments; `end_pass` updates the atoms."""
        statistics.add_moments(state.A, state.B, codes, X)

    def end_pass(self, state: MomentState) -> dict[str, float]:
        """Solve A D = B for the atoms that were used, project them, and reset the moments."""
        used = (state.A.diagonal() > 0).nonzero().flatten()
        if len(used):
            gram = state.A[used][:, used].clone()
            # The ridge only matters if the codes of some atoms are linearly dependent.
            gram.diagonal().add_(1e-10 * float(gram.diagonal().mean()))
            solved = self.atom_set.project(_solve(gram, state.B[used]))
            alive = (solved != 0).any(-1)
            state.atoms[used[alive]] = solved[alive].to(state.atoms.dtype)
        state.A *= 0
        state.B *= 0
        return super().end_pass(state)


@dataclass(frozen=True)
class KSVD(ClassicalRule):
    """Approximate K-SVD (Rubinstein, Zibulevsky and Elad 2008).

    An update of an atom depends only on the samples of the batch that use it. Batches should therefore be
    large: all samples, if they fit into memory.
    """

    name: ClassVar[str] = "ksvd"
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere"))

    def move(self, state: ClassicalState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Do one sweep over the atoms and their coefficients."""
        nonnegative = bool(self.coder.nonnegative)
        statistics.ksvd_update(state.atoms, codes, E, self.atom_set, nonnegative_codes=nonnegative)


@dataclass(frozen=True)
class NOODL(ClassicalRule):
    """Neurally plausible online dictionary learning (Rambhatla, Li and Haupt 2019, Algorithm 1).

    Parameters
    ----------
    learning_rate : float, default 1.0
        eta_A of the paper: D <- normalise(D - eta_A sign(z)^T (z D - x) / n).
    """

    name: ClassVar[str] = "noodl"
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere"))
    learning_rate: float = 1.0

    def move(self, state: ClassicalState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Take a gradient step with the signs of the codes, and normalise the atoms."""
        signs = codes.sign()
        if isinstance(signs, Tensor):
            gradient = signs.T @ E
        else:
            with single_threaded_blas():
                gradient = torch.from_numpy(signs.T @ E.numpy())
        moved = self.atom_set.project(state.atoms + (self.learning_rate / len(X)) * gradient)
        state.atoms.copy_(moved)


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    if gram.device.type != "cpu":
        return torch.linalg.solve(gram, right)
    with single_threaded_blas():
        return torch.from_numpy(np.linalg.solve(gram.numpy(), right.numpy()))


def _observed_residual(codes: Any, X: Tensor, atoms: Tensor, observed: Tensor | None) -> Tensor:
    if observed is None:
        return statistics.residual(codes, X, atoms)
    # Not X * observed, because a missing entry may be NaN.
    return statistics.residual(codes, torch.where(observed, X, 0), atoms) * observed
