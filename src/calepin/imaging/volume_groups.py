"""Groups of similar blocks of a stack of frames: a volume, or a time series.

A patch is a block of pixels of one or several successive frames, and similar ones come from the frames around
its own, too. The first pass has no estimate to take the model of a group from: the singular values s of the
noisy group, n patches of q pixels without their mean grey level, become

    s sqrt((s^2 / a - b - 1)^2 - 4 b) a / s^2,   a = sigma^2 max(n, q),  b = min(n, q) / max(n, q),

or 0 if s^2 <= a (1 + sqrt(b))^2, which noise alone reaches: of all such rules the one of least squared error
for large groups of low rank (Gavish and Donoho 2017, Optimal shrinkage of singular values). Later passes are
those of `calepin.imaging.groups`. Groups are found in the first plane of an estimate, and each plane (of
colours) is shrunk by its own model.

If each pixel has a noise variance of its own, with the weights w = 1 / variance, 0 where a pixel is missing,
the estimate of a patch y from the centred patches E of its group is that of `calepin.imaging.groups` without
a ridge, in the form of n equations:

    x = m + E^T (E diag(w) E^T + n I)^-1 E diag(w) (y - m).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calepin.core.compiled import FAST, INLINED, LANES, njit
from calepin.core.lanes import block_distances
from calepin.core.threads import run_blocks
from calepin.imaging.group_estimation import dot
from calepin.imaging.group_shrinkage import centre, group_memory, shrink, subtract_estimate
from calepin.imaging.groups import BAND, BLOCK

__all__ = ["VolumeGroupFilter"]

TINY = 4096  # entries of a stack which may be too few for steps of several numbers


@dataclass(frozen=True)
class VolumeGroupFilter:
    """One pass over all groups of a stack.

    Parameters
    ----------
    patch_shape : (int, int, int)
        Frames, rows and columns of a patch.
    group_size : int
        Patches in a group, including the reference.
    stride : (int, int, int)
        Distance of neighbouring references along the three axes, at most as large as the patch.
    model : {"noisy", "level", "patch"}
        "noisy": shrinkage of the singular values of the noisy group. "level" and "patch": the model comes
        from the estimate, with this mean, see `calepin.imaging.groups.GroupFilter`.
    radius : int
        Largest distance of a patch from the reference in pixels, along rows and columns.
    depth : int
        Largest distance of a patch from the reference in frames.
    follow : int
        In other frames, largest distance in pixels from the most similar patch of the frame before.
    """

    patch_shape: tuple[int, int, int]
    group_size: int
    stride: tuple[int, int, int]
    model: Literal["noisy", "level", "patch"]
    radius: int = 10
    depth: int = 10
    follow: int = 3

    def apply(
        self,
        noisy: np.ndarray,
        estimate: np.ndarray,
        sigma: float,
        *,
        weight: np.ndarray | None = None,
        guide: np.ndarray | None = None,
        report: Callable[[float], None] = lambda fraction: None,
    ) -> np.ndarray:
        """Return the restored stack.

        Only a few frames of sums are in memory besides the stacks. The result is the same, bit for bit,
        for any number of threads.

        Parameters
        ----------
        noisy, estimate : float32 arrays (c, d, h, w)
            Planes of a noisy stack and their estimate. Frames are at least as large as a patch.
        sigma : float
            Standard deviation of the noise.
        weight : float32 array (d, h, w) or (c, d, h, w), optional
            The inverse of the variance of each pixel, in units of sigma^2; 0 where it is missing, and there
            `noisy` is any estimate. Default: 1.
        guide : float32 array (d, h, w), optional
            Determines which patches are similar. Default: the first plane of the estimate.
        report : callable
            Called with the finished fraction of the work.
        """
        layers, rows, columns = (
            _references(*axis) for axis in zip(noisy.shape[1:], self.patch_shape, self.stride, strict=True)
        )
        c, d, h, w = noisy.shape
        restored = np.empty_like(noisy)
        sums = _Sums((c, min(d, 2 * self.depth + self.patch_shape[0]), h, w))
        flat = (estimate[0] if guide is None else guide).ravel()
        if flat.size < TINY:
            flat = np.pad(flat, (0, LANES))
        weights = np.zeros((0, 0, 0, 0), dtype=np.float32)  # the same for all pixels
        if weight is not None:
            weights = np.ascontiguousarray(weight if weight.ndim == 4 else weight[None], dtype=np.float32)
            weights = weights / np.float32(sigma * sigma)

        def work(layer: int, start: int, first: int, last: int) -> tuple[int, np.ndarray, np.ndarray]:
            top = max(0, rows[first] - self.radius)
            bottom = min(h, rows[last - 1] + self.radius + self.patch_shape[1])
            total = np.zeros((c, sums.total.shape[1], bottom - top, w), dtype=np.float32)
            count = np.zeros(total.shape[1:], dtype=np.float32)
            _filter_rows(
                noisy, estimate, flat, weights, layer, rows[first:last], columns, self.patch_shape,
                self.group_size, self.radius, self.depth, self.follow, np.float32(sigma * sigma),
                self.model == "noisy", self.model == "level", total, count, start, top,
            )  # fmt: skip
            return top, total, count

        for k, layer in enumerate(layers):
            start = max(0, layer - self.depth)
            sums.move(start, restored)
            for band in range(0, len(rows), BLOCK * BAND):
                n = min(BLOCK * BAND, len(rows) - band)
                parts = run_blocks(
                    lambda a, b, at=(layer, start), band=band: work(*at, band + a, band + b), n, BLOCK
                )
                for part in parts:
                    sums.add(*part)
            report((k + 1) / len(layers))
        sums.move(d, restored)
        return restored


class _Sums:
    """Sums of overlapping results in a window of a few successive frames, which moves along the stack."""

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        self.total, self.count = np.zeros(shape, dtype=np.float32), np.zeros(shape[1:], dtype=np.float32)
        self.start = 0

    def add(self, top: int, total: np.ndarray, count: np.ndarray) -> None:
        """Add the sums of a block of rows from `top` on."""
        rows = slice(top, top + count.shape[1])
        self.total[:, :, rows] += total
        self.count[:, rows] += count

    def move(self, start: int, out: np.ndarray) -> None:
        """Write the means of the frames before `start`, and begin the window there."""
        depth = len(self.count)
        n = min(start - self.start, depth)
        if n == 0:
            return
        np.divide(self.total[:, :n], self.count[:n], out=out[:, self.start : self.start + n])
        for sums in (*self.total, self.count):
            sums[: depth - n] = sums[n:].copy()
            sums[depth - n :] = 0
        self.start = start


def _references(length: int, patch: int, stride: int) -> np.ndarray:
    """Return the positions of references along an axis: a grid, and the last possible position."""
    return np.unique(np.append(np.arange(0, length - patch, stride), length - patch))


@njit(**FAST)
def _filter_rows(
    noisy,
    estimate,
    guide,
    weights,
    z,
    rows,
    columns,
    shape,
    size,
    radius,
    depth,
    follow,
    variance,
    first,
    level,
    total,
    count,
    start,
    top,
):
    q = shape[0] * shape[1] * shape[2]
    dims = noisy.shape[1:]
    distance = np.empty(2 * radius + 1 + 2 * LANES, dtype=np.float32)
    best, place = np.empty(size, dtype=np.float32), np.empty((size, 3), dtype=np.int64)
    Z, spare, out, mean, work = group_memory(q, size)
    white = np.empty((0, 0), dtype=np.float32)
    half = len(work[0])
    varying = len(weights) > 0
    Y, E = np.empty((size, q), dtype=np.float32), np.empty((size if varying else 0, q), dtype=np.float32)
    W, F, G, r = np.empty_like(E), np.empty_like(E), np.empty((size, size)), np.empty((1, size))
    for i in rows:
        for j in columns:
            n = _find_similar(guide, dims, z, i, j, shape, radius, depth, follow, distance, best, place)
            for c in range(len(noisy)):
                if varying:
                    _collect(weights[min(c, len(weights) - 1)], place, n, shape, W)
                if first:
                    _collect(noisy[c], place, n, shape, Y)
                    _shrink_values(Y[:n], _mean_variance(W, n) if varying else variance)
                    _scatter(Y, place, n, shape, total[c], start, top)
                    continue
                _collect(noisy[c], place, n, shape, Z[:, half:].T)
                _collect(estimate[c], place, n, shape, Z.T)
                subtract_estimate(Z, q, n, half)
                centre(Z, q, n, level, mean)
                if varying:
                    E[:n] = Z[:q, :n].T
                    Y[:n] = E[:n] + Z[:q, half : half + n].T
                    _shrink_weighted(Y, E, W, n, mean[:q], F, G, r)
                    _scatter(Y, place, n, shape, total[c], start, top)
                else:
                    Z[:, n:half] = 0
                    shrink(Z, white, spare, q, n, variance, mean, work, out)
                    _scatter(out.T, place, n, shape, total[c], start, top)
            _count(place, n, shape, count, start, top)


@njit(**INLINED)
def _find_similar(guide, size, z, i, j, shape, radius, depth, follow, distance, best, place):
    """Keep the patches nearest to patch (z, i, j) in squared distance; of equal ones the first found.

    The search goes through the own frame, then away from it in both directions; in each other frame around
    the nearest patch of the frame before, since objects move.
    """
    d, h, w = size
    best[0], place[0, 0], place[0, 1], place[0, 2] = -1, z, i, j  # the reference itself comes first
    n = 1
    for side in (-1, 1):
        row, column = i, j
        for step in range((side + 1) // 2, depth + 1):
            f = z + side * step
            if f < 0 or f > d - shape[0]:
                break
            reach = follow if step else radius
            left = max(0, j - radius, column - reach)
            right = min(w - shape[2], j + radius, column + reach) + 1
            rows = range(max(0, i - radius, row - reach), min(h - shape[1], i + radius, row + reach) + 1)
            nearest = np.float32(np.inf)
            for a in rows:
                _distances(guide, size, (z, i, j), (f, a, left), right - left, shape, distance)
                for b in range(right - left):
                    here = distance[b]
                    if step and here < nearest:
                        nearest, row, column = here, a, left + b
                    if (n == len(best) and here >= best[n - 1]) or (f == z and a == i and left + b == j):
                        continue
                    n = min(n + 1, len(best))
                    k = n - 1
                    while best[k - 1] > here:
                        best[k], place[k] = best[k - 1], place[k - 1]
                        k -= 1
                    best[k], place[k, 0], place[k, 1], place[k, 2] = here, f, a, left + b
    return n


@njit(**INLINED)
def _distances(guide, size, own, other, n, shape, distance):
    """Set the squared distances of the patch at `own` from n patches: at `other`, and right of it."""
    _, h, w = size
    at = (own[0] * h + own[1]) * w + own[2]
    extent = ((shape[0] - 1) * h + shape[1] - 1) * w + shape[2] - 1
    last = len(guide) - extent - LANES  # a step from further on would read beyond the end
    for k in range(0, n, LANES):
        wanted = (other[0] * h + other[1]) * w + other[2] + k
        start = min(wanted, last)
        block_distances(distance, k, guide, at, start, (h * w, w), shape)
        if start < wanted:
            for x in range(k, n):
                distance[x] = distance[x + wanted - start]


@njit(**INLINED)
def _collect(stack, place, n, shape, out):
    for k in range(n):
        m = 0
        for t in range(shape[0]):
            for u in range(shape[1]):
                line = stack[place[k, 0] + t, place[k, 1] + u]
                for v in range(shape[2]):
                    out[k, m] = line[place[k, 2] + v]
                    m += 1


@njit(**INLINED)
def _scatter(Y, place, n, shape, total, start, top):
    for k in range(n):
        m = 0
        for t in range(shape[0]):
            for u in range(shape[1]):
                f, a, left = place[k, 0] - start + t, place[k, 1] - top + u, place[k, 2]
                for v in range(shape[2]):
                    total[f, a, left + v] += Y[k, m]
                    m += 1


@njit(**INLINED)
def _count(place, n, shape, count, start, top):
    for k in range(n):
        for t in range(shape[0]):
            for u in range(shape[1]):
                f, a, left = place[k, 0] - start + t, place[k, 1] - top + u, place[k, 2]
                for v in range(shape[2]):
                    count[f, a, left + v] += 1


@njit(**INLINED)
def _mean_variance(W, n):
    """Return the mean variance of the pixels of a group, 0 for missing ones, whose value is an estimate."""
    total = np.float32(0)
    for k in range(n):
        for t in range(W.shape[1]):
            if W[k, t] > 0:
                total += 1 / W[k, t]
    return total / np.float32(n * W.shape[1])


@njit(**INLINED)
def _shrink_weighted(Y, E, W, n, mean, F, G, r):
    """Replace the centred rows y of Y by m + E^T (E diag(w) E^T + n I)^-1 E diag(w) y."""
    q = Y.shape[1]
    for k in range(n):
        y, w = Y[k], W[k]
        for m in range(n):
            e, f = E[m], F[m]
            for t in range(q):
                f[t] = e[t] * w[t]
            r[0, m] = dot(f, y)
        for m in range(n):
            for s in range(m + 1):
                G[m, s] = dot(F[m], E[s])
            G[m, m] += n
        _solve_rows(G, r, n, 1)
        y[:] = mean
        for m in range(n):
            b, e = np.float32(r[0, m]), E[m]
            for t in range(q):
                y[t] += b * e[t]


@njit(**INLINED)
def _solve_rows(G, B, n, n_rows):
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


@njit(**INLINED)
def _shrink_values(Y, variance):
    """Shrink the singular values of the rows of Y without their mean grey level, in place."""
    n, q = Y.shape
    level = Y.mean()
    centred = Y.astype(np.float64) - level
    wide = n <= q
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    scale, ratio = variance * max(n, q), min(n, q) / max(n, q)
    scaled = vectors.copy()
    for k in range(len(values)):
        square = values[k] / scale  # of the singular value
        kept = square > (1 + np.sqrt(ratio)) ** 2
        scaled[:, k] *= np.sqrt((square - ratio - 1) ** 2 - 4 * ratio) / square if kept else 0.0
    shrink = scaled @ vectors.T
    Y[:] = (shrink @ centred if wide else centred @ shrink) + level
