"""The middle of k-space on a Cartesian grid, from samples along a trajectory."""

import torch
from torch import Tensor

from calepin.operators.diagonal import Diagonal
from calepin.operators.fourier import centred_fft, middle
from calepin.operators.least_squares import conjugate_gradients
from calepin.operators.non_cartesian import NonCartesianFourier
from calepin.operators.sensitivities import MOST_SIDE, calibration_size

__all__ = ["calibration_block"]

COVERED = 0.8  # of the density of a Cartesian grid, after gridding
WEIGHT, N_ITER, TOL = 1e-3, 30, 1e-3  # of least squares


@torch.no_grad()
def calibration_block(scanner: NonCartesianFourier, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return k-space (1, n_coils, height, width), zero outside its middle, and the mask of the middle.

    The middle is the largest rectangle in which the samples, weighted by the area around them, cover the
    grid. Images of as few pixels, which see the same field of view, are fitted to the samples inside it.

    Parameters
    ----------
    scanner : NonCartesianFourier
        Measures images of the coils, (n_coils, height, width).
    y : Tensor (1, n_coils, n_samples)
    """
    n_coils, height, width = scanner.in_shape
    weights = (1 / scanner.density()).to(y.dtype)
    size = calibration_size(_covered(scanner, weights))
    size = (min(size[0], MOST_SIDE), min(size[1], MOST_SIDE))
    kspace = torch.zeros(1, n_coils, height, width, dtype=y.dtype)
    acquired = torch.zeros(height, width, dtype=torch.bool)
    inside = (scanner.coordinates.abs() <= scanner.coordinates.new_tensor(size) / 2).all(1)
    if min(size) < 1 or not inside.any():
        return kspace, acquired
    root = weights[inside].real.clamp_max(1).sqrt().expand(n_coils, -1).to(y.dtype).clone()
    low = Diagonal(root) @ NonCartesianFourier((n_coils, *size), scanner.coordinates[inside])
    start = torch.zeros(1, n_coils, *size, dtype=y.dtype)
    x, _ = conjugate_gradients(low, start, root * y[:, :, inside], weight=WEIGHT, n_iter=N_ITER, tol=TOL)
    middle(kspace.movedim((0, 1), (-2, -1)), size).copy_(centred_fft(x).movedim((0, 1), (-2, -1)))
    middle(acquired, size).fill_(True)
    return kspace, acquired


def _covered(scanner: NonCartesianFourier, weights: Tensor) -> Tensor:
    """Return the mask (height, width) of the grid points of k-space that weighted samples cover."""
    image = scanner.transformed(weights[None], True)
    return centred_fft(scanner.window().to(image) * image)[0].real >= COVERED
