"""The whisker experiment in miniature: simulated neurons, and what its values mean."""

from dataclasses import replace

import numpy as np
import pytest

from calepin.datasets import read_image
from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.dcea.whisker import DCEA_WHISKER, Settings, onset_recall

TINY = Settings(n_units=4, n_iter=100, n_rounds=2, orders=(6, 12), longest_delay=3)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CALEPIN_DATA", raising=False)
        return perform(replace(DCEA_WHISKER, quick=TINY), folder, seed=3), folder


def test_it_is_registered():
    assert find(["dcea-whisker"], EXPERIMENTS) == [DCEA_WHISKER]


def test_simulated_deflections_are_found_and_beat_the_regression(outcome):
    values = outcome[0]["values"]
    assert values["n_units"] == 4
    assert values["onset_recall"] > 0.9 > 0.5 > values["onset_recall_chance"]
    assert values["bcomp_onset_recall"] > 0.9
    assert values["nll_better_than_glm"] >= 0.8
    assert values["known_median_gain_bits"] > 0.25
    assert values["ks_model_min"] <= values["ks_model"] <= values["ks_model_max"]
    assert all(claim["holds"] for claim in outcome[0]["claims"])


def test_both_figures_are_written(outcome):
    result, folder = outcome
    assert result["figures"] == ["unit.png", "filters.png"]
    for name in result["figures"]:
        assert read_image(folder / "dcea-whisker" / name).pixels.std() > 0.05


def test_recall_allows_one_delay_for_all_onsets_and_no_more():
    true = 500 + 125 * np.arange(16)
    assert onset_recall(true + 40, true, tolerance=10, longest_delay=62) == 1
    assert onset_recall(true + 40, true, tolerance=10, longest_delay=20) == 0
    moved = true + np.where(np.arange(16) < 4, 30, 0)
    assert onset_recall(moved, true, tolerance=10, longest_delay=62) == 0.75
    assert onset_recall(true[:8], true, tolerance=10, longest_delay=62) == 0.5
