"""Spike trains come out of files as they went in; what is missing is named."""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.io import savemat

from calepin.core.errors import FileFormatError
from calepin.spikes import SpikeTrains, join_trials, read_nwb_spikes, read_spikes
from calepin.spikes.nwb import listed


@pytest.fixture
def counts(rng):
    return rng.binomial(1, 0.1, (4, 50))


@pytest.mark.data
def test_the_two_public_layouts_are_read(public_data):
    whisker = public_data / "spikes" / "whisker_thalamus"
    parts = [read_spikes(whisker / f"Dir3_Neuron1_Stim1_{part}dataBis.mat") for part in ("trng", "test")]
    unit = join_trials(parts)
    assert unit.counts.shape == (50, 3000)
    assert (unit.bin_width, unit.counts.sum()) == (0.001, 2911)
    np.testing.assert_array_equal(unit.trials, np.arange(1, 51))
    assert unit.stimulus is not None
    moves = np.flatnonzero(np.diff(unit.stimulus))
    assert 495 < moves[0] < 505
    movement = read_spikes(public_data / "spikes" / "movement_trials" / "10_spikes-1.mat")
    assert movement.counts.shape == (50, 2000)
    assert (movement.bin_width, movement.counts.sum()) == (0.001, 4696)


def test_the_layouts_written_by_us_are_read_too(counts, tmp_path):
    stimulus = np.sin(np.arange(50))
    savemat(
        tmp_path / "a.mat",
        {"y": counts.reshape(1, -1), "t": np.tile(stimulus, 4), "idxts": [9, 2, 5, 4]},
    )
    read = read_spikes(tmp_path / "a.mat")
    np.testing.assert_array_equal(read.counts, counts)
    np.testing.assert_array_equal(read.stimulus, stimulus)
    np.testing.assert_array_equal(join_trials([read]).counts, counts[[1, 3, 2, 0]])
    savemat(tmp_path / "b.mat", {"train": counts, "t": np.arange(50) * 2.0, "mine": counts[:2]})
    assert read_spikes(tmp_path / "b.mat").bin_width == pytest.approx(0.002)
    np.testing.assert_array_equal(read_spikes(tmp_path / "b.mat", variable="mine").counts, counts[:2])
    np.save(tmp_path / "c.npy", counts)
    np.testing.assert_array_equal(read_spikes(tmp_path / "c.npy").counts, counts)
    np.save(tmp_path / "d.npy", counts[0].astype(bool))
    assert read_spikes(tmp_path / "d.npy").counts.shape == (1, 50)


