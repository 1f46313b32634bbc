"""Compiled descent for the lasso in float64: slow but robust, for samples on which the homotopy fails.

Duplicate atoms and ties are no problem here. Sweeps of coordinate descent (Friedman, Hastie and Tibshirani
2010, Section 2.2) find the support. At regular intervals all its coefficients are moved to the optimum for
their signs, or until the first becomes zero (Lee et al. 2007, feature-sign search). The descent starts from
given codes and stops at a duality gap.
"""

import numpy as np

from calepin.core.compiled import FAST, LANES, LEAF, njit
from calepin.solvers.kernels.support import counting, fill_gram_row, grow_inverse, inverse_column

SWEEPS = 8  # between steps on the support
DEPENDENT = 1e-10  # atoms with a smaller fraction of energy outside a span count as dependent


@njit(**LEAF)
def _gap(z, c, b, energy, alpha, nonnegative):
    # With c = b - G z: ||r||^2 = ||x||^2 - <b + c, z> and <r, x> = ||x||^2 - <b, z>.
    size, bz, cz, peak = 0.0, 0.0, 0.0, 0.0
    for j in range(z.shape[0]):
        size += abs(z[j])
        bz += b[j] * z[j]
        cz += c[j] * z[j]
        peak = max(peak, c[j] if nonnegative else abs(c[j]))
    rr, rx = max(energy - bz - cz, 0.0), energy - bz
    scale = rx / rr if rr > 0.0 else 1.0
    if peak * scale > alpha:
        scale = alpha / peak
    scale = max(scale, 0.0)
    return 0.5 * rr + alpha * size - scale * rx + 0.5 * scale * scale * rr


@njit(**LEAF)
def _move(z, c, gram, j, change):
    z[j] += change
    for i in range(c.shape[0]):
        c[i] -= change * gram[j, i]


@njit(**LEAF)
def _sweep(z, c, gram, filled, atoms, observed, work, norms, alpha, nonnegative, everywhere):
    for j in range(z.shape[0]):
        norm = norms[j]
        if norm == 0.0 or not (everywhere or z[j] != 0.0):
            continue
        target = c[j] + norm * z[j]
        new = 0.0
        if target > alpha:
            new = (target - alpha) / norm
        elif target < -alpha and not nonnegative:
            new = (target + alpha) / norm
        if new != z[j]:
            if not filled[j]:
                fill_gram_row(gram, atoms, observed, j, work)
                filled[j] = True
            _move(z, c, gram, j, new - z[j])


@njit(**LEAF)
def _move_until_zero(z, c, gram, support, change, k, step):
    """Move the support by step * change, or to the first zero; return whether a zero was reached."""
    first = -1
    for t in range(k):
        here = z[support[t]]
        if here * change[t] < 0.0 and -here / change[t] <= step:
            step, first = -here / change[t], t
    for t in range(k):
        _move(z, c, gram, support[t], step * change[t])
    if first >= 0:
        z[support[first]] = 0.0
    return first >= 0


@njit(**LEAF)
def _step_on_support(z, c, gram, alpha, inverse, support, column, loads, order):
    """Move the support towards its optimum for given signs; return whether a coefficient became zero."""
    k = np.int64(0)
    for j in range(z.shape[0]):
        if z[j] == 0.0:
            continue
        outside = gram[j, j] - inverse_column(inverse, gram, j, support, k, column, loads, order)
        support[k] = j
        column[k] = -1.0
        if k + 1 == inverse.shape[0] or not outside > DEPENDENT * gram[j, j]:
            # A step along `column` keeps z D, and changes ||z||_1 at this rate until a sign changes.
            rate = 0.0
            for t in range(k + 1):
                rate += column[t] if z[support[t]] > 0.0 else -column[t]
            if rate > 0.0 or (rate == 0.0 and z[j] < 0.0):
                for t in range(k + 1):
                    column[t] = -column[t]
            return _move_until_zero(z, c, gram, support, column, k + 1, np.inf)
        grow_inverse(inverse, column, outside, k)
        k += 1
    for t in range(k):
        j = support[t]
        loads[t] = c[j] - (alpha if z[j] > 0.0 else -alpha)
    for t in range(k):
        change = 0.0
        for i in range(k):
            change += inverse[t, i] * loads[i]
        column[t] = change
    return _move_until_zero(z, c, gram, support, column, k, 1.0)


@njit(**FAST)
def descend(Z, B, gram, filled, atoms, mask, norms, energies, alpha, nonnegative, goals, max_sweeps, most):
    """Improve dense codes Z (n, p) in place until each gap is at most its goal, with `most` atoms."""
    n, p = Z.shape
    masked = not filled.all()
    wide = (most // LANES + 2) * LANES
    c, work = np.empty(p), np.empty(atoms.shape[1])
    inverse, column, loads = np.zeros((most + 1, wide)), np.zeros(wide), np.zeros(wide)
    support, order = np.zeros(wide, np.int32), counting(wide)
    for i in range(n):
        observed = mask[min(i, mask.shape[0] - 1)]
        if masked:
            filled[:] = False
        z, b, own_norms = Z[i], B[i], norms[min(i, norms.shape[0] - 1)]
        c[:] = b
        for j in range(p):
            if z[j] != 0.0:
                if not filled[j]:
                    fill_gram_row(gram, atoms, observed, j, work)
                    filled[j] = True
                start = z[j]
                z[j] = 0.0
                _move(z, c, gram, j, start)
        for s in range(max_sweeps):
            everywhere = s % SWEEPS == 0
            _sweep(
                z, c, gram, filled, atoms, observed, work, own_norms, alpha, nonnegative, everywhere
            )  # fmt: skip
            if everywhere:
                for _ in range(p):  # each step but the last sets a coefficient to zero
                    if not _step_on_support(z, c, gram, alpha, inverse, support, column, loads, order):
                        break
                if _gap(z, c, b, energies[i], alpha, nonnegative) <= goals[i]:
                    break
