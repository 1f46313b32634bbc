"""Compiled greedy pursuit and refit for convolutional codes of counts, in the layout of `conv_descent`.

The fit on a support is Newton's method; each of its linear systems is solved by conjugate gradients, whose
products only involve the patches of the support. If codes are nonnegative, a step ends at the first
coefficient that reaches zero. Events whose patches do not overlap are independent in the likelihood: a new
event changes only those that it overlaps, directly or through others, and the correlations near them.

Where an entry is missing, `seen`, y, trials and eta are zero: score, curvature and every change of eta are
zero there, and the loss is a constant.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, INLINED, LEAF, njit
from calepin.solvers.kernels.conv_descent import correlate, correlate_all, observed_norm, subtract

GAUSSIAN, BINOMIAL, POISSON = 0, 1, 2
LARGEST = 0.5 * np.log(np.finfo(np.float64).max)  # the largest log-rate, as in `calepin.likelihoods.Poisson`

SEEN = 0.1
"""Smallest fraction of the energy of an atom that is observed where an event is placed: its amplitude would
follow the noise of few entries otherwise."""

Planes = namedtuple("Planes", "y trials seen eta score weight change product")
"""Flat arrays of one sample: y, trials, 1 where it is observed, linear predictor, its score and curvature,
direction, product."""

Support = namedtuple("Support", "row col atom value")
"""Events, one per entry."""


@njit(**LEAF)
def _evaluate(planes, family, box, grid):
    """Set score and weight in a box: minus the first derivative of the nll in eta, and the second."""
    for c in range(grid.channels):
        for i in range(box[0], box[1]):
            at = (c * grid.rows + i) * grid.width
            for q in range(at + box[2], at + box[3]):
                eta = planes.eta[q]
                if family == GAUSSIAN:
                    mean, weight = eta, 1.0
                elif family == BINOMIAL:
                    p = 1.0 / (1.0 + np.exp(-eta))
                    mean = planes.trials[q] * p
                    weight = mean * (1.0 - p)
                else:
                    mean = np.exp(min(eta, LARGEST))
                    weight = mean
                planes.score[q] = planes.y[q] - mean
                planes.weight[q] = weight
            if grid.masked:
                for q in range(at + box[2], at + box[3]):
                    planes.score[q] *= planes.seen[q]
                    planes.weight[q] *= planes.seen[q]


@njit(**LEAF)
def _loss(planes, family, step, box, grid):
    """Return the nll over the part of a box inside the signal, after `step` times the direction."""
    total = 0.0
    for c in range(grid.channels):
        for i in range(box[0], min(box[1], grid.signal_rows)):
            at = (c * grid.rows + i) * grid.width
            for q in range(at + box[2], at + min(box[3], grid.signal_width)):
                eta, y = planes.eta[q] + step * planes.change[q], planes.y[q]
                if family == GAUSSIAN:
                    total += 0.5 * (y - eta) * (y - eta)
                elif family == BINOMIAL:
                    total += planes.trials[q] * (max(eta, 0.0) + np.log1p(np.exp(-abs(eta)))) - y * eta
                else:
                    total += np.exp(min(eta, LARGEST)) - y * eta
    return total


@njit(**LEAF)
def _direct(planes, atoms, support, chosen, direction, box, grid):
    """Set `change` to the predictor of a direction of the coefficients, and `product` to weight times it."""
    for c in range(grid.channels):
        for i in range(box[0], box[1]):
            at = (c * grid.rows + i) * grid.width
            for q in range(at + box[2], at + box[3]):
                planes.change[q] = 0.0
    for t in range(chosen.shape[0]):
        if direction[t] != 0.0:
            e = chosen[t]
            subtract(
                planes.change,
                planes.seen,
                atoms.rows[support.atom[e]],
                support.row[e],
                support.col[e],
                -direction[t],
                grid,
            )
    for c in range(grid.channels):
        for i in range(box[0], box[1]):
            at = (c * grid.rows + i) * grid.width
            for q in range(at + box[2], at + box[3]):
                planes.product[q] = planes.weight[q] * planes.change[q]


@njit(**LEAF)
def _product(a, b):
    total = 0.0
    for t in range(a.shape[0]):
        total += a[t] * b[t]
    return total


@njit(**LEAF)
def _newton_direction(planes, atoms, support, chosen, free, slope, curvature, work, box, grid):
    """Set work[0] to the solution of Hessian @ direction = slope on free coefficients.

    Solved by conjugate gradients; `work` has five rows.
    """
    k = chosen.shape[0]
    direction, residual, scaled, search, image = work[0], work[1], work[2], work[3], work[4]
    for t in range(k):
        direction[t] = 0.0
        residual[t] = slope[t] if free[t] else 0.0
        scaled[t] = residual[t] / curvature[t]
        search[t] = scaled[t]
    energy = _product(residual, scaled)
    goal = 1e-16 * energy
    for _ in range(2 * k + 10):
        if not energy > goal:
            break
        _direct(planes, atoms, support, chosen, search, box, grid)
        for t in range(k):
            image[t] = 0.0
            if free[t]:
                e = chosen[t]
                atom = atoms.rows[support.atom[e]]
                image[t] = correlate(planes.product, atom, support.row[e], support.col[e], grid)
                image[t] += 1e-10 * curvature[t] * search[t]  # regularisation for events that coincide
        bend = _product(search, image)
        if not bend > 0.0:
            break
        step = energy / bend
        for t in range(k):
            direction[t] += step * search[t]
            residual[t] -= step * image[t]
            scaled[t] = residual[t] / curvature[t]
        before, energy = energy, _product(residual, scaled)
        for t in range(k):
            search[t] = scaled[t] + energy / before * search[t]


@njit(**INLINED)
def refit(planes, atoms, support, chosen, family, nonnegative, box, grid, tol, max_iter):
    """Fit the chosen coefficients of a support in place; the other coefficients are fixed.

    Stops when no single coefficient could lower the nll by tol^2 / 2, according to its second-order model;
    returns whether this was reached.
    """
    k = chosen.shape[0]
    slope, curvature, free = np.empty(k), np.empty(k), np.empty(k, np.bool_)
    work = np.empty((5, k))
    direction = work[0]
    for _ in range(max_iter):
        _evaluate(planes, family, box, grid)
        worst = 0.0
        for t in range(k):
            e = chosen[t]
            atom, i, j = atoms.rows[support.atom[e]], support.row[e], support.col[e]
            slope[t] = correlate(planes.score, atom, i, j, grid)
            curvature[t] = observed_norm(planes.weight, atom, i, j, grid) + 1e-300
            free[t] = not nonnegative or support.value[e] > 0.0 or slope[t] > 0.0
            if free[t]:
                worst = max(worst, abs(slope[t]) / np.sqrt(curvature[t]))
        if worst <= tol:
            return True
        while True:
            _newton_direction(planes, atoms, support, chosen, free, slope, curvature, work, box, grid)
            blocked = False
            for t in range(k):
                if nonnegative and free[t] and support.value[chosen[t]] == 0.0 and direction[t] < 0.0:
                    free[t], blocked = False, True
            if not blocked:
                break
        longest = 1.0
        for t in range(k):
            if nonnegative and direction[t] < 0.0:
                longest = min(longest, -support.value[chosen[t]] / direction[t])
        _direct(planes, atoms, support, chosen, direction, box, grid)
        start, gain = _loss(planes, family, 0.0, box, grid), _product(slope, direction)
        step = longest
        for _ in range(60):
            if _loss(planes, family, step, box, grid) <= start - 1e-4 * step * gain + 1e-14 * abs(start):
                break
            step *= 0.5
        for t in range(k):
            e = chosen[t]
            value = support.value[e] + step * direction[t]
            hits = nonnegative and direction[t] < 0.0 and value <= 1e-15 * support.value[e]
            support.value[e] = 0.0 if hits else value
        for c in range(grid.channels):
            for i in range(box[0], box[1]):
                at = (c * grid.rows + i) * grid.width
                for q in range(at + box[2], at + box[3]):
                    planes.eta[q] += step * planes.change[q]
    _evaluate(planes, family, box, grid)
    return False


@njit(**LEAF)
def _apart(a, b, width, period):
    """Return whether two intervals of a given width do not overlap; a period of 0 means not periodic."""
    distance = abs(a - b)
    if period > 0:
        distance = min(distance, period - distance)
    return distance >= width


@njit(**INLINED)
def cluster(support, count, start, grid):
    """Return the events that overlap with event `start`, directly or through others."""
    down, right = grid.signal_rows * grid.circular, grid.signal_width * grid.circular
    reached = np.zeros(count, np.bool_)
    found = np.empty(count, np.int64)
    reached[start] = True
    found[0] = start
    n, at = 1, 0
    while at < n:
        e = found[at]
        at += 1
        for f in range(count):
            if not (
                reached[f]
                or _apart(support.row[e], support.row[f], grid.kernel_rows, down)
                or _apart(support.col[e], support.col[f], grid.kernel_width, right)
            ):
                reached[f] = True
                found[n] = f
                n += 1
    return found[:n]


@njit(**LEAF)
def _whole(grid):
    """Return the box of a signal and the copies of its beginning."""
    none = np.int64(0)
    return none, grid.rows, none, grid.signal_width + (grid.kernel_width - 1) * grid.circular


@njit(**LEAF)
def box_of(support, chosen, grid):
    """Return first and last row and first and last column of the patches of some events."""
    if grid.circular:
        return _whole(grid)
    top, bottom, left, right = grid.rows, 0, grid.width, 0
    for e in chosen:
        top, bottom = min(top, support.row[e]), max(bottom, support.row[e] + grid.kernel_rows)
        left, right = min(left, support.col[e]), max(right, support.col[e] + grid.kernel_width)
    return top, bottom, left, right


@njit(**LEAF)
def add_events(planes, atoms, support, grid):
    """Add the contribution of the events of a support to the linear predictor."""
    for e in range(support.row.shape[0]):
        if support.value[e] != 0.0:
            atom = atoms.rows[support.atom[e]]
            subtract(planes.eta, planes.seen, atom, support.row[e], support.col[e], -support.value[e], grid)


@njit(**FAST)
def refit_clusters(planes, atoms, support, family, nonnegative, grid, tol, max_iter):
    """Fit all coefficients of a support in place; return whether all fits have converged."""
    count = support.row.shape[0]
    left = np.ones(count, np.bool_)
    well = True
    for e in range(count):
        if left[e]:
            chosen = cluster(support, count, e, grid)
            for f in chosen:
                left[f] = False
            box = box_of(support, chosen, grid)
            if not refit(planes, atoms, support, chosen, family, nonnegative, box, grid, tol, max_iter):
                well = False
    return well


@njit(**INLINED)
def _inverse_norms(planes, atoms, rows, cols, grid):
    """Return 1 over the norm of the observed part of each atom at each position, 0 if too little is observed.

    Without missing entries there is one position for all.
    """
    inverse = np.zeros((rows if grid.masked else 1, cols if grid.masked else 1, atoms.norms.shape[0]))
    for i in range(inverse.shape[0]):
        for j in range(inverse.shape[1]):
            for m in range(inverse.shape[2]):
                norm = atoms.norms[m]
                if grid.masked:
                    norm = observed_norm(planes.seen, atoms.rows[m], i, j, grid)
                if norm > 0.0 and norm >= SEEN * atoms.norms[m]:
                    inverse[i, j, m] = 1.0 / np.sqrt(norm)
    return inverse


@njit(**LEAF)
def _rescan(planes, atoms, inverse_norms, best, which, box, nonnegative, grid, found):
    """Find the best atom at all positions whose patch touches a box."""
    for i in range(max(0, box[0] - grid.kernel_rows + 1), min(best.shape[0], box[1])):
        for j in range(max(0, box[2] - grid.kernel_width + 1), min(best.shape[1], box[3])):
            correlate_all(planes.score, atoms.columns, i, j, grid, found)
            peak, at = 0.0, 0
            row, col = (i, j) if grid.masked else (0, 0)
            for m in range(inverse_norms.shape[2]):
                c = (found[m] if nonnegative else abs(found[m])) * inverse_norms[row, col, m]
                if c > peak:
                    peak, at = c, m
            best[i, j], which[i, j] = peak, at


@njit(**FAST)
def pursue(planes, atoms, family, n_nonzero, tol, nonnegative, rows, cols, grid, refit_tol, max_iter):
    """Return the events of one sample, added one at a time at the largest correlation with the score."""
    support = Support(
        np.empty(n_nonzero, np.int64),
        np.empty(n_nonzero, np.int64),
        np.empty(n_nonzero, np.int64),
        np.zeros(n_nonzero),
    )
    best, which = np.zeros((rows, cols)), np.zeros((rows, cols), np.int32)
    found = np.empty(atoms.columns.shape[1])
    inverse_norms = _inverse_norms(planes, atoms, rows, cols, grid)
    whole = _whole(grid)
    _evaluate(planes, family, whole, grid)
    _rescan(planes, atoms, inverse_norms, best, which, whole, nonnegative, grid, found)
    count = 0
    while count < n_nonzero:
        peak, at = tol, -1
        for q in range(rows * cols):
            if best[q // cols, q % cols] > peak:
                peak, at = best[q // cols, q % cols], q
        if at < 0:
            break
        i, j = at // cols, at % cols
        known = False  # if so, only the error of the refit is left, and the pursuit stops
        for e in range(count):
            same = support.row[e] == i and support.col[e] == j
            known = known or (same and support.atom[e] == which[i, j])
        if known:
            break
        support.row[count], support.col[count], support.atom[count] = i, j, which[i, j]
        count += 1
        touched = cluster(support, count, count - 1, grid)
        box = box_of(support, touched, grid)
        refit(planes, atoms, support, touched, family, nonnegative, box, grid, refit_tol, max_iter)
        _rescan(planes, atoms, inverse_norms, best, which, box, nonnegative, grid, found)
    return Support(support.row[:count], support.col[:count], support.atom[:count], support.value[:count])
