"""The learning figures in miniature: baselines cut as they say, transforms transform, claims follow."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.datasets import has_data
from calepin.experiments import perform
from calepin_papers.generative import mnist, synthetic
from calepin_papers.generative.baselines import KSVDBaseline, MODBaseline, reconstruct
from calepin_papers.generative.comparison import Comparison, Outcome
from calepin_papers.generative.digits import TRANSFORMS, load
from calepin_papers.generative.retrain import GEN_RETRAIN
from calepin_papers.generative.retrain import Settings as RetrainSettings

TINY = Comparison(1, 3, 1, 3, n_starts=4, ridge=0.1, n_sweeps=10, relative=True)


def test_with_dependent_coefficients_a_generator_beats_cut_codes(tmp_path):
    """Fig. 1a: the ordering that the paper claims, with its evaluation of sparse codes."""
    settings = replace(synthetic.GEN_DEPENDENCIES.quick, sizes=TINY, n_test=40)
    experiment = replace(synthetic.GEN_DEPENDENCIES, quick=settings)
    result = perform(experiment, tmp_path, seed=3)
    values, claims = result["values"], {claim["claim"]: claim for claim in result["claims"]}
    for method in ("least_squares", "autodiff", "altmin"):
        assert claims[f"{method} over mod_default"]["holds"]
    assert values["least_squares"] < 0.7 * values["mod_default"]


def test_a_ratio_compares_after_as_many_batches_and_in_the_same_draws():
    losses = {
        "mine": [np.array([8.0, 4.0])],
        "other": [np.array([1.0, 2.0, 100.0]), np.array([9.0, 9.0, 9.0])],
    }
    assert Outcome(losses).ratio("mine", "other") == 2


@pytest.fixture
def bundled(monkeypatch):
    """Run on scikit-learn's digits: small, and everywhere."""
    monkeypatch.delenv("CALEPIN_DATA", raising=False)


def test_with_groups_a_generator_beats_codes_however_fitted(tmp_path):
    """Fig. 1b, altmin and least squares."""
    sizes = Comparison(1, 5, 1, 4, ("altmin",), n_starts=1, ridge=0.01, relative=True)
    small = {"n_features": 150, "n_coefficients": 80, "n_groups": 3, "ordering": ()}
    experiment = replace(synthetic.GEN_GROUP, quick=replace(synthetic.GEN_GROUP.quick, sizes=sizes, **small))
    values = perform(experiment, tmp_path, seed=0)["values"]
    for other in ("mod_default", "ksvd_default", "mod_omp", "ksvd_omp"):
        assert values[f"least_squares_over_{other}"] < 0.8
        assert values[f"altmin_over_{other}"] < 0.9


@pytest.mark.skipif(not has_data("mnist"), reason="needs CALEPIN_DATA with MNIST")
@pytest.mark.parametrize(
    ("experiment", "transform", "bar"),
    [(mnist.GEN_MNIST_DENOISE, "none", 0.95), (mnist.GEN_MNIST_TRANSFER, "blur", 0.75)],
)
def test_a_layer_over_a_decoder_beats_cut_codes_but_not_fitted_ones(experiment, transform, bar, tmp_path):
    """Figs. 2 and 3 after four batches, without the slow methods."""
    settings = mnist.Settings(Comparison(1, 4, 0, 4, (), n_starts=1), {transform: ()})
    result = perform(replace(experiment, quick=settings), tmp_path, seed=0)
    ratio = {key.removeprefix("blur_"): value for key, value in result["values"].items()}
    assert ratio["least_squares_over_mod_default"] < bar
    assert ratio["least_squares_over_mod_omp"] > 1
    assert set(result["figures"]) == {f"losses-{transform}.png", f"images-{transform}.png"}


@pytest.mark.usefixtures("bundled")
def test_a_new_layer_does_better_than_a_network_from_scratch(tmp_path):
    experiment = replace(GEN_RETRAIN, quick=RetrainSettings(1, n_batches=4, max_passes=10))
    (claim,) = perform(experiment, tmp_path)["claims"]
    assert claim["value"] > 1.05


@pytest.mark.usefixtures("bundled")
def test_transforms_are_what_they_say():
    x = load().train[:20]
    draw = torch.Generator().manual_seed(0)
    images = x.view(-1, 8, 8)
    blurred = TRANSFORMS["blur"](x, draw).view(-1, 8, 8)
    torch.testing.assert_close(blurred[:, 3, 4], images[:, 2:5, 3:6].mean((1, 2)))
    torch.testing.assert_close(TRANSFORMS["flip"](x, draw).view(-1, 8, 8)[:, :, 0], images[:, :, 7])
    coloured = TRANSFORMS["recolour"](x, draw)
    assert coloured.min() >= 0
    assert coloured.max() <= 1
    assert not torch.equal(coloured, x)
    assert torch.equal(TRANSFORMS["none"](x, draw), x)


def test_codes_are_cut_rounded_or_left(rng):
    atoms = np.eye(20)
    y = rng.normal(size=(7, 20))
    made = reconstruct(y, atoms, 1)
    # two of twenty features are the default code of OMP; the larger of them is also that of OMP-1
    assert ((made["uncut"] != 0).sum(1) == 2).all()
    assert ((made["default"] != 0).sum(1) == 1).all()
    np.testing.assert_array_equal(made["default"], made["omp"])
    np.testing.assert_array_equal(made["omp"], np.round(made["omp"], 4))
    assert not np.array_equal(made["uncut"], np.round(made["uncut"], 4))


@pytest.mark.parametrize("kind", [MODBaseline, KSVDBaseline])
def test_baselines_learn_from_one_batch_after_another(rng, kind):
    truth = rng.normal(size=(6, 15))

    def samples():
        return 5 * (rng.normal(size=(40, 6)) * (rng.random((40, 6)) < 0.3)) @ truth

    def loss(atoms):
        return np.linalg.norm(test - reconstruct(test, atoms, 3)["omp"])

    test = samples()
    learner = kind(6, 0)
    for _ in range(12):
        learner.learn(samples())
    np.testing.assert_allclose(np.linalg.norm(learner.atoms, axis=1), 1)
    guess = rng.normal(size=(6, 15))
    assert loss(learner.atoms) < 0.6 * loss(guess / np.linalg.norm(guess, axis=1, keepdims=True))
