"""The verdict of a session is that of held-out trials; times are seconds around the cue."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calepin.likelihoods import Binomial, Poisson
from calepin.spikes import (
    EventModel,
    SpikeTrains,
    analyse_spikes,
    event_bands,
    fit_event_model,
    fit_spike_glm,
    ks_test,
    log_likelihood,
    session_figure,
    simulate_spikes,
)
from calepin.spikes.events import NoEventsError, shifted
from calepin.spikes.selection import _fewest

ONSETS = np.array([40, 95, 170, 230])
SHAPE = np.exp(-0.5 * ((np.arange(30) - 8) / 3.0) ** 2)
FAST: dict[str, Any] = {"order": 2, "n_rounds": 2}


def simulated(seed, strength=4.0, n_trials=40):
    drive = strength * shifted(SHAPE, ONSETS, 300).sum(1)
    return simulate_spikes(
        n_trials, 300, drive=drive, baseline=-3.5, history=[-2.0, -1.0], random_state=seed
    ).counts


@pytest.mark.parametrize("seed", range(10))
def test_onsets_are_found_within_one_bin(seed):
    session = analyse_spikes(SpikeTrains(simulated(seed)), kernel_size=30, n_events=4, **FAST)
    # filter and onsets are known up to one common shift
    shift = np.round(np.median(session.model.onsets - ONSETS))
    assert np.abs(session.model.onsets - ONSETS - shift).max() <= 1
    assert session.verdict.startswith("4 events: +")


@pytest.mark.parametrize("seed", range(10))
def test_the_default_call_finds_the_onsets_and_at_most_one_more(seed):
    found = analyse_spikes(SpikeTrains(simulated(seed)), order=5).model.onsets
    assert 4 <= len(found) <= 5
    # filter and onsets are known up to one common shift
    nearest = [np.abs(found - ONSETS[:, None] - shift).min(1).max() for shift in range(-12, 13)]
    assert min(nearest) <= 1


@pytest.mark.parametrize("seed", range(10))
def test_a_homogeneous_unit_has_no_events(seed):
    counts = simulated(seed, strength=0.0, n_trials=30)
    session = analyse_spikes(SpikeTrains(counts), **FAST)
    assert not session.has_events
    assert session.verdict.startswith("no events: ")
    assert session.verdict.endswith("12 held-out trials")
    assert session_figure(session).get_suptitle() == session.verdict


def test_where_no_event_is_found_the_model_is_that_of_history_alone(monkeypatch, tmp_path):
    def none(*arguments, **settings):
        raise NoEventsError("none")

    monkeypatch.setattr("calepin.spikes.session.fit_event_model", none)
    counts = simulated(0, strength=0.0)
    session = analyse_spikes(SpikeTrains(counts, 0.001), kernel_size=30, n_events=2, order=2)
    assert session.verdict == "no events: none was found in 24 training trials"
    assert not session.has_events
    assert session.bands is None
    assert session.fits["events"] == replace(session.fits["GLM"], test=session.fits["events"].test)
    np.testing.assert_allclose(session.model.predictor(counts), session.glm.predictor(counts))
    assert session.summary()["onset_times"] == []
    assert session_figure(session).get_suptitle() == session.verdict
    session.model.save(tmp_path / "m.safetensors")
    assert len(EventModel.load(tmp_path / "m.safetensors").onsets) == 0
    with pytest.raises(NoEventsError):  # the weight was chosen: it may be the reason
        analyse_spikes(SpikeTrains(counts), kernel_size=30, n_events=2, order=2, alpha=0.5)


def test_few_events_that_help_little_are_not_counted():
    rising = [np.array([0.0, 0.0, 0.0, 0.0]), np.array([4.0, 5.0, 4.0, 5.0]), np.array([4.0, 7.0, 4.0, 4.0])]
    assert _fewest([rising, rising]) == 1
    assert _fewest([rising[:1], rising[:1]]) == 0


def test_number_of_events_and_length_of_the_filter_are_those_that_predict_held_out_trials():
    session = analyse_spikes(SpikeTrains(simulated(0)), **FAST)
    assert len(session.model.filter) in (25, 50)
    assert 4 <= len(session.model.onsets) <= 5
    assert session.fit_verdict.startswith("KS distance: events 0.")


def test_times_are_those_of_the_recording_and_relative_to_the_cue():
    counts, cues = simulated(0), 10.0 + 2 * np.arange(40)
    trains = SpikeTrains(counts, 0.002, t0=-0.1, cue_times=cues, cue="go", unit="7")
    session = analyse_spikes(trains, kernel_size=30, n_events=4, **FAST)
    times = -0.1 + 0.002 * session.model.onsets
    summary = session.summary()
    np.testing.assert_allclose(summary["onset_times"], times)
    np.testing.assert_allclose(session.model.onset_times, times)
    np.testing.assert_allclose(summary["event_times"], cues[:, None] + times)
    assert (summary["unit"], summary["cue"], summary["t0"]) == ("7", "go", -0.1)
    raster, rate, events, *_ = session_figure(session).axes
    spikes = np.asarray(raster.lines[0].get_xdata())
    np.testing.assert_allclose(
        [spikes.min(), spikes.max()], -0.1 + 0.002 * np.flatnonzero(counts.any(0))[[0, -1]]
    )
    assert [text.get_text() for text in raster.texts] == ["go"]
    np.testing.assert_array_equal(raster.lines[1].get_xdata(), [0, 0])
    expected = np.asarray(rate.lines[0].get_ydata())
    assert expected.mean() == pytest.approx(session.model.mean(counts).mean() / 0.002, rel=0.02)
    assert session.bands is not None
    bars = events.collections[1].get_segments()  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose([bar[:, 1] for bar in bars], session.bands.amplitudes.T)


def test_one_coincident_spike_does_not_change_the_family():
    counts = simulated(0)
    counts[3, 7] = 2
    with pytest.warns(UserWarning, match=r"1 of \d+ bins with spikes have several, counted as one"):
        session = analyse_spikes(SpikeTrains(counts), kernel_size=30, n_events=4, **FAST)
    assert session.likelihood == Binomial()
    chosen = analyse_spikes(SpikeTrains(counts), kernel_size=30, n_events=4, likelihood=Poisson(), **FAST)
    assert chosen.likelihood == Poisson()
    assert (
        analyse_spikes(
            SpikeTrains(counts[:, ::2] + counts[:, 1::2] + 1), kernel_size=15, n_events=2, **FAST
        ).likelihood
        == Poisson()
    )


def test_bands_are_as_wide_as_estimates_scatter():
    models = [
        fit_event_model(simulated(seed), SHAPE, onsets=ONSETS, order=2, n_rounds=2) for seed in range(20)
    ]
    scatter = np.std([model.amplitudes for model in models], axis=0)
    bands = event_bands(models[0], simulated(0))
    width = np.diff(bands.amplitudes, axis=0)[0] / (2 * 1.96)
    np.testing.assert_allclose(width.mean(), scatter.mean(), rtol=0.35)
    assert (bands.filter[0] <= models[0].filter).mean() > 0.9
    assert (models[0].filter <= bands.filter[1]).mean() > 0.9
    with pytest.raises(ValueError, match="counts: expected at least 2 trials of 300 bins, got"):
        event_bands(models[0], simulated(0)[:1])


def test_trials_that_end_earlier_are_not_silent():
    counts = simulated(0)
    mask = np.ones(counts.shape, bool)
    mask[::2, 150:] = False
    whole = fit_spike_glm(counts, order=2)
    cut = fit_spike_glm(np.where(mask, counts, 0), order=2, mask=mask)
    silent = fit_spike_glm(np.where(mask, counts, 0), order=2)
    assert abs(cut.baseline - whole.baseline) < 0.1 < whole.baseline - silent.baseline
    eta = cut.predictor(counts)
    assert cut.fit.log_likelihood == pytest.approx(
        log_likelihood(eta[mask], counts[mask], likelihood=Binomial())
    )
    test = ks_test(cut.predictor(np.where(mask, counts, 0)), counts, mask=mask)
    assert len(test.quantiles) == counts[mask].sum() - 1
    model = fit_event_model(counts, SHAPE, n_events=4, order=2, mask=mask)
    shift = np.median(model.onsets - ONSETS)
    assert np.abs(model.onsets - ONSETS - shift).max() <= 4
    with pytest.raises(ValueError, match=r"mask: expected bool \(40, 300\)"):
        fit_spike_glm(counts, mask=mask[:3])


def test_a_masked_session_finds_its_events():
    counts = simulated(1)
    mask = np.ones(counts.shape, bool)
    mask[::3, 200:] = False
    trains = SpikeTrains(np.where(mask, counts, 0), mask=mask)
    session = analyse_spikes(trains, kernel_size=30, n_events=4, **FAST)
    assert session.verdict.startswith("4 events")


def test_fewer_spikes_than_parameters_are_refused():
    counts = np.zeros((10, 100))
    counts[:, 50] = 1
    message = (
        r"data: expected at least as many spikes in the training trials as parameters, 34 of filter, .* got 6"
    )
    with pytest.raises(ValueError, match=message):
        analyse_spikes(SpikeTrains(counts), kernel_size=30, order=2)
