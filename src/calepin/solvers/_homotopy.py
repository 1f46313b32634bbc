"""Compiled homotopy (LARS) for the lasso: one sample at a time, on rows of the Gram matrix.

    minimise over z   0.5 ||x - z D||^2 + alpha ||z||_1

The path z(lam), from lam = max |D x| down to alpha, is linear between events: an atom joins the
support, or a coefficient reaches zero and leaves (Osborne, Presnell and Turlach 2000; Efron et al.
2004, Section 3). On a support S with signs s, lowering lam by t moves the code by t u with
u = G_SS^-1 s, and the correlations D (x - z D) by -t G u.
"""

from collections import namedtuple

import numpy as np
from numba import njit

from calepin.solvers._support import (
    FAST,
    LANES,
    combine_rows,
    enlarged,
    fill_gram_row,
    grow_inverse,
    inverse_column,
    shrink_inverse,
    sorted_into,
)

CHUNK = 64  # atoms whose best step is looked up one by one, once it is known to be among them

Path = namedtuple(
    "Path",
    # (p,) running values: correlations, their slope, steps to joining
    # (k,) on the support: atoms, signs, code, direction, a column of the inverse, a right-hand side
    # (k, k) inverse Gram matrix of the support; atoms that depend on the support
    "correlation slope step support sign code direction column target inverse dependent",
)


