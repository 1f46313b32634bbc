"""Compiled layers of proximal gradient descent on the atoms that are in use, forwards and backwards.

A layer maps a code z to ``prox(z - s (z G - c))``, with the Gram matrix G of the atoms and their correlations
c with the sample. Its work is proportional to the nonzeros of z times the atoms that are looked at, the
*active* ones. Any other atom stays at zero as long as its gradient is within its bound. Since a gradient
changes by at most ``||atom|| ||(z - z0) D||`` from z0 to z, the others have to be looked at only when this
change reaches the smallest slack that they had at z0. The result is that of dense products.

A *run* is a sequence of layers with one list of active atoms, to which atoms are only appended. A new run
begins when fewer than half of them are in use.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, INLINED, LANES, LEAF, njit
from calepin.solvers.kernels.support import CUT, SHRINK, combine_rows, prox

__all__ = ["Layers", "run_layers"]

_MAX_RUNS = 16

Layers = namedtuple(
    "Layers",
    # (p, p) Gram matrix; (p,) bounds of the gradients of codes at zero; (T,) their factors in each layer;
    # step size; proximal map; largest bound; norm of the longest atom; rounding error of a gradient
    "gram bounds factors step kind largest longest rounding",
)

_Work = namedtuple(
    "_Work",
    # (T, p) codes before and after each layer, on the active atoms of its run
    # (runs, p) active atoms; (runs + 1,) their numbers, and the first layer of each run
    # (p, p) Gram matrix of the active atoms
    # on the active atoms: code, gradient, correlation, bound; code and gradient at the last look
    # (p,) gradients of all atoms, whether they are active; nonzeros: their positions and values
    "before after active size first gram code gradient target bound code0 gradient0 far inside index weight",
)


@njit(**FAST)
def run_layers(c, layers, codes, moved, back, pairs, sums):
    """Run the layers on codes (n, p) of samples with correlations c, (n, p), and back.

    The codes are those before the layers, and are replaced by those after them; `moved` (n,) is set to the
    squared length of the last step. Unless it is empty, `back` holds gradients of a loss in the codes after
    the layers. It is replaced by those in the codes before them, except where these are zero. With mu_t the
    gradient in what the proximal map of layer t takes, the sum of ``z_t^T mu_t`` over layers and samples is
    added to `pairs` (p, p), and that of mu_t over layers to `sums` (n, p).
    """
    work = _new_work(c, len(layers.factors))
    for i in range(len(c)):
        run = _ascend(c[i], layers, codes[i], work)
        last, k = len(layers.factors) - 1, work.size[run]
        for j in range(c.shape[1]):
            codes[i, j] = 0
        for a in range(k):
            codes[i, work.active[run, a]] = work.code[a]
            moved[i] += (work.code[a] - work.before[last, a]) ** 2
        if len(back) > 0:
            _descend(run, layers, back[i], pairs, sums[i], work)


@njit(**INLINED)
def _new_work(c, n_layers):
    p, dtype = c.shape[1], c.dtype
    return _Work(
        np.zeros((n_layers, p), dtype), np.zeros((n_layers, p), dtype),
        np.zeros((_MAX_RUNS, p), np.int32), np.zeros(_MAX_RUNS, np.int64), np.zeros(_MAX_RUNS + 1, np.int64),
        np.zeros((p, p), dtype),
        np.zeros(p, dtype), np.zeros(p, dtype), np.zeros(p, dtype), np.zeros(p, dtype),
        np.zeros(p, dtype), np.zeros(p, dtype),
        np.zeros(p, dtype), np.zeros(p, np.bool_), np.zeros(max(p, n_layers), np.int32),
        np.zeros(max(p, n_layers), dtype),
    )  # fmt: skip


@njit(**LEAF)
def _width(k):
    return (k + LANES - 1) // LANES * LANES


@njit(**LEAF)
def _nonzeros(values, n, index, weight):
    """List the nonzeros of n values; return their number."""
    count = np.int64(0)
    for a in range(n):
        if values[a] != 0:
            index[count] = a
            weight[count] = values[a]
            count += 1
    return count


@njit(**LEAF)
def _ascend(c, layers, code, work):
    """Run the layers on one sample; return the last run."""
    zero, step = c.dtype.type(0), layers.step
    run, k = np.int64(0), np.int64(0)
    for j in range(len(c)):
        work.inside[j] = code[j] != 0
        if work.inside[j]:
            work.active[0, k], work.code[k] = j, code[j]
            k += 1
    work.first[0] = 0
    _fill_gram(layers.gram, work.active[0], 0, k, work.gram)
    _take_targets(c, layers, work.active[0], k, work)
    slack, factor0 = zero, zero
    for t in range(len(layers.factors)):
        factor = layers.factors[t]
        count = _nonzeros(work.code, k, work.index, work.weight)
        combine_rows(work.gram, work.index, work.weight, count, work.gradient, _width(k))
        change = zero
        for a in range(k):
            work.gradient[a] -= work.target[a]
            change += (work.code[a] - work.code0[a]) * (work.gradient[a] - work.gradient0[a])
        change = layers.longest * np.sqrt(max(change, zero)) + layers.rounding
        if t == 0 or not slack - (factor0 - factor) * layers.largest > change:
            run, k, slack = _look(c, layers, t, run, k, count, work)
            factor0 = factor
        for a in range(k):
            v = work.code[a] - step * work.gradient[a]
            work.before[t, a] = work.code[a]
            work.code[a] = prox(v, step * factor * work.bound[a], layers.kind)
            work.after[t, a] = work.code[a]
    work.first[run + 1] = len(layers.factors)
    work.size[run] = k
    return run


@njit(**LEAF)
def _look(c, layers, t, run, k, count, work):
    """Look at all atoms before layer t; return the run, its number of active atoms, and the others' slack."""
    active = work.active[run]
    for b in range(count):
        work.index[b] = active[work.index[b]]
    combine_rows(layers.gram, work.index, work.weight, count, work.far, len(c))
    known = k
    if k > 0 and 2 * _width(count) <= _width(k) and run + 1 < _MAX_RUNS:
        work.size[run] = k
        run, known = run + 1, np.int64(0)
        k = _begin_run(t, run, k, work)
    active = work.active[run]
    slack, signed = layers.largest, layers.kind == SHRINK or layers.kind == CUT
    for j in range(len(c)):
        work.far[j] -= c[j]
        if work.inside[j]:
            continue
        margin = layers.factors[t] * layers.bounds[j] - (abs(work.far[j]) if signed else -work.far[j])
        if margin >= 0:
            slack = min(slack, margin)
            continue
        active[k], work.inside[j], work.code[k] = j, True, 0
        for earlier in range(work.first[run], t):
            work.before[earlier, k] = work.after[earlier, k] = 0
        k += 1
    _fill_gram(layers.gram, active, known, k, work.gram)
    _take_targets(c, layers, active, k, work)
    for a in range(k):
        work.gradient[a] = work.gradient0[a] = work.far[active[a]]
        work.code0[a] = work.code[a]
    return run, k, slack


