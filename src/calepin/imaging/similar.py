"""Similar patches: for each patch of a row of references, the nearest ones of a window around it.

The squared distances of all references of a row from the patches at one offset are sums over a window of the
squared differences of two parts of the image. References that overlap share the sums down the columns. Near
offsets come first: similar patches are often near, and the sooner they are found, the fewer are kept in vain.
"""

from typing import NamedTuple

import numpy as np

from calepin.core.compiled import INLINED, LANES, njit
from calepin.core.lanes import below, lowest, square_distances

__all__ = ["TILE", "Search", "count_alike", "find_similar", "search_memory"]

# What is outside of an image is further than any patch of it.
OUTSIDE, FARTHEST = np.float32(1e17), np.float32(1e33)

# The patches of a group are cut off where distances are so many times that of the patch of this number, to
# which a part of the noise is added.
FEWEST, FURTHER, OF_NOISE = 8, 4.0, 0.1

TILE = 64  # references searched at the same time: what they need is in fast memory


class Search(NamedTuple):
    """A plane (h, w) in which patches of p x p pixels are searched.

    `plane` has columns that are far from everything on its sides, enough of them for every offset. `offsets`
    (k, 2) are those of the patches from a reference, the nearest first.
    """

    plane: np.ndarray
    offsets: np.ndarray
    h: int
    w: int
    p: int
    radius: int

    @classmethod
    def of(cls, plane: np.ndarray, patch_size: int, radius: int) -> "Search":
        """Return the search of patches at most `radius` away along both axes."""
        right = radius + patch_size + 2 * LANES
        wide = np.pad(plane, ((0, 0), (radius, right)), constant_values=OUTSIDE)
        offsets = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1).T
        order = np.argsort((offsets**2).sum(axis=1), kind="stable")
        h, w = plane.shape
        return cls(wide, np.ascontiguousarray(offsets[order[1:]]), h, w, patch_size, radius)


@njit(**INLINED)
def search_memory(search, columns, group_size):
    """Return what a search of `TILE` successive references at these columns needs, and what it finds."""
    width = 1
    for c in range(len(columns)):
        width = max(width, columns[min(c + TILE, len(columns)) - 1] - columns[c] + 1)
    lanes = np.empty((3, width + search.p + 2 * LANES), dtype=np.float32)
    owner, found = np.empty(width, dtype=np.int64), np.empty(TILE, dtype=np.int64)
    best = np.empty((TILE, group_size), dtype=np.float32)
    return lanes, owner, best, np.empty((TILE, group_size), dtype=np.int64), found


@njit(**INLINED)
def find_similar(search, i, columns, memory):
    """Find the patches nearest to those at (i, columns) in squared distance; of equal ones the first found.

    The `memory` then has for each reference `best`, the distances in ascending order, the reference itself
    first; `place`, row times w plus column; and their number.
    """
    lanes, owner, best, place, found = memory
    D, T, least = lanes[0], lanes[1], lanes[2]  # down the columns, of patches, and what is near enough
    p, w, pitch = search.p, search.w, search.plane.shape[1]
    size, left = best.shape[1], columns[0]
    width = columns[-1] - left + 1
    least[:] = -np.inf  # no reference: what is beyond the last one is anything
    for c in range(len(columns)):
        x = columns[c] - left
        owner[x], found[c] = c, 1
        least[x] = FARTHEST if size > 1 else -np.inf
        best[c, 0], place[c, 0] = -1, i * w + columns[c]
    own = i * pitch + left + search.radius
    for o in range(len(search.offsets)):
        a, b = search.offsets[o, 0], search.offsets[o, 1]
        if not 0 <= i + a <= search.h - p:
            continue
        for x in range(0, width + p - 1, LANES):
            square_distances(D, x, search.plane, own + x, own + a * pitch + b + x, pitch, p)
        for x in range(0, width, LANES):
            nearer = below(T, D, x, p, least)
            while nearer:
                y = x + lowest(nearer)
                nearer &= nearer - 1
                c = owner[y]
                found[c] = min(found[c] + 1, size)
                _insert(best[c], place[c], found[c], T[y], (i + a) * w + left + y + b)
                if found[c] == size:
                    least[y] = best[c, size - 1]


@njit(**INLINED)
def _insert(best, place, n, distance, at):
    """Insert a patch into a list of then n; the last one of a full list is lost."""
    k = n - 1
    while best[k - 1] > distance:
        best[k], place[k] = best[k - 1], place[k - 1]
        k -= 1
    best[k], place[k] = distance, at


@njit(**INLINED)
def count_alike(distances, n, noise):
    """Return how many of n patches, the nearest first, are alike: others may be much further away.

    A pattern has few patches that are the same, and no others like them. `noise` is the squared distance that
    the noise of a patch makes.
    """
    if n > FEWEST:
        bound = np.float32(FURTHER) * (distances[FEWEST - 1] + np.float32(OF_NOISE) * noise)
        while n > FEWEST and distances[n - 1] > bound:
            n -= 1
    return n
