"""Spike times become counts around cues; what cannot be right is said in one line."""

import numpy as np
import pytest

from calepin.spikes import SpikeTrains, bin_spikes, bin_trials, join_trials


def test_bins_begin_with_the_window_and_know_their_seconds():
    trains = bin_spikes([10.0, 10.31, 19.95], cue_times=[10, 20], window=(-0.1, 0.4), bin_width=0.1)
    np.testing.assert_array_equal(trains.counts, [[0, 1, 0, 0, 1], [1, 0, 0, 0, 0]])
    np.testing.assert_allclose(trains.seconds([0, 1, 4]), [-0.1, 0, 0.3], atol=1e-12)
    np.testing.assert_allclose(trains.recorded([0, 1]), [[9.9, 10], [19.9, 20]])


def test_without_a_window_trials_reach_to_the_next_cue():
    assert bin_spikes([0.1, 1.5], cue_times=[0, 1, 2.5], bin_width=0.1).counts.shape == (3, 10)
    assert bin_spikes([0.1, 1.45], bin_width=0.1).counts.shape == (1, 16)


def test_time_is_kept_when_trials_are_joined():
    parts = [
        bin_spikes([at + 0.1], cue_times=[at], window=(-0.2, 0.2), bin_width=0.1, cue="go", unit="a")
        for at in (1.0, 3.0)
    ]
    joined = join_trials(parts)
    assert (joined.t0, joined.cue, joined.unit) == (-0.2, "go", "a")
    np.testing.assert_array_equal(joined.cue_times, [1, 3])
    later = bin_spikes([1.0], cue_times=[1.0], window=(-0.1, 0.3), bin_width=0.1)
    with pytest.raises(ValueError, match="begin -0.2 s after the cue, got -0.1"):
        join_trials([parts[0], later])


@pytest.mark.parametrize(
    ("times", "settings", "message"),
    [
        ([-0.1, 1.0], {}, "times: expected seconds of the recording, at least 0, got -0.1"),
        ([1.0], {"cue_times": [np.nan]}, "cue_times: expected at least one time, got none in 1 trials"),
        ([1.0], {"observed": [[3.0, 4.0]], "window": (0, 2)}, "observed: expected a trial within"),
        ([1.0], {"observed": [[4.0, 3.0]]}, "observed: expected intervals"),
        (
            [1.0],
            {"bin_width": 1.0, "window": (0, 0.4)},
            "window: expected at least one bin of 1.0 s.*millisec",
        ),
        ([1.0], {"cue_times": [1.0, 1.0]}, "cue_times: expected different times, got equal ones"),
        ([1.0], {"bin_width": 0.0}, "bin_width: expected a finite number above 0"),
    ],
)
def test_bad_times_are_one_line(times, settings, message):
    with pytest.raises(ValueError, match=message) as raised:
        bin_spikes(times, **settings)
    assert "\n" not in str(raised.value)


def test_a_silent_unit_has_no_spikes_and_is_no_error():
    assert bin_spikes([], cue_times=[0, 1], window=(0, 1), bin_width=0.5).counts.tolist() == [[0, 0], [0, 0]]


def test_doubtful_times_warn_with_their_numbers():
    with pytest.warns(UserWarning, match="1 of 3 spikes have the time of another one"):
        assert bin_spikes([0.1, 0.1, 0.2], bin_width=0.1).counts.sum() == 2
    with pytest.warns(UserWarning, match="1 of 3 trials begin before the one before ends"):
        bin_spikes([0.1, 1.1], cue_times=[0, 0.5, 2], window=(0, 1), bin_width=0.1)
    cues = 1e6 * np.arange(8)
    with pytest.warns(UserWarning, match=r"8 trials x 1,000,000 bins of 1 s .* milliseconds read as seconds"):
        bin_spikes(cues + 100, cue_times=cues, window=(0, 1e6), bin_width=1.0)


def test_a_stimulus_of_another_rate_is_named():
    with pytest.raises(ValueError, match=r"stimulus: expected one value for each of 50 bins, .*: 10 per bin"):
        SpikeTrains(np.ones((2, 50)), stimulus=np.zeros(500))
    with pytest.raises(ValueError, match="cue_times: expected one value for each of 2 trials"):
        SpikeTrains(np.ones((2, 50)), cue_times=np.zeros(3))
    with pytest.raises(ValueError, match=r"mask: expected bool \(2, 50\)"):
        SpikeTrains(np.ones((2, 50)), mask=np.ones((2, 49), bool))
    with pytest.raises(ValueError, match="bin_width: expected the width of a bin in seconds, got None"):
        SpikeTrains(np.ones((2, 50))).seconds([0])


def test_spikes_that_all_come_after_the_last_trial_are_named():
    with pytest.warns(UserWarning, match="all 2 spikes come after the last trial: are times in milliseconds"):
        bin_spikes([1012, 1055], cue_times=[1.0, 3.0], window=(-0.1, 0.3))


def test_seconds_read_as_milliseconds_are_named():
    rng = np.random.default_rng(0)
    in_trials = [rng.uniform(0, 0.4e-3, 5) for _ in range(8)]
    with pytest.warns(UserWarning, match="8 trials x 400 bins .* look like seconds read as milliseconds"):
        bin_trials(in_trials, window=(0, 0.4))
    with pytest.warns(UserWarning, match="look like seconds read as milliseconds"):
        bin_spikes(rng.uniform(0, 9e-3, 40), bin_width=1e-3)


def test_what_is_no_list_of_trials_or_no_name_is_refused():
    with pytest.raises(TypeError, match="times: expected a sequence"):
        bin_trials(None)
    with pytest.raises(ValueError, match="unit: expected a name or None, got 7"):
        SpikeTrains(np.ones((2, 50)), unit=7)


def test_cues_in_milliseconds_are_named():
    with pytest.warns(
        UserWarning, match="all 99 spikes come before the first trial: are cues in milliseconds"
    ):
        bin_spikes(np.arange(1, 100) * 0.1, cue_times=[1000, 3000], window=(-0.1, 0.3))
