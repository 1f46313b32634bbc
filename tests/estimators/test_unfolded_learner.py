from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from calepin import DictionaryLearner, FileFormatError, UnfoldedDictionaryLearner, sparse_encode
from calepin.datasets.simulate import simulate_sparse
from calepin.learning import DivergedError
from calepin.likelihoods import Poisson
from calepin.metrics.atoms import dictionary_error

QUICK = {"n_unfold": 4, "max_iter": 2, "random_state": 0}


@pytest.mark.filterwarnings("ignore:the means of the features")
@parametrize_with_checks(
    [
        UnfoldedDictionaryLearner(4, **QUICK),
        UnfoldedDictionaryLearner(
            4, gradient="ae-lasso", solver="fista", atoms="tangent", optimizer="sgd", **QUICK
        ),
        UnfoldedDictionaryLearner(
            4, penalty="nonnegative-l1", differentiate="implicit", max_iter=2, random_state=0
        ),
        UnfoldedDictionaryLearner(4, penalty="hard", gradient="dec", atoms="ball", **QUICK),
    ],
)
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).standard_normal((120, 10))


def learner(**settings):
    layers = {} if settings.get("differentiate") == "implicit" else {"n_unfold": 8}
    settings = {"alpha": 0.2, "max_iter": 3, "tol": 0, "batch_size": 30} | layers | settings
    return UnfoldedDictionaryLearner(12, random_state=0, **settings)


@pytest.mark.parametrize(
    "settings",
    [{"differentiate": "implicit"}, {"penalty": "hard", "alpha": 0.2, "n_unfold": 30, "atoms": "tangent"}],
    ids=["implicit", "hard"],
)
def test_a_planted_dictionary_is_recovered(settings):
    data = simulate_sparse(400, 24, 32, n_nonzero=2, random_state=1)
    start = data.atoms + 0.06 * np.random.default_rng(2).standard_normal(data.atoms.shape)
    found = UnfoldedDictionaryLearner(
        32, init=start, learning_rate=5e-3, batch_size=50, max_iter=20, tol=0, random_state=0, **settings
    ).fit(data.X)
    assert dictionary_error(found.components_, data.atoms) < 0.06 < 0.25 < dictionary_error(start, data.atoms)


def test_fit_lowers_the_objective_that_score_measures(X):
    short, long = (learner(learning_rate=1e-2, max_iter=n).fit(X) for n in (1, 20))
    codes = long.transform(X)
    value = 0.5 * ((X - codes @ long.components_) ** 2).sum(1) + 0.2 * np.abs(codes).sum(1)
    assert long.score(X) == pytest.approx(-value.mean())
    assert long.score(X) > short.score(X)


def test_codes_are_those_of_the_layers_and_exact_with_implicit(X):
    unfolded = learner(n_unfold=3, step_size=0.1).fit(X)
    atoms, z = unfolded.components_, np.zeros((120, 12))
    for _ in range(3):
        v = z - 0.1 * (z @ atoms - X) @ atoms.T
        z = np.sign(v) * np.maximum(np.abs(v) - 0.1 * 0.2, 0)
    np.testing.assert_allclose(unfolded.transform(X), z, atol=1e-12)
    exact = learner(differentiate="implicit").fit(X)
    np.testing.assert_allclose(exact.transform(X), sparse_encode(X, exact.components_, alpha=0.2), atol=1e-9)


def test_codes_decay_as_they_did_in_the_last_step_of_fit(X):
    # beta is 1 in the first four steps of fit and .5 in the next; the atoms hardly move
    settings = {"decay_drop": 0.5, "decay_every": 4, "learning_rate": 1e-9, "n_unfold": 30}
    early, late = (learner(max_iter=n, **settings).fit(X) for n in (1, 2))
    assert np.abs(late.transform(X)).sum() > 1.2 * np.abs(early.transform(X)).sum()


