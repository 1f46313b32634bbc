"""What an object has itself is neither taken from the estimator nor silently ignored."""

from functools import partial

import numpy as np
import pytest
import torch

from calepin import (
    ConvolutionalDictionaryLearner,
    DictionaryLearner,
    FileFormatError,
    UnfoldedDictionaryLearner,
)
from calepin.learning import Convolutional, Online, Unfolded
from calepin.likelihoods import Poisson
from calepin.penalties import L1
from calepin.solvers import LassoCoder, ProximalCoder

SGD = partial(torch.optim.SGD, lr=0.1)
UNFOLDED = Unfolded(L1(0.3), n_unfold=7, optimizer=SGD)
FILTERS = Convolutional(ProximalCoder(L1(0.3), 7), optimizer=SGD, stride=2)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(DictionaryLearner, 4, coder=LassoCoder(0.3), alpha=0.2), "alpha"),
        (partial(DictionaryLearner, 4, coder=LassoCoder(0.3), nonnegative=True), "nonnegative"),
        (partial(DictionaryLearner, 4, penalty=L1(0.3), alpha=0.2), "alpha"),
        (partial(DictionaryLearner, 4, rule=Online(LassoCoder(0.3)), alpha=0.2), "alpha"),
        (
            partial(DictionaryLearner, 4, rule=Online(LassoCoder(0.3)), nonnegative_atoms=True),
            "nonnegative_atoms",
        ),
        (partial(UnfoldedDictionaryLearner, 4, penalty=L1(0.3), alpha=0.2), "alpha"),
        (partial(UnfoldedDictionaryLearner, 4, optimizer=SGD, learning_rate=0.2), "learning_rate"),
        (partial(UnfoldedDictionaryLearner, 4, rule=UNFOLDED, gradient="dec"), "gradient"),
        (partial(UnfoldedDictionaryLearner, 4, rule=UNFOLDED, n_unfold=3), "n_unfold"),
        (partial(UnfoldedDictionaryLearner, 4, rule=Online(LassoCoder(0.3)), optimizer="sgd"), "optimizer"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, likelihood=Poisson(), trials=5), "trials"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, penalty=L1(0.3), alpha=0.2), "alpha"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, coder=FILTERS.coder, n_unfold=5), "n_unfold"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, coder=FILTERS.coder, n_nonzero=5), "n_nonzero"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, optimizer=SGD, learning_rate=0.2), "learning_rate"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, rule=FILTERS, gradient="ae-ls"), "gradient"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, rule=FILTERS, alpha=0.2), "alpha"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, rule=FILTERS), "stride"),
    ],
)
def test_a_parameter_that_an_object_replaces_is_refused_by_name(make, name):
    X = np.ones((5, 1, 9)) if make.func is ConvolutionalDictionaryLearner else np.ones((5, 4))
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        make().fit(X)


def test_an_unfolded_rule_is_the_encoder_of_transform(rng):
    X = rng.standard_normal((40, 6))
    words = UnfoldedDictionaryLearner(
        5, alpha=0.3, n_unfold=7, optimizer=SGD, max_iter=2, tol=0, random_state=0
    ).fit(X)
    rule = UnfoldedDictionaryLearner(5, rule=UNFOLDED, max_iter=2, tol=0, random_state=0).fit(X)
    np.testing.assert_array_equal(rule.components_, words.components_)
    np.testing.assert_array_equal(rule.transform(X), words.transform(X))


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_a_convolutional_rule_codes_what_is_transformed(rng, likelihood):
    X = rng.poisson(3.0, (6, 1, 21)).astype(float)
    common = {"stride": 2, "likelihood": likelihood, "max_iter": 2, "tol": 0, "random_state": 0}
    step = {"step_size": "backtracking"} if likelihood == "poisson" else {}
    coder = ProximalCoder(L1(0.3), 7, **step)
    rule = Convolutional(coder, optimizer=SGD, stride=2, n_updates=3, centre=True)
    words = ConvolutionalDictionaryLearner(2, 5, coder=coder, optimizer=SGD, n_updates=3, **common).fit(X)
    own = ConvolutionalDictionaryLearner(2, 5, rule=rule, **common).fit(X)
    np.testing.assert_array_equal(own.components_, words.components_)
    np.testing.assert_array_equal(own.transform(X), words.transform(X))


def test_a_penalty_has_its_own_nonnegativity():
    with pytest.raises(
        ValueError, match="^nonnegative: expected the default False with an object as penalty"
    ):
        DictionaryLearner(4, penalty=L1(0.3), nonnegative=True).fit(np.ones((5, 4)))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(DictionaryLearner, 4, coder="omp", alpha=0.3), "alpha"),
        (partial(DictionaryLearner, 4, n_nonzero=3), "n_nonzero"),
        (partial(DictionaryLearner, 4, coder="iht", n_nonzero=3), "n_nonzero"),
        (partial(UnfoldedDictionaryLearner, 4, differentiate="implicit", n_unfold=9), "n_unfold"),
        (partial(UnfoldedDictionaryLearner, 4, differentiate="implicit", solver="fista"), "solver"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, n_nonzero=2), "n_nonzero"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, coder="exact", n_unfold=9), "n_unfold"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, coder="bcomp", n_nonzero=2, alpha=2), "alpha"),
        (partial(ConvolutionalDictionaryLearner, 2, 3, trials=5), "trials"),
    ],
)
def test_a_parameter_that_a_word_does_not_use_is_refused_by_name(make, name):
    X = np.ones((5, 1, 9)) if make.func is ConvolutionalDictionaryLearner else np.ones((5, 4))
    with pytest.raises(ValueError, match=f"^{name}: expected the default"):
        make().fit(X)


