"""The search of similar patches finds what a search of all of them finds."""

import numpy as np
import pytest

from calepin.core.compiled import FAST, njit
from calepin.imaging.similar import FEWEST, TILE, Search, count_alike, find_similar, search_memory


@njit(**FAST)
def found(search, i, columns, size):
    memory = search_memory(search, columns, size)
    find_similar(search, i, columns, memory)
    return memory[2], memory[3], memory[4]


def all_distances(plane, i, j, p, radius):
    """Return the squared distances of all patches of the window but the reference, by their places."""
    h, w = plane.shape
    rows = range(max(0, i - radius), min(h - p, i + radius) + 1)
    columns = range(max(0, j - radius), min(w - p, j + radius) + 1)
    own = plane[i : i + p, j : j + p].astype(np.float64)
    return {
        a * w + b: ((own - plane[a : a + p, b : b + p]) ** 2).sum()
        for a in rows
        for b in columns
        if (a, b) != (i, j)
    }


@pytest.mark.parametrize("size", [1, 2, 13, 64])
@pytest.mark.parametrize(
    ("shape", "p", "radius"), [((40, 50), 6, 8), ((12, 130), 3, 20), ((7, 7), 7, 5), ((9, 8), 4, 3)]
)
def test_the_nearest_patches_of_the_window(shape, p, radius, size, rng):
    plane = rng.standard_normal(shape).astype(np.float32)
    columns = np.unique(np.append(np.arange(0, shape[1] - p, 3), shape[1] - p))[:TILE]
    search = Search.of(plane, p, radius)
    for i in {0, (shape[0] - p) // 2, shape[0] - p}:
        best, place, count = found(search, i, columns, size)
        for c, j in enumerate(columns):
            expected = all_distances(plane, i, j, p, radius)
            n = min(size, len(expected) + 1)
            nearest = sorted(expected, key=expected.get)[: n - 1]
            assert count[c] == n
            assert list(place[c, :n]) == [i * shape[1] + j, *nearest]
            np.testing.assert_allclose(best[c, 1:n], [expected[k] for k in nearest], rtol=1e-4)


def test_of_equal_patches_the_nearest_is_kept():
    plane = np.zeros((15, 15), dtype=np.float32)
    _, place, _ = found(Search.of(plane, 3, 5), 6, np.array([6]), 5)
    assert sorted(place[0]) == sorted(15 * a + b for a, b in [(6, 6), (5, 6), (7, 6), (6, 5), (6, 7)])


def test_an_image_of_large_values_has_no_patch_outside_of_it(rng):
    plane = (1e9 * rng.standard_normal((12, 12))).astype(np.float32)
    _, place, count = found(Search.of(plane, 4, 6), 0, np.array([0, 4, 8]), 60)
    for c in range(3):
        rows, columns = np.divmod(place[c, : count[c]], 12)
        assert set(rows) | set(columns) <= set(range(9))


@pytest.mark.parametrize(
    ("further", "noise", "expected"),
    [
        (np.full(20, 30.0), 0.0, FEWEST + 20),  # a little further
        (np.full(20, 50.0), 0.0, FEWEST),
        (np.full(20, 50.0), 100.0, FEWEST + 20),  # no further than the noise explains
        (np.linspace(11, 70, 20), 0.0, FEWEST + 10),
        (np.zeros(0), 0.0, FEWEST),
    ],
)
def test_patches_that_are_much_further_are_left_out(further, noise, expected):
    @njit(**FAST)
    def count(distances, noise):
        return count_alike(distances, len(distances), noise)

    near = np.append(-1, np.full(FEWEST - 1, 10.0))
    distances = np.concatenate([near, further]).astype(np.float32)
    assert count(distances, np.float32(noise)) == expected
    assert count(distances[:3], np.float32(0)) == 3