@pytest.mark.parametrize(
    "settings",
    [
        {"penalty": "nonnegative-l1", "atoms": "ball"},
        {"learn_step": True, "learn_threshold": True, "learning_rate": 1e-2},
        {"penalty": "hard", "checkpoint_every": 3},
        {"differentiate": "last-k", "last_k": 2, "decay": 0.9},
    ],
    ids=["nonnegative", "learned", "hard", "decay"],
)
def test_what_is_loaded_codes_as_what_was_saved(settings, X, tmp_path):
    found = learner(**settings).fit(X)
    found.save(tmp_path / "d.safetensors")
    loaded = UnfoldedDictionaryLearner.load(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(loaded.transform(X), found.transform(X))
    assert loaded.get_params() == found.get_params()
    assert loaded.partial_fit(X).components_.shape == (12, 10)


def test_a_callable_optimiser_is_used_and_left_out_of_files(X, tmp_path):
    asgd = learner(optimizer=partial(torch.optim.RMSprop, lr=1e-2)).fit(X)
    assert not np.allclose(asgd.components_, learner(learning_rate=1e-2).fit(X).components_)
    asgd.save(tmp_path / "d.safetensors")
    assert UnfoldedDictionaryLearner.load(tmp_path / "d.safetensors").optimizer == "adam"


def test_a_file_or_checkpoint_of_another_model_is_refused(X, tmp_path):
    DictionaryLearner(12, max_iter=1).fit(X).save(tmp_path / "d.safetensors")
    with pytest.raises(FileFormatError, match="holds a DictionaryLearner, expected a UnfoldedDictionary"):
        UnfoldedDictionaryLearner.load(tmp_path / "d.safetensors")
    path = tmp_path / "run.safetensors"
    DictionaryLearner(12, max_iter=1, batch_size=30, random_state=0, checkpoint=path).fit(X)
    with pytest.raises(ValueError, match="another run: its rule was 'online', now 'unfolded'"):
        learner(checkpoint=path, resume=True).fit(X)


def test_learned_steps_stay_valid_and_learned_thresholds_move(X):
    found = learner(learn_step=True, learn_threshold=True, learning_rate=1e-2).fit(X)
    assert 0 < found.step_size_ < 2 / np.linalg.norm(found.components_, 2) ** 2
    assert found.alpha_.shape == (12,)
    assert (found.alpha_ >= 0).all()
    assert found.alpha_.std() > 1e-4


def test_ctrl_c_leaves_a_checkpoint_from_which_the_run_goes_on_as_if_uninterrupted(X, tmp_path):
    path = tmp_path / "run.safetensors"

    def press(state):
        if state.n_steps == 7:
            raise KeyboardInterrupt

    cut = learner(checkpoint=path)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(X, callbacks=[press])
    assert cut.n_steps_ == 7
    resumed = clone(cut).set_params(resume=True).fit(X)
    np.testing.assert_array_equal(resumed.components_, learner().fit(X).components_)


def test_arrays_memory_maps_and_iterables_are_learned_from(X, tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    from_map = learner().fit(np.load(tmp_path / "x.npy", mmap_mode="r"))
    np.testing.assert_array_equal(from_map.components_, learner().fit(X.astype(np.float32)).components_)
    assert from_map.components_.dtype == from_map.transform(X.astype(np.float32)).dtype == np.float32
    stream = learner(max_iter=1).fit(rows for rows in (X[:60], X[60:]))
    assert stream.n_steps_ == 2


def test_partial_fit_goes_on(X):
    found = learner().partial_fit(X)
    first = found.components_.copy()
    found.partial_fit(X)
    assert found.n_iter_ == 2
    assert not np.array_equal(found.components_, first)


def test_tensors_on_a_device_learn_what_arrays_do(X):
    for settings in ({}, {"learn_step": True, "learn_threshold": True}):
        arrays, tensors = learner(**settings).fit(X), learner(device="cpu", **settings).fit(X)
        np.testing.assert_array_equal(arrays.components_, tensors.components_)
        np.testing.assert_array_equal(arrays.transform(X), tensors.transform(X))


def test_what_goes_wrong_in_training_is_named(X, tmp_path):
    with pytest.raises(ValueError, match="step_size: expected less than 2 / L"):
        learner(step_size=5.0).fit(X)
    lipschitz = np.linalg.norm(learner(max_iter=1).fit(X).components_, 2) ** 2
    with pytest.warns(RuntimeWarning, match="above 1 / L"):
        learner(step_size=1.3 / lipschitz, max_iter=1, learning_rate=1e-9).fit(X)
    with pytest.warns(RuntimeWarning, match="alpha, or threshold, is too large"):
        learner(alpha=1e3, max_iter=1).fit(X)
    path = tmp_path / "run.safetensors"
    learner(max_iter=1, checkpoint=path).fit(X)
    kept = path.read_bytes()
    with pytest.raises(DivergedError, match="NaN or infinite: check the scale of X, the step size"):
        learner(checkpoint=path, atoms="ball", optimizer="sgd", learning_rate=1e300).fit(X * 1e10)
    assert path.read_bytes() == kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "alpha: expected a finite number above 0, got 0"),
        ({"penalty": "l2"}, "penalty: expected one of .*, got 'l2'"),
        ({"gradient": "online"}, "gradient: expected one of .*, got 'online'"),
        ({"n_unfold": 0}, "n_unfold: expected a positive integer, got 0"),
        ({"step_size": -1.0}, "step_size: expected None"),
        ({"likelihood": Poisson()}, "step_size: expected a number, because Poisson has no bound"),
        ({"solver": "lars"}, "solver: expected one of"),
        ({"differentiate": "none"}, "differentiate: expected one of"),
        ({"differentiate": "last-k"}, "last_k: expected a positive integer"),
        ({"optimizer": "lbfgs"}, "optimizer: expected one of"),
        ({"learning_rate": np.nan}, "learning_rate: expected a finite number above 0"),
        ({"atoms": "cube"}, "atoms: expected one of"),
        ({"decay": 2.0}, r"decay: expected a number in \(0, 1\]"),
        ({"gradient": "dec", "learn_step": True}, "gradient: expected 'ae-lasso' or 'ae-ls' with learn_step"),
        ({"differentiate": "implicit", "learn_step": True}, "learn_step: expected False with 'implicit'"),
        ({"penalty": "hard", "learn_threshold": True}, "learn_threshold: expected False unless"),
        ({"resume": True}, "resume=True needs the path of a checkpoint"),
    ],
)
def test_bad_parameters_are_named(settings, message, X):
    with pytest.raises(ValueError, match=message):
        learner(**settings).fit(X)