@pytest.mark.parametrize(
    "settings",
    [{"penalty": L1}, {"coder": LassoCoder}, {"coder": 3}, {"rule": Online}, {"penalty": L1(0.1).value}],
)
def test_a_class_or_another_object_is_refused_by_name(settings):
    name = next(iter(settings))
    with pytest.raises(TypeError, match=f"^{name}: expected an object with"):
        DictionaryLearner(4, **settings).fit(np.ones((5, 4)))


@pytest.mark.parametrize(
    ("learner", "components", "parameters", "message"),
    [
        (DictionaryLearner, np.ones(4), {}, "components: expected an array with 2 axes"),
        (DictionaryLearner, np.ones((1, 2, 4)), {}, "components: expected an array with 2 axes"),
        (DictionaryLearner, [["a"]], {}, "components: expected finite floating-point numbers"),
        (DictionaryLearner, [[np.nan]], {}, "components: expected finite floating-point numbers"),
        (DictionaryLearner, np.ones((2, 4)), {"n_components": 2}, "n_components: expected none"),
        (DictionaryLearner, np.ones((2, 4)), {"alpha": -1}, "alpha: expected"),
        (ConvolutionalDictionaryLearner, np.ones((2, 4)), {}, "components: expected an array with 3 or more"),
    ],
)
def test_components_are_checked(learner, components, parameters, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        learner.from_components(components, **parameters)


def test_a_parameter_of_load_replaces_that_of_the_file(rng, tmp_path):
    X = rng.standard_normal((20, 4))
    fitted = DictionaryLearner(3, alpha=0.3, max_iter=1, random_state=0).fit(X)
    fitted.save(tmp_path / "atoms.safetensors")
    loaded = DictionaryLearner.load(tmp_path / "atoms.safetensors", alpha=0.5)
    assert loaded.alpha == 0.5
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X, alpha=0.5))


@pytest.mark.parametrize(
    ("learner", "changed", "message"),
    [
        (
            partial(DictionaryLearner, 4),
            {"n_components": 3},
            "n_components: expected 4, as in the checkpoint",
        ),
        (partial(UnfoldedDictionaryLearner, 4), {"n_components": 3}, "n_components: expected 4, as in"),
        (
            partial(ConvolutionalDictionaryLearner, 2, 5),
            {"n_components": 3},
            "n_components: expected 2, as in",
        ),
        (
            partial(ConvolutionalDictionaryLearner, 2, 5),
            {"kernel_size": 4},
            r"kernel_size: expected \(5,\), as",
        ),
        (partial(ConvolutionalDictionaryLearner, 2, 5), {"offset": 1.0}, "of another run.*offset"),
        (partial(ConvolutionalDictionaryLearner, 2, 5), {"likelihood": "poisson"}, "of another run"),
        (
            partial(ConvolutionalDictionaryLearner, 2, 5, likelihood="binomial", trials=9),
            {"trials": 10},
            "of another run.*trials",
        ),
    ],
)
def test_a_run_does_not_resume_with_other_sizes_or_another_model(rng, tmp_path, learner, changed, message):
    X = rng.poisson(2.0, (12, 4)).astype(float)
    if learner.func is ConvolutionalDictionaryLearner:
        X = rng.poisson(2.0, (6, 1, 21)).clip(0, 9).astype(float)
    begun = learner(max_iter=1, tol=0, random_state=0, checkpoint=tmp_path / "run.safetensors").fit(X)
    with pytest.raises(ValueError, match=message):
        begun.set_params(max_iter=2, resume=True, **changed).fit(X)


def test_a_file_that_is_no_checkpoint_is_not_resumed_from_a_random_state_either(rng, tmp_path):
    X, path = rng.standard_normal((12, 4)), tmp_path / "atoms.safetensors"
    fitted = DictionaryLearner(3, alpha=0.3, max_iter=1).fit(X)
    fitted.save(path)
    with pytest.raises(FileFormatError, match="holds a 'dictionary', expected a 'checkpoint'"):
        fitted.set_params(checkpoint=path, resume=True).fit(X)


def test_nan_is_refused_with_the_way_to_mark_missing_entries():
    X = np.array([[1.0, np.nan], [1.0, 2.0]])
    with pytest.raises(
        ValueError, match="^X: expected finite values, it contains NaN; missing='allow' or a mask"
    ):
        DictionaryLearner(2).fit(X)
    with pytest.raises(ValueError, match="^X: expected finite values, it contains NaN$"):
        UnfoldedDictionaryLearner(2).fit(X)
