"""Recordings of MNE, pandas, xarray and pynapple: rate, names, times are kept, events are in seconds."""

import datetime

import mne
import numpy as np
import pandas as pd
import pynapple
import pytest
import xarray

from calepin import ConvolutionalDictionaryLearner
from calepin.core.errors import FileFormatError
from calepin.core.files import load_arrays, save_arrays
from calepin.estimators._recordings import read_recording

RATE, NAMES = 250.0, ("C3", "Cz")
ONSETS = (0.4, 1.6, 2.52)  # seconds
WAVE = np.sin(np.linspace(0, 4 * np.pi, 50)) * np.hanning(50)
SETTINGS = {"kernel_seconds": 0.2, "coder": "bcomp", "n_nonzero": 3, "nonnegative": True, "random_state": 0}


def samples():
    """Return two channels (2, 1000) with three waves of .2 s, the second channel half as strong."""
    X = 0.01 * np.random.default_rng(0).standard_normal((2, 1000))
    for onset in ONSETS:
        start = round(onset * RATE)
        X[:, start : start + 50] += np.array([[1.0], [0.5]]) * WAVE
    return X


def raw(X=None, kinds="eeg", names=NAMES, rate=RATE, **settings):
    info = mne.create_info(list(names), rate, kinds)
    return mne.io.RawArray(samples() if X is None else X, info, verbose="error", **settings)


def frame(X=None, start=0.0):
    X = samples() if X is None else X
    return pd.DataFrame(X.T, index=start + np.arange(X.shape[1]) / RATE, columns=list(NAMES))


def data_array(X=None, start=0.0):
    X = samples() if X is None else X
    time = start + np.arange(X.shape[1]) / RATE
    return xarray.DataArray(X, dims=("channel", "time"), coords={"channel": list(NAMES), "time": time})


def tsd_frame(X=None):
    X = samples() if X is None else X
    return pynapple.TsdFrame(t=np.arange(X.shape[1]) / RATE, d=X.T, columns=list(NAMES))


KINDS = {
    "Raw": raw,
    "Epochs": lambda: mne.EpochsArray(
        samples()[None], mne.create_info(list(NAMES), RATE, "eeg"), verbose="error"
    ),
    "Evoked": lambda: mne.EvokedArray(samples(), mne.create_info(list(NAMES), RATE, "eeg"), verbose="error"),
    "DataFrame": frame,
    "DataArray": data_array,
    "transposed DataArray": lambda: data_array().T,
    "DataArray of trials": lambda: data_array().expand_dims(trial=[7]),
    "TsdFrame": tsd_frame,
    "list of Raw": lambda: [raw()],
}


@pytest.fixture(scope="module")
def learned():
    """Return a learner of the plain array, with the rate as a parameter."""
    return ConvolutionalDictionaryLearner(1, sampling_rate=RATE, **SETTINGS).fit(samples()[None])


@pytest.fixture(scope="module")
def of_raw():
    return ConvolutionalDictionaryLearner(1, **SETTINGS).fit(raw())


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_is_learned_and_coded_as_its_array(kind, learned):
    X = KINDS[kind]()
    learner = ConvolutionalDictionaryLearner(1, **SETTINGS).fit(X)
    np.testing.assert_array_equal(learner.components_, learned.components_)
    assert learner.components_.shape == (1, 2, 50)
    assert learner.sampling_rate_ == RATE
    assert learner.channel_names_ == NAMES
    np.testing.assert_array_equal(np.asarray(learner.transform(X)), learned.transform(samples()[None]))
    assert learner.score(X) == learned.score(samples()[None])
    learner.partial_fit(X)


@pytest.mark.parametrize("kind", KINDS)
def test_events_are_in_seconds(kind, learned):
    events = learned.events(KINDS[kind]())
    assert events.dtype.names == ("signal", "atom", "onset", "amplitude")
    assert len(events) == 3
    np.testing.assert_allclose(np.diff(events["onset"]), np.diff(ONSETS), atol=2 / RATE)
    assert abs(events["onset"][0] - ONSETS[0]) < 0.05  # a filter is known up to a shift
    assert (events["amplitude"] > 1).all()
    assert list(pd.DataFrame(events).columns) == list(events.dtype.names)


