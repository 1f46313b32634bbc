"""The classical rules: how atoms move, given codes. Each is a frozen value that the loop plugs in.

    minimise over D, z   mean over samples of 0.5 ||x - z D||^2 + penalty(z),   atoms in their set

| rule   | a step on a batch                                              | source                   |
| ------ | -------------------------------------------------------------- | ------------------------ |
| online | moments with forgetting, one sweep of block coordinate descent | Mairal et al. 2009       |
| mod    | moments of the whole pass, then D = A^-1 B                     | Engan et al. 1999        |
| ksvd   | each atom and its coefficients by a power step on its residual | Rubinstein et al. 2008   |
| noodl  | D - step (zD - x)^T sign(z) / n, unit atoms                    | Rambhatla et al. 2019    |

Missing entries are filled with the current reconstruction before atoms move, which majorises the
objective over the observed entries: the same updates then work for masked data.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

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
    """Atoms, use of them, and the number of steps."""

    idle: Idle
    n_steps: int


@dataclass
class MomentState(ClassicalState):
    """Also A and B: sums of z z^T, (p, p), and of z x^T, (p, m), in float64."""

    A: Tensor
    B: Tensor


@dataclass(frozen=True)
class ClassicalRule(BaseRule):
    """What the rules share: coding, the objective, missing entries, replacement of idle atoms.

    Parameters
    ----------
    coder : Coder
        Finds the codes.
    atom_set : AtomSet
        The set that atoms are projected on.
    replace_every : int, optional
        Steps after which idle atoms are looked for, beside the end of every pass; None: only there.
    """

    state: ClassVar[type[ClassicalState]] = ClassicalState

    coder: Coder
    atom_set: AtomSet = field(default_factory=AtomSet)
    replace_every: int | None = 200

    def init(self, atoms: Any) -> ClassicalState:
        """Return the state of a run that begins with these atoms, (n_components, n_features)."""
        atoms = tensor_of(atoms)
        return ClassicalState(atoms, IDLE.init(atoms), 0)

    def step(self, state: ClassicalState, batch: Batch) -> np.ndarray:
        """Code a batch, move the atoms in place, and return each sample's objective before the move."""
        atoms = state.atoms
        X = torch.as_tensor(batch.X)
        observed = None if batch.mask is None else torch.as_tensor(batch.mask)
        codes = self.coder.encode(dense_problem(X, atoms, observed)).values
        if isinstance(codes, Tensor):
            codes = codes.detach()
        E = _observed_residual(codes, X, atoms, observed)
        if observed is not None:
            X = E + statistics.residual(-codes, torch.zeros_like(E), atoms)  # observed, or its reconstruction
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
        """Move the atoms, given codes and residuals E = X - codes atoms of a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not define move")

    def end_pass(self, state: Any) -> dict[str, float]:
        """Replace idle atoms, and report how many of the pass were."""
        self._replace_idle(state)
        n_replaced, state.idle.n_replaced = state.idle.n_replaced, 0
        return {"n_replaced": n_replaced}

    def forget(self, state: Any, j: int) -> None:
        """Drop what the rule's statistics say of an atom that was replaced."""

    def _replace_idle(self, state: ClassicalState) -> None:
        sphere = AtomSet("sphere", self.atom_set.nonnegative)
        for j in IDLE.replace(state.idle, state.atoms, sphere.project):
            self.forget(state, j)


@dataclass(frozen=True)
class _MomentRule(ClassicalRule):
    """A rule whose statistics are moments."""

    state: ClassVar[type[ClassicalState]] = MomentState

    def init(self, atoms: Any) -> MomentState:
        """Return the state of a run that begins with these atoms, without moments."""
        atoms = tensor_of(atoms)
        return MomentState(atoms, IDLE.init(atoms), 0, *statistics.moments(atoms))

    def forget(self, state: MomentState, j: int) -> None:
        """Drop the moments of an atom that was replaced."""
        state.A[j] = 0
        state.A[:, j] = 0
        state.B[j] = 0


@dataclass(frozen=True)
class Online(_MomentRule):
    """Online dictionary learning (Mairal et al. 2009, Algorithm 1 with mini-batches).

    Parameters
    ----------
    forgetting : float
        Exponent rho of the decay (1 - 1/t)^rho of the past moments at step t (their Section 3.4);
        0 never forgets.
    horizon : int, optional
        Largest t in that decay: the steps of a pass, where the same samples come again and their
        old codes should no longer count. Default: none, for streams.
    """

    name: ClassVar[str] = "online"
    forgetting: float = 3.0
    horizon: int | None = None

    def move(self, state: MomentState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Add the batch to the moments, then sweep once over the atoms."""
        t = state.n_steps + 1
        # Never all of the past: one step may hold few samples.
        decay = (1 - 1 / max(2, min(t, self.horizon or t))) ** self.forgetting if t > 1 else 0.0
        statistics.add_moments(state.A, state.B, codes, X, decay=decay)
        statistics.descend(state.atoms, state.A, state.B, self.atom_set)


@dataclass(frozen=True)
class MOD(_MomentRule):
    """Method of optimal directions (Engan et al. 1999), over moments summed through a pass."""

    name: ClassVar[str] = "mod"

    def move(self, state: MomentState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Only sum: atoms move at the end of the pass."""
        statistics.add_moments(state.A, state.B, codes, X)

    def end_pass(self, state: MomentState) -> dict[str, float]:
        """Solve A D = B for the used atoms, project, and start the sums anew."""
        used = (state.A.diagonal() > 0).nonzero().flatten()
        if len(used):
            gram = state.A[used][:, used].clone()
            # The ridge only matters for atoms whose users are no more than themselves.
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

    An atom moves by the samples of the batch that use it, so batches should be large: all samples,
    where memory holds them.
    """

    name: ClassVar[str] = "ksvd"
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere"))

    def move(self, state: ClassicalState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Sweep once over the atoms and their coefficients."""
        nonnegative = bool(self.coder.nonnegative)
        statistics.ksvd_update(state.atoms, codes, E, self.atom_set, nonnegative_codes=nonnegative)


@dataclass(frozen=True)
class NOODL(ClassicalRule):
    """Neurally plausible online dictionary learning (Rambhatla, Li and Haupt 2019, Algorithm 1).

    Parameters
    ----------
    learning_rate : float
        eta_A of the paper: D <- normalise(D - eta_A sign(z)^T (z D - x) / n).
    """

    name: ClassVar[str] = "noodl"
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere"))
    learning_rate: float = 1.0

    def move(self, state: ClassicalState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Step along the sign gradient and normalise."""
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
    # Not X * observed: a missing entry may hold NaN.
    return statistics.residual(codes, torch.where(observed, X, 0), atoms) * observed
