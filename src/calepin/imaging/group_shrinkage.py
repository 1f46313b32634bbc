"""Shrinkage of a group of similar patches along the principal components of its estimate.

A group is a matrix Z = [E R]. Its rows are the pixels of a patch, its columns the n patches in the estimate,
then the residuals: the noisy patches minus these. All loops run along rows. Numbers of rows and patches are
padded by zeros to multiples of `ROWS`, lengths of rows to multiples of `LANES`.
"""

import numpy as np

from calepin.core.compiled import INLINED, LANES, njit
from calepin.core.lanes import ROWS, add_product

__all__ = ["COMMON", "add_common", "centre", "group_memory", "shrink", "subtract_estimate"]

COMMON = np.float32(1.5)  # more than 1, because patches that overlap share some noise
# Rounding of the products of patches in single precision, as a part of the largest: of white noise, and of
# correlated noise. Where n times the variance is not more, they are computed in double precision.
ROUNDING, ROUNDING_CORRELATED = np.float32(5e-6), np.float32(1e-5)


@njit(**INLINED)
def group_memory(q, size):
    """Return Z, F, the result of `shrink`, the mean and work space for groups of patches of q pixels."""
    rows, n = -(-q // ROWS) * ROWS, -(-size // ROWS) * ROWS
    one, two = -(-n // LANES) * LANES, -(-2 * n // LANES) * LANES
    Z, F = np.zeros((rows, two), dtype=np.float32), np.zeros((rows, two), dtype=np.float32)
    X, out = np.zeros((n, one), dtype=np.float32), np.zeros((rows, one), dtype=np.float32)
    D, block = np.zeros((n, two), dtype=np.float32), np.zeros((ROWS + 1, two), dtype=np.float32)
    exact = np.zeros((n, 2 * n)), np.zeros((rows, n))
    return Z, F, out, np.zeros(rows, dtype=np.float32), (D, X, block, exact)


@njit(**INLINED)
def subtract_estimate(Z, q, n, half):
    """Replace the noisy patches by their residuals."""
    for t in range(q):
        for k in range(n):
            Z[t, half + k] -= Z[t, k]


@njit(**INLINED)
def add_common(Z, q, n, half, variance, d):
    """Move what the residuals have in common to the estimate: their mean d, shrunk.

    The level of d is left out: that of the estimate is known well enough.
    """
    level, norm = _row_means(Z[:, half:], q, n, d), np.float32(0)
    for t in range(q):
        d[t] -= level
        norm += d[t] * d[t]
    noise = COMMON * q * variance / n
    if norm <= noise:
        return
    for t in range(q):
        part = d[t] * (1 - noise / norm)
        for k in range(n):
            Z[t, k] += part
            Z[t, half + k] -= part


@njit(**INLINED)
def centre(Z, q, n, level, mean):
    """Subtract the mean patch of the estimate, or its grey level, from the estimate."""
    whole = _row_means(Z, q, n, mean)
    for t in range(q):
        if level:
            mean[t] = whole
        for k in range(n):
            Z[t, k] -= mean[t]


@njit(**INLINED)
def _row_means(Z, q, n, mean):
    """Set the means of the first n entries of q rows, and return the mean of these."""
    whole = np.float32(0)
    for t in range(q):
        total = np.float32(0)
        for k in range(n):
            total += Z[t, k]
        mean[t] = total / n
        whole += mean[t]
    return whole / q


@njit(**INLINED)
def shrink(Z, P, F, q, n, variance, mean, work, out):
    """Set the columns of `out` to m + C (C + variance N)^-1 (e + r), where C = E E^T / n and P = N^-1.

    With F = P E and a = n variance, this is m + e + E (F^T E + a I)^-1 (F^T r - a i), where i is the column
    of I that belongs to e. Residuals are small, so rounding errors are, too. For white noise P is empty.
    """
    D, X, block, exact = work
    D[:] = 0
    if len(P):
        F[:] = 0
        _accumulate(F, 0, len(F), 0, Z.shape[1], P, 0, P.shape[1], 1, Z, 0, len(Z))
    model = F if len(P) else Z
    _accumulate(D, 0, len(D), 0, D.shape[1], model, 0, model.shape[1], 1, Z, 0, q)
    largest = np.float32(0)
    for k in range(len(D)):
        largest = max(largest, D[k, k])
    if n * variance > (ROUNDING_CORRELATED if len(P) else ROUNDING) * largest:
        for k in range(len(D)):
            D[k, k] += n * variance
            D[k, len(D) + k] -= n * variance
        _solve(D, X, block)
    else:
        _solve_exactly(Z, P, q, n, variance, exact, X)
    for t in range(len(out)):
        for k in range(out.shape[1]):
            out[t, k] = Z[t, k] + mean[t]
    _accumulate(out, 0, len(out), 0, out.shape[1], Z, 0, 1, Z.shape[1], X, 0, len(X))


@njit(**INLINED)
def _accumulate(C, start, stop, left, right, F, f, along, down, Z, first, length):
    """Add to C[r, x] the sum over s < length of F[f + s along + (r - start) down] Z[first + s, x]."""
    pitch, step = C.shape[1], Z.shape[1]
    for r in range(start, stop, ROWS):
        for x in range(left, right, LANES):
            at = f + (r - start) * down
            add_product(C, r * pitch + x, pitch, F, at, along, down, Z, first * step + x, step, length)


@njit(**INLINED)
def _solve(D, X, block):
    """Set X = G^-1 B for D = [G B] and G symmetric, positive definite; D is overwritten.

    Elimination by rows: `ROWS` of them one after the other, then all below with these. Each becomes minus its
    quotient by its pivot.
    """
    n, width = D.shape
    scaled, factors = block[:ROWS], block[ROWS]
    for k in range(0, n, ROWS):
        left = k // LANES * LANES
        for j in range(ROWS):
            pivot = D[k + j, k + j]
            factor = -1 / pivot if pivot > 0 else np.float32(0)
            for x in range(width):
                scaled[j, x] = factor * D[k + j, x]
            for r in range(ROWS):
                factors[r] = D[k + r, k + j] if r > j else np.float32(0)
            _accumulate(D, k, k + ROWS, left, width, factors, 0, 0, 1, scaled, j, 1)
        _accumulate(D, k + ROWS, n, left, width, D, k * width + k + ROWS, width, 1, scaled, 0, ROWS)
        for j in range(ROWS):
            for x in range(width):
                D[k + j, x] = scaled[j, x]
    for k in range(n - ROWS, -1, -ROWS):
        below = k + ROWS
        for r in range(k, below):
            for x in range(n):
                X[r, x] = -D[r, n + x]
        _accumulate(X, k, below, 0, X.shape[1], D, k * width + below, 1, width, X, below, n - below)
        for j in range(ROWS - 1, 0, -1):
            for r in range(ROWS):
                factors[r] = D[k + r, k + j] if r < j else np.float32(0)
            _accumulate(X, k, below, 0, X.shape[1], factors, 0, 0, 1, X, k + j, 1)


@njit(**INLINED)
def _solve_exactly(Z, P, q, n, variance, exact, X):
    """Set X in double precision, for contrasts of some hundred times the noise: rare, and slow."""
    D, F = exact
    half = len(D)
    D[:] = 0
    for t in range(q):
        for k in range(n):
            F[t, k] = 0 if len(P) else Z[t, k]
        for s in range(q if len(P) else 0):
            for k in range(n):
                F[t, k] += np.float64(P[t, s]) * Z[s, k]
        for k in range(n):
            for x in range(2 * half):
                D[k, x] += F[t, k] * Z[t, x]
    for k in range(half):
        D[k, k] += n * variance
        D[k, half + k] -= n * variance
    for k in range(half):
        for m in range(k + 1, half):
            factor = D[m, k] / D[k, k]
            for x in range(k, 2 * half):
                D[m, x] -= factor * D[k, x]
    for k in range(half - 1, -1, -1):
        for x in range(half, 2 * half):
            D[k, x] /= D[k, k]
            X[k, x - half] = D[k, x]
        for m in range(k):
            factor = D[m, k]
            for x in range(half, 2 * half):
                D[m, x] -= factor * D[k, x]
