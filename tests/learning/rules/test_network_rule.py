from functools import partial

import numpy as np
import pytest
import torch

from calepin.datasets import GaussianNoise, PoissonNoise, simulate_convolutional
from calepin.learning import (
    ArrayBatches,
    Batch,
    CosineDecay,
    DivergedError,
    NetworkRule,
    TrainState,
    load_checkpoint,
    save_checkpoint,
    train,
)
from calepin.learning.optimizers import along_sphere
from calepin.likelihoods import Binomial, Poisson
from calepin.metrics import filter_error
from calepin.networks import UnfoldedAutoencoder
from calepin.operators import ConvDictionary
from calepin.penalties import L1, NonNegativeL1


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small lose more than they gain by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(*, seed=0, **settings):
    settings = {"stride": 2, "n_unfold": 4, "learn_threshold": True, "step_size": 0.3} | settings
    return UnfoldedAutoencoder(0.3 * randn(6, 1, 4, 4, seed=seed), L1(0.05), **settings)


def images(n=12, size=14, seed=0):
    """Piecewise constant images: a bright rectangle on dark ground."""
    rng = np.random.default_rng(seed)
    X = np.zeros((n, 1, size, size))
    for image in X:
        top, left = rng.integers(0, size - 6, 2)
        image[0, top : top + 6, left : left + 6] = rng.uniform(0.5, 1)
    return X


OPTIMIZERS = {
    "adam": partial(torch.optim.Adam, lr=1e-2),
    "sgd with momentum": partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
    "rmsprop": partial(torch.optim.RMSprop, lr=1e-3),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, optimizer, tied):
    def start():
        rule = NetworkRule(
            network(tied=tied, learn_step=True),
            optimizer=OPTIMIZERS[optimizer],
            noise=GaussianNoise(0.1, 0.3),
            schedule=CosineDecay(7, warm_up=0.3),
            max_norm=0.1,
            crop=9,
            n_shifts=2,
            average=4,
            seed=3,
        )
        return rule, ArrayBatches(images(), 4, seed=1)

    rule, data = start()
    whole = train(rule, data, TrainState(rule.init()), max_iter=3)
    assert whole.n_steps == 9

    rule, data = start()
    # in the middle of a pass
    begun = train(
        rule, data, TrainState(rule.init()), max_iter=3, callbacks=[lambda state: state.n_steps == 5]
    )
    save_checkpoint(tmp_path / "run", rule, data, begun)
    with torch.no_grad():
        for parameter in begun.learned.network.parameters():
            parameter.fill_(7.0)

    rule, data = start()
    state = train(rule, data, load_checkpoint(tmp_path / "run", rule, data), max_iter=3)
    mine, expected = state.learned.tensors(), whole.learned.tensors()
    assert mine.keys() == expected.keys()
    assert {name for name in mine if name.startswith("average.")}
    for name, value in expected.items():
        assert torch.equal(mine[name], value), name
    objectives = [[record["objective"] for record in run.history] for run in (whole, state)]
    assert objectives[0] == objectives[1]


@pytest.mark.parametrize("target", ["clean", "observed"])
@pytest.mark.parametrize("detach_codes", [True, False])
def test_training_lowers_the_loss(target, detach_codes):
    rule = NetworkRule(
        network(step_size=0.1, n_unfold=10),
        optimizer=partial(torch.optim.Adam, lr=3e-3),
        noise=GaussianNoise(0.1),
        target=target,
        n_shifts=2,
        detach_codes=detach_codes,
        # codes shrunk by the threshold make atoms grow past a fixed step: nothing else holds "dec" back
        unit_norm=detach_codes,
    )
    X = torch.from_numpy(images(30, seed=5))

    @torch.no_grad()
    def held_out():
        return float(rule.loss(state.learned.network, X, torch.Generator().manual_seed(0)).mean())

    state = TrainState(rule.init())
    before = held_out()
    train(rule, ArrayBatches(images(), 4), state, max_iter=30)
    assert held_out() < 0.8 * before


