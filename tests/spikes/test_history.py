"""History as sums over spikes is the matrix it stands for; AIC finds its order; trials stay apart."""

import numpy as np
import pytest

from calepin.likelihoods import Binomial, Poisson
from calepin.spikes import fit_glm, fit_spike_glm, select_order, simulate_spikes

HISTORY = np.array([-2.0, -1.0, 0.8, 0.6])


def lagged(counts, order):
    """Return the columns of history, one row for each bin of each trial."""
    columns = np.zeros((*counts.shape, order))
    for lag in range(1, order + 1):
        columns[:, lag:, lag - 1] = counts[:, :-lag]
    return columns.reshape(-1, order)


@pytest.fixture
def stimulus():
    return np.column_stack([np.sin(np.arange(400) / 20), np.cos(np.arange(400) / 7)])


@pytest.mark.parametrize("likelihood", [Binomial(), Poisson()])
def test_it_is_the_regression_on_the_columns_of_history(stimulus, likelihood):
    counts = simulate_spikes(
        8, 400, drive=stimulus[:, 0], baseline=-2, history=HISTORY - 0.5, likelihood=likelihood
    ).counts
    fit = fit_spike_glm(counts, stimulus, order=6, likelihood=likelihood, ridge=0.2, history_ridge=0.5)
    X = np.column_stack([np.tile(stimulus, (8, 1)), lagged(counts, 6)])
    dense = fit_glm(counts.ravel(), X, likelihood=likelihood, ridge=[0.2, 0.2, *[0.5] * 6])
    np.testing.assert_allclose(fit.fit.coefficients, dense.coefficients, atol=1e-8)
    np.testing.assert_allclose(fit.fit.covariance, dense.covariance, rtol=1e-6, atol=1e-12)
    assert fit.fit.log_likelihood == pytest.approx(dense.log_likelihood, rel=1e-12)
    assert fit.fit.names[:4] == ("baseline", "stimulus 0", "stimulus 1", "history 1")
    eta = np.column_stack([np.ones(len(X)), X]) @ dense.coefficients
    np.testing.assert_allclose(fit.predictor(counts, stimulus).ravel(), eta, atol=1e-7)


def test_the_order_and_the_coefficients_of_simulated_history_are_found(stimulus):
    counts = simulate_spikes(60, 400, drive=stimulus[:, 0], baseline=-2.5, history=HISTORY).counts
    fit = select_order(counts, stimulus, orders=range(1, 9))
    truth = np.zeros(len(fit.history))
    truth[:4] = HISTORY
    assert 4 <= len(fit.history) <= 6
    errors = fit.fit.standard_errors
    assert np.abs(fit.history - truth).max() < 4 * errors[3:].max()
    np.testing.assert_allclose(fit.stimulus, [1, 0], atol=4 * errors[1:3].max())


def test_a_trial_does_not_remember_the_one_before():
    counts = np.zeros((2, 50))
    counts[0, [10, 49]] = counts[1, 20] = 1
    fit = fit_spike_glm(counts, order=3)
    eta = fit.predictor(counts)
    np.testing.assert_allclose(eta[1, :20], fit.baseline)
    np.testing.assert_allclose(eta[1, 21:24] - fit.baseline, fit.history)
    np.testing.assert_allclose(eta[0, 11:14] - fit.baseline, fit.history)


def test_dense_bursts_fill_the_window_of_history(rng):
    counts = (rng.random((3, 80)) < 0.9).astype(float)
    np.testing.assert_allclose(
        fit_spike_glm(counts, order=2, history_ridge=1.0).predictor(counts).ravel(),
        (lambda f: f.coefficients[0] + lagged(counts, 2) @ f.coefficients[1:])(
            fit_glm(counts.ravel(), lagged(counts, 2), likelihood=Binomial(), ridge=1.0)
        ),
        atol=1e-7,
    )


def test_a_refractory_neuron_has_no_maximum_without_a_ridge():
    counts = np.zeros((4, 100))
    counts[:, ::7] = 1
    counts[0, 3] = 1
    with pytest.raises(ValueError, match="the coefficient of history 1 grows without bound"):
        fit_spike_glm(counts, order=1, history_ridge=0)
    assert fit_spike_glm(counts, order=1).history[0] < -1


def test_bad_input_is_named():
    counts = np.zeros((2, 30))
    with pytest.raises(ValueError, match="counts: expected at least one spike"):
        fit_spike_glm(counts)
    counts[0, 5] = 1
    for arguments, settings, message in [
        ((counts[0],), {}, r"counts: expected shape \(n_trials, n_bins\), neither of them 0, got \(30,\)"),
        ((counts[:0],), {}, "counts: expected shape"),
        ((counts, np.zeros(29)), {}, "stimulus: expected a row for each of the 30 bins of a trial, got 29"),
        ((counts, np.zeros(300)), {}, "got 300: 10 a bin, is its rate another one"),
        ((counts, np.zeros((60, 2))), {}, "got 60: all trials one after another"),
        ((counts, np.full(30, np.inf)), {}, "stimulus: expected finite"),
        ((counts,), {"order": 30}, "order: expected an integer from 0 to 29, got 30"),
        ((counts, np.arange(30)), {"names": []}, "names: expected one for each of 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_spike_glm(*arguments, **settings)
    with pytest.raises(ValueError, match="orders: expected one below the 30 bins"):
        select_order(counts, orders=[40])
