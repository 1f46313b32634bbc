"""Running an experiment writes strict JSON that holds what was measured and whether claims hold."""

import ast
import importlib
import json
import re
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import calepin.experiments
import calepin.experiments.experiment
from calepin.experiments import Claim, Experiment, Findings, find, installed, perform
from calepin.experiments.experiment import ENTRY_POINT


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
    seen = []
    result = perform(experiment(), tmp_path, seed=1, progress=lambda *what: seen.append(what))
    assert seen == [(0.5, "half")]
    assert json.loads((tmp_path / "toy" / "result.json").read_text()) == result
    assert result["seconds"] >= 0
    assert "torch" in result["machine"]
    assert re.fullmatch(r"[0-9a-f]{12}[+]?", result["commit"] or "0" * 12)
    for of_this_machine in ("seconds", "machine", "commit", "date"):
        del result[of_this_machine]
    assert result == {
        "experiment": "toy",
        "scale": "quick",
        "seed": 1,
        "device": "cpu",
        "n_resumed": 0,
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


@pytest.fixture
def entries(monkeypatch, tmp_path):
    """Return a function that makes modules with experiments the only installed ones."""

    def install(**sources):
        offered = []
        for name, source in sources.items():
            module = f"{name}_of_test"
            (tmp_path / f"{module}.py").write_text(HEAD + source)
            monkeypatch.delitem(sys.modules, module, raising=False)
            offered.append(EntryPoint(name, f"{module}:EXPERIMENTS", ENTRY_POINT))
        importlib.invalidate_caches()
        monkeypatch.setattr(calepin.experiments.experiment, "entry_points", lambda group: offered)

    monkeypatch.syspath_prepend(tmp_path)
    return install


HEAD = """
from dataclasses import dataclass
from calepin.experiments import Experiment

@dataclass(frozen=True)
class Settings:
    n: int

def experiment(name):
    return Experiment(name, "a toy", "nowhere", Settings(1), Settings(2), measure=print)

"""


def mapping(*names):
    return "EXPERIMENTS = {" + ", ".join(f"{name!r}: experiment({name!r})" for name in names) + "}"


def test_every_installed_package_offers_its_experiments(entries):
    entries(second=mapping("d"), first=mapping("c", "b"))
    found = installed()
    assert list(found) == ["c", "b", "d"]
    assert found["b"].name == "b"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('half\\n  installed')", "RuntimeError: half installed"),
        ("import a_missing_module", "ModuleNotFoundError: No module named 'a_missing_module'"),
        ("", "AttributeError: .*EXPERIMENTS"),
        ("EXPERIMENTS = [experiment('x')]", "TypeError: expected a mapping of experiments by name, got list"),
        ("EXPERIMENTS = {'x': 3}", "TypeError: 'x': expected an Experiment of this name, got 3"),
        ("EXPERIMENTS = {'x': experiment('y')}", "TypeError: 'x': expected an Experiment of this name"),
        (mapping("a", "x"), "ValueError: a: another package has an experiment of this name"),
    ],
)
def test_a_broken_package_is_named_in_one_line_and_the_others_are_there(entries, source, reason):
    entries(a=mapping("a"), broken=source, c=mapping("c"))
    expected = rf"^experiments of broken \(broken_of_test:EXPERIMENTS\) are left out: {reason}"
    with pytest.warns(RuntimeWarning, match=expected) as seen:
        found = installed()
    assert list(found) == ["a", "c"]
    assert len(seen) == 1
    assert "\n" not in str(seen[0].message)


def test_the_papers_are_found_by_their_entry_point():
    from calepin_papers import EXPERIMENTS

    found = installed()
    assert EXPERIMENTS.items() <= found.items()


def test_the_mechanism_knows_no_experiment():
    for path in Path(calepin.experiments.__file__).parent.glob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        imported = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        assert not [name for name in imported if name.startswith("calepin_papers")]
