"""The table of the papers' items: what it names exists, and its verdicts are those of the stored results."""

import importlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from calepin.experiments import Item
from calepin.experiments.coverage import rows
from calepin.experiments.stored import stored
from calepin_papers import EXPERIMENTS, ITEMS

ROOT = Path(__file__).parents[2]
SCALES = ("quick", "paper")


def kept(name):
    found = [stored(EXPERIMENTS[name], scale) for scale in SCALES]
    return [run | {"scale": one["scale"]} for one in found if one for run in one["runs"]]


def is_public(name):
    module, _, attribute = name.rpartition(".")
    return hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{item.paper}, {item.item}")
def test_what_an_item_names_exists(item):
    if item.where in EXPERIMENTS:
        names = {name for run in kept(item.where) for name in run["values"]}
        claims = {claim["claim"] for run in kept(item.where) for claim in run["claims"]}
        if not names:
            pytest.skip(f"no stored results of {item.where}")
        assert set(item.values) <= names
        for claim in item.claims:
            assert any(one.startswith(claim) for one in claims), claim
    elif item.where:
        assert not item.values
        assert not item.claims
        assert (ROOT / item.where).exists() or (item.where.startswith("calepin.") and is_public(item.where))


@pytest.mark.parametrize(
    "item", [i for i in ITEMS if i.verdict == "holds"], ids=lambda i: f"{i.paper}, {i.item}"
)
def test_a_verdict_that_an_item_holds_is_that_of_every_stored_seed(item):
    if item.where not in EXPERIMENTS:
        return  # a test of the suite, which fails by itself
    assert item.claims
    assert all(row.held == row.n_claims for row in rows([item], {item.where: kept(item.where)}))


def test_stored_results_are_those_of_the_settings_of_today():
    old = [
        f"{name}-{scale}"
        for name, experiment in EXPERIMENTS.items()
        for scale in SCALES
        if (one := stored(experiment, scale)) and one["settings"] != as_json(getattr(experiment, scale))
    ]
    assert old == []


def as_json(settings):
    return json.loads(json.dumps(asdict(settings)))


@pytest.mark.parametrize("verdict", ["differs", "missing", "does not hold", "quoted", "holds in part"])
def test_a_verdict_that_does_not_speak_for_itself_has_a_reason(verdict):
    with pytest.raises(ValueError, match="because: expected the reason"):
        Item("paper", "Fig. 1", "says", "somewhere", verdict)


def test_what_is_missing_is_nowhere_and_the_rest_somewhere():
    with pytest.raises(ValueError, match="where: expected a place"):
        Item("paper", "Fig. 1", "says", "", "holds")
    with pytest.raises(ValueError, match="where: expected a place"):
        Item("paper", "Fig. 1", "says", "somewhere", "missing", because="reason")


def test_every_experiment_reproduces_an_item_of_its_paper():
    named = {item.where for item in ITEMS}
    assert [name for name in EXPERIMENTS if name not in named and not name.startswith("classical-")] == []


def test_a_value_is_shown_at_the_scales_that_have_it():
    runs = [
        {"scale": scale, "seed": 0, "values": values, "claims": []}
        for scale, values in (("paper", {"a": 0.1, "b": 0.2}), ("quick", {"a": 0.3, "c": None}))
    ]
    item = Item("paper", "Fig. 1", "says", "somewhere", "holds", values=("a", "b", "c"))
    (row,) = rows([item], {"somewhere": runs})
    assert row.ours == "a 0.1 [paper], 0.3 [quick]; b 0.2 [paper]; c not finite [quick]"