@pytest.mark.parametrize(
    ("X", "shift"),
    [
        (frame(start=100.0), 100.0),
        (data_array(start=-2.0), -2.0),
        (frame().set_index(pd.to_timedelta(np.arange(1000) / RATE + 5, unit="s")), 5.0),
        (frame().set_index(pd.date_range("2026-01-01", periods=1000, freq="4ms")), 0.0),
        (frame().set_index(pd.date_range("2026-01-01", periods=1000, freq="4ms", tz="UTC")), 0.0),
        (frame().set_index(np.round(np.arange(1000) / RATE + 0.0003, 3)), 0.0003),
    ],
    ids=["seconds", "before zero", "timedelta", "dates", "dates of a zone", "rounded seconds"],
)
def test_events_are_on_the_clock_of_the_recording(X, shift, learned):
    plain = learned.events(samples()[None])["onset"]
    np.testing.assert_allclose(learned.events(X)["onset"], plain + shift, atol=1e-3)


def test_events_of_an_l1_code_are_its_peaks(learned):
    lasso = ConvolutionalDictionaryLearner.from_components(
        learned.components_, alpha=0.05, nonnegative=True, sampling_rate=RATE
    )
    shifted = np.concatenate([samples()[None], samples()[None, :, ::-1]])
    assert np.count_nonzero(lasso.transform(samples()[None])) > 3
    events = lasso.events(shifted)
    strong = events[events["amplitude"] > 1]
    np.testing.assert_allclose(
        strong[strong["signal"] == 0]["onset"], learned.events(samples()[None])["onset"], atol=0.01
    )
    assert set(events["signal"]) == {0, 1}


def test_codes_of_a_data_array_keep_its_dimensions(learned):
    X = xarray.concat([data_array(start=3.0), 2 * data_array(start=3.0)], "trial").assign_coords(
        trial=["a", "b"], condition=("trial", [1, 2])
    )
    codes = learned.transform(X)
    assert codes.dims == ("trial", "component", "time")
    assert list(codes.trial.values) == ["a", "b"]
    assert list(codes.condition.values) == [1, 2]
    np.testing.assert_allclose(codes.time.values[[0, -1]], [3, 3 + 950 / RATE])
    found = codes.sel(trial="b", component=0)
    np.testing.assert_allclose(found.time.values[found.values > 0], learned.events(X[1])["onset"])
    decoded = learned.inverse_transform(codes)
    assert decoded.shape == (2, 2, 1000)
    assert ((decoded - X.values) ** 2).mean() < 0.1 * (X.values**2).mean()


def test_units_of_a_data_array_are_read(learned):
    X = data_array().assign_coords(time=np.arange(1000) * 4.0)
    X.time.attrs["units"] = "ms"
    assert read_recording(X).sampling_rate == RATE
    X.time.attrs["units"] = "fortnights"
    with pytest.raises(ValueError, match="X: expected units s, .* of 'time', got 'fortnights'"):
        learned.transform(X)


def test_a_data_array_without_time_is_an_array():
    image = xarray.DataArray(np.ones((2, 1, 8, 8)), dims=("n", "channel", "y", "x"))
    found = read_recording(image)
    assert found.signals is image
    assert found.sampling_rate is found.channel_names is None


def test_each_interval_of_pynapple_is_a_signal(learned):
    X, t = samples(), np.r_[np.arange(500) / RATE, 60 + np.arange(500) / RATE]
    support = pynapple.IntervalSet([0, 60], [10, 70])
    gap = pynapple.TsdFrame(t=t, d=X.T, columns=list(NAMES), time_support=support)
    assert [z.shape for z in learned.transform(gap)] == [(1, 451), (1, 451)]
    three = ConvolutionalDictionaryLearner.from_components(
        learned.components_, coder="bcomp", n_nonzero=1, nonnegative=True
    )
    events = three.events(gap)
    assert list(events["signal"]) == [0, 1]
    assert events["onset"][1] > 60
    one = pynapple.Tsd(t=t[:500], d=X[0, :500])
    assert read_recording(one).signals.shape == (1, 1, 500)
    with pytest.raises(ValueError, match="X: expected Tsd or TsdFrame of pynapple, got Ts"):
        learned.transform(pynapple.Ts(t=t))


def test_a_series_is_one_channel():
    found = read_recording(frame()["Cz"])
    assert found.signals.shape == (1, 1, 1000)
    assert found.channel_names == ("Cz",)


def test_recordings_of_a_list_may_differ_in_length(learned):
    X = samples()
    codes = learned.transform([raw(X), raw(X[:, :600])])
    assert [z.shape for z in codes] == [(1, 951), (1, 551)]
    frames = [frame(X), frame(X[:, :600], start=9.0)]
    assert set(learned.events(frames)["signal"]) == {0, 1}
    assert learned.events(frames)["onset"].max() > 9


