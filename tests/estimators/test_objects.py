"""What an object has itself is neither taken from the estimator nor silently ignored."""

from functools import partial

import numpy as np
import pytest
import torch

from calepin import ConvolutionalDictionaryLearner, DictionaryLearner, UnfoldedDictionaryLearner
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
