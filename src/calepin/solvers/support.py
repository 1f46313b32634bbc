"""Supports of convolutional codes: peaks of codes, and maximum likelihood codes on a given support."""

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
    """Return where codes (n, n_components, *positions) are nonzero and largest within `radius` positions.

    With `n_peaks`, only that many peaks are returned, the highest of each sample. Codes with an l1 penalty
    form clusters around an event, since a filter is similar to its own shifts; the largest entry of a cluster
    is the event (Tolooshams et al., 2020, appendix 9).
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
    """Return the maximum likelihood codes on a support, without penalty and bias, starting from `codes`."""
    step = "backtracking" if problem.likelihood.curvature is None else None
    solver = FISTA(_Restricted(support, nonnegative), step)
    return solve(problem, solver, n_iter=n_iter, z0=codes * support, tol=1e-5).z


@dataclass(frozen=True, eq=False)
class _Restricted:
    """Indicator of the codes on a support, and of nonnegative codes if `nonnegative`."""

    support: Tensor
    nonnegative: bool

    def value(self, z: Tensor) -> Tensor:
        outside = (z != 0) & ~self.support | (z < 0) & self.nonnegative
        return torch.zeros_like(z.flatten(1)[:, 0]).masked_fill(outside.flatten(1).any(1), float("inf"))

    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        return (v.relu() if self.nonnegative else v) * self.support
