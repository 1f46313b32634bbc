"""Spikes of the true model are uniform after rescaling, in discrete time too; of a wrong one not."""

import numpy as np
import pytest
from scipy.stats import kstest, kstwobign

from calepin.likelihoods import Binomial, Poisson
from calepin.spikes import (
    bits_per_spike,
    deviance,
    fit_spike_glm,
    ks_test,
    log_likelihood,
    rescaled_intervals,
    simulate_spikes,
)


@pytest.mark.parametrize("likelihood", [Binomial(), Poisson()])
def test_the_true_model_is_rejected_as_often_as_it_should(likelihood):
    # bins so full that without the correction every test would reject
    drive = 0.5 * np.sin(np.arange(200) / 10)
    statistics = []
    for seed in range(100):
        counts = simulate_spikes(
            5, 200, drive=drive, baseline=-0.7, likelihood=likelihood, random_state=seed
        ).counts
        eta = np.broadcast_to(drive - 0.7, counts.shape)
        statistics.append(ks_test(eta, counts, likelihood=likelihood, random_state=seed))
    rejected = sum(not test.inside for test in statistics)
    assert 1 <= rejected <= 11  # 5 expected; 99.5 % of binomial draws


def test_without_the_correction_the_true_discrete_model_would_be_rejected():
    counts = simulate_spikes(5, 200, baseline=-0.7).counts
    eta = np.full(counts.shape, -0.7)
    p = 1 / (1 + np.exp(0.7))
    naive = p * np.diff(np.flatnonzero(counts))
    assert kstest(-np.expm1(-naive), "uniform").pvalue < 1e-6
    assert ks_test(eta, counts).inside


def test_the_statistic_and_the_band_are_scipys():
    counts = simulate_spikes(20, 300).counts
    eta = np.full(counts.shape, -3.5)
    test = ks_test(eta, counts)
    assert test.statistic == pytest.approx(kstest(test.quantiles, "uniform").statistic, rel=1e-12)
    assert test.band == pytest.approx(kstwobign.ppf(0.95) / len(test.quantiles) ** 0.5, rel=1e-4)
    np.testing.assert_array_equal(test.quantiles, ks_test(eta, counts, random_state=0).quantiles)
    assert len(test.expected) == counts.sum() - 1


def test_a_model_without_the_refractory_time_is_rejected_and_one_with_it_is_not():
    history = [-6.0] * 10
    counts = simulate_spikes(40, 1000, baseline=-3, history=history).counts
    with_history = fit_spike_glm(counts, order=10)
    without = fit_spike_glm(counts)
    assert ks_test(with_history.predictor(counts), counts).inside
    assert ks_test(without.predictor(counts), counts).statistic > 0.1


def test_intervals_go_on_from_one_trial_to_the_next():
    counts = np.zeros((3, 100))
    counts[0, 10] = counts[2, 20] = 1
    eta = np.full(counts.shape, -3.0)
    (interval,) = rescaled_intervals(eta, counts)
    assert interval == pytest.approx(210 * np.log1p(np.exp(-3)), rel=0.01)


def test_deviance_and_likelihood_are_their_definitions():
    eta, y = np.array([-1.0, 0.3, 2.0]), np.array([0.0, 1.0, 1.0])
    p = 1 / (1 + np.exp(-eta))
    expected = np.log(np.where(y == 1, p, 1 - p)).sum()
    assert log_likelihood(eta, y, likelihood=Binomial()) == pytest.approx(expected)
    assert deviance(eta, y, likelihood=Binomial()) == pytest.approx(-2 * expected)
    counts = np.array([3.0, 0.0, 5.0])
    assert deviance(np.log([3.0, 1e-300, 5.0]), counts, likelihood=Poisson()) == pytest.approx(0, abs=1e-12)
    assert np.isfinite(log_likelihood([-800.0, 800.0], [1.0, 0.0], likelihood=Binomial()))


def test_bits_a_spike_count_twofold_gains():
    assert bits_per_spike(np.log(8), 0.0, 3) == pytest.approx(1)
    with pytest.raises(ValueError, match="n_spikes: expected at least one spike, got 0"):
        bits_per_spike(1.0, 0.0, 0)


def test_what_has_no_intervals_is_refused():
    counts = np.zeros((2, 10))
    eta = np.zeros((2, 10))
    with pytest.raises(ValueError, match="counts: expected at least one spike"):
        ks_test(eta, counts)
    counts[0, 3] = 1
    with pytest.raises(ValueError, match="counts: expected at least two spikes"):
        ks_test(eta, counts)
    with pytest.raises(ValueError, match=r"eta: expected the shape of counts, \(2, 10\), got \(2, 9\)"):
        ks_test(eta[:, 1:], counts)
    with pytest.raises(ValueError, match="likelihood: expected trials of 1"):
        ks_test(eta, counts, likelihood=Binomial(3))
