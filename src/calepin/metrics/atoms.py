"""Metrics of the difference between a learned dictionary and a reference.

A dictionary is identifiable only up to the order and the sign of its atoms. Both are matched before the
comparison.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.checks import check_array, check_number

__all__ = ["dictionary_error", "match_atoms", "recovered_fraction"]


def match_atoms(atoms: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the order and the signs that match atoms to reference atoms.

    ``signs[:, None] * atoms[order]`` minimises the Frobenius distance to `reference` over all
    permutations and signs. The norms do not depend on the pairing. The minimiser is therefore the pairing
    that maximises the sum of absolute inner products, a linear assignment problem.

    Parameters
    ----------
    atoms, reference : array of shape (n_components, n_features)
        The atoms to match and the reference atoms.

    Returns
    -------
    order : int array of shape (n_components,)
        Index of the atom that is matched to each reference atom.
    signs : array of shape (n_components,)
        Sign of each matched atom, 1 or -1.

    Raises
    ------
    ValueError
        If shapes differ, or entries are not finite.
    """
    from scipy.optimize import linear_sum_assignment

    atoms, reference = _check(atoms, reference)
    products = reference @ atoms.T
    order = linear_sum_assignment(-np.abs(products))[1]
    signs = np.where(products[np.arange(len(order)), order] < 0, -1.0, 1.0)
    return order, signs


def dictionary_error(atoms: ArrayLike, reference: ArrayLike) -> float:
    """Return the relative error ``||D - R||_F / ||R||_F`` of atoms D after matching to a reference R.

    Raises
    ------
    ValueError
        If shapes differ, entries are not finite, or the reference is zero.
    """
    atoms, reference = _check(atoms, reference)
    scale = np.linalg.norm(reference)
    if scale == 0:
        raise ValueError("reference: expected at least one atom that is not zero, got all zeros")
    order, signs = match_atoms(atoms, reference)
    return float(np.linalg.norm(signs[:, None] * atoms[order] - reference) / scale)


def recovered_fraction(atoms: ArrayLike, reference: ArrayLike, *, tolerance: float = 0.01) -> float:
    """Return the fraction of reference atoms that are recovered: matched with ``1 - |cos| <= tolerance``.

    This is the criterion of Aharon, Elad and Bruckstein (2006, Sec. V-A), except that each learned atom is
    matched at most once.

    Raises
    ------
    ValueError
        If shapes differ, or entries are not finite.
    """
    check_number("tolerance", tolerance, least=0, most=1)
    atoms, reference = _check(atoms, reference)
    order, _ = match_atoms(atoms, reference)
    products = np.abs((atoms[order] * reference).sum(axis=1))
    norms = np.linalg.norm(atoms[order], axis=1) * np.linalg.norm(reference, axis=1)
    return float(np.mean(products >= (1 - tolerance) * np.maximum(norms, np.finfo(float).tiny)))


def _check(atoms: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = check_array("atoms", atoms), check_array("reference", reference)
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(
            f"atoms and reference: expected the same shape (n_components, n_features), "
            f"got {first.shape} and {second.shape}"
        )
    return first, second
