"""The same spikes come out of every layout; each is read by the one command that the guide lists."""

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy import sparse
from scipy.io import savemat

from calepin.cli import main
from calepin.core.errors import FileFormatError
from calepin.spikes import read_spikes, read_units, simulate_spikes

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "spikes-from-files.md"
N_TRIALS, N_BINS, WIDTH = 12, 400, 0.001
CUES = 1.0 + 2 * np.arange(N_TRIALS)
EVENT = 150  # the bin in which both units begin to respond
DRIVE = np.zeros(N_BINS)
DRIVE[EVENT : EVENT + 20] = 6 * np.hanning(20)
COUNTS = np.stack(
    [
        simulate_spikes(N_TRIALS, N_BINS, drive=DRIVE, baseline=-4.5, random_state=unit).counts
        for unit in range(2)
    ]
)


def after_cue(unit, trial):
    """Return times in the middle of their bins, in seconds after the cue."""
    return (np.flatnonzero(COUNTS[unit, trial]) + 0.5) * WIDTH


def of_recording(unit):
    return np.concatenate([cue + after_cue(unit, trial) for trial, cue in enumerate(CUES)])


def cells(lists):
    """Return a cell array of lists."""
    array = np.empty(np.shape(lists) if not isinstance(lists, list) else (1, len(lists)), object)
    for i, values in enumerate(lists):
        array[0, i] = np.atleast_2d(values)
    return array


TRIALS = [after_cue(0, trial) for trial in range(N_TRIALS)]
UNITS = [of_recording(unit) for unit in range(2)]


def padded(lists):
    longest = max(map(len, lists))
    return np.stack([np.pad(values, (0, longest - len(values)), constant_values=np.nan) for values in lists])


def write_csv(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def write_grid(path):
    grid = np.empty((2, N_TRIALS), object)
    for unit, trial in np.ndindex(2, N_TRIALS):
        grid[unit, trial] = np.atleast_2d(after_cue(unit, trial))
    savemat(path, {"grid": grid})


def write_structs(path):
    units = np.zeros((1, 2), [("times", object), ("label", object)])
    for i, times in enumerate(UNITS):
        units[0, i] = (np.atleast_2d(times), f"unit {i}")
    savemat(path, {"units": units, "go": CUES})


def write_mat73(path):
    """Write a cell array of units as MATLAB does in version 7.3."""
    with h5py.File(path, "w", userblock_size=512) as file:
        kept = file.create_group("#refs#")
        references = np.empty((2, 1), h5py.ref_dtype)
        for i, times in enumerate(UNITS):
            node = kept.create_dataset(f"u{i}", data=times[:, None])
            node.attrs["MATLAB_class"] = np.bytes_("double")
            references[i, 0] = node.ref
        node = file.create_dataset("spikes", data=references, dtype=h5py.ref_dtype)
        node.attrs["MATLAB_class"] = np.bytes_("cell")
        file.create_dataset("go", data=CUES[:, None]).attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as start:
        start.write(b"MATLAB 7.3 MAT-file")


def write_nwb(path):
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("a test", "calepin", datetime(2026, 1, 1, tzinfo=UTC))
    for unit, times in enumerate(UNITS):
        file.add_unit(id=unit, spike_times=times)
    for cue in CUES:
        file.add_trial(start_time=cue, stop_time=cue + 1)
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)


def write_ts_group(path):
    times, index = np.concatenate(UNITS), np.repeat([0, 1], [len(times) for times in UNITS])
    order = np.argsort(times)
    np.savez(
        path,
        t=times[order],
        index=index[order],
        keys=np.array([0, 1]),
        start=np.array([0.0]),
        end=np.array([30.0]),
        type=np.array(["TsGroup"]),
        _metadata=np.array({"rate": 1.0}, object),
    )


