"""Learning of convolutional filters: what a step does, what it recovers, how it resumes."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.datasets import simulate_convolutional
from calepin.learning import (
    Batch,
    Convolutional,
    DivergedError,
    SignalBatches,
    TrainState,
    initial_filters,
    load_checkpoint,
    train,
)
from calepin.learning.rules.convolutional_base import code_signals, fit_baseline
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.metrics import filter_error
from calepin.operators import ConvDictionary
from calepin.penalties import L1, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import ConvolutionalLassoCoder, ProximalCoder
from calepin.solvers.support import peaks, refit

FAMILIES = {"gaussian": Gaussian(), "binomial": Binomial(25), "poisson": Poisson()}
POSITIVE = ProximalCoder(NonNegativeL1(2.0), n_iter=30, nonnegative=True)
SGD = partial(torch.optim.SGD, lr=0.1)


def simulated(family="binomial", n=40, offset=0.0, random_state=0, **settings):
    return simulate_convolutional(
        n, (120,), n_components=2, kernel_size=(20,), n_events=2, likelihood=family, offset=offset,
        noise=0.3, random_state=random_state, **settings,
    )  # fmt: skip


def batches(data, family="binomial", batch_size=20, **settings):
    settings = {"likelihood": FAMILIES[family], "dtype": torch.float64} | settings
    return SignalBatches(data.X, batch_size, **settings)


def near(atoms, rng, error=0.35):
    """Return unit filters with that error to `atoms`, which are unit."""
    moved = rng.standard_normal(atoms.shape)
    moved -= (moved * atoms).sum((1, 2), keepdims=True) * atoms
    moved /= np.sqrt((moved**2).sum((1, 2), keepdims=True))
    return (1 - error**2) ** 0.5 * atoms + error * moved


def learn(rule, data, batches, start, n_passes):
    filters = initial_filters(
        len(data.atoms), data.atoms.shape[2:], batches, init=start, generator=np.random.default_rng(1)
    )
    return train(rule, batches, TrainState(rule.init(filters)), max_iter=n_passes)


@pytest.mark.parametrize("family", FAMILIES)
def test_filters_of_every_family_are_recovered(family, rng):
    offset = 2.0 if family == "poisson" else 0.0  # few counts tell little
    data = simulated(family, n=60, offset=offset)
    start = near(data.atoms, rng)
    weight = {"gaussian": 0.3, "binomial": 8.0, "poisson": 5.0}[family]
    rule = Convolutional(
        ProximalCoder(NonNegativeL1(weight), n_iter=40, nonnegative=True), debias=3, n_peaks=4, n_updates=6
    )
    state = learn(rule, data, batches(data, family, offset=offset), start, 6)
    errors = filter_error(state.learned.atoms, data.atoms, max_shift=3)
    assert filter_error(start, data.atoms).max() > 0.3
    assert errors.max() < 0.2, errors


@pytest.mark.parametrize("gradient", ["dec", "ae-lasso", "ae-ls"])
def test_a_step_follows_the_rules_gradient_along_the_sphere(gradient, rng):
    data = simulated()
    rule = Convolutional(replace(POSITIVE, n_iter=6), gradient=gradient, optimizer=SGD)
    group = batches(data, batch_size=None).head(40, rng).X[0]
    before = torch.from_numpy(near(data.atoms, rng))
    before /= torch.linalg.vector_norm(before.flatten(1), dim=1)[:, None, None]

    def loss(atoms):
        problem, codes = code_signals(rule, group, atoms)
        value = problem.nll(codes)
        if gradient == "ae-lasso":
            value = value + rule.coder.penalty.value(codes)
        return value.sum() / (group.y.numel() * 25 / 4)

    leaf = before.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    slope -= (slope * before).sum((1, 2), keepdim=True) * before
    expected = before - 0.1 * slope
    expected /= torch.linalg.vector_norm(expected.flatten(1), dim=1)[:, None, None]
    state = rule.init(before)
    rule.step(state, Batch([group]))
    torch.testing.assert_close(state.atoms, expected)


def test_the_decoder_alone_and_the_encoder_too_are_different_gradients(rng):
    data = simulated()
    ends = []
    for gradient in ("dec", "ae-ls"):
        rule = Convolutional(replace(POSITIVE, n_iter=6), gradient=gradient, optimizer=SGD)
        ends.append(learn(rule, data, batches(data), near(data.atoms, np.random.default_rng(0)), 1))
    assert not torch.allclose(ends[0].learned.atoms, ends[1].learned.atoms)


def test_signals_of_different_length_learn_as_one_data_set(rng):
    data = simulated(n=6)
    whole = batches(data, batch_size=None)
    mixed = SignalBatches(
        [*data.X[:3], *[x[:, :100] for x in data.X[3:]]], None, likelihood=Binomial(25), dtype=torch.float64
    )
    sizes = [tuple(group.y.shape) for group in next(mixed.walk(0)).X]
    assert sizes == [(3, 1, 120), (3, 1, 100)]
    rule = Convolutional(POSITIVE)
    start = near(data.atoms, rng)
    assert learn(rule, data, mixed, start, 2).history[-1]["objective"] > 0
    as_list = SignalBatches(list(data.X), None, likelihood=Binomial(25), dtype=torch.float64)
    first, second = (learn(rule, data, source, start, 2).learned.atoms for source in (whole, as_list))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_trials_and_offsets_stay_with_their_signal(rng):
    data = simulated(n=10)
    trials = rng.integers(25, 40, 10)
    offset = rng.standard_normal(10)
    source = batches(
        data, batch_size=4, trials=[n.reshape(1, 1) for n in trials], offset=[b.reshape(1, 1) for b in offset]
    )
    seen = {}
    for batch in source.walk(3):
        for group in batch.X:
            for y, n, b in zip(group.y, group.likelihood.trials, group.offset, strict=True):
                seen[float(b)] = (float(n), y.numpy())
    for n, b, y in zip(trials, offset, data.X, strict=True):
        assert seen[b][0] == n
        np.testing.assert_array_equal(seen[b][1], y)


@pytest.mark.parametrize("debias", [None, 3])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(debias, tmp_path, rng):
    data = simulated()
    rule = Convolutional(POSITIVE, debias=debias, n_updates=1 if debias is None else 2, centre=True)
    start = np.roll(near(data.atoms, rng), 7, axis=2)
    source = batches(data, batch_size=12, seed=5)
    filters = initial_filters(2, (20,), source, init=start, generator=rng)
    whole = train(rule, source, TrainState(rule.init(filters)), max_iter=3)
    path = tmp_path / "run.safetensors"
    train(
        rule, source, TrainState(rule.init(filters)), max_iter=3, checkpoint=path,
        callbacks=[lambda state: state.n_steps == 5],
    )  # fmt: skip
    resumed = train(rule, source, load_checkpoint(path, rule, source), max_iter=3)
    assert torch.equal(resumed.learned.atoms, whole.learned.atoms)
    assert [h["objective"] for h in resumed.history] == [h["objective"] for h in whole.history]
    with pytest.raises(ValueError, match="of another run: its stride was 1, now 2"):
        load_checkpoint(path, replace(rule, stride=2), source)


def test_an_idle_filter_gives_way_to_what_is_explained_badly(rng):
    data = simulated(n=60)
    rule = Convolutional(replace(POSITIVE, penalty=NonNegativeL1(15.0)))
    source = batches(data)
    dead = np.stack([data.atoms[0], np.resize([1.0, -1.0], (1, 20))])  # no event flickers
    state = learn(rule, data, source, dead, 1)
    assert state.history[0]["n_replaced"] == 1
    assert abs(float((state.learned.atoms[1] * torch.from_numpy(dead[1])).sum())) < 0.5 * 20**0.5
    kept = learn(replace(rule, replace=False), data, source, dead, 1)
    assert kept.history[0]["n_replaced"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_baseline_is_where_its_likelihood_is_stationary(family, rng):
    data = simulated(family, offset=-0.7)
    dictionary = ConvDictionary(torch.from_numpy(data.atoms), signal_shape=(120,))
    problem = Problem(dictionary, FAMILIES[family], torch.from_numpy(data.X))
    codes = torch.from_numpy(data.codes)
    baseline = fit_baseline(problem, codes)
    residual = FAMILIES[family].score(problem.operator(codes) + baseline, problem.y).sum((1, 2))
    np.testing.assert_allclose(residual, 0, atol=1e-6)
    assert baseline.mean() == pytest.approx(-0.7, abs=0.05)


def test_a_fitted_baseline_takes_the_place_of_a_known_one(rng):
    data = simulated(offset=-1.5)
    rule = Convolutional(replace(POSITIVE, n_iter=80), baseline=True)
    group = batches(data, batch_size=None).head(40, rng).X[0]
    problem, codes = code_signals(rule, group, torch.from_numpy(data.atoms))
    assert problem.offset.shape == (40, 1, 1)
    assert problem.offset.mean() == pytest.approx(-1.5, abs=0.2)
    assert (codes > 0).any()


def test_peaks_are_local_maxima():
    codes = torch.zeros(1, 2, 9)
    codes[0, 0] = torch.tensor([0, 1, 3, 2, 0, 0, 0, -2, -1.0])
    codes[0, 1, 2] = 0.5
    found = peaks(codes, 2)
    assert found.nonzero().tolist() == [[0, 0, 2], [0, 0, 7], [0, 1, 2]]
    assert peaks(codes, 2, 1).nonzero().tolist() == [[0, 0, 2]]


@pytest.mark.parametrize("family", FAMILIES)
def test_refitted_codes_are_stationary_on_their_support(family):
    data = simulated(family)
    dictionary = ConvDictionary(torch.from_numpy(data.atoms), signal_shape=(120,))
    problem = Problem(dictionary, FAMILIES[family], torch.from_numpy(data.X))
    codes, support = torch.zeros(data.codes.shape, dtype=torch.float64), torch.from_numpy(data.codes != 0)
    found = refit(problem, codes, support, nonnegative=True, n_iter=400)
    assert not found[~support].any()
    assert (found >= 0).all()
    slope = problem.gradient(found)
    assert slope[found > 0].abs().max() < 1e-2 * problem.gradient(codes).abs().max()


def test_the_exact_coder_codes_as_many_iterations_do(rng):
    data = simulated("gaussian", n=4)
    problem = Problem(
        ConvDictionary(torch.from_numpy(data.atoms), signal_shape=(120,)),
        Gaussian(), torch.from_numpy(data.X), torch.full((4, 1, 1), 0.1, dtype=torch.float64),
    )  # fmt: skip
    exact = ConvolutionalLassoCoder(0.3, nonnegative=True, tol=1e-8).encode(problem).values
    many = ProximalCoder(NonNegativeL1(0.3), n_iter=3000).encode(problem).values
    torch.testing.assert_close(exact, many, atol=1e-2, rtol=1e-2)


def test_what_cannot_be_combined_is_refused(rng):
    data = simulated(n=4)
    group = batches(data).head(4, rng).X[0]
    atoms = torch.from_numpy(data.atoms)
    with pytest.raises(ValueError, match="gradient: expected 'dec' with debias"):
        Convolutional(POSITIVE, gradient="ae-ls", debias=2)
    with pytest.raises(IncompatibleError, match="ConvolutionalLassoCoder needs a Gaussian likelihood"):
        code_signals(Convolutional(ConvolutionalLassoCoder(1.0)), group, atoms)
    with pytest.raises(IncompatibleError, match="ConvolutionalLassoCoder needs gradient 'dec'"):
        code_signals(Convolutional(ConvolutionalLassoCoder(1.0), gradient="ae-ls"), group, atoms)
    with pytest.raises(
        IncompatibleError, match="needs a ConvDictionary of stride 1.*got ConvDictionary of stride 2"
    ):
        code_signals(
            Convolutional(ConvolutionalLassoCoder(1.0), stride=2),
            replace(group, likelihood=Gaussian()),
            atoms,
        )
    with pytest.raises(DivergedError, match="filters became NaN"):
        Convolutional(POSITIVE).step(Convolutional(POSITIVE).init(atoms * float("nan")), Batch([group]))


def test_a_penalty_that_leaves_nothing_is_said(rng):
    data = simulated(n=4)
    rule = Convolutional(ProximalCoder(L1(1e6), n_iter=3))
    with pytest.warns(RuntimeWarning, match="all codes of a batch are zero"):
        learn(rule, data, batches(data), data.atoms, 1)


@pytest.mark.parametrize("init", ["data", "random"])
def test_first_filters_are_unit_and_follow_the_seed(init):
    data = simulated()
    draw = [
        initial_filters(3, (20,), batches(data), init=init, generator=np.random.default_rng(seed))
        for seed in (0, 0, 1)
    ]
    torch.testing.assert_close(torch.linalg.vector_norm(draw[0].flatten(1), dim=1), torch.ones(3).double())
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


def test_images_take_the_same_path(rng):
    data = simulate_convolutional(
        8, (24, 20), n_components=2, kernel_size=(7, 5), n_events=3, likelihood="gaussian", noise=0.05
    )
    source = batches(data, "gaussian", batch_size=4)
    rule = Convolutional(ProximalCoder(NonNegativeL1(0.3), n_iter=30, nonnegative=True), n_updates=5)
    start = data.atoms + 0.06 * rng.standard_normal(data.atoms.shape)
    state = learn(rule, data, source, start, 5)
    assert filter_error(state.learned.atoms, data.atoms).max() < 0.5 * filter_error(start, data.atoms).max()