def test_a_loaded_learner_goes_on_with_its_steps_its_history_and_its_decay(X, tmp_path):
    settings = {"optimizer": "sgd", "learning_rate": 1e-2, "decay": 0.95, "decay_drop": 0.01}
    whole = learner(**settings, decay_every=1)
    for part in (X[:30], X[30:60]):
        whole.partial_fit(part)
    whole.save(tmp_path / "half.safetensors")
    again = UnfoldedDictionaryLearner.load(
        tmp_path / "half.safetensors", random_state=0, optimizer="sgd"
    ).partial_fit(X[60:90])
    whole.partial_fit(X[60:90])
    np.testing.assert_array_equal(again.components_, whole.components_)
    np.testing.assert_array_equal(again.transform(X), whole.transform(X))
    assert (again.n_steps_, again.n_iter_) == (whole.n_steps_, whole.n_iter_) == (3, 3)
    assert [one["objective"] for one in again.history_] == [one["objective"] for one in whole.history_]


@pytest.mark.parametrize("name", ["learn_step", "learn_threshold"])
def test_what_an_earlier_fit_has_learned_is_forgotten_by_the_next(X, name):
    found = learner(**{name: True}).fit(X)
    found.set_params(**{name: False})
    with pytest.raises(ValueError, match=f"{name}: expected True, as in the fit, .*; fit again"):
        found.transform(X)
    np.testing.assert_array_equal(found.fit(X).transform(X), learner().fit(X).transform(X))