def write_sorting(path):
    frames = np.round(np.concatenate(UNITS) * 30000).astype(np.int64)
    labels = np.repeat([0, 1], [len(times) for times in UNITS])
    np.savez(
        path,
        unit_ids=np.array([0, 1]),
        num_segment=np.array([1]),
        sampling_frequency=np.array([30000.0]),
        spike_indexes_seg0=frames,
        spike_labels_seg0=labels,
    )


RECORDING: dict[str, Any] = {"cue_times": CUES, "window": (0.0, 0.4), "bin_width": WIDTH}
AFTER_CUE: dict[str, Any] = {"window": (0.0, 0.4), "bin_width": WIDTH}
IN_UNITS: dict[str, Any] = {"lists": "units", "align": "go", "unit": "1"}
# file, how it is written, how unit 0 is read
LAYOUTS = [
    ("counts.npy", lambda path: np.save(path, COUNTS[0]), {}),
    ("units.npy", lambda path: np.save(path, COUNTS), {"unit": "0"}),
    ("sparse.npz", lambda path: sparse.save_npz(path, sparse.csr_array(COUNTS[0])), {}),
    (
        "sparse.mat",
        lambda path: savemat(path, {"raster": sparse.csc_array(COUNTS[0])}),
        {"variable": "raster"},
    ),
    ("times.npy", lambda path: np.save(path, UNITS[0]), RECORDING),
    ("padded.npy", lambda path: np.save(path, padded(TRIALS)), AFTER_CUE),
    ("ms.npy", lambda path: np.save(path, 1000 * padded(TRIALS)), AFTER_CUE | {"time_unit": "ms"}),
    ("lists.npz", lambda path: np.savez(path, *TRIALS), AFTER_CUE),
    ("cells.mat", lambda path: savemat(path, {"spikes": cells(TRIALS)}), AFTER_CUE),
    ("grid.mat", write_grid, AFTER_CUE | {"unit": "1"}),
    ("structs.mat", write_structs, AFTER_CUE | IN_UNITS | {"variable": "units.times"}),
    (
        "v73.mat",
        write_mat73,
        AFTER_CUE | {"variable": "spikes", "lists": "units", "align": "go", "unit": "1"},
    ),
    (
        "trials.csv",
        lambda path: write_csv(
            path, "trial,time", [(trial, time) for trial, times in enumerate(TRIALS) for time in times]
        ),
        AFTER_CUE,
    ),
    (
        "units.csv",
        lambda path: write_csv(
            path, "unit,time", [(f"u{u}", t) for u, times in enumerate(UNITS) for t in times]
        ),
        RECORDING | {"unit": "u0"},
    ),
    ("group.npz", write_ts_group, RECORDING | {"unit": "0"}),
    ("sorting.npz", write_sorting, RECORDING | {"unit": "0"}),
    ("units.nwb", write_nwb, AFTER_CUE | {"unit": "0"}),
]


@pytest.mark.parametrize(("name", "write", "how"), LAYOUTS, ids=[name for name, *_ in LAYOUTS])
def test_every_layout_holds_the_same_spikes(tmp_path, name, write, how):
    write(tmp_path / name)
    trains = read_spikes(tmp_path / name, **how)
    np.testing.assert_array_equal(trains.counts, COUNTS[0])
    if "bin_width" in how:
        assert (trains.bin_width, trains.t0, trains.mask) == (WIDTH, 0.0, None)
    if {"cue_times", "align"} & set(how):
        np.testing.assert_array_equal(trains.cue_times, CUES)


def commands():
    """Return the options that the table of the guide gives for each file."""
    rows = re.findall(r"^\| `(\S+)` \|.*\| (?:`(.*)`)? ?\|$", GUIDE.read_text(), re.MULTILINE)
    return {name: shlex.split(options) for name, options in rows}


def test_the_guide_has_a_command_for_each_layout():
    assert list(commands()) == [name for name, *_ in LAYOUTS]