@njit(**LEAF)
def _take_targets(c, layers, active, k, work):
    for a in range(k):
        work.target[a], work.bound[a] = c[active[a]], layers.bounds[active[a]]


@njit(**LEAF)
def _begin_run(t, run, k, work):
    """Keep the active atoms that are in use; return their number."""
    kept = np.int64(0)
    for a in range(k):
        j = work.active[run - 1, a]
        work.inside[j] = work.code[a] != 0
        if work.inside[j]:
            work.active[run, kept], work.code[kept] = j, work.code[a]
            kept += 1
    work.first[run] = t
    return kept


@njit(**LEAF)
def _fill_gram(gram, active, known, k, part):
    """Set part[:k] to the rows and columns of active atoms, except for the first `known`; pad by zeros."""
    for a in range(k):
        for b in range(known if a < known else 0, k):
            part[a, b] = gram[active[a], active[b]]
        for b in range(k, _width(k)):
            part[a, b] = 0


@njit(**LEAF)
def _descend(run, layers, back, pairs, sums, work):
    """Go back through the layers of one sample, from the gradient in its code."""
    for r in range(run, -1, -1):
        active, k = work.active[r], work.size[r]
        if r < run:
            _fill_gram(layers.gram, active, 0, k, work.gram)
        _descend_run(r, k, layers, back, sums, work)
        for b in range(k):
            count = np.int64(0)
            for t in range(work.first[r], work.first[r + 1]):
                if work.before[t, b] != 0:
                    work.index[count], work.weight[count] = t, work.before[t, b]
                    count += 1
            combine_rows(work.after, work.index, work.weight, count, work.gradient, _width(k))
            for a in range(k):
                pairs[active[b], active[a]] += work.gradient[a]


@njit(**LEAF)
def _descend_run(r, k, layers, back, sums, work):
    """Go back through the layers of a run, where the codes after them become mu_t."""
    active = work.active[r]
    for a in range(k):
        work.code[a] = back[active[a]]
    for t in range(work.first[r + 1] - 1, work.first[r] - 1, -1):
        mu = work.after[t]
        for a in range(k):
            mu[a] = work.code[a] if mu[a] != 0 else 0
            sums[active[a]] += mu[a]
        count = _nonzeros(mu, k, work.index, work.weight)
        combine_rows(work.gram, work.index, work.weight, count, work.gradient, _width(k))
        for a in range(k):
            work.code[a] = mu[a] - layers.step * work.gradient[a]
    for j in range(len(back)):
        back[j] = 0
    for a in range(k):
        back[active[a]] = work.code[a]
