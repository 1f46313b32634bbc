"""The experiments of unfolded learning in miniature."""

from dataclasses import replace

import pytest

from calepin.datasets import read_image
from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.pudle import convergence, errors
from calepin_papers.pudle.convergence import PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS, Settings

SMALL = {"n_features": 30, "n_components": 40, "n_nonzero": 2, "n_draws": 2}
TINY = {
    "pudle-code-convergence": Settings(n_samples=2, n_unfold=240, every=30, **SMALL),
    "pudle-gradients": Settings(n_samples=20, n_unfold=240, every=30, **SMALL),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder, reported = tmp_path_factory.mktemp("results"), []
    results = {
        e.name: perform(
            replace(e, quick=TINY[e.name]), folder, seed=2, progress=lambda part, text: reported.append(text)
        )
        for e in (PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS)
    }
    return results, folder, reported


def test_they_are_registered():
    assert {PUDLE_CODE_CONVERGENCE, PUDLE_GRADIENTS} <= set(find(["pudle-*"], EXPERIMENTS))


def test_the_claims_hold(outcome):
    for name, result in outcome[0].items():
        assert all(claim["holds"] for claim in result["claims"]), (name, result["claims"])


def test_codes_converge_and_jacobians_with_them(outcome):
    values = outcome[0]["pudle-code-convergence"]["values"]
    assert values["slope_code"] < 0
    assert values["slope_jacobian"] == pytest.approx(values["slope_code"], rel=0.15)
    assert values["n_fitted"] >= 3


def test_ae_lasso_has_twice_the_rate_and_ae_ls_a_bias(outcome):
    values = outcome[0]["pudle-gradients"]["values"]
    assert 1.7 <= values["slope_ratio"] <= 2.2
    assert values["ls_plateau"] > 1e-3


def test_without_back_propagation_through_the_encoder_no_claim_about_gradients_holds(tmp_path, monkeypatch):
    def decoder_alone(*args, **options):
        dec = errors.gradient_errors(*args, **options)["dec"]
        return {"dec": dec, "ae-lasso": dec, "ae-ls": dec}

    monkeypatch.setattr(convergence, "gradient_errors", decoder_alone)
    experiment = replace(PUDLE_GRADIENTS, quick=replace(TINY["pudle-gradients"], n_draws=1))
    assert not any(claim["holds"] for claim in perform(experiment, tmp_path, seed=2)["claims"])


def test_figures_are_there_and_progress_was_reported(outcome):
    results, folder, reported = outcome
    for name, result in results.items():
        for figure in result["figures"]:
            assert read_image(folder / name / figure).pixels.std() > 0.05
    assert len(reported) == 4


def test_the_seed_decides_everything(outcome, tmp_path):
    experiment = replace(PUDLE_GRADIENTS, quick=TINY["pudle-gradients"])
    assert perform(experiment, tmp_path, seed=2)["values"] == outcome[0]["pudle-gradients"]["values"]
    one = replace(experiment, quick=replace(experiment.quick, n_draws=1))
    assert perform(one, tmp_path, seed=3)["values"]["ls_plateau"] not in (
        perform(one, tmp_path, seed=2)["values"]["ls_plateau"],
        None,
    )
