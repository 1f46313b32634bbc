"""The classical rules: how atoms move, given codes. Each is a frozen value that the loop plugs in.

    minimise over D, z   mean over samples of 0.5 ||x - z D||^2 + penalty(z),   atoms in their set

| rule   | a step on a batch                                              | source                   |
| ------ | -------------------------------------------------------------- | ------------------------ |
| online | moments with forgetting, one sweep of block coordinate descent | Mairal et al. 2009       |
| mod    | moments of the whole pass, then D = A^-1 B                     | Engan et al. 1999        |
| ksvd   | each atom and its coefficients by a power step on its residual | Rubinstein et al. 2008   |
| noodl  | D - step (zD - x)^T sign(z) / n, unit atoms                    | Rambhatla et al. 2019    |

Missing entries are filled with the current reconstruction before atoms move, which majorises the
objective over the observed entries: the same updates then serve masked data.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from calepin.learning.atoms import AtomSet, find_idle
from calepin.learning.batches import Batch
from calepin.learning.rules import _statistics as statistics

__all__ = ["KSVD", "MOD", "NOODL", "ClassicalRule", "Coder", "Online"]

POOL = 64  # badly represented samples kept at hand to replace idle atoms
RARE = 0.05  # an atom used less than this share of the mean serves nobody
COHERENCE = 0.98  # two atoms with a larger absolute inner product are one


class Coder(Protocol):
    """Finds the codes of samples, given the atoms; a frozen dataclass."""

    def encode(self, X: Any, atoms: Any, mask: Any = None) -> Any:
        """Return codes (n, n_components): CSR for arrays, dense for tensors."""
        ...

    def penalty(self, codes: Any) -> Any:
        """Return the penalty of each code, shape (n,)."""
        ...


@dataclass(frozen=True)
class ClassicalRule:
    """What the rules share: coding, the objective, missing entries, replacement of idle atoms.

    Parameters
    ----------
    coder : Coder
        Finds the codes.
    atom_set : AtomSet
        The set that atoms are projected on.
    replace_every : int
        Steps after which idle atoms are looked for, beside the end of every pass.
    """

    name: ClassVar[str]

    coder: Coder
    atom_set: AtomSet = field(default_factory=AtomSet)
    replace_every: int = 200

    def init(self, atoms: Any) -> dict[str, Any]:
        """Return the arrays that learning carries from step to step."""
        pool = atoms[:1] * 0
        state = {
            "atoms": atoms,
            "usage": np.zeros(len(atoms), dtype=np.int64),
            "pool": pool.repeat(POOL, 1) if isinstance(pool, torch.Tensor) else pool.repeat(POOL, 0),
            "pool_error": np.full(POOL, -1.0),
        }
        return state | self.init_statistics(atoms)

    def init_statistics(self, atoms: Any) -> dict[str, Any]:
        """Return the rule's own arrays."""
        return {}

    def step(self, arrays: dict[str, Any], batch: Batch) -> np.ndarray:
        """Code a batch, move the atoms in place, and return each sample's objective before the move."""
        X, atoms = batch.X, arrays["atoms"]
        codes = self.coder.encode(X, atoms, batch.mask)
        E = _observed_residual(codes, X, atoms, batch.mask)
        if batch.mask is not None:
            X = E + statistics.residual(-codes, E * 0, atoms)  # observed, or its reconstruction
        error = _energy(E)
        arrays["usage"] += _usage(codes)
        self._keep_worst(arrays, X, error)
        value = 0.5 * error + _to_numpy(self.coder.penalty(codes))
        self.move(arrays, codes, X, E)
        return value

    def move(self, arrays: dict[str, Any], codes: Any, X: Any, E: Any) -> None:
        """Move the atoms, given codes and residuals E = X - codes atoms of a batch."""
        raise NotImplementedError

    def end_pass(self, arrays: dict[str, Any]) -> None:
        """Do what a rule does once per pass over the data."""

    def replace_idle(self, arrays: dict[str, Any]) -> int:
        """Replace atoms that no sample used, or twins of others, by the worst represented samples.

        Returns how many, and starts counting anew.
        """
        atoms, usage = arrays["atoms"], arrays["usage"]
        idle = find_idle(_to_numpy(atoms), usage, rare=RARE, coherence=COHERENCE)
        order = np.argsort(-arrays["pool_error"], kind="stable")
        worst = order[arrays["pool_error"][order] > 0]
        n_replaced = 0
        for j, source in zip(idle, worst, strict=False):
            new = AtomSet("sphere", self.atom_set.nonnegative).project(arrays["pool"][[source]])[0]
            if not new.any():
                continue
            atoms[j] = new
            self.forget_atom(arrays, int(j))
            n_replaced += 1
        usage[:] = 0
        arrays["pool_error"][:] = -1.0
        return n_replaced

    def forget_atom(self, arrays: dict[str, Any], j: int) -> None:
        """Drop what the rule's statistics say of an atom that was replaced."""
        for name in arrays.keys() & {"A", "B"}:
            arrays[name][j] = 0
        if "A" in arrays:
            arrays["A"][:, j] = 0

    def settings(self) -> dict[str, Any]:
        """Return the rule as JSON, to recognise a checkpoint of another run."""
        return {
            "rule": self.name,
            **asdict(self),
            "coder": {type(self.coder).__name__: vars(self.coder)},
        }

    def _keep_worst(self, arrays: dict[str, Any], X: Any, error: np.ndarray) -> None:
        # One sample a step keeps the pool varied: the worst of one batch resemble one another.
        worst, weakest = int(error.argmax()), int(arrays["pool_error"].argmin())
        if error[worst] > arrays["pool_error"][weakest]:
            arrays["pool"][weakest] = X[worst]
            arrays["pool_error"][weakest] = error[worst]


