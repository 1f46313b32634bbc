"""Compiled layers of proximal gradient descent for convolutional codes of signals.

A layer maps codes z and the extrapolated v, lists of nonzeros, to ``prox(v + s W^T r(H v + mu, y))``. Its
only product at all positions are the correlations W^T r with the residual, and these need not be computed
while r is near a residual for which they are known: a code stays at zero as long as its correlation is within
its bound, and correlations change by at most ``||filter|| ||r - r0||``. Then all work is at the *active*
positions: those in use, and those near their bounds. The result is that of all positions.

With backtracking the step size of a sample is halved until its quadratic bound holds; see
`calepin.solvers.proximal`, whose rules these are.

Signals are flat, one plane for each channel; filters are padded with zeros to whole lanes, and planes so that
the last padded filter fits. `kernels.conv_layers_back` goes back.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, INLINED, LEAF, njit
from calepin.solvers.kernels.conv_descent import LANES, correlate, subtract
from calepin.solvers.kernels.support import CUT, SHRINK, prox
from calepin.solvers.proximal import GROWTH, MAX_HALVINGS

__all__ = ["BINOMIAL", "FAMILIES", "GAUSSIAN", "Layers", "Store", "run_layers"]

FAMILIES = ("Gaussian", "Binomial", "Poisson")
GAUSSIAN, BINOMIAL, _ = range(3)
_AHEAD = 8  # layers whose changes a list of active positions is to outlast
_FASTER = 16  # correlations at all positions in the time of one at an active position

Layers = namedtuple(
    "Layers",
    # H and W, (n_components, channels * padded kernel); bounds (n_components,) of gradients of codes at zero,
    # and their factors in each layer; step size, and whether it is only the first guess; proximal map;
    # family, its trials and largest log-rate; whether there is momentum, and whether it is dropped uphill;
    # largest bound, norm of the longest filter of W, rounding error; grid of `conv_descent`
    "synthesis analysis bounds factors step backtracks kind family trials rate momentum restart "
    "largest longest rounding grid",
)

_Work = namedtuple(
    "_Work",
    # entries of z and v before each layer: their first one, (T + 2,); component and position; values of both
    "first atom place z v "
    # (T or 1, plane) residuals; (T + 1,) extrapolation that led to each v, and step sizes
    "residual beta step "
    # planes: predictor; that of a trial; residual at the last look at all positions
    "eta trial seen "
    # codes at all positions: before and after a layer, v, correlations
    "before after point found "
    # component and place of the active positions
    "active_atom active_place",
)

Store = namedtuple(
    "Store",
    # what `_Work` holds of each sample: whether it is kept, (n,); number of entries, (1,); residuals
    # (n, T, plane), extrapolation, step sizes, first entries, and entries of all samples
    "kept used residual beta step first atom place z v",
)


@njit(**FAST)
def run_layers(y, offset, layers, codes, first_move, last_move, store):
    """Run the layers on samples (n, plane).

    The codes (n, n_components * positions) are those before the layers, and are replaced by those after them;
    the two moves (n,) are set to the squared lengths of the first change, before the proximal map, and of the
    last one. The store keeps what the way back needs, unless it is empty.
    """
    keep = len(store.kept) > 0
    work = _new_work(y, codes.shape[1], layers, keep)
    for i in range(len(y)):
        first_move[i], last_move[i] = _ascend(y[i], offset[i], layers, codes[i], work)
        if keep:
            _keep(i, len(layers.factors), work, store)


@njit(**LEAF)
def _keep(i, n_layers, work, store):
    """Copy what the way back needs into the store, if there is room."""
    used, more = store.used[0], work.first[n_layers + 1]
    store.kept[i] = used + more <= len(store.atom)
    if not store.kept[i]:
        return
    store.used[0] += more
    for t in range(n_layers + 2):
        store.first[i, t] = used + work.first[t]
    for t in range(n_layers):
        store.beta[i, t], store.step[i, t] = work.beta[t], work.step[t]
        for q in range(work.residual.shape[1]):
            store.residual[i, t, q] = work.residual[t, q]
    for e in range(more):
        store.atom[used + e], store.place[used + e] = work.atom[e], work.place[e]
        store.z[used + e], store.v[used + e] = work.z[e], work.v[e]


@njit(**INLINED)
def _new_work(y, size, layers, keep):
    """Return work for one sample at a time, which keeps all layers or the last one."""
    n_layers, dtype, plane = len(layers.factors), y.dtype, y.shape[1]
    room = (n_layers + 1) * size if keep else 2 * size
    return _Work(
        np.zeros(n_layers + 2, np.int64), np.empty(room, np.int32), np.empty(room, np.int32),
        np.empty(room, dtype), np.empty(room, dtype),
        np.empty((n_layers if keep else 1, plane), dtype), np.zeros(n_layers + 1, dtype),
        np.zeros(n_layers + 1, dtype),
        np.zeros(plane, dtype), np.zeros(plane, dtype), np.zeros(plane, dtype),
        np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype),
        np.empty(size, np.int32), np.empty(size, np.int32),
    )  # fmt: skip


@njit(**LEAF)
def _ascend(y, offset, layers, code, work):
    """Run the layers on one sample; return the squared lengths of two changes, see `run_layers`."""
    n_layers, dtype = len(layers.factors), y.dtype.type
    one, zero = dtype(1), dtype(0)
    keep = len(work.residual) == n_layers
    for j in range(len(code)):
        work.before[j] = work.point[j] = code[j]
    first_move = moved = radius = zero
    momentum, step, factor0, count = one, layers.step, one, np.int64(-1)
    work.beta[0] = work.first[0] = 0
    _list(work, 0, len(layers.bounds))
    for t in range(n_layers):
        residual, factor = work.residual[t if keep else 0], layers.factors[t]
        for q in range(len(offset)):
            work.eta[q] = offset[q]
        for e in range(work.first[t], work.first[t + 1]):
            subtract(
                work.eta, work.eta, layers.synthesis[work.atom[e]], 0, work.place[e], -work.v[e], layers.grid
            )
        for q in range(len(y)):
            residual[q] = _score_of(y[q], work.eta[q], layers)
        change = _change(residual, work.seen, layers)
        if count < 0 or not change + (factor0 - factor) * layers.largest < radius:
            count, factor0, radius = np.int64(-1), factor, _AHEAD * change if t else zero
        _look(count, residual, layers, work)
        step = _shrink(count, y, offset, factor, step, residual, layers, work)
        work.step[t] = step
        moved, uphill, rests = _measure(count, layers, work)
        if t == 0:
            for j in range(len(code)):
                first_move += (step * work.found[j]) ** 2
        drops = layers.restart and uphill > 0
        if layers.backtracks and not rests and (drops or not layers.momentum):
            step *= dtype(GROWTH)  # with momentum, step sizes must not grow, except at a restart
        beta = zero
        if layers.momentum:
            momentum = one if drops else momentum
            following = (one + np.sqrt(one + dtype(4) * momentum * momentum)) / dtype(2)
            beta, momentum = (momentum - one) / following, following
        work.beta[t + 1] = beta
        if not keep:
            work.first[t + 1] = 0
        if count >= 0:
            _extrapolate_at(count, beta, t + 1, len(layers.bounds), work)
            continue
        for j in range(len(code)):
            work.point[j] = work.after[j] + beta * (work.after[j] - work.before[j])
            work.before[j] = work.after[j]
        _list(work, t + 1, len(layers.bounds))
        while radius > change and count < 0:
            count = _activate(factor, radius, layers, work)
            radius = radius if count >= 0 else radius / 2
    for j in range(len(code)):
        code[j] = work.before[j]
    return first_move, moved


@njit(**LEAF)
def _change(residual, seen, layers):
    """Return a bound on the change of correlations since the last look, with rounding errors."""
    change, whole = residual.dtype.type(0), residual.dtype.type(0)
    for q in range(len(residual)):
        change += (residual[q] - seen[q]) * (residual[q] - seen[q])
        whole += residual[q] * residual[q]
    return layers.longest * (np.sqrt(change) + layers.rounding * np.sqrt(whole))


@njit(**LEAF)
def _look(count, residual, layers, work):
    """Correlate the residual with the filters at the active positions, or at all."""
    if count < 0:
        _correlate_all(layers.analysis, layers.grid, residual, work.found)
        for q in range(len(residual)):
            work.seen[q] = residual[q]
    positions = len(work.point) // len(layers.bounds)
    for a in range(count):
        m, place = work.active_atom[a], work.active_place[a]
        work.found[m * positions + place] = correlate(residual, layers.analysis[m], 0, place, layers.grid)


@njit(**LEAF)
def _correlate_all(filters, grid, plane, found):
    """Set `found` to the correlations of the filters with the plane, at all positions."""
    positions = len(found) // len(filters)
    one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
    five, six, seven = np.uintp(5), np.uintp(6), np.uintp(7)
    width = filters.shape[1] // grid.channels
    for m in range(len(filters)):
        first, row = np.uintp(m * positions), filters[m]
        for j in range(positions):
            found[first + np.uintp(j)] = 0
        for k in range(0, filters.shape[1], LANES):
            h0, h1, h2, h3 = row[k], row[k + 1], row[k + 2], row[k + 3]
            h4, h5, h6, h7 = row[k + 4], row[k + 5], row[k + 6], row[k + 7]
            base = np.uintp(k // width * grid.width + k % width)
            for j in range(positions):
                q = base + np.uintp(j)
                found[first + np.uintp(j)] += (
                    (h0 * plane[q] + h1 * plane[q + one]) + (h2 * plane[q + two] + h3 * plane[q + three])
                ) + (
                    (h4 * plane[q + four] + h5 * plane[q + five])
                    + (h6 * plane[q + six] + h7 * plane[q + seven])
                )


@njit(**LEAF)
def _shrink(count, y, offset, factor, step, residual, layers, work):
    """Set the codes after a layer; return the step size, with backtracking the first whose bound holds."""
    loss = step * 0
    if layers.backtracks:
        for q in range(len(y)):
            loss += _loss(y[q], work.eta[q], residual[q], layers)
    for _ in range(MAX_HALVINGS):
        if count < 0:
            _shrink_all(factor, step, layers, work)
        else:
            _shrink_at(count, factor, step, layers, work)
        if not layers.backtracks or _is_bounded(count, y, offset, step, residual, loss, layers, work):
            break
        step *= y.dtype.type(0.5)
    return step


@njit(**LEAF)
def _shrink_all(factor, step, layers, work):
    positions = len(work.point) // len(layers.bounds)
    for m in range(len(layers.bounds)):
        level, first = step * (factor * layers.bounds[m]), np.uintp(m * positions)
        for place in range(positions):
            j = first + np.uintp(place)
            work.after[j] = prox(work.point[j] + step * work.found[j], level, layers.kind)


@njit(**LEAF)
def _shrink_at(count, factor, step, layers, work):
    positions = len(work.point) // len(layers.bounds)
    for a in range(count):
        m = work.active_atom[a]
        j = m * positions + work.active_place[a]
        level = step * (factor * layers.bounds[m])
        work.after[j] = prox(work.point[j] + step * work.found[j], level, layers.kind)


@njit(**LEAF)
def _is_bounded(count, y, offset, step, residual, loss, layers, work):
    """Return whether the quadratic bound holds that a step size promises; see `solvers.proximal`."""
    zero, positions = y.dtype.type(0), len(work.point) // len(layers.bounds)
    apart, size = zero, zero
    for q in range(len(offset)):
        work.trial[q] = offset[q]
    for a in range(len(work.point) if count < 0 else count):
        m, place = (
            (a // positions, a % positions) if count < 0 else (work.active_atom[a], work.active_place[a])
        )
        j = m * positions + place
        z = work.after[j]
        apart += (z - work.point[j]) ** 2
        size += z * z
        if z != 0:
            subtract(work.trial, work.trial, layers.synthesis[m], 0, place, -z, layers.grid)
    if np.sqrt(apart) <= layers.rounding * np.sqrt(size):
        return True
    after, first, second = zero, zero, zero
    for q in range(len(y)):
        change, score = work.trial[q] - work.eta[q], _score_of(y[q], work.trial[q], layers)
        after += _loss(y[q], work.trial[q], score, layers)
        first += residual[q] * change
        second += (residual[q] - score) * change
    exact = after - loss + first
    if abs(exact) <= layers.rounding * (abs(loss) + abs(after)):
        exact = second / 2
    return exact <= apart / (2 * step)


@njit(**LEAF)
def _score_of(y, eta, layers):
    """Return the score of one entry."""
    if layers.family == GAUSSIAN:
        return y - eta
    if layers.family == BINOMIAL:
        return y - layers.trials / (eta * 0 + 1 + np.exp(-eta))
    return y - np.exp(min(eta, layers.rate))


@njit(**LEAF)
def _loss(y, eta, score, layers):
    """Return the negative log-likelihood of one entry with this score."""
    if layers.family == GAUSSIAN:
        return score * score / 2
    if layers.family == BINOMIAL:
        return layers.trials * (max(eta, eta * 0) + np.log1p(np.exp(-abs(eta)))) - y * eta
    return (y - score) - y * eta


@njit(**LEAF)
def _measure(count, layers, work):
    """Return the squared move of a layer, its product with the last, and whether v has not moved."""
    zero, positions = layers.step * 0, len(work.point) // len(layers.bounds)
    moved, uphill, apart, size = zero, zero, zero, zero
    if count < 0:
        for j in range(len(work.point)):
            change, gap = work.after[j] - work.before[j], work.after[j] - work.point[j]
            moved += change * change
            uphill -= gap * change
            apart += gap * gap
            size += work.after[j] * work.after[j]
    for a in range(count):
        j = work.active_atom[a] * positions + work.active_place[a]
        change, gap = work.after[j] - work.before[j], work.after[j] - work.point[j]
        moved += change * change
        uphill -= gap * change
        apart += gap * gap
        size += work.after[j] * work.after[j]
    return moved, uphill, np.sqrt(apart) <= layers.rounding * np.sqrt(size)


@njit(**LEAF)
def _activate(factor, radius, layers, work):
    """List the positions whose codes may become other than zero within a radius of correlations.

    Returns their number; -1 if there are too many.
    """
    positions, count = len(work.point) // len(layers.bounds), np.int64(0)
    signed = layers.kind == SHRINK or layers.kind == CUT
    for m in range(len(layers.bounds)):
        least, first = factor * layers.bounds[m] - radius, np.uintp(m * positions)
        for place in range(positions):
            j = first + np.uintp(place)
            near = work.found[j] > least or (signed and work.found[j] < -least)
            if near or work.point[j] != 0 or work.before[j] != 0:
                work.active_atom[count], work.active_place[count] = m, place
                count += 1
    return count if _FASTER * count < len(work.point) else -1


@njit(**LEAF)
def _extrapolate_at(count, beta, t, n_components, work):
    """Set v before layer t, and list where z or v is not zero."""
    positions, e = len(work.point) // n_components, work.first[t]
    for a in range(count):
        j = work.active_atom[a] * positions + work.active_place[a]
        z = work.after[j]
        v = z + beta * (z - work.before[j])
        work.before[j], work.point[j] = z, v
        if z != 0 or v != 0:
            work.atom[e], work.place[e] = work.active_atom[a], work.active_place[a]
            work.z[e], work.v[e] = z, v
            e += 1
    work.first[t + 1] = e


@njit(**LEAF)
def _list(work, t, n_components):
    """List where z or v before layer t is not zero."""
    positions, e = len(work.point) // n_components, work.first[t]
    for m in range(n_components):
        for place in range(positions):
            j = np.uintp(m * positions) + np.uintp(place)
            if work.point[j] != 0 or work.before[j] != 0:
                work.atom[e], work.place[e] = m, place
                work.z[e], work.v[e] = work.before[j], work.point[j]
                e += 1
    work.first[t + 1] = e
