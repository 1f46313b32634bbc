"""Compiled homotopy (LARS) for the lasso: one sample at a time, on rows of the Gram matrix.

    minimise over z   0.5 ||x - z D||^2 + alpha ||z||_1

The path z(lam), from lam = max |D x| down to alpha, is linear between events: an atom joins the
support, or a coefficient reaches zero and leaves (Osborne, Presnell and Turlach 2000; Efron et al.
2004, Section 3). On a support S with signs s, lowering lam by t moves the code by t u with
u = G_SS^-1 s, and the correlations D (x - z D) by -t G u.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, INLINED, LANES, LEAF, njit
from calepin.solvers.kernels.support import (
    combine_rows,
    counting,
    enlarged,
    fill_gram_row,
    grow_inverse,
    inverse_column,
    largest,
    position,
    shrink_inverse,
    smallest,
    sorted_into,
)

Path = namedtuple(
    "Path",
    # (p,) bar: least rate at which an atom's |correlation| approaches the level, to join the support
    # (infinite: it must not join); correlations, their slope, steps to joining (and their bits)
    # (k,) on the support: atoms, signs, code, direction, a column of the inverse, a right-hand side
    # (and its bits), 0 to k - 1; (k, k) inverse Gram matrix of the support
    "bar correlation slope step step_bits"
    " support sign code direction column target target_bits order inverse",
)


@njit(**INLINED)
def _new_path(p, most, like, bits):
    dtype = like.dtype
    step = np.zeros(p, dtype)
    wide = (most // LANES + 2) * LANES
    target = np.zeros(wide, dtype)
    return Path(
        np.zeros(p, dtype),
        np.zeros(p, dtype),
        np.zeros(p, dtype),
        step,
        step.view(bits),
        np.zeros(wide, np.int32),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        np.zeros(wide, dtype),
        target,
        target.view(bits),
        counting(wide),
        np.zeros((most + 1, wide), dtype),
    )


@njit(**LEAF)
def _steps_to_joining(c, a, bar, level, nonnegative, step):
    """Set the steps after which each atom's |correlation| equals the level."""
    one, zero = c.dtype.type(1), c.dtype.type(0)
    never = level + level
    for j in range(c.shape[0]):
        # Of the two bounds, +level is reached first if and only if c > level * a.
        upper = nonnegative or c[j] > level * a[j]
        rise = one - a[j] if upper else one + a[j]
        room = max(level - c[j] if upper else level + c[j], zero)
        step[j] = room / rise if rise > bar[j] else never


@njit(**LEAF)
def _steps_to_zero(code, direction, sign, width, level, step):
    """Set the steps after which each coefficient is zero."""
    zero = code.dtype.type(0)
    never = level + level
    for t in range(width):
        towards = -direction[t] * sign[t]
        step[t] = max(code[t] * sign[t], zero) / towards if towards > zero else never


@njit(**LEAF)
def _join(inverse, gram, support, sign, direction, column, loads, order, j, side, k, rank_tol):
    """Add atom j to the support; return False if it is linearly dependent on the support."""
    loss = inverse_column(inverse, gram, j, support, k, column, loads, order)
    complement = gram[j, j] - loss
    if not complement > rank_tol * gram[j, j]:
        return False
    aligned = -side
    for t in range(k):
        aligned += column[t] * sign[t]
    factor = aligned / complement
    support[k] = j
    sign[k] = side
    direction[k] = 0
    grow_inverse(inverse, column, complement, k)
    for t in range(k + 1):
        direction[t] += factor * column[t]
    return True


@njit(**LEAF)
def _leave(inverse, support, sign, code, direction, r, k):
    """Remove entry r of the support, and put the last entry in its place."""
    last = k - 1
    factor = direction[r] / inverse[r, r]
    for t in range(k):
        direction[t] -= factor * inverse[r, t]
    shrink_inverse(inverse, r, k)
    support[r], sign[r] = support[last], sign[last]
    code[r], direction[r] = code[last], direction[last]
    direction[last] = 0


@njit(**LEAF)
def _polish(inverse, gram, b, support, sign, code, target, column, alpha, k):
    """Refine the solution of G_SS z = b_S - alpha s by its residual; return whether signs are unchanged."""
    for t in range(k):
        j = support[t]
        rest = b[j] - alpha * sign[t]
        for i in range(k):
            rest -= gram[j, support[i]] * code[i]
        target[t] = rest
    for t in range(k):
        column[t] = 0
    for i in range(k):
        for t in range(k):
            column[t] += inverse[i, t] * target[i]
    kept = True
    for t in range(k):
        code[t] += column[t]
        if code[t] * sign[t] <= 0:
            code[t] = 0
            kept = False
    return kept


