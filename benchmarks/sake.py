"""SAKE for `benchmarks.scans`: k-space of several coils without a calibrated middle, as a peer.

All windows of k x k samples of all coils are the rows of a matrix A, which has a low rank. Its projection to
the rank r, back in k-space by the mean over windows, and the measured samples take turns.

Source: Shin, Larson, Ohliger, Elad, Pauly, Vigneron and Lustig (2014), Calibrationless parallel imaging
reconstruction based on structured low-rank matrix completion. Ranks are given, as there, in squares of k.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["RANKS", "sake"]

KERNEL = 6
RANKS = (1.2, 1.8, 2.4)  # in squares of the kernel; 1.8 is that of the published demonstration
N_ITER = 60
ROWS = 16  # of windows at a time


def sake(
    y: NDArray[np.complex64], acquired: NDArray[np.bool_], rank: float, n_iter: int = N_ITER
) -> NDArray[np.complex64]:
    """Return k-space (coils, h, w) whose missing samples are filled."""
    r = round(rank * KERNEL**2)
    found, known = y.copy(), np.broadcast_to(acquired, y.shape)
    for _ in range(n_iter):
        gram = sum(rows.conj().T @ rows for _, rows in _windows(found))
        V = np.linalg.eigh(gram)[1][:, -r:].astype(np.complex64)
        found = np.where(known, y, _mean_of_windows(found, V))
    return found


def _windows(kspace: NDArray[np.complex64]):
    """Yield the first row, and rows of A, of each band."""
    windows = sliding_window_view(kspace, (KERNEL, KERNEL), axis=(1, 2))  # (coils, h', w', k, k)
    for first in range(0, windows.shape[1], ROWS):
        part = windows[:, first : first + ROWS]
        yield first, part.transpose(1, 2, 0, 3, 4).reshape(part.shape[1] * part.shape[2], -1)


def _mean_of_windows(kspace: NDArray[np.complex64], V: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Return the mean, in each sample, over the windows projected to the span of V."""
    coils, h, w = kspace.shape
    total, weight = np.zeros_like(kspace), np.zeros((h, w), dtype=np.float32)
    n_columns = w - KERNEL + 1
    for first, rows in _windows(kspace):
        projected = ((rows @ V) @ V.conj().T).reshape(-1, n_columns, coils, KERNEL, KERNEL)
        for a in range(KERNEL):
            for b in range(KERNEL):
                place = np.s_[first + a : first + a + len(projected), b : b + n_columns]
                total[(slice(None), *place)] += projected[..., a, b].transpose(2, 0, 1)
                weight[place] += 1
    return total / weight
