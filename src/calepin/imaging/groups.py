"""Groups of similar patches, shrunk along their principal components.

A first estimate of the image determines which patches are similar, and the model of each group: with the mean
m and covariance C of the group in the first estimate, its noisy patches y become

    x = m + C (C + sigma^2 I)^-1 (y - m),

the linear estimate of least mean squared error: shrinkage of the coefficients in the orthogonal dictionary of
the eigenvectors of C. Overlapping results are averaged.

Source: Lebrun, Buades and Morel (2013), A nonlocal Bayesian image denoising algorithm, second
step. Here the first estimate comes from the dictionary. The rank of C is at most the number n of patches in a
group, so x is computed from n x n matrices instead of matrices of the size of a patch.

What the first estimate has lost, but the patches of a group share, as a weak regular texture, the mean d of
their residuals y - e shows: only a part sigma^2 / n of the noise is left in it. With the squared norm
expected of that, q sigma^2 / n for q pixels, its part

    max(0, 1 - COMMON q sigma^2 / (n |d|^2)) d,

is added to the first estimate of the group, after James and Stein (1961), Estimation with quadratic loss.

If the noise is correlated, sigma^2 I becomes the covariance N of the noise of a patch, the same for all.

If each pixel has a noise variance of its own, V = diag(v), and M keeps the pixels of a patch whose variance
is finite, the same estimate is

    x = m + S M^T (M (S + V) M^T)^-1 M (y - m),   S = C + ridge I,

a system of as many equations as the patch has known pixels. A missing pixel is one of infinite variance. The
ridge is what the first estimate cannot know of the group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from calepin.core.compiled import njit
from calepin.core.threads import run_blocks

__all__ = ["KERNEL", "PART", "GroupFilter", "centre_group", "dot", "shrink_group", "solve_rows"]

# Options of kernels; one that another calls is a part of it, see `calepin.core.compiled.INLINED`.
KERNEL: dict[str, Any] = {"nogil": True, "fastmath": True, "cache": True}
PART: dict[str, Any] = {**KERNEL, "forceinline": True}

BLOCK = 4  # rows of reference patches processed by one thread at a time
COMMON = 1.5  # more than 1, because patches that overlap share some noise
BAND = 16  # blocks whose sums are in memory at the same time
TINY = np.float32(1e-7)  # of the first pivot: smaller ones are rounding


@dataclass(frozen=True)
class GroupFilter:
    """One pass over all groups of an image.

    Parameters
    ----------
    patch_size : int
        Side of the patches.
    group_size : int
        Patches in a group, including the reference.
    radius : int
        Largest distance of a patch from the reference in pixels, along both axes.
    stride : int
        Distance of neighbouring references in pixels, along both axes.
    mean : {"patch", "level"}
        "patch": m is the mean patch. "level": m is its mean grey level, and the mean patch is one more
        direction of C, which is better if the first estimate is noisy.
    common : bool
        Whether the estimate first gets what the residuals of a group have in common. Without effect if the
        noise is correlated.
    """

    patch_size: int = 6
    group_size: int = 24
    radius: int = 20
    stride: int = 3
    mean: Literal["patch", "level"] = "patch"
    common: bool = False

    def apply(
        self,
        noisy: np.ndarray,
        estimate: np.ndarray,
        sigma: float | np.ndarray,
        *,
        covariance: np.ndarray | None = None,
        ridge: float = 0.0,
        report: Callable[[float], None] = lambda fraction: None,
    ) -> np.ndarray:
        """Return the restored planes.

        Parameters
        ----------
        noisy, estimate : float32 arrays (c, h, w)
            Noisy planes and their estimate. Its first plane, or its mean if planes are shrunk as one,
            determines which patches are similar.
        sigma : float or array
            Standard deviation of the noise: a number; an array (h, w) for each pixel of all planes, which
            are shrunk one by one; or an array (c, h, w), with which they are shrunk as one, because their
            pixels tell about each other. Infinite where a pixel is missing. Where a reference has no
            noise at all, nothing is shrunk; pixels that no group restores stay as they are in `noisy`.
        covariance : array (c, patch_size^2, patch_size^2), optional
            Covariance of the noise of a patch of each plane, times sigma^2, a number. Well conditioned in
            single precision. Default: the identity, white noise.
        ridge : float, default=0
            Standard deviation of what is added to the covariance of a group; only for arrays.
        report : callable
            Called with the finished fraction of the work.
        """
        _, h, w = noisy.shape
        rows, columns = self._references(h), self._references(w)
        total, weight = np.zeros_like(noisy), np.zeros((h, w), dtype=np.float32)
        shrink = self._uniform(noisy, estimate, sigma, covariance) if np.ndim(sigma) == 0 else None
        shrink = shrink or self._varying(noisy, estimate, np.asarray(sigma), ridge)

        def work(start: int, stop: int) -> tuple[int, np.ndarray, np.ndarray]:
            top = max(0, rows[start] - self.radius)
            bottom = min(h, rows[stop - 1] + self.radius + self.patch_size)
            block_total = np.zeros((len(noisy), bottom - top, w), dtype=np.float32)
            block_weight = np.zeros((bottom - top, w), dtype=np.float32)
            shrink(rows[start:stop], columns, block_total, block_weight, top)
            return top, block_total, block_weight

        for first in range(0, len(rows), BLOCK * BAND):
            last = min(first + BLOCK * BAND, len(rows))
            sums = run_blocks(lambda a, b, first=first: work(first + a, first + b), last - first, BLOCK)
            for top, block_total, block_weight in sums:
                bottom = top + len(block_weight)
                total[:, top:bottom] += block_total
                weight[top:bottom] += block_weight
            report(last / len(rows))
        skipped = weight == 0
        weight[skipped] = 1
        total /= weight
        total[:, skipped] = noisy[:, skipped]
        return total

    def _uniform(
        self, noisy: np.ndarray, estimate: np.ndarray, sigma: Any, covariance: np.ndarray | None
    ) -> Callable[..., None]:
        """Return the work on rows of references for noise of one level."""
        variance = np.float32(sigma * sigma)
        precision = np.empty((0, 0, 0), dtype=np.float32)  # white noise
        if covariance is not None:
            precision = np.linalg.inv(covariance.astype(np.float64)).astype(np.float32)

        def shrink(
            rows: np.ndarray, columns: np.ndarray, total: np.ndarray, weight: np.ndarray, top: int
        ) -> None:
            _filter_rows(
                noisy, estimate, rows, columns, self.patch_size, self.group_size,
                self.radius, variance, precision, self.mean == "level", self.common, total,
                weight, top,
            )  # fmt: skip

        return shrink

    def _varying(
        self, noisy: np.ndarray, estimate: np.ndarray, sigma: np.ndarray, ridge: float
    ) -> Callable[..., None]:
        """Return the work on rows of references for noise of each pixel's own level."""
        known = np.isfinite(sigma)
        # kernels know no infinity: a missing pixel has a negative variance
        variance = np.where(known, np.square(np.where(known, sigma, 0)), -1).astype(np.float32)
        joint = variance.ndim == 3
        variance = variance if joint else variance[None]
        noise = np.ascontiguousarray((variance != 0).any(axis=0))
        guide = estimate.mean(axis=0) if joint else estimate[0]
        extra = np.float32(ridge * ridge)

        def shrink(
            rows: np.ndarray, columns: np.ndarray, total: np.ndarray, weight: np.ndarray, top: int
        ) -> None:
            _filter_rows_varying(
                noisy, estimate, guide, variance, noise, rows, columns, self.patch_size, self.group_size,
                self.radius, extra, self.mean == "level", self.common, joint, total, weight, top,
            )  # fmt: skip

        return shrink

    def _references(self, length: int) -> np.ndarray:
        """Return the positions of references along an axis: a grid, and the last possible position."""
        return np.unique(
            np.append(np.arange(0, length - self.patch_size, self.stride), length - self.patch_size)
        )


