"""Steps of several numbers at a time give what NumPy gives, at any place of an array."""

import numpy as np
import pytest

from calepin.core.compiled import FAST, LANES, njit
from calepin.core.lanes import ROWS, add_product, below, block_distances, lowest, square_distances


@njit(**FAST)
def product(C, F, Z, transposed):
    rows, length = (F.shape[1], F.shape[0]) if transposed else F.shape
    along, down = (rows, 1) if transposed else (1, length)
    for r in range(0, rows, ROWS):
        for x in range(0, C.shape[1], LANES):
            at = r if transposed else r * length
            add_product(C, r * C.shape[1] + x, C.shape[1], F, at, along, down, Z, x, Z.shape[1], length)


@njit(**FAST)
def distances(plane, a, b, p, least):
    D, T = np.zeros(2 * LANES, dtype=np.float32), np.zeros(LANES, dtype=np.float32)
    for x in (0, LANES):
        square_distances(D, x, plane, a + x, b + x, plane.shape[1], p)
    return T, below(T, D, 0, p, least)


@njit(**FAST)
def distances_of_block(stack, a, b, shape):
    D = np.zeros(3 * LANES, dtype=np.float32)
    _, h, w = stack.shape
    block_distances(D, LANES, stack, a, b, (h * w, w), shape)
    return D


@njit(**FAST)
def lowest_bit(bits):
    return lowest(bits)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("length", [0, 1, 5, 36])
def test_a_product_is_added(transposed, length, rng):
    C = rng.standard_normal((2 * ROWS, 3 * LANES)).astype(np.float32)
    F = rng.standard_normal((2 * ROWS, length)).astype(np.float32)
    Z = rng.standard_normal((length, 3 * LANES)).astype(np.float32)
    expected = C + F.astype(np.float64) @ Z
    product(C, np.ascontiguousarray(F.T) if transposed else F, Z, transposed)
    np.testing.assert_allclose(C, expected, atol=1e-5)


@pytest.mark.parametrize("p", [1, 4, 7])
def test_distances_of_patches_and_which_are_small_enough(p, rng):
    plane = rng.standard_normal((9, 60)).astype(np.float32)
    one, other = (np.lib.stride_tricks.sliding_window_view(plane[k : k + p], (p, p))[0] for k in (1, 2))
    expected = ((one[3 : 3 + LANES] - other[5 : 5 + LANES]).astype(np.float64) ** 2).sum(axis=(1, 2))
    least = np.full(LANES, np.median(expected), dtype=np.float32)
    least[3] = -np.inf
    T, bits = distances(plane, 60 + 3, 120 + 5, p, least)
    np.testing.assert_allclose(T, expected, rtol=1e-5)
    np.testing.assert_array_equal([bool(bits >> k & 1) for k in range(LANES)], least > T)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (3, 4, 4)])
def test_distances_of_a_block(shape, rng):
    stack = rng.standard_normal((5, 6, 40)).astype(np.float32)
    blocks = np.lib.stride_tricks.sliding_window_view(stack, shape)
    expected = ((blocks[1, 2, 7] - blocks[2, 1, 3 : 3 + LANES]).astype(np.float64) ** 2).sum(axis=(1, 2, 3))
    D = distances_of_block(stack, (1 * 6 + 2) * 40 + 7, (2 * 6 + 1) * 40 + 3, shape)
    np.testing.assert_allclose(D[LANES : 2 * LANES], expected, rtol=1e-5)
    assert not D[:LANES].any()
    assert not D[2 * LANES :].any()


@pytest.mark.parametrize("bits", [1, 2, 12, 0x8000, 0xFFFF])
def test_the_lowest_bit(bits):
    lowest_value = bits & -bits
    assert 2 ** lowest_bit(bits) == lowest_value
