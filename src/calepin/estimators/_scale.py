"""The scale of signals: how strongly a filter of unit norm can correlate with them, and their noise.

Both are robust: a few artefacts, however large, change them little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.learning.filters import window_sums
from calepin.learning.rules.convolutional_base import fit_baseline
from calepin.learning.signals import Signals
from calepin.likelihoods import Gaussian
from calepin.operators.identity import Identity

__all__ = ["Scale", "scale_of"]

_SEGMENTS = 32  # at least, of all signals
_KERNELS = 8  # shortest length of a segment
_QUANTILE = 0.75
_DEVIATION = 0.6745
_FRACTION = 0.1  # of the largest correlation, the usual weight of the penalty
_NOISE = 3.5  # deviations of the noise that a weight exceeds: few events of noise in thousands of positions
_LARGEST = 0.5  # of the largest correlation
_APART = 10.0  # the largest windows of a quarter of the segments, relative to those of half of them
_ABOVE = 2.0  # the latter relative to windows of noise
_ARTEFACT = 4.0  # largest norm of a window to start from, relative to the scale


@dataclass(frozen=True)
class Scale:
    """Robust scale of signals.

    Attributes
    ----------
    correlation : float
        Largest correlation of a filter of unit norm with a window: the norm of the largest windows, without
        noise. Weights of the l1 norm above it give no event.
    noise : float
        Standard deviation of the correlation with white noise.
    norm : float
        Norm of the largest windows, with noise.
    """

    correlation: float
    noise: float
    norm: float

    @property
    def alpha(self) -> float:
        """A weight of the l1 norm: a tenth of the largest correlation, but not within the noise."""
        return min(max(_FRACTION * self.correlation, _NOISE * self.noise), _LARGEST * self.correlation)

    @property
    def artefact(self) -> float:
        """Norm above which a window is taken for an artefact."""
        return _ARTEFACT * self.norm


def scale_of(groups: Sequence[Signals], kernel: Sequence[int], *, baseline: bool) -> Scale:
    """Return the scale of signals for filters of a size; with a `baseline`, of what this leaves."""
    peaks, noises = [], []
    n_signals = sum(len(group.y) for group in groups)
    for group in groups:
        score, variance = _score(group, baseline)
        norms = window_sums(score.square().sum(1), kernel).sqrt()
        peaks += [float(part.max()) for norm in norms for part in _segments(norm, kernel, n_signals)]
        noises += variance
    noise = float(np.sqrt(np.median(noises)))
    of_noise = noise * np.sqrt(groups[0].y.shape[1] * np.prod(kernel))
    norm = _norm(np.array(peaks), of_noise)
    signal = np.sqrt(max(norm**2 - of_noise**2, (0.3 * norm) ** 2))
    return Scale(float(signal), noise, norm)


def _norm(peaks: np.ndarray, of_noise: float) -> float:
    """Return the norm of the largest windows of segments, of which up to half may have an artefact.

    Events may be rare: three quarters of the segments may be noise. But where half of them have events, no
    event is ten times as large.
    """
    largest, middle = np.quantile(peaks, [_QUANTILE, 0.5])
    spoiled = middle > _ABOVE * of_noise and largest > _APART * middle
    return float(middle if spoiled else largest)


def _score(group: Signals, baseline: bool) -> tuple[Tensor, list[float]]:
    """Return the derivative of the log-likelihood at the baseline, and the variance of its noise."""
    problem = group.problem(Identity(tuple(group.y.shape[1:])))
    offset: Any = fit_baseline(problem) if baseline else problem.offset
    score = problem.likelihood.score(torch.zeros_like(problem.y) + offset, problem.y).double()
    seen = group.observed
    if seen is not None:
        score = score * seen
    if not isinstance(group.likelihood, Gaussian):
        return score, [float(score.square().mean())]
    # second differences remove what is smooth
    bends = score[..., :-2] - 2 * score[..., 1:-1] + score[..., 2:]
    known = torch.ones_like(bends, dtype=torch.bool)
    if seen is not None:
        known = seen[..., :-2] & seen[..., 1:-1] & seen[..., 2:]
    of_signals = [bend[k].abs() for bend, k in zip(bends, known, strict=True)]
    return score, [float((b.median() / _DEVIATION) ** 2 / 6) for b in of_signals if len(b)] or [0.0]


def _segments(norms: Tensor, kernel: Sequence[int], n_signals: int) -> list[Tensor]:
    """Cut the windows of a signal along the last axis, so that all signals have enough segments."""
    wanted = -(-_SEGMENTS // n_signals)
    longest = norms.shape[-1] // (_KERNELS * kernel[-1])
    return list(torch.tensor_split(norms, max(1, min(wanted, longest)), dim=-1))