def test_files_that_hold_no_spike_trains_are_refused_by_name(counts, tmp_path):
    savemat(tmp_path / "a.mat", {"direction": [1, 2], "z": 3})
    savemat(tmp_path / "b.mat", {"y": counts.reshape(1, -1), "idxtr": [1, 2, 3]})
    savemat(tmp_path / "c.mat", {"train": counts * 0.5})
    np.save(tmp_path / "d.npy", -counts)
    np.save(tmp_path / "e.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "f.npy", np.zeros((0, 5)))
    (tmp_path / "g.mat").write_bytes(b"MATLAB 7.3 or so" * 20)
    (tmp_path / "h.txt").write_text("1 0 1")
    for name, message in [
        ("a.mat", "expected the variable train, or y with idxtr or idxts, got direction, z"),
        ("b.mat", "expected y of 3 trials of equal length, got 200 bins"),
        ("c.mat", r"train: expected whole numbers \(counts\), got 0.5 at index"),
        ("d.npy", "the array: expected counts of at least 0, got -1"),
        ("e.npy", "holds Python objects, which are pickles"),
        ("f.npy", r"expected the array to hold counts .* got float64 \(0, 5\)"),
        ("g.mat", "not a readable MATLAB file"),
        ("h.txt", "expected a name that ends in .npy, .npz, .mat, .csv, .tsv or .nwb"),
        ("", "is a folder"),
    ]:
        with pytest.raises(FileFormatError, match=message):
            read_spikes(tmp_path / name)
    with pytest.raises(FileFormatError, match="no variable 'u': there are direction, z"):
        read_spikes(tmp_path / "a.mat", variable="u")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_spikes(tmp_path / "no.mat")


def test_trials_of_another_kind_are_not_joined(counts):
    with pytest.raises(ValueError, match="trials of 50 bins of None s, got 49 of None s"):
        join_trials([SpikeTrains(counts), SpikeTrains(counts[:, 1:])])
    with pytest.raises(ValueError, match="one stimulus"):
        join_trials([SpikeTrains(counts), SpikeTrains(counts, stimulus=np.zeros(50))])


@pytest.fixture
def nwb_file(tmp_path):
    """Write two units and three trials, one without a cue."""
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("a test", "calepin", datetime(2026, 1, 1, tzinfo=UTC))
    file.add_unit(id=7, spike_times=[0.0, 0.0105, 1.02, 1.0201, 2.5, 2.599, 9.0])
    file.add_unit(id=8, spike_times=[0.5])
    file.add_trial_column("cue", "time of the cue")
    for start, stop, cue in [(0.0, 0.9, 0.01), (1.0, 1.5, np.nan), (2.5, 3.5, 2.6)]:
        file.add_trial(start_time=start, stop_time=stop, cue=cue)
    path = tmp_path / "a.nwb"
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def test_units_of_nwb_are_binned_around_trials(nwb_file):
    read = read_nwb_spikes(nwb_file, unit=7, bin_width=0.01)
    assert read.counts.shape == (3, 50)
    assert (read.bin_width, read.counts.sum()) == (0.01, 6)
    assert [np.flatnonzero(row).tolist() for row in read.counts] == [[0, 1], [2], [0, 9]]
    assert read.counts[1, 2] == 2
    cued = read_nwb_spikes(nwb_file, unit=7, bin_width=0.01, align="cue", window=(-0.1, 0.1))
    assert cued.counts.shape == (2, 20)
    assert (cued.t0, cued.cue, cued.unit, cued.mask) == (-0.1, "cue", "7", None)
    np.testing.assert_allclose(cued.cue_times, [0.01, 2.6])
    np.testing.assert_allclose(cued.seconds([0, 10]), [-0.1, 0], atol=1e-12)
    np.testing.assert_allclose(cued.recorded([10]), [[0.01], [2.6]])
    assert [np.flatnonzero(row).tolist() for row in cued.counts] == [[9, 10], [0, 9]]
    assert read_nwb_spikes(nwb_file, unit=8, bin_width=0.1).counts[0, 5 - 1 :].sum() == 0


def test_what_an_nwb_file_lacks_is_named(nwb_file, tmp_path):
    pynwb = pytest.importorskip("pynwb")
    for settings, message in [
        ({}, "unit: expected the id of one of 2 units: 7, 8"),
        ({"unit": 3}, "unit: expected the id of a unit in .*a.nwb, 7, 8, got 3"),
        ({"unit": 7, "align": "go"}, "align: expected a column .*start_time, stop_time, cue, got 'go'"),
        ({"unit": 7, "window": (0.1, 0.1)}, "window: expected at least one bin"),
        ({"unit": 7, "bin_width": 0.0}, "bin_width: expected a finite number above 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_nwb_spikes(nwb_file, **settings)
    path = tmp_path / "empty.nwb"
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(pynwb.NWBFile("a test", "calepin", datetime(2026, 1, 1, tzinfo=UTC)))
    with pytest.raises(FileFormatError, match="expected a units table with spike_times, got none"):
        read_nwb_spikes(path)
    path.write_bytes(b"no")
    with pytest.raises(FileFormatError, match="is not a readable NWB file"):
        read_nwb_spikes(path)


def test_what_was_not_observed_is_no_silence(tmp_path):
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("a test", "calepin", datetime(2026, 1, 1, tzinfo=UTC))
    file.add_unit(id=1, spike_times=[0.05, 0.35, 1.05], obs_intervals=[[0.0, 0.3], [0.95, 1.2]])
    file.add_unit(id=2, spike_times=[0.05, 0.35, 1.05], obs_intervals=[[7.0, 8.0]])
    for start in (0.0, 1.0, 2.0):
        file.add_trial(start_time=start, stop_time=start + 0.4)
    with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
        io.write(file)
    with pytest.warns(UserWarning, match="1 of 3 trials are outside the observed intervals"):
        trains = read_nwb_spikes(tmp_path / "a.nwb", unit=1, bin_width=0.1)
    np.testing.assert_array_equal(trains.cue_times, [0, 1])
    np.testing.assert_array_equal(trains.mask, [[True, True, True, False], [True, True, False, False]])
    np.testing.assert_array_equal(trains.counts, [[1, 0, 0, 0], [1, 0, 0, 0]])  # 0.35 s was not observed
    with pytest.raises(
        ValueError, match="observed: expected a trial within the observed intervals, got none"
    ):
        read_nwb_spikes(tmp_path / "a.nwb", unit=2, bin_width=0.1)


def test_names_of_variables_are_listed_in_one_short_line():
    found = listed(["rate", "x" * 5000, "a\x00\nb"])
    assert found == f"rate, {'x' * 40}, a??b"
