"""The classical rules of dictionary learning: updates of the atoms, given codes.

    minimise over D, z   mean over samples of 0.5 ||x - z D||^2 + penalty(z),   atoms in their set

| rule   | step on a batch                                                | source                   |
| ------ | -------------------------------------------------------------- | ------------------------ |
| online | moments with forgetting, one sweep of block coordinate descent | Mairal et al. 2009       |
| mod    | moments of the whole pass, then D = A^-1 B                     | Engan et al. 1999        |
| ksvd   | each atom and its coefficients by a power step on its residual | Rubinstein et al. 2008   |
| noodl  | D - step (zD - x)^T sign(z) / n, unit atoms                    | Rambhatla et al. 2019    |

A pass goes over all data, or is a part of a stream, such as a call of `partial_fit` with a single sample. In
a stream (``stream=True``) evidence is counted in samples, over several passes if these are short: idle atoms
and the atoms of mod wait until there are enough uses of the atoms, online forgets by the number of samples,
and a small batch moves the atoms of ksvd and noodl only a little.

Missing entries are replaced by the current reconstruction before the atoms are updated. The result is a
majoriser of the objective over the observed entries, so the same updates apply to masked data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.threads import single_threaded_blas
from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batch
from calepin.learning.rule import AtomState, BaseRule, tensor_of, warn_if_vanished
from calepin.learning.rules import _statistics as statistics
from calepin.learning.rules.idle import Idle, IdleReplacement
from calepin.solvers.coders.coder import Coder, penalty_of
from calepin.solvers.coders.encode import dense_problem

__all__ = ["KSVD", "MOD", "NOODL", "ClassicalRule", "ClassicalState", "MomentState", "Online"]

IDLE = IdleReplacement(pool=64, rare=0.05, coherence=0.98)
_SILENT = 32  # samples of a stream that may have no codes
_STREAMED = 512  # samples that together move the atoms of noodl as far as one batch


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

    def past(self) -> dict[str, np.ndarray]:
        """Return the little of the past that a stream needs to go on from the atoms alone."""
        return {}

    def recall(self, past: Mapping[str, np.ndarray]) -> None:
        """Set the past of a new state to that of the state whose `past` method returned the argument."""


@dataclass
class MomentState(ClassicalState):
    """A state with moments of the codes.

    Attributes
    ----------
    A, B : Tensor, shape (p, p) and (p, m)
        Sum of z z^T and sum of z x^T, in float64.
    n_samples : int
        Number of samples in the moments, those partly forgotten included.
    """

    A: Tensor
    B: Tensor
    n_samples: int

    def past(self) -> dict[str, np.ndarray]:
        """Return the sum of the squared codes of each atom, and the number of samples."""
        return {"energy": self.A.diagonal().cpu().numpy().copy(), "n_samples": np.array([self.n_samples])}

    def recall(self, past: Mapping[str, np.ndarray]) -> None:
        """Set diagonal moments, which the atoms of the state minimise."""
        if "energy" in past:
            energy = torch.as_tensor(past["energy"]).to(self.A)
            self.A.copy_(energy.diag())
            self.B.copy_(energy[:, None] * self.atoms)
            self.n_samples = int(past["n_samples"][0])


@dataclass
class SolvedState(MomentState):
    """The state of mod.

    Attributes
    ----------
    solved : bool
        Whether the moments are those of a finished pass.
    """

    solved: bool = False


@dataclass
class EnergyState(ClassicalState):
    """The state of ksvd.

    Attributes
    ----------
    energy : Tensor, shape (p,)
        Sum of the squared codes of each atom, in float64; outside of streams that of the last batch.
    n_samples : int
        Number of samples in these sums, those partly forgotten included.
    """

    energy: Tensor
    n_samples: int

    def past(self) -> dict[str, np.ndarray]:
        """Return the sum of the squared codes of each atom, and the number of samples."""
        return {"energy": self.energy.cpu().numpy().copy(), "n_samples": np.array([self.n_samples])}

    def recall(self, past: Mapping[str, np.ndarray]) -> None:
        """Set these sums."""
        if "energy" in past:
            self.energy.copy_(torch.as_tensor(past["energy"]))
            self.n_samples = int(past["n_samples"][0])


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
    stream : bool, default False
        Whether a pass is a part of a stream and not a pass over all data.
    """

    state: ClassVar[type[ClassicalState]] = ClassicalState

    coder: Coder
    atom_set: AtomSet = field(default_factory=AtomSet)
    replace_every: int | None = 200
    stream: bool = False

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
        state.idle.n_samples += len(X)
        worst = int(error.argmax())
        IDLE.keep(state.idle, X[worst], error[worst])
        self.move(state, codes, X, E)
        state.n_steps += 1
        due = self.replace_every is not None and state.n_steps % self.replace_every == 0
        if due and IDLE.has_enough(state.idle):
            self._forget(state, IDLE.replace(state.idle, state.atoms, self._unit))
        return value

    def move(self, state: Any, codes: Any, X: Tensor, E: Tensor) -> None:
        """Update the atoms in place, given the codes and the residuals E = X - codes @ atoms of a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not define move")

    def end_pass(self, state: Any) -> dict[str, float]:
        """Replace idle atoms, and return the number of atoms replaced during the pass.

        Warns
        -----
        RuntimeWarning
            All codes of the pass, in a stream of some passes, are zero because of the penalty.
        """
        idle = state.idle
        if self.coder.penalty is not None and not (self.stream and idle.n_samples < _SILENT):
            is_coded = idle.n_checks > 0 or bool(idle.usage.any())
            warn_if_vanished(is_coded or idle.pool_error.max() <= 0, of="pass")
        self._forget(state, IDLE.end_pass(state.idle, state.atoms, self._unit, stream=self.stream))
        n_replaced, state.idle.n_replaced = state.idle.n_replaced, 0
        return {"n_replaced": n_replaced}

    def forget(self, state: Any, j: int) -> None:
        """Remove atom `j`, which was replaced, from the statistics of the rule."""

    def _unit(self, atoms: Tensor) -> Tensor:
        return AtomSet("sphere", self.atom_set.nonnegative).project(atoms)

    def _forget(self, state: ClassicalState, replaced: list[int]) -> None:
        for j in replaced:
            self.forget(state, j)


@dataclass(frozen=True)
class _MomentRule(ClassicalRule):
    """A rule that accumulates moments of the codes."""

    state: ClassVar[type[MomentState]] = MomentState

    def init(self, atoms: Any) -> MomentState:
        """Return the initial state with these atoms and zero moments."""
        atoms = tensor_of(atoms)
        return self.state(atoms, IDLE.init(atoms), 0, *statistics.moments(atoms), 0)

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
        the moments do not decay. In a stream, whose batches may have different sizes, t is the number of
        samples so far divided by that of the batch.
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
        if self.stream:
            decay = statistics.decay_of_stream(state.n_samples, len(X), self.forgetting, self.horizon)
        else:
            # Keep part of the past in every step but the first, because a batch may have few samples.
            decay = (1 - 1 / max(2, min(t, self.horizon or t))) ** self.forgetting if t > 1 else 0.0
        if self.horizon is None or t <= self.horizon:
            state.n_samples += len(X)
        statistics.add_moments(state.A, state.B, codes, X, decay=decay)
        statistics.descend(state.atoms, state.A, state.B, self.atom_set)


@dataclass(frozen=True)
class MOD(_MomentRule):
    """Method of optimal directions (Engan et al. 1999), with moments accumulated over a pass.

    In a stream the past moments decay as those of `Online` do.
    """

    name: ClassVar[str] = "mod"
    state: ClassVar[type[MomentState]] = SolvedState

    def move(self, state: SolvedState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Add the batch to the moments; `end_pass` updates the atoms."""
        decay = 1.0
        if self.stream:
            decay = statistics.decay_of_stream(state.n_samples, len(X))
        elif state.solved:
            decay, state.n_samples = 0.0, 0
        state.n_samples, state.solved = state.n_samples + len(X), False
        statistics.add_moments(state.A, state.B, codes, X, decay=decay)

    def end_pass(self, state: SolvedState) -> dict[str, float]:
        """Solve A D = B for the atoms that were used, and project them."""
        if self.stream and state.idle.n_checks == 0 and not IDLE.has_enough(state.idle):
            return super().end_pass(state)
        used = (state.A.diagonal() > 0).nonzero().flatten()
        if len(used):
            gram = state.A[used][:, used].clone()
            # The ridge only matters if the codes of some atoms are linearly dependent.
            gram.diagonal().add_(1e-10 * float(gram.diagonal().mean()))
            solved = self.atom_set.project(_solve(gram, state.B[used]))
            alive = (solved != 0).any(-1)
            state.atoms[used[alive]] = solved[alive].to(state.atoms.dtype)
        state.solved = True
        return super().end_pass(state)


