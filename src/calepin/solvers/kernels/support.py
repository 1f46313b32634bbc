"""Compiled helpers of the coders: rows of the Gram matrix, the inverse on a support, sorted output.

A literal in an expression would convert float32 to float64, so constants are made by ``dtype.type``. Counters
start as np.int64(0), because a literal 0 has its own type, for which callees would be compiled again. Every
loop over atoms runs over contiguous rows padded to a multiple of `LANES`, so that the compiler emits vector
instructions without a scalar remainder. Padding is zero and remains zero.
"""

import numpy as np

from calepin.core.compiled import INLINED, LANES, LEAF, njit

SHRINK, SHRINK_POSITIVE, CUT, CUT_POSITIVE = range(4)
"""Proximal maps: soft and hard thresholds, of both signs or of positive numbers."""


@njit(**LEAF)
def prox(v, threshold, kind):
    """Return the proximal map of one number."""
    zero = v * 0
    if kind == SHRINK:
        return v - min(max(v, -threshold), threshold)
    if kind == SHRINK_POSITIVE:
        return max(v - threshold, zero)
    size = abs(v) if kind == CUT else v
    return v if size > threshold else zero


@njit(**LEAF)
def combine_rows(rows, index, weight, count, out, n):
    """Set out[:n] = sum over t < count of weight[t] * rows[index[t], :n], four rows at a time."""
    head = count % 4
    if head == 0:
        for j in range(n):
            out[j] = 0
    elif head == 1:
        i0, w0 = index[0], weight[0]
        for j in range(n):
            out[j] = w0 * rows[i0, j]
    elif head == 2:
        i0, i1 = index[0], index[1]
        w0, w1 = weight[0], weight[1]
        for j in range(n):
            out[j] = w0 * rows[i0, j] + w1 * rows[i1, j]
    else:
        i0, i1, i2 = index[0], index[1], index[2]
        w0, w1, w2 = weight[0], weight[1], weight[2]
        for j in range(n):
            out[j] = w0 * rows[i0, j] + w1 * rows[i1, j] + w2 * rows[i2, j]
    for t in range(head, count, 4):
        i0, i1, i2, i3 = index[t], index[t + 1], index[t + 2], index[t + 3]
        w0, w1, w2, w3 = weight[t], weight[t + 1], weight[t + 2], weight[t + 3]
        for j in range(n):
            out[j] += (w0 * rows[i0, j] + w1 * rows[i1, j]) + (w2 * rows[i2, j] + w3 * rows[i3, j])


@njit(**LEAF)
def smallest(bits, n):
    """Return the smallest of n nonnegative numbers, given by their bits.

    As integers, these bits have the same order as the numbers, and the compiler vectorises integer minima.
    """
    best = bits[0]
    for j in range(n):
        best = min(best, bits[j])
    return best


@njit(**LEAF)
def largest(bits, n):
    """Return the largest of n nonnegative numbers, given by their bits."""
    best = bits[0]
    for j in range(n):
        best = max(best, bits[j])
    return best


@njit(**LEAF)
def position(bits, value, n):
    """Return the last position of a value that occurs in the array."""
    last = np.int32(0)
    for j in range(n):
        here = np.int32(j) if bits[j] == value else np.int32(0)
        last = max(last, here)
    return np.int64(last)


@njit(**LEAF)
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


@njit(**LEAF)
def inverse_column(inverse, gram, j, support, k, column, loads, order):
    """Set column[:k] = inverse @ gram[j, support] and return gram[j, support] @ column.

    The returned value is the part of atom j's energy in the span of the support.
    """
    width = (k + LANES - 1) // LANES * LANES
    for t in range(k):
        loads[t] = gram[j, support[t]]
    combine_rows(inverse, order, loads, k, column, width)
    for i in range(width, width + LANES):
        column[np.uintp(i)] = 0
    loss = column.dtype.type(0)
    for t in range(k):
        loss += loads[t] * column[t]
    return loss


@njit(**LEAF)
def grow_inverse(inverse, column, complement, k):
    """Extend the inverse (k, k) by an atom with given `column` and Schur complement.

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
        for i in range(width):
            inverse[t, i] += factor * column[i]


@njit(**LEAF)
def shrink_inverse(inverse, r, k):
    """Remove entry r from the inverse (k, k), and put the last entry in its place."""
    width = ((k - 1) // LANES + 1) * LANES
    for t in range(k):
        if t != r:
            factor = inverse[t, r] / inverse[r, r]
            for i in range(width):
                inverse[t, i] -= factor * inverse[r, i]
    last = k - 1
    for i in range(width):
        inverse[r, i] = inverse[last, i]
    for t in range(last):
        inverse[t, r] = inverse[t, last]
        inverse[t, last] = 0.0
    inverse[r, r] = inverse[last, last]
    inverse[r, last] = 0.0


@njit(**LEAF)
def sorted_into(support, code, k, columns, values, at):
    """Write the nonzeros of a code, sorted by atom, from position `at`; return their number."""
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


@njit(**INLINED)
def counting(size):
    """Return 0, 1, ..., size - 1."""
    numbers = np.empty(size, np.int32)
    for i in range(size):
        numbers[i] = i
    return numbers


@njit(**INLINED)
def enlarged(array, size):
    """Return a copy of `array` with room for `size` entries."""
    larger = np.empty(size, array.dtype)
    for i in range(array.shape[0]):
        larger[i] = array[i]
    return larger
