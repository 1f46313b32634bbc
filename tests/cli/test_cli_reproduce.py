"""``calepin reproduce`` runs what is asked for, shows the claims, and its status tells whether they hold."""

import importlib
import json
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import calepin.experiments.experiment
from calepin.cli import main
from calepin.experiments import Claim, Experiment, Findings


@dataclass(frozen=True)
class Settings:
    bar: float


def measure(settings, run):
    run.progress(1.0, "done")
    return Findings({"seed": run.seed}, [Claim("seed at most the bar", run.seed, "<=", settings.bar)])


def raises(settings, run):
    raise FileNotFoundError("set12 is needed: set CALEPIN_DATA to the folder\nwith the test sets")


@pytest.fixture(autouse=True)
def toys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {}
    for name, bar, function in [("toy-a", 5, measure), ("toy-b", 1, measure), ("needs-data", 1, raises)]:
        known[name] = Experiment(name, f"shows {name}", "Fig. 1", Settings(bar), Settings(100), function)
    monkeypatch.setattr(calepin.experiments.experiment, "installed", lambda: known)
    return known


def result(folder, name):
    return json.loads((Path(folder) / name / "result.json").read_text())


def test_claims_that_hold_give_status_0_and_a_table(capsys):
    assert main(["reproduce", "toy-a", "--seed", "3", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "toy-a (quick, seed 3, cpu)" in out
    assert "<= 5" in out
    assert "yes" in out
    assert result("results", "toy-a")["claims"][0]["holds"] is True


def test_a_claim_that_fails_gives_status_1_and_says_so(capsys):
    assert main(["reproduce", "toy-*", "--seed", "3", "--out", "runs/today"]) == 1
    out = capsys.readouterr().out
    assert "NO" in out
    assert result("runs/today", "toy-a")["claims"][0]["holds"] is True
    assert result("runs/today", "toy-b")["claims"][0]["holds"] is False


def test_scale_and_json(capsys):
    assert main(["reproduce", "toy-b", "--seed", "3", "--scale", "paper", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"results": [result("results", "toy-b")]}
    assert said["results"][0]["settings"] == {"bar": 100}


def test_an_experiment_that_cannot_run_does_not_keep_the_others_from_running(capsys):
    assert main(["reproduce", "needs-data", "toy-a"]) == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert err.startswith("calepin: error: needs-data: set12 is needed: set CALEPIN_DATA")
    assert "toy-a" in out
    assert main(["reproduce", "needs-data", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("calepin: error: set12 is needed")


def test_the_list_has_every_name(capsys):
    assert main(["reproduce", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("toy-a", "toy-b", "needs-data"))
    assert main(["reproduce", "--list", "toy-*", "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)["experiments"]]
    assert names == ["toy-a", "toy-b"]


def test_quiet_says_nothing_and_the_status_still_tells(capsys):
    assert main(["reproduce", "toy-b", "--seed", "3", "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_gpu_that_is_not_there_is_refused(capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["reproduce", "toy-a", "--device", "cuda"]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_a_file_is_no_folder_for_runs(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["reproduce", "toy-a", "--out", str(tmp_path / "file")]) == 2
    assert "--out: expected a folder, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        ["--scale", "quick"],
        ["--seed", "0"],
        ["--seeds", "2"],
        ["--device", "cpu"],
        ["--out", "a"],
        ["--no-resume"],
        ["--report", "a.html"],
        ["--all"],
        ["--check"],
        ["--store"],
        ["--stored"],
    ],
)
def test_an_option_of_a_run_is_refused_with_a_list(capsys, option):
    assert main(["reproduce", "--list", *option]) == 2
    assert f"Invalid value for {option[0]}: has no effect with --list" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--seed", "0"], ["--check"], ["--store"], ["--no-resume"], ["--out", "a"]]
)
def test_an_option_of_a_run_is_refused_where_nothing_runs(capsys, option):
    assert main(["reproduce", "toy-a", "--stored", *option]) == 2
    assert f"Invalid value for {option[0]}: has no effect with --stored" in capsys.readouterr().err


def test_names_and_all_exclude_each_other(capsys):
    assert main(["reproduce", "--all", "toy-a"]) == 2
    assert "name experiments or use --all, not both" in capsys.readouterr().err


def test_all_runs_all(capsys):
    assert main(["reproduce", "--all", "--seed", "1"]) == 1  # one of them needs data
    assert [path.name for path in sorted(Path("results").glob("*/result.json"))] == ["result.json"] * 2


def test_several_seeds_have_a_folder_each(capsys):
    assert main(["reproduce", "toy-b", "--seed", "1", "--seeds", "2"]) == 1
    out = capsys.readouterr().out
    assert "toy-b (quick, seed 1, cpu)" in out
    assert "toy-b (quick, seed 2, cpu)" in out
    assert [result(f"results/seed-{seed}", "toy-b")["seed"] for seed in (1, 2)] == [1, 2]


def pieces(settings, run):
    piece = run.piece("only", lambda: {"x": time.perf_counter()})
    return Findings({"x": piece["x"]}, [])


def test_a_run_goes_on_with_its_pieces_unless_told_otherwise(capsys, toys):
    toys["pieces"] = Experiment("pieces", "shows pieces", "", Settings(0), Settings(0), pieces)
    first, again, anew = (
        (main(["reproduce", "pieces", *option]), result("results", "pieces")["values"])[1]
        for option in ([], [], ["--no-resume"])
    )
    assert first == again != anew
    assert "1 pieces from an earlier run" in capsys.readouterr().out


@pytest.fixture
def package(tmp_path, monkeypatch, toys):
    """Return a function that stores results in a package, which the toys become experiments of."""
    folder = tmp_path / "toy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("ITEMS = ()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(Experiment, "package", "toy_package")
    monkeypatch.delitem(sys.modules, "toy_package", raising=False)
    importlib.invalidate_caches()
    return folder / "results"


def test_stored_results_are_compared(capsys, package, toys):
    assert main(["reproduce", "toy-a", "--seeds", "2", "--store"]) == 0
    kept = json.loads((package / "toy-a-quick.json").read_text())
    assert [run["seed"] for run in kept["runs"]] == [0, 1]
    assert main(["reproduce", "toy-a", "--seeds", "2", "--check"]) == 0
    assert "2 of 2 values and claims are as stored" in capsys.readouterr().out
    kept["runs"][0]["values"]["seed"] = 7.0
    (package / "toy-a-quick.json").write_text(json.dumps(kept))
    assert main(["reproduce", "toy-a", "--check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["deviations"] == ["toy-a, seed 0, seed: stored 7, new 0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy-b"], "toy-b: no results are stored at quick scale"),
        (["toy-a", "--seed", "4"], "no results are stored for seed 4, there are 0"),
        (["toy-a", "--scale", "paper"], "toy-a: no results are stored at paper scale"),
    ],
)
def test_a_comparison_with_nothing_says_so(capsys, package, arguments, message):
    assert main(["reproduce", "toy-a", "--store", "-q"]) == 0
    assert main(["reproduce", "--check", "-q", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_results_of_other_settings_are_not_compared_and_are_replaced(capsys, package, toys):
    assert main(["reproduce", "toy-a", "--store", "-q"]) == 0
    toys["toy-a"] = replace(toys["toy-a"], quick=Settings(6))
    assert main(["reproduce", "toy-a", "--check", "-q"]) == 2
    assert "the stored results had other settings" in capsys.readouterr().err
    assert main(["reproduce", "toy-a", "--seed", "1", "--store", "-q"]) == 0
    kept = json.loads((package / "toy-a-quick.json").read_text())
    assert [run["seed"] for run in kept["runs"]] == [1]


def test_stored_results_are_shown_without_a_run(capsys, package):
    assert main(["reproduce", "toy-a", "--store", "-q"]) == 0
    shutil.rmtree("results")
    assert main(["reproduce", "--all", "--stored"]) == 1
    out, err = capsys.readouterr()
    assert "stored; commit" in out
    assert "calepin: error: toy-b: no results are stored at quick scale" in err
    assert not Path("results").exists()
