"""Compiled pieces that the coders share: rows of the Gram matrix, the inverse on a support, output.

A literal in an expression would turn float32 into float64: constants are made by ``dtype.type``.
Every loop over atoms runs over contiguous rows padded to a multiple of `LANES`, so that the compiler
makes vector instructions without a scalar tail. Padding is zero and stays zero.
"""

from typing import Any

import numpy as np
from numba import njit

LANES = 16

# NaN never reaches a kernel (inputs are checked), which is what lets minima be vectorised; sums are
# reordered once, by the compiler, so that results do not vary from run to run.
FAST: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp", "nnan"},
}


def padded(size: int) -> int:
    """Return the smallest multiple of `LANES` that holds `size`."""
    return -(-size // LANES) * LANES


@njit(**FAST)
def combine_rows(rows, index, weight, count, out):
    """Set out = sum over t < count of weight[t] * rows[index[t]], four rows at a time."""
    n = out.shape[0]
    head = count % 4
    if head == 0:
        for j in range(n):
            out[j] = 0.0
    elif head == 1:
        r0 = rows[index[0]]
        w0 = weight[0]
        for j in range(n):
            out[j] = w0 * r0[j]
    elif head == 2:
        r0, r1 = rows[index[0]], rows[index[1]]
        w0, w1 = weight[0], weight[1]
        for j in range(n):
            out[j] = w0 * r0[j] + w1 * r1[j]
    else:
        r0, r1, r2 = rows[index[0]], rows[index[1]], rows[index[2]]
        w0, w1, w2 = weight[0], weight[1], weight[2]
        for j in range(n):
            out[j] = w0 * r0[j] + w1 * r1[j] + w2 * r2[j]
    for t in range(head, count, 4):
        r0, r1 = rows[index[t]], rows[index[t + 1]]
        r2, r3 = rows[index[t + 2]], rows[index[t + 3]]
        w0, w1, w2, w3 = weight[t], weight[t + 1], weight[t + 2], weight[t + 3]
        for j in range(n):
            out[j] += w0 * r0[j] + w1 * r1[j] + w2 * r2[j] + w3 * r3[j]


@njit(**FAST)
def fill_gram_row(gram, atoms, observed, j, work):
    """Set gram[j] to the inner products of atom j with all atoms over the observed entries."""
    m = atoms.shape[1]
    for f in range(m):
        work[f] = atoms[j, f] * observed[f]
    for i in range(atoms.shape[0]):
        total = work.dtype.type(0)
        for f in range(m):
            total += work[f] * atoms[i, f]
        gram[j, i] = total


@njit(**FAST)
def inverse_column(inverse, gram_row, support, k, column):
    """Set column[:k] = inverse @ gram_row[support] and return the Schur complement's loss.

    The loss is gram_row[support] @ column: what of the new atom's energy the support explains.
    """
    width = (k + LANES - 1) // LANES * LANES
    for i in range(width + LANES):
        column[i] = 0.0
    for t in range(k):
        g = gram_row[support[t]]
        row = inverse[t]
        for i in range(width):
            column[i] += g * row[i]
    loss = column.dtype.type(0)
    for t in range(k):
        loss += gram_row[support[t]] * column[t]
    return loss


@njit(**FAST)
def grow_inverse(inverse, column, complement, k):
    """Border the inverse (k, k) by the atom whose `column` and Schur complement are given.

    On return column[k] = -1, so that inverse += column column^T / complement.
    """
    width = (k // LANES + 1) * LANES
    if k % LANES == 0:
        for t in range(k):
            for i in range(k, width):
                inverse[t, i] = 0.0
    for i in range(width):
        inverse[k, i] = 0.0
    column[k] = -1.0
    for t in range(k + 1):
        factor = column[t] / complement
        row = inverse[t]
        for i in range(width):
            row[i] += factor * column[i]


@njit(**FAST)
def shrink_inverse(inverse, r, k):
    """Remove entry r from the inverse (k, k); the last entry takes its place."""
    width = ((k - 1) // LANES + 1) * LANES
    pivot = inverse[r]
    for t in range(k):
        if t != r:
            row = inverse[t]
            factor = row[r] / pivot[r]
            for i in range(width):
                row[i] -= factor * pivot[i]
    last = k - 1
    for i in range(width):
        inverse[r, i] = inverse[last, i]
    for t in range(last):
        inverse[t, r] = inverse[t, last]
        inverse[t, last] = 0.0
    inverse[r, r] = inverse[last, last]
    inverse[r, last] = 0.0


@njit(**FAST)
def sorted_into(support, code, k, columns, values, at):
    """Write the nonzeros of a code, sorted by atom, from position `at`; return how many."""
    count = 0
    for t in range(k):
        if code[t] == 0.0:
            continue
        i = at + count
        while i > at and columns[i - 1] > support[t]:
            columns[i] = columns[i - 1]
            values[i] = values[i - 1]
            i -= 1
        columns[i] = support[t]
        values[i] = code[t]
        count += 1
    return count


@njit(**FAST)
def enlarged(array, size):
    """Return a copy of `array` with room for `size` entries."""
    larger = np.empty(size, array.dtype)
    for i in range(array.shape[0]):
        larger[i] = array[i]
    return larger
