"""The learning figures in miniature: baselines cut as they say, transforms transform, claims follow."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.experiments import perform
from calepin_papers.generative import mnist, synthetic
from calepin_papers.generative.baselines import KSVDBaseline, MODBaseline, reconstruct
from calepin_papers.generative.comparison import Comparison, Outcome
from calepin_papers.generative.digits import TRANSFORMS, digit_task, load
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


@pytest.mark.usefixtures("bundled")
def test_digits_of_machines_without_data(tmp_path):
    sizes = Comparison(1, 3, 0, 1, n_starts=1)
    task = digit_task(load(), "blur", 0, 0)
    assert task.atoms.shape == (100, 64)
    outcome, figures = mnist._compare("blur", sizes, _run(tmp_path))
    assert set(figures) == {"losses-blur.png", "images-blur.png"}
    assert outcome.last("least_squares") < np.linalg.norm(task.clean.numpy(), axis=1).mean()


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


def _run(folder):
    from calepin.experiments import Run

    return Run(0, "cpu", folder)
