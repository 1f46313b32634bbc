"""The way back through compiled layers of convolutional codes; see `kernels.conv_layers`.

Every product is one of nonzeros: a gradient passes a proximal map only where the code after it is not zero,
and is needed only where the code before it is not zero.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, LEAF, njit
from calepin.solvers.kernels.conv_descent import LANES, correlate, subtract
from calepin.solvers.kernels.conv_layers import BINOMIAL, GAUSSIAN, ascend, new_work
from calepin.solvers.kernels.support import SHRINK, SHRINK_POSITIVE

__all__ = ["Gradients", "run_back"]

Gradients = namedtuple(
    "Gradients",
    # of y (n, plane), H, W, bounds, and step size (1,); the last four are sums over samples
    "y synthesis analysis bounds step",
)

_Back = namedtuple("_Back", "upper lower inner move")
"""Gradients in the codes after and before a layer, and in v; the move of the predictor."""


@njit(**FAST)
def run_back(y, offset, layers, codes, back, gradients, store):
    """Go back through the layers, from gradients of a loss in the codes after them.

    The codes are those before the layers. Samples that the store has not kept run through the layers again.
    """
    size, dtype = codes.shape[1], y.dtype
    work = new_work(y, size, layers, True)
    side = _Back(
        np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(y.shape[1], dtype)
    )
    for i in range(len(y)):
        if len(store.kept) > 0 and store.kept[i]:
            _recall(i, len(layers.factors), work, store)
        else:
            ascend(y[i], offset[i], layers, codes[i], work)
        _descend(y[i], layers, back[i], gradients, i, work, side)


@njit(**LEAF)
def _recall(i, n_layers, work, store):
    used = store.first[i, 0]
    for t in range(n_layers + 2):
        work.first[t] = store.first[i, t] - used
    for t in range(n_layers):
        work.beta[t], work.step[t] = store.beta[i, t], store.step[i, t]
        for q in range(work.residual.shape[1]):
            work.residual[t, q] = store.residual[i, t, q]
    for e in range(work.first[n_layers + 1]):
        work.atom[e], work.place[e] = store.atom[used + e], store.place[used + e]
        work.z[e], work.v[e] = store.z[used + e], store.v[used + e]


@njit(**LEAF)
def _descend(y, layers, back, gradients, i, work, side):
    """Go back through the layers of one sample, from the gradient in its code."""
    n_layers = len(layers.factors)
    positions = len(back) // len(layers.bounds)
    for e in range(work.first[n_layers], work.first[n_layers + 1]):
        j = work.atom[e] * positions + work.place[e]
        side.upper[j] = back[j] if work.z[e] != 0 else 0
    for t in range(n_layers - 1, -1, -1):
        if (n_layers - t) % 2 == 1:
            _descend_layer(y, layers, t, gradients, i, side.upper, side.lower, work, side)
        else:
            _descend_layer(y, layers, t, gradients, i, side.lower, side.upper, work, side)
    for e in range(work.first[0], work.first[1]):
        j = work.atom[e] * positions + work.place[e]
        side.upper[j] = side.lower[j] = 0


@njit(**LEAF)
def _descend_layer(y, layers, t, gradients, i, upper, lower, work, side):
    """Go back through a layer; gradients in the codes after it are `upper`, in those before it `lower`.

    The values of v after the layer, which are no longer needed, become the gradients mu.
    """
    positions, step = len(upper) // len(layers.bounds), work.step[t]
    residual, beta = work.residual[t], work.beta[t]
    start, middle, stop = work.first[t], work.first[t + 1], work.first[t + 2]
    for q in range(len(y)):
        side.move[q] = 0
    for e in range(middle, stop):
        j = work.atom[e] * positions + work.place[e]
        work.v[e], upper[j] = upper[j], 0
        if layers.kind == SHRINK or layers.kind == SHRINK_POSITIVE:
            signed = layers.factors[t] * (work.v[e] if work.z[e] > 0 else -work.v[e])
            gradients.bounds[work.atom[e]] -= step * signed
            gradients.step[0] -= layers.bounds[work.atom[e]] * signed
    for e in range(middle, stop):
        row = layers.analysis[work.atom[e]]
        subtract(side.move, side.move, row, 0, work.place[e], -work.v[e], layers.grid)
    _add_patches(residual, step, work, middle, stop, layers.grid, gradients.analysis)
    gradients.step[0] += _bend(y, residual, step, layers, side.move, gradients.y[i])
    _add_patches(side.move, -step, work, start, middle, layers.grid, gradients.synthesis)
    for e in range(start, middle):
        side.inner[work.atom[e] * positions + work.place[e]] = 0
    for e in range(middle, stop):
        side.inner[work.atom[e] * positions + work.place[e]] = work.v[e]
    for e in range(start, middle):
        j = work.atom[e] * positions + work.place[e]
        row = layers.synthesis[work.atom[e]]
        side.inner[j] -= step * correlate(side.move, row, 0, work.place[e], layers.grid)
        if work.z[e] != 0:
            lower[j] += (1 + beta) * side.inner[j]
    if beta != 0:
        for e in range(work.first[t - 1], start):
            if work.z[e] != 0:
                j = work.atom[e] * positions + work.place[e]
                upper[j] -= beta * side.inner[j]


@njit(**LEAF)
def _bend(y, residual, step, layers, move, out):
    """Multiply a move of the predictor by the curvature; return its product with the residual."""
    along, share = move.dtype.type(0), move.dtype.type(1) / layers.trials
    for q in range(len(y)):
        along += move[q] * residual[q]
        out[q] += step * move[q]
    if layers.family == BINOMIAL:
        for q in range(len(y)):
            mean = y[q] - residual[q]
            move[q] *= mean - share * mean * mean
    elif layers.family != GAUSSIAN:
        for q in range(len(y)):
            move[q] *= y[q] - residual[q]
    return along


@njit(**LEAF)
def _add_patches(plane, factor, work, start, stop, grid, out):
    """Add the patches of the plane at the listed positions, times factor and v, to their filters."""
    padded = out.shape[1] // grid.channels
    for e in range(start, stop):
        row, amount, k = out[work.atom[e]], factor * work.v[e], np.uintp(0)
        for c in range(grid.channels):
            q = np.uintp(c * grid.width + work.place[e])
            for _ in range(padded // LANES):
                for t in range(LANES):
                    lane = np.uintp(t)
                    row[k + lane] += amount * plane[q + lane]
                k += np.uintp(LANES)
                q += np.uintp(LANES)
