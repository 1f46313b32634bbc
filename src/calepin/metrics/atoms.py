"""How far a learned dictionary is from the true one.

A dictionary is identifiable only up to the order and the sign of its atoms, so both are matched
before anything is measured.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["dictionary_error", "match_atoms", "recovered_fraction"]


def match_atoms(atoms: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return `order` and `signs` that bring `atoms` nearest to `reference`.

    ``signs[:, None] * atoms[order]`` minimises the Frobenius distance to `reference` over all
    permutations and signs. The norms do not depend on the pairing, so it is the one that maximises
    the sum of absolute inner products: a linear assignment problem.

    Parameters
    ----------
    atoms, reference
        (n_components, n_features), of equal shape.

    Raises
    ------
    ValueError
        Shapes that differ, or entries that are not finite.
    """
    from scipy.optimize import linear_sum_assignment

    atoms, reference = _check(atoms, reference)
    products = reference @ atoms.T
    order = linear_sum_assignment(-np.abs(products))[1]
    signs = np.where(products[np.arange(len(order)), order] < 0, -1.0, 1.0)
    return order, signs


def dictionary_error(atoms: ArrayLike, reference: ArrayLike) -> float:
    """Return ``||D - R||_F / ||R||_F`` after the best permutation and sign of the atoms of D.

    Raises
    ------
    ValueError
        Shapes that differ, entries that are not finite, or a reference that is zero.
    """
    atoms, reference = _check(atoms, reference)
    scale = np.linalg.norm(reference)
    if scale == 0:
        raise ValueError("reference: expected at least one atom that is not zero, got all zeros")
    order, signs = match_atoms(atoms, reference)
    return float(np.linalg.norm(signs[:, None] * atoms[order] - reference) / scale)


def recovered_fraction(atoms: ArrayLike, reference: ArrayLike, *, tolerance: float = 0.01) -> float:
    """Return the share of reference atoms that were found: matched with ``1 - |cos| <= tolerance``.

    This is the count of Aharon, Elad and Bruckstein (2006, Sec. V-A), with every learned atom used
    once at most.

    Raises
    ------
    ValueError
        Shapes that differ, or entries that are not finite.
    """
    atoms, reference = _check(atoms, reference)
    order, _ = match_atoms(atoms, reference)
    products = np.abs((atoms[order] * reference).sum(axis=1))
    norms = np.linalg.norm(atoms[order], axis=1) * np.linalg.norm(reference, axis=1)
    return float(np.mean(products >= (1 - tolerance) * np.maximum(norms, np.finfo(float).tiny)))


def _check(atoms: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(atoms, np.float64), np.asarray(reference, np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"atoms and reference: expected one shape (n_components, n_features), "
            f"got {first.shape} and {second.shape}"
        )
    for name, values in (("atoms", first), ("reference", second)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    return first, second
