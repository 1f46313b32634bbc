"""Several optimisers, and data with noise, in miniature: what holds there, and what breaks it."""

from dataclasses import replace

import pytest

from calepin.experiments import perform
from calepin_papers.pudle import noise, optimisers
from calepin_papers.pudle.noise import PUDLE_NOISE
from calepin_papers.pudle.optimisers import PUDLE_OPTIMISERS

LEARNING = optimisers.Settings(
    n_samples=300, n_draws=1, n_features=20, n_components=25, n_nonzero=2, n_epochs=60, n_passes=30,
    closeness=1.2, rates=(1e-2, 5e-3, 1.0, 1e-2), every=10, n_unfold=8,
)  # fmt: skip
NOISY = noise.Settings(
    n_samples=800, n_rate=10, n_draws=1, noise=(0.0, 0.1, 0.3), counts=(50, 400), n_unfold=240, every=20,
    n_features=30, n_components=40, n_nonzero=2,
)  # fmt: skip


def run(experiment, settings, folder):
    return perform(replace(experiment, quick=settings), folder, seed=1)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    return run(PUDLE_OPTIMISERS, LEARNING, tmp_path_factory.mktemp("optimisers"))["values"]


@pytest.mark.parametrize("name", ["adam", "rmsprop", "descent", "tangent"])
def test_ae_lasso_ends_nearer_to_the_lassos_atoms_and_ae_ls_to_the_truth(learned, name):
    assert learned[f"{name}_many_lasso_end_to_star"] < learned[f"{name}_many_lasso_end"]
    assert learned[f"{name}_many_ls_end"] < learned[f"{name}_many_ls_end_to_star"]


@pytest.mark.parametrize(("name", "part"), [("descent", 0.1), ("tangent", 0.4)])
def test_gradients_that_are_not_scaled_off_the_sphere_end_at_the_lassos_atoms(learned, name, part):
    assert learned[f"{name}_many_lasso_end_to_star"] < part * learned[f"{name}_many_lasso_end"]


def test_adam_on_normalised_atoms_does_not_end_at_the_lassos_atoms(learned):
    assert learned["adam_many_lasso_end_to_star"] > 3 * learned["tangent_many_lasso_end_to_star"]


def test_with_few_layers_ae_lasso_learns_better_than_dec(learned):
    for name in optimisers.OPTIMISERS:
        assert learned[f"{name}_few_lasso_lowest"] < learned[f"{name}_few_dec_lowest"]


def test_noise_leaves_the_comparison_of_the_gradients(tmp_path):
    result = run(PUDLE_NOISE, NOISY, tmp_path)
    assert [claim for claim in result["claims"] if not claim["holds"]] == []
    values = result["values"]
    assert "rate_ratio_noise0.3" not in values
    assert values["ls_over_lasso_noise0.3"] > 1  # more noise than the penalty removes
    assert values["ls_noise0"] < values["ls_noise0.1"] < values["ls_noise0.3"]
    assert values["truth_n400"] < values["truth_n50"]


def test_without_its_encoder_ae_ls_is_no_nearer_to_the_truth(tmp_path, monkeypatch):
    real = noise.dictionary_gradient
    monkeypatch.setattr(noise, "dictionary_gradient", lambda *a, **k: real(*a, **(k | {"gradient": "dec"})))
    values = run(PUDLE_NOISE, NOISY, tmp_path)["values"]
    assert values["ls_over_lasso_noise0"] == pytest.approx(1)
