"""Compiled coordinate descent for the lasso in float64: slow, sure, for samples without a plain path.

Duplicate atoms, ties and supports of full rank break the homotopy, not this (Friedman, Hastie and
Tibshirani 2010, Section 2.2). It starts from given codes and stops at a duality gap.
"""

import numpy as np
from numba import njit

from calepin.solvers._support import FAST, fill_gram_row


@njit(**FAST)
def _gap(z, c, b, energy, alpha, positive):
    # With c = b - G z: ||r||^2 = ||x||^2 - <b + c, z> and <r, x> = ||x||^2 - <b, z>.
    size, bz, cz, largest = 0.0, 0.0, 0.0, 0.0
    for j in range(z.shape[0]):
        size += abs(z[j])
        bz += b[j] * z[j]
        cz += c[j] * z[j]
        largest = max(largest, c[j] if positive else abs(c[j]))
    rr, rx = max(energy - bz - cz, 0.0), energy - bz
    scale = rx / rr if rr > 0.0 else 1.0
    if largest * scale > alpha:
        scale = alpha / largest
    scale = max(scale, 0.0)
    return 0.5 * rr + alpha * size - scale * rx + 0.5 * scale * scale * rr


@njit(**FAST)
def _sweep(z, c, gram, filled, atoms, observed, work, norms, alpha, positive, everywhere):
    p = z.shape[0]
    for j in range(p):
        norm = norms[j]
        if norm == 0.0 or not (everywhere or z[j] != 0.0):
            continue
        target = c[j] + norm * z[j]
        new = 0.0
        if target > alpha:
            new = (target - alpha) / norm
        elif target < -alpha and not positive:
            new = (target + alpha) / norm
        change = new - z[j]
        if change != 0.0:
            if not filled[j]:
                fill_gram_row(gram, atoms, observed, j, work)
                filled[j] = True
            z[j] = new
            for i in range(p):
                c[i] -= change * gram[j, i]


@njit(**FAST)
def descend(Z, B, gram, filled, atoms, mask, norms, energies, alpha, positive, goals, max_sweeps):
    """Move dense codes Z (n, p) in place until each gap is at most its goal."""
    n, p = Z.shape
    c, work = np.empty(p), np.empty(atoms.shape[1])
    for i in range(n):
        observed = mask[min(i, mask.shape[0])]
        if mask.shape[0] > 0:
            filled[:] = False
        z, b = Z[i], B[i]
        for j in range(p):
            c[j] = b[j]
        for j in range(p):
            if z[j] != 0.0:
                if not filled[j]:
                    fill_gram_row(gram, atoms, observed, j, work)
                    filled[j] = True
                for t in range(p):
                    c[t] -= z[j] * gram[j, t]
        for s in range(max_sweeps):
            _sweep(
                z, c, gram, filled, atoms, observed, work, norms[min(i, norms.shape[0] - 1)],
                alpha, positive, s % 8 == 0,
            )  # fmt: skip
            if s % 8 == 0 and _gap(z, c, b, energies[i], alpha, positive) <= goals[i]:
                break
