"""Artefacts of signals: where a learner finds them, and whether there are too many."""

import math
import warnings
from typing import Any

import numpy as np
from torch import Tensor

from calepin.estimators._signals import SignalStream, groups_of, shapes_of
from calepin.learning.rules._trimming import covered, limit_of
from calepin.learning.rules.convolutional_online import ConvolutionalOnline
from calepin.learning.signals import SignalBatches

__all__ = ["anomalies_of", "warn_of_artefacts"]

_MANY = 0.05  # of the signals; artefacts are rarer


def anomalies_of(
    rule: ConvolutionalOnline, data: SignalBatches | SignalStream, filters: Tensor, deviations: float
) -> list[np.ndarray]:
    """Return the entries (*spatial) of each signal that lie in windows with artefacts."""
    found = {}
    for rows, signals in groups_of(data):
        found |= zip(rows.tolist(), rule.losses(signals, filters.to(signals.y)), strict=True)
    limit, kernel = limit_of(list(found.values()), deviations), tuple(filters.shape[2:])
    if not math.isfinite(limit):
        warnings.warn(
            "X: nothing is marked, because events lie in fewer than 20 windows, too few to tell what is "
            "usual: pass more signals, or longer ones",
            stacklevel=3,
        )
    return [covered(found[row].windows > limit, kernel)[0].cpu().numpy() for row in range(len(found))]


def warn_of_artefacts(data: Any, n_trimmed: float) -> None:
    """Warn if so much was left out of the last pass that it can hardly be artefacts alone."""
    if not isinstance(data, SignalBatches):
        return
    places = sum(math.prod(shape[1:]) for shape in shapes_of(data.signals))
    if n_trimmed > _MANY * places:
        warnings.warn(
            f"{n_trimmed / places:.0%} of the signals were left out of learning as artefacts: `anomalies` "
            "shows where; a larger robust, or None, keeps them",
            stacklevel=4,
        )
