"""Compiled certificates: residuals of codes, and duality gaps of the lasso.

Let r = x - z D. For any w and s such that s |D w| <= alpha, s w is a feasible point of the dual, hence

    gap = 0.5 ||r||^2 + alpha ||z||_1 - (s <w, x> - 0.5 s^2 ||w||^2)  >=  P(z) - min P.

Here w is r. For codes rounded to float32, w is the residual before rounding.

Residuals and sums are float64 for samples of any precision.
"""

import numpy as np

from calepin.core.compiled import FAST, njit
from calepin.solvers.kernels.support import largest, position


@njit(**FAST)
def residuals(X, atoms, mask, counts, columns, values, skip, R, energy):
    """Write ||r||^2, <r, x>, ||x||^2, ||z||_1 of r = x - z D over observed entries to energy (n, 4).

    The residuals of the samples that are not skipped fill the first rows of R; returns their number.
    """
    n, m = X.shape
    r = np.empty(m, np.float64)
    at, row = 0, 0
    for i in range(n):
        for f in range(m):
            r[f] = X[i, f]
        size = 0.0
        for t in range(at, at + counts[i]):
            z = np.float64(values[t])
            size += abs(z)
            atom = atoms[columns[t]]
            for f in range(m):
                r[f] -= z * atom[f]
        at += counts[i]
        if mask.shape[0] == n:
            for f in range(m):
                r[f] *= mask[i, f]
        rr, rx, xx = 0.0, 0.0, 0.0
        for f in range(m):
            x = np.float64(X[i, f])
            rr += r[f] * r[f]
            rx += r[f] * x
            xx += x * x
            R[row, f] = r[f]
        energy[i, 0] = rr
        energy[i, 1] = rx
        energy[i, 2] = xx
        energy[i, 3] = size
        row += not skip[i]
    return row


@njit(**FAST)
def duality_gaps(C, bits, energy, dual_energy, skip, alpha, nonnegative, gaps):
    """Write the duality gaps, given C = W D^T; the gap of a skipped sample is zero.

    C is overwritten; `bits` is a view of its bits. energy and dual_energy are the results of `residuals` for
    r and for w.
    """
    p = C.shape[1]
    zero = C.dtype.type(0)
    row = 0
    for i in range(skip.shape[0]):
        gaps[i] = 0.0
        if skip[i]:
            continue
        for j in range(p):
            C[row, j] = max(C[row, j], zero) if nonnegative else abs(C[row, j])
        peak = C[row, position(bits[row], largest(bits[row], p), p)]
        row += 1
        ww, wx = dual_energy[i, 0], dual_energy[i, 1]
        scale = wx / ww if ww > 0.0 else 1.0
        if peak * scale > alpha:
            scale = alpha / peak
        scale = max(scale, 0.0)
        primal = 0.5 * energy[i, 0] + alpha * energy[i, 3]
        gaps[i] = max(primal - scale * wx + 0.5 * scale * scale * ww, 0.0)
