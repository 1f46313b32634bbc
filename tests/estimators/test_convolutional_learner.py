"""The estimator of convolutional dictionaries: conventions, families, files, what it refuses."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import estimator_checks

from calepin import ConvolutionalDictionaryLearner, DictionaryLearner, FileFormatError
from calepin.datasets import simulate_convolutional
from calepin.likelihoods import Binomial, Poisson
from calepin.metrics import filter_error

pytestmark = pytest.mark.filterwarnings("ignore:.*far from the minimiser")  # of 20 iterations

SMALL = {"max_iter": 2, "random_state": 0, "nonnegative": True}
FAMILIES = {
    "gaussian": {"alpha": 0.5},
    "binomial": {"likelihood": "binomial", "trials": 25, "alpha": 5.0},
    "poisson": {"likelihood": "poisson", "alpha": 1.0},
}
SETTINGS = {
    **FAMILIES,
    "exact": {"coder": "exact", "alpha": 0.5},
    "bcomp": {"coder": "bcomp", "n_nonzero": 4, "likelihood": "binomial", "trials": 25},
    "debiased": {"debias": True, "n_nonzero": 4, **FAMILIES["binomial"]},
    "unrolled": {"gradient": "ae-ls", **FAMILIES["binomial"]},
    "strided": {"stride": 2, "coder": "ista", "alpha": 0.5},
}


def learner(name="binomial", n_components=2, kernel_size=20, **settings):
    coder = settings.get("coder", SETTINGS[name].get("coder", "fista"))
    layers = {"n_unfold": 20} if coder in ("fista", "ista") else {}
    return ConvolutionalDictionaryLearner(
        n_components, kernel_size, **{**SMALL, **layers, **SETTINGS[name], **settings}
    )


def data_for(name="binomial", n=12, **settings):
    family = SETTINGS[name].get("likelihood", "gaussian")
    return simulate_convolutional(
        n,
        (80,),
        n_components=2,
        kernel_size=(20,),
        n_events=2,
        likelihood=family,
        offset=-0.5,
        noise=0.3,
        **settings,
    )


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_estimator_repr",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
    ],
)
def test_what_applies_of_scikit_learns_checks_passes(check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(estimator_checks, check)("ConvolutionalDictionaryLearner", learner("gaussian"))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_fits_codes_scores_and_comes_back_from_a_file(name, tmp_path):
    data = data_for(name)
    fitted = learner(name).fit(data.X)
    assert fitted.components_.shape == (2, 1, 20)
    np.testing.assert_allclose((fitted.components_**2).sum((1, 2)), 1, rtol=1e-6)
    codes = fitted.transform(data.X)
    positions = 31 if name == "strided" else 61
    assert codes.shape == (12, 2, positions)
    assert (codes >= 0).all()
    assert codes.any()
    assert np.isfinite(fitted.score(data.X))
    fitted.save(tmp_path / "filters.safetensors")
    loaded = ConvolutionalDictionaryLearner.load(tmp_path / "filters.safetensors")
    np.testing.assert_array_equal(loaded.transform(data.X), codes)
    assert loaded.get_params() == fitted.get_params()
    assert loaded.history_ == fitted.history_
    loaded.partial_fit(data.X)
    with pytest.raises(FileFormatError, match="holds a ConvolutionalDictionaryLearner"):
        DictionaryLearner.load(tmp_path / "filters.safetensors")


def test_binomial_filters_are_recovered_by_pursuit_and_by_descent(rng):
    data = data_for(n=60)
    start = data.atoms + 0.11 * rng.standard_normal(data.atoms.shape)
    for name in ("bcomp", "debiased"):
        fitted = learner(name, init=start, offset=-0.5, max_iter=6, n_updates=6, tol=0).fit(data.X)
        assert filter_error(start, data.atoms).max() > 0.2
        assert filter_error(fitted.components_, data.atoms, max_shift=3).max() < 0.2, name


@pytest.mark.parametrize("name", FAMILIES)
def test_codes_and_offsets_stand_for_the_mean_of_the_signals(name):
    data = data_for(name)
    fitted = learner(name, max_iter=4, offset="estimate").fit(data.X)
    codes, offset = fitted.encode(data.X)
    mean = fitted.inverse_transform(codes, offset=offset)
    assert mean.shape == data.X.shape
    assert ((mean - data.X) ** 2).mean() < 0.9 * ((data.X - data.X.mean()) ** 2).mean()
    with pytest.raises(ValueError, match="offset: expected the offsets of all signals"):
        fitted.inverse_transform(codes)


def test_a_list_of_signals_of_different_length_is_coded_one_by_one():
    data = data_for()
    signals = [data.X[0], data.X[1][:, :60], data.X[2][:, 10:]]
    fitted = learner(offset=-0.5).fit(signals)
    codes = fitted.transform(signals)
    assert [z.shape for z in codes] == [(2, 61), (2, 41), (2, 51)]
    np.testing.assert_allclose(codes[1], fitted.transform(signals[1][None])[0], rtol=1e-6, atol=1e-9)
    assert [x.shape for x in fitted.inverse_transform(codes)] == [x.shape for x in signals]


def test_trials_and_offsets_may_differ_between_signals():
    data = data_for()
    fitted = learner().fit(data.X, trials=np.full(12, 25), offset=np.full(12, -0.5))
    same = learner(offset=-0.5).fit(data.X)
    np.testing.assert_allclose(fitted.components_, same.components_, rtol=1e-6)
    known = {"trials": np.full((12, 1), 25), "offset": np.full(12, -0.5)}
    np.testing.assert_allclose(
        fitted.transform(data.X, **known), same.transform(data.X), rtol=1e-5, atol=1e-6
    )
    one_more = np.r_[np.full(11, 25), 50]
    codes = fitted.transform(data.X, **(known | {"trials": one_more}))
    assert not np.allclose(codes[11], same.transform(data.X)[11], atol=1e-2)


def test_a_family_as_an_object_is_the_family_by_name():
    data = data_for()
    by_name = learner(max_iter=1).fit(data.X)
    by_value = learner(likelihood=Binomial(25), trials=1, max_iter=1).fit(data.X)
    np.testing.assert_array_equal(by_name.components_, by_value.components_)
    assert isinstance(clone(by_value).likelihood, Binomial)


def test_a_resumed_fit_equals_an_uninterrupted_one(tmp_path):
    data, path = data_for(), tmp_path / "run.safetensors"
    settings = {"max_iter": 3, "batch_size": 5, "tol": 0}
    whole = learner(**settings).fit(data.X)
    learner(checkpoint=path, **settings).fit(data.X, callbacks=[lambda state: state.n_steps == 4])
    resumed = learner(checkpoint=path, resume=True, **settings).fit(data.X)
    np.testing.assert_array_equal(resumed.components_, whole.components_)


def test_float32_stays_and_copies_code_alike():
    X = data_for("gaussian").X.astype(np.float32)
    fitted = learner("gaussian").fit(X)
    codes = fitted.transform(X)
    assert codes.dtype == fitted.components_.dtype == np.float32
    for other in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(other.transform(X), codes)


def test_images_of_two_channels_take_the_same_path(rng):
    X = rng.standard_normal((3, 2, 16, 14))
    fitted = learner("gaussian", n_components=3, kernel_size=(5, 4)).fit(X)
    assert fitted.components_.shape == (3, 2, 5, 4)
    assert fitted.transform(X).shape == (3, 3, 12, 11)
    assert fitted.n_features_in_ == 2
    with pytest.raises(ValueError, match="X has 1 channels, but"):
        fitted.transform(X[:, :1])


def test_an_unfitted_learner_says_so():
    with pytest.raises(NotFittedError):
        learner().transform(data_for().X)


def _changed(value, index=(3, 0, 5)):
    X = data_for().X
    X[index] = value
    return X


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (_changed(-1.0), r"X: expected counts of at least 0, got -1.0 at index \(3, 0, 5\)"),
        (_changed(1.5), "X: expected whole numbers"),
        (_changed(26.0), r"X: expected at most the number of trials \(25\), got 26.0"),
        (_changed(np.inf), "X: expected finite counts, got inf"),
        (np.zeros((4, 1, 80)), "X: expected counts that vary in every channel of every signal.* signal 0"),
        (_changed(0.0, (2,)), "signal 2"),
        (_changed(25.0, (2,)), "signal 2"),
        (data_for().X[:, 0], r"X: expected shape \(n_signals, channels, \*spatial\).*X\[:, None\]"),
        (data_for().X[:, :, :10], r"kernel_size: expected at most the signal's size \(10,\), got \(20,\)"),
        ([data_for().X[0], data_for().X[1, 0]], "X: expected a list of arrays"),
        (data_for().X.astype(complex), "X: expected real numbers"),
        (data_for().X[:0], "X: expected at least one nonempty signal"),
    ],
)
def test_data_that_no_binomial_could_give_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        learner().fit(X)


def test_empty_spike_trains_can_be_coded_but_not_learned_from():
    silent = np.zeros((4, 1, 80))
    with pytest.raises(ValueError, match="X: expected at least one count, got zeros everywhere"):
        learner(offset=-2.0).fit(silent)
    fitted = learner(offset=-0.5).fit(data_for().X)
    assert np.isfinite(fitted.transform(silent)).all()
    with pytest.raises(ValueError, match="no baseline can be estimated from it"):
        learner().fit(data_for().X).transform(silent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trials": 0}, "trials: expected a positive integer"),
        ({"likelihood": Binomial(9)}, "trials: expected the default 1 with an object as likelihood"),
        ({"kernel_size": (3, 3)}, "kernel_size: expected 1 numbers"),
        ({"kernel_size": 0}, "kernel_size: expected"),
        ({"alpha": 0}, "alpha: expected"),
        ({"likelihood": "gamma"}, "likelihood: expected one of"),
        ({"coder": "omp"}, "coder: expected one of"),
        ({"coder": "bcomp"}, "n_nonzero: expected"),
        (
            {"coder": "exact", "alpha": 1.0},
            "ConvolutionalLassoCoder needs a Gaussian likelihood, got Binomial",
        ),
        ({"gradient": "ae-ls", "debias": True}, "gradient: expected 'dec'"),
        ({"offset": np.nan}, "offset: expected"),
        ({"init": np.ones((2, 1, 3))}, "init: expected shape"),
        ({"likelihood": Poisson(), "trials": 1, "coder": "exact"}, "needs a Gaussian likelihood"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        learner(**settings).fit(data_for().X)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"offset": np.zeros(5)}, "offset: expected one value for each of the 12 signals, got 5"),
        (
            {"offset": np.zeros((12, 1, 7))},
            r"offset: expected values that broadcast .* got shape \(1, 7\) for signal 0",
        ),
        ({"offset": np.full(12, np.nan)}, "offset: expected finite numbers"),
        ({"trials": np.zeros(12)}, "trials: expected whole numbers of at least 1, got 0"),
        ({"trials": np.full(12, 3)}, "X: expected at most the number of trials"),
    ],
)
def test_what_is_known_of_signals_must_fit_them(known, message):
    with pytest.raises(ValueError, match=message):
        learner().fit(data_for().X, **known)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("coder", ["fista", "ista"])
def test_codes_far_from_the_minimiser_are_named_once(coder):
    data = data_for("gaussian")
    few = learner("gaussian", coder=coder, n_unfold=10, batch_size=5).fit(data.X)
    with pytest.warns(ConvergenceWarning, match="of 12 codes are far .* n_unfold = 10 iterations") as found:
        few.transform(data.X)
    assert len(found) == 1
    with pytest.warns(ConvergenceWarning, match="far from the minimiser"):
        few.score(data.X)
    near = few.set_params(coder="fista", n_unfold=1000)
    near.transform(data.X)
    objective = near.score(data.X)
    exact = few.set_params(coder="exact", n_unfold=100)
    np.testing.assert_allclose(objective, exact.score(data.X), rtol=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("settings", [{"gradient": "ae-ls"}, {"gradient": "ae-lasso"}, {"debias": True}])
def test_layers_of_a_network_and_refitted_codes_promise_no_minimiser(settings):
    data = data_for("gaussian")
    learner("gaussian", n_unfold=5, **settings).fit(data.X).transform(data.X)


def test_a_fit_ends_by_five_passes_and_not_by_one():
    data = data_for("gaussian")
    found = learner("gaussian", max_iter=40, tol=1e-2).fit(data.X)
    objectives = [record["objective"] for record in found.history_]
    assert found.converged_
    assert found.n_iter_ >= 6
    assert max(objectives[-6:]) - min(objectives[-6:]) <= 5e-2 * objectives[-6]
    changes = np.abs(np.diff(objectives)) / objectives[:-1]
    assert (changes[:-1] <= 1e-2).any()  # where the fit would have ended before


def recording(n=40, seed=0):
    return simulate_convolutional(
        n,
        (300,),
        n_components=2,
        kernel_size=(20,),
        n_events=4,
        likelihood="gaussian",
        noise=0.1,
        random_state=seed,
    )


PLAIN = {"alpha": 0.3, "nonnegative": True, "random_state": 0}


def test_real_numbers_are_learned_from_moments_and_counts_by_steps():
    data = recording(5)
    kinds = {}
    for name, settings in {
        "default": {},
        "learning rate": {"learning_rate": 0.05},
        "adam": {"optimizer": "adam"},
        "encoder": {"gradient": "ae-ls"},
        "stride": {"stride": 2},
    }.items():
        learner = ConvolutionalDictionaryLearner(2, 20, max_iter=1, **PLAIN, **settings).fit(data.X)
        kinds[name] = (
            type(learner._state.learned).__name__,
            type(learner._make_coder(1, 0.1, learning=True)).__name__,
        )
    assert kinds == {
        "default": ("MomentsState", "ConvolutionalLassoCoder"),
        "learning rate": ("ConvolutionalState", "ConvolutionalLassoCoder"),
        "adam": ("ConvolutionalState", "ConvolutionalLassoCoder"),
        "encoder": ("ConvolutionalState", "ProximalCoder"),
        "stride": ("MomentsState", "ProximalCoder"),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"likelihood": "poisson"}, "'online' needs gaussian data"),
        ({"gradient": "ae-ls"}, "gradient: expected the default 'dec' with optimizer 'online'"),
        ({"learning_rate": 0.1}, "learning_rate: expected the default 0.02 with optimizer 'online'"),
    ],
)
def test_moments_need_gaussian_data_and_constant_codes(settings, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionalDictionaryLearner(2, 20, optimizer="online", **settings).fit(recording(5).X)


def test_a_stream_after_a_fit_goes_on_from_it():
    data = recording()
    fitted = ConvolutionalDictionaryLearner(2, 20, max_iter=10, tol=0, **PLAIN).fit(data.X[:30])
    before = fitted.score(data.X)
    for start in range(30, 40):
        fitted.partial_fit(data.X[start : start + 1])
        assert fitted.score(data.X) > before - 0.02 * abs(before)


def test_another_optimiser_goes_on_with_the_filters_of_the_last():
    data = recording(10)
    learner = ConvolutionalDictionaryLearner(2, 20, max_iter=5, **PLAIN).fit(data.X)
    before, filters = learner.score(data.X), learner.components_.copy()
    learner.set_params(optimizer="adam").partial_fit(data.X)
    assert 0 < np.abs(learner.components_ - filters).max() < 0.2
    assert learner.score(data.X) > before - 0.05 * abs(before)


def test_three_axes_are_coded_by_proximal_steps(rng):
    X = rng.standard_normal((2, 1, 6, 7, 8))
    learner = ConvolutionalDictionaryLearner(2, 3, alpha=0.5, max_iter=2, random_state=0).fit(X)
    assert learner.transform(X).shape == (2, 2, 4, 5, 6)
