"""Initialisation of atoms, and the sets that they are projected onto."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.arrays import as_array
from calepin.core.checks import check_integer
from calepin.learning.batches import Batches

__all__ = ["AtomSet", "dct_atoms", "initial_atoms"]


@dataclass(frozen=True)
class AtomSet:
    """The set of admissible atoms: the unit ball or the unit sphere, possibly nonnegative.

    The lasso needs bounded atoms: growing atoms allow ever smaller codes, and the penalty would vanish.
    Pursuits and NOODL assume atoms of unit norm.

    Parameters
    ----------
    shape : {"ball", "sphere"}, default "ball"
        Norm of at most 1, or of exactly 1.
    nonnegative : bool, default False
        Whether the entries of atoms must be nonnegative.
    """

    shape: Literal["ball", "sphere"] = "ball"
    nonnegative: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def project(self, atoms: Any) -> Any:
        """Return the projection of atoms (n_components, n_features) onto the set, a new array or tensor.

        A zero atom stays zero. In a nonnegative set an atom without positive entries becomes zero. An atom
        whose squared norm overflows becomes NaN.
        """
        if not isinstance(atoms, Tensor | np.ndarray) or atoms.ndim == 0:
            raise TypeError(f"atoms: expected an array or a tensor of atoms, got {atoms!r:.60}")
        if isinstance(atoms, Tensor) and atoms.is_complex():
            raise ValueError(f"atoms: expected real numbers, got {atoms.dtype}")
        if self.nonnegative:
            atoms = atoms.clip(min=0)
        squares: Any = atoms * atoms
        norms = squares.sum(-1, keepdims=True) ** 0.5
        norms[norms == np.inf] = np.nan  # too large to be squared is not zero; rules raise DivergedError
        smallest = 1.0 if self.shape == "ball" else np.finfo(np.float32).tiny
        return atoms / norms.clip(min=smallest)


def initial_atoms(
    n_components: int,
    data: Batches,
    *,
    init: str | np.ndarray | Tensor,
    atom_set: AtomSet,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return initial atoms (n_components, n_features) of unit norm.

    Parameters
    ----------
    n_components : int
        Number of atoms.
    data : Batches
        Source of the samples; it also determines the number of features and the dtype.
    init : {"data", "dct", "random"} or array (n_components, n_features)
        Kind of initialisation, or the atoms themselves. "data": distinct samples, and random directions
        if there are too few samples. "dct": an overcomplete discrete cosine dictionary, see `dct_atoms`.
        "random": Gaussian directions.
    atom_set : AtomSet
        The set of admissible atoms; if it is nonnegative, so are the initial atoms.
    generator : numpy.random.Generator
        Random generator for the choice of samples and directions.

    Raises
    ------
    ValueError
        If `init` is an unknown name, or an array of the wrong shape or with NaN or infinity.
    """
    check_arguments(initial_atoms, locals())
    check_integer("n_components", n_components)
    head = data.head(4 * n_components, generator)
    samples = as_array(head.X)
    n_features = samples.shape[1]
    if isinstance(init, str):
        makers = {"data": _from_samples, "dct": _from_cosines, "random": _from_directions}
        if init not in makers:
            raise ValueError(f"init: expected an array or one of {sorted(makers)}, got {init!r}")
        if head.mask is not None:
            samples = np.where(np.asarray(head.mask), samples, 0)
        atoms = makers[init](n_components, n_features, samples, generator)
    else:
        if np.iscomplexobj(init):
            raise ValueError("init: expected real atoms, got complex ones")
        atoms = np.array(as_array(init), dtype=np.float64)
        if atoms.shape != (n_components, n_features):
            raise ValueError(
                f"init: expected shape (n_components, n_features) = {(n_components, n_features)}, "
                f"got {atoms.shape}"
            )
        if not np.isfinite(atoms).all():
            raise ValueError("init: expected finite values, got NaN or infinity")
    sphere = AtomSet("sphere", atom_set.nonnegative)  # unit norm also for the ball
    atoms = sphere.project(atoms)
    dead = ~atoms.any(axis=1)  # zero samples, or atoms without a positive entry
    atoms[dead] = sphere.project(np.abs(_from_directions(int(dead.sum()), n_features, samples, generator)))
    return np.ascontiguousarray(atoms, dtype=samples.dtype)


def dct_atoms(n_components: int, n_features: int) -> np.ndarray:
    """Return an overcomplete cosine dictionary (n_components, n_features) of unit norm.

    If n_features is a square, the atoms are products of cosines along two axes. Otherwise they are
    cosines along one axis. All cosines but the constant one have zero mean (Aharon, Elad and Bruckstein
    2006).
    """
    check_integer("n_components", n_components)
    check_integer("n_features", n_features)
    side = math.isqrt(n_features)
    if side * side == n_features and side > 1:
        per_axis = int(np.ceil(np.sqrt(n_components)))
        line = _cosines(per_axis, side)
        return np.kron(line, line)[:n_components]
    return _cosines(n_components, n_features)


def _cosines(n_components: int, length: int) -> np.ndarray:
    grid = np.arange(length)[None, :] * np.arange(n_components)[:, None]
    atoms = np.cos(np.pi * grid / n_components)
    atoms[1:] -= atoms[1:].mean(axis=1, keepdims=True)
    norms = np.linalg.norm(atoms, axis=1, keepdims=True)
    return atoms / np.where(norms > 0, norms, 1)


def _from_samples(
    n_components: int, n_features: int, samples: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    norms = np.linalg.norm(samples, axis=1)
    alive = samples[norms > 1e-3 * norms.max(initial=0)]  # nearly zero samples give no atom
    chosen = alive[generator.permutation(len(alive))[:n_components]].astype(np.float64)
    rest = _from_directions(n_components - len(chosen), n_features, samples, generator)
    return np.concatenate([chosen, rest])


def _from_cosines(
    n_components: int, n_features: int, samples: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    return dct_atoms(n_components, n_features)


def _from_directions(
    n_components: int, n_features: int, samples: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    return generator.standard_normal((n_components, n_features))
