"""``calepin spikes`` on files of every kind: planted events come out, bad input is one line."""

import json
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from calepin.cli import main
from calepin.datasets import read_image
from calepin.likelihoods import Poisson
from calepin.spikes import EventModel, analyse_spikes, read_spikes, simulate_spikes
from calepin.spikes.events import shifted

ONSETS = np.array([60, 130, 210, 300])
FAST = ["--kernel-size", "40", "--order", "3"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def planted(likelihood=None):
    response = np.hanning(42)[1:-1]
    drive = 2.5 * shifted(response, ONSETS, 400).sum(1)
    return simulate_spikes(40, 400, drive=drive, baseline=-4, history=[-3, -1], likelihood=likelihood).counts


def spikes_json(capsys, *arguments):
    assert main(["spikes", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == ""
    return json.loads(out)


def test_planted_events_are_found_and_the_model_is_saved(capsys):
    counts = planted()
    np.save("a.npy", counts)
    said = spikes_json(capsys, "a.npy", "-o", "m.safetensors", "--n-events", "4", "--figure", "f.png", *FAST)
    assert np.abs(np.array(said["onsets"]) - ONSETS).max() <= 8
    assert (said["n_train"], said["n_trials"], said["likelihood"], said["order"]) == (24, 40, "binomial", 3)
    rows = said["models"]
    assert list(rows) == ["constant", "GLM", "events"]
    assert rows["constant"]["bits_per_spike"] == 0 < rows["events"]["bits_per_spike"]
    assert rows["events"]["deviance"] < rows["GLM"]["deviance"] < rows["constant"]["deviance"]
    assert said["written"] == ["m.safetensors", "f.png"]
    assert EventModel.load("m.safetensors").onsets.tolist() == said["onsets"]
    assert read_image("f.png").pixels.std() > 0.05


def test_counts_above_one_are_poisson_and_the_order_is_chosen(capsys):
    counts = planted(Poisson())
    np.save("a.npy", counts.reshape(40, 200, 2).sum(2))
    said = spikes_json(capsys, "a.npy", "-o", "m.safetensors", "--kernel-size", "20", "--coder", "pursuit")
    assert said["likelihood"] == "poisson"
    assert 5 <= said["order"] <= 40
    assert len(said["onsets"]) >= 4


def test_a_stimulus_and_two_files_are_used(capsys):
    counts = planted()
    position = np.cumsum(shifted(np.hanning(12)[1:-1], ONSETS, 400).sum(1))
    for name, part, numbers in (("a", counts[::2], range(1, 41, 2)), ("b", counts[1::2], range(2, 41, 2))):
        trials = np.tile(position, 20)
        savemat(f"{name}.mat", {"y": part.ravel(), "t": trials, "idxtr": list(numbers)})
    said = spikes_json(
        capsys, "a.mat", "b.mat", "-o", "m.safetensors", "--train", "0:30", "--baseline", "0:60", *FAST
    )
    assert (said["n_trials"], said["n_train"], said["bin_width"]) == (40, 30, 0.001)
    assert said["models"]["GLM"]["n_parameters"] == 5
    assert 0.05 < said["models"]["GLM"]["bits_per_spike"] < said["models"]["events"]["bits_per_spike"]


def test_a_unit_of_nwb_is_read_around_its_trials(capsys):
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile("a test", "calepin", datetime(2026, 1, 1, tzinfo=UTC))
    trial, bins = np.nonzero(planted())
    file.add_unit(id=1, spike_times=np.sort(trial * 0.5 + bins * 0.001))
    file.add_unit(id=2, spike_times=[0.5])
    for start in range(40):
        file.add_trial(start_time=0.5 * start, stop_time=0.5 * start + 0.4)
    with pynwb.NWBHDF5IO("a.nwb", "w") as io:
        io.write(file)
    arguments = ["a.nwb", "-o", "m.safetensors", "--unit", "1", "--n-events", "4", "--nwb", "out.nwb"]
    said = spikes_json(capsys, *arguments, *FAST)
    assert (said["n_trials"], said["n_bins"], said["n_spikes"]) == (40, 400, len(bins))
    assert np.abs(np.array(said["onsets"]) - ONSETS).max() <= 8
    onsets = np.array(said["event_times"])
    np.testing.assert_allclose(onsets, 0.5 * np.arange(40)[:, None] + said["onset_times"])
    with pynwb.NWBHDF5IO("out.nwb", "r") as io:
        module = io.read().processing["calepin"]
        assert module["units"]["verdict"][0] == said["verdict"]
        np.testing.assert_allclose(module["events"]["time"][:], onsets.ravel())
    assert main(["spikes", "a.nwb", "-o", "m.safetensors"]) == 2
    assert "unit: expected the id of one of 2 units: 1, 2" in capsys.readouterr().err


@pytest.mark.data
def test_movement_trials_run_and_a_person_sees_a_table(capsys, public_data):
    path = public_data / "spikes" / "movement_trials" / "10_spikes-1.mat"
    arguments = ["-o", "m.safetensors", "--order", "8", "--n-events", "5", "--n-rounds", "1"]
    assert main(["spikes", str(path), *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "50 trials (30 for training) of 2000 bins of 1 ms, 4696 spikes, Binomial" in out
    assert "bits/spike" in out
    assert len([line for line in out.splitlines() if line.startswith(("constant", "GLM", "events"))]) == 3


@pytest.mark.data
def test_the_unit_of_the_background_page_gets_the_lines_printed_there(capsys, public_data):
    page = (Path(__file__).parents[2] / "docs" / "background" / "spikes.md").read_text()
    (command,) = re.findall(r"^\$ calepin (spikes .*)$", page, re.MULTILINE)
    (printed,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert main(shlex.split(command.replace("$CALEPIN_DATA", str(public_data)))) == 0
    assert capsys.readouterr().out.startswith(printed)


@pytest.mark.filterwarnings("default:no trial is held out")
def test_a_single_trial_is_its_own_test_and_that_is_said(capsys):
    np.save("a.npy", planted().reshape(1, -1)[:, :4000])
    assert main(["spikes", "a.npy", "-o", "m.safetensors", "--n-events", "3", *FAST]) == 0
    assert "no trial is held out" in capsys.readouterr().err


def test_bad_input_is_one_line(capsys):
    counts = planted()
    np.save("a.npy", counts)
    np.save("zero.npy", 0 * counts)
    np.save("ones.npy", 0 * counts + 1)
    np.save("half.npy", 0.5 * counts)
    savemat("b.mat", {"direction": [1]})
    for arguments, message in [
        (["a.npy", "-o", "m.npz"], "expected a name that ends in .safetensors"),
        (
            ["a.npy", "-o", "m.safetensors", "--kernel-size", "401"],
            "expected an integer from 1 to 400",
        ),
        (
            ["a.npy", "-o", "m.safetensors", "--train", "3:99"],
            "expected A:B with 0 <= A < B <= 40, got 3:99",
        ),
        (["a.npy", "-o", "m.safetensors", "--baseline", "x"], "--baseline: expected A:B in whole numbers"),
        (
            ["a.npy", "-o", "m.safetensors", "--baseline", "9:9"],
            "baseline: expected A:B with 0 <= A < B <= 400",
        ),
        (["none.nwb", "-o", "m.safetensors", "--window", "2-1"], "--window: expected A:B in seconds"),
        (["zero.npy", "-o", "m.safetensors"], "data: expected spikes in bins 0:400, got 0 per bin"),
        (["ones.npy", "-o", "m.safetensors"], "data: expected bins without spikes in 0:400, got a spike in"),
        (["half.npy", "-o", "m.safetensors"], "expected whole numbers"),
        (["b.mat", "-o", "m.safetensors"], "expected the variable train, or y with idxtr or idxts"),
        (["no.mat", "-o", "m.safetensors"], "no such file: no.mat"),
    ]:
        assert main(["spikes", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert err.count("\n") == 1


def test_covariates_of_a_table_keep_their_names(capsys):
    time = np.arange(400)
    drive = np.column_stack([np.sin(time / 15), np.cos(time / 40)])
    np.save("a.npy", simulate_spikes(40, 400, drive=drive @ [1.5, 0.0], baseline=-3).counts)
    Path("s.csv").write_text("light, sound\n" + "\n".join(f"{a},{b}" for a, b in drive) + "\n")
    np.save("s.npy", drive)
    arguments = ["a.npy", "-o", "m.safetensors", "--n-events", "1", *FAST]
    said = spikes_json(capsys, *arguments, "--stimulus", "s.csv")
    assert list(said["stimulus"]) == ["light", "sound"]
    for name, truth in (("light", 1.5), ("sound", 0.0)):
        weight = said["stimulus"][name]
        assert abs(weight["weight"] - truth) < 3 * weight["standard_error"] < 0.5
    assert said["models"]["GLM"]["n_parameters"] == 1 + 2 + 3
    assert said["models"]["GLM"]["bits_per_spike"] > 0.3
    table = pytest.importorskip("pandas").read_csv("s.csv", skipinitialspace=True)
    session = analyse_spikes(read_spikes("a.npy"), stimulus=table, kernel_size=40, n_events=1, order=3)
    assert session.summary()["stimulus"] == said["stimulus"]
    again = spikes_json(capsys, *arguments, "--stimulus", "s.npy")
    assert list(again["stimulus"].values()) == list(said["stimulus"].values())
    assert main(["spikes", *arguments, "--stimulus", "s.csv"]) == 0
    assert "light" in capsys.readouterr().out


def test_a_stimulus_that_does_not_fit_is_one_line(capsys):
    np.save("a.npy", planted())
    rows = "\n".join(f"{n},{n * n}" for n in range(1000))
    Path("fast.csv").write_text(f"x,y\n{rows}\n")
    Path("nameless.csv").write_text(f"{rows}\n")
    Path("word.csv").write_text("x,y\n1,2\n3,left\n")
    Path("ragged.csv").write_text("x,y\n1,2\n3\n")
    np.save("cube.npy", np.zeros((2, 3, 4)))
    for name, message in [
        ("fast.csv", "stimulus: expected a row for each of the 400 bins of a trial, got 1000: 2.5 a bin, is"),
        ("nameless.csv", "has no header"),
        ("word.csv", "could not convert string to float: 'left'"),
        ("ragged.csv", "expected rows of 2 numbers"),
        ("cube.npy", "expected a stimulus (n_bins,) or (n_bins, p), got float64 (2, 3, 4)"),
        ("s.txt", "no such file: s.txt"),
        ("a.npy", "stimulus: expected a row for each of the 400 bins of a trial, got 40"),
    ]:
        assert main(["spikes", "a.npy", "-o", "m.safetensors", "--stimulus", name, *FAST]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "options", "refused"),
    [
        ("a.npy", ["--coder", "pursuit", "--alpha", "0.1"], "--alpha"),
        ("a.npy", ["--variable", "y"], "--variable"),
        ("a.nwb", ["--variable", "y"], "--variable"),
        ("a.npy", ["--align", "cue"], "--align"),
        ("a.csv", ["--lists", "units"], "--lists"),
        ("a.nwb", ["--time-unit", "ms"], "--time-unit"),
        ("a.npy", ["--nwb", "b.nwb"], "--nwb"),
        ("a.nwb", ["--align", "cue", "--cues", "c.txt"], "--align"),
    ],
)
def test_an_option_that_does_nothing_is_refused_by_name(capsys, file, options, refused):
    assert main(["spikes", file, "-o", "m.safetensors", *options]) == 2
    assert f"Invalid value for {refused}: has " in capsys.readouterr().err


def test_all_units_have_a_row_a_model_and_a_section_and_empty_ones_are_named(capsys):
    counts = planted()
    np.save("a.npy", np.stack([counts, 0 * counts, np.random.default_rng(0).binomial(1, 0.02, counts.shape)]))
    arguments = [
        "a.npy",
        "-o",
        "m.safetensors",
        "--unit",
        "all",
        "--n-events",
        "4",
        "--window",
        "-0.1:0.3",
        *FAST,
    ]
    assert main(["spikes", *arguments, "--figure", "f.png", "--report", "r.html"]) == 0
    out = capsys.readouterr().out
    assert "4 events: +" in out
    assert "no events: " in out
    assert "empty: no spikes in the trials" in out
    assert "without spikes: 1" in out
    assert EventModel.load("m-0.safetensors").t0 == -0.1
    assert sorted(path.name for path in Path().glob("*-*")) == [
        "f-0.png", "f-2.png", "m-0.safetensors", "m-2.safetensors"
    ]  # fmt: skip
    page = Path("r.html").read_text()
    assert "<h2" in page
    assert "Unit 0" in page
    assert "Unit 2" in page
    said = spikes_json(capsys, *arguments)
    assert said["units"]["0"]["verdict"].startswith("4 events")
    assert said["refused"] == {"1": "empty: no spikes in the trials"}
    assert main(["spikes", "a.npy", "-o", "m.safetensors"]) == 2
    assert "unit: expected the id of one of 3 units: 0, 1, 2" in capsys.readouterr().err


def test_python_does_in_three_lines_what_the_command_does(capsys):
    np.save("a.npy", planted())
    said = spikes_json(capsys, "a.npy", "-o", "m.safetensors", "--n-events", "4", *FAST)
    session = analyse_spikes(read_spikes("a.npy"), kernel_size=40, n_events=4, order=3)
    session.model.save("b.safetensors")
    assert session.summary() == {name: said[name] for name in session.summary()}
    np.testing.assert_array_equal(
        EventModel.load("b.safetensors").filter, EventModel.load("m.safetensors").filter
    )
