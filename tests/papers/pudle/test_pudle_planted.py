"""The experiments on planted dictionaries in miniature: what holds there already, and what is written."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from calepin.datasets import read_image
from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.pudle import distances, sparsity
from calepin_papers.pudle.distances import PUDLE_GLOBAL
from calepin_papers.pudle.distances import Settings as Distances
from calepin_papers.pudle.learning import PUDLE_LEARNING
from calepin_papers.pudle.learning import Settings as Learning
from calepin_papers.pudle.recovery import PUDLE_RECOVERY
from calepin_papers.pudle.recovery import Settings as Recovery
from calepin_papers.pudle.sparsity import PUDLE_SPARSITY, PUDLE_SPORCO

SMALL = {"n_draws": 2, "n_nonzero": 2}
TINY = {
    PUDLE_GLOBAL: Distances(
        n_features=30, n_components=40, n_samples=200, layers=(25, 80), n_passes=30, **SMALL
    ),
    PUDLE_LEARNING: Learning(
        n_features=20,
        n_components=25,
        n_samples=300,
        n_epochs=(30, 60),
        n_epochs_biased=30,
        learning_rate=1e-2,
        n_passes=20,
        layers=(8, 50),
        closeness=1.2,
        **SMALL,
    ),
    PUDLE_RECOVERY: Recovery(
        n_features=100,
        n_components=60,
        n_updates=150,
        n_unfold=30,
        learning_rate=4e-3,
        decay_every=10,
        every=50,
        **SMALL,
    ),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return folder, {e.name: perform(replace(e, quick=tiny), folder, seed=1) for e, tiny in TINY.items()}


def test_they_are_registered():
    assert {e.name for e in TINY} <= {e.name for e in find(["pudle-*"], EXPERIMENTS)}


def test_ae_ls_points_to_the_truth_and_ae_lasso_to_the_lassos_optimum(results):
    result = results[1]["pudle-global"]
    assert all(claim["holds"] for claim in result["claims"])
    values = result["values"]
    # with many layers dec and ae-lasso are one gradient
    assert values["dec_to_star"] == pytest.approx(values["lasso_to_star"], rel=0.02)
    assert values["error_star"] > 0.01


def test_with_few_layers_ae_lasso_beats_dec_and_with_many_ae_ls_beats_both(results):
    values = results[1]["pudle-learning"]["values"]
    assert values["t25_min_lasso"] < values["t25_min_dec"]
    assert values["t100_lasso"] == pytest.approx(values["t100_dec"], rel=0.1)
    assert values["t100_ls"] < 0.5 * values["t100_lasso"]
    # where they end: the lasso's optimal atoms, or the truth
    assert max(values["t100_dec_star_over_true"], values["t100_lasso_star_over_true"]) < 1
    assert values["t100_ls_star_over_true"] > 1.5


def test_decay_and_hard_thresholds_remove_the_bias_that_alternating_minimisation_has_most(results):
    values = results[1]["pudle-recovery"]["values"]
    assert values["err_ht"] < 0.2 * values["err_ls"]
    assert values["err_noodl"] < 0.2 * values["err_ls"]
    assert values["err_decay"] < 0.5 * values["err_ls"]
    assert values["err_ls"] < values["err_altmin"] < values["err_start"]


def test_gradients_of_the_decoder_alone_do_not_tell_the_truth_from_the_lassos_optimum(tmp_path, monkeypatch):
    real = distances.dictionary_gradient
    monkeypatch.setattr(
        distances, "dictionary_gradient", lambda *a, **k: real(*a, **(k | {"gradient": "dec"}))
    )
    experiment = replace(PUDLE_GLOBAL, quick=replace(TINY[PUDLE_GLOBAL], n_draws=1))
    assert not any(claim["holds"] for claim in perform(experiment, tmp_path, seed=1)["claims"])


def test_every_figure_shows_something(results):
    folder, found = results
    for name, result in found.items():
        for figure in result["figures"]:
            assert read_image(folder / name / figure).pixels.std() > 0.05


def test_sporco_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("CALEPIN_PEERS", raising=False)
    with pytest.raises(FileNotFoundError, match="sporco is needed: set CALEPIN_PEERS"):
        perform(PUDLE_SPORCO, tmp_path)


def test_what_another_program_learns_is_compared_with_the_truth(tmp_path, monkeypatch):
    """A program that returns its start does not learn: ae-ls is nearer to the truth."""
    lazy = tmp_path / "lazy.py"
    lazy.write_text("import sys, numpy as np\nnp.save(sys.argv[2], np.load(sys.argv[1])['atoms'])\n")
    monkeypatch.setenv("CALEPIN_PEERS", sys.executable)
    monkeypatch.setattr(sparsity, "PEER", str(lazy))
    quick = replace(PUDLE_SPORCO.quick, recovery=replace(TINY[PUDLE_RECOVERY], n_draws=1), n_nonzeros=(2,))
    values = perform(replace(PUDLE_SPORCO, quick=quick), tmp_path, seed=1)["values"]
    assert values["s2_sporco"] == pytest.approx(1 / np.log(100), rel=0.05)
    assert values["s2_ls"] < 0.2 * values["s2_sporco"]


def test_the_order_of_the_rules_holds_with_more_nonzeros(tmp_path):
    sizes = replace(TINY[PUDLE_RECOVERY], n_draws=1)
    result = perform(replace(PUDLE_SPARSITY, quick=sparsity.Settings(sizes, (3,))), tmp_path, seed=1)
    assert [claim for claim in result["claims"] if not claim["holds"]] == []
    assert result["figures"] == ["recovery-3.png"]
