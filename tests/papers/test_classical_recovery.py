"""The first experiment in miniature: what it measures, from which starts, and that its seed decides all."""

from dataclasses import replace

import pytest

from calepin.datasets import read_image
from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.classical import recovery
from calepin_papers.classical.recovery import CLASSICAL_RECOVERY, Settings

TINY = Settings(n_samples=2000, n_draws=2, near_passes=2, data_passes=6, online_batch=100)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    reported = []
    result = perform(
        replace(CLASSICAL_RECOVERY, quick=TINY), folder, seed=4, progress=lambda *a: reported.append(a)
    )
    return result, folder, reported


def test_it_is_registered():
    assert find(["classical-*"], EXPERIMENTS) == [CLASSICAL_RECOVERY]


def test_the_start_is_near_the_truth_but_not_the_truth(outcome):
    # 1 / log 50 is .256; atoms and start drawn from one stream of numbers would give 0.
    assert 0.22 < outcome[0]["values"]["error_start"] < 0.28


@pytest.mark.parametrize("rule", ["ksvd", "mod", "online", "noodl"])
def test_every_rule_comes_nearer_to_the_truth(outcome, rule):
    values = outcome[0]["values"]
    assert values[f"error_{rule}_min"] <= values[f"error_{rule}"] <= values[f"error_{rule}_max"] < 0.1


@pytest.mark.parametrize("rule", ["ksvd", "mod", "online"])
def test_from_samples_most_atoms_are_found(outcome, rule):
    values = outcome[0]["values"]
    assert 0.4 < values[f"recovered_{rule}_min"] <= values[f"recovered_{rule}"] <= 1


def test_rules_that_do_not_learn_break_every_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(recovery, "train", lambda rule, batches, state, max_iter: state)
    tiny = replace(TINY, n_draws=1, n_samples=500, near_passes=1, data_passes=1)
    result = perform(replace(CLASSICAL_RECOVERY, quick=tiny), tmp_path, seed=4)
    assert len(result["claims"]) == 7
    assert not any(claim["holds"] for claim in result["claims"])


def test_figures_are_there_and_progress_was_reported(outcome):
    result, folder, reported = outcome
    assert result["figures"] == ["convergence-near.png", "convergence-data.png"]
    for name in result["figures"]:
        assert read_image(folder / "classical-recovery" / name).pixels.std() > 0.05
    parts = [part for part, _ in reported]
    assert parts == sorted(parts)
    assert len(parts) == 14


def test_the_seed_decides_everything(outcome, tmp_path):
    experiment = replace(CLASSICAL_RECOVERY, quick=TINY)
    assert perform(experiment, tmp_path, seed=4)["values"] == outcome[0]["values"]
    other = replace(TINY, n_draws=1, near_passes=1, data_passes=1)
    assert (
        perform(replace(experiment, quick=other), tmp_path, seed=5)["values"]["error_start"]
        != (outcome[0]["values"]["error_start"])
    )
