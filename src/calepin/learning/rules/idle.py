"""Atoms that nothing uses, and what takes their place: the samples, or windows, that are explained worst."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from calepin.learning.rule import State

__all__ = ["Idle", "IdleReplacement", "find_idle"]


@dataclass
class Idle(State):
    """Use of the atoms, and a pool of what is explained badly, since atoms were last looked for.

    Attributes
    ----------
    usage : ndarray of int64, shape (n_components,)
        Nonzero coefficients of each atom.
    pool : Tensor, shape (pool, ...)
        Badly explained samples or windows, of the shape of an atom.
    pool_error : ndarray of float64, shape (pool,)
        Their squared errors, -1 where nothing is kept.
    n_replaced : int
        Atoms replaced in the pass under way.
    """

    usage: np.ndarray
    pool: Tensor
    pool_error: np.ndarray
    n_replaced: int = 0


@dataclass(frozen=True)
class IdleReplacement:
    """When an atom counts as idle, and what takes its place.

    Parameters
    ----------
    pool : int
        Badly explained samples that are kept.
    rare : float
        An atom used less than this fraction of the mean use is idle.
    coherence : float
        Of two atoms with a larger absolute inner product, relative to their norms, one is idle.
    """

    pool: int
    rare: float
    coherence: float

    def init(self, atoms: Tensor) -> Idle:
        """Return empty counts and an empty pool."""
        return Idle(
            np.zeros(len(atoms), dtype=np.int64),
            atoms.new_zeros(self.pool, *atoms.shape[1:]),
            np.full(self.pool, -1.0),
        )

    def keep(self, idle: Idle, sample: Tensor, error: float) -> None:
        """Keep a sample if it is explained worse than one of the pool; to be called once a step.

        One sample a step keeps the pool varied: the worst of one batch resemble one another.
        """
        weakest = int(idle.pool_error.argmin())
        if error > idle.pool_error[weakest]:
            idle.pool[weakest] = sample
            idle.pool_error[weakest] = error

    def replace(self, idle: Idle, atoms: Tensor, project: Callable[[Tensor], Tensor]) -> list[int]:
        """Replace idle atoms, in place, by what is explained worst; return which, and count anew.

        `project` maps candidates (1, ...) to atoms; one without a direction is skipped.
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
        idle.usage[:] = 0
        idle.pool_error[:] = -1.0
        return replaced


def find_idle(atoms: np.ndarray, usage: np.ndarray, *, rare: float, coherence: float) -> np.ndarray:
    """Return the indices of atoms that hardly any sample used, or that a more used atom nearly equals.

    Parameters
    ----------
    atoms : array (n_components, n_features)
        The atoms.
    usage : array (n_components,)
        Samples that used each.
    rare : float
        An atom is idle below this fraction of the mean usage.
    coherence : float
        Two atoms whose inner product, relative to their norms, is larger in magnitude are one.
    """
    norms = np.linalg.norm(atoms, axis=1)
    directions = atoms / np.maximum(norms, np.finfo(np.float32).tiny)[:, None]
    rank = np.empty(len(atoms), dtype=np.int64)
    rank[np.argsort(-usage, kind="stable")] = np.arange(len(atoms))
    twins = (np.abs(directions @ directions.T) > coherence) & (rank[None, :] < rank[:, None])
    return np.flatnonzero((usage <= rare * usage.mean()) | (norms == 0) | twins.any(axis=1))
