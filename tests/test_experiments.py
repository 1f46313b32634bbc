"""Running an experiment writes strict JSON that holds what was measured and whether claims hold."""

import json
from dataclasses import dataclass

import pytest

from calepin.experiments import Claim, Experiment, Findings, find, perform
from calepin_papers import EXPERIMENTS


@dataclass(frozen=True)
class Settings:
    n: int


def measure(settings, run):
    run.progress(0.5, "half")
    (run.folder / "line.png").write_bytes(b"png")
    value = settings.n + run.seed
    return Findings({"value": value}, [Claim("value at most 5", value, "<=", 5)], ["line.png"])


def experiment(name="toy", measure=measure):
    return Experiment(name, "a toy", "nowhere", quick=Settings(3), paper=Settings(30), measure=measure)


def test_the_result_file_holds_everything(tmp_path):
    told = []
    result = perform(experiment(), tmp_path, seed=1, progress=lambda *what: told.append(what))
    assert told == [(0.5, "half")]
    assert json.loads((tmp_path / "toy" / "result.json").read_text()) == result
    assert result["seconds"] >= 0
    del result["seconds"]
    assert result == {
        "experiment": "toy",
        "scale": "quick",
        "seed": 1,
        "device": "cpu",
        "settings": {"n": 3},
        "values": {"value": 4},
        "claims": [{"claim": "value at most 5", "value": 4, "relation": "<=", "bar": 5, "holds": True}],
        "figures": ["line.png"],
    }


def test_the_paper_scale_uses_its_own_settings(tmp_path):
    result = perform(experiment(), tmp_path, scale="paper")
    assert result["values"]["value"] == 30
    assert not result["claims"][0]["holds"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_becomes_null_and_nan_holds_no_claim(tmp_path, value):
    def broken(settings, run):
        return Findings({"v": value}, [Claim("a", value, "<=", 1), Claim("b", value, ">=", 1)])

    perform(experiment(measure=broken), tmp_path)

    def refuse(text):
        raise AssertionError(f"{text} is no JSON")

    result = json.loads((tmp_path / "toy" / "result.json").read_text(), parse_constant=refuse)
    assert result["values"] == {"v": None}
    assert [claim["value"] for claim in result["claims"]] == [None, None]
    assert [claim["holds"] for claim in result["claims"]] == [False, False]


def test_a_failed_run_leaves_the_older_result(tmp_path):
    perform(experiment(), tmp_path)
    before = (tmp_path / "toy" / "result.json").read_bytes()

    def fails(settings, run):
        raise ArithmeticError("diverged")

    with pytest.raises(ArithmeticError, match="diverged"):
        perform(experiment(measure=fails), tmp_path)
    assert (tmp_path / "toy" / "result.json").read_bytes() == before


def test_names_and_patterns_find_experiments_once_and_in_order():
    known = {name: experiment(name) for name in ("pudle-a", "pudle-b", "dcea-a")}
    assert [e.name for e in find(["dcea-a", "pudle-*", "pudle-b"], known)] == ["dcea-a", "pudle-a", "pudle-b"]
    with pytest.raises(
        ValueError, match="no experiment is called 'pudel': there are pudle-a, pudle-b, dcea-a"
    ):
        find(["pudel"], known)


def test_settings_must_be_values():
    with pytest.raises(TypeError, match="settings: expected dataclass values"):
        Experiment("toy", "a toy", "nowhere", quick={"n": 3}, paper=Settings(3), measure=measure)


def test_the_registry_is_keyed_by_name():
    assert EXPERIMENTS
    for name, entry in EXPERIMENTS.items():
        assert entry.name == name
        assert entry.shows
        assert entry.source