@dataclass(frozen=True)
class KSVD(ClassicalRule):
    """Approximate K-SVD (Rubinstein, Zibulevsky and Elad 2008).

    An update of an atom depends only on the samples of the batch that use it. Batches should therefore be
    large: all samples, if they fit into memory. In a stream an atom becomes the mean of its past and of this
    update, weighted by the squared codes of both; the past decays as that of `Online` does.
    """

    name: ClassVar[str] = "ksvd"
    state: ClassVar[type[ClassicalState]] = EnergyState
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere"))

    def init(self, atoms: Any) -> EnergyState:
        """Return the initial state with these atoms and no past."""
        atoms = tensor_of(atoms)
        energy = torch.zeros(len(atoms), dtype=torch.float64, device=atoms.device)
        return EnergyState(atoms, IDLE.init(atoms), 0, energy, 0)

    def move(self, state: EnergyState, codes: Any, X: Tensor, E: Tensor) -> None:
        """Do one sweep over the atoms and their coefficients."""
        past = state.atoms.clone() if self.stream else None
        energy = statistics.energy(codes)
        nonnegative = bool(self.coder.nonnegative)
        statistics.ksvd_update(state.atoms, codes, E, self.atom_set, nonnegative_codes=nonnegative)
        if past is None:
            state.energy, state.n_samples = energy, len(X)
            return
        state.energy *= statistics.decay_of_stream(state.n_samples, len(X))
        state.energy += energy
        share = (energy / state.energy.clamp_min(torch.finfo(energy.dtype).tiny)).to(past.dtype)
        state.atoms.copy_(self.atom_set.project(past + share[:, None] * (state.atoms - past)))
        state.n_samples += len(X)

    def forget(self, state: EnergyState, j: int) -> None:
        """Forget the past of atom `j`, which was replaced."""
        state.energy[j] = 0


@dataclass(frozen=True)
class NOODL(ClassicalRule):
    """Neurally plausible online dictionary learning (Rambhatla, Li and Haupt 2019, Algorithm 1).

    Parameters
    ----------
    learning_rate : float, default 1.0
        eta_A of the paper: D <- normalise(D - eta_A sign(z)^T (z D - x) / n). In a stream n, the number of
        samples of the batch, is at least 512.
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
        n_samples = max(len(X), _STREAMED) if self.stream else len(X)
        moved = self.atom_set.project(state.atoms + (self.learning_rate / n_samples) * gradient)
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
