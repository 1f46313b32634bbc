"""Metrics of codes: recovery of the support, error, duality gap of the lasso, coherence of the atoms."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.checks import check_array, check_boolean, check_number

__all__ = ["SupportRecovery", "code_error", "duality_gap", "mutual_coherence", "support_recovery"]


@dataclass(frozen=True)
class SupportRecovery:
    """Agreement of the supports of codes with the true supports, as means over samples.

    Attributes
    ----------
    precision : float
        Fraction of the support of a code that is in the true support; 1 for an empty support.
    recall : float
        Fraction of the true support that is in the support of the code; 1 for an empty true support.
    exact : float
        Fraction of samples whose support equals the true one.
    """

    precision: float
    recall: float
    exact: float


def support_recovery(codes: ArrayLike, reference: ArrayLike, *, threshold: float = 0.0) -> SupportRecovery:
    """Compare the supports of codes (n, n_components) with those of reference codes.

    The support of a code consists of the entries whose magnitude exceeds `threshold`.

    Raises
    ------
    ValueError
        If shapes differ, entries are not finite, or the threshold is negative.
    """
    codes, reference = _matrices(codes=codes, reference=reference)
    if codes.shape != reference.shape:
        raise ValueError(f"codes: expected the shape of reference, {reference.shape}, got {codes.shape}")
    check_number("threshold", threshold, least=0)
    found, true = np.abs(codes) > threshold, reference != 0
    hits, n_found, n_true = (s.sum(1) for s in (found & true, found, true))
    precision = np.where(n_found, hits / np.maximum(n_found, 1), 1.0)
    recall = np.where(n_true, hits / np.maximum(n_true, 1), 1.0)
    return SupportRecovery(
        float(precision.mean()), float(recall.mean()), float((found == true).all(1).mean())
    )


def code_error(codes: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """Return the error ``||z - z_ref||_2`` of each sample, shape (n,).

    Raises
    ------
    ValueError
        If shapes differ, or entries are not finite.
    """
    codes, reference = _matrices(codes=codes, reference=reference)
    if codes.shape != reference.shape:
        raise ValueError(f"codes: expected the shape of reference, {reference.shape}, got {codes.shape}")
    return np.linalg.norm(codes - reference, axis=1)


def duality_gap(
    X: ArrayLike, codes: ArrayLike, atoms: ArrayLike, *, alpha: float, nonnegative: bool = False
) -> NDArray[np.float64]:
    """Return the duality gap of the lasso for each sample, shape (n,).

    The gap is an upper bound on the suboptimality P(z) - min P of the lasso objective P, for arbitrary codes
    z. Let ``r = x - z D`` be the residual. Among the dual points s r with ``|s D r| <= alpha`` (or
    ``s D r <= alpha`` for nonnegative codes) the best is used:

        0.5 ||r||^2 + alpha ||z||_1 - (s <r, x> - 0.5 s^2 ||r||^2)  >=  P(z) - min P

    (Kim et al., "An interior-point method for large-scale l1-regularized least squares", 2007, section
    III.A). The computation is in float64.

    Parameters
    ----------
    X : array of shape (n, n_features)
        Samples.
    codes : array of shape (n, n_components)
        Codes of the samples.
    atoms : array of shape (n_components, n_features)
        The dictionary.
    alpha : float
        Weight of the l1 norm, positive.
    nonnegative : bool, default False
        Whether codes are constrained to be nonnegative. The gap of a code with a negative entry is then
        infinite.

    Raises
    ------
    ValueError
        If shapes do not match, entries are not finite, or alpha is not positive.
    """
    X, codes, atoms = _matrices(X=X, codes=codes, atoms=atoms)
    for name, found, expected in (
        ("codes", codes.shape, (len(X), len(atoms))),
        ("atoms", atoms.shape, (codes.shape[1], X.shape[1])),
    ):
        if found != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {found}")
    check_number("alpha", alpha, above=0)
    check_boolean("nonnegative", nonnegative)
    R = X - codes @ atoms
    correlation = R @ atoms.T
    peak = (correlation if nonnegative else np.abs(correlation)).max(1)
    rr, rx = (R * R).sum(1), (R * X).sum(1)
    tiny = np.finfo(np.float64).tiny
    scale = np.clip(rx / np.maximum(rr, tiny), 0, alpha / np.maximum(peak, tiny))
    primal = 0.5 * rr + alpha * np.abs(codes).sum(1)
    gap = np.maximum(primal - scale * rx + 0.5 * scale**2 * rr, 0)
    return np.where((codes < 0).any(1), np.inf, gap) if nonnegative else gap


def mutual_coherence(atoms: ArrayLike) -> float:
    """Return the largest absolute cosine between two different atoms (Donoho and Huo, 2001).

    Raises
    ------
    ValueError
        If there are fewer than two atoms, an atom is zero, or entries are not finite.
    """
    (atoms,) = _matrices(atoms=atoms)
    norms = np.linalg.norm(atoms, axis=1, keepdims=True)
    if len(atoms) < 2 or not norms.all():
        raise ValueError(
            f"atoms: expected at least two, none of them zero, got {len(atoms)}, "
            f"{int((norms == 0).sum())} of them zero"
        )
    cosines = np.abs((atoms / norms) @ (atoms / norms).T)
    np.fill_diagonal(cosines, 0)
    return float(cosines.max())


def _matrices(**arrays: ArrayLike) -> list[NDArray[np.float64]]:
    found = []
    for name, values in arrays.items():
        matrix = check_array(name, values)
        if matrix.ndim != 2:
            raise ValueError(f"{name}: expected a matrix with entries, got shape {matrix.shape}")
        found.append(matrix)
    return found
