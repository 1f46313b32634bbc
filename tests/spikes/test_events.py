"""Events planted in simulated spikes are found, with their filter; the fit uses what it is told."""

from dataclasses import replace

import numpy as np
import pytest

from calepin.core.errors import FileFormatError
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes import EventModel, fit_event_model, fit_spike_glm, log_likelihood, simulate_spikes
from calepin.spikes.events import shifted

ONSETS = np.array([60, 130, 210, 300, 380])
HISTORY = [-3.0, -1.5, -0.5]
t = np.arange(40)
TRUTH = t / 6 * np.exp(-t / 6) - 0.35 * np.exp(-((t - 30) ** 2) / 30)
TRUTH /= np.linalg.norm(TRUTH)
START = np.hanning(41)[1:] * (t < 20)


def simulated(likelihood=None, seed=0, n_trials=80):
    drive = 9 * shifted(TRUTH, ONSETS, 500).sum(1)
    return simulate_spikes(
        n_trials, 500, drive=drive, baseline=-4, history=HISTORY, likelihood=likelihood, random_state=seed
    ).counts


@pytest.fixture(scope="module")
def counts():
    return simulated()


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.parametrize("coder", ["fista", "pursuit"])
@pytest.mark.parametrize("likelihood", [Binomial(), Poisson()])
def test_onsets_filter_and_history_are_found(coder, likelihood):
    counts = simulated(likelihood)
    model = fit_event_model(counts, START, n_events=5, order=3, coder=coder, likelihood=likelihood)
    # onset and filter are known up to one common shift
    shift = np.median(model.onsets - ONSETS)
    assert np.abs(model.onsets - ONSETS - shift).max() <= 4
    assert abs(shift) <= 10
    assert max(cosine(np.roll(model.filter, s), TRUTH) for s in range(-10, 11)) > 0.85
    assert np.abs(model.history - HISTORY).max() < 5 * model.glm.fit.standard_errors[-3:].max()
    assert (model.amplitudes > 0).all()


def test_held_out_trials_are_nearly_as_likely_as_under_the_truth(counts):
    model = fit_event_model(counts, START, n_events=5, order=3)
    fresh = simulated(seed=1)
    constant = fit_spike_glm(counts)
    known = fit_event_model(counts, TRUTH, onsets=ONSETS, order=3)
    values = [
        log_likelihood(eta, fresh, likelihood=Binomial())
        for eta in (constant.predictor(fresh), model.predictor(fresh), known.predictor(fresh))
    ]
    assert values[1] - values[0] > 0.8 * (values[2] - values[0]) > 100


def test_the_number_of_events_is_found_where_it_is_not_given(counts):
    assert 5 <= len(fit_event_model(counts, START, order=3).onsets) <= 6


def test_known_onsets_stay_where_they_are_and_the_filter_moves_to_the_truth(counts):
    first, last = (fit_event_model(counts, START, onsets=ONSETS, order=3, n_rounds=n) for n in (1, 6))
    np.testing.assert_array_equal(last.onsets, ONSETS)
    assert cosine(START, TRUTH) < cosine(first.filter, TRUTH) < cosine(last.filter, TRUTH)
    assert cosine(last.filter, TRUTH) > 0.92
    assert last.log_likelihood > first.log_likelihood


def test_the_prediction_is_the_model(counts):
    model = fit_event_model(counts, START, n_events=5, order=3)
    eta = model.baseline + np.broadcast_to(model.drive, counts.shape).copy()
    for lag, g in enumerate(model.history, start=1):
        eta[:, lag:] += g * counts[:, :-lag]
    np.testing.assert_allclose(model.predictor(counts), eta, atol=1e-9)
    np.testing.assert_allclose(model.mean(counts), 1 / (1 + np.exp(-eta)), atol=1e-12)
    assert np.linalg.norm(model.filter) == pytest.approx(1)


def test_the_file_gives_the_model_back(counts, tmp_path):
    rounds = []
    model = fit_event_model(counts, START, n_events=5, order=3, n_rounds=2, callback=rounds.append)
    assert rounds == [1, 2]
    model.save(tmp_path / "a.safetensors")
    again = EventModel.load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.predictor(counts), model.predictor(counts))
    assert replace(again.glm.fit, covariance=0, coefficients=0) == replace(
        model.glm.fit, covariance=0, coefficients=0
    )
    assert again.glm.likelihood == Binomial()
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(FileFormatError):
        EventModel.load(tmp_path / "b.safetensors")


def test_bad_input_is_named(counts):
    for start, settings, message in [
        (np.ones(501), {}, "start: expected a kernel of at most the 500 bins of a trial, got 501"),
        (np.zeros(9), {}, "start: expected a filter"),
        (START, {"coder": "omp"}, "coder: expected one of 'fista', 'pursuit', got 'omp'"),
        (START, {"n_events": 0}, "n_events: expected a positive integer or None, got 0"),
        (START, {"alpha": 0.0}, "alpha: expected a finite number above 0, got 0.0"),
        (START, {"alpha": 1e3}, "alpha: expected a weight with which events are found"),
        (START, {"onsets": [500]}, "onsets: expected bins from 0 to 499"),
        (START, {"order": 500}, "order: expected an integer from 0 to 499"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit_event_model(counts, start, **settings)
    with pytest.raises(ValueError, match="counts: expected at least one spike, got none in 40000 bins"):
        fit_event_model(0 * counts, START)
    with pytest.raises(ValueError, match=r"counts: expected whole numbers \(counts\)"):
        fit_event_model(0.5 * counts, START)