@njit(**LEAF)
def _trace(path, b, gram, filled, atoms, observed, work, alpha, nonnegative, tie, rank_tol, max_events):
    """Follow the path of one sample down to alpha; return support size and success."""
    c = path.correlation
    a = path.slope
    steps = path.step
    bits = path.step_bits
    support = path.support
    sign = path.sign
    code = path.code
    direction = path.direction
    column = path.column
    target = path.target
    target_bits = path.target_bits
    inverse = path.inverse
    order = path.order
    bar = path.bar
    p = c.shape[0]
    zero, one = c.dtype.type(0), c.dtype.type(1)
    for j in range(p):
        c[j] = b[j]
        bar[j] = tie
        steps[j] = max(b[j], zero) if nonnegative else abs(b[j])
    entering = position(bits, largest(bits, p), p)
    level = steps[entering]
    k = np.int64(0)
    if not level > alpha:
        return k, True
    for t in range(direction.shape[0]):
        direction[t] = 0
    well = True
    left = -1  # the atom that left in the last event, which must not join again in the next one
    for _ in range(max_events):
        if entering >= 0:
            if not filled[entering]:
                fill_gram_row(gram, atoms, observed, entering, work)
                filled[entering] = True
            side = one if c[entering] > zero else -one
            bar[entering] = np.inf
            code[k] = 0
            if k + 1 < inverse.shape[0] and _join(
                inverse, gram, support, sign, direction, column, target, order,
                entering, side, k, rank_tol,
            ):  # fmt: skip
                k += 1
            else:
                well = False
            if k == 0:
                return k, False
        combine_rows(gram, support, direction, k, a, p)
        if left >= 0:
            bar[left] = np.inf
        _steps_to_joining(c, a, bar, level, nonnegative, steps)
        first = smallest(bits, p)
        entering = position(bits, first, p)
        step = steps[entering]
        if left >= 0:
            bar[left] = tie
            # It can only join again at the opposite bound, at distance 2 * level when it left.
            rise = one + a[left] if c[left] > zero else one - a[left]
            if not nonnegative and rise * step > level + level:
                step, entering = (level + level) / rise, left
            left = -1
        width = (k + LANES - 1) // LANES * LANES
        _steps_to_zero(code, direction, sign, width, level, target)
        first = smallest(target_bits, width)
        entry = 0
        if first < bits[entering]:
            entry = position(target_bits, first, width)
            if target[entry] < step:
                step, entering = target[entry], -1
        end = level - alpha
        done = step >= end
        if done:
            step = end
        for t in range(k):
            code[t] += step * direction[t]
        if done:
            kept = _polish(inverse, gram, b, support, sign, code, target, column, alpha, k)
            return k, kept and well
        level -= step
        for j in range(p):
            c[j] -= step * a[j]
        if entering < 0:
            left = support[entry]
            c[left] = level * sign[entry]
            _leave(inverse, support, sign, code, direction, entry, k)
            k -= 1
            if k == 0:
                return k, False
    return k, False


@njit(**FAST)
def homotopy(B, gram, filled, atoms, mask, alpha, nonnegative, most, tie, bits):
    """Return the lasso codes of samples as (counts, atoms, values, success of each path).

    B (n, p) holds the correlations D x, gram (p, p) the Gram matrix. `filled` (p,) marks its known rows; the
    others are computed for each sample over the observed entries, marked by `mask` (n, m). If all rows are
    known, `mask` has shape (1, m) and is not used.
    """
    n, p = B.shape
    masked = not filled.all()
    path = _new_path(p, most, B, bits)
    counts = np.zeros(n, np.int64)
    well = np.ones(n, np.bool_)
    columns = np.empty(8 * n + 2 * most, np.int32)
    values = np.empty(8 * n + 2 * most, B.dtype)
    work = np.empty(atoms.shape[1], B.dtype)
    at = np.int64(0)
    for i in range(n):
        observed = mask[min(i, mask.shape[0] - 1)]
        if masked:
            filled[:] = False
        k, well[i] = _trace(
            path, B[i], gram, filled, atoms, observed, work, alpha, nonnegative,
            tie, tie, 8 * most + 64,
        )  # fmt: skip
        if at + k > columns.shape[0]:
            columns = enlarged(columns, 2 * columns.shape[0] + k)
            values = enlarged(values, 2 * values.shape[0] + k)
        counts[i] = sorted_into(path.support, path.code, k, columns, values, at)
        at += counts[i]
    return counts, columns[:at], values[:at], well
