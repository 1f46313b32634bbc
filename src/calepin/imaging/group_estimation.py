"""The estimate of a group of similar patches where each pixel has a noise variance of its own.

With the mean m and covariance C of the group in the first estimate, V = diag(v) the variances of a patch y,
and M that keeps its pixels of finite variance,

    x = m + S M^T (M (S + V) M^T)^-1 M (y - m),   S = C + ridge I,

a system of as many equations as the patch has known pixels. A missing pixel is one of infinite variance. The
ridge is what the first estimate cannot know of the group.
"""

import numpy as np

from calepin.core.compiled import INLINED, njit
from calepin.imaging.group_shrinkage import COMMON

__all__ = ["add_common", "collect", "covariance", "dot", "estimate_patch"]

TINY = np.float32(1e-7)  # of the first pivot: smaller ones are rounding


@njit(**INLINED)
def collect(plane, place, n, p, out):
    """Set the rows of `out` to the patches of a plane at n places, row times width plus column."""
    w, pixels = plane.shape[1], plane.ravel()
    for k in range(n):
        for u in range(p):
            for v in range(p):
                out[k, u * p + v] = pixels[place[k] + u * w + v]


@njit(**INLINED)
def add_common(Y, E, V, n, d):
    """Add to the rows of E what they lack in common, for variances V, negative where pixels are missing."""
    q, noise = Y.shape[1], np.float32(0)
    for t in range(q):
        total, variance, known = np.float32(0), np.float32(0), 0
        for k in range(n):
            if V[k, t] >= 0:
                total += Y[k, t] - E[k, t]
                variance += V[k, t]
                known += 1
        d[t] = total / max(known, 1)
        noise += variance / max(known, 1) ** 2
    _add_shrunk(E, n, d, noise)


@njit(**INLINED)
def _add_shrunk(E, n, d, noise):
    """Add d, without its level and shrunk, to the rows of E; `noise` is its expected squared norm."""
    d[:] = d - d.mean()  # the level is known well enough
    norm = dot(d, d)
    if norm <= COMMON * noise:
        return
    d[:] = d * np.float32(1 - COMMON * noise / norm)
    for k in range(n):
        for t in range(len(d)):
            E[k, t] += d[t]


@njit(**INLINED)
def covariance(E, n, size, level, mean, S):
    """Set the mean of the rows of E, or the level of each plane of `size` pixels, and S = C."""
    q = E.shape[1]
    mean[:] = 0
    for k in range(n):
        for t in range(q):
            mean[t] += E[k, t]
    for t in range(q):
        mean[t] /= n
    if level:
        for first in range(0, q, size):
            mean[first : first + size] = mean[first : first + size].mean()
    for k in range(n):
        for t in range(q):
            E[k, t] -= mean[t]
    E[n:] = 0
    S[:] = 0
    for k in range(0, n, 4):  # four rows at a time: sums are written less often
        a, b, c, d = E[k], E[k + 1], E[k + 2], E[k + 3]
        for t in range(q):
            e, f, g, h, row = a[t] / n, b[t] / n, c[t] / n, d[t] / n, S[t]
            for m in range(t, q):
                row[m] += e * a[m] + f * b[m] + g * c[m] + h * d[m]
    for t in range(q):
        for m in range(t):
            S[t, m] = S[m, t]


@njit(**INLINED)
def estimate_patch(y, v, mean, S, L, known, r):
    """Replace y by mean + S M^T (M (S + V) M^T)^-1 M (y - mean); M keeps the pixels with v >= 0."""
    q, k = len(y), 0
    for t in range(q):
        if v[t] >= 0:
            known[k] = t
            r[k] = y[t] - mean[t]
            k += 1
    for a in range(k):
        row, lower = S[known[a]], L[a]
        for b in range(a):
            lower[b] = row[known[b]]
        lower[a] = row[known[a]] + v[known[a]]
    _solve_lower(L, r, k)
    y[:] = mean
    for a in range(k):
        value, row = r[a], S[known[a]]
        for t in range(q):
            y[t] += value * row[t]


@njit(**INLINED)
def _solve_lower(L, r, k):
    """Replace r by A^-1 r for the positive definite A of k rows whose lower triangle is in L, overwritten.

    A = L L^T, with the inverse of the diagonal of L on its place. A direction without variance, of which
    rounding leaves a pivot near zero, is left out.
    """
    least = TINY * L[0, 0]
    for a in range(k):
        row = L[a]
        for b in range(a):
            row[b] = (row[b] - dot(row[:b], L[b, :b])) * L[b, b]
        pivot = row[a] - dot(row[:a], row[:a])
        row[a] = 1 / np.sqrt(pivot) if pivot > least else np.float32(0)
        r[a] = (r[a] - dot(row[:a], r[:a])) * row[a]
    for a in range(k - 1, -1, -1):
        row = L[a]
        r[a] *= row[a]
        for b in range(a):
            r[b] -= row[b] * r[a]


@njit(**INLINED)
def dot(a, b):
    """Return the inner product of two vectors."""
    total = np.float32(0)
    for t in range(len(a)):
        total += a[t] * b[t]
    return total
