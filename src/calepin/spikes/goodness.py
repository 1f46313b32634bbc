"""Goodness of fit of predicted counts: log-likelihood, deviance, bits per spike.

All functions take the linear predictor eta of each count, y ~ family(mean = f^{-1}(eta)), and include all
constants, so that models of different families can be compared.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy

from calepin.core.checks import check_array, check_number, is_number
from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes._kernels import logistic

__all__ = [
    "bits_per_spike",
    "check_counts",
    "constants",
    "deviance",
    "log_likelihood",
    "moments",
    "saturated",
    "trial_log_likelihoods",
]

Floats = NDArray[np.float64]


def log_likelihood(eta: ArrayLike, y: ArrayLike, *, likelihood: Binomial | Poisson) -> float:
    """Return the log-probability of all counts y, including the terms that do not depend on eta.

    Parameters
    ----------
    eta, y : arrays of equal shape
    likelihood : Binomial or Poisson

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, no counts, or values that the family cannot produce.
    IncompatibleError
        Another likelihood.
    """
    eta, y = _checked(eta, y, likelihood)
    return moments(eta, y, likelihood=likelihood)[0] + constants(y, likelihood)


def deviance(eta: ArrayLike, y: ArrayLike, *, likelihood: Binomial | Poisson) -> float:
    """Return twice the difference to the log-likelihood of the saturated model, whose mean equals the counts.

    The parameters, and what is refused, are those of `log_likelihood`.
    """
    eta, y = _checked(eta, y, likelihood)
    return 2 * (saturated(y, likelihood) - moments(eta, y, likelihood=likelihood)[0])


def constants(y: Floats, likelihood: Binomial | Poisson) -> float:
    """Return the terms of the log-likelihood that do not depend on the predictor."""
    if isinstance(likelihood, Poisson):
        return -float(gammaln(y + 1).sum())
    trials = _trials(likelihood, y)
    if (trials == 1).all():
        return 0.0
    return float((gammaln(trials + 1) - gammaln(y + 1) - gammaln(trials - y + 1)).sum())


def saturated(y: Floats, likelihood: Binomial | Poisson) -> float:
    """Return the log-likelihood without constants of the model whose mean equals the counts."""
    if isinstance(likelihood, Poisson):
        return float((xlogy(y, y) - y).sum())
    trials = _trials(likelihood, y)
    if (trials == 1).all():
        return 0.0
    return float((xlogy(y, y / trials) + xlogy(trials - y, 1 - y / trials)).sum())


def bits_per_spike(log_likelihood: float, reference: float, n_spikes: float) -> float:
    """Return the gain of a log-likelihood over that of a reference, in bits per spike.

    The reference is usually the constant rate of the training trials, or another model.

    Raises
    ------
    ValueError
        No spikes.
    """
    check_number("log_likelihood", log_likelihood)
    check_number("reference", reference)
    if is_number(n_spikes) and n_spikes <= 0:
        raise ValueError(f"n_spikes: expected at least one spike, got {n_spikes}")
    check_number("n_spikes", n_spikes, above=0)
    return (log_likelihood - reference) / (n_spikes * np.log(2))


def moments(
    eta: Floats,
    y: Floats,
    *,
    likelihood: Binomial | Poisson,
    mask: NDArray[np.bool_] | None = None,
) -> tuple[float, Floats, Floats]:
    """Return the log-likelihood without constants, and mean and variance of each count.

    With a canonical link the variance is the derivative of the mean with respect to eta. Where the mask is
    False a count was not observed: its residual and its variance are 0.
    """
    if mask is not None:
        mean, weight = y.astype(np.float64), np.zeros(y.shape)
        value, mean[mask], weight[mask] = moments(eta[mask], y[mask], likelihood=likelihood)
        return value, mean, weight
    if isinstance(likelihood, Poisson):
        mean = likelihood.mean(torch.tensor(eta)).numpy()
        return float((y * eta - mean).sum()), mean, mean
    trials = _trials(likelihood, eta)
    mean, weight = np.empty(eta.size), np.empty(eta.size)
    value = logistic(eta.ravel(), y.ravel(), trials.ravel(), mean, weight)
    return value, mean.reshape(eta.shape), weight.reshape(eta.shape)


def check_counts(y: Floats, *, likelihood: Binomial | Poisson, name: str = "y") -> None:
    """Raise ValueError by `name` unless y are counts, some above zero and some below the number of trials."""
    _check_family(likelihood)
    if not y.size:
        raise ValueError(f"{name}: expected counts, got an empty array of shape {y.shape}")
    try:
        likelihood.check(torch.tensor(y))
    except ValueError as error:
        raise ValueError(f"{name}{str(error).removeprefix('y')}") from None
    if not y.any():
        raise ValueError(f"{name}: expected at least one spike, got none in {y.size} bins")
    if isinstance(likelihood, Binomial) and (y == _trials(likelihood, y)).all():
        raise ValueError(f"{name}: expected some counts below their trials, got none in {y.size} bins")


def trial_log_likelihoods(
    eta: Floats, y: Floats, *, likelihood: Binomial | Poisson, mask: NDArray[np.bool_] | None = None
) -> Floats:
    """Return the log-likelihood of each trial without constants, (n_trials,)."""
    masks = [None] * len(y) if mask is None else mask
    each = (moments(*one, likelihood=likelihood, mask=m)[0] for *one, m in zip(eta, y, masks, strict=True))
    return np.array(list(each))


def _checked(eta: ArrayLike, y: ArrayLike, likelihood: Binomial | Poisson) -> tuple[Floats, Floats]:
    """Return predictors and counts that the family can produce, of equal shape."""
    _check_family(likelihood)
    predictors, counts = check_array("eta", eta), check_array("y", y)
    if predictors.shape != counts.shape:
        raise ValueError(f"eta: expected the shape of y, {counts.shape}, got {predictors.shape}")
    likelihood.check(torch.tensor(counts))
    return predictors, counts


def _check_family(likelihood: Any) -> None:
    if not isinstance(likelihood, Binomial | Poisson):
        raise IncompatibleError(
            f"a model of counts needs a Binomial or Poisson likelihood, got {type(likelihood).__name__}"
        )


def _trials(likelihood: Binomial, like: Floats) -> Floats:
    return np.broadcast_to(np.asarray(likelihood.trials, np.float64), like.shape)
