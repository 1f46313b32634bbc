"""How far a reconstruction from undersampled k-space may be from the fully sampled image, at each pixel.

The acquired samples outside the calibrated middle are split into K parts, at random. For each part k, x_k is
the reconstruction without it. Where the x_k differ from x, little is known:

    v = G * mean_k (|x_k| - |x|)^2,       map = ( v E / mean_k ||x_k - x||^2 )^(1/2)

|x| is the root of the sum of squares over the coils, G a Gaussian of 1.5 pixels. The factor makes the map as
large as the errors are: the parts that were left out tell how well x_k predicts samples that it has not seen,
and so E, the energy of the error of all coils in the samples that were not acquired (cross-validation, and
Parseval's theorem; leaving out parts is the delete-a-group jackknife, Kott 2001). Of single samples, the mean
squared error of the predictions is a function of the distance from the middle of k-space.

Of whole lines it depends on the gap that a line lies in, which is wider without other lines. At distances l
and r from the next lines on both sides, the part of its energy that is not predicted is

    f = 1 - (1 - f_0) exp( -(q / s)^(3/2) ),       1 / q = 1 / l + 1 / r

s makes the sum of the errors that f predicts of lines that were left out that of their real errors, and f_0
the differences least. Energies
of lines that were not acquired are geometric means of those at about the same distance from the middle. The
few large errors of lines exaggerate the differences between places, and so

    w = ( G * mean_k sum over coils |x_k - x|^2 )^0.7,       map = ( w E / 2 / sum over pixels w )^(1/2),

because half of the energy of the error changes the magnitude.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import bisect
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_integer
from calepin.core.errors import IncompatibleError
from calepin.core.random import RandomState, torch_generator
from calepin.operators.fourier import MultiCoilMRI, centred_fft, middle, root_sum_of_squares
from calepin.operators.sensitivities import calibration_size
from calepin.reconstruction.scans import Reconstruction, Scan, full_scan
from calepin.restoration.scan import Prior, restore_scan

__all__ = ["error_map"]

WIDTH = 1.5  # pixels
N_DISTANCES = 12  # groups of held-out samples by their distance from the middle
POWER = 1.5  # of the gap
LEAST, MOST = 1e-6, 0.999  # limits of the part that is not predicted
N_FLOORS = 10  # values of f_0 that are tried
EVEN = 0.7  # exponent that makes the map of lines more even
NEARNESS = 0.15  # of the logarithm of distances of lines from the middle


def error_map(
    scan: Scan,
    found: Reconstruction,
    *,
    prior: Prior | None = None,
    noise: float | None = None,
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
    if not isinstance(operator, MultiCoilMRI):
        raise IncompatibleError("scan: expected k-space, got an image")
    if tuple(found.x.shape[1:]) != operator.in_shape:
        raise ValueError(
            f"found: expected a reconstruction of this scan, coil images of shape {operator.in_shape}, "
            f"got {tuple(found.x.shape[1:])}"
        )
    if full_scan(scan):
        return np.zeros(operator.in_shape[1:], np.float32)
    image = root_sum_of_squares(found.x)[0, 0]
    acquired = operator.acquired
    parts = _parts(acquired, n_splits, random_state)
    misses = torch.zeros(acquired.shape, dtype=torch.float64)
    lines = _line_axis(acquired) is not None
    spread, variance = 0.0, torch.zeros_like(image)
    for k in range(n_splits):
        held = parts == k

        def report(stage: str, fraction: float, k: int = k) -> None:
            if callback is not None:
                callback(f"split {k + 1}, {stage}", (k + fraction) / n_splits)

        rest = replace(
            scan,
            operator=MultiCoilMRI(acquired & ~held, n_coils=operator.in_shape[0]),
            y=scan.y.masked_fill(held, 0),
        )
        x = restore_scan(rest, prior=prior, noise=noise, random_state=random_state, callback=report).x
        miss = (centred_fft(x) - scan.y)[0].abs().square().sum(0)
        misses[held] = miss[held].double()
        apart = (x - found.x)[0].abs().square().sum(0)
        spread += float(apart.sum()) / n_splits
        variance += (apart if lines else (root_sum_of_squares(x)[0, 0] - image).square()) / n_splits
    energy = _energy(misses, parts, acquired, scan.y[0].abs().square().sum(0).double())
    smooth = gaussian_filter(variance.double().numpy(), WIDTH)
    if lines:
        smooth = smooth**EVEN
        spread = 2 * float(smooth.sum())
    return np.sqrt(smooth * (energy / max(spread, 1e-300))).astype(np.float32)


def _line_axis(acquired: Tensor) -> int | None:
    """Return the axis of lines that are acquired whole: 1 if they are columns, 0 if rows; None of others."""
    for axis, other in ((1, 0), (0, 1)):
        if bool((acquired == acquired.select(other, 0).unsqueeze(other)).all()):
            return axis
    return None


def _parts(acquired: Tensor, n_splits: int, random_state: RandomState) -> Tensor:
    """Return the part of each sample, -1 where there is none; lines that are acquired whole stay whole."""
    outside = acquired.clone()
    middle(outside, calibration_size(acquired)).fill_(False)
    axis = _line_axis(acquired)
    units = torch.arange(acquired.numel()).view(acquired.shape)
    if axis is not None:
        units = torch.arange(acquired.shape[axis]).unsqueeze(1 - axis).expand(acquired.shape)
    known = units[outside].unique()
    if len(known) < n_splits:
        raise ValueError(
            f"scan: expected at least {n_splits} {'samples' if axis is None else 'lines'} outside the fully "
            f"sampled middle of k-space, from which errors are predicted, got {len(known)}"
        )
    order = torch.randperm(len(known), generator=torch_generator(random_state))
    part = torch.full((int(units.max()) + 1,), -1)
    part[known[order]] = torch.arange(len(known)) % n_splits
    return torch.where(outside, part[units], -1)


def _energy(misses: Tensor, parts: Tensor, acquired: Tensor, energies: Tensor) -> float:
    """Return the energy of the error at the samples that were not acquired, as that of held-out samples."""
    axis = _line_axis(acquired)
    if axis is not None:
        sums = misses.sum(1 - axis), energies.sum(1 - axis)
        return _energy_of_lines(*sums, parts.amax(1 - axis), acquired.any(1 - axis))
    held = parts >= 0
    rows, columns = ((torch.arange(n).double() - n // 2) / n for n in acquired.shape)
    distance = torch.hypot(rows[:, None], columns)
    edges = distance[held].quantile(torch.linspace(0, 1, N_DISTANCES + 1).double())[1:-1].unique()
    group = torch.bucketize(distance, edges)
    counts, sums = (
        torch.bincount(group[held], weights, minlength=len(edges) + 1)
        for weights in (torch.ones_like(misses)[held], misses[held])
    )
    density = sums / counts.clamp_min(1)
    return math.fsum(density[group][~acquired].tolist())


def _energy_of_lines(misses: Tensor, energies: Tensor, parts: Tensor, acquired: Tensor) -> float:
    """Return the energy of the error of lines that were not acquired; all arguments have one entry a line."""
    energies = energies.clamp_min(float(energies.max()) * torch.finfo(torch.float32).eps)
    gaps = torch.zeros_like(energies)
    for k in range(int(parts.max()) + 1):
        held = parts == k
        gaps[held] = _gaps(acquired & ~held)[held]
    held = parts >= 0
    floor, scale = _fitted(gaps[held], misses[held], energies[held])
    expected = _unpredicted(_gaps(acquired), floor, scale) * _expected_energies(energies, acquired)
    return math.fsum(expected[~acquired].tolist())


def _fitted(gaps: Tensor, misses: Tensor, energies: Tensor) -> tuple[float, float]:
    """Return f_0 and s of the lines that were left out."""
    shares = energies / energies.sum()
    missed = min(max(float(misses.sum() / energies.sum()), LEAST), MOST)
    found = []
    for floor in np.linspace(0, missed, N_FLOORS, endpoint=False).tolist():

        def excess(scale: float, floor: float = floor) -> float:
            return float((shares * _unpredicted(gaps, floor, scale)).sum()) - missed

        scale = float(cast(float, bisect(excess, 1e-3, 1e9)))
        error = misses - _unpredicted(gaps, floor, scale) * energies
        found.append((float((error.square() / energies).sum()), floor, scale))
    return min(found)[1:]


def _gaps(kept: Tensor) -> Tensor:
    """Return q of each line, 1 / q = 1 / l + 1 / r, with distances from the next lines that are kept."""
    place = torch.arange(len(kept)).double()
    apart = (place[:, None] - place[kept]).double()
    left, right = (torch.where(side >= 0, side, math.inf).amin(1) for side in (apart, -apart))
    return 1 / (1 / left + 1 / right)


def _unpredicted(gaps: Tensor, floor: float, scale: float) -> Tensor:
    return 1 - (1 - floor) * torch.exp(-((gaps / scale) ** POWER))


def _expected_energies(energies: Tensor, acquired: Tensor) -> Tensor:
    """Return the energies of lines, from those that were acquired at about the same distance."""
    distance = (torch.arange(len(energies)).double() - len(energies) // 2).abs().log1p()
    apart = (distance[:, None] - distance[acquired]) / NEARNESS
    weights = torch.softmax(-apart.square() / 2, 1)
    return (weights @ energies[acquired].log()).exp()
