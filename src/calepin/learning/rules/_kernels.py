"""Compiled inner loops of dictionary learning: moments of sparse codes, and updates of atoms.

Codes are given as the three arrays of a CSR or CSC matrix, so that work and memory are proportional to the
number of nonzeros. Each kernel runs on one thread with a fixed order of summation.
"""

import numpy as np

from calepin.core.compiled import njit

# The compiler may reorder sums (once, at compile time); NaN and infinity are handled as usual.
FAST = {"reassoc", "contract", "nsz", "arcp"}
BLOCK = 32  # number of atoms whose correlations are computed by one matrix product


@njit(nogil=True, cache=True, fastmath=FAST)
def add_moments(indptr, indices, values, X, A, B):
    """Add the sums over samples of z z^T to A (p, p) and of z x^T to B (p, m)."""
    for i in range(X.shape[0]):
        for a in range(indptr[i], indptr[i + 1]):
            row, z = indices[a], values[a]
            for b in range(indptr[i], indptr[i + 1]):
                A[row, indices[b]] += z * values[b]
            for f in range(X.shape[1]):
                B[row, f] += z * X[i, f]


@njit(nogil=True, cache=True, fastmath=FAST)
def residuals(indptr, indices, values, X, atoms, out):
    """Write x - z D of every sample to `out` (n, m)."""
    for i in range(X.shape[0]):
        for f in range(X.shape[1]):
            out[i, f] = X[i, f]
        for a in range(indptr[i], indptr[i + 1]):
            row, z = indices[a], values[a]
            for f in range(X.shape[1]):
                out[i, f] -= z * atoms[row, f]


@njit(nogil=True, cache=True, fastmath=FAST)
def descend_blocks(atoms, A, B, sphere, nonnegative):
    """Minimise tr(D^T A D)/2 - tr(D^T B) over one atom after the other, in place.

    Equation 10 of Mairal et al. (2009). The correlations of a block of atoms are computed by one matrix
    product. Within the block they are updated by rank-one corrections.
    """
    n_components, n_features = atoms.shape
    moved = np.empty(n_features, atoms.dtype)
    for first in range(0, n_components, BLOCK):
        last = min(first + BLOCK, n_components)
        R = B[first:last] - np.dot(A[first:last], atoms)
        for j in range(first, last):
            curvature = A[j, j]
            if curvature <= 0:
                continue
            norm = 0.0
            for f in range(n_features):
                u = atoms[j, f] + R[j - first, f] / curvature
                if nonnegative and u < 0:
                    u = u * 0
                moved[f] = u
                norm += u * u
            norm = np.sqrt(norm)
            if norm == 0:
                continue
            scale = 1 / norm if sphere or norm > 1 else 1.0
            for f in range(n_features):
                new = atoms.dtype.type(moved[f] * scale)
                moved[f] = new - atoms[j, f]
                atoms[j, f] = new
            for i in range(j + 1, last):
                weight = A[i, j]
                for f in range(n_features):
                    R[i - first, f] -= weight * moved[f]


@njit(nogil=True, cache=True, fastmath=FAST)
def ksvd_sweep(indptr, indices, values, E, atoms, nonnegative_code, nonnegative):
    """Update every atom and its coefficients by one power step of its residual's SVD, in place.

    Rubinstein, Zibulevsky and Elad (2008), Algorithm 5. Codes are in CSC format: column j lists the
    samples that use atom j. E (n, m) is the residual x - z D and is updated too.
    """
    n_features = E.shape[1]
    old = np.empty(n_features, atoms.dtype)
    for j in range(atoms.shape[0]):
        start, stop = indptr[j], indptr[j + 1]
        if start == stop:
            continue
        energy = 0.0
        for f in range(n_features):
            old[f] = atoms[j, f]
            atoms[j, f] = 0
        for a in range(start, stop):
            i, g = indices[a], values[a]
            energy += g * g
            for f in range(n_features):
                atoms[j, f] += g * E[i, f]
        norm = 0.0
        for f in range(n_features):  # sum of g (e + g d) = sum of g e, plus d times the sum of g^2
            d = atoms[j, f] + energy * old[f]
            if nonnegative and d < 0:
                d = d * 0
            atoms[j, f] = d
            norm += d * d
        norm = np.sqrt(norm)
        for f in range(n_features):
            atoms[j, f] = atoms[j, f] / norm if norm > 0 else old[f]
        for a in range(start, stop):
            i, g = indices[a], values[a]
            new = 0.0
            for f in range(n_features):
                E[i, f] += g * old[f]
                new += E[i, f] * atoms[j, f]
            if nonnegative_code and new < 0:
                new = 0.0
            values[a] = new
            for f in range(n_features):
                E[i, f] -= values[a] * atoms[j, f]
