"""Compiled coordinate descent for convolutional codes: every step changes one patch of the residual.

A step on one coefficient correlates its atom with one patch of the residual and then updates this patch. It
needs two products per entry of the atom. The correlations of all atoms with one patch are computed by a
product with the transposed atoms. Codes are lists of nonzeros in the order of their positions, never dense.

The residual has one flat plane per channel; rows of atoms are padded with zeros to a multiple of
`LANES`. A circular signal is followed by a copy of its beginning (`kernel - 1` entries along each axis),
which is kept up to date.
"""

from collections import namedtuple

import numpy as np

from calepin.core.compiled import FAST, LEAF, njit
from calepin.solvers.kernels.support import enlarged

LANES = 8

Grid = namedtuple(
    "Grid", "channels rows width kernel_rows kernel_width signal_rows signal_width circular masked"
)
"""Rows and width of a plane of the residual, of an atom (unpadded width) and of a signal."""

Atoms = namedtuple("Atoms", "rows columns norms")
"""(n_components, channels * kernel rows * padded width), its padded transpose, squared norms."""

Active = namedtuple("Active", "row col atom norm value")
"""The listed coefficients of a code, nonzero or recently zero, in the order of their positions."""


@njit(**LEAF)
def correlate(R, atom, i, j, grid):
    """Return the inner product of an atom, flat and padded, with the patch at (i, j)."""
    padded = atom.shape[0] // (grid.channels * grid.kernel_rows)
    zero = R.dtype.type(0)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero
    k = np.uintp(0)
    for c in range(grid.channels):
        for a in range(grid.kernel_rows):
            q = np.uintp((c * grid.rows + i + a) * grid.width + j)
            for _ in range(padded // 8):
                # eight separate sums: otherwise the compiler reduces eight lanes in every row
                s0 += atom[k] * R[q]
                s1 += atom[k + np.uintp(1)] * R[q + np.uintp(1)]
                s2 += atom[k + np.uintp(2)] * R[q + np.uintp(2)]
                s3 += atom[k + np.uintp(3)] * R[q + np.uintp(3)]
                s4 += atom[k + np.uintp(4)] * R[q + np.uintp(4)]
                s5 += atom[k + np.uintp(5)] * R[q + np.uintp(5)]
                s6 += atom[k + np.uintp(6)] * R[q + np.uintp(6)]
                s7 += atom[k + np.uintp(7)] * R[q + np.uintp(7)]
                k += np.uintp(8)
                q += np.uintp(8)
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@njit(**LEAF)
def correlate_all(R, columns, i, j, grid, out):
    """Set out to the inner products of all atoms with the patch at (i, j)."""
    for m in range(out.shape[0]):
        out[m] = 0
    padded = columns.shape[0] // (grid.channels * grid.kernel_rows)
    k = np.uintp(0)
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    for c in range(grid.channels):
        for a in range(grid.kernel_rows):
            q = np.uintp((c * grid.rows + i + a) * grid.width + j)
            for _ in range(padded // 4):
                r0, r1, r2, r3 = R[q], R[q + one], R[q + two], R[q + three]
                for m in range(out.shape[0]):
                    out[m] += (r0 * columns[k, m] + r1 * columns[k + one, m]) + (
                        r2 * columns[k + two, m] + r3 * columns[k + three, m]
                    )
                k += np.uintp(4)
                q += np.uintp(4)


@njit(**LEAF)
def observed_norm(W, atom, i, j, grid):
    """Return the squared norm of the observed part of an atom at (i, j)."""
    padded = atom.shape[0] // (grid.channels * grid.kernel_rows)
    total = W.dtype.type(0)
    for c in range(grid.channels):
        for a in range(grid.kernel_rows):
            k, q = (c * grid.kernel_rows + a) * padded, (c * grid.rows + i + a) * grid.width + j
            for b in range(grid.kernel_width):
                total += W[q + b] * atom[k + b] * atom[k + b]
    return total


@njit(**FAST)
def norms_of(W, atoms, row, col, which, grid):
    """Return the squared norms of the observed parts of atoms at some positions."""
    norms = np.empty(len(which), W.dtype)
    for e in range(len(which)):
        m = which[e]
        norms[e] = observed_norm(W, atoms.rows[m], row[e], col[e], grid) if grid.masked else atoms.norms[m]
    return norms


@njit(**LEAF)
def subtract(R, W, atom, i, j, amount, grid):
    """Subtract `amount` times an atom at (i, j) from the residual."""
    wraps = i < grid.kernel_rows - 1 or i + grid.kernel_rows > grid.signal_rows
    wraps = wraps or j < grid.kernel_width - 1 or j + grid.kernel_width > grid.signal_width
    if grid.circular and wraps:
        _subtract_around(R, W, atom, i, j, amount, grid)
        return
    padded = atom.shape[0] // (grid.channels * grid.kernel_rows)
    k = np.uintp(0)
    for c in range(grid.channels):
        for a in range(grid.kernel_rows):
            q = np.uintp((c * grid.rows + i + a) * grid.width + j)
            for _ in range(padded // LANES):
                if grid.masked:
                    for t in range(LANES):
                        lane = np.uintp(t)
                        R[q + lane] -= amount * atom[k + lane] * W[q + lane]
                else:
                    for t in range(LANES):
                        lane = np.uintp(t)
                        R[q + lane] -= amount * atom[k + lane]
                k += np.uintp(LANES)
                q += np.uintp(LANES)


@njit(**LEAF)
def _subtract_around(R, W, atom, i, j, amount, grid):
    padded = atom.shape[0] // (grid.channels * grid.kernel_rows)
    for c in range(grid.channels):
        for a in range(grid.kernel_rows):
            y = (i + a) % grid.signal_rows
            for b in range(grid.kernel_width):
                x = (j + b) % grid.signal_width
                q = (c * grid.rows + y) * grid.width + x
                change = amount * atom[(c * grid.kernel_rows + a) * padded + b]
                if grid.masked:
                    change *= W[q]
                below, right = grid.signal_rows * grid.width, grid.signal_width
                R[q] -= change
                if y < grid.kernel_rows - 1:
                    R[q + below] -= change
                if x < grid.kernel_width - 1:
                    R[q + right] -= change
                    if y < grid.kernel_rows - 1:
                        R[q + below + right] -= change


@njit(**LEAF)
def _shrunk(u, alpha, nonnegative):
    if u > alpha:
        return u - alpha
    if u < -alpha and not nonnegative:
        return u + alpha
    return u * 0


@njit(**LEAF)
def sweep(R, W, atoms, active, start, stop, alpha, ridge, nonnegative, grid):
    """Minimise over each coefficient of active[start:stop] in turn; return the largest violation."""
    worst = alpha * 0
    for e in range(start, stop):
        i, j, norm, value = active.row[e], active.col[e], active.norm[e], active.value[e]
        atom = atoms.rows[active.atom[e]]
        new = _shrunk(correlate(R, atom, i, j, grid) + norm * value, alpha, nonnegative) / (norm + ridge)
        if new != value:
            change = new - value
            active.value[e] = new
            worst = max(worst, abs(change) * (norm + ridge))
            subtract(R, W, atom, i, j, change, grid)
    return worst


@njit(**FAST)
def sweep_all(R, W, atoms, active, start, stop, tile, alpha, ridge, nonnegative, grid):
    """Sweep over all coefficients at the positions of a tile, of which active[start:stop] are listed.

    Returns the nonzero coefficients, and the largest violation of optimality.
    """
    first_row, last_row, first_col, last_col = tile
    n_components = atoms.rows.shape[0]
    room = 2 * (stop - start) + 1024
    row, col = np.empty(room, np.int32), np.empty(room, np.int32)
    which = np.empty(room, np.int32)
    norms, values = np.empty(room, R.dtype), np.empty(room, R.dtype)
    found = np.empty(atoms.columns.shape[1], R.dtype)
    worst = alpha * 0
    n, e = np.int64(0), np.int64(start)
    for i in range(first_row, last_row):
        for j in range(first_col, last_col):
            correlate_all(R, atoms.columns, i, j, grid, found)
            if n + n_components > row.shape[0]:
                room = 2 * row.shape[0] + n_components
                row, col, which = enlarged(row, room), enlarged(col, room), enlarged(which, room)
                norms, values = enlarged(norms, room), enlarged(values, room)
            fresh = True  # whether `found` agrees with the current residual
            while e < stop and active.row[e] == i and active.col[e] == j:
                m, norm, value = active.atom[e], active.norm[e], active.value[e]
                e += 1
                c = found[m] if fresh else correlate(R, atoms.rows[m], i, j, grid)
                found[m] = 0
                new = _shrunk(c + norm * value, alpha, nonnegative) / (norm + ridge)
                if new != value:
                    subtract(R, W, atoms.rows[m], i, j, new - value, grid)
                    worst = max(worst, abs(new - value) * (norm + ridge))
                    fresh = False
                if new != 0:
                    row[n], col[n], which[n], norms[n], values[n] = i, j, m, norm, new
                    n += 1
            while True:
                peak = alpha * 0
                for m in range(found.shape[0]):
                    peak = max(peak, found[m] if nonnegative else abs(found[m]))
                if not peak > alpha:
                    break
                m = np.int64(0)
                while (found[m] if nonnegative else abs(found[m])) != peak:
                    m += 1
                c = found[m] if fresh else correlate(R, atoms.rows[m], i, j, grid)
                found[m] = 0
                new = _shrunk(c, alpha, nonnegative)
                if new != 0:
                    norm = observed_norm(W, atoms.rows[m], i, j, grid) if grid.masked else atoms.norms[m]
                    worst = max(worst, abs(new))
                    new /= norm + ridge
                    subtract(R, W, atoms.rows[m], i, j, new, grid)
                    fresh = False
                    row[n], col[n], which[n], norms[n], values[n] = i, j, m, norm, new
                    n += 1
    return Active(row[:n], col[:n], which[:n], norms[:n], values[:n]), worst


@njit(**FAST)
def peak_correlation(R, atoms, active, start, stop, tile, ridge, nonnegative, grid):
    """Return the largest correlation of an atom with the residual at the positions of a tile.

    From that of a listed coefficient, one of active[start:stop], ``ridge`` times its value is subtracted.
    """
    first_row, last_row, first_col, last_col = tile
    found = np.empty(atoms.columns.shape[1], R.dtype)
    peak = found.dtype.type(0)
    e = np.int64(start)
    for i in range(first_row, last_row):
        for j in range(first_col, last_col):
            correlate_all(R, atoms.columns, i, j, grid, found)
            while e < stop and active.row[e] == i and active.col[e] == j:
                found[active.atom[e]] -= ridge * active.value[e]
                e += 1
            for m in range(found.shape[0]):
                peak = max(peak, found[m] if nonnegative else abs(found[m]))
    return peak


@njit(**LEAF)
def subtract_code(R, W, atoms, active, start, stop, grid):
    """Subtract the contribution of active[start:stop] from the residual."""
    for e in range(start, stop):
        if active.value[e] != 0:
            atom = atoms.rows[active.atom[e]]
            subtract(R, W, atom, active.row[e], active.col[e], active.value[e], grid)


@njit(**LEAF)
def energy_of(R, Y, grid):
    """Return ||r||^2 and <r, y> over the signal itself, without the copies of its beginning."""
    rr, ry = 0.0, 0.0
    for c in range(grid.channels):
        for y in range(grid.signal_rows):
            q = (c * grid.rows + y) * grid.width
            for x in range(grid.signal_width):
                r = np.float64(R[q + x])
                rr += r * r
                ry += r * np.float64(Y[q + x])
    return rr, ry
