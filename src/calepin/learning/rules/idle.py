"""Replacement of idle atoms by the samples, or windows of signals, with the largest residuals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from calepin.learning.rule import State

__all__ = ["Idle", "IdleReplacement", "find_idle"]


@dataclass
class Idle(State):
    """Usage of the atoms, and a pool of poorly represented samples, since the last replacement.

    Attributes
    ----------
    usage : ndarray of int64, shape (n_components,)
        Number of nonzero coefficients of each atom.
    pool : Tensor, shape (pool, ...)
        Poorly represented samples or windows, of the shape of an atom.
    pool_error : ndarray of float64, shape (pool,)
        Squared errors of the samples in the pool; -1 marks an empty slot.
    n_replaced : int
        Number of atoms replaced in the current pass.
    n_checks : int
        Number of times that idle atoms were replaced, if there were any, in the current pass.
    n_samples : int
        Number of samples since the last replacement, where the rule counts them.
    """

    usage: np.ndarray
    pool: Tensor
    pool_error: np.ndarray
    n_replaced: int = 0
    n_checks: int = 0
    n_samples: int = 0


@dataclass(frozen=True)
class IdleReplacement:
    """Detection of idle atoms, and their replacement by poorly represented samples.

    Parameters
    ----------
    pool : int
        Number of poorly represented samples in the pool.
    rare : float
        An atom is idle if its usage is at most this fraction of the mean usage.
    coherence : float
        If the absolute cosine of two atoms is above this value, the less used one is idle.

    Notes
    -----
    An atom that is used as often as the others may by chance be missing from a few samples. Atoms are
    therefore called idle after a pass over all data, or when the mean usage is at least ``1 / rare``.
    """

    pool: int
    rare: float
    coherence: float

    def init(self, atoms: Tensor) -> Idle:
        """Return zero counts and an empty pool."""
        return Idle(
            np.zeros(len(atoms), dtype=np.int64),
            atoms.new_zeros(self.pool, *atoms.shape[1:]),
            np.full(self.pool, -1.0),
        )

    def keep(self, idle: Idle, sample: Tensor, error: float) -> None:
        """Put a sample into the pool if its error is larger than the smallest one there.

        To be called with one sample per step, because the worst samples of one batch are often similar.
        """
        weakest = int(idle.pool_error.argmin())
        if error > idle.pool_error[weakest]:
            idle.pool[weakest] = sample
            idle.pool_error[weakest] = error

    def has_enough(self, idle: Idle) -> bool:
        """Return whether enough uses were counted to tell an idle atom from a rare one."""
        return self.rare * float(idle.usage.mean()) >= 1

    def end_pass(
        self, idle: Idle, atoms: Tensor, project: Callable[[Tensor], Tensor], *, stream: bool
    ) -> list[int]:
        """Replace idle atoms if the count covers a whole pass or enough uses; otherwise it is continued.

        In a `stream` a pass is a part of the data, which may be a single sample.
        """
        whole = idle.n_checks == 0 and not stream
        replaced = self.replace(idle, atoms, project) if whole or self.has_enough(idle) else []
        idle.n_checks = 0
        return replaced

    def replace(self, idle: Idle, atoms: Tensor, project: Callable[[Tensor], Tensor]) -> list[int]:
        """Replace idle atoms by the worst samples of the pool, in place; return the indices of these atoms.

        Afterwards the counts are zero and the pool is empty. `project` maps candidates (1, ...) to atoms. A
        candidate whose projection is zero is skipped.
        """
        flat = atoms.detach().flatten(1).cpu().numpy()
        candidates = find_idle(flat, idle.usage, rare=self.rare, coherence=self.coherence)
        order = np.argsort(-idle.pool_error, kind="stable")
        worst = order[idle.pool_error[order] > 0]
        replaced = []
        for j, source in zip(candidates.tolist(), worst.tolist(), strict=False):
            new = project(idle.pool[[source]])[0]
            if not bool(new.any()):
                continue
            atoms[j] = new
            replaced.append(j)
        idle.n_replaced += len(replaced)
        idle.n_checks += 1
        idle.n_samples = 0
        idle.usage[:] = 0
        idle.pool_error[:] = -1.0
        return replaced


def find_idle(atoms: np.ndarray, usage: np.ndarray, *, rare: float, coherence: float) -> np.ndarray:
    """Return the indices of atoms that are rarely used, or nearly equal to an atom that is used more.

    Parameters
    ----------
    atoms : array (n_components, n_features)
        The dictionary.
    usage : array (n_components,)
        Number of samples that used each atom.
    rare : float
        An atom is idle if its usage is at most this fraction of the mean usage.
    coherence : float
        Two atoms are considered equal if the absolute value of their cosine is above this value.
    """
    norms = np.linalg.norm(atoms, axis=1)
    directions = atoms / np.maximum(norms, np.finfo(np.float32).tiny)[:, None]
    rank = np.empty(len(atoms), dtype=np.int64)
    rank[np.argsort(-usage, kind="stable")] = np.arange(len(atoms))
    twins = (np.abs(directions @ directions.T) > coherence) & (rank[None, :] < rank[:, None])
    return np.flatnonzero((usage <= rare * usage.mean()) | (norms == 0) | twins.any(axis=1))
