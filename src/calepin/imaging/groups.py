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

If each pixel has a noise variance of its own, see `calepin.imaging.group_estimation`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from calepin.core.compiled import FAST, INLINED, njit
from calepin.core.lanes import ROWS
from calepin.core.threads import run_blocks
from calepin.imaging import group_estimation as estimation
from calepin.imaging import group_shrinkage as shrinkage
from calepin.imaging.similar import TILE, Search, count_alike, find_similar, search_memory

__all__ = ["BAND", "BLOCK", "GroupFilter"]

BLOCK = 4  # rows of reference patches processed by one thread at a time
BAND = 16  # blocks whose sums are in memory at the same time


@dataclass(frozen=True)
class GroupFilter:
    """One pass over all groups of an image.

    Parameters
    ----------
    patch_size : int
        Side of the patches.
    group_size : int
        Patches in a group, including the reference. If no pixel is missing, there are fewer where few are
        much nearer than all others, as in drawings.
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
        noisy, estimate = np.ascontiguousarray(noisy), np.ascontiguousarray(estimate)
        _, h, w = noisy.shape
        rows, columns = self._references(h), self._references(w)
        total, corners = np.zeros_like(noisy), np.zeros((h, w), dtype=np.float32)
        shrink = self._uniform(noisy, estimate, sigma, covariance) if np.ndim(sigma) == 0 else None
        shrink = shrink or self._varying(noisy, estimate, np.asarray(sigma), ridge)

        def work(start: int, stop: int) -> tuple[int, np.ndarray, np.ndarray]:
            top = max(0, rows[start] - self.radius)
            bottom = min(h, rows[stop - 1] + self.radius + self.patch_size)
            block_total = np.zeros((len(noisy), bottom - top, w), dtype=np.float32)
            block_corners = np.zeros((bottom - top, w), dtype=np.float32)
            shrink(rows[start:stop], columns, block_total, block_corners, top)
            return top, block_total, block_corners

        for first in range(0, len(rows), BLOCK * BAND):
            last = min(first + BLOCK * BAND, len(rows))
            sums = run_blocks(lambda a, b, first=first: work(first + a, first + b), last - first, BLOCK)
            for top, block_total, block_corners in sums:
                bottom = top + len(block_corners)
                total[:, top:bottom] += block_total
                corners[top:bottom] += block_corners
            report(last / len(rows))
        weight = _spread(corners, self.patch_size)
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
        precision = np.empty((1, 0, 0), dtype=np.float32)  # white noise
        if covariance is not None:
            pad = (0, -(self.patch_size**2) % ROWS)
            precision = np.pad(np.linalg.inv(covariance.astype(np.float64)), ((0, 0), pad, pad))
            precision = precision.astype(np.float32)
        search = Search.of(estimate[0], self.patch_size, self.radius)

        def shrink(
            rows: np.ndarray, columns: np.ndarray, total: np.ndarray, corners: np.ndarray, top: int
        ) -> None:
            _filter_rows(
                noisy, estimate, search, rows, columns, self.group_size, variance, precision,
                self.mean == "level", self.common, total, corners, top,
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
        search = Search.of(guide, self.patch_size, self.radius)
        extra = np.float32(ridge * ridge)
        # where pixels are missing, distances tell less
        spread = variance.mean(axis=0) / len(variance) if known.all() else np.zeros((0, 0), dtype=np.float32)

        def shrink(
            rows: np.ndarray, columns: np.ndarray, total: np.ndarray, corners: np.ndarray, top: int
        ) -> None:
            _filter_rows_varying(
                noisy, estimate, search, variance, noise, spread, rows, columns, self.group_size, extra,
                self.mean == "level", self.common, joint, total, corners, top,
            )  # fmt: skip

        return shrink

    def _references(self, length: int) -> np.ndarray:
        """Return the positions of references along an axis: a grid, and the last possible position."""
        return np.unique(
            np.append(np.arange(0, length - self.patch_size, self.stride), length - self.patch_size)
        )


def _spread(corners: np.ndarray, p: int) -> np.ndarray:
    """Return how many patches of p x p pixels cover each pixel, from the number at each upper left corner."""
    weight = corners
    for axis in (0, 1):
        whole = weight
        weight = whole.copy()
        for shift in range(1, p):
            late, early = [slice(None)] * 2, [slice(None)] * 2
            late[axis], early[axis] = slice(shift, None), slice(None, -shift)
            weight[tuple(late)] += whole[tuple(early)]
    return weight


@njit(**FAST)
def _filter_rows(
    noisy,
    estimate,
    search,
    rows,
    columns,
    size,
    variance,
    precision,
    level,
    common,
    total,
    corners,
    top,
):
    p, w = search.p, search.w
    memory = search_memory(search, columns, size)
    _, _, distances, places, found = memory
    Z, F, out, mean, work = shrinkage.group_memory(p * p, size)
    half = len(work[0])
    for i in rows:
        for first in range(0, len(columns), TILE):
            tile = columns[first : first + TILE]
            find_similar(search, i, tile, memory)
            for j in range(len(tile)):
                place, n = places[j], count_alike(distances[j], found[j], variance * p * p)
                for c in range(len(noisy)):
                    _collect(noisy[c], place, n, p, Z, half, half)
                    _collect(estimate[c], place, n, p, Z, 0, half)
                    shrinkage.subtract_estimate(Z, p * p, n, half)
                    if common and not precision.size:
                        shrinkage.add_common(Z, p * p, n, half, variance, mean)
                    shrinkage.centre(Z, p * p, n, level, mean)
                    P = precision[c if len(precision) > 1 else 0]
                    shrinkage.shrink(Z, P, F, p * p, n, variance, mean, work, out)
                    _scatter(out, place, n, p, total[c], top)
                _count(place, n, w, corners, top)


@njit(**FAST)
def _filter_rows_varying(
    noisy,
    estimate,
    search,
    variance,
    noise,
    spread,
    rows,
    columns,
    size,
    ridge,
    level,
    common,
    joint,
    total,
    corners,
    top,
):
    p, w = search.p, search.w
    planes = len(noisy) if joint else 1  # in one patch
    q = planes * p * p
    memory = search_memory(search, columns, size)
    _, _, distances, places, found = memory
    Y, E = np.empty((size, q), dtype=np.float32), np.empty((size + 3, q), dtype=np.float32)
    V, mean = np.empty((size, q), dtype=np.float32), np.empty(q, dtype=np.float32)
    S, L = np.empty((q, q), dtype=np.float32), np.empty((q, q), dtype=np.float32)
    known, r = np.empty(q, dtype=np.int64), np.empty(q, dtype=np.float32)
    for i in rows:
        for first in range(0, len(columns), TILE):
            tile = _with_noise(noise, i, columns[first : first + TILE], p)
            if len(tile):
                find_similar(search, i, tile, memory)
            for j in range(len(tile)):
                place, n = places[j], found[j]
                if len(spread):
                    n = count_alike(distances[j], n, _sum(spread, i, tile[j], p))
                for start in range(0, len(noisy), planes):
                    for c in range(planes):
                        part = slice(c * p * p, (c + 1) * p * p)
                        estimation.collect(noisy[start + c], place, n, p, Y[:, part])
                        estimation.collect(estimate[start + c], place, n, p, E[:, part])
                        estimation.collect(variance[c], place, n, p, V[:, part])
                    if common:
                        estimation.add_common(Y, E[:n], V, n, mean)
                    estimation.covariance(E, n, p * p, level, mean, S)
                    for t in range(q):
                        S[t, t] += ridge
                    for k in range(n):
                        estimation.estimate_patch(Y[k], V[k], mean, S, L, known, r)
                    for c in range(planes):
                        _scatter(Y[:, c * p * p : (c + 1) * p * p].T, place, n, p, total[start + c], top)
                _count(place, n, w, corners, top)


@njit(**INLINED)
def _with_noise(noise, i, columns, p):
    """Return the columns of the references in row i whose patch has noise."""
    kept, n = np.empty_like(columns), 0
    for j in columns:
        if noise[i : i + p, j : j + p].any():
            kept[n] = j
            n += 1
    return kept[:n]


@njit(**INLINED)
def _sum(plane, i, j, p):
    total = np.float32(0)
    for u in range(p):
        for v in range(p):
            total += plane[i + u, j + v]
    return total


@njit(**INLINED)
def _collect(plane, place, n, p, Z, first, half):
    """Set columns of Z, `half` from the first on, to the n patches of a plane, and zeros."""
    w, pixels = plane.shape[1], plane.ravel()
    for u in range(p):
        for v in range(p):
            row, shift = Z[u * p + v], u * w + v
            for k in range(half):
                row[first + k] = pixels[place[k] + shift] if k < n else np.float32(0)


@njit(**INLINED)
def _scatter(out, place, n, p, total, top):
    w, sums = total.shape[1], total.ravel()
    for k in range(n):
        at = place[k] - top * w
        for u in range(p):
            for v in range(p):
                sums[at + u * w + v] += out[u * p + v, k]


@njit(**INLINED)
def _count(place, n, w, corners, top):
    for k in range(n):
        corners[place[k] // w - top, place[k] % w] += 1
