"""Memory layout of signals and atoms for the compiled convolutional coders; see `conv_descent`."""

from typing import Any

import numpy as np

from calepin.core.compiled import padded
from calepin.solvers.kernels.conv_descent import LANES, Atoms, Grid

__all__ = ["Layout", "one_path", "prepare_atoms"]


def one_path(*arrays: Any) -> list[Any]:
    """Return signals (n, channels, length) as images of one row; images are returned unchanged."""
    return [x if x is None or x.ndim == 4 else x[:, :, None] for x in arrays]


def prepare_atoms(atoms: np.ndarray) -> Atoms:
    """Return atoms (n_components, channels, height, width) in the kernel layout, as rows and as columns."""
    n_components, width = len(atoms), atoms.shape[3]
    rows = _widened(atoms, -(-width // LANES) * LANES)
    columns = np.zeros((*atoms.shape[1:3], -(-width // 4) * 4, padded(n_components)), atoms.dtype)
    columns[:, :, :width, :n_components] = atoms.transpose(1, 2, 3, 0)
    norms = np.square(atoms.reshape(n_components, -1), dtype=np.float64).sum(1).astype(atoms.dtype)
    return Atoms(rows.reshape(n_components, -1), columns.reshape(-1, padded(n_components)), norms)


class Layout:
    """The memory layout of one sample.

    Parameters
    ----------
    signal : tuple of int
        (channels, height, width).
    kernel : tuple of int
        (height, width).
    boundary : {"zero", "circular"}
        Whether atoms lie entirely inside the signal, or the signal is periodic.
    masked : bool, default False
        Whether entries are missing.
    """

    def __init__(
        self, signal: tuple[int, ...], kernel: tuple[int, ...], boundary: str, *, masked: bool = False
    ) -> None:
        channels, height, width = signal
        circular = boundary == "circular"
        self.around = (kernel[0] - 1, kernel[1] - 1) if circular else (0, 0)
        # a patch at the last position, padded to whole lanes, must fit
        self.lanes = -(-kernel[1] // LANES) * LANES
        total = width + self.around[1] + self.lanes - kernel[1]
        self.grid = Grid(
            channels, height + self.around[0], total, kernel[0], kernel[1], height, width, circular, masked
        )
        self.positions = (height, width) if circular else (height - kernel[0] + 1, width - kernel[1] + 1)

    def plane(self, x: np.ndarray) -> np.ndarray:
        """Return a flat copy of x (channels, height, width), followed by its beginning if circular."""
        around = ((0, 0), (0, self.around[0]), (0, self.around[1]))
        return _widened(np.pad(x, around, mode="wrap"), self.grid.width).ravel()

    def signal(self, plane: np.ndarray) -> np.ndarray:
        """Return the signal (channels, height, width) in a flat plane."""
        grid = self.grid
        whole = plane.reshape(grid.channels, grid.rows, grid.width)
        return whole[:, : grid.signal_rows, : grid.signal_width]


def _widened(x: np.ndarray, width: int) -> np.ndarray:
    """Return a copy with zeros at the end of the last axis."""
    wide = np.zeros((*x.shape[:-1], width), x.dtype)
    wide[..., : x.shape[-1]] = x
    return wide