def test_bad_channels_are_left_out_and_bad_segments_are_missing():
    X = np.concatenate([samples(), np.ones((1, 1000))])
    marked = raw(X, names=[*NAMES, "broken"])
    marked.info["bads"] = ["broken"]
    marked.set_annotations(mne.Annotations([1.0], [0.2], ["BAD_jump"]))
    found = read_recording(marked)
    assert found.channel_names == NAMES
    missing = np.isnan(found.signals)
    assert missing[0, :, 250:300].all()
    assert missing.sum() == 2 * 50


def test_the_data_say_the_rate_or_the_parameter_does():
    given = ConvolutionalDictionaryLearner(1, sampling_rate=500, **SETTINGS)
    with pytest.raises(ValueError, match="sampling_rate: expected None or 250, that of X, got 500"):
        given.fit(raw())
    with pytest.raises(
        ValueError, match="sampling_rate: expected a number of Hz, because kernel_seconds is given"
    ):
        ConvolutionalDictionaryLearner(1, **SETTINGS).fit(samples()[None])
    numbered = frame().reset_index(drop=True)
    with pytest.raises(ValueError, match="sampling_rate: expected a number of Hz"):
        ConvolutionalDictionaryLearner(1, **SETTINGS).fit(numbered)
    learner = ConvolutionalDictionaryLearner(1, sampling_rate=RATE, **SETTINGS).fit(numbered)
    assert (learner.sampling_rate_, learner.channel_names_) == (RATE, NAMES)
    plain = ConvolutionalDictionaryLearner(1, 50, coder="bcomp", n_nonzero=3).fit(samples()[None])
    assert plain.sampling_rate_ is None
    with pytest.raises(ValueError, match="sampling_rate: expected .* because events are in seconds"):
        plain.events(samples()[None])
    assert len(plain.events(raw())) == 3


