"""Compiled nonnegative pursuits: one atom at a time, with a nonnegative fit on the support after each.

Among the atoms with c_j > 0, NN-OMP (Bruckstein, Elad and Zibulevsky 2008) selects the one of largest
c_j / ||d_j||, NN-OLS the one of largest c_j / sqrt(n_j) (Nguyen et al. 2019, the SNNOLS rule). The fit is
that of Lawson and Hanson (1974, Chapter 23): an atom whose coefficient would become negative is removed.
The inverse Gram matrix of the support is updated in each step.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, INLINED, LANES, LEAF, njit
from calepin.solvers.kernels.pursuit import best_atom
from calepin.solvers.kernels.support import (
    combine_rows,
    counting,
    enlarged,
    fill_gram_row,
    grow_inverse,
    inverse_column,
    shrink_inverse,
    sorted_into,
)

Fit = namedtuple(
    "Fit",
    # (p,) correlations, energies outside the span, scores or a combination of Gram rows (and its
    # bits)
    # (k,) atoms, code, least-squares code, a column of the inverse, 0 to k - 1
    # (k, k) inverse Gram matrix of the support
    "correlation energy row row_bits support code target column order inverse",
)


@njit(**INLINED)
def _new_fit(p, limit, like, bits):
    dtype = like.dtype
    row = np.zeros(p, dtype)
    wide = (limit // LANES + 2) * LANES
    return Fit(
        np.zeros(p, dtype),
        np.zeros(p, dtype),
        row,
        row.view(bits),
        np.zeros(wide, np.int32),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        counting(wide),
        np.zeros((limit + 1, wide), dtype),
    )


@njit(**LEAF)
def _join(fit, gram, j, k, orthogonal, norms, rank_tol):
    """Add atom j; return False if it is linearly dependent on the support."""
    loss = inverse_column(fit.inverse, gram, j, fit.support, k, fit.column, fit.target, fit.order)
    outside = gram[j, j] - loss
    fit.energy[j] = fit.energy.dtype.type(np.inf)
    if not outside > rank_tol * norms[j]:
        return False
    grow_inverse(fit.inverse, fit.column, outside, k)
    fit.support[k] = j
    fit.code[k] = 0
    if orthogonal:
        never = fit.energy.dtype.type(np.inf)
        combine_rows(gram, fit.support, fit.column, k + 1, fit.row, fit.row.shape[0])
        for i in range(fit.row.shape[0]):
            left = fit.energy[i] - fit.row[i] * fit.row[i] / outside
            fit.energy[i] = left if left > rank_tol * norms[i] else never
    return True


@njit(**LEAF)
def _leave(fit, gram, r, k, orthogonal, norms, rank_tol):
    """Remove entry r and put the last entry in its place; atoms that depended on it can be selected again."""
    pivot = fit.inverse[r, r]
    never = fit.energy.dtype.type(np.inf)
    if orthogonal:
        combine_rows(gram, fit.support, fit.inverse[r], k, fit.row, fit.row.shape[0])
    for i in range(fit.row.shape[0]):
        outside = norms[i]
        if orthogonal:
            outside = fit.row[i] * fit.row[i] / pivot
            if fit.energy[i] < never:
                outside += fit.energy[i]
        fit.energy[i] = outside if outside > rank_tol * norms[i] else never
    shrink_inverse(fit.inverse, r, k)
    fit.support[r] = fit.support[k - 1]
    fit.code[r] = fit.code[k - 1]
    for t in range(k - 1):
        fit.energy[fit.support[t]] = never


@njit(**LEAF)
def _fit_nonnegative(fit, gram, b, k, orthogonal, norms, rank_tol):
    """Set the code to the nonnegative least-squares fit on the support; return the new support size."""
    while k > 0:
        for t in range(k):
            total = b.dtype.type(0)
            for i in range(k):
                total += fit.inverse[t, i] * b[fit.support[i]]
            fit.target[t] = total
        step, leaving = b.dtype.type(1), -1
        for t in range(k):
            if fit.target[t] <= 0:
                here = fit.code[t] / (fit.code[t] - fit.target[t])
                if fit.code[t] <= 0:
                    here = b.dtype.type(0)
                if leaving < 0 or here < step:
                    step, leaving = here, t
        for t in range(k):
            fit.code[t] += step * (fit.target[t] - fit.code[t])
        if leaving < 0:
            break
        _leave(fit, gram, leaving, k, orthogonal, norms, rank_tol)
        k -= 1
    return k


@njit(**LEAF)
def _pursue(fit, b, gram, filled, atoms, observed, work, norms, energy, goal, limit, orthogonal, rank_tol):
    noise = energy * rank_tol * rank_tol
    left = energy
    k = np.int64(0)
    for _ in range(4 * limit + 16):  # limited, because rounding errors could add and remove atoms forever
        if k >= limit or left <= goal:
            break
        j = best_atom(fit.correlation, fit.energy, fit.row, fit.row_bits, True)
        if not fit.row[j] > noise:
            break
        if not filled[j]:
            fill_gram_row(gram, atoms, observed, j, work)
            filled[j] = True
        if not _join(fit, gram, j, k, orthogonal, norms, rank_tol):
            continue
        k = _fit_nonnegative(fit, gram, b, k + 1, orthogonal, norms, rank_tol)
        combine_rows(gram, fit.support, fit.code, k, fit.row, fit.row.shape[0])
        for i in range(b.shape[0]):
            fit.correlation[i] = b[i] - fit.row[i]
        left = energy
        for t in range(k):
            i = fit.support[t]
            fit.correlation[i] = 0
            left -= np.float64(fit.code[t]) * np.float64(b[i])
    return k


@njit(**FAST)
def nonnegative_pursuit(
    B, gram, filled, atoms, mask, norms, energies, goals, limit, orthogonal, rank_tol, bits
):
    """Return the nonnegative codes of samples as (counts, atoms, values); arguments as in `pursuit`."""
    n, p = B.shape
    masked = not filled.all()
    fit = _new_fit(p, limit, B, bits)
    b = np.empty(p, B.dtype)
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
        peak = B.dtype.type(0)
        for j in range(p):
            peak = max(peak, B[i, j])
        if peak == 0 or not energies[i] > goals[i]:
            continue
        for j in range(p):
            b[j] = B[i, j] / peak
            fit.correlation[j] = b[j]
            fit.energy[j] = own_norms[j] if own_norms[j] > 0 else never
        square = np.float64(peak) * np.float64(peak)
        k = _pursue(
            fit, b, gram, filled, atoms, observed, work, own_norms, energies[i] / square,
            goals[i] / square, limit, orthogonal, rank_tol,
        )  # fmt: skip
        for t in range(k):
            fit.code[t] *= peak
        if at + k > columns.shape[0]:
            columns = enlarged(columns, 2 * columns.shape[0] + k)
            values = enlarged(values, 2 * values.shape[0] + k)
        counts[i] = sorted_into(fit.support, fit.code, k, columns, values, at)
        at += counts[i]
    return counts, columns[:at], values[:at]
