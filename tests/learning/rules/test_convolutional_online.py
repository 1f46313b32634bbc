"""Online convolutional learning: the moments are the loss, filters lower it, planted ones are found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.datasets import simulate_convolutional
from calepin.learning import (
    Batch,
    Convolutional,
    ConvolutionalOnline,
    FilterSet,
    SignalBatches,
    TrainState,
    initial_filters,
    load_checkpoint,
    train,
)
from calepin.learning.rules import _convolutional_moments as statistics
from calepin.learning.rules.convolutional_online import _penalties
from calepin.likelihoods import Gaussian, Poisson
from calepin.metrics import filter_error
from calepin.operators import ConvDictionary
from calepin.penalties import L1, ElasticNet, GroupL1
from calepin.solvers import ConvolutionalLassoCoder
from calepin.solvers.coders.sparse_codes import SparseCodes

# kernel, size of the signals, stride, channels
SHAPES = [
    ((5,), (23,), 1, 1),
    ((5,), (23,), 1, 3),
    ((4,), (21,), 2, 2),
    ((3, 4), (9, 8), 1, 2),
    ((3, 2), (9, 8), 2, 1),
    ((2, 3, 2), (5, 4, 6), 1, 1),
]


def problem(kernel, size, stride, channels, n_components=3, n=2, seed=0):
    rng = np.random.default_rng(seed)
    h = torch.from_numpy(rng.standard_normal((n_components, channels, *kernel)))
    operator = ConvDictionary(h, signal_shape=size, stride=stride)
    z = torch.from_numpy(
        rng.standard_normal((n, *operator.in_shape)) * (rng.random((n, *operator.in_shape)) < 0.3)
    )
    y = torch.from_numpy(rng.standard_normal((n, channels, *size)))
    return h, z, y


def loss(h, z, y, stride):
    operator = ConvDictionary(h, signal_shape=tuple(y.shape[2:]), stride=stride)
    return 0.5 * (operator(z) - y).square().sum()


def quadratic(h, S, B):
    """0.5 <h, S * h> - <h, B>, by a loop over all pairs of entries."""
    total = -float((h * B).sum())
    places = list(np.ndindex(*h.shape[2:]))
    for t in places:
        for u in places:
            lag = tuple(a - b + size - 1 for a, b, size in zip(t, u, h.shape[2:], strict=True))
            products = torch.einsum("mc,nc,mn->", h[(..., *t)], h[(..., *u)], S[(..., *lag)])
            total += 0.5 * float(products)
    return total


@pytest.mark.parametrize(("kernel", "size", "stride", "channels"), SHAPES)
def test_the_moments_define_the_loss_up_to_a_constant(kernel, size, stride, channels):
    h, z, y = problem(kernel, size, stride, channels)
    S, B = statistics.moments(h)
    statistics.add_moments(S, B, SparseCodes.from_dense(z), y, stride=stride)
    expected = float(loss(h, z, y, stride) - 0.5 * y.square().sum())
    np.testing.assert_allclose(quadratic(h, S, B), expected, rtol=1e-10)


@pytest.mark.parametrize(("kernel", "size", "stride", "channels"), SHAPES)
def test_descent_reaches_the_minimum_over_the_unit_balls(kernel, size, stride, channels):
    h, z, y = problem(kernel, size, stride, channels, n=20)
    S, B = statistics.moments(h)
    statistics.add_moments(S, B, SparseCodes.from_dense(z), y, stride=stride)
    found = statistics.descend(h, S, B, n_iter=3000)
    assert float(torch.linalg.vector_norm(found.flatten(1), dim=1).max()) <= 1 + 1e-12
    at_start, at_end = projected_step(h, z, y, stride, S), projected_step(found, z, y, stride, S)
    assert at_end < 1e-4 * at_start  # a fixed point of projected gradient steps


def projected_step(h, z, y, stride, S):
    """Return the length of a projected gradient step, a short one."""
    leaf = h.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, z, y, stride), leaf)
    moved = h - gradient / S.abs().sum()
    moved /= torch.linalg.vector_norm(moved.flatten(1), dim=1).clamp_min(1).view(-1, *[1] * (h.ndim - 1))
    return float((moved - h).abs().max())


def test_each_number_of_steps_lowers_the_loss():
    h, z, y = problem((6,), (60,), 1, 2, n=5)
    h = h / torch.linalg.vector_norm(h.flatten(1), dim=1).view(-1, 1, 1)
    S, B = statistics.moments(h)
    statistics.add_moments(S, B, SparseCodes.from_dense(z), y)
    values = [float(loss(statistics.descend(h, S, B, n_iter=n), z, y, 1)) for n in (1, 3, 10, 30, 300)]
    assert np.all(np.diff([float(loss(h, z, y, 1)), *values]) < 0)


def test_a_filter_that_no_code_uses_stays_where_it_is():
    h, z, y = problem((6,), (60,), 1, 1)
    h = h / torch.linalg.vector_norm(h.flatten(1), dim=1).view(-1, 1, 1)
    z[:, 1] = 0
    S, B = statistics.moments(h)
    statistics.add_moments(S, B, SparseCodes.from_dense(z), y)
    found = statistics.descend(h, S, B, n_iter=50)
    torch.testing.assert_close(found[1], h[1])
    assert not torch.equal(found[0], h[0])


def simulated(shape=(400,), kernel=(20,), n=30, seed=0):
    return simulate_convolutional(
        n,
        shape,
        n_components=2,
        kernel_size=kernel,
        n_events=6,
        likelihood="gaussian",
        noise=0.1,
        random_state=seed,
    )


def learn(rule, data, n_passes, batch_size=None, start="data", **settings):
    batches = SignalBatches(data.X, batch_size, likelihood=Gaussian(), dtype=torch.float64, **settings)
    filters = initial_filters(
        len(data.atoms), data.atoms.shape[2:], batches, init=start, generator=np.random.default_rng(1)
    )
    return train(rule, batches, TrainState(rule.init(filters)), max_iter=n_passes)


RULE = ConvolutionalOnline(ConvolutionalLassoCoder(0.3, 1e-3, nonnegative=True), centre=True)


@pytest.mark.parametrize(("batch_size", "horizon"), [(None, 1), (5, 6), (1, 30)])
def test_planted_filters_are_found(batch_size, horizon):
    data = simulated()
    state = learn(replace(RULE, horizon=horizon), data, 8, batch_size)
    assert filter_error(state.learned.atoms, data.atoms, max_shift=8).max() < 0.1


def test_planted_images_are_found(rng):
    data = simulated((40, 40), (6, 5))
    noise = rng.standard_normal(data.atoms.shape)
    start = data.atoms + 1.5 * noise / np.sqrt(np.square(noise).sum((1, 2, 3), keepdims=True))
    assert filter_error(start, data.atoms, max_shift=3).min() > 0.3
    state = learn(replace(RULE, horizon=1, centre=False), data, 12, start=start)
    assert filter_error(state.learned.atoms, data.atoms, max_shift=3).max() < 0.15


def test_it_is_at_a_lower_objective_than_adam_after_as_many_passes():
    data = simulated(seed=1)
    adam = learn(Convolutional(RULE.coder, n_updates=4, centre=True), data, 4)
    online = learn(replace(RULE, horizon=1), data, 4)
    assert online.history[0]["objective"] == pytest.approx(adam.history[0]["objective"], rel=1e-6)
    assert online.history[-1]["objective"] < 0.93 * adam.history[-1]["objective"]


def test_a_baseline_is_fitted_beside_the_codes():
    data = simulated()
    shifted = replace(data, X=data.X + 3)
    state = learn(replace(RULE, horizon=1, baseline=True), shifted, 8)
    assert filter_error(state.learned.atoms, data.atoms, max_shift=8).max() < 0.1


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    data = simulated(n=8)
    batches = SignalBatches(data.X, 3, likelihood=Gaussian())
    rule = replace(RULE, horizon=3)
    start = initial_filters(2, (20,), batches, init="data", generator=np.random.default_rng(0))
    whole = train(rule, batches, TrainState(rule.init(start)), max_iter=3)
    steps = iter(range(100))
    train(
        rule,
        batches,
        TrainState(rule.init(start)),
        max_iter=3,
        callbacks=[lambda state: next(steps) == 3],
        checkpoint=tmp_path / "run.safetensors",
    )
    resumed = load_checkpoint(tmp_path / "run.safetensors", rule, batches)
    assert (resumed.n_passes, resumed.step_in_pass) == (1, 1)
    train(rule, batches, resumed, max_iter=3)
    for name, value in whole.learned.tensors().items():
        np.testing.assert_array_equal(np.asarray(resumed.learned.tensors()[name]), np.asarray(value))


def test_a_stream_of_single_signals_finds_the_filters_and_forgets_its_start():
    data = simulated(n=60)
    rule = replace(RULE, stream=True)
    batches = SignalBatches(data.X, 1, likelihood=Gaussian(), dtype=torch.float64)
    filters = initial_filters(2, (20,), batches, init="data", generator=np.random.default_rng(1))
    state = TrainState(rule.init(filters))
    for n in (1, 2, 3):
        train(rule, batches, state, max_iter=n)
    assert filter_error(state.learned.atoms, data.atoms, max_shift=10).max() < 0.2


def test_counts_are_refused():
    rule = ConvolutionalOnline(ConvolutionalLassoCoder(0.3))
    signals = SignalBatches(np.ones((2, 1, 30)), None, likelihood=Poisson())
    with pytest.raises(IncompatibleError):
        rule.step(rule.init(np.ones((1, 1, 5), np.float32)), Batch(next(iter(signals.walk(0))).X))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"forgetting": -1}, "forgetting: expected"),
        ({"horizon": 0}, "horizon: expected"),
        ({"n_updates": 0}, "n_updates: expected"),
        ({"debias": -1}, "debias: expected"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ValueError, match=message):
        replace(RULE, **setting)


@pytest.mark.parametrize(
    "penalty", [L1(0.7), L1(torch.tensor([[1.0], [2.0]])), ElasticNet(0.5, 0.2), GroupL1(0.5, 2)], ids=str
)
def test_the_penalties_of_nonzeros_add_up_to_those_of_the_codes(penalty, rng):
    codes = torch.from_numpy(rng.normal(size=(3, 2, 9)) * (rng.random((3, 1, 9)) < 0.4))
    codes[:, 1, ::2] = 0
    codes[2] = 0
    nonzeros = SparseCodes.from_dense(codes)
    shares = _penalties(penalty, codes, nonzeros)
    np.testing.assert_allclose(np.bincount(nonzeros.sample, shares, 3), penalty.value(codes))
    first = (nonzeros.sample == 0) & (nonzeros.place[:, 0] == nonzeros.place[0, 0])
    alone = torch.zeros_like(codes[:1])
    alone[0, :, int(nonzeros.place[0, 0])] = codes[0, :, int(nonzeros.place[0, 0])]
    np.testing.assert_allclose(shares[first].sum(), penalty.value(alone)[0])  # those of a place, too


@pytest.mark.parametrize("filters", [FilterSet(norm="ball"), FilterSet(norm="ball", nonnegative=True)])
def test_filters_in_the_unit_ball_never_raise_the_objective(filters):
    data = simulated(n=6)
    coder = ConvolutionalLassoCoder(0.3, tol=1e-9, max_iter=2000)
    # filters that are too short, the codes of which are too large
    start = 0.3 * data.atoms + 0.05 * np.random.default_rng(0).standard_normal(data.atoms.shape)
    rule = ConvolutionalOnline(coder, horizon=1, robust=None, replace=False, filters=filters)
    batches = SignalBatches(data.X, None, likelihood=Gaussian(), dtype=torch.float64)
    state = TrainState(rule.init(torch.from_numpy(start)))
    assert (state.learned.atoms.flatten(1).norm(dim=1) < 0.6).all()
    train(rule, batches, state, max_iter=12)
    values = [record["objective"] for record in state.history]
    assert (np.diff(values) <= 1e-7 * values[0]).all()
    assert values[-1] < 0.8 * values[0]
    norms = state.learned.atoms.flatten(1).norm(dim=1)
    assert (norms <= 1 + 1e-9).all()
    np.testing.assert_allclose(norms, 1, atol=1e-3)  # at the end the balls are filled


def test_the_projection_on_the_ball_is_the_nearest_filter_of_the_set(rng):
    rule = ConvolutionalOnline(ConvolutionalLassoCoder(1.0), filters=FilterSet(norm="ball", nonnegative=True))
    h = torch.from_numpy(0.5 * rng.standard_normal((3, 2, 8)))
    nearest = rule.admissible(h)
    for scale in (0.01, 0.1, 1.0):
        others = nearest + scale * torch.from_numpy(rng.standard_normal((500, *h.shape)))
        others = others.clamp_min(0)
        others /= others.flatten(2).norm(dim=2).clamp_min(1)[..., None, None]
        distance = (others - h).flatten(2).norm(dim=2).amin(0)
        assert (distance >= (nearest - h).flatten(1).norm(dim=1) - 1e-12).all()
