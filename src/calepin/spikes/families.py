"""Families of the counts of many units: log-likelihood, residual and weight of the predictor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, gammaln

from calepin.core.checks import check_number
from calepin.likelihoods import Binomial, Poisson

__all__ = ["Family", "NegativeBinomial", "constants", "evaluate", "fitted_shape", "link_of", "mean_weight"]

Floats = NDArray[np.float64]

_LARGEST = 1e6  # shape of a unit whose counts scatter no more than Poisson counts


@dataclass(frozen=True)
class NegativeBinomial:
    """Counts that scatter more than Poisson counts: mean ``exp(eta)``, variance ``mean + mean^2 / shape``.

    Parameters
    ----------
    shape : float, optional
        Positive; infinity would be Poisson. Default: that of each unit with the largest likelihood.
    """

    shape: float | None = None

    def __post_init__(self) -> None:
        check_number("shape", self.shape, above=0, optional=True)


Family = Poisson | Binomial | NegativeBinomial


def link_of(mean: Floats, family: Family) -> Floats:
    """Return the predictor of a mean count."""
    return np.log(mean / (1 - mean)) if isinstance(family, Binomial) else np.log(mean)


def evaluate(eta: Floats, y: Floats, family: Family, shape: Floats | None) -> tuple[Floats, Floats]:
    """Return the negative log-likelihood of each unit without constants, and the residual.

    eta and y have the shape (n_bins, n_units); the residual is minus the derivative in eta.
    """
    if isinstance(family, Binomial):
        value = (np.logaddexp(0, eta) - y * eta).sum(0)
        return value, y - expit(eta)
    mean = np.exp(np.minimum(eta, 300.0))
    if isinstance(family, Poisson):
        return (mean - y * eta).sum(0), y - mean
    assert shape is not None
    value = ((y + shape) * np.log1p(mean / shape) - y * eta).sum(0)
    return value, (y - mean) * shape / (shape + mean)


def constants(y: Floats, family: Family, shape: Floats | None) -> Floats:
    """Return the part of the log-likelihood that does not depend on eta, (n_units,)."""
    if isinstance(family, Binomial):
        return np.zeros(y.shape[1])
    if isinstance(family, Poisson):
        return -gammaln(y + 1).sum(0)
    assert shape is not None
    return (gammaln(y + shape) - gammaln(shape) - gammaln(y + 1) - y * np.log(shape)).sum(0)


def mean_weight(mean: Floats, family: Family, shape: Floats | None) -> Floats:
    """Return the second derivative of the negative log-likelihood at a constant mean count."""
    if isinstance(family, Binomial):
        return mean * (1 - mean)
    return mean if shape is None else mean * shape / (shape + mean)


def fitted_shape(eta: Floats, y: Floats) -> float:
    """Return the shape of the negative binomial of one unit with the largest likelihood."""

    def value(log_shape: float) -> float:
        shape = np.array([np.exp(log_shape)])
        family = NegativeBinomial()
        columns = eta[:, None], y[:, None]
        return float(evaluate(*columns, family, shape)[0][0] - constants(columns[1], family, shape)[0])

    found = minimize_scalar(value, bounds=(np.log(1e-3), np.log(_LARGEST)), method="bounded")
    return float(np.exp(found.x))
