"""Compiled greedy pursuits on rows of the Gram matrix: OMP and OLS, one sample at a time.

Both add one atom at a time and fit all coefficients anew. OMP (Pati et al. 1993) takes the atom most
correlated with the residual, max c_j^2 / ||d_j||^2; OLS (Chen et al. 1989) the one that lowers the
residual most, max c_j^2 / n_j, where n_j is what of ||d_j||^2 lies outside the span of the support.
The rows q_k = D v_k, with v_k the orthonormal vectors that Gram-Schmidt makes of the chosen atoms,
update everything (Sturm and Christensen 2012, Section II): c -= beta_k q_k, ||r||^2 -= beta_k^2,
n -= q_k^2, with beta_k = <v_k, x>.
"""

from collections import namedtuple

import numpy as np
from numba import njit

from calepin.solvers._support import FAST, combine_rows, enlarged, fill_gram_row, sorted_into

CHUNK = 64  # atoms whose scores are looked up one by one, once the largest is known to be among them

Pursuit = namedtuple(
    "Pursuit",
    # (p,) correlations, energies outside the span (infinite: never to be chosen), scores
    # (k,) atoms, codes, beta, minus a row of the factor, 0 to k - 1
    # (k, p) rows q; (k, k) Cholesky factor of the Gram matrix of the support
    "correlation energy score support code beta loading order rows factor",
)


@njit(**FAST)
def _new_pursuit(p, limit, like):
    dtype = like.dtype
    return Pursuit(
        np.zeros(p, dtype),
        np.zeros(p, dtype),
        np.zeros(p, dtype),
        np.zeros(limit, np.int32),
        np.zeros(limit, dtype),
        np.zeros(limit, dtype),
        np.zeros(limit, dtype),
        np.arange(limit).astype(np.int32),
        np.empty((limit, p), dtype),
        np.zeros((limit, limit), dtype),
    )


@njit(**FAST)
def best_atom(correlation, energy, score, positive):
    """Return the atom with the largest c^2 / energy (c > 0 where positive), and that score."""
    p = correlation.shape[0]
    zero = correlation.dtype.type(0)
    best = zero
    best_chunk = 0
    for start in range(0, p, CHUNK):
        largest = zero
        for j in range(start, min(start + CHUNK, p)):
            c = max(correlation[j], zero) if positive else correlation[j]
            s = c * c / energy[j]
            score[j] = s
            largest = max(s, largest)
        if largest > best:
            best = largest
            best_chunk = start
    j = best_chunk
    if best > zero:
        while score[j] != best:
            j += 1
    return j, best


@njit(**FAST)
def _load(state, gram_row, j, k):
    """Set loading[:k] to minus the coordinates of atom j in the span; return what lies outside."""
    outside = gram_row[j]
    for t in range(k):
        coordinate = state.rows[t, j]
        state.loading[t] = -coordinate
        state.factor[k, t] = coordinate
        outside -= coordinate * coordinate
    return outside


@njit(**FAST)
def _orthogonalise(state, gram_row, k, pivot, beta, orthogonal, norms, rank_tol):
    """Make row q_k, and update correlations and energies by it."""
    q = state.rows[k]
    c, energy = state.correlation, state.energy
    combine_rows(state.rows, state.order, state.loading, k, q)
    p = q.shape[0]
    inverse = q.dtype.type(1) / pivot
    for j in range(p):
        value = (q[j] + gram_row[j]) * inverse
        q[j] = value
        c[j] -= beta * value
    if orthogonal:
        never = q.dtype.type(np.inf)
        for j in range(p):
            left = energy[j] - q[j] * q[j]
            energy[j] = left if left > rank_tol * norms[j] else never


@njit(**FAST)
def _back_substitute(state, k):
    for t in range(k - 1, -1, -1):
        rest = state.beta[t]
        for s in range(t + 1, k):
            rest -= state.factor[s, t] * state.code[s]
        state.code[t] = rest / state.factor[t, t]


@njit(**FAST)
def _pursue(state, gram, filled, atoms, observed, work, norms, energy, goal, limit, orthogonal, rank_tol):
    """Choose atoms until ||r||^2 <= goal, there are `limit`, or none helps; return their number."""
    never = state.energy.dtype.type(np.inf)
    noise = energy * rank_tol * rank_tol
    k = 0
    while k < limit and energy > goal:
        j, score = best_atom(state.correlation, state.energy, state.score, False)
        if not score > noise:
            break
        state.energy[j] = never
        if not filled[j]:
            fill_gram_row(gram, atoms, observed, j, work)
            filled[j] = True
        outside = _load(state, gram[j], j, k)
        if not outside > rank_tol * norms[j]:
            continue
        pivot = np.sqrt(outside)
        beta = state.correlation[j] / pivot
        state.support[k] = j
        state.factor[k, k] = pivot
        state.beta[k] = beta
        energy -= np.float64(beta) * np.float64(beta)
        if k + 1 < limit and energy > goal:
            _orthogonalise(state, gram[j], k, pivot, beta, orthogonal, norms, rank_tol)
        k += 1
    _back_substitute(state, k)
    return k


@njit(**FAST)
def pursuit(B, gram, filled, atoms, mask, norms, energies, goals, limit, orthogonal, rank_tol):
    """Return the codes of samples as (counts, atoms, values).

    B (n, p) holds D x, `norms` (n or 1, p) the squared norms of the atoms over observed entries,
    `energies` (n,) ||x||^2, `goals` (n,) the squared residual norms to reach. gram, filled, atoms and
    mask are as in the homotopy.
    """
    n, p = B.shape
    state = _new_pursuit(p, limit, B)
    never = B.dtype.type(np.inf)
    counts = np.zeros(n, np.int64)
    columns = np.empty(8 * n + limit, np.int32)
    values = np.empty(8 * n + limit, B.dtype)
    work = np.empty(atoms.shape[1], B.dtype)
    at = 0
    for i in range(n):
        observed = mask[min(i, mask.shape[0])]
        if mask.shape[0] > 0:
            filled[:] = False
        own_norms = norms[min(i, norms.shape[0] - 1)]
        largest = B.dtype.type(0)
        for j in range(p):
            largest = max(largest, abs(B[i, j]))
        if largest == 0 or not energies[i] > goals[i]:
            continue
        # Correlations of order one: their squares stay within float32 whatever the samples' scale.
        for j in range(p):
            state.correlation[j] = B[i, j] / largest
            state.energy[j] = own_norms[j] if own_norms[j] > 0 else never
        square = np.float64(largest) * np.float64(largest)
        k = _pursue(
            state, gram, filled, atoms, observed, work, own_norms, energies[i] / square,
            goals[i] / square, limit, orthogonal, rank_tol,
        )  # fmt: skip
        for t in range(k):
            state.code[t] *= largest
        if at + k > columns.shape[0]:
            columns = enlarged(columns, 2 * columns.shape[0] + k)
            values = enlarged(values, 2 * values.shape[0] + k)
        counts[i] = sorted_into(state.support, state.code, k, columns, values, at)
        at += counts[i]
    return counts, columns[:at], values[:at]
