"""Compiled greedy pursuits on rows of the Gram matrix: OMP and OLS, one sample at a time.

Both add one atom at a time and refit all coefficients. OMP (Pati et al. 1993) selects the atom most
correlated with the residual, max c_j^2 / ||d_j||^2. OLS (Chen et al. 1989) selects the atom that lowers the
residual most, max c_j^2 / n_j, where n_j is the part of ||d_j||^2 outside the span of the support. With the
orthonormal vectors v_k of Gram-Schmidt on the selected atoms and q_k = D v_k, the updates are
c -= beta_k q_k, ||r||^2 -= beta_k^2 and n -= q_k^2, with beta_k = <v_k, x> (Sturm and Christensen 2012,
Section II).
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, INLINED, LEAF, njit
from calepin.solvers.kernels.support import (
    combine_rows,
    counting,
    enlarged,
    fill_gram_row,
    largest,
    position,
    sorted_into,
)

Pursuit = namedtuple(
    "Pursuit",
    # (p,) correlations, energies outside the span (infinite: never selected), scores (and their
    # bits)
    # (k,) atoms, codes, beta, minus a row of the factor, 0 to k - 1
    # (k, p) rows q; (k, k) Cholesky factor of the Gram matrix of the support
    "correlation energy score score_bits support code beta loading order rows factor",
)


@njit(**INLINED)
def _new_pursuit(p, limit, like, bits):
    dtype = like.dtype
    score = np.zeros(p, dtype)
    return Pursuit(
        np.zeros(p, dtype),
        np.zeros(p, dtype),
        score,
        score.view(bits),
        np.zeros(limit, np.int32),
        np.zeros(limit, dtype),
        np.zeros(limit, dtype),
        np.zeros(limit, dtype),
        counting(limit),
        np.empty((limit, p), dtype),
        np.zeros((limit, limit), dtype),
    )


@njit(**LEAF)
def best_atom(correlation, energy, score, bits, nonnegative):
    """Return the atom with the largest c^2 / energy (among c > 0 if nonnegative)."""
    zero = correlation.dtype.type(0)
    p = correlation.shape[0]
    for j in range(p):
        c = max(correlation[j], zero) if nonnegative else correlation[j]
        score[j] = c * c / energy[j]
    return position(bits, largest(bits, p), p)


@njit(**LEAF)
def _load(rows, factor, loading, gram, j, k):
    """Set loading to minus the coordinates of atom j in the span; return its energy outside the span."""
    outside = gram[j, j]
    for t in range(k):
        coordinate = rows[t, j]
        loading[t] = -coordinate
        factor[k, t] = coordinate
        outside -= coordinate * coordinate
    return outside


@njit(**LEAF)
def _orthogonalise(rows, order, loading, gram, correlation, j, k, pivot, beta):
    """Compute row q_k of atom j, and subtract it from the correlations."""
    p = correlation.shape[0]
    inverse = correlation.dtype.type(1) / pivot
    q = rows[k]
    combine_rows(rows, order, loading, k, q, p)
    for i in range(p):
        value = (q[i] + gram[j, i]) * inverse
        q[i] = value
        correlation[i] -= beta * value


@njit(**LEAF)
def _shrink_energies(rows, k, energy, norms, rank_tol):
    never = energy.dtype.type(np.inf)
    for i in range(energy.shape[0]):
        left = energy[i] - rows[k, i] * rows[k, i]
        energy[i] = left if left > rank_tol * norms[i] else never


@njit(**LEAF)
def _back_substitute(factor, beta, code, k):
    for t in range(k - 1, -1, -1):
        rest = beta[t]
        for s in range(t + 1, k):
            rest -= factor[s, t] * code[s]
        code[t] = rest / factor[t, t]


@njit(**LEAF)
def _pursue(state, gram, filled, atoms, observed, work, norms, energy, goal, limit, orthogonal, rank_tol):
    """Select atoms until ||r||^2 <= goal, there are `limit`, or none helps; return their number."""
    correlation = state.correlation
    outside_all = state.energy
    score = state.score
    bits = state.score_bits
    support = state.support
    beta = state.beta
    loading = state.loading
    order = state.order
    rows = state.rows
    factor = state.factor
    never = outside_all.dtype.type(np.inf)
    noise = energy * rank_tol * rank_tol
    k = np.int64(0)
    while k < limit and energy > goal:
        j = best_atom(correlation, outside_all, score, bits, False)
        if not score[j] > noise:
            break
        outside_all[j] = never
        if not filled[j]:
            fill_gram_row(gram, atoms, observed, j, work)
            filled[j] = True
        outside = _load(rows, factor, loading, gram, j, k)
        if not outside > rank_tol * norms[j]:
            continue
        pivot = np.sqrt(outside)
        support[k] = j
        factor[k, k] = pivot
        beta[k] = correlation[j] / pivot
        energy -= np.float64(beta[k]) * np.float64(beta[k])
        if k + 1 < limit and energy > goal:
            _orthogonalise(rows, order, loading, gram, correlation, j, k, pivot, beta[k])
            if orthogonal:
                _shrink_energies(rows, k, outside_all, norms, rank_tol)
        k += 1
    _back_substitute(factor, beta, state.code, k)
    return k


@njit(**FAST)
def pursuit(B, gram, filled, atoms, mask, norms, energies, goals, limit, orthogonal, rank_tol, bits):
    """Return the codes of samples as (counts, atoms, values).

    B (n, p) holds D x, `norms` (n or 1, p) the squared norms of the atoms over observed entries,
    `energies` (n,) ||x||^2, `goals` (n,) the squared residual norms to reach. gram, filled, atoms and
    mask are as in `homotopy`.
    """
    n, p = B.shape
    masked = not filled.all()
    state = _new_pursuit(p, limit, B, bits)
    never = B.dtype.type(np.inf)
    counts = np.zeros(n, np.int64)
    columns = np.empty(8 * n + limit, np.int32)
    values = np.empty(8 * n + limit, B.dtype)
    work = np.empty(atoms.shape[1], B.dtype)
    at = np.int64(0)
    for i in range(n):
        observed = mask[min(i, mask.shape[0] - 1)]
        if masked:
            filled[:] = False
        own_norms = norms[min(i, norms.shape[0] - 1)]
        for j in range(p):
            state.score[j] = abs(B[i, j])
        peak = state.score[position(state.score_bits, largest(state.score_bits, p), p)]
        if peak == 0 or not energies[i] > goals[i]:
            continue
        # Correlations are scaled to order one, so that their squares stay within the range of float32.
        for j in range(p):
            state.correlation[j] = B[i, j] / peak
            state.energy[j] = own_norms[j] if own_norms[j] > 0 else never
        square = np.float64(peak) * np.float64(peak)
        k = _pursue(
            state, gram, filled, atoms, observed, work, own_norms, energies[i] / square,
            goals[i] / square, limit, orthogonal, rank_tol,
        )  # fmt: skip
        for t in range(k):
            state.code[t] *= peak
        if at + k > columns.shape[0]:
            columns = enlarged(columns, 2 * columns.shape[0] + k)
            values = enlarged(values, 2 * values.shape[0] + k)
        counts[i] = sorted_into(state.support, state.code, k, columns, values, at)
        at += counts[i]
    return counts, columns[:at], values[:at]