@njit(**FAST)
def _new_path(p, largest, like):
    dtype = like.dtype
    wide = (largest // LANES + 2) * LANES
    return Path(
        np.zeros(p, dtype),
        np.zeros(p, dtype),
        np.zeros(p, dtype),
        np.zeros(wide, np.int32),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        np.zeros((largest + 1, wide), dtype),
        np.zeros(p, np.int32),
    )


@njit(**FAST)
def _first_step(path, level, positive, tie):
    """Return the smallest step after which an atom's |correlation| equals the level, and the atom."""
    c, a, step = path.correlation, path.slope, path.step
    p = c.shape[0]
    one, zero = c.dtype.type(1), c.dtype.type(0)
    never = level + level
    best = never
    best_chunk = 0
    for start in range(0, p, CHUNK):
        stop = min(start + CHUNK, p)
        smallest = never
        for j in range(start, stop):
            # Of the two sides, +level is reached first exactly when c > level * a.
            upper = positive or c[j] > level * a[j]
            rise = one - a[j] if upper else one + a[j]
            room = level - c[j] if upper else level + c[j]
            room = room if room > zero else zero
            t = room / rise if rise > tie else never
            step[j] = t
            smallest = t if t < smallest else smallest
        if smallest < best:
            best = smallest
            best_chunk = start
    j = best_chunk
    if best < never:
        while step[j] != best:
            j += 1
    return best, j


@njit(**FAST)
def _join(path, gram, j, sign, k, rank_tol):
    """Add atom j to the support; return False where it depends on the support."""
    loss = inverse_column(path.inverse, gram[j], path.support, k, path.column)
    complement = gram[j, j] - loss
    if not complement > rank_tol * gram[j, j]:
        return False
    column, direction = path.column, path.direction
    aligned = -sign
    for t in range(k):
        aligned += column[t] * path.sign[t]
    factor = aligned / complement
    path.support[k] = j
    path.sign[k] = sign
    path.code[k] = 0.0
    direction[k] = 0.0
    grow_inverse(path.inverse, column, complement, k)
    for t in range(k + 1):
        direction[t] += factor * column[t]
    return True


@njit(**FAST)
def _leave(path, r, k):
    """Remove entry r of the support; the last entry takes its place."""
    direction, pivot, last = path.direction, path.inverse[r], k - 1
    factor = direction[r] / pivot[r]
    for t in range(k):
        direction[t] -= factor * pivot[t]
    shrink_inverse(path.inverse, r, k)
    for array in (path.sign, path.code, direction):
        array[r] = array[last]
        array[last] = 0.0
    path.support[r] = path.support[last]


@njit(**FAST)
def _first_zero(path, k):
    """Return the smallest step that brings a coefficient to zero, or -1, and its entry."""
    best = path.code.dtype.type(-1)
    entry = -1
    zero = path.code.dtype.type(0)
    for t in range(k):
        towards = -path.direction[t] * path.sign[t]
        if towards > 0:
            step = max(path.code[t] * path.sign[t], zero) / towards
            if entry < 0 or step < best:
                best = step
                entry = t
    return best, entry


@njit(**FAST)
def _polish(path, b, gram, alpha, k):
    """Solve G_SS z = b_S - alpha s once more, from its residual; return whether signs are kept."""
    support, code, target = path.support, path.code, path.target
    for t in range(k):
        row = gram[support[t]]
        rest = b[support[t]] - alpha * path.sign[t]
        for i in range(k):
            rest -= row[support[i]] * code[i]
        target[t] = rest
    kept = True
    for t in range(k):
        row = path.inverse[t]
        change = code.dtype.type(0)
        for i in range(k):
            change += row[i] * target[i]
        path.column[t] = change
    for t in range(k):
        code[t] += path.column[t]
        if code[t] * path.sign[t] <= 0:
            code[t] = 0.0
            kept = False
    return kept


@njit(**FAST)
def _trace(path, b, gram, filled, atoms, observed, work, alpha, positive, tie, rank_tol, max_events):
    """Follow the path of one sample down to alpha; return (support size, whether it went well)."""
    c, a, support = path.correlation, path.slope, path.support
    p = c.shape[0]
    zero, one = c.dtype.type(0), c.dtype.type(1)
    level = zero
    entering = 0
    for j in range(p):
        c[j] = b[j]
        size = b[j] if positive else abs(b[j])
        if size > level:
            level = size
            entering = j
    k = 0
    if not level > alpha:
        return k, True
    n_dependent = 0
    left = -1  # the atom that left in the last event, which may not come straight back
    for _ in range(max_events):
        if entering >= 0:
            if not filled[entering]:
                fill_gram_row(gram, atoms, observed, entering, work)
                filled[entering] = True
            sign = one if c[entering] > zero else -one
            if k < path.inverse.shape[0] and _join(path, gram, entering, sign, k, rank_tol):
                k += 1
            else:
                path.dependent[n_dependent] = entering
                n_dependent += 1
                if n_dependent == p:
                    return k, False
        combine_rows(gram, support, path.direction, k, a)
        # Zeros keep the support, and what depends on it, from being found again.
        for t in range(k):
            a[support[t]] = 0.0
            c[support[t]] = 0.0
        for t in range(n_dependent):
            a[path.dependent[t]] = 0.0
            c[path.dependent[t]] = 0.0
        c_left, a_left = c[left], a[left]
        if left >= 0:
            c[left] = 0.0
            a[left] = 0.0
        step, entering = _first_step(path, level, positive, tie)
        if left >= 0:
            c[left], a[left] = c_left, a_left
            # Only the other side, 2 level away when it left, can stop it.
            rise = one + a_left if c_left > zero else one - a_left
            if not positive and rise * step > level + level:
                step, entering = (level + level) / rise, left
            left = -1
        zero_step, entry = _first_zero(path, k)
        end = level - alpha
        if entry >= 0 and zero_step < step and zero_step < end:
            step, entering = zero_step, -1
        done = step >= end
        if done:
            step = end
        for t in range(k):
            path.code[t] += step * path.direction[t]
        if done:
            return k, _polish(path, b, gram, alpha, k) and n_dependent == 0
        level -= step
        for j in range(p):
            c[j] -= step * a[j]
        if entering < 0:
            left = support[entry]
            c[left] = level * path.sign[entry]
            _leave(path, entry, k)
            k -= 1
            if k == 0:
                return k, False
    return k, False


@njit(**FAST)
def homotopy(B, gram, filled, atoms, mask, alpha, positive, largest, tie):
    """Return the lasso codes of samples as (counts, atoms, values, whether each path went well).

    B (n, p) holds the correlations D x; gram (p, p) and `filled` say which of its rows are known,
    the others are computed sample by sample over the entries that `mask` (n, m) marks as observed.
    Without missing entries `mask` is empty, (0, m).
    """
    n, p = B.shape
    path = _new_path(p, largest, B)
    counts = np.zeros(n, np.int64)
    well = np.ones(n, np.bool_)
    columns = np.empty(8 * n + 2 * largest, np.int32)
    values = np.empty(8 * n + 2 * largest, B.dtype)
    work = np.empty(atoms.shape[1], B.dtype)
    at = 0
    for i in range(n):
        observed = mask[min(i, mask.shape[0])]
        if mask.shape[0] > 0:
            filled[:] = False
        for t in range(path.direction.shape[0]):
            path.direction[t] = 0.0
        k, well[i] = _trace(
            path, B[i], gram, filled, atoms, observed, work, alpha, positive,
            tie, tie, 8 * largest + 64,
        )  # fmt: skip
        if at + k > columns.shape[0]:
            columns = enlarged(columns, 2 * columns.shape[0] + k)
            values = enlarged(values, 2 * values.shape[0] + k)
        counts[i] = sorted_into(path.support, path.code, k, columns, values, at)
        at += counts[i]
    return counts, columns[:at], values[:at], well
