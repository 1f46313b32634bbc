"""The energy of the error of a reconstruction in the samples of k-space that were not acquired.

It is that of samples that were left out of a reconstruction, which are known. Of single samples, and along a
trajectory, the mean squared error of a prediction is a function of the distance from the middle of k-space,
and of that from the next sample.

Of whole lines it depends on the gap that a line lies in, which is wider without other lines. At distances l
and r from the next lines on both sides, the part of its energy that is not predicted is

    f = 1 - (1 - f_0) exp( -(q / s)^(3/2) ),       1 / q = 1 / l + 1 / r

s makes the sum of the errors that f predicts of lines that were left out that of their real errors, and f_0
the differences least. Energies of lines that were not acquired are geometric means of those at about the same
distance from the middle.
"""

import math
from typing import cast

import numpy as np
import torch
from scipy.optimize import bisect
from scipy.spatial import KDTree
from torch import Tensor

__all__ = ["energy_of_lines", "energy_of_samples", "from_next", "gaps_of"]

N_RADII, N_GAPS = 12, 6  # groups of samples by their distances from the middle and from the next sample
POWER = 1.5  # of the gap
LEAST, MOST = 1e-6, 0.999  # limits of the part that is not predicted
N_FLOORS = 10  # values of f_0 that are tried
NEARNESS = 0.15  # of the logarithm of distances of lines from the middle


def from_next(places: Tensor, others: Tensor) -> Tensor:
    """Return the distance of each place (n, 2) from the next of the others."""
    return torch.from_numpy(KDTree(others.numpy()).query(places.numpy())[0])


def energy_of_samples(
    radii: Tensor, gaps: Tensor, misses: Tensor, radii_unseen: Tensor, gaps_unseen: Tensor
) -> float:
    """Return the energy of the error at unseen places.

    Parameters
    ----------
    radii, gaps : Tensor (n,)
        Distances of the samples that were left out from the middle, and from the next of the others.
    misses : Tensor (n,)
        Squared errors of their predictions.
    radii_unseen, gaps_unseen : Tensor (m,)
        Distances of the places that were not acquired.
    """
    total = []
    edges = _edges(radii, N_RADII)
    group, group_unseen = torch.bucketize(radii, edges), torch.bucketize(radii_unseen, edges)
    for index in range(len(edges) + 1):
        here = group == index
        steps = _edges(gaps[here], N_GAPS)
        near = torch.bucketize(gaps[here], steps)
        mean = torch.bincount(near, misses[here]) / torch.bincount(near)
        total.append(mean[torch.bucketize(gaps_unseen[group_unseen == index], steps)].sum())
    return math.fsum(float(part) for part in total)


def _edges(values: Tensor, n_groups: int) -> Tensor:
    """Return the limits of groups of about as many values, none of which is empty."""
    shares = torch.linspace(0, 1, n_groups + 1, dtype=values.dtype)[1:-1]
    edges = values.quantile(shares, interpolation="lower").unique()
    return edges[edges < values.max()]


def energy_of_lines(misses: Tensor, energies: Tensor, parts: Tensor, acquired: Tensor) -> float:
    """Return the energy of the error of lines that were not acquired; all arguments have one entry a line."""
    energies = energies.clamp_min(float(energies.max()) * torch.finfo(torch.float32).eps)
    gaps = torch.zeros_like(energies)
    for k in range(int(parts.max()) + 1):
        held = parts == k
        gaps[held] = gaps_of(acquired & ~held)[held]
    held = parts >= 0
    floor, scale = _fitted(gaps[held], misses[held], energies[held])
    expected = _unpredicted(gaps_of(acquired), floor, scale) * _expected_energies(energies, acquired)
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


def gaps_of(kept: Tensor) -> Tensor:
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
