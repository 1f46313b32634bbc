"""Known atoms make a fitted learner; objects are given again to `load`; coding changes no fitted state."""

import copy

import numpy as np
import pytest
import torch

import calepin
from calepin.generators import PolynomialSine
from calepin.learning import LeastSquares
from calepin.penalties import L1
from calepin.solvers import LassoCoder, sparse_encode


@pytest.fixture
def X(rng):
    return rng.standard_normal((30, 8))


@pytest.fixture
def atoms(rng):
    drawn = rng.standard_normal((12, 8))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_known_atoms_code_samples_without_a_fit(X, atoms):
    learner = calepin.DictionaryLearner.from_components(atoms, alpha=0.2)
    assert learner.components_ is atoms
    assert learner.n_components == 12
    np.testing.assert_allclose(learner.transform(X), sparse_encode(X, atoms, alpha=0.2), atol=1e-6)
    unfolded = calepin.UnfoldedDictionaryLearner.from_components(atoms, alpha=0.2, differentiate="implicit")
    np.testing.assert_allclose(unfolded.transform(X), learner.transform(X), atol=1e-6)


def test_known_filters_code_signals(rng):
    filters = rng.standard_normal((2, 1, 5))
    learner = calepin.ConvolutionalDictionaryLearner.from_components(filters, alpha=0.1, coder="exact")
    assert learner.kernel_size == (5,)
    X = rng.standard_normal((3, 1, 30))
    codes = learner.transform(X)
    assert codes.shape == (3, 2, 26)
    assert np.linalg.norm(learner.inverse_transform(codes) - X) < 0.5 * np.linalg.norm(X)


def test_a_known_decay_gives_amplitudes_without_shrinkage(rng):
    decay = np.exp(-np.arange(60) / 12)
    spikes = np.zeros((2, 1, 941))
    for i in range(2):
        spikes[i, 0, rng.permutation(np.arange(10, 930, 25))[:20]] = rng.uniform(0.8, 1.5, 20)
    trace = np.stack([np.convolve(s[0], decay)[None] for s in spikes]) + rng.normal(
        scale=0.05, size=(2, 1, 1000)
    )
    trace[:, :, 300:306] = np.nan
    known = {"nonnegative": True, "alpha": 0.5, "detrend": None}
    learner = calepin.ConvolutionalDictionaryLearner.from_components(decay[None, None], **known)
    shrunken = learner.transform(trace)
    amplitudes = learner.set_params(debias=True).transform(trace)
    large = (spikes > 0) & (amplitudes > 0)
    assert large.sum() > 0.8 * (spikes > 0).sum()
    ratio = [np.median(codes[large] / spikes[large]) for codes in (amplitudes, shrunken)]
    assert abs(ratio[0] - 1) < 0.03 < 0.06 < 1 - ratio[1]
    # stationary on their support, over what is observed
    residual = np.nan_to_num(trace - learner.inverse_transform(amplitudes))
    slopes = np.stack([np.correlate(r[0], decay, "valid")[None] for r in residual])
    assert np.abs(slopes[amplitudes > 0]).max() < 1e-4


def test_a_known_layer_decodes_samples(rng):
    generator = PolynomialSine(2)
    layer = rng.standard_normal((6, 10))
    latents = rng.standard_normal((20, 2)).astype(np.float32)
    learner = calepin.GenerativeDictionaryLearner.from_components(
        layer.astype(np.float32), generator=generator
    )
    samples = learner.inverse_transform(latents)
    again = learner.inverse_transform(learner.transform(samples))
    np.testing.assert_allclose(again, samples, atol=1e-3)


def test_known_atoms_can_be_learned_on_and_saved(X, atoms, tmp_path):
    learner = calepin.DictionaryLearner.from_components(atoms.copy(), alpha=0.2, random_state=0)
    learner.save(tmp_path / "known.safetensors")
    loaded = calepin.DictionaryLearner.load(tmp_path / "known.safetensors")
    np.testing.assert_array_equal(loaded.transform(X), learner.transform(X))
    before = learner.score(X)
    for _ in range(5):
        learner.partial_fit(X)
    assert learner.score(X) > before


