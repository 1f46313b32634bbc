"""The shallow network's descent in miniature."""

from dataclasses import replace

import pytest

from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.dcea.sea import DCEA_SEA, Settings

TINY = Settings(n_samples=400, n_steps=16, n_seeds=2, n_features=24, n_nonzero=2, wide_features=64)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return perform(replace(DCEA_SEA, quick=TINY), folder, seed=1), folder


def test_it_is_registered():
    assert find(["dcea-s*a"], EXPERIMENTS) == [DCEA_SEA]


def test_the_distance_falls_to_a_floor_that_shrinks_with_the_codes(outcome):
    values = outcome[0]["values"]
    assert values["rate"] < 0.8
    assert values["floor_small"] < 0.25**2 * values["floor_large"] < 1e-4


def test_a_bias_that_stays_leaves_a_floor_whatever_the_codes(outcome):
    values = outcome[0]["values"]
    small, large = values["floor_fixed_bias_small"], values["floor_fixed_bias_large"]
    assert 0.5 < small / large < 2
    assert small > 10 * values["floor_relu_small"]


def test_its_figure_is_there_and_its_claims_have_numbers(outcome):
    result, folder = outcome
    assert (folder / "dcea-sea" / "descent.png").stat().st_size > 1000
    assert len(result["claims"]) == 10


def test_atoms_that_are_more_than_the_features_are_found_up_to_their_leak(outcome):
    values = outcome[0]["values"]
    assert max(values["rate_relu_wide_small"], values["rate_relu_wide_large"]) < 0.8
    assert max(values["floor_hard_wide_small"], values["floor_relu_wide_large"]) < 0.3 * 0.25
    small, large = values["floor_hard_wide_small"], values["floor_hard_wide_large"]
    assert 0.5 < small / large < 2
    assert small > 10 * values["floor_hard_small"]