@njit(**KERNEL)
def _filter_rows(
    noisy, estimate, rows, columns, p, size, radius, variance, precision, level, common, total, weight, top
):
    q = p * p
    distance = np.empty(2 * radius + 1, dtype=np.float32)
    best, place = np.empty(size, dtype=np.float32), np.empty((size, 2), dtype=np.int64)
    Y, E = np.empty((size, q), dtype=np.float32), np.empty((size, q), dtype=np.float32)
    F = np.empty((size, q), dtype=np.float32) if len(precision) else E
    mean, G, B = np.empty(q, dtype=np.float32), np.empty((size, size)), np.empty((size, size))
    for i in rows:
        for j in columns:
            n = _find_similar(estimate[0], i, j, p, radius, distance, best, place)
            for c in range(len(noisy)):
                _collect(noisy[c], place, n, p, Y)
                _collect(estimate[c], place, n, p, E)
                if common and not len(precision):
                    _add_common(Y, E, n, variance, mean)
                centre_group(Y, E, n, level, mean)
                if len(precision):
                    _multiply(E, precision[c], n, F)
                shrink_group(Y, E, F, n, variance, mean, G, B)
                _scatter(Y, place, n, p, total[c], top)
            _count(place, n, p, weight, top)


@njit(**KERNEL)
def _filter_rows_varying(
    noisy,
    estimate,
    guide,
    variance,
    noise,
    rows,
    columns,
    p,
    size,
    radius,
    ridge,
    level,
    common,
    joint,
    total,
    weight,
    top,
):
    planes = len(noisy) if joint else 1  # in one patch
    q = planes * p * p
    distance = np.empty(2 * radius + 1, dtype=np.float32)
    best, place = np.empty(size, dtype=np.float32), np.empty((size, 2), dtype=np.int64)
    Y, E = np.empty((size, q), dtype=np.float32), np.empty((size + 3, q), dtype=np.float32)
    V, mean = np.empty((size, q), dtype=np.float32), np.empty(q, dtype=np.float32)
    S, L = np.empty((q, q), dtype=np.float32), np.empty((q, q), dtype=np.float32)
    known, r = np.empty(q, dtype=np.int64), np.empty(q, dtype=np.float32)
    for i in rows:
        for j in columns:
            if not noise[i : i + p, j : j + p].any():
                continue
            n = _find_similar(guide, i, j, p, radius, distance, best, place)
            for first in range(0, len(noisy), planes):
                for c in range(planes):
                    part = slice(c * p * p, (c + 1) * p * p)
                    _collect(noisy[first + c], place, n, p, Y[:, part])
                    _collect(estimate[first + c], place, n, p, E[:, part])
                    _collect(variance[c], place, n, p, V[:, part])
                if common:
                    _add_common_varying(Y, E[:n], V, n, mean)
                _covariance(E, n, p * p, level, mean, S)
                for t in range(q):
                    S[t, t] += ridge
                for k in range(n):
                    _estimate(Y[k], V[k], mean, S, L, known, r)
                for c in range(planes):
                    _scatter(Y[:, c * p * p : (c + 1) * p * p], place, n, p, total[first + c], top)
            _count(place, n, p, weight, top)


