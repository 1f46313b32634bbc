"""The way back through compiled layers of convolutional codes; see `kernels.conv_layers`.

Every product is one of nonzeros: a gradient passes a proximal map only where the code after it is not zero,
and is needed only where the code before it is not zero.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, LEAF, njit
from calepin.solvers.kernels.conv_descent import LANES, correlate, subtract
from calepin.solvers.kernels.conv_layers import BINOMIAL, GAUSSIAN
from calepin.solvers.kernels.support import SHRINK, SHRINK_POSITIVE

__all__ = ["Gradients", "run_back"]

Gradients = namedtuple(
    "Gradients",
    # of y (n, plane), H, W, bounds, and step size (1,); the last four are sums over samples
    "y synthesis analysis bounds step",
)

_Work = namedtuple(
    "_Work",
    # at all positions: gradients in the codes after and before a layer, in v, and in what the proximal map
    # takes; the move of the predictor
    "upper lower inner mu move",
)


@njit(**FAST)
def run_back(y, layers, back, gradients, store):
    """Go back through the layers of the kept samples, from gradients of a loss in the codes after them.

    The gradients of y are set, the others are added to.
    """
    size, dtype = back.shape[1], y.dtype
    work = _Work(
        np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype),
        np.zeros(y.shape[1], dtype),
    )  # fmt: skip
    for i in range(len(y)):
        if store.kept[i]:
            _descend(i, y[i], layers, back[i], gradients, store, work)


@njit(**LEAF)
def _descend(i, y, layers, back, gradients, store, work):
    """Go back through the layers of one sample, from the gradient in its code."""
    n_layers, positions = len(layers.factors), len(back) // len(layers.bounds)
    for q in range(len(y)):
        gradients.y[i, q] = 0
    for e in range(store.first[i, n_layers], store.first[i, n_layers + 1]):
        j = store.atom[e] * positions + store.place[e]
        work.upper[j] = back[j] if store.z[e] != 0 else 0
    for t in range(n_layers - 1, -1, -1):
        if (n_layers - t) % 2 == 1:
            _descend_layer(i, t, y, layers, gradients, work.upper, work.lower, store, work)
        else:
            _descend_layer(i, t, y, layers, gradients, work.lower, work.upper, store, work)
    for e in range(store.first[i, 0], store.first[i, 1]):
        j = store.atom[e] * positions + store.place[e]
        work.upper[j] = work.lower[j] = 0


@njit(**LEAF)
def _descend_layer(i, t, y, layers, gradients, upper, lower, store, work):
    """Go back through a layer; gradients in the codes after it are `upper`, in those before it `lower`."""
    positions, grid = len(upper) // len(layers.bounds), layers.grid
    residual, beta, step = store.residual[i, t], store.beta[i, t], store.step[i, t]
    start, middle, stop = store.first[i, t], store.first[i, t + 1], store.first[i, t + 2]
    for q in range(len(y)):
        work.move[q] = 0
    for e in range(middle, stop):
        m, place = store.atom[e], store.place[e]
        j = m * positions + place
        mu, upper[j] = upper[j], 0
        work.mu[e - middle] = work.inner[j] = mu
        if layers.kind == SHRINK or layers.kind == SHRINK_POSITIVE:
            signed = layers.factors[t] * (mu if store.z[e] > 0 else -mu)
            gradients.bounds[m] -= step * signed
            gradients.step[0] -= layers.bounds[m] * signed
        subtract(work.move, work.move, layers.analysis[m], 0, place, -mu, grid)
        _add_patch(residual, step * mu, place, grid, gradients.analysis[m])
    gradients.step[0] += _bend(y, residual, step, layers, work.move, gradients.y[i])
    for e in range(start, middle):
        m, place = store.atom[e], store.place[e]
        _add_patch(work.move, -step * store.v[e], place, grid, gradients.synthesis[m])
        work.inner[m * positions + place] = -step * correlate(work.move, layers.synthesis[m], 0, place, grid)
    for e in range(middle, stop):
        work.inner[store.atom[e] * positions + store.place[e]] += work.mu[e - middle]
    for e in range(start, middle):
        if store.z[e] != 0:
            j = store.atom[e] * positions + store.place[e]
            lower[j] += (1 + beta) * work.inner[j]
    if beta != 0:
        for e in range(store.first[i, t - 1], start):
            if store.z[e] != 0:
                j = store.atom[e] * positions + store.place[e]
                upper[j] -= beta * work.inner[j]


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
def _add_patch(plane, amount, place, grid, out):
    """Add an amount of the patch of the plane at a position to a filter."""
    k = np.uintp(0)
    for c in range(grid.channels):
        q = np.uintp(c * grid.width + place)
        for _ in range(len(out) // (grid.channels * LANES)):
            for t in range(LANES):
                lane = np.uintp(t)
                out[k + lane] += amount * plane[q + lane]
            k += np.uintp(LANES)
            q += np.uintp(LANES)
