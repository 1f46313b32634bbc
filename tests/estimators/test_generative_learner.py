"""The learner under a generative prior: conventions, recovery, files, and what it refuses."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

from calepin import FileFormatError, GenerativeDictionaryLearner
from calepin.estimators import UnderdeterminedWarning
from calepin.generators import GroupSparse, PolynomialSine, Sine, truncate

SINE = Sine(2, 8, dtype=torch.float64)


def samples(n=150, m=24, seed=0, noise=0.0):
    draw = torch.Generator().manual_seed(seed)
    atoms = torch.randn(8, m, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    z = torch.randn(n, 2, generator=draw, dtype=torch.float64)
    return (SINE(z) @ atoms + noise * torch.randn(n, m, generator=draw, dtype=torch.float64)).numpy()


def learner(**options):
    return GenerativeDictionaryLearner(SINE, **({"random_state": 0, "n_starts": 6} | options))


def curve(z):
    return torch.cat([z, torch.sin(2 * z), z * z], 1)


# a function: of a module with the same tensors joblib makes another hash each time; its own names of
# tests, since those of parametrize_with_checks hold the address of the function
CHECKED = GenerativeDictionaryLearner(curve, latent_dim=1, max_iter=2, n_starts=2, random_state=0)


@pytest.mark.filterwarnings("ignore::calepin.estimators.UnderdeterminedWarning")
@pytest.mark.parametrize(
    ("estimator", "check"),
    list(estimator_checks_generator(CHECKED)),
    ids=lambda value: value.func.__name__ if isinstance(value, partial) else type(value).__name__,
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("rule", ["least-squares", "algorithm1"])
def test_a_learned_layer_explains_new_samples(rule):
    X, test = samples(), samples(seed=1)
    start = np.random.default_rng(5).normal(size=(8, 24)) * 0.3
    fitted = learner(rule=rule, max_iter=12, tol=0).fit(X)
    begun = learner(rule=rule, max_iter=1, tol=0, init=start).fit(X)
    assert fitted.score(test) > begun.score(test)
    assert fitted.score(test) > -0.3 * 0.5 * (test**2).sum(1).mean()
    assert fitted.n_iter_ == len(fitted.history_) == 12
    assert fitted.history_[-1]["objective"] < fitted.history_[0]["objective"]


def test_evidence_is_a_ridge_too():
    fitted = learner(ridge="evidence").fit(samples())
    assert fitted.score(samples(seed=1)) > -0.5 * float((samples(seed=1) ** 2).sum(1).mean())


def test_latents_make_the_samples():
    X = samples()
    fitted = learner().fit(X)
    Z = fitted.transform(X)
    assert Z.shape == (150, 2)
    made = fitted.inverse_transform(Z)
    np.testing.assert_allclose(made, SINE(torch.from_numpy(Z)).numpy() @ fitted.components_)
    assert fitted.score(X) == pytest.approx(-0.5 * ((X - made) ** 2).sum(1).mean())
    assert list(fitted.get_feature_names_out())[:1] == ["generativedictionarylearner0"]


def test_partial_fit_goes_on():
    streamed = learner()
    scores = []
    for seed in range(6):
        streamed.partial_fit(samples(40, seed=seed))
        scores.append(streamed.score(samples(seed=99)))
    assert streamed.n_iter_ == 6
    assert scores[-1] > scores[0]


def test_the_seed_decides_everything():
    X = samples(60)
    one, same, other = (learner(random_state=seed, max_iter=2).fit(X).components_ for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_few_samples_are_told_what_they_leave_open():
    with pytest.warns(UnderdeterminedWarning, match="5 samples determine A on 5 of the 8 directions"):
        fitted = learner().fit(samples(5))
    assert (fitted.n_determined_, fitted.n_directions_) == (5, 8)


def test_a_generator_of_few_directions_needs_few_samples():
    generator = GroupSparse(3, 20)
    z = np.abs(np.random.default_rng(0).normal(size=(12, 3)))
    X = generator(torch.from_numpy(z)).numpy() @ np.random.default_rng(1).normal(size=(20, 15))
    fitted = GenerativeDictionaryLearner(generator, random_state=0).fit(X)
    assert fitted.n_determined_ == fitted.n_directions_ == 3


@pytest.mark.parametrize(
    "generator",
    [PolynomialSine(2), truncate(nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 3)), 2)],
)
def test_a_file_gives_learner_and_generator_back(tmp_path, generator):
    X = samples(40)
    fitted = GenerativeDictionaryLearner(generator, random_state=0, max_iter=3).fit(X)
    fitted.save(tmp_path / "model.safetensors")
    again = GenerativeDictionaryLearner.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    assert again.history_ == fitted.history_
    assert again.partial_fit(X).components_.shape == fitted.components_.shape


def test_a_stranger_has_to_be_given_again(tmp_path):
    def stranger(z):
        return torch.cat([z, z.square(), z.sin()], 1)

    fitted = GenerativeDictionaryLearner(stranger, latent_dim=2, random_state=0, max_iter=2).fit(samples(40))
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    with pytest.raises(ValueError, match="generator: expected one"):
        GenerativeDictionaryLearner.load(path)
    with pytest.raises(ValueError, match="was learned with, got another"):
        GenerativeDictionaryLearner.load(path, generator=lambda z: torch.cat([z, z, z], 1))
    again = GenerativeDictionaryLearner.load(path, generator=stranger)
    np.testing.assert_array_equal(again.transform(samples(9)), fitted.transform(samples(9)))
    (tmp_path / "other.safetensors").write_bytes(b"no")
    with pytest.raises(FileFormatError):
        GenerativeDictionaryLearner.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "newton"}, "rule: expected one of"),
        ({"n_starts": 0}, "n_starts"),
        ({"batch_size": 0}, "batch_size"),
        ({"tol": -1}, "tol"),
        ({"ridge": -1.0}, "ridge"),
        ({"rule": "altmin", "ridge": 5.0}, "ridge: expected the default 1.0 with rule 'altmin'"),
        ({"init": "zeros"}, "init: expected"),
        ({"init": np.zeros((3, 3))}, r"init: expected finite atoms of shape \(8, 24\)"),
        ({"prior": -1.0}, "prior"),
        ({"latent_dim": 7}, "latent_dim"),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        learner(**options).fit(samples(30))


def test_bad_generators_and_latents_are_named():
    with pytest.raises(ValueError, match="at most the 1 features"):
        learner().fit(samples(30)[:, :1])
    with pytest.raises(ValueError, match="finite coefficients"):
        GenerativeDictionaryLearner(lambda z: z * torch.nan, latent_dim=2).fit(samples(30))
    with pytest.raises(ValueError, match="Z: expected shape"):
        learner(max_iter=1).fit(samples(30)).inverse_transform(np.zeros((4, 3)))


def test_clones_are_unfitted_twins():
    assert not hasattr(clone(learner().fit(samples(30))), "components_")
