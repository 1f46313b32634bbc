"""Groups of similar patches, each restored in the dictionary of its own principal components.

A first estimate of the image tells which patches are alike and how their common model looks: for a
group with mean m and covariance C (both of the first estimate), the noisy patches y of the group
become

    x = m + C (C + sigma^2 I)^-1 (y - m),

the linear estimate of least mean squared error: shrinkage of the coefficients in the group's own
orthogonal dictionary, the eigenvectors of C. Overlapping results are averaged.

Source: Lebrun, Buades and Morel (2013), A nonlocal Bayesian image denoising algorithm, second
step; here the first estimate comes from the dictionary, and C has as few dimensions as patches are
in a group, so that x is found in the space of the group's n patches instead of that of their pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from calepin.core.threads import run_blocks

__all__ = ["GroupFilter"]

BLOCK = 4  # rows of reference patches worked by one thread at a time
BAND = 16  # blocks whose sums are in memory at a time


@dataclass(frozen=True)
class GroupFilter:
    """One pass over all groups of an image.

    Parameters
    ----------
    patch_size : int
        Side of the patches.
    group_size : int
        Patches in a group, the reference among them.
    radius : int
        Members lie at most so many pixels from the reference, along both axes.
    stride : int
        Pixels between two references, along both axes.
    mean : {"patch", "level"}
        m is the mean patch, or only its mean grey level: then the mean patch is one more direction
        of C, which keeps the noise of a poor first estimate out of it.
    """

    patch_size: int = 6
    group_size: int = 24
    radius: int = 20
    stride: int = 3
    mean: Literal["patch", "level"] = "patch"

    def apply(
        self,
        noisy: np.ndarray,
        estimate: np.ndarray,
        sigma: float,
        *,
        report: Callable[[float], None] = lambda fraction: None,
    ) -> np.ndarray:
        """Return the restored planes.

        Parameters
        ----------
        noisy, estimate : float32 arrays (c, h, w)
            The noisy planes, and an estimate of them; patches are alike by its first plane.
        sigma : float
            Standard deviation of the noise.
        report : callable
            Called with the fraction of the work that is done.
        """
        _, h, w = noisy.shape
        rows, columns = self._references(h), self._references(w)
        total, weight = np.zeros_like(noisy), np.zeros((h, w), dtype=np.float32)
        variance = np.float32(sigma * sigma)

        def work(start: int, stop: int) -> tuple[int, np.ndarray, np.ndarray]:
            top = max(0, rows[start] - self.radius)
            bottom = min(h, rows[stop - 1] + self.radius + self.patch_size)
            block_total = np.zeros((len(noisy), bottom - top, w), dtype=np.float32)
            block_weight = np.zeros((bottom - top, w), dtype=np.float32)
            _filter_rows(
                noisy, estimate, rows[start:stop], columns, self.patch_size, self.group_size,
                self.radius, variance, self.mean == "level", block_total, block_weight, top,
            )  # fmt: skip
            return top, block_total, block_weight

        for first in range(0, len(rows), BLOCK * BAND):
            last = min(first + BLOCK * BAND, len(rows))
            sums = run_blocks(lambda a, b, first=first: work(first + a, first + b), last - first, BLOCK)
            for top, block_total, block_weight in sums:
                bottom = top + len(block_weight)
                total[:, top:bottom] += block_total
                weight[top:bottom] += block_weight
            report(last / len(rows))
        total /= weight
        return total

    def _references(self, length: int) -> np.ndarray:
        """Return the places of references along an axis: a grid, and the last place that fits."""
        return np.unique(
            np.append(np.arange(0, length - self.patch_size, self.stride), length - self.patch_size)
        )


@njit(nogil=True, fastmath=True, cache=True)
def _filter_rows(noisy, estimate, rows, columns, p, size, radius, variance, level, total, weight, top):
    q = p * p
    distance = np.empty(2 * radius + 1, dtype=np.float32)
    best, place = np.empty(size, dtype=np.float32), np.empty((size, 2), dtype=np.int64)
    Y, E = np.empty((size, q), dtype=np.float32), np.empty((size, q), dtype=np.float32)
    mean, G, B = np.empty(q, dtype=np.float32), np.empty((size, size)), np.empty((size, size))
    for i in rows:
        for j in columns:
            n = _find_similar(estimate[0], i, j, p, radius, distance, best, place)
            for c in range(len(noisy)):
                _collect(noisy[c], place, n, p, Y)
                _collect(estimate[c], place, n, p, E)
                _shrink(Y, E, n, variance, level, mean, G, B)
                _scatter(Y, place, n, p, total[c], top)
            _count(place, n, p, weight, top)


@njit(nogil=True, fastmath=True, cache=True)
def _find_similar(plane, i, j, p, radius, distance, best, place):
    """Keep the nearest patches to patch (i, j), by squared distance; on a tie the first one found."""
    h, w = plane.shape
    left, right = max(0, j - radius), min(w - p, j + radius) + 1
    size = len(best)
    n = 1
    best[0], place[0, 0], place[0, 1] = -1, i, j  # the reference itself comes first
    for a in range(max(0, i - radius), min(h - p, i + radius) + 1):
        distance[: right - left] = 0
        for u in range(p):
            for v in range(p):
                value, row = plane[i + u, j + v], plane[a + u, left + v : right + v]
                for b in range(right - left):
                    gap = value - row[b]
                    distance[b] += gap * gap
        for b in range(right - left):
            d = distance[b]
            if (n == size and d >= best[n - 1]) or (a == i and left + b == j):
                continue
            n = min(n + 1, size)
            k = n - 1
            while best[k - 1] > d:
                best[k], place[k, 0], place[k, 1] = best[k - 1], place[k - 1, 0], place[k - 1, 1]
                k -= 1
            best[k], place[k, 0], place[k, 1] = d, a, left + b
    return n


@njit(nogil=True, fastmath=True, cache=True)
def _collect(plane, place, n, p, out):
    for k in range(n):
        for u in range(p):
            for v in range(p):
                out[k, u * p + v] = plane[place[k, 0] + u, place[k, 1] + v]


@njit(nogil=True, fastmath=True, cache=True)
def _shrink(Y, E, n, variance, level, mean, G, B):
    """Replace the rows y of Y by m + C (C + variance I)^-1 (y - m), where C = E^T E / n.

    With the centred rows E: (E^T E)(E^T E + a I)^-1 = E^T (E E^T + a I)^-1 E, a = n variance.
    """
    q = Y.shape[1]
    mean[:] = 0
    for k in range(n):
        for t in range(q):
            mean[t] += E[k, t]
    for t in range(q):
        mean[t] /= n
    if level:
        mean[:] = mean.mean()
    for k in range(n):
        for t in range(q):
            E[k, t] -= mean[t]
            Y[k, t] -= mean[t]
    for k in range(n):
        for m in range(k + 1):
            G[k, m] = _dot(E[k], E[m])
        G[k, k] += n * variance
        for m in range(n):
            B[m, k] = _dot(Y[m], E[k])
    _solve_rows(G, B, n)
    for k in range(n):
        y = Y[k]
        y[:] = mean
        for m in range(n):
            b, e = np.float32(B[k, m]), E[m]
            for t in range(q):
                y[t] += b * e[t]


@njit(nogil=True, fastmath=True, cache=True)
def _dot(a, b):
    total = np.float32(0)
    for t in range(len(a)):
        total += a[t] * b[t]
    return total


@njit(nogil=True, fastmath=True, cache=True)
def _solve_rows(G, B, n):
    """Replace the rows b of B by b G^-1; the lower triangle of G, positive definite, is overwritten."""
    for k in range(n):
        for m in range(k + 1):
            value = G[k, m]
            for t in range(m):
                value -= G[k, t] * G[m, t]
            G[k, m] = np.sqrt(value) if m == k else value / G[m, m]
    for r in range(n):
        b = B[r]
        for k in range(n):
            value = b[k]
            for t in range(k):
                value -= G[k, t] * b[t]
            b[k] = value / G[k, k]
        for k in range(n - 1, -1, -1):
            b[k] /= G[k, k]
            for t in range(k):
                b[t] -= G[k, t] * b[k]


@njit(nogil=True, fastmath=True, cache=True)
def _scatter(Y, place, n, p, total, top):
    for k in range(n):
        for u in range(p):
            for v in range(p):
                total[place[k, 0] - top + u, place[k, 1] + v] += Y[k, u * p + v]


@njit(nogil=True, fastmath=True, cache=True)
def _count(place, n, p, weight, top):
    for k in range(n):
        for u in range(p):
            for v in range(p):
                weight[place[k, 0] - top + u, place[k, 1] + v] += 1
