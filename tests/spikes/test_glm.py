"""The regression of counts is statsmodels', and says why where there is nothing to fit."""

import numpy as np
import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.spikes import fit_glm

COEFFICIENTS = np.array([0.5, 0.05, 50, -1.0])


@pytest.fixture
def problem(rng):
    """Return covariates of very different scale, an offset and the predictor."""
    X = rng.standard_normal((500, 4)) * [1, 10, 0.01, 1]
    offset = 0.3 * rng.standard_normal(500)
    return X, offset, X @ COEFFICIENTS - 0.5 + offset


def agrees(fit, peer):
    np.testing.assert_allclose(fit.coefficients, peer.params, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.standard_errors, peer.bse, rtol=1e-6)
    np.testing.assert_allclose(
        [fit.log_likelihood, fit.deviance, fit.aic], [peer.llf, peer.deviance, peer.aic], rtol=1e-9
    )


@pytest.mark.parametrize("family", ["bernoulli", "binomial", "poisson"])
def test_coefficients_errors_and_deviance_are_those_of_statsmodels(rng, problem, family):
    sm = pytest.importorskip("statsmodels.api")
    X, offset, eta = problem
    p = 1 / (1 + np.exp(-eta))
    if family == "poisson":
        y = rng.poisson(np.exp(eta))
        likelihood, peer_family, endog = Poisson(), sm.families.Poisson(), y
    elif family == "bernoulli":
        y = rng.binomial(1, p)
        likelihood, peer_family, endog = Binomial(), sm.families.Binomial(), y
    else:
        trials = rng.integers(1, 20, 500)
        y = rng.binomial(trials, p)
        likelihood = Binomial(torch.from_numpy(trials))
        peer_family, endog = sm.families.Binomial(), np.column_stack([y, trials - y])
    peer = sm.GLM(endog, sm.add_constant(X), family=peer_family, offset=offset).fit(tol=1e-12)
    agrees(fit_glm(y, X, likelihood=likelihood, offset=offset), peer)


def test_a_ridge_is_where_its_gradient_vanishes(rng, problem):
    X, _, eta = problem
    y = rng.poisson(np.exp(eta))
    fit = fit_glm(y, X, likelihood=Poisson(), ridge=[0.0, 1.0, 0.1, 3.0])
    score = np.column_stack([np.ones(500), X]).T @ (
        y - np.exp(fit.coefficients[0] + X @ fit.coefficients[1:])
    )
    np.testing.assert_allclose(score, [0, 0, 1, 0.1, 3] * fit.coefficients, atol=1e-5)


def test_a_high_rate_from_a_start_at_zero_needs_no_luck(rng):
    X = rng.standard_normal((300, 2))
    fit = fit_glm(rng.poisson(1e4 * np.exp(0.1 * X[:, 0])), X, likelihood=Poisson())
    np.testing.assert_allclose(fit.coefficients, [np.log(1e4), 0.1, 0], atol=5e-3)


def test_separation_names_the_covariate_whatever_its_scale(problem):
    X = problem[0]
    with pytest.raises(ValueError, match="separate the counts: the coefficient of lag 1 grows"):
        fit_glm(X[:, 1] > 0, X, likelihood=Binomial(), names=["velocity", "lag 1", "lag 2", "lag 3"])


@pytest.mark.parametrize("likelihood", [Binomial(), Poisson()])
def test_a_covariate_seen_with_zeros_alone_separates_and_a_ridge_helps(rng, problem, likelihood):
    y = rng.binomial(1, 0.5, 500)
    y[:20] = 0
    X = np.column_stack([problem[0], np.arange(500) < 20])
    with pytest.raises(ValueError, match="covariate 4 grows without bound: use a ridge"):
        fit_glm(y, X, likelihood=likelihood)
    assert -8 < fit_glm(y, X, likelihood=likelihood, ridge=0.1).coefficients[-1] < -2


def test_what_cannot_be_fitted_is_refused_with_a_reason(rng, problem):
    X = problem[0]
    y = rng.binomial(1, 0.5, 500)
    twice = np.column_stack([X, X[:, 0] + X[:, 3]])
    cases = [
        ((y, twice), "independent columns, got covariate 0, covariate 3, covariate 4"),
        ((y, np.column_stack([X, np.full(500, 2.0)])), "independent columns, got intercept, covariate 4"),
        ((y, np.column_stack([X, np.zeros(500)])), "not all zero, got covariate 4"),
        ((0 * y, X), "y: expected at least one spike, got none in 500 bins"),
        ((0 * y + 1, X), "y: expected some counts below their trials"),
        ((y[:0], X[:0]), "y: expected at least one entry"),
        ((0.5 * y, X), r"y: expected whole numbers \(counts\), got 0.5 at index \(\d,\)"),
        ((-y, X), "y: expected counts of at least 0"),
        ((2 * y, X), "y: expected at most the number of trials"),
        ((y, X[:-1]), r"covariates: expected shape \(n, p\) with the n of y, got \(499, 4\)"),
        ((y, X + np.nan), "covariates: expected finite"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            fit_glm(*arguments, likelihood=Binomial())
    with pytest.raises(ValueError, match="names: expected one for each of 4 covariates, got 1"):
        fit_glm(y, X, likelihood=Binomial(), names=["a"])
    with pytest.raises(IncompatibleError, match="needs a Binomial or Poisson likelihood, got Gaussian"):
        fit_glm(y, X, likelihood=Gaussian())  # pyright: ignore[reportArgumentType]
