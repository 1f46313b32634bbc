"""Compiled layers of proximal gradient descent for convolutional codes of signals, forwards and backwards.

A layer maps codes z and the extrapolated v, lists of nonzeros, to ``prox(v + s W^T r(H v + mu, y))``. Going
forwards, the correlations with the residual r are its only product at all positions. Going backwards every
product is one of nonzeros: a gradient passes a proximal map only where the code after it is not zero, and is
needed only where the code before it is not zero.

Signals are flat, one plane for each channel, which is `width` long; filters are padded with zeros to whole
lanes, and planes so that the last padded filter fits.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, INLINED, LEAF, njit
from calepin.solvers.kernels.support import CUT, SHRINK, SHRINK_POSITIVE, prox

__all__ = ["FAMILIES", "LANES", "Gradients", "Layers", "Store", "run_back", "run_layers"]

LANES = 8
FAMILIES = ("Gaussian", "Binomial", "Poisson")
_GAUSSIAN, _BINOMIAL = range(2)
_AHEAD = 8  # layers whose changes a list of active positions is to outlast
_FASTER = 16  # correlations at all positions in the time of one at an active position

Layers = namedtuple(
    "Layers",
    # H and W, (n_components, channels, padded kernel); bounds (n_components,) of gradients of codes at zero,
    # and their factors in each layer; step size; proximal map; family, its trials and largest log-rate;
    # entries of a plane; whether there is momentum, and whether it is dropped uphill; largest bound, norm of
    # the longest filter of W, and the relative rounding error of a correlation
    "synthesis analysis bounds factors step kind family trials rate width momentum restart "
    "largest longest rounding",
)

Gradients = namedtuple(
    "Gradients",
    # of y (n, plane), H, W, bounds, and step size (1,); the last four are sums over samples
    "y synthesis analysis bounds step",
)

_Work = namedtuple(
    "_Work",
    # entries of z and v before each layer: their first one, (T + 2,); component and position; values of both
    "first atom place z v "
    # (T or 1, plane) residuals; (T + 1,) extrapolation that led to each v
    "residual beta "
    # planes, the last one with the residual at the last look at all positions
    "plane move seen "
    # codes at all positions: before and after a layer, v, correlations; gradients in codes and in v
    "before after point found upper lower inner "
    # component and place of the active positions
    "active_atom active_place",
)


Store = namedtuple(
    "Store",
    # what `_Work` holds of each sample: whether it is kept, (n,); number of entries, (1,); residuals
    # (n, T, plane), extrapolation, first entries, and entries of all samples
    "kept used residual beta first atom place z v",
)


@njit(**FAST)
def run_layers(y, offset, layers, codes, first_step, last_step, store):
    """Run the layers on samples (n, plane).

    The codes (n, n_components * positions) are those before the layers, and are replaced by those after them;
    the two steps (n,) are set to the squared lengths of the first and of the last change. The store keeps
    what the way back needs, unless it is empty.
    """
    keep = len(store.kept) > 0
    work = _new_work(y, codes.shape[1], layers, keep)
    for i in range(len(y)):
        _ascend(y[i], offset[i], layers, codes[i], first_step, last_step, i, work)
        if keep:
            _keep(i, len(layers.factors), work, store)


@njit(**FAST)
def run_back(y, offset, layers, codes, back, gradients, store):
    """Go back through the layers, from gradients of a loss in the codes after them.

    The codes are those before the layers. Samples that the store has not kept run through the layers again.
    """
    work = _new_work(y, codes.shape[1], layers, True)
    steps = np.zeros(len(y), y.dtype)
    for i in range(len(y)):
        if len(store.kept) > 0 and store.kept[i]:
            _recall(i, len(layers.factors), work, store)
        else:
            _ascend(y[i], offset[i], layers, codes[i], steps, steps, i, work)
        _descend(y[i], layers, back[i], gradients, i, work)


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
        store.beta[i, t] = work.beta[t]
        for q in range(work.residual.shape[1]):
            store.residual[i, t, q] = work.residual[t, q]
    for e in range(more):
        store.atom[used + e], store.place[used + e] = work.atom[e], work.place[e]
        store.z[used + e], store.v[used + e] = work.z[e], work.v[e]


@njit(**LEAF)
def _recall(i, n_layers, work, store):
    used = store.first[i, 0]
    for t in range(n_layers + 2):
        work.first[t] = store.first[i, t] - used
    for t in range(n_layers):
        work.beta[t] = store.beta[i, t]
        for q in range(work.residual.shape[1]):
            work.residual[t, q] = store.residual[i, t, q]
    for e in range(work.first[n_layers + 1]):
        work.atom[e], work.place[e] = store.atom[used + e], store.place[used + e]
        work.z[e], work.v[e] = store.z[used + e], store.v[used + e]


@njit(**INLINED)
def _new_work(y, size, layers, keep):
    n_layers, dtype, plane = len(layers.factors), y.dtype, y.shape[1]
    room = (n_layers + 1) * size if keep else 2 * size
    return _Work(
        np.zeros(n_layers + 2, np.int64), np.empty(room, np.int32), np.empty(room, np.int32),
        np.empty(room, dtype), np.empty(room, dtype),
        np.empty((n_layers if keep else 1, plane), dtype), np.zeros(n_layers + 1, dtype),
        np.zeros(plane, dtype), np.zeros(plane, dtype), np.zeros(plane, dtype),
        np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype),
        np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype),
        np.empty(size, np.int32), np.empty(size, np.int32),
    )  # fmt: skip


@njit(**LEAF)
def _ascend(y, offset, layers, code, first_step, last_step, i, work):
    """Run the layers on one sample."""
    n_layers, size, n_components, dtype = len(layers.factors), len(code), len(layers.bounds), y.dtype.type
    keep = len(work.residual) == n_layers
    one, two, four = dtype(1), dtype(2), dtype(4)
    for e in range(size):
        work.before[e] = work.point[e] = code[e]
    momentum, radius, factor0, count = one, dtype(0), one, np.int64(-1)
    work.beta[0] = work.first[0] = 0
    _list(work, 0, n_components)
    for t in range(n_layers):
        residual, factor = work.residual[t if keep else 0], layers.factors[t]
        for q in range(len(offset)):
            work.plane[q] = offset[q]
        _synthesise(layers.synthesis, layers.width, work, work.first[t], work.first[t + 1], work.plane)
        _score(y, work.plane, layers, residual)
        change = _change(residual, work.seen, layers)
        if count >= 0 and change + (factor0 - factor) * layers.largest < radius:
            moved, uphill = _step_at(count, factor, residual, layers, work)
        else:
            moved, uphill = _step(factor, residual, layers, work)
            radius, factor0, count = (_AHEAD * change if t else dtype(0)), factor, np.int64(-1)
        if t == 0:
            first_step[i] = moved
        last_step[i] = moved
        beta = dtype(0)
        if layers.momentum:
            if layers.restart and uphill > 0:
                momentum = one
            following = (one + np.sqrt(one + four * momentum * momentum)) / two
            beta, momentum = (momentum - one) / following, following
        work.beta[t + 1] = beta
        if not keep:
            work.first[t + 1] = 0
        if count >= 0:
            _extrapolate_at(count, beta, t + 1, n_components, work)
            continue
        for e in range(size):
            work.point[e] = work.after[e] + beta * (work.after[e] - work.before[e])
            work.before[e] = work.after[e]
        _list(work, t + 1, n_components)
        while radius > change and count < 0:
            count = _activate(factor, radius, layers, work)
            radius = radius if count >= 0 else radius / 2
    for e in range(size):
        code[e] = work.before[e]


@njit(**LEAF)
def _change(residual, seen, layers):
    """Return a bound on the change of correlations since the last look, with rounding errors."""
    change, whole = residual.dtype.type(0), residual.dtype.type(0)
    for q in range(len(residual)):
        change += (residual[q] - seen[q]) * (residual[q] - seen[q])
        whole += residual[q] * residual[q]
    return layers.longest * (np.sqrt(change) + layers.rounding * np.sqrt(whole))


@njit(**LEAF)
def _step(factor, residual, layers, work):
    """Set the codes after a layer at all positions; return its squared move, and whether that is uphill."""
    _correlate(layers.analysis, layers.width, residual, work.found)
    for q in range(len(residual)):
        work.seen[q] = residual[q]
    moved, uphill, step = factor * 0, factor * 0, layers.step
    positions = len(work.point) // len(layers.bounds)
    for m in range(len(layers.bounds)):
        level, first = step * (factor * layers.bounds[m]), np.uintp(m * positions)
        for place in range(positions):
            j = first + np.uintp(place)
            work.after[j] = prox(work.point[j] + step * work.found[j], level, layers.kind)
            change = work.after[j] - work.before[j]
            moved += change * change
            uphill += (work.point[j] - work.after[j]) * change
    return moved, uphill


@njit(**LEAF)
def _step_at(count, factor, residual, layers, work):
    """Set the codes after a layer at the active positions; all others stay zero."""
    moved, uphill, step = factor * 0, factor * 0, layers.step
    positions = len(work.point) // len(layers.bounds)
    for a in range(count):
        m, place = work.active_atom[a], work.active_place[a]
        j = m * positions + place
        found = _correlation(layers.analysis[m], layers.width, place, residual)
        work.after[j] = prox(work.point[j] + step * found, step * (factor * layers.bounds[m]), layers.kind)
        change = work.after[j] - work.before[j]
        moved += change * change
        uphill += (work.point[j] - work.after[j]) * change
    return moved, uphill


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


@njit(**LEAF)
def _synthesise(filters, width, work, start, stop, plane):
    """Add the filters at the listed positions, times the values of v, to the plane."""
    channels, kernel = filters.shape[1], filters.shape[2]
    for e in range(start, stop):
        amount = work.v[e]
        for c in range(channels):
            row = filters[work.atom[e], c]
            q, k = np.uintp(c * width + work.place[e]), np.uintp(0)
            for _ in range(kernel // LANES):
                for lane in range(LANES):
                    one = np.uintp(lane)
                    plane[q + one] += amount * row[k + one]
                q += np.uintp(LANES)
                k += np.uintp(LANES)


@njit(**LEAF)
def _score(y, eta, layers, residual):
    if layers.family == _GAUSSIAN:
        for q in range(len(y)):
            residual[q] = y[q] - eta[q]
    elif layers.family == _BINOMIAL:
        one = y.dtype.type(1)
        for q in range(len(y)):
            residual[q] = y[q] - layers.trials / (one + np.exp(-eta[q]))
    else:
        for q in range(len(y)):
            residual[q] = y[q] - np.exp(min(eta[q], layers.rate))


@njit(**LEAF)
def _correlate(filters, width, plane, found):
    """Set `found` to the correlations of the filters with the plane, at all positions."""
    n_components, channels, kernel = filters.shape
    positions = width - kernel + 1
    one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
    five, six, seven = np.uintp(5), np.uintp(6), np.uintp(7)
    for m in range(n_components):
        first = np.uintp(m * positions)
        for j in range(positions):
            found[first + np.uintp(j)] = 0
        for c in range(channels):
            for k in range(0, kernel, LANES):
                h0, h1, h2, h3 = (
                    filters[m, c, k], filters[m, c, k + 1], filters[m, c, k + 2], filters[m, c, k + 3],
                )  # fmt: skip
                h4, h5, h6, h7 = (
                    filters[m, c, k + 4], filters[m, c, k + 5], filters[m, c, k + 6], filters[m, c, k + 7],
                )  # fmt: skip
                for j in range(positions):
                    q = np.uintp(c * width + k) + np.uintp(j)
                    found[first + np.uintp(j)] += (
                        (h0 * plane[q] + h1 * plane[q + one])
                        + (h2 * plane[q + two] + h3 * plane[q + three])
                    ) + (
                        (h4 * plane[q + four] + h5 * plane[q + five])
                        + (h6 * plane[q + six] + h7 * plane[q + seven])
                    )  # fmt: skip


@njit(**LEAF)
def _descend(y, layers, back, gradients, i, work):
    """Go back through the layers of one sample, from the gradient in its code."""
    n_layers = len(layers.factors)
    positions = len(back) // len(layers.bounds)
    for e in range(work.first[n_layers], work.first[n_layers + 1]):
        j = work.atom[e] * positions + work.place[e]
        work.upper[j] = back[j] if work.z[e] != 0 else 0
    for t in range(n_layers - 1, -1, -1):
        if (n_layers - t) % 2 == 1:
            _descend_layer(y, layers, t, gradients, i, work.upper, work.lower, work)
        else:
            _descend_layer(y, layers, t, gradients, i, work.lower, work.upper, work)
    for e in range(work.first[0], work.first[1]):
        j = work.atom[e] * positions + work.place[e]
        work.upper[j] = work.lower[j] = 0


@njit(**LEAF)
def _descend_layer(y, layers, t, gradients, i, upper, lower, work):
    """Go back through a layer; gradients in the codes after it are `upper`, in those before it `lower`.

    The values of v after the layer, which are no longer needed, become the gradients mu.
    """
    positions, step = len(upper) // len(layers.bounds), layers.step
    residual, beta, width = work.residual[t], work.beta[t], layers.width
    start, middle, stop = work.first[t], work.first[t + 1], work.first[t + 2]
    for q in range(len(y)):
        work.move[q] = 0
    for e in range(middle, stop):
        j = work.atom[e] * positions + work.place[e]
        work.v[e], upper[j] = upper[j], 0
        if layers.kind == SHRINK or layers.kind == SHRINK_POSITIVE:
            signed = layers.factors[t] * (work.v[e] if work.z[e] > 0 else -work.v[e])
            gradients.bounds[work.atom[e]] -= step * signed
            gradients.step[0] -= layers.bounds[work.atom[e]] * signed
    _synthesise(layers.analysis, width, work, middle, stop, work.move)
    _add_patches(residual, step, work, middle, stop, width, gradients.analysis)
    gradients.step[0] += _bend(y, residual, layers, work.move, gradients.y[i])
    _add_patches(work.move, -step, work, start, middle, width, gradients.synthesis)
    for e in range(start, middle):
        work.inner[work.atom[e] * positions + work.place[e]] = 0
    for e in range(middle, stop):
        work.inner[work.atom[e] * positions + work.place[e]] = work.v[e]
    for e in range(start, middle):
        j = work.atom[e] * positions + work.place[e]
        row = layers.synthesis[work.atom[e]]
        work.inner[j] -= step * _correlation(row, width, work.place[e], work.move)
        if work.z[e] != 0:
            lower[j] += (1 + beta) * work.inner[j]
    if beta != 0:
        for e in range(work.first[t - 1], start):
            if work.z[e] != 0:
                j = work.atom[e] * positions + work.place[e]
                upper[j] -= beta * work.inner[j]


@njit(**LEAF)
def _bend(y, residual, layers, move, out):
    """Multiply a move of the predictor by the curvature; return its product with the residual."""
    along, share = move.dtype.type(0), move.dtype.type(1) / layers.trials
    for q in range(len(y)):
        along += move[q] * residual[q]
        out[q] += layers.step * move[q]
    if layers.family == _BINOMIAL:
        for q in range(len(y)):
            mean = y[q] - residual[q]
            move[q] *= mean - share * mean * mean
    elif layers.family != _GAUSSIAN:
        for q in range(len(y)):
            move[q] *= y[q] - residual[q]
    return along


@njit(**LEAF)
def _add_patches(plane, factor, work, start, stop, width, out):
    """Add the patches of the plane at the listed positions, times factor and v, to their filters."""
    channels, kernel = out.shape[1], out.shape[2]
    for e in range(start, stop):
        amount = factor * work.v[e]
        for c in range(channels):
            row = out[work.atom[e], c]
            q, k = np.uintp(c * width + work.place[e]), np.uintp(0)
            for _ in range(kernel // LANES):
                for lane in range(LANES):
                    one = np.uintp(lane)
                    row[k + one] += amount * plane[q + one]
                q += np.uintp(LANES)
                k += np.uintp(LANES)


@njit(**LEAF)
def _correlation(rows, width, place, plane):
    """Return the correlation of a filter (channels, padded kernel) with the plane, at a position."""
    channels, kernel = rows.shape
    zero = plane.dtype.type(0)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero
    for c in range(channels):
        row = rows[c]
        q, k = np.uintp(c * width + place), np.uintp(0)
        for _ in range(kernel // LANES):
            # eight separate sums: otherwise the compiler reduces eight lanes in every row
            s0 += row[k] * plane[q]
            s1 += row[k + np.uintp(1)] * plane[q + np.uintp(1)]
            s2 += row[k + np.uintp(2)] * plane[q + np.uintp(2)]
            s3 += row[k + np.uintp(3)] * plane[q + np.uintp(3)]
            s4 += row[k + np.uintp(4)] * plane[q + np.uintp(4)]
            s5 += row[k + np.uintp(5)] * plane[q + np.uintp(5)]
            s6 += row[k + np.uintp(6)] * plane[q + np.uintp(6)]
            s7 += row[k + np.uintp(7)] * plane[q + np.uintp(7)]
            k += np.uintp(LANES)
            q += np.uintp(LANES)
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
