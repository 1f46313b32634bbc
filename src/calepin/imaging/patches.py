"""Overlapping patches of an image plane, and their average as an image.

Patch (i, j) of a plane (h, w) covers rows i to i + p - 1 and columns j to j + p - 1; there are
(h - p + 1) (w - p + 1), in row-major order. A plane is processed in bands of patch rows, so
that only the patches of one band are in memory.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer
from calepin.core.compiled import njit
from calepin.core.random import RandomState, numpy_generator
from calepin.core.threads import run_blocks

__all__ = ["add_patches", "bands", "centred_patches", "random_patches"]

BAND_PATCHES = 65_536  # 16 MB of 8x8 patches in float32: long enough to keep all threads busy
BLOCK_ROWS = 16


def bands(shape: tuple[int, int], patch_size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the bands of patch rows of a plane; they depend only on its shape."""
    n_rows, n_columns = shape[0] - patch_size + 1, shape[1] - patch_size + 1
    per_band = max(2 * BLOCK_ROWS, BAND_PATCHES // n_columns)
    for start in range(0, n_rows, per_band):
        yield start, min(start + per_band, n_rows)


def centred_patches(
    plane: np.ndarray, patch_size: int, start: int, stop: int, *, means_of: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the patches (n, p * p) of patch rows `start` to `stop`, without their means, and the means.

    With `means_of`, a plane of the same shape, the means are those of its patches.
    """

    def windows(plane: np.ndarray) -> np.ndarray:
        rows = plane[start : stop + patch_size - 1]
        found = np.lib.stride_tricks.sliding_window_view(rows, (patch_size, patch_size))
        return found.reshape(-1, patch_size * patch_size)

    return _centred(windows(plane), None if means_of is None else windows(means_of))


def random_patches(
    planes: np.ndarray,
    patch_size: int,
    n_patches: int,
    random_state: RandomState,
    *,
    means_of: np.ndarray | None = None,
) -> np.ndarray:
    """Return patches (n, p * p) without their means from distinct random positions in planes (c, h, w).

    With `means_of`, planes of the same shape, the means are those of their patches. The patches are in the
    order of their positions: shuffle them before a split into training and test patches.
    """
    check_arguments(random_patches, locals())
    check_array("planes", planes, ndim=3)
    check_integer("n_patches", n_patches)
    check_integer("patch_size", patch_size)
    if planes.dtype.kind != "f":
        raise ValueError(f"planes: expected floating-point numbers, got {planes.dtype}")
    windows = _windows(planes, patch_size)
    n_all = int(np.prod(windows.shape[:3]))
    chosen = np.sort(numpy_generator(random_state).choice(n_all, size=min(n_patches, n_all), replace=False))
    places = np.unravel_index(chosen, windows.shape[:3])
    patches = windows[places].reshape(-1, patch_size * patch_size)
    if means_of is None:
        return _centred(patches)[0]
    return _centred(patches, _windows(means_of, patch_size)[places].reshape(patches.shape))[0]


def add_patches(
    total: np.ndarray,
    weight: np.ndarray,
    codes: sparse.csr_array,
    atoms: np.ndarray,
    means: np.ndarray,
    start: int,
) -> None:
    """Add the decoded patches ``codes @ atoms + means`` of a band at their positions, with their weights.

    The weight of a patch with k atoms is ``(1 + k)^(-1/2)``: the variance of the noise left in it grows
    like k.

    Parameters
    ----------
    total, weight : float32 arrays (h, w)
        Sums of weighted patches and of weights, updated in place.
    codes : CSR (n, n_components)
        Codes of the band's patches.
    atoms : float32 array (n_components, p * p)
        Dictionary.
    means : float32 array (n,)
        The means that `centred_patches` subtracted.
    start : int
        First patch row of the band.
    """
    patch_size = int(np.sqrt(atoms.shape[1]))
    n_columns = total.shape[1] - patch_size + 1
    n_rows = len(means) // n_columns
    height = max(BLOCK_ROWS, patch_size)
    # Blocks of equal parity have no common pixel: no lock is needed, and the order of the sums is fixed.
    for parity in (0, 1):
        firsts = range(parity * height, n_rows, 2 * height)

        def work(k: int, _: int, firsts: range = firsts) -> None:
            first, last = firsts[k], min(firsts[k] + height, n_rows)
            _add_rows(
                total, weight, codes.indptr, codes.indices, codes.data, atoms, means,
                patch_size, start, first, last,
            )  # fmt: skip

        run_blocks(work, len(firsts), 1)


def _windows(planes: np.ndarray, patch_size: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(planes, (patch_size, patch_size), axis=(1, 2))


def _centred(patches: np.ndarray, others: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return patches without their means, or without those of others, and the means."""
    patches = np.ascontiguousarray(patches)
    means = (patches if others is None else others).mean(axis=1)
    patches -= means[:, None]
    return patches, means


@njit(nogil=True, fastmath=True, cache=True)
def _add_rows(total, weight, indptr, indices, values, atoms, means, p, start, first, last):
    n_columns = total.shape[1] - p + 1
    patch = np.empty(p * p, dtype=total.dtype)
    for i in range(first, last):
        for j in range(n_columns):
            n = i * n_columns + j
            patch[:] = means[n]
            for k in range(indptr[n], indptr[n + 1]):
                value, atom = values[k], atoms[indices[k]]
                for t in range(p * p):
                    patch[t] += value * atom[t]
            own = np.float32(1 / np.sqrt(1.0 + indptr[n + 1] - indptr[n]))
            for u in range(p):
                for v in range(p):
                    total[start + i + u, j + v] += own * patch[u * p + v]
                    weight[start + i + u, j + v] += own
