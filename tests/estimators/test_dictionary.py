import copy
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from calepin import DictionaryLearner, FileFormatError, sparse_encode
from calepin.metrics.atoms import dictionary_error

RULES = ("online", "mod", "ksvd", "noodl")


@pytest.mark.filterwarnings("ignore:the means of the features")
@parametrize_with_checks(
    [
        DictionaryLearner(5, alpha=0.1, max_iter=3, random_state=0),
        DictionaryLearner(5, rule="ksvd", coder="omp", n_nonzero=1, max_iter=3, random_state=0),
        DictionaryLearner(4, rule="mod", coder="ols", n_nonzero=1, max_iter=3, random_state=0),
        DictionaryLearner(4, rule="noodl", alpha=0.1, max_iter=3, random_state=0),
        DictionaryLearner(4, alpha=0.1, max_iter=3, missing="allow", nonnegative=True, random_state=0),
    ]
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture
def X(rng):
    return rng.standard_normal((200, 10))


def planted(rng, n_samples, n_components=32, n_features=24, n_nonzero=2):
    atoms = rng.standard_normal((n_components, n_features))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = np.zeros((n_samples, n_components))
    for row in codes:
        chosen = rng.choice(n_components, n_nonzero, replace=False)
        row[chosen] = rng.uniform(1, 2, n_nonzero) * rng.choice([-1, 1], n_nonzero)
    return codes @ atoms, atoms


def share_recovered(found, atoms):
    """Return the share of atoms that were found; one or two may be missed in a local minimum."""
    return (np.abs(found @ atoms.T).max(axis=0) > 0.999).mean()


@pytest.mark.parametrize(("rule", "coder"), [("mod", "omp"), ("ksvd", "omp"), ("ksvd", "ols")])
def test_a_planted_dictionary_is_recovered(rng, rule, coder):
    X, atoms = planted(rng, 3000)
    learner = DictionaryLearner(
        32, rule=rule, coder=coder, n_nonzero=2, max_iter=60, tol=0, random_state=1
    ).fit(X)
    assert share_recovered(learner.components_, atoms) >= 0.85


def test_the_online_rule_recovers_up_to_the_bias_of_the_lasso(rng):
    X, atoms = planted(rng, 3000)
    learner = DictionaryLearner(32, alpha=0.1, max_iter=30, random_state=1).fit(X)
    assert share_recovered(learner.components_, atoms) >= 0.85


def test_noodl_recovers_from_a_close_start(rng):
    X, atoms = planted(rng, 3000, n_components=80, n_features=64)
    start = atoms + 0.03 * rng.standard_normal(atoms.shape)
    learner = DictionaryLearner(80, rule="noodl", alpha=0.1, init=start, max_iter=20, tol=0, random_state=0)
    assert dictionary_error(start, atoms) > 0.2
    assert dictionary_error(learner.fit(X).components_, atoms) < 0.01


@pytest.mark.parametrize("rule", RULES)
def test_what_is_loaded_codes_as_what_was_saved(rule, X, tmp_path):
    learner = DictionaryLearner(12, rule=rule, alpha=0.2, max_iter=2, random_state=0).fit(X)
    learner.save(tmp_path / "d.safetensors")
    loaded = DictionaryLearner.load(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(loaded.transform(X), learner.transform(X))
    assert loaded.get_params() == learner.get_params()
    assert loaded.history_ == learner.history_
    loaded.partial_fit(X)
    assert loaded.components_.shape == learner.components_.shape


def test_an_array_as_start_is_saved_too(X, tmp_path):
    start = np.random.default_rng(3).standard_normal((12, 10))
    learner = DictionaryLearner(12, alpha=0.2, init=start, max_iter=1, random_state=0).fit(X)
    learner.save(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(DictionaryLearner.load(tmp_path / "d.safetensors").init, start)


def test_a_pickle_is_refused(X, tmp_path):
    learner = DictionaryLearner(3, max_iter=1, random_state=0).fit(X)
    (tmp_path / "d.safetensors").write_bytes(pickle.dumps(learner))
    with pytest.raises(FileFormatError, match="pickle, which calepin never loads"):
        DictionaryLearner.load(tmp_path / "d.safetensors")


def test_a_failed_save_leaves_the_old_dictionary(X, tmp_path, monkeypatch):
    learner = DictionaryLearner(3, max_iter=1, random_state=0).fit(X)
    path = tmp_path / "d.safetensors"
    learner.save(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        DictionaryLearner(5, max_iter=1, random_state=0).fit(X).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("rule", RULES)
def test_a_resumed_fit_equals_an_uninterrupted_one(rule, X, tmp_path):
    settings = {"rule": rule, "alpha": 0.2, "batch_size": 40, "tol": 0, "random_state": 0}
    path = tmp_path / "run.safetensors"
    whole = DictionaryLearner(12, max_iter=4, **settings).fit(X)
    cut = DictionaryLearner(12, max_iter=4, checkpoint=path, **settings)
    cut.fit(X, callbacks=[lambda state: state.n_steps == 7])
    resumed = DictionaryLearner(12, max_iter=4, checkpoint=path, resume=True, **settings).fit(X)
    np.testing.assert_array_equal(resumed.components_, whole.components_)
    assert resumed.n_steps_ == whole.n_steps_


def test_a_resumed_fit_without_a_seed_goes_on_in_its_own_order(X, tmp_path):
    path = tmp_path / "run.safetensors"
    learner = DictionaryLearner(12, alpha=0.2, batch_size=40, max_iter=2, tol=0, checkpoint=path).fit(X)
    longer = clone(learner).set_params(max_iter=3, resume=True).fit(X)
    assert longer.n_iter_ == 3
    assert longer.history_[:2] == learner.history_


def test_ctrl_c_keeps_what_was_learned(X):
    learner = DictionaryLearner(12, alpha=0.2, batch_size=20, max_iter=50, tol=0, random_state=0)

    def press(state):
        if state.n_steps == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner.fit(X, callbacks=[press])
    assert learner.n_steps_ == 25
    assert learner.transform(X).shape == (200, 12)


def test_the_same_seed_gives_the_same_bits(X):
    fits = [DictionaryLearner(12, alpha=0.2, max_iter=3, random_state=7).fit(X) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].components_, fits[1].components_)
    other = DictionaryLearner(12, alpha=0.2, max_iter=3, random_state=8).fit(X)
    assert not np.array_equal(fits[0].components_, other.components_)


def test_arrays_memory_maps_and_iterables_are_learned_from(X, tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    settings = {"alpha": 0.2, "batch_size": 50, "max_iter": 2, "random_state": 0}
    from_map = DictionaryLearner(12, **settings).fit(mapped)
    from_array = DictionaryLearner(12, **settings).fit(X.astype(np.float32))
    np.testing.assert_array_equal(from_map.components_, from_array.components_)
    assert from_map.components_.dtype == np.float32

    class Loader:
        def __iter__(self):
            return (X[start : start + 50] for start in range(0, 200, 50))

    streamed = DictionaryLearner(12, **settings).fit(Loader())
    assert streamed.n_steps_ == 8
    once = DictionaryLearner(12, alpha=0.2, max_iter=1, random_state=0).fit(x for x in (X[:100], X[100:]))
    assert once.n_steps_ == 2


@pytest.mark.parametrize("rule", RULES)
def test_tensors_on_a_device_learn_what_arrays_do(rule, X, tmp_path):
    settings = {"rule": rule, "alpha": 0.2, "max_iter": 3, "tol": 0, "random_state": 0}
    arrays = DictionaryLearner(12, **settings).fit(X)
    tensors = DictionaryLearner(12, device="cpu", checkpoint=tmp_path / "c", **settings).fit(X)
    np.testing.assert_allclose(tensors.components_, arrays.components_, atol=1e-6)
    np.testing.assert_allclose(tensors.transform(X), arrays.transform(X), atol=1e-5)
    assert tensors.score(X) == pytest.approx(arrays.score(X))
    longer = DictionaryLearner(
        12, device="cpu", checkpoint=tmp_path / "c", resume=True, **(settings | {"max_iter": 4})
    ).fit(X)
    whole = DictionaryLearner(12, device="cpu", **(settings | {"max_iter": 4})).fit(X)
    np.testing.assert_array_equal(longer.components_, whole.components_)


def test_partial_fit_learns_from_a_stream(rng):
    X, atoms = planted(rng, 20_000)
    learner = DictionaryLearner(32, alpha=0.1, random_state=1).partial_fit(X[:200])
    first = dictionary_error(learner.components_, atoms)
    for start in range(200, 20_000, 200):
        learner.partial_fit(X[start : start + 200])
    assert learner.n_iter_ == learner.n_steps_ == 100
    assert dictionary_error(learner.components_, atoms) < 0.7 * first


@pytest.mark.parametrize("rule", RULES)
def test_single_samples_do_not_undo_what_batches_taught(rule, rng):
    X, _ = planted(rng, 1700)
    X += 0.05 * rng.standard_normal(X.shape)
    learner = DictionaryLearner(32, rule=rule, alpha=0.1, random_state=1)
    for start, stop in ((0, 10), (10, 510), (510, 547), (547, 1547)):
        learner.partial_fit(X[start:stop])
    before = learner.score(X)
    scores = []
    for k in range(1547, 1627):
        learner.partial_fit(X[k : k + 1])
        if k % 20 == 7:
            scores.append(learner.score(X))
    assert len(scores) == 4
    assert min(scores) > 1.003 * before  # scores are negative


@pytest.mark.parametrize("rule", RULES)
def test_a_stream_goes_on_after_a_file(rule, rng, tmp_path):
    X, _ = planted(rng, 1500)
    DictionaryLearner(32, rule=rule, alpha=0.1, random_state=1).fit(X[:1400]).save(tmp_path / "d.safetensors")
    learner = DictionaryLearner.load(tmp_path / "d.safetensors")
    before = learner.score(X)
    for k in range(1400, 1420):
        learner.partial_fit(X[k : k + 1])
    assert learner.score(X) > 1.003 * before  # scores are negative


def test_transform_uses_the_fits_penalty_unless_told_otherwise(X):
    learner = DictionaryLearner(12, alpha=0.3, max_iter=2, random_state=0).fit(X)
    atoms = learner.components_
    np.testing.assert_allclose(
        learner.transform(X), sparse_encode(X, atoms, method="lasso", alpha=0.3), atol=1e-10
    )
    np.testing.assert_allclose(
        learner.transform(X, alpha=1.0), sparse_encode(X, atoms, method="lasso", alpha=1.0), atol=1e-10
    )
    pursuit = DictionaryLearner(12, rule="ksvd", coder="omp", n_nonzero=2, max_iter=2, random_state=0).fit(X)
    assert ((pursuit.transform(X) != 0).sum(axis=1) <= 2).all()
    assert ((pursuit.transform(X, n_nonzero=4) != 0).sum(axis=1) > 2).any()


def test_nonnegatives_and_positive_atoms(X):
    for rule in RULES:
        learner = DictionaryLearner(
            6, rule=rule, alpha=0.05, nonnegative=True, nonnegative_atoms=True, max_iter=3, random_state=0
        ).fit(np.abs(X))
        assert (learner.components_ >= 0).all()
        assert (learner.transform(np.abs(X)) >= 0).all()


def test_inverse_transform_takes_dense_and_sparse_codes(X):
    learner = DictionaryLearner(12, alpha=0.01, max_iter=20, random_state=0).fit(X)
    codes = learner.transform(X)
    dense = learner.inverse_transform(codes)
    np.testing.assert_allclose(learner.inverse_transform(sparse.csr_array(codes)), dense)
    assert np.abs(dense - X).mean() < 0.1 * np.abs(X).mean()
    with pytest.raises(ValueError, match=r"codes: expected shape \(n_samples, 12\), got \(200, 11\)"):
        learner.inverse_transform(codes[:, 1:])


def test_score_is_minus_the_mean_objective_and_rises_with_learning(X):
    short = DictionaryLearner(20, alpha=0.2, max_iter=1, random_state=0).fit(X)
    long = DictionaryLearner(20, alpha=0.2, max_iter=40, tol=0, random_state=0).fit(X)
    codes = long.transform(X)
    value = 0.5 * ((X - codes @ long.components_) ** 2).sum(axis=1) + 0.2 * np.abs(codes).sum(axis=1)
    assert long.score(X) == pytest.approx(-value.mean())
    assert long.score(X) > short.score(X)


def test_missing_entries_by_nan_and_by_mask_are_one(rng):
    X, _ = planted(rng, 800)
    mask = rng.random(X.shape) > 0.2
    holes = np.where(mask, X, np.nan)
    settings = {"alpha": 0.05, "max_iter": 15, "random_state": 0}
    by_nan = DictionaryLearner(32, missing="allow", **settings).fit(holes)
    by_mask = DictionaryLearner(32, **settings).fit(np.where(mask, X, 0), mask=mask)
    np.testing.assert_allclose(by_nan.components_, by_mask.components_)
    codes = by_nan.transform(holes)
    np.testing.assert_allclose(codes, by_mask.transform(X, mask=mask))
    filled = by_nan.inverse_transform(codes)
    assert np.abs((filled - X)[~mask]).mean() < 0.5 * np.abs(X[~mask]).mean()
    with pytest.raises(ValueError, match="NaN"):
        DictionaryLearner(15).fit(holes)


def test_works_in_pipelines_and_searches(X):
    pipeline = make_pipeline(StandardScaler(), DictionaryLearner(8, max_iter=2, random_state=0))
    assert pipeline.fit_transform(X).shape == (200, 8)
    search = GridSearchCV(DictionaryLearner(8, max_iter=2, random_state=0), {"alpha": [0.01, 0.5]}, cv=2).fit(
        X
    )
    assert search.best_params_["alpha"] == 0.01  # the smaller penalty has the smaller objective
    assert pipeline.get_feature_names_out()[0] == "dictionarylearner0"


def test_copies_keep_learning_on_their_own(X):
    learner = DictionaryLearner(12, alpha=0.2, max_iter=2, random_state=0).fit(X)
    other = copy.deepcopy(learner).partial_fit(X)
    assert not np.array_equal(other.components_, learner.components_)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 0}, "n_components: expected a positive integer or None, got 0"),
        ({"n_components": 2.5}, "n_components: expected a positive integer or None, got 2.5"),
        ({"alpha": -1.0}, "alpha"),
        ({"alpha": np.nan}, "alpha"),
        ({"rule": "svd"}, "rule: expected one of .*, got 'svd'"),
        ({"coder": "ista"}, "coder: expected one of .*, got 'ista'"),
        ({"batch_size": 0}, "batch_size: expected a positive integer, got 0"),
        ({"max_iter": 0}, "max_iter: expected a positive integer, got 0"),
        ({"tol": -1}, "tol: expected a finite number of at least 0, got -1"),
        ({"missing": "yes"}, "missing: expected one of .*, got 'yes'"),
        ({"init": "zeros"}, "init: expected an array or one of"),
        ({"init": np.ones((2, 2))}, "init: expected shape"),
        ({"resume": True}, "resume=True needs the path of a checkpoint"),
    ],
)
def test_bad_parameters_are_named(X, settings, message):
    with pytest.raises(ValueError, match=message):
        DictionaryLearner(**{"n_components": 12, **settings}).fit(X)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 4)), "0 sample"),
        (np.full((5, 4), np.nan), "NaN"),
        (np.full((5, 4), np.inf), "infinity"),
        (np.zeros(4), "2D array"),
        (np.zeros((5, 4), dtype=complex), "Complex"),
        (np.array([["a", "b"]]), "convert|numeric"),
        (sparse.csr_array(np.full((5, 4), np.nan)), "NaN"),
        (sparse.csr_array(np.eye(4) * 1j), "Complex"),
    ],
)
def test_bad_data_is_named(data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        DictionaryLearner(3).fit(data)


def test_more_nonzeros_than_atoms_are_all_atoms_with_a_warning(X):
    settings = {"coder": "omp", "max_iter": 1, "random_state": 0}
    expected = DictionaryLearner(5, n_nonzero=5, **settings).fit(X)
    with pytest.warns(RuntimeWarning, match="n_nonzero: expected at most 5, the number of atoms, got 9"):
        fitted = DictionaryLearner(5, n_nonzero=9, **settings).fit(X)
    np.testing.assert_array_equal(fitted.components_, expected.components_)


def test_constant_data_is_learned_without_a_warning():
    learner = DictionaryLearner(3, alpha=0.1, max_iter=2, random_state=0).fit(np.ones((20, 4)))
    assert np.isfinite(learner.components_).all()
    empty = DictionaryLearner(3, alpha=0.1, max_iter=2, random_state=0).fit(np.zeros((20, 4)))
    assert not empty.transform(np.zeros((2, 4))).any()


@pytest.mark.parametrize("settings", [{"rule": rule} for rule in RULES] + [{"coder": "iht"}])
def test_a_penalty_that_leaves_no_code_is_named(settings, X):
    learner = DictionaryLearner(3, alpha=1e6, max_iter=1, random_state=0, **settings)
    with pytest.warns(RuntimeWarning, match="all codes of a pass are zero.*alpha.*too large"):
        learner.fit(X)
    with pytest.warns(RuntimeWarning, match="all codes of a pass are zero"):
        clone(learner).partial_fit(X)


def test_a_single_sample_without_a_code_is_no_fault(X):
    learner = DictionaryLearner(3, alpha=1.0, random_state=0).partial_fit(X)
    learner.partial_fit(1e-6 * X[:1])


def test_a_mask_of_the_wrong_shape_or_type_is_named(X):
    with pytest.raises(ValueError, match="mask: expected a boolean array of X's shape"):
        DictionaryLearner(3).fit(X, mask=np.ones((200, 9), bool))
    with pytest.raises(ValueError, match="mask: expected a boolean array of X's shape"):
        DictionaryLearner(3).fit(X, mask=np.ones(X.shape))


def test_new_samples_are_all_learned_from_after_an_interrupted_fit(rng):
    X = rng.standard_normal((40, 6))
    learner = DictionaryLearner(5, alpha=0.1, batch_size=10, random_state=0)
    learner.fit(X, callbacks=[lambda state: state.n_steps == 2])
    assert learner.n_steps_ == 2
    assert learner.partial_fit(X).n_steps_ == 6


def test_a_learner_that_has_converged_learns_from_new_samples():
    X = np.random.default_rng(0).standard_normal((300, 16))
    found = DictionaryLearner(8, alpha=0.5, max_iter=50, tol=0.1, random_state=0).fit(X)
    assert found.converged_
    before, n_steps = found.components_.copy(), found.n_steps_
    found.partial_fit(X[:100] + 1)
    assert not found.converged_
    assert found.n_steps_ > n_steps
    assert np.abs(found.components_ - before).max() > 1e-3