def test_a_coder_that_is_an_object_is_asked_for_again(X, tmp_path):
    coder = LassoCoder(0.3, nonnegative=True)
    learner = calepin.DictionaryLearner(10, coder=coder, max_iter=2, random_state=0).fit(X)
    learner.save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"coder: expected the object that .* was learned with"):
        calepin.DictionaryLearner.load(tmp_path / "own.safetensors")
    loaded = calepin.DictionaryLearner.load(tmp_path / "own.safetensors", coder=coder)
    np.testing.assert_array_equal(loaded.transform(X), learner.transform(X))


def fitted(learner):
    """Return copies of all attributes that end in an underscore, and of the parameters."""
    state = {name: value for name, value in vars(learner).items() if not name.startswith("_")}
    return copy.deepcopy(state)


def test_transform_and_score_change_nothing(rng):
    X = rng.poisson(2.0, (4, 1, 40)).astype(float)
    learner = calepin.ConvolutionalDictionaryLearner(
        2, 6, likelihood="poisson", alpha=0.5, max_iter=2, random_state=0
    ).fit(X)
    before, private = fitted(learner), set(vars(learner))
    with_estimate = learner.transform(X)
    learner.transform(X, offset=np.zeros(4))
    learner.score(X, offset=np.zeros(4))
    assert set(vars(learner)) == private
    for name, value in fitted(learner).items():
        np.testing.assert_equal(value, before[name], err_msg=name)
    np.testing.assert_array_equal(learner.transform(X), with_estimate)


def test_a_generative_fit_resumes_bit_for_bit(rng, tmp_path):
    X = rng.standard_normal((40, 10)).astype(np.float32)

    def learner(**settings):
        return calepin.GenerativeDictionaryLearner(
            PolynomialSine(2), batch_size=16, max_iter=4, tol=0, random_state=0, **settings
        )

    whole = learner().fit(X)
    path = tmp_path / "run.safetensors"
    learner(checkpoint=path).fit(X, callbacks=[lambda state: state.n_steps >= 5])
    resumed = learner(checkpoint=path, resume=True).fit(X)
    np.testing.assert_array_equal(resumed.components_, whole.components_)
    assert [r["objective"] for r in resumed.history_] == [r["objective"] for r in whole.history_]


def test_a_generative_fit_takes_batches_of_an_iterable(rng):
    X = rng.standard_normal((48, 10)).astype(np.float32)

    class Stream:
        def __iter__(self):
            return iter(np.split(X, 3))

    streamed = calepin.GenerativeDictionaryLearner(PolynomialSine(2), max_iter=3, tol=0, random_state=0)
    streamed.fit(Stream())
    assert streamed.n_steps_ == 9
    assert streamed.n_determined_ == 6
    assert streamed.score(X) > -0.5 * float(np.square(X).sum(1).mean())


def test_a_rule_of_ones_own_decodes_by_its_own_settings(rng):
    X = rng.standard_normal((30, 10)).astype(np.float32)
    rule = LeastSquares(PolynomialSine(2), n_starts=2, seed=3)
    learner = calepin.GenerativeDictionaryLearner(rule.generator, rule=rule, max_iter=2, random_state=0)
    learner.fit(X)
    y, atoms = torch.from_numpy(X), torch.from_numpy(learner.components_)
    found = rule.decode(atoms, y, generator=None).z.numpy()
    assert learner.transform(X).shape == found.shape


def test_load_refuses_what_is_no_penalty(X, tmp_path):
    path = tmp_path / "plain.safetensors"
    calepin.DictionaryLearner(10, alpha=0.1, max_iter=1, random_state=0).fit(X).save(path)
    with pytest.raises(TypeError, match="penalty: expected an object with value and prox, got 3"):
        calepin.DictionaryLearner.load(path, penalty=3)
    with pytest.raises(TypeError, match="penalty: expected an object with value and prox, got the class L1"):
        calepin.DictionaryLearner.load(path, penalty=L1)