@pytest.mark.parametrize(("name", "write"), [row[:2] for row in LAYOUTS], ids=[name for name, *_ in LAYOUTS])
def test_every_command_of_the_guide_finds_the_event(tmp_path, monkeypatch, capsys, name, write):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    np.savetxt("cues.txt", CUES)
    model = ["--kernel-size", "20", "--n-events", "1", "--order", "0", "--json"]
    assert main(["spikes", name, "-o", "m.safetensors", *commands()[name], *model]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert err == ""
    assert (said["n_trials"], said["n_spikes"]) == (N_TRIALS, COUNTS[0].sum())
    assert abs(said["onsets"][0] - EVENT) <= 4
    assert said["has_events"]
    width = {"counts.npy": 0.01, "units.npy": None, "sparse.npz": None, "sparse.mat": None}.get(name, WIDTH)
    assert said["bin_width"] == width
    assert said["onset_times"] == (width and pytest.approx([width * said["onsets"][0]]))
    recorded = "cues.txt" in commands()[name] or "--align" in commands()[name]
    assert said["event_times"] == (pytest.approx(CUES[:, None] + said["onset_times"]) if recorded else None)


def test_all_units_are_read_by_name(tmp_path):
    np.save(tmp_path / "a.npy", COUNTS)
    units = read_units(tmp_path / "a.npy", window=(-0.1, 0.3))
    assert list(units) == ["0", "1"]
    for trains, counts in zip(units.values(), COUNTS, strict=True):
        np.testing.assert_array_equal(trains.counts, counts)
        assert (trains.t0, trains.bin_width) == (-0.1, pytest.approx(0.001))
    write_structs(tmp_path / "b.mat")
    assert list(read_units(tmp_path / "b.mat", variable="units.times", lists="units", align="go")) == [
        "1",
        "2",
    ]
    write_nwb(tmp_path / "c.nwb")
    assert list(read_units(tmp_path / "c.nwb")) == ["0", "1"]


def test_trials_that_end_earlier_are_padded_by_nan_and_masked(tmp_path):
    counts = COUNTS[0].copy()
    counts[1, 200:] = np.nan
    np.save(tmp_path / "a.npy", counts)
    trains = read_spikes(tmp_path / "a.npy")
    assert trains.mask is not None
    np.testing.assert_array_equal(trains.mask, ~np.isnan(counts))
    np.testing.assert_array_equal(trains.counts, np.nan_to_num(counts))


class Group(dict):
    """What of pynapple's TsGroup is used."""

    class Times:
        def __init__(self, t):
            self.t = t

    class time_support:  # noqa: N801
        values = np.array([[0.0, CUES[-2] + 1]])


class Sorting:
    """What of a spikeinterface sorting is used."""

    def get_num_segments(self):
        return 1

    def get_unit_ids(self):
        return np.array(["a", "b"])

    def get_sampling_frequency(self):
        return 30000.0

    def get_unit_spike_train(self, unit):
        return np.round(UNITS["ab".index(unit)] * 30000).astype(int)


def test_objects_of_pynapple_and_spikeinterface_are_read():
    group = Group({i: Group.Times(times) for i, times in enumerate(UNITS)})
    with pytest.warns(UserWarning, match="1 of 12 trials are outside the observed intervals"):
        read = read_spikes(group, unit="0", **RECORDING)
    np.testing.assert_array_equal(read.counts, COUNTS[0, :-1])
    np.testing.assert_array_equal(read_spikes(Sorting(), unit="b", **RECORDING).counts, COUNTS[1])
    with pytest.raises(TypeError, match="source: expected a path, a TsGroup of pynapple or a sorting"):
        read_units(3)


def test_real_objects_of_pynapple_are_read():
    nap = pytest.importorskip("pynapple")
    support = nap.IntervalSet([0], [30])
    group = nap.TsGroup({i: nap.Ts(times) for i, times in enumerate(UNITS)}, time_support=support)
    np.testing.assert_array_equal(read_spikes(group, unit="1", **RECORDING).counts, COUNTS[1])


def saved(array):
    return lambda path: np.save(path, array)


def archived(**arrays):
    return lambda path: np.savez(path, **arrays)


def table(header, *rows):
    return lambda path: write_csv(path, header, rows)


OBJECTS = np.array([[1.0], [1.0, 2.0]], object)
PICKLES = r"holds Python objects, which are pickles: calepin never loads them; save lists of times by numpy"


@pytest.mark.parametrize(
    ("name", "write", "how", "message"),
    [
        ("a.npz", archived(a=COUNTS[0], b=CUES), {}, "expected the name of a variable, one of a, b"),
        ("a.npz", archived(a=COUNTS[0]), {"variable": "c"}, "no variable 'c': there are a"),
        ("a.npz", archived(a=OBJECTS), {}, PICKLES),
        ("a.npz", archived(a=CUES), {"align": "go"}, "align: expected a variable of .*, a, got 'go'"),
        ("a.csv", table("cell,time", (1, 2)), {}, "columns time, and unit or trial, got cell, time"),
        ("a.csv", table("unit,time", (1, "x")), {}, "could not convert string to float: 'x'"),
        ("a.csv", table("unit,time"), {}, "expected at least one spike, got none"),
        ("a.npy", saved(COUNTS * 0.5), {}, r"expected whole numbers \(counts\), got 0.5 at index"),
        ("a.npy", saved(np.full((2, 2), np.nan)), {}, "NaN alone"),
        ("a.npy", saved(COUNTS), {"cue_times": [1.0]}, "cue_times: expected one for each of 12 trials"),
        ("a.npy", saved(COUNTS), {"window": (0, 1), "bin_width": 0.1}, "window: expected 400 bins"),
        (
            "a.npy",
            saved([[0.1, 0.3], [0.2, 0.2]]),
            {},
            r"ascending times in each row, got 0.2 after 0.2 at index \(1, 1\): time_unit",
        ),
        ("a.npy", saved([[0.1, np.nan, 0.3]]), {}, "in each row, got NaN before other values in row 0"),
        (
            "a.npz",
            archived(arr_0=[12.5, 300.5], arr_1=[7.5]),
            {"window": (0, 0.4)},
            "window: expected spikes from 0 to 0.4 s, got times from 7.5 to 300.5: are they in milliseconds",
        ),
        ("a.npy", saved([0.5, 4e9 + 0.5]), {}, "window: expected at most .* milliseconds"),
        ("a.npy", saved([-0.5, 1.5]), {}, "times: expected seconds of the recording, at least 0"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, write, how, message):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message) as raised:
        read_units(tmp_path / name, **how)
    assert "\n" not in str(raised.value)


def test_times_in_any_order_are_read_where_they_are_said_to_be_times(tmp_path):
    np.save(tmp_path / "a.npy", [[300, 12], [5, 7]])
    trains = read_spikes(tmp_path / "a.npy", time_unit="ms", window=(0, 0.4))
    assert [np.flatnonzero(row).tolist() for row in trains.counts] == [[12, 300], [5, 7]]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([[3, 40, 90, 200, 350], [1, 5, 7, 9, 400]], "ascend in every row, up to 400"),
        (
            np.sort(np.random.default_rng(0).choice(900, (10, 4), replace=False), axis=1),
            "ascend in every row",
        ),
        ([30, 170, 1200, 1100], "are more than a unit has in a bin, up to 1200"),
    ],
)
def test_whole_numbers_that_look_like_times_are_told(tmp_path, values, found):
    np.save(tmp_path / "a.npy", values)
    with pytest.warns(UserWarning, match=f"taken as counts, but they {found}.*by time_unit"):
        read_spikes(tmp_path / "a.npy", window=(0, 0.4))


def test_an_object_array_is_refused_with_what_to_do(tmp_path):
    np.save(tmp_path / "a.npy", OBJECTS, allow_pickle=True)
    with pytest.raises(FileFormatError, match=re.escape("save lists of times by numpy.savez(path, *lists)")):
        read_units(tmp_path / "a.npy")
