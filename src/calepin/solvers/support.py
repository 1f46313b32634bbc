"""Supports of convolutional codes: where codes peak, and the most likely codes on given positions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.problem import Problem
from calepin.solvers.proximal import FISTA
from calepin.solvers.solve import solve

__all__ = ["peaks", "refit"]

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def peaks(codes: Tensor, radius: int, n_peaks: int | None = None) -> Tensor:
    """Return where codes (n, n_components, *positions) peak: nonzero, and largest within `radius` positions.

    With `n_peaks` only that many, the highest of each sample. A code of l1-penalised descent clusters
    around an event, since a filter resembles its neighbours; the largest entry of the cluster is the
    event (Tolooshams et al., 2020, appendix 9).
    """
    size = codes.abs()
    d = size.ndim - 2
    largest = _MAX_POOL[d](size, 2 * radius + 1, stride=1, padding=radius)
    found = (size > 0) & (size == largest)
    if n_peaks is None or n_peaks >= size[0].numel():
        return found
    heights = (size * found).flatten(1)
    highest = torch.zeros_like(found.flatten(1)).scatter(1, heights.topk(n_peaks, dim=1).indices, True)
    return found & highest.view_as(found)


@torch.no_grad()
def refit(problem: Problem, codes: Tensor, support: Tensor, *, nonnegative: bool, n_iter: int = 60) -> Tensor:
    """Return the codes on a support that maximise the likelihood, found from `codes`: no penalty, no bias."""
    step = "backtracking" if problem.likelihood.curvature is None else None
    solver = FISTA(_Restricted(support, nonnegative), step)
    return solve(problem, solver, n_iter=n_iter, z0=codes * support, tol=1e-5).z


@dataclass(frozen=True, eq=False)
class _Restricted:
    """The indicator of codes on a support, nonnegative ones if `nonnegative`."""

    support: Tensor
    nonnegative: bool

    def value(self, z: Tensor) -> Tensor:
        outside = (z != 0) & ~self.support | (z < 0) & self.nonnegative
        return torch.zeros_like(z.flatten(1)[:, 0]).masked_fill(outside.flatten(1).any(1), float("inf"))

    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        return (v.relu() if self.nonnegative else v) * self.support