@njit(**PART)
def _find_similar(plane, i, j, p, radius, distance, best, place):
    """Keep the patches nearest to patch (i, j) in squared distance; of equal ones the first found."""
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


@njit(**PART)
def _collect(plane, place, n, p, out):
    for k in range(n):
        for u in range(p):
            for v in range(p):
                out[k, u * p + v] = plane[place[k, 0] + u, place[k, 1] + v]


@njit(**PART)
def _add_common(Y, E, n, variance, d):
    """Add to the rows of E what they lack in common: the mean d of the rows of Y - E, shrunk."""
    q = Y.shape[1]
    d[:] = 0
    for k in range(n):
        for t in range(q):
            d[t] += Y[k, t] - E[k, t]
    for t in range(q):
        d[t] /= n
    _add_shrunk(E, n, d, q * variance / n)


@njit(**PART)
def _add_common_varying(Y, E, V, n, d):
    """Do it if pixels have variances V, negative where they are missing."""
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


@njit(**PART)
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


@njit(**PART)
def centre_group(Y, E, n, level, mean):
    """Subtract the mean of the rows of E, or its grey level, from the rows of both."""
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


@njit(**PART)
def _multiply(E, P, n, F):
    """Set F = E P, for the first n rows."""
    q = E.shape[1]
    F[:n] = 0
    for k in range(n):
        f = F[k]
        for s in range(q):
            e, row = E[k, s], P[s]
            for t in range(q):
                f[t] += e * row[t]


@njit(**PART)
def shrink_group(Y, E, F, n, variance, mean, G, B):
    """Replace the centred rows y of Y by m + C (C + variance N)^-1 y, where C = E^T E / n and F = E N^-1.

    (E^T E)(E^T E + a N)^-1 = E^T (F E^T + a I)^-1 F, a = n variance.
    """
    q = Y.shape[1]
    for k in range(n):
        for m in range(k + 1):
            G[k, m] = dot(F[k], E[m])
        G[k, k] += n * variance
        for m in range(n):
            B[m, k] = dot(Y[m], F[k])
    solve_rows(G, B, n, n)
    for k in range(n):
        y = Y[k]
        y[:] = mean
        for m in range(n):
            b, e = np.float32(B[k, m]), E[m]
            for t in range(q):
                y[t] += b * e[t]


@njit(**PART)
def _covariance(E, n, size, level, mean, S):
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


@njit(**PART)
def _estimate(y, v, mean, S, L, known, r):
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


@njit(**PART)
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


@njit(**PART)
def dot(a, b):
    """Return the inner product of two vectors."""
    total = np.float32(0)
    for t in range(len(a)):
        total += a[t] * b[t]
    return total


@njit(**PART)
def solve_rows(G, B, n, n_rows):
    """Replace the first rows b of B by b G^-1; the lower triangle of G, positive definite, is overwritten."""
    for k in range(n):
        for m in range(k + 1):
            value = G[k, m]
            for t in range(m):
                value -= G[k, t] * G[m, t]
            G[k, m] = np.sqrt(value) if m == k else value / G[m, m]
    for r in range(n_rows):
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


@njit(**PART)
def _scatter(Y, place, n, p, total, top):
    for k in range(n):
        for u in range(p):
            for v in range(p):
                total[place[k, 0] - top + u, place[k, 1] + v] += Y[k, u * p + v]


@njit(**PART)
def _count(place, n, p, weight, top):
    for k in range(n):
        for u in range(p):
            for v in range(p):
                weight[place[k, 0] - top + u, place[k, 1] + v] += 1
