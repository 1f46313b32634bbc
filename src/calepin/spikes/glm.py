"""Generalised linear models of counts, by iteratively reweighted least squares.

    y ~ family( mean = f^{-1}(eta) ),        eta = X beta + offset

with the canonical link of the family: the logit for `Binomial`, the logarithm for `Poisson`. The
log-likelihood is maximised, minus ``0.5 * sum_j ridge_j beta_j^2`` if there is a ridge:

    beta  <-  beta + (X' W X + ridge)^{-1} (X' (y - mean) - ridge beta),        W = d mean / d eta

which is Newton's method (McCullagh and Nelder, "Generalized linear models", 1989, section 2.5). A step
that lowers the likelihood is halved. If the covariates separate counts of zero (or of all trials) from the
others without error, the likelihood has no maximum. This is an error, as are linearly dependent covariates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from calepin.core.checks import check_array, check_boolean
from calepin.core.threads import single_threaded_blas
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.goodness import check_counts, constants, moments, saturated

__all__ = ["Design", "GLMFit", "fit_design", "fit_glm"]

Floats = NDArray[np.float64]

_MAX_ITER = 100
_STILL = 1e-7  # largest change of a predictor in the last step, which leaves an error of about its square
_FLAT = 1e-8  # a smaller gain of log-likelihood counts as none
_WALKING = 0.1  # a step without gain that changes a predictor by more shows that there is no maximum
_DEPENDENT = 1e-10  # smallest eigenvalue of the correlation matrix of independent covariates


@dataclass(frozen=True)
class GLMFit:
    """A fitted generalised linear model.

    Attributes
    ----------
    coefficients
        (p,), starting with the intercept if there is one.
    covariance
        (p, p), the inverse of the information ``X' W X + ridge``.
    names
        Names of the p covariates.
    log_likelihood
        Log-likelihood of the data with all constants, without the ridge.
    deviance
        Twice the difference to the log-likelihood of the saturated model, whose mean equals the data.
    n_iter
        Number of Newton steps.
    """

    coefficients: Floats
    covariance: Floats
    names: tuple[str, ...]
    log_likelihood: float
    deviance: float
    n_iter: int

    @property
    def standard_errors(self) -> Floats:
        """Standard errors of the coefficients from the information matrix, (p,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def aic(self) -> float:
        """Akaike's information criterion, ``2 p - 2 log_likelihood``; smaller is better."""
        return 2 * len(self.coefficients) - 2 * self.log_likelihood


class Design(Protocol):
    """A matrix X of covariates with named columns; it need not be stored."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, for messages."""
        ...

    def predict(self, coefficients: Floats) -> Floats:
        """Return ``X beta``, in the shape of the data."""
        ...

    def products(self, residual: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Return ``X' r`` and ``X' diag(w) X``."""
        ...


def fit_glm(
    y: ArrayLike,
    covariates: ArrayLike,
    *,
    likelihood: Binomial | Poisson,
    offset: ArrayLike = 0.0,
    ridge: ArrayLike = 0.0,
    intercept: bool = True,
    names: Sequence[str] | None = None,
) -> GLMFit:
    """Return the generalised linear model of counts with the largest likelihood.

    Parameters
    ----------
    y : array of shape (n,)
        Counts.
    covariates : array of shape (n, p)
    likelihood : Binomial or Poisson
        If the number of trials is a tensor, it has shape (n,).
    offset : float or array of shape (n,), default 0
        Known part of the predictor.
    ridge : float or array of shape (p,), default 0
        Weight of the quadratic penalty on the covariates; the intercept has none. Zero: maximum likelihood.
    intercept : bool, default True
        Whether to add a column of ones in front.
    names : sequence of str, optional
        Names of the covariates, for messages and the result.

    Raises
    ------
    ValueError
        Shapes that differ, entries that are not finite or not counts, no count above zero, linearly dependent
        covariates, or separation (the likelihood has no maximum: use a ridge).
    IncompatibleError
        A Gaussian likelihood.
    """
    counts, X = check_array("y", y), check_array("covariates", covariates)
    check_boolean("intercept", intercept)
    if counts.ndim != 1 or X.ndim != 2 or len(X) != len(counts):
        raise ValueError(
            f"covariates: expected shape (n, p) with the n of y, got {X.shape} and y of shape {counts.shape}"
        )
    given = isinstance(names, Sequence) and not isinstance(names, str)
    if names is not None and not (given and all(isinstance(name, str) for name in names)):
        raise ValueError(f"names: expected a sequence of words, got {names!r:.60}")
    labels = tuple(names) if names is not None else tuple(f"covariate {j}" for j in range(X.shape[1]))
    if len(labels) != X.shape[1]:
        raise ValueError(f"names: expected one for each of {X.shape[1]} covariates, got {len(labels)}")
    ridges = np.broadcast_to(_scalar_or("ridge", ridge, X.shape[1]), X.shape[1:])
    if (ridges < 0).any():
        raise ValueError(f"ridge: expected numbers of at least 0, got {ridges.min():g}")
    offset = _scalar_or("offset", offset, len(X))
    if intercept:
        X = np.column_stack([np.ones(len(X)), X])
        labels, ridges = ("intercept", *labels), np.concatenate([[0.0], ridges])
    check_counts(counts, likelihood=likelihood)
    return fit_design(DenseDesign(X, labels), counts, likelihood=likelihood, offset=offset, ridge=ridges)


def _scalar_or(name: str, values: ArrayLike, n: int) -> Floats:
    """Return one finite number, or n of them."""
    array = check_array(name, values)
    if array.shape not in ((), (n,)):
        raise ValueError(f"{name}: expected a number or shape ({n},), got shape {array.shape}")
    return array


@dataclass(frozen=True)
class DenseDesign:
    """A stored matrix of covariates (n, p)."""

    X: Floats
    names: tuple[str, ...]

    def predict(self, coefficients: Floats) -> Floats:
        """Return ``X beta``, (n,)."""
        return self.X @ coefficients

    def products(self, residual: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Return ``X' r`` and ``X' diag(w) X``."""
        return self.X.T @ residual, (self.X.T * weight) @ self.X


def fit_design(
    design: Design,
    y: Floats,
    *,
    likelihood: Binomial | Poisson,
    offset: ArrayLike = 0.0,
    ridge: Floats,
    start: Floats | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> GLMFit:
    """Fit a generalised linear model whose covariates are a `Design`; see `fit_glm`.

    `start` holds initial coefficients, for example those of a similar model; counts where `mask` is False
    were not observed. The counts are those that the family can produce: see `check_counts`.
    """
    with single_threaded_blas():
        _check_independent(design, np.ones_like(y) if mask is None else mask.astype(np.float64), ridge)
        beta = np.zeros(len(design.names)) if start is None else np.asarray(start, np.float64)
        eta = design.predict(beta) + np.asarray(offset, np.float64)
        beta, value, information, n_iter = _climb(design, y, likelihood, ridge, beta, eta, mask)
        covariance = np.asarray(np.linalg.inv(information), np.float64)
    observed = y if mask is None else y[mask]
    return GLMFit(
        beta,
        covariance,
        design.names,
        value + constants(observed, likelihood),
        2 * (saturated(observed, likelihood) - value),
        n_iter,
    )


def _climb(
    design: Design,
    y: Floats,
    likelihood: Binomial | Poisson,
    ridge: Floats,
    beta: Floats,
    eta: Floats,
    mask: NDArray[np.bool_] | None,
) -> tuple[Floats, float, Floats, int]:
    """Return coefficients, log-likelihood without constants and information at the maximum, and the steps."""

    def evaluate(eta: Floats, beta: Floats) -> tuple[float, Floats, Floats]:
        value, mean, weight = moments(eta, y, likelihood=likelihood, mask=mask)
        return value - 0.5 * float(ridge @ beta**2), mean, weight

    value, mean, weight = evaluate(eta, beta)
    for n_iter in range(1, _MAX_ITER + 1):
        gradient, information = design.products(y - mean, weight)
        gradient = gradient - ridge * beta
        information = information + np.diag(ridge)
        step = _solve(information, gradient)
        move = design.predict(step)
        reach = float(np.abs(move).max())
        if reach <= _STILL:
            return beta + step, value + 0.5 * float(ridge @ beta**2), information, n_iter
        # at a maximum predictors converge; without one they keep changing while the likelihood does not
        if gradient @ step < _FLAT and reach > _WALKING:
            raise ValueError(_separated(design, step))
        worst = value - 1e-12 * abs(value)
        value, mean, weight = evaluate(eta + move, beta + step)
        while value < worst and reach > _STILL:
            step, move, reach = step / 2, move / 2, reach / 2
            value, mean, weight = evaluate(eta + move, beta + step)
        beta, eta = beta + step, eta + move
    raise ValueError(
        f"covariates: expected a likelihood with a maximum, found none in {_MAX_ITER} steps: use a ridge"
    )


def _solve(information: Floats, gradient: Floats) -> Floats:
    """Solve the normal equations, scaled to a unit diagonal."""
    scale = 1 / np.sqrt(np.maximum(np.diag(information), np.finfo(float).tiny))
    scaled = information * np.outer(scale, scale)
    # weights of extreme predictors vanish: a tiny ridge keeps the Cholesky factorisation from failing
    scaled[np.diag_indices_from(scaled)] += 1e-13
    return scale * cho_solve(cho_factor(scaled), scale * gradient)


def _check_independent(design: Design, ones: Floats, ridge: Floats) -> None:
    gram = design.products(ones, ones)[1] + np.diag(ridge)
    if not np.isfinite(gram).all():
        raise ValueError("covariates: expected values whose squares have a finite sum; scale them")
    size = np.sqrt(np.diag(gram))
    if not size.all():
        empty = ", ".join(name for name, s in zip(design.names, size, strict=True) if s == 0)
        raise ValueError(f"covariates: expected columns that are not all zero, got {empty}")
    values, vectors = np.linalg.eigh(gram / np.outer(size, size))
    if values[0] < _DEPENDENT:
        involved = np.abs(vectors[:, 0]) > 0.1 * np.abs(vectors[:, 0]).max()
        names = ", ".join(name for name, part in zip(design.names, involved, strict=True) if part)
        raise ValueError(
            f"covariates: expected linearly independent columns, got {names}, which are dependent"
        )


def _separated(design: Design, step: Floats) -> str:
    """Return the error of separation, with the covariate that changes the predictors most."""
    moves = [np.abs(design.predict(column)).max() for column in np.diag(step)]
    return (
        "covariates: expected a likelihood with a maximum, but they separate the counts: the "
        f"coefficient of {design.names[int(np.argmax(moves))]} grows without bound: use a ridge, or "
        "leave it out"
    )
