"""``calepin reproduce`` runs what is asked for, shows the claims, and its status tells whether they hold."""

import json
from dataclasses import dataclass
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


@pytest.mark.parametrize(
    "option",
    [["--scale", "quick"], ["--seed", "0"], ["--device", "cpu"], ["--out", "a"], ["--report", "a.html"]],
)
def test_an_option_of_a_run_is_refused_with_a_list(capsys, option):
    assert main(["reproduce", "--list", *option]) == 2
    assert f"Invalid value for {option[0]}: has no effect with --list" in capsys.readouterr().err