FAULTS = {
    "another rate": (lambda: raw(rate=500.0), "X: expected a sampling rate of 250 Hz, as in fit, got 500 Hz"),
    "another channel": (
        lambda: raw(names=["C3", "C4"]),
        "X: expected the channels C3, Cz, as in fit, got C3, C4$",
    ),
    "another order": (lambda: raw(names=["Cz", "C3"]), "as in fit, got Cz, C3, in another order"),
    "a channel less": (
        lambda: raw(samples()[:1], names=["C3"]),
        "X: expected the channels C3, Cz, as in fit, got C3",
    ),
    "two rates": (
        lambda: [raw(), raw(rate=500.0)],
        "X: expected one sampling rate, got 250 Hz in recording 0, 500 Hz in recording 1",
    ),
    "two sets of channels": (
        lambda: [raw(), raw(names=["a", "b"])],
        "X: expected the same channels, got C3, Cz in recording 0, a, b in recording 1",
    ),
    "an array among recordings": (
        lambda: [raw(), samples()],
        "X: expected a list of recordings, got ndarray at index 1",
    ),
    "channels of two types": (
        lambda: raw(kinds=["eeg", "stim"]),
        r"X: expected good channels of one type, got eeg and stim; X.copy\(\).pick\('eeg'\)",
    ),
    "a gap": (
        lambda: frame().drop(index=frame().index[100:140]),
        "X: expected evenly spaced times, got steps of 0.004 to 0.164 s",
    ),
    "missing rows": (
        lambda: frame().reset_index(drop=True).drop(index=5),
        "X: expected an index of evenly spaced numbers of samples, some are missing",
    ),
    "times in words": (
        lambda: frame().set_index(np.full(1000, "a")),
        "X: expected seconds, dates or numbers of samples as index, got",
    ),
    "one sample": (lambda: frame()[:1], "X: expected times of at least two samples, got 1"),
    "no channels": (
        lambda: data_array().rename(channel="trial"),
        "X: expected a dimension 'channel' beside 'time', got 'trial'",
    ),
    "a Dataset": (lambda: data_array().to_dataset("channel"), "X: expected a DataArray, got a Dataset"),
    "too short": (
        lambda: frame()[:40],
        r"kernel_seconds: expected at most the signal's size \(40,\), got \(50,\) for signal 0",
    ),
    "one too short": (
        lambda: [frame(), frame()[:30], frame()[:40]],
        r"size \(30,\), got \(50,\) for signal 1, the shortest",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_is_said_in_one_line(fault, of_raw):
    make, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message) as error:
        of_raw.transform(make())
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "X", "message"),
    [
        (
            {"kernel_seconds": 0.001},
            raw(),
            "kernel_seconds: expected at least one sample, 0.004 s, got 0.001",
        ),
        (
            {"kernel_seconds": -1.0},
            raw(),
            "kernel_seconds: expected a finite number above 0 or None, got -1.0",
        ),
        ({"sampling_rate": 0}, raw(), "sampling_rate: expected a finite number above 0 or None, got 0"),
        ({"kernel_size": 10}, raw(), "kernel_size: expected the default 16 with kernel_seconds, got 10"),
        ({"sampling_rate": RATE}, np.ones((2, 1, 80, 80)), "expected None for signals with 2 spatial axes"),
    ],
    ids=str,
)
def test_lengths_in_seconds_have_to_make_sense(settings, X, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionalDictionaryLearner(1, **SETTINGS | settings).fit(X)


def test_a_channel_that_never_varies_is_refused_by_its_name():
    X = samples()
    X[1] = 3.0
    with pytest.raises(
        ValueError, match="X: expected channels that vary, got 3 everywhere in channel 1, 'Cz'"
    ):
        ConvolutionalDictionaryLearner(1, **SETTINGS).fit(raw(X))
    with pytest.raises(
        ValueError, match="X: expected channels that vary, got 3 everywhere in channel 1; remove it$"
    ):
        ConvolutionalDictionaryLearner(1, 50, coder="bcomp", n_nonzero=3).fit(np.stack([X, X]))


def test_a_file_keeps_rate_and_names(of_raw, tmp_path):
    path = tmp_path / "atoms.safetensors"
    of_raw.save(path)
    loaded = ConvolutionalDictionaryLearner.load(path)
    assert (loaded.sampling_rate_, loaded.channel_names_) == (RATE, NAMES)
    assert loaded.kernel_seconds == 0.2
    np.testing.assert_array_equal(loaded.events(raw()), of_raw.events(raw()))
    with pytest.raises(ValueError, match="X: expected a sampling rate of 250 Hz"):
        loaded.transform(raw(rate=100.0))
    arrays, header = load_arrays(path)
    for wrong in ({"sampling_rate": -1}, {"channel_names": [1]}, [1], {"boom": 1}):
        save_arrays(path, "dictionary", arrays, header | {"recording": wrong})
        with pytest.raises(FileFormatError, match="recording: expected sampling_rate and channel_names"):
            ConvolutionalDictionaryLearner.load(path)


def test_atoms_are_evoked_with_topographies(of_raw):
    (evoked,) = of_raw.to_mne()
    assert isinstance(evoked, mne.Evoked)
    assert tuple(evoked.ch_names) == NAMES
    assert evoked.info["sfreq"] == RATE
    np.testing.assert_array_equal(evoked.data, of_raw.components_[0])
    whole = mne.create_info(["Fz", "Cz", "C3"], RATE, "eeg")
    places = dict(zip(whole.ch_names, 0.1 * np.eye(3), strict=True))
    whole.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    (evoked,) = of_raw.to_mne(whole)
    assert tuple(evoked.ch_names) == NAMES
    assert not np.isnan([channel["loc"][:3] for channel in evoked.info["chs"]]).any()
    with pytest.raises(ValueError, match="info: expected 2 channels C3, Cz, got Fz"):
        of_raw.to_mne(mne.create_info(["Fz"], RATE, "eeg"))
    with pytest.raises(ValueError, match="info: expected a sampling rate of 250 Hz, got 100 Hz"):
        of_raw.to_mne(mne.create_info(list(NAMES), 100, "eeg"))


@pytest.mark.parametrize("date", [None, datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)], ids=str)
def test_annotations_mark_the_events_of_a_raw(date, of_raw):
    recording = raw(first_samp=500)
    recording.set_meas_date(date)
    events = of_raw.events(recording)
    recording.set_annotations(of_raw.annotations(recording))
    marked, _ = mne.events_from_annotations(recording, regexp=None, verbose="error")
    np.testing.assert_allclose((marked[:, 0] - 500) / RATE, events["onset"], atol=1 / RATE)
    assert set(recording.annotations.description) == {"atom 0"}
    np.testing.assert_allclose(recording.annotations.duration, 0.2)
    with pytest.raises(ValueError, match="X: expected one signal to annotate, got 2"):
        of_raw.annotations([raw(), raw()])


def test_the_figure_in_a_notebook_has_seconds_and_names(of_raw, monkeypatch):
    from calepin.report import notebook

    drawn = []
    monkeypatch.setattr(notebook, "atom_figure", lambda atoms, **labels: drawn.append(labels))
    monkeypatch.setattr(notebook, "data_uri", lambda figure: "")
    assert "of_raw" not in of_raw._repr_html_()
    assert drawn == [{"sampling_rate": RATE, "channel_names": NAMES}]