@dataclass(frozen=True)
class Online(ClassicalRule):
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

    def init_statistics(self, atoms: Any) -> dict[str, Any]:
        """Return A, B and the number of steps."""
        A, B = statistics.moments(atoms)
        return {"A": A, "B": B, "t": np.zeros(1, dtype=np.int64)}

    def move(self, arrays: dict[str, Any], codes: Any, X: Any, E: Any) -> None:
        """Add the batch to the moments, then sweep once over the atoms."""
        arrays["t"] += 1
        t = int(arrays["t"][0])
        # Never all of the past: one step may hold few samples.
        decay = (1 - 1 / max(2, min(t, self.horizon or t))) ** self.forgetting if t > 1 else 0.0
        statistics.add_moments(arrays["A"], arrays["B"], codes, X, decay=decay)
        statistics.descend(arrays["atoms"], arrays["A"], arrays["B"], self.atom_set)


@dataclass(frozen=True)
class MOD(ClassicalRule):
    """Method of optimal directions (Engan et al. 1999), over moments summed through a pass."""

    name: ClassVar[str] = "mod"

    def init_statistics(self, atoms: Any) -> dict[str, Any]:
        """Return A and B."""
        A, B = statistics.moments(atoms)
        return {"A": A, "B": B}

    def move(self, arrays: dict[str, Any], codes: Any, X: Any, E: Any) -> None:
        """Only sum: atoms move at the end of the pass."""
        statistics.add_moments(arrays["A"], arrays["B"], codes, X)

    def end_pass(self, arrays: dict[str, Any]) -> None:
        """Solve A D = B for the used atoms, project, and start the sums anew."""
        atoms, A, B = arrays["atoms"], arrays["A"], arrays["B"]
        used = _to_numpy(A.diagonal() > 0).nonzero()[0]
        if len(used):
            library = torch.linalg if isinstance(A, torch.Tensor) else np.linalg
            gram = A[used][:, used]
            # The ridge only serves atoms whose users are no more than themselves.
            ridge = 1e-10 * float(gram.diagonal().mean())
            gram[range(len(used)), range(len(used))] += ridge
            with statistics.single_threaded_blas():
                solved = self.atom_set.project(library.solve(gram, B[used]))
            alive = _to_numpy((solved != 0).any(-1))
            atoms[used[alive]] = _cast(solved[alive], atoms)
        A *= 0
        B *= 0


@dataclass(frozen=True)
class KSVD(ClassicalRule):
    """Approximate K-SVD (Rubinstein, Zibulevsky and Elad 2008).

    An atom moves by the samples of the batch that use it, so batches should be large: all samples,
    where memory holds them.
    """

    name: ClassVar[str] = "ksvd"
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere"))

    def move(self, arrays: dict[str, Any], codes: Any, X: Any, E: Any) -> None:
        """Sweep once over the atoms and their coefficients."""
        positive = bool(getattr(self.coder, "positive", False))
        statistics.ksvd_update(arrays["atoms"], codes, E, self.atom_set, positive_code=positive)


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

    def move(self, arrays: dict[str, Any], codes: Any, X: Any, E: Any) -> None:
        """Step along the sign gradient and normalise."""
        signs = codes.sign()
        with statistics.single_threaded_blas():
            gradient = signs.T @ E
        atoms = arrays["atoms"]
        atoms[:] = self.atom_set.project(atoms + (self.learning_rate / len(X)) * gradient)


def _observed_residual(codes: Any, X: Any, atoms: Any, mask: Any) -> Any:
    if mask is None:
        return statistics.residual(codes, X, atoms)
    return statistics.residual(codes, _zero_missing(X, mask), atoms) * mask


def _energy(E: Any) -> np.ndarray:
    return _to_numpy((E * E).sum(-1)).astype(np.float64)


def _zero_missing(X: Any, mask: Any) -> Any:
    # Not X * mask: a missing entry may hold NaN.
    return torch.where(mask, X, 0) if isinstance(X, torch.Tensor) else np.where(mask, X, X.dtype.type(0))


def _usage(codes: Any) -> np.ndarray:
    if isinstance(codes, torch.Tensor):
        return (codes != 0).sum(0).cpu().numpy()
    return np.bincount(codes.indices[codes.data != 0], minlength=codes.shape[1])


def _to_numpy(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def _cast(values: Any, like: Any) -> Any:
    return values.to(like.dtype) if isinstance(values, torch.Tensor) else values.astype(like.dtype)
