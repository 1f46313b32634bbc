"""How far a reconstruction from undersampled k-space may be from the fully sampled image, at each pixel.

The acquired samples outside the calibrated middle are split into K parts, at random. For each part k, x_k is
the reconstruction without it. Where the x_k differ from x, little is known:

    v = G * mean_k (|x_k| - |x|)^2,       map = ( v E / mean_k ||x_k - x||^2 )^(1/2)

|x| is the root of the sum of squares over the coils, G a Gaussian of 1.5 pixels. The factor makes the map as
large as the errors are: the parts that were left out tell how well x_k predicts samples that it has not seen.
The mean squared error of these predictions, as a function of the distance from the middle of k-space, summed
over all samples that were not acquired, is E, the energy of the error of all coils (cross-validation, and
Parseval's theorem; leaving out parts is the delete-a-group jackknife, Kott 2001).
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
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
        spread += float((x - found.x).abs().square().sum()) / n_splits
        variance += (root_sum_of_squares(x)[0, 0] - image).square() / n_splits
    energy = _energy(misses, parts >= 0, acquired)
    smooth = gaussian_filter(variance.double().numpy(), WIDTH)
    return np.sqrt(smooth * (energy / max(spread, 1e-300))).astype(np.float32)


def _parts(acquired: Tensor, n_splits: int, random_state: RandomState) -> Tensor:
    """Return the part of each sample, -1 where there is none; lines that are acquired whole stay whole."""
    outside = acquired.clone()
    middle(outside, calibration_size(acquired)).fill_(False)
    columns, rows = (bool((acquired == acquired.select(axis, 0).unsqueeze(axis)).all()) for axis in (0, 1))
    units = torch.arange(acquired.numel()).view(acquired.shape)
    if columns:
        units = torch.arange(acquired.shape[1]).expand(acquired.shape)
    elif rows:
        units = torch.arange(acquired.shape[0])[:, None].expand(acquired.shape)
    known = units[outside].unique()
    if len(known) < n_splits:
        raise ValueError(
            f"n_splits: expected at most the {len(known)} {'lines' if columns or rows else 'samples'} that "
            f"were acquired outside the middle of k-space, got {n_splits}"
        )
    order = torch.randperm(len(known), generator=torch_generator(random_state))
    part = torch.full((int(units.max()) + 1,), -1)
    part[known[order]] = torch.arange(len(known)) % n_splits
    return torch.where(outside, part[units], -1)


def _energy(misses: Tensor, held: Tensor, acquired: Tensor) -> float:
    """Return the energy of the error at the samples that were not acquired, as that of held-out samples."""
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
