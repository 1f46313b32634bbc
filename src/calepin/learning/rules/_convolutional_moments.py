"""Moments of convolutional codes, and the filters that minimise the quadratic function that they define.

With codes z that are constant, half the squared residual of Gaussian data is a quadratic function of the
filters h,

    0.5 <h, S * h> - <h, B> + constant,
    S_mn(lag) = sum_p z_m(p) z_n(p + lag),   B_m(t) = sum_p z_m(p) y(p + t)

where lags are shorter than the kernel: the signals are not needed any more, and an evaluation costs as much
as one of a signal of three kernels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from calepin.core.compiled import FAST, njit
from calepin.learning.filter_set import FilterSet
from calepin.solvers.coders.sparse_codes import SparseCodes

__all__ = ["add_moments", "applied", "descend", "moments"]


def moments(atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Return zero moments S (n_components, n_components, *lags) and B (n_components, channels, *kernel)."""
    lags = [2 * size - 1 for size in atoms.shape[2:]]
    zeros = atoms.new_zeros(atoms.shape, dtype=torch.float64)
    return atoms.new_zeros(len(atoms), len(atoms), *lags, dtype=torch.float64), zeros


def add_moments(S: Tensor, B: Tensor, codes: SparseCodes, y: Tensor, *, stride: int = 1) -> None:
    """Add the moments of codes and signals (n, channels, *spatial)."""
    target, right = S.cpu().numpy(), B.cpu().numpy()
    places = _three_axes(stride * codes.place)
    for sample, signal in enumerate(y):
        of = codes.at_sample(sample)
        _add(
            # by position, so that pairs within a kernel of each other are near in the list
            places[of],
            codes.atom[of],
            codes.value[of].astype(np.float64),
            signal.double().cpu().numpy().reshape(len(signal), *_leading_ones(signal.shape[1:])),
            target.reshape(*S.shape[:2], *_leading_ones(S.shape[2:])),
            right.reshape(*B.shape[:2], *_leading_ones(B.shape[2:])),
        )
    if S.device.type != "cpu":
        S.copy_(torch.from_numpy(target))
        B.copy_(torch.from_numpy(right))


def _leading_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape with three axes; the first given axis stays the first, by which positions are sorted."""
    return (*shape, *[1] * (3 - len(shape)))


def _three_axes(places: np.ndarray) -> np.ndarray:
    return np.pad(places, ((0, 0), (0, 3 - places.shape[1])))


@njit(**FAST)
def _add(places, which, values, y, S, B):
    """Add the moments of one sample; its nonzeros are sorted by position."""
    size0, size1, size2 = B.shape[2:]
    for e in range(len(values)):
        m, v = which[e], values[e]
        p0, p1, p2 = places[e]
        for c in range(B.shape[1]):
            for i in range(size0):
                for j in range(size1):
                    for k in range(size2):
                        B[m, c, i, j, k] += v * y[c, p0 + i, p1 + j, p2 + k]
        S[m, m, size0 - 1, size1 - 1, size2 - 1] += v * v
        for f in range(e + 1, len(values)):
            lag0 = places[f, 0] - p0
            if lag0 >= size0:
                break
            lag1, lag2 = places[f, 1] - p1, places[f, 2] - p2
            if abs(lag1) < size1 and abs(lag2) < size2:
                n, vw = which[f], v * values[f]
                S[m, n, size0 - 1 + lag0, size1 - 1 + lag1, size2 - 1 + lag2] += vw
                S[n, m, size0 - 1 - lag0, size1 - 1 - lag1, size2 - 1 - lag2] += vw


def applied(S: Tensor, atoms: Tensor) -> Tensor:
    """Return ``S * h``, of the shape of the filters h, in float64."""
    return _Product(S, atoms.shape[2:])(atoms.double())


def descend(atoms: Tensor, S: Tensor, B: Tensor, *, n_iter: int, filters: FilterSet | None = None) -> Tensor:
    """Return filters with a lower quadratic function, each in the unit ball, by projected gradient steps.

    They belong to the set `filters`, by default any.

    The steps are accelerated, with a restart where they go uphill (O'Donoghue and Candes 2015). Each
    filter has its own length of step: the largest moduli of the spectra of S bound its part of the Hessian.
    """
    product = _Product(S, atoms.shape[2:])
    bound = product.spectrum.abs().flatten(2).amax(2).sum(1)
    step = torch.where(bound > 0, 1 / bound.clamp_min(torch.finfo(bound.dtype).tiny), 0)
    step = step.view(-1, *[1] * (atoms.ndim - 1))
    h = ahead = atoms.double()
    t = 1.0
    for _ in range(n_iter):
        new = ahead - step * (product(ahead) - B)
        new = _in_ball(new if filters is None else filters.project(new))
        move = new - h
        if float(((ahead - new) * move).sum()) > 0:
            ahead, t = new, 1.0
        else:
            t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
            ahead = new + (before - 1) / t * move
        h = new
    return h.to(atoms.dtype)


class _Product:
    """The map from filters h to ``S * h``, by FFT."""

    def __init__(self, S: Tensor, kernel: Sequence[int]) -> None:
        self.sizes, self.axes = [3 * size - 2 for size in kernel], tuple(range(-len(kernel), 0))
        self.spectrum = torch.fft.rfftn(S, s=self.sizes, dim=self.axes)
        self.by_frequency = self.spectrum.flatten(2).permute(2, 0, 1)
        self.inside = (..., *(slice(size - 1, 2 * size - 1) for size in kernel))

    def __call__(self, h: Tensor) -> Tensor:
        f = torch.fft.rfftn(h, s=self.sizes, dim=self.axes)
        product = torch.bmm(self.by_frequency, f.flatten(2).permute(2, 0, 1))
        product = product.permute(1, 2, 0).reshape(f.shape)
        return torch.fft.irfftn(product, s=self.sizes, dim=self.axes)[self.inside]


def _in_ball(h: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(h.flatten(1), dim=1).clamp_min(1)
    return h / norms.view(-1, *[1] * (h.ndim - 1))
