"""Slow baselines of recorded signals: a constant, a line, or a broken line, fitted robustly.

    minimise over knots b   sum over t of huber((y(t) - b(t)) / s),     b piecewise linear between its knots

s is the median absolute deviation of the residual. Events and artefacts are outliers of this fit. It is
computed by reweighted least squares (Huber, "Robust statistics", 1981), whose normal equations have three
diagonals, because an entry depends on the knots before and after it: the cost is linear in the length.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from scipy.linalg import solveh_banded
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.checks import check_integer, is_integer

__all__ = ["Trend"]

_HUBER = 1.345  # 95 % of the efficiency of least squares if residuals are Gaussian
_N_ITER = 50
_TOL = 1e-6  # of the deviation
_CHANCE = 4.0  # standard errors; smaller trends are taken for none
_DEVIATION = 0.6745  # median absolute value of the standard normal distribution
_RIDGE = 1e-9  # knots between which nothing was observed


@dataclass(frozen=True)
class Trend:
    """The slow baseline of each channel of each signal.

    Parameters
    ----------
    kind : {"constant", "linear"} or int
        "linear": a straight line, for signals with one axis; a constant for images and volumes. A number:
        straight lines between knots that are at least so many samples apart.
    width : int, default 0
        Length of an event, in samples. If positive, a baseline that is smaller than four of its standard
        errors is taken for none; samples within a width count as one in these.
    """

    kind: Literal["constant", "linear"] | int
    width: int = 0

    def __post_init__(self) -> None:
        named = isinstance(self.kind, str) and self.kind in ("constant", "linear")
        if not (named or (is_integer(self.kind) and self.kind >= 1)):
            raise ValueError(
                f"kind: expected 'constant', 'linear' or a positive number of samples, got {self.kind!r}"
            )
        check_integer("width", self.width, least=0)
        check_fields(self)

    def of(self, y: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return the baselines of signals (n, channels, *spatial), of their shape or broadcasting to it."""
        return self.at(self.knots(y, observed), y)

    def knots(self, y: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return the values at equidistant knots (n, channels, n_knots), in float64."""
        series = y.detach().double().flatten(2).cpu().numpy()
        seen = np.ones(series.shape, bool) if observed is None else observed.flatten(2).cpu().numpy()
        n_knots = self._n_knots(series.shape[2]) if y.ndim == 3 else 1
        found = [
            [self._fit(*channel, n_knots) for channel in zip(*signal, strict=True)]
            for signal in zip(series, seen, strict=True)
        ]
        return torch.from_numpy(np.array(found).reshape(*series.shape[:2], n_knots))

    def at(self, knots: Tensor, y: Tensor) -> Tensor:
        """Return the baselines of signals y whose knots are known."""
        if knots.shape[2] == 1:
            return knots.view(*y.shape[:2], *[1] * (y.ndim - 2)).to(y)
        return F.interpolate(knots, y.shape[2], mode="linear", align_corners=True).to(y)

    def _n_knots(self, length: int) -> int:
        if self.kind == "constant":
            return 1
        return 2 if self.kind == "linear" else max(2, length // int(self.kind) + 1)

    def _fit(self, y: np.ndarray, seen: np.ndarray, n_knots: int) -> np.ndarray:
        """Return the knots of one channel."""
        at = np.flatnonzero(seen)
        if not len(at) or not np.isfinite(y[at]).all():  # infinity is refused by the family of the data
            return np.zeros(n_knots)
        knots, spread = _huber(y[at], at, len(y), n_knots)
        if self.width:
            error = spread * np.sqrt(n_knots * self.width / len(at))
            if np.sqrt(np.mean(knots**2)) < _CHANCE * error:
                return np.zeros(n_knots)
        return knots


def _huber(y: np.ndarray, at: np.ndarray, length: int, n_knots: int) -> tuple[np.ndarray, float]:
    """Return the values at equidistant knots, and the standard deviation of the residual without outliers."""
    place = at * ((n_knots - 1) / max(length - 1, 1))
    before = np.minimum(place.astype(np.int64), max(n_knots - 2, 0))
    right = place - before if n_knots > 1 else np.zeros(len(y))
    left = 1 - right
    knots = np.full(n_knots, np.median(y))
    spread = 0.0
    for _ in range(_N_ITER):
        residual = y - (left * knots[before] + (right * knots[before + 1] if n_knots > 1 else 0))
        spread = float(np.median(np.abs(residual))) / _DEVIATION
        if spread == 0:
            break
        bound = _HUBER * spread
        weight = bound / np.maximum(np.abs(residual), bound)
        moved = _weighted(y, weight, before, left, right, n_knots)
        step, knots = np.abs(moved - knots).max(), moved
        if step <= _TOL * spread:
            break
    return knots, spread


def _weighted(
    y: np.ndarray, weight: np.ndarray, before: np.ndarray, left: np.ndarray, right: np.ndarray, n_knots: int
) -> np.ndarray:
    """Return the knots of least weighted squared residual."""
    if n_knots == 1:
        return np.array([np.average(y, weights=weight)])
    diagonal = np.bincount(before, weight * left**2, n_knots) + np.bincount(
        before + 1, weight * right**2, n_knots
    )
    above = np.bincount(before + 1, weight * left * right, n_knots)
    target = np.bincount(before, weight * left * y, n_knots) + np.bincount(
        before + 1, weight * right * y, n_knots
    )
    # a tension between neighbours: knots without entries lie on the line between the others
    tension = _RIDGE * diagonal.mean()
    diagonal += tension * np.r_[1, np.full(n_knots - 2, 2.0), 1]
    above[1:] -= tension
    return solveh_banded(np.stack([above, diagonal]), target)