def test_a_trained_network_denoises():
    rule = NetworkRule(
        network(n_unfold=5, tied=False), optimizer=OPTIMIZERS["adam"], noise=GaussianNoise(0.2)
    )
    state = train(rule, ArrayBatches(images(40), 8), TrainState(rule.init()), max_iter=40)
    net = state.learned.network
    clean = torch.from_numpy(images(10, seed=9))
    noisy = clean + 0.2 * randn(*clean.shape, seed=1)
    with torch.no_grad():
        one, all_shifts = net(noisy, shifts=[(0, 0)]), net(noisy)
    errors = [float((x - clean).square().mean()) for x in (noisy, one, all_shifts)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < errors[1]


def test_with_codes_detached_the_gradient_is_the_decoders_alone():
    net = network(padding="none")
    rule = NetworkRule(net, optimizer=partial(torch.optim.SGD, lr=1.0), target="observed", detach_codes=True)
    y = randn(2, 1, 10, 10, seed=4)
    atoms = net.atoms.detach().clone()
    codes = net.encode(y).detach()
    leaf = atoms.clone().requires_grad_()
    residual = ConvDictionary(leaf, signal_shape=(10, 10), stride=2)(codes) - y
    (0.5 * residual.square().sum() / 2 / 100).backward()
    state = rule.init()
    rule.step(state, Batch(y))
    torch.testing.assert_close(atoms - state.network.atoms.detach(), leaf.grad)
    assert torch.equal(net.atoms, atoms)  # the rule's own network stays as it is
    assert state.tensors()["atoms"].data_ptr() == state.network.atoms.data_ptr()


def test_runs_of_one_rule_share_no_weights_and_no_memory():
    rule = NetworkRule(network(), optimizer=OPTIMIZERS["sgd with momentum"], average=3)
    first, second = rule.init(), rule.init()
    before = [parameter.detach().clone() for parameter in second.network.parameters()]
    for _ in range(2):
        rule.step(first, Batch(images(4)))
    assert all(torch.equal(a, b) for a, b in zip(second.network.parameters(), before, strict=True))
    assert (first.n_steps, second.n_steps) == (2, 0)
    assert not second.optimizer.state
    rule.step(second, Batch(images(4)))
    rule.step(second, Batch(images(4)))
    for name, value in first.tensors().items():
        other = second.tensors()[name]
        assert torch.equal(other, value), name
        assert other.data_ptr() != value.data_ptr(), name


def photon_network():
    settings = {"stride": 2, "n_unfold": 6, "learn_threshold": True, "step_size": 1.0, "residual_bound": 4.0}
    return UnfoldedAutoencoder(
        0.2 * randn(6, 1, 4, 4), NonNegativeL1(0.05), likelihood=Poisson(), tied=False, **settings
    )


def test_a_network_learns_to_denoise_counts():
    rule = NetworkRule(
        photon_network(),
        optimizer=partial(torch.optim.Adam, lr=5e-3),
        max_norm=0.1,
        noise=PoissonNoise(4.0),
    )
    X = torch.from_numpy(0.05 + images(20, seed=9))

    @torch.no_grad()
    def held_out():
        return float(rule.loss(state.learned.network, X, torch.Generator().manual_seed(0)).mean())

    state = TrainState(rule.init())
    before = held_out()
    train(rule, ArrayBatches(0.05 + images(24), 8), state, max_iter=20)
    assert held_out() < 0.6 * before


def test_poisson_noise_has_its_peak_at_the_brightest_entry_of_each_sample():
    x = torch.from_numpy(images(3)) * torch.tensor([1.0, 50.0, 0.0]).view(3, 1, 1, 1)
    noise = PoissonNoise(2.0)
    draws = torch.stack([noise(x, torch.Generator().manual_seed(k)) for k in range(400)])
    assert torch.equal(draws, draws.round())
    brightest = draws.mean(0).flatten(1).amax(1)
    torch.testing.assert_close(brightest[:2], torch.full((2,), 2.0, dtype=x.dtype), rtol=0, atol=0.35)
    torch.testing.assert_close(draws.mean(0) * noise.scale(x), x, rtol=0, atol=0.3 * 25)
    assert brightest[2] == 0


def test_the_rate_rises_and_falls_and_stays():
    rate = [CosineDecay(100, warm_up=0.1, last=0.02)(n) for n in range(130)]
    assert rate[:9] == sorted(rate[:9])
    assert rate[10:99] == sorted(rate[10:99], reverse=True)
    assert rate[0] == pytest.approx(0.1, abs=0.01)
    assert max(rate) > 0.95
    assert rate[99:] == pytest.approx([0.02] * 31)


def test_each_step_takes_the_rate_of_its_number_and_a_bounded_gradient():
    sgd = partial(torch.optim.SGD, lr=2.0)
    rule = NetworkRule(network(), optimizer=sgd, schedule=CosineDecay(4, warm_up=1.0), max_norm=1e-3)
    state = rule.init()
    for n_step in range(3):
        before = torch.cat([p.detach().flatten() for p in state.network.parameters()])
        rule.step(state, Batch(images(4)))
        moved = torch.cat([p.detach().flatten() for p in state.network.parameters()]) - before
        assert float(moved.norm()) == pytest.approx(2e-3 * rule.schedule(n_step), rel=1e-3)


def test_noise_levels_fill_their_range():
    x = torch.zeros(400, 1, 20, 20, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    levels = GaussianNoise(0.1, 0.5)(x, generator).flatten(1).std(1)
    assert 0.08 < levels.min() < 0.12
    assert 0.45 < levels.max() < 0.56
    assert float(levels.mean()) == pytest.approx(0.3, abs=0.02)
    fixed = GaussianNoise(0.1)(x, generator).flatten(1).std(1)
    assert float(fixed.std()) < 0.01


def test_crops_are_windows_of_the_samples():
    seen = []

    class Spy(UnfoldedAutoencoder):
        def forward(self, y, **settings):
            seen.append(y)
            return super().forward(y, **settings)

    net = Spy(0.3 * randn(6, 1, 4, 4), L1(0.05), stride=2)
    rule = NetworkRule(net, crop=5, seed=2)
    x = torch.arange(3 * 9 * 4, dtype=torch.float64).view(3, 1, 9, 4)
    state = rule.init()
    for _ in range(6):
        rule.step(state, Batch(x))
    corners = torch.stack([y[:, 0, 0, 0] for y in seen])
    assert {tuple(y.shape) for y in seen} == {(3, 1, 5, 4)}  # an axis shorter than the crop stays whole
    assert len(corners[:, 0].unique()) > 2
    begin = int((corners[0, 1] - 36) // 4)
    assert torch.equal(seen[0][1], x[1, :, begin : begin + 5])


def test_atoms_keep_unit_norm_on_request():
    rule = NetworkRule(network(tied=False), unit_norm=True)
    net = train(rule, ArrayBatches(images(), 4), TrainState(rule.init()), max_iter=1).learned.network
    for weights in (net.atoms, net.encoder_atoms, net.decoder_atoms):
        torch.testing.assert_close(
            weights.detach().flatten(1).norm(dim=1), torch.ones(6, dtype=torch.float64)
        )


def test_the_mean_of_the_weights_is_plain_at_first_and_forgets_later():
    rule = NetworkRule(network(), average=4)
    state, weights, expected = rule.init(), [], 0
    for n in range(1, 8):
        rule.step(state, Batch(images(4, seed=n)))
        weights.append(state.network.atoms.detach().clone())
        expected = expected + (weights[-1] - expected) / min(n, 4)
        if n == 4:
            torch.testing.assert_close(expected, torch.stack(weights).mean(0))
    assert not torch.allclose(expected, weights[-1])
    rule.finish(state)
    torch.testing.assert_close(state.network.atoms.detach(), expected)


def test_without_a_mean_a_run_ends_with_its_last_weights():
    rule = NetworkRule(network())
    state = rule.init()
    rule.step(state, Batch(images(4)))
    last = state.network.atoms.detach().clone()
    rule.finish(state)
    assert torch.equal(state.network.atoms, last)


def test_training_that_diverges_stops_and_keeps_the_last_checkpoint(tmp_path):
    rule = NetworkRule(network(step_size=1e6))
    data = ArrayBatches(1e300 * images(), 4)
    state = TrainState(rule.init())
    save_checkpoint(tmp_path / "run", rule, data, state)
    saved = (tmp_path / "run").read_bytes()
    with pytest.raises(DivergedError, match="objective became"):
        train(rule, data, state, max_iter=1, checkpoint=tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == saved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: NetworkRule(network(), noise=GaussianNoise(0.2)), "noise"),
        (lambda: NetworkRule(network(n_unfold=5)), "network.n_unfold was 4, now 5"),
        (lambda: NetworkRule(network(step_size=0.2)), "constants.step_size"),
        (lambda: _with_rate(2e-3), "optimizer.lr was 0.001, now 0.002"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, change, message):
    rule, data = NetworkRule(network()), ArrayBatches(images(), 4)
    save_checkpoint(tmp_path / "run", rule, data, TrainState(rule.init()))
    with pytest.raises(ValueError, match="of another run") as error:
        load_checkpoint(tmp_path / "run", change(), data)
    assert message in str(error.value)


def _with_rate(rate):
    return NetworkRule(network(), optimizer=partial(torch.optim.Adam, lr=rate))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkRule(network(), target="noisy"), "target: expected one of"),
        (
            lambda: NetworkRule(network(), optimizer=torch.optim.SGD(network().parameters(), lr=0.1)),
            r"optimizer: expected a function from a list of parameters to an optimiser, .* got SGD",
        ),
        (lambda: NetworkRule(network(), average=0), "average: expected a positive integer or None, got 0"),
        (lambda: NetworkRule(network(), crop=3), "crop: expected an integer of at least 4 or None, got 3"),
        (lambda: NetworkRule(network(), n_shifts=5), "n_shifts: expected 1 to 4, got 5"),
        (lambda: GaussianNoise(-0.1), "sigma: expected a finite number"),
        (lambda: PoissonNoise(0.0), "peak: expected a finite number above 0"),
        (lambda: CosineDecay(0), "n_steps: expected a positive integer"),
        (
            lambda: CosineDecay(5, last=2),
            "last: expected a finite number of at least 0 and of at most 1, got 2",
        ),
        (lambda: NetworkRule(network(), max_norm=0.0), "max_norm: expected a finite number above 0"),
        (lambda: GaussianNoise(0.3, 0.1), "sigma_max: expected a finite number of at least 0.3"),
        (lambda: _step_with_mask(), "mask: expected None"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _step_with_mask():
    rule = NetworkRule(network())
    X = images()
    rule.step(rule.init(), Batch(X, X > 0))


def test_gradients_of_unit_atoms_are_tangent_to_the_sphere():
    net = UnfoldedAutoencoder(0.3 * randn(6, 1, 4, 4), L1(0.05), n_unfold=4, step_size=0.3, tied=False)
    rule = NetworkRule(net, unit_norm=True)
    state = rule.init()
    rule.step(state, Batch(images()))  # now all atoms have unit norm
    before = {name: p.detach().clone() for name, p in state.network.named_parameters()}
    rule.step(state, Batch(images(seed=1)))
    for name, parameter in state.network.named_parameters():
        if name.endswith("atoms"):
            along = (parameter.grad * before[name]).flatten(1).sum(1)
            assert along.abs().max() < 1e-12 * parameter.grad.abs().sum()


def test_a_tied_network_learns_planted_filters_at_default_settings():
    """Without the projection Adam bends these filters away from the truth."""
    rng = np.random.default_rng(2)
    planted = simulate_convolutional(
        100,
        (150,),
        n_components=2,
        kernel_size=(20,),
        n_events=2,
        amplitude=(5, 5),
        trials=25,
        random_state=rng,
    )
    noise = rng.standard_normal(planted.atoms.shape)
    start = planted.atoms + 0.37 * noise / np.linalg.norm(noise, axis=2, keepdims=True)
    start = torch.from_numpy(start / np.linalg.norm(start, axis=2, keepdims=True)).float()
    curvature = ConvDictionary(start, signal_shape=(150,)).norm_squared() * 25 / 4
    net = UnfoldedAutoencoder(
        start, NonNegativeL1(0.6 * 25), n_unfold=30, step_size=1 / curvature, likelihood=Binomial(25),
        padding="none",
    )  # fmt: skip
    rule = NetworkRule(net, target="observed", unit_norm=True)
    state = train(rule, ArrayBatches(planted.X.astype(np.float32), 25), TrainState(rule.init()), max_iter=20)
    learned = state.learned.network.atoms.detach().numpy()
    assert filter_error(learned, planted.atoms).max() < 0.8 * filter_error(start, planted.atoms).max()


def test_a_zero_atom_has_the_whole_gradient():
    atoms, gradient = randn(2, 1, 5), randn(2, 1, 5, seed=1)
    atoms[0] = 0
    tangent = along_sphere(gradient, atoms)
    assert torch.equal(tangent[0], gradient[0])
    assert (tangent[1] * atoms[1]).sum().abs() < 1e-12
