"""What several papers share: values with their range, curves with their band, images, a silent warning."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from calepin.datasets import data_path, read_image
from calepin.report import Curve

__all__ = ["band", "fixed_iterations", "gray_images", "spread"]


def spread(name: str, values: ArrayLike, middle: Callable[[Any], Any] = np.median) -> dict[str, float]:
    """Return ``{name: median, name_min: least, name_max: largest}`` of some values.

    `middle` takes the place of the median. Of no values there is one entry, ``{name: nan}``.
    """
    if not np.size(values):
        return {name: np.nan}
    return {
        name: float(middle(values)),
        f"{name}_min": float(np.min(values)),
        f"{name}_max": float(np.max(values)),
    }


def band(x: ArrayLike, runs: ArrayLike, *, floor: float = -np.inf) -> Curve:
    """Return the curve of the medians of runs (n_runs, len(x)), with their range around it.

    Values below `floor` are drawn at it: a logarithmic axis has no zero.
    """
    rows = np.asarray(runs)
    return Curve(x, *(np.maximum(reduce(rows, axis=0), floor) for reduce in (np.median, np.min, np.max)))


def gray_images(folder: str, count: int | None = None) -> list[NDArray[np.floating]]:
    """Return the first `count` images of a folder of the public data, by name, in [0, 1]; None takes all."""
    return [read_image(path).pixels for path in sorted(data_path(folder).glob("*.png"))[:count]]


@contextmanager
def fixed_iterations() -> Iterator[None]:
    """Ignore the warning that a fit did not converge: it runs for a fixed number of iterations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
