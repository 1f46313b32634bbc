"""The mean of the features: subtracted, kept, and named where it hides the atoms."""

import warnings

import numpy as np
import pytest

from calepin import DictionaryLearner, UnfoldedDictionaryLearner
from calepin.learning.batches import ArrayBatches
from calepin.learning.centring import feature_means

SETTINGS = {"alpha": 0.2, "max_iter": 3, "tol": 0, "random_state": 0}


@pytest.fixture
def offset():
    means = np.zeros(10)
    means[:3] = 20
    return means


@pytest.fixture
def X(rng):
    return rng.standard_normal((200, 10))


class Loader:
    def __init__(self, X, size=50):
        self.X, self.size = X, size

    def __iter__(self):
        return (self.X[start : start + self.size] for start in range(0, len(self.X), self.size))


@pytest.mark.parametrize("rule", ["online", "mod", "ksvd", "noodl"])
def test_centred_samples_are_learned_as_those_without_a_mean(rule, X, offset):
    X -= X.mean(0)
    plain = DictionaryLearner(12, rule=rule, **SETTINGS).fit(X)
    centred = DictionaryLearner(12, rule=rule, center=True, **SETTINGS).fit(X + offset)
    assert plain.mean_ is None
    np.testing.assert_allclose(centred.mean_, offset, atol=1e-12)
    np.testing.assert_allclose(centred.components_, plain.components_, atol=1e-8)
    codes = centred.transform(X + offset)
    np.testing.assert_allclose(codes, plain.transform(X), atol=1e-8)
    np.testing.assert_allclose(
        centred.inverse_transform(codes), codes @ plain.components_ + offset, atol=1e-12
    )
    assert centred.score(X + offset) == pytest.approx(plain.score(X))


def test_the_mean_is_kept_in_a_file_and_in_float32(X, offset, tmp_path):
    shifted = (X + offset).astype(np.float32)
    learner = DictionaryLearner(12, center=True, **SETTINGS).fit(shifted)
    assert learner.mean_.dtype == learner.transform(shifted).dtype == np.float32
    assert learner.inverse_transform(learner.transform(shifted)).dtype == np.float32
    learner.save(tmp_path / "d.safetensors")
    loaded = DictionaryLearner.load(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(loaded.mean_, learner.mean_)
    np.testing.assert_array_equal(loaded.transform(shifted), learner.transform(shifted))
    np.testing.assert_array_equal(loaded.partial_fit(shifted + 1).mean_, learner.mean_)


def test_a_resumed_centred_fit_equals_an_uninterrupted_one(X, offset, tmp_path):
    settings = {"center": True, "batch_size": 40, **SETTINGS}
    path = tmp_path / "run.safetensors"
    whole = DictionaryLearner(12, **settings).fit(X + offset)
    DictionaryLearner(12, checkpoint=path, **settings).fit(
        X + offset, callbacks=[lambda state: state.n_steps == 7]
    )
    resumed = DictionaryLearner(12, checkpoint=path, resume=True, **settings).fit(X + offset)
    np.testing.assert_array_equal(resumed.components_, whole.components_)
    plain = DictionaryLearner(12, checkpoint=path, resume=True, **settings | {"center": False})
    with pytest.raises(ValueError, match="center was True, now None"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        plain.fit(X + offset)


def test_the_mean_is_over_observed_entries(X, offset, rng):
    mask = rng.random(X.shape) > 0.3
    mask[:, 4] = False
    holes = np.where(mask, X + offset, np.nan)
    learner = DictionaryLearner(12, center=True, missing="allow", **SETTINGS).fit(holes)
    expected = np.append(np.nanmean(holes[:, :4], axis=0), 0)
    np.testing.assert_allclose(learner.mean_[:5], expected)
    by_mask = DictionaryLearner(12, center=True, **SETTINGS).fit(np.where(mask, holes, 1e9), mask=mask)
    np.testing.assert_array_equal(by_mask.components_, learner.components_)
    np.testing.assert_array_equal(by_mask.transform(holes, mask=mask), learner.transform(holes))


def test_streams_are_centred_by_their_first_mean(X, offset):
    learner = DictionaryLearner(12, center=True, **SETTINGS).fit(Loader(X + offset))
    np.testing.assert_allclose(learner.mean_, (X + offset).mean(0))
    with pytest.raises(ValueError, match="center: expected False for an iterator"):
        DictionaryLearner(12, center=True, **SETTINGS).fit(iter(Loader(X)))
    learner = DictionaryLearner(12, center=True, **SETTINGS).partial_fit(X[:50] + offset)
    learner.partial_fit(X[50:] - offset)
    np.testing.assert_allclose(learner.mean_, (X[:50] + offset).mean(0))


def test_the_mean_depends_on_neither_batches_nor_device(X):
    means = [
        feature_means(ArrayBatches(X, size, device=device)) for size in (7, 200) for device in (None, "cpu")
    ]
    for mean in means:
        np.testing.assert_allclose(mean, X.mean(0), atol=1e-14)


def test_given_atoms_have_no_mean(X):
    with pytest.raises(ValueError, match="center: expected none, because the components determine it"):
        DictionaryLearner.from_components(np.eye(10), center=True)
    with pytest.raises(ValueError, match="center: expected True or False, got 1"):
        DictionaryLearner(3, center=1).fit(X)


@pytest.mark.parametrize("kind", ["fit", "partial_fit", "stream"])
def test_means_that_hide_the_atoms_are_named(kind, X, offset):
    data = Loader(X + offset) if kind == "stream" else X + offset
    learner = DictionaryLearner(12, **SETTINGS)
    with pytest.warns(RuntimeWarning, match="means of the features have 1.* times .*: center=True"):
        learner.partial_fit(data) if kind == "partial_fit" else learner.fit(data)


def test_the_unfolded_learner_names_them_too(X, offset):
    learner = UnfoldedDictionaryLearner(12, alpha=0.2, max_iter=1, random_state=0)
    with pytest.warns(RuntimeWarning, match="the means of the features have .* subtract them from X"):
        learner.fit(X + offset)


def nonnegative(rng):
    atoms = rng.random((30, 40)) ** 3
    codes = rng.uniform(1, 2, (500, 30)) * (rng.random((500, 30)) < 0.1)
    return codes @ atoms


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (lambda rng: rng.standard_normal((500, 40)) + 1, {}),
        (lambda rng: rng.random((500, 40)), {}),
        (nonnegative, {}),
        (lambda rng: rng.random((500, 40)) + 9, {"nonnegative": True}),
        (lambda rng: rng.random((500, 40)) + 9, {"nonnegative_atoms": True}),
        (lambda rng: np.full((500, 40), 0.1), {}),
        (lambda rng: np.full((500, 40), 0.1, np.float32), {}),
        (lambda rng: rng.standard_normal((3, 40)) + 9, {}),
    ],
    ids=["deviation", "uniform", "nonnegative", "codes", "atoms", "constant", "float32", "few"],
)
def test_other_means_are_left_alone(make, settings, rng):
    DictionaryLearner(5, alpha=0.1, max_iter=1, random_state=0, **settings).fit(make(rng))
