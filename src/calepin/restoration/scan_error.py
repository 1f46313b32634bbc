"""How far a reconstruction from undersampled k-space may be from the fully sampled image, at each pixel.

The acquired samples outside the calibrated middle are split into K parts, at random. For each part k, x_k is
the reconstruction without it. Where the x_k differ from x, little is known:

    v = G * mean_k (|x_k| - |x|)^2,       map = ( v E / mean_k ||x_k - x||^2 )^(1/2)

|x| is the root of the sum of squares over the coils, G a Gaussian of 1.5 pixels. The factor makes the map as
large as the errors are: the parts that were left out tell how well x_k predicts samples that it has not seen,
and so E, the energy of the error of all coils in the samples that were not acquired (cross-validation, and
Parseval's theorem; leaving out parts is the delete-a-group jackknife, Kott 2001), see
`calepin.restoration.unseen`.

What is left out together, so that no neighbour tells of it: lines that are acquired whole, the samples of a
trajectory in a square of 4 cycles per field of view, or single samples. The middle eighth of a trajectory,
along each axis, is never left out: nothing predicts its few large samples.

The few large errors of lines exaggerate the differences between places, and so, for lines,

    w = ( G * mean_k sum over coils |x_k - x|^2 )^0.7,       map = ( w E / 2 / sum over pixels w )^(1/2),

because half of the energy of the error changes the magnitude.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer
from calepin.core.errors import IncompatibleError
from calepin.core.random import RandomState, torch_generator
from calepin.operators.fourier import MultiCoilMRI, middle, root_sum_of_squares
from calepin.operators.non_cartesian import NonCartesianFourier, even_weights
from calepin.operators.sensitivities import calibration_size
from calepin.reconstruction.scans import Reconstruction, Scan, full_scan
from calepin.restoration.calibration import calibration_block
from calepin.restoration.scan import Prior, restore_scan
from calepin.restoration.unseen import energy_of_lines, energy_of_samples, from_next

__all__ = ["error_map"]

WIDTH = 1.5  # pixels
EVEN = 0.7  # exponent that makes the map of lines more even
MIDDLE = 8  # sides of k-space over those of the middle that is never left out
TILE = 4  # side of the squares of a trajectory that are left out, in cycles per field of view


def error_map(
    scan: Scan,
    found: Reconstruction,
    *,
    prior: Prior | None = None,
    noise: float | None = None,
    sensitivities: ArrayLike | None = None,
    n_splits: int = 4,
    random_state: RandomState = 0,
    callback: Callable[[str, float], object] | None = None,
) -> NDArray[np.float32]:
    """Return, for each pixel, the standard deviation of the error of a reconstruction.

    The error is the difference to the image of the fully sampled scan, noise included. What all splits have
    in common does not show: errors of the sensitivities, motion, and structure that the prior
    removes whatever the samples are. The work is that of `n_splits` reconstructions.

    Parameters
    ----------
    scan : Scan
        k-space, see `calepin.reconstruction.scan_kspace`.
    found : Reconstruction
        Its reconstruction, see `restore_scan`.
    prior : {"groups", "wavelet", "tv", "untrained"}, optional
        As in the call of `restore_scan` that found it.
    noise : float, optional
        As in that call.
    sensitivities : complex array, optional
        As in that call.
    n_splits : int, default 4
        Number of parts K, at least 2.
    random_state : int, Generator, RandomState or None, default=0
        Seed of the parts, and of an untrained network.
    callback : callable, optional
        Called as ``callback(stage, fraction)``: the current stage, and the finished fraction of the work.

    Returns
    -------
    ndarray (height, width), float32
        In the units of ``root_sum_of_squares(found.x)``; zeros for fully sampled k-space.

    Raises
    ------
    ValueError
        A reconstruction of another scan, or fewer samples outside the middle than parts.
    IncompatibleError
        A scan of an image.

    Warns
    -----
    ConvergenceWarning
        As of `restore_scan`.
    """
    check_arguments(error_map, locals())
    check_integer("n_splits", n_splits, least=2)
    operator = scan.operator
    if not isinstance(operator, MultiCoilMRI | NonCartesianFourier):
        raise IncompatibleError("scan: expected k-space, got an image")
    if tuple(found.x.shape[1:]) != operator.in_shape:
        raise ValueError(
            f"found: expected a reconstruction of this scan, coil images of shape {operator.in_shape}, "
            f"got {tuple(found.x.shape[1:])}"
        )
    if full_scan(scan):
        return np.zeros(operator.in_shape[1:], np.float32)
    image = root_sum_of_squares(found.x)[0, 0]
    size = calibrated_size(scan)
    parts = _parts(scan, size, n_splits, random_state)
    lines = isinstance(operator, MultiCoilMRI) and _line_axis(operator.acquired) is not None
    misses = torch.zeros(parts.shape, dtype=torch.float64)
    spread, variance = 0.0, torch.zeros_like(image)
    for k in range(n_splits):

        def report(stage: str, fraction: float, k: int = k) -> None:
            if callback is not None:
                callback(f"split {k + 1}, {stage}", (k + fraction) / n_splits)

        x = restore_scan(
            _without(scan, parts == k),
            prior=prior,
            noise=noise,
            sensitivities=sensitivities,
            random_state=random_state,
            callback=report,
        ).x
        miss = (operator(x) - scan.y)[0].abs().square().sum(0).double()
        misses = torch.where(parts == k, miss, misses)
        apart = (x - found.x)[0].abs().square().sum(0)
        spread += float(apart.sum()) / n_splits
        variance += (apart if lines else (root_sum_of_squares(x)[0, 0] - image).square()) / n_splits
    smooth = gaussian_filter(variance.double().numpy(), WIDTH)
    if lines:
        smooth = smooth**EVEN
        spread = 2 * float(smooth.sum())
    return np.sqrt(smooth * (_energy(scan, size, parts, misses) / max(spread, 1e-300))).astype(np.float32)


def _line_axis(acquired: Tensor) -> int | None:
    """Return the axis of lines that are acquired whole: 1 if they are columns, 0 if rows; None of others."""
    for axis, other in ((1, 0), (0, 1)):
        if bool((acquired == acquired.select(other, 0).unsqueeze(other)).all()):
            return axis
    return None


def _without(scan: Scan, held: Tensor) -> Scan:
    """Return the scan without some samples."""
    operator = scan.operator
    if isinstance(operator, NonCartesianFourier):
        rest = NonCartesianFourier(operator.in_shape, operator.coordinates[~held])
        return replace(scan, operator=rest, y=scan.y[..., ~held], weights=even_weights(rest))
    assert isinstance(operator, MultiCoilMRI)
    rest = MultiCoilMRI(operator.acquired & ~held, n_coils=operator.in_shape[0])
    return replace(scan, operator=rest, y=scan.y.masked_fill(held, 0))


def _parts(scan: Scan, size: tuple[int, int], n_splits: int, random_state: RandomState) -> Tensor:
    """Return the part of each sample, -1 in the middle of k-space and where there is none."""
    generator = torch_generator(random_state)
    if isinstance(scan.operator, NonCartesianFourier):
        where = scan.operator.coordinates
        tiles = torch.floor(where / TILE + torch.rand(2, generator=generator)).long()
        units = tiles.unique(dim=0, return_inverse=True)[1]
        kept = tuple(max(n, side / MIDDLE) for n, side in zip(size, scan.operator.in_shape[1:], strict=True))
        outside, what = ~_is_inside(where, kept), f"squares of {TILE} x {TILE} with samples"
    else:
        assert isinstance(scan.operator, MultiCoilMRI)
        outside = scan.operator.acquired.clone()
        axis = _line_axis(outside)
        middle(outside, size).fill_(False)
        units, what = torch.arange(outside.numel()).view(outside.shape), "samples"
        if axis is not None:
            units = torch.arange(outside.shape[axis]).unsqueeze(1 - axis).expand(outside.shape)
            what = "lines"
    known = units[outside].unique()
    if len(known) < n_splits:
        raise ValueError(
            f"scan: expected at least {n_splits} {what} outside the fully sampled middle of k-space, from "
            f"which errors are predicted, got {len(known)}"
        )
    part = torch.full((int(units.max()) + 1,), -1)
    part[known[torch.randperm(len(known), generator=generator)]] = torch.arange(len(known)) % n_splits
    return torch.where(outside, part[units], -1)


def calibrated_size(scan: Scan) -> tuple[int, int]:
    """Return the height and width of the middle of k-space that is fully sampled."""
    if isinstance(scan.operator, NonCartesianFourier):
        return calibration_size(calibration_block(scan.operator, scan.y)[1])
    assert isinstance(scan.operator, MultiCoilMRI)
    return calibration_size(scan.operator.acquired)


def _is_inside(places: Tensor, size: tuple[float, ...]) -> Tensor:
    """Return which frequencies (..., 2) are in the middle of k-space."""
    return (places.abs() <= places.new_tensor(size) / 2).all(-1)


def _energy(scan: Scan, size: tuple[int, int], parts: Tensor, misses: Tensor) -> float:
    """Return the energy of the error at the samples that were not acquired, as that of held-out samples."""
    operator = scan.operator
    height, width = operator.in_shape[1:]
    rows, columns = torch.arange(height).double() - height // 2, torch.arange(width).double() - width // 2
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    if isinstance(operator, NonCartesianFourier):
        places, unseen = operator.coordinates.double(), ~_is_inside(grid, size)
    else:
        assert isinstance(operator, MultiCoilMRI)
        acquired = operator.acquired
        axis = _line_axis(acquired)
        if axis is not None:
            energies = scan.y[0].abs().square().sum(0).double()
            sums = misses.sum(1 - axis), energies.sum(1 - axis)
            return energy_of_lines(*sums, parts.amax(1 - axis), acquired.any(1 - axis))
        places, unseen = grid[acquired], ~acquired
        parts, misses = parts[acquired], misses[acquired]
    held = parts >= 0
    gaps = torch.zeros_like(misses)
    for k in range(int(parts.max()) + 1):
        gaps[parts == k] = from_next(places[parts == k], places[parts != k])
    sides = grid.new_tensor((height, width))
    radii, others = ((where / sides).norm(dim=-1) for where in (places, grid[unseen]))
    return energy_of_samples(radii[held], gaps[held], misses[held], others, from_next(grid[unseen], places))
