import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from calepin.core.errors import FileFormatError, IncompatibleError
from calepin.core.files import read_header, save_arrays
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.networks import UnfoldedAutoencoder
from calepin.networks._grids import local_mean
from calepin.operators import ConvDictionary
from calepin.penalties import L1, GroupL1, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import solve
from calepin.solvers.proximal import IHT, ISTA
from calepin.testing import check_operator


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small lose more than they gain by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def counts(*shape, rate=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.full(shape, rate, dtype=torch.float64), generator=generator)


def unit_atoms(*shape, seed=0):
    atoms = randn(*shape, seed=seed)
    return atoms / atoms.flatten(1).norm(dim=1).view(-1, *[1] * (len(shape) - 1))


def network(*shape, penalty=None, **settings):
    return UnfoldedAutoencoder(unit_atoms(*(shape or (6, 1, 5, 5))), penalty or L1(0.05), **settings)


def poisson_network(*shape, **settings):
    settings = {"likelihood": Poisson(), "step_size": 0.1, "residual_bound": 2.0} | settings
    return network(*shape, penalty=NonNegativeL1(0.05), **settings)


@pytest.mark.parametrize(
    ("shape", "signal", "stride"),
    [
        ((4, 2, 7), (31,), 1),
        ((4, 2, 7), (31,), 3),
        ((6, 1, 5, 4), (14, 17), 2),
        ((3, 1, 3, 3, 3), (7, 6, 8), 2),
    ],
)
@pytest.mark.parametrize("penalty", [L1(0.05), NonNegativeL1(0.05), HardThreshold(0.2)])
def test_its_layers_are_the_iterations_of_ista(shape, signal, stride, penalty):
    net = network(*shape, penalty=penalty, stride=stride, padding="none", n_unfold=12)
    operator = ConvDictionary(net.atoms.detach(), signal_shape=signal, stride=stride)
    y = randn(2, shape[1], *signal, seed=1)
    step = float(net.step_size)
    solver = IHT(threshold=0.2, step_size=step) if isinstance(penalty, HardThreshold) else ISTA(penalty, step)
    codes = solve(Problem(operator, Gaussian(), y), solver, n_iter=12).z
    assert 0 < (codes != 0).double().mean() < 1
    torch.testing.assert_close(net.encode(y), codes, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(net(y), operator(codes), rtol=1e-10, atol=1e-12)


def test_with_a_shift_its_layers_are_those_of_the_reflected_image():
    net = network(6, 1, 5, 5, stride=3, n_unfold=7)
    y = randn(1, 1, 13, 12, seed=1)
    # rests: (5 - 13) % 3 = 1, (5 - 12) % 3 = 2; shift (1, 2)
    padded = F.pad(y, (3 - 2, 3 + 2 + 2, 3 - 1, 3 + 1 + 1), mode="reflect")
    operator = ConvDictionary(net.atoms.detach(), signal_shape=tuple(padded.shape[2:]), stride=3)
    codes = solve(Problem(operator, Gaussian(), padded), ISTA(L1(0.05), float(net.step_size)), n_iter=7).z
    torch.testing.assert_close(net.encode(y, shift=(1, 2)), codes, rtol=1e-10, atol=1e-12)
    inside = operator(codes)[:, :, 2:15, 1:13]
    torch.testing.assert_close(net(y, shifts=[(1, 2)]), inside, rtol=1e-10, atol=1e-12)
    decoded = net.decode(codes, signal_shape=(13, 12), shift=(1, 2))
    torch.testing.assert_close(decoded, inside, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [(5, 5), (5, 12), (13, 6), (20, 21), (8, 31)])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_images_of_any_size_keep_their_shape(size, stride):
    net = network(stride=stride, n_unfold=2)
    y = randn(2, 1, *size)
    assert net(y).shape == y.shape
    assert torch.isfinite(net(y)).all()


@pytest.mark.parametrize("at_once", [1, 4, 9, 20])
def test_the_average_over_shifts_is_the_mean_of_single_ones(at_once):
    net = network(stride=3, n_unfold=4, shifts_at_once=at_once)
    y = randn(2, 1, 11, 10)
    alone = torch.stack([net(y, shifts=[shift]) for shift in net.all_shifts()])
    assert len(alone) == 9
    assert alone.std(0).min() > 0
    torch.testing.assert_close(net(y), alone.mean(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        net(y, shifts=[(2, 1), (0, 0)]), (alone[7] + alone[0]) / 2, rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("residual_bound", [None, 1.5])
@pytest.mark.parametrize("likelihood", [Poisson(), Binomial(9)])
def test_counts_are_coded_by_the_recurrence_of_the_paper(likelihood, residual_bound, tied):
    net = poisson_network(
        5,
        1,
        5,
        5,
        stride=3,
        n_unfold=8,
        tied=tied,
        likelihood=likelihood,
        residual_bound=residual_bound,
        learn_threshold=True,
    )
    with torch.no_grad():
        net.alpha.copy_(0.3 * randn(5, 1, 1, seed=2))  # a learned bias may be negative
        for k, weights in enumerate(net.parameters()):
            weights.add_(0.1 * randn(*weights.shape, seed=k))
    y, mu = counts(2, 1, 13, 12), randn(2, 1, 1, 1, seed=4)
    mean = torch.exp if isinstance(likelihood, Poisson) else lambda eta: 9 * torch.sigmoid(eta)
    H = net.atoms
    We, Wd = (H, H) if tied else (net.encoder_atoms, net.decoder_atoms)
    bias = float(net.step_size) * net.alpha
    total = torch.zeros_like(y)
    for i in range(3):
        for j in range(3):
            padded = F.pad(y, (3 - j, 3 + 2 + j, 3 - i, 3 + 1 + i), mode="reflect")
            x = torch.zeros(2, 5, 6, 6, dtype=y.dtype)
            for _ in range(8):
                residual = padded - mean(F.conv_transpose2d(x, H, stride=3) + mu)
                if residual_bound is not None:
                    residual = F.elu(residual, residual_bound)
                x = torch.relu(x + float(net.step_size) * F.conv2d(residual, We, stride=3) - bias)
            torch.testing.assert_close(net.encode(y, offset=mu, shift=(i, j)), x, rtol=1e-10, atol=1e-11)
            total += (F.conv_transpose2d(x, Wd, stride=3) + mu)[:, :, 3 - i : 16 - i, 3 - j : 15 - j]
    assert 0.05 < (x != 0).double().mean() < 1
    torch.testing.assert_close(net(y, offset=mu), total / 9, rtol=1e-10, atol=1e-11)


def test_an_offset_may_be_a_number_or_one_for_each_sample_or_entry():
    net = poisson_network(stride=2, n_unfold=4, shifts_at_once=3)
    y = counts(2, 1, 11, 9)
    whole = net(y, offset=0.5)
    for offset in (torch.full((2, 1, 1, 1), 0.5), torch.full((2, 1, 11, 9), 0.5)):
        torch.testing.assert_close(net(y, offset=offset), whole, rtol=0, atol=0)
    two = net(y, offset=torch.tensor([0.5, -1.0]).view(2, 1, 1, 1))
    torch.testing.assert_close(two[1:], net(y[1:], offset=-1.0), rtol=1e-10, atol=1e-12)
    image = randn(2, 1, 11, 9, seed=3)
    code = net.encode(y, offset=image)
    torch.testing.assert_close(code.flip(0), net.encode(y.flip(0), offset=image.flip(0)))


def test_integer_counts_are_taken_as_they_are():
    net = poisson_network(stride=2, n_unfold=3)
    y = counts(1, 1, 9, 9)
    assert torch.equal(net(y.long()), net(y))


def test_a_bounded_residual_survives_a_step_that_is_too_long():
    y = counts(1, 1, 12, 12, rate=3.0)
    free, bounded = (
        poisson_network(step_size=1.0, residual_bound=bound, n_unfold=15) for bound in (None, 1.0)
    )
    with torch.no_grad():
        assert bounded.encode(y).abs().max() < 1e3 < free.encode(y).abs().max()


def test_a_signal_that_atoms_explain_is_reconstructed():
    net = network(8, 1, 6, penalty=L1(1e-3), stride=2, n_unfold=300)
    y = randn(1, 1, 24, seed=3)
    with torch.no_grad():
        assert (net(y) - y).norm() < 0.05 * y.norm()


def test_samples_do_not_meet_each_other():
    net = network(stride=2, n_unfold=5, shifts_at_once=3)
    y = randn(3, 1, 12, 9)
    torch.testing.assert_close(
        net(y), torch.cat([net(y[i : i + 1]) for i in range(3)]), rtol=1e-10, atol=1e-12
    )


def test_decoder_and_encoder_are_adjoint_while_weights_are_tied():
    net = network(stride=2, n_unfold=1, penalty=L1(0.0), padding="none")
    operator = ConvDictionary(net.atoms.detach(), signal_shape=(11, 9), stride=2)
    check_operator(operator)
    y, z = randn(2, 1, 11, 9, seed=1), randn(2, *operator.in_shape, seed=2)
    # one layer without threshold is s H^T y
    left = (net.decode(z, signal_shape=(11, 9)) * y).sum()
    torch.testing.assert_close(left, (z * net.encode(y)).sum() / net.step_size)


def test_the_threshold_decays_from_layer_to_layer():
    y = randn(1, 1, 12, 12)
    slow, fast = (network(n_unfold=2, decay=decay, padding="none", step_size=0.1) for decay in (1.0, 0.5))
    operator = ConvDictionary(slow.atoms.detach(), signal_shape=(12, 12))
    first = L1(0.05).prox(0.1 * operator.adjoint(y), 0.1)
    second = L1(0.025).prox(first + 0.1 * operator.adjoint(y - operator(first)), 0.1)
    torch.testing.assert_close(fast.encode(y), second, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(slow.encode(y), second)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("penalty", [L1(0.05), NonNegativeL1(0.05)])
def test_gradients_reach_all_that_is_learned_and_are_those_of_finite_differences(tied, penalty):
    net = network(
        3, 1, 3, 3, penalty=penalty, stride=2, n_unfold=3, tied=tied, learn_threshold=True, learn_step=True
    )
    names = {"atoms", "alpha", "step_size"} | (set() if tied else {"encoder_atoms", "decoder_atoms"})
    assert {name for name, _ in net.named_parameters()} == names
    y, clean = randn(1, 1, 6, 7, seed=1), randn(1, 1, 6, 7, seed=2)

    def loss():
        return (net(y) - clean).square().sum()

    loss().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        direction = randn(*parameter.shape, seed=5)
        with torch.no_grad():
            ends = []
            for sign in (1, -2, 1):
                parameter.add_(sign * 1e-6 * direction)
                ends.append(float(loss()))
        slope = (ends[0] - ends[1]) / 2e-6
        assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-6), name


def test_chunks_of_shifts_give_the_gradient_of_all_at_once():
    def gradient(at_once):
        net = network(stride=2, n_unfold=4, shifts_at_once=at_once)
        net(randn(1, 1, 9, 9)).square().sum().backward()
        return net.atoms.grad

    torch.testing.assert_close(gradient(1), gradient(4), rtol=1e-10, atol=1e-12)


def test_with_many_shifts_a_gradient_keeps_no_more_than_one_chunk():
    def saved(at_once):
        count = 0

        def pack(tensor):
            nonlocal count
            count += tensor.numel()
            return tensor

        net = network(16, 1, 5, 5, stride=4, n_unfold=10, shifts_at_once=at_once)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(randn(1, 1, 32, 32)).sum()
        return count

    assert saved(2) < 0.2 * saved(16)


def test_a_negative_bias_is_a_rectifiers_and_soft_thresholds_return_to_zero():
    y = randn(1, 1, 12, 12)
    relu = network(
        penalty=NonNegativeL1(0.05), learn_threshold=True, padding="none", n_unfold=1, step_size=1.0
    )
    with torch.no_grad():
        relu.alpha.fill_(-0.3)
    correlation = ConvDictionary(relu.atoms.detach(), signal_shape=(12, 12)).adjoint(y)
    torch.testing.assert_close(relu.encode(y), (correlation + 0.3).relu())
    soft = network(learn_threshold=True, learn_step=True)
    with torch.no_grad():
        soft.alpha.fill_(-0.3)
        soft.step_size.fill_(-1.0)
    soft.project_()
    assert (soft.alpha == 0).all()
    assert soft.step_size > 0


def test_the_default_step_does_not_let_codes_grow():
    for stride in (1, 2, 4):
        net = network(12, 1, 8, stride=stride, padding="none")
        operator = ConvDictionary(net.atoms.detach(), signal_shape=(100,), stride=stride)
        assert float(net.step_size) * operator.norm_squared() == pytest.approx(1, rel=0.1)


def test_random_shifts_are_different_seeded_and_from_all():
    net = network(stride=4)
    drawn = net.random_shifts(5, generator=torch.Generator().manual_seed(1))
    assert drawn == net.random_shifts(5, generator=torch.Generator().manual_seed(1))
    assert len(set(drawn)) == 5
    assert set(net.random_shifts(16)) == set(net.all_shifts())


def test_copies_and_saved_weights_predict_the_same():
    net = network(stride=2, tied=False, learn_threshold=True)
    y = randn(1, 1, 10, 10)
    fresh = network(stride=2, tied=False, learn_threshold=True, penalty=L1(0.3))
    fresh.load_state_dict(net.state_dict())
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), fresh):
        assert torch.equal(twin(y), net(y))


@pytest.mark.parametrize(
    "settings",
    [
        {"stride": 2, "tied": False, "learn_threshold": True, "learn_step": True, "decay": 0.9},
        {"penalty": NonNegativeL1(0.02), "padding": "none", "n_unfold": 3},
        {"penalty": HardThreshold(0.1), "step_size": 0.2},
    ],
)
def test_a_file_holds_the_whole_network(tmp_path, settings):
    net = network(**settings)
    y = randn(1, 1, 10, 11)
    net.save(tmp_path / "net.safetensors", card={"trained on": "nothing"})
    loaded = UnfoldedAutoencoder.load(tmp_path / "net.safetensors")
    assert torch.equal(loaded(y), net(y))
    assert loaded.settings() == net.settings()
    assert [n for n, _ in loaded.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert read_header(tmp_path / "net.safetensors")["parameters"]["card"] == {"trained on": "nothing"}


def test_files_of_other_models_are_refused(tmp_path):
    save_arrays(tmp_path / "other", "dictionary", {"components": np.ones((2, 3))}, {})
    with pytest.raises(FileFormatError, match="holds a 'dictionary', expected a 'unfolded-autoencoder'"):
        UnfoldedAutoencoder.load(tmp_path / "other")
    settings = network().settings() | {"likelihood": {"name": "Cauchy"}}
    arrays = {"atoms": np.ones((6, 1, 5, 5))}
    save_arrays(tmp_path / "newer", "unfolded-autoencoder", arrays, {"settings": settings, "card": {}})
    with pytest.raises(FileFormatError, match="a network with 'Cauchy', expected one of Gaussian"):
        UnfoldedAutoencoder.load(tmp_path / "newer")


def test_terms_that_do_not_fit_are_named():
    grouped = network(penalty=GroupL1(0.1, 2))  # its own proximal map, without thresholds to learn
    assert not hasattr(grouped, "alpha")
    with pytest.raises(IncompatibleError, match="learn_threshold needs one of L1, .*, which GroupL1 is not"):
        network(penalty=GroupL1(0.1, 2), learn_threshold=True)
    with pytest.raises(IncompatibleError, match="save needs one of L1, .*, which GroupL1 is not"):
        grouped.save("never.safetensors")

    with pytest.raises(IncompatibleError, match="likelihood.curvature, which Poisson .* give step"):
        network(likelihood=Poisson())
    assert network(likelihood=Poisson(), step_size=0.1)(counts(1, 1, 9, 9)).shape == (1, 1, 9, 9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network(stride=6), "stride: expected at most the kernel"),
        (lambda: network(n_unfold=0), "n_unfold: expected a positive integer"),
        (lambda: network(decay=1.5), "decay: expected"),
        (lambda: network(step_size=-1.0), "step_size: expected a finite number above 0"),
        (lambda: network(padding="zero"), "padding: expected one of"),
        (
            lambda: network(penalty=HardThreshold(0.1, nonnegative=True)),
            "penalty: expected a HardThreshold of both signs, got a nonnegative one",
        ),
        (
            lambda: network(penalty=HardThreshold(0.1), learn_threshold=True),
            "learn_threshold: expected False",
        ),
        (lambda: network(penalty=L1(torch.ones(6))), r"penalty: expected a number, or .* \(6, 1, 1\)"),
        (lambda: network()(randn(1, 1, 4, 9)), r"y: expected signals of at least .* \(5, 5\), got \(4, 9\)"),
        (lambda: network()(randn(0, 1, 9, 9)), r"y: expected at least one signal, got shape \(0, 1, 9, 9\)"),
        (lambda: network()(randn(1, 3, 9, 9)), r"y: expected shape \(n, 1, size, size\), got \(1, 3, 9, 9\)"),
        (lambda: network()(randn(1, 1, 9, 9).float()), "y: expected the dtype of the atoms, torch.float64"),
        (
            lambda: network(stride=2)(randn(1, 1, 9, 9), shifts=[(0, 2)]),
            r"shifts: expected 2 .* got \(0, 2\)",
        ),
        (lambda: network(stride=2)(randn(1, 1, 9, 9), shifts=[]), "shifts: expected at least one"),
        (lambda: network(stride=2).random_shifts(5), "n_shifts: expected 1 to 4, got 5"),
        (lambda: network(residual_bound=0.0), "residual_bound: expected a finite number above 0"),
        (lambda: network(likelihood=Binomial(torch.tensor([2, 3]))), "likelihood: .* one number"),
        (lambda: network()(randn(1, 1, 9, 9), offset=randn(2, 1, 1, 1)), r"offset: .* \(1, 1, 9, 9\), got"),
        (lambda: network().encode(randn(1, 1, 9, 9), offset=math.nan), "offset: expected finite numbers"),
        (lambda: network().encode(randn(1, 1, 9, 9) * math.inf), "y: expected finite values"),
        (lambda: poisson_network()(-counts(1, 1, 9, 9)), "y: expected counts of at least 0, got -"),
        (lambda: poisson_network()(counts(1, 1, 9, 9) + 0.5), "y: expected whole numbers"),
        (lambda: poisson_network().encode(counts(1, 1, 9, 9) * math.nan), "y: expected finite counts"),
        (
            lambda: network(likelihood=Binomial(3))(counts(1, 1, 9, 9) + 3),
            "y: expected at most the number of trials",
        ),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_with_a_local_mean_atoms_see_contrasts_alone():
    net, y = network(stride=2, local_mean=7), randn(2, 1, 14, 13)
    mean = local_mean(y, 7)
    torch.testing.assert_close(net(y + 5), net(y) + 5)
    torch.testing.assert_close(net.encode(y + 5), net.encode(y))
    torch.testing.assert_close(net(y), network(stride=2)(y - mean) + mean)
    torch.testing.assert_close(net(y), network(stride=2)(y, offset=mean))
    torch.testing.assert_close(net(y, offset=0.0), network(stride=2)(y))


def test_a_local_mean_and_a_card_come_back_from_the_file(tmp_path):
    network(stride=2, local_mean=7).save(tmp_path / "a.safetensors", card={"sigma": 0.1})
    net = UnfoldedAutoencoder.load(tmp_path / "a.safetensors")
    assert (net.local_mean, net.card) == (7, {"sigma": 0.1})
    net.save(tmp_path / "b.safetensors")
    assert UnfoldedAutoencoder.load(tmp_path / "b.safetensors").card == {"sigma": 0.1}


def test_a_local_mean_needs_an_odd_window_and_gaussian_data():
    for width in (0, 4, 3.0):
        with pytest.raises(ValueError, match="local_mean: expected an odd number"):
            network(local_mean=width)
    with pytest.raises(IncompatibleError, match="local_mean needs a Gaussian likelihood"):
        poisson_network(local_mean=7)
