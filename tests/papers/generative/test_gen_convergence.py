"""Algorithm 1 in miniature."""

from dataclasses import replace

import numpy as np
import pytest

from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.generative.convergence import GEN_CONVERGENCE, Settings, Variant, learn

TINY = Settings(n_draws=2, n_batch=200, n_iter=20)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return perform(replace(GEN_CONVERGENCE, quick=TINY), folder, seed=0), folder


def test_it_is_registered_and_its_claims_hold(outcome):
    assert find(["gen-convergence"], EXPERIMENTS) == [GEN_CONVERGENCE]
    assert all(claim["holds"] for claim in outcome[0]["claims"]), outcome[0]["claims"]


def test_the_figure_is_written(outcome):
    result, folder = outcome
    assert (folder / "gen-convergence" / result["figures"][0]).stat().st_size > 0


def test_every_run_starts_delta_close():
    assert learn(TINY, Variant(), 3)[0] == pytest.approx(TINY.delta)


def test_a_small_step_takes_its_share_of_a_whole_one():
    """To first order an error e becomes (1 - eta lambda) e: smaller steps are slower, not less far."""
    whole, small = (np.array(learn(TINY, Variant(eta=eta), 1)) for eta in (1.0, 0.08))
    assert (np.diff(small[1:]) < 0).all()
    assert whole[5] < small[5] < small[0]


def test_the_seed_decides_everything():
    assert learn(TINY, Variant(sigma=0.1), 2) == learn(TINY, Variant(sigma=0.1), 2)
