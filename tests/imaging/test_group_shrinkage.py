"""The shrinkage of a group is the formula that its module states."""

import numpy as np
import pytest

from calepin.core.compiled import FAST, njit
from calepin.core.lanes import ROWS
from calepin.imaging import group_shrinkage as shrinkage


@njit(**FAST)
def shrunk(Y, E, variance, precision, level, common):
    n, q = Y.shape
    Z, F, out, mean, work = shrinkage.group_memory(q, n)
    half = len(work[0])
    Z[:q, :n], Z[:q, half : half + n] = E.T, Y.T
    shrinkage.subtract_estimate(Z, q, n, half)
    if common:
        shrinkage.add_common(Z, q, n, half, variance, mean)
    shrinkage.centre(Z, q, n, level, mean)
    shrinkage.shrink(Z, precision, F, q, n, variance, mean, work, out)
    return out[:q, :n].T.copy()


WHITE = np.empty((0, 0), dtype=np.float32)


@pytest.mark.parametrize("level", [False, True])
@pytest.mark.parametrize(("n", "q"), [(1, 9), (7, 16), (24, 36), (18, 25), (64, 36), (32, 100)])
def test_shrinkage_is_the_linear_estimate_of_least_squared_error(n, q, level, rng):
    Y, E = rng.normal(size=(2, n, q)).astype(np.float32)
    m = np.full(q, E.mean()) if level else E.mean(axis=0)
    C = (E - m).T @ (E - m) / n
    expected = m + (Y - m) @ np.linalg.solve(C + 0.3 * np.eye(q), C)
    np.testing.assert_allclose(shrunk(Y, E, np.float32(0.3), WHITE, level, False), expected, atol=1e-5)


@pytest.mark.parametrize(("n", "q"), [(7, 16), (24, 25)])
def test_correlated_noise_enters_by_the_inverse_of_its_covariance(n, q, rng):
    Y, E = rng.normal(size=(2, n, q)).astype(np.float32)
    root = rng.standard_normal((q, q))
    N = root @ root.T / q + 0.5 * np.eye(q)
    m = E.mean(axis=0)
    C = (E - m).T @ (E - m) / n
    expected = m + (Y - m) @ np.linalg.solve(C + 0.3 * N, C)
    pad = (0, -q % ROWS)
    precision = np.pad(np.linalg.inv(N), (pad, pad)).astype(np.float32)
    np.testing.assert_allclose(shrunk(Y, E, np.float32(0.3), precision, False, False), expected, atol=1e-4)


def test_what_all_patches_lack_is_added_shrunk(rng):
    """The rows of E lack the pattern d, which has no mean; the noise of Y is known."""
    n, q, sigma = 12, 16, 0.1
    d = rng.standard_normal(q)
    d -= d.mean()
    E = rng.standard_normal((n, q)).astype(np.float32)
    Y = (E + d).astype(np.float32)
    factor = 1 - 1.5 * q * sigma**2 / (n * (d @ d))
    expected = E + factor * d
    m = expected.mean(axis=0)
    C = (expected - m).T @ (expected - m) / n
    expected = m + (Y - m) @ np.linalg.solve(C + sigma**2 * np.eye(q), C)
    found = shrunk(Y, E, np.float32(sigma**2), WHITE, False, True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_patches_that_are_all_the_same_give_their_mean(rng):
    E = np.repeat(rng.standard_normal((1, 9)), 6, axis=0).astype(np.float32)
    Y = rng.standard_normal((6, 9)).astype(np.float32)
    np.testing.assert_allclose(shrunk(Y, E, np.float32(1e-10), WHITE, False, False), E, atol=1e-3)


def test_repeated_patches_with_hardly_any_noise_give_the_projection(rng):
    """Rounding alone decides the last pivots, which may be negative: they are left out."""
    E = np.repeat(rng.standard_normal((4, 25)), 5, axis=0).astype(np.float32)
    Y = rng.standard_normal((20, 25)).astype(np.float32)
    m = E.mean(axis=0)
    basis = np.linalg.svd((E - m).astype(np.float64), full_matrices=False)[2][:3]
    expected = m + (Y - m) @ basis.T @ basis
    np.testing.assert_allclose(shrunk(Y, E, np.float32(1e-9), WHITE, False, False), expected, atol=1e-2)


@pytest.mark.parametrize("contrast", [100, 500, 3000, 8000])
@pytest.mark.parametrize("correlated", [False, True])
def test_noise_that_is_weak_beside_the_contrast_is_resolved(contrast, correlated, rng):
    """Patches of two strong patterns, whose multiples differ by noise alone, as on the edges of a drawing."""
    n, q = 32, 100
    patterns = rng.integers(0, 2, (3, q))
    E = contrast * (patterns[rng.integers(0, 2, n)] + rng.integers(0, 2, (n, 1)) * patterns[2])
    Y, E = (E + rng.standard_normal((2, n, q))).astype(np.float32)
    m = E.astype(np.float64).mean()
    C = (E - m).T @ (E - m) / n
    expected = m + (Y - m) @ np.linalg.solve(C + np.eye(q), C)
    precision = np.eye(q, dtype=np.float32) if correlated else WHITE
    found = shrunk(Y, E, np.float32(1), precision, True, False)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.1


def test_the_padding_of_a_group_changes_nothing(rng):
    """The memory is for more patches than the group has."""
    Y, E = rng.normal(size=(2, 5, 16)).astype(np.float32)
    alone = shrunk(Y, E, np.float32(0.3), WHITE, False, False)

    @njit(nogil=True)
    def within_more(Y, E, variance):
        n, q = Y.shape
        Z, F, out, mean, work = shrinkage.group_memory(q, 24)
        half = len(work[0])
        Z[:q, :n], Z[:q, half : half + n] = E.T, Y.T
        shrinkage.subtract_estimate(Z, q, n, half)
        shrinkage.centre(Z, q, n, False, mean)
        shrinkage.shrink(Z, WHITE, F, q, n, variance, mean, work, out)
        return out[:q, :n].T.copy()

    np.testing.assert_allclose(within_more(Y, E, np.float32(0.3)), alone, atol=1e-6)
