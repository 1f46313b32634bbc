import numpy as np
import pytest
import torch

from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.networks import UnfoldedAutoencoder
from calepin.operators import ConvDictionary
from calepin.penalties import L1, ElasticNet, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import FISTA, ISTA, solve
from calepin.solvers import convolutional_layers as module
from calepin.solvers.convolutional_layers import convolutional_layers

N, M, K, LENGTH, T = 9, 3, 11, 70, 30

PENALTIES = {
    "l1": L1(0.4),
    "nonnegative l1": NonNegativeL1(0.4),
    "l1 per filter": NonNegativeL1(torch.tensor([[0.3], [0.5], [0.7]], dtype=torch.float64)),
    "hard threshold": HardThreshold(0.3),
    "positive hard threshold": HardThreshold(0.3, nonnegative=True),
}
FAMILIES = {"gaussian": (Gaussian(), 1.0), "binomial": (Binomial(10), 0.4), "poisson": (Poisson(), 0.2)}
SOLVERS = {
    "ista": ISTA,
    "fista": lambda penalty, step: FISTA(penalty, step, restart=False),
    "fista with restarts": FISTA,
    "ista with decay": lambda penalty, step: ISTA(penalty, step, decay=0.97),
    "ista with backtracking": lambda penalty, step: ISTA(penalty, "backtracking"),
    "fista with backtracking": lambda penalty, step: FISTA(penalty, "backtracking", restart=False),
    "fista with restarts and backtracking": lambda penalty, step: FISTA(penalty, "backtracking"),
}


@pytest.fixture(autouse=True)
def small_problems(monkeypatch):
    """Small problems save no time, but are as good a test."""
    monkeypatch.setattr(module, "_LEAST", 0)


def problem_of(family="gaussian", seed=0, *, channels=1, n=N, dtype=torch.float64):
    """Signals of a few events of filters near those that they are coded with, and a step size."""
    draw = torch.Generator().manual_seed(seed)
    likelihood, share = FAMILIES[family]
    atoms = torch.randn(M, channels, K, generator=draw, dtype=torch.float64)
    atoms /= atoms.flatten(1).norm(dim=1)[:, None, None]
    truth = ConvDictionary(atoms, signal_shape=(LENGTH,))
    z = 2.0 * (torch.rand(n, *truth.in_shape, generator=draw) < 0.03).double()
    y = likelihood.sample(truth(z) + 0.3, generator=draw).to(dtype).requires_grad_()
    moved = atoms + 0.1 * torch.randn(atoms.shape, generator=draw, dtype=torch.float64)
    filters = moved.to(dtype).requires_grad_()
    operator = ConvDictionary(filters, signal_shape=(LENGTH,))
    return Problem(operator, likelihood, y, 0.3), (y, filters), share / float(operator.norm_squared())


def gradients(codes, leaves, seed=0):
    weights = torch.randn(codes.shape, generator=torch.Generator().manual_seed(seed)).to(codes)
    return torch.autograd.grad((weights * codes + codes**2).sum(), leaves)


def assert_equal(problem, leaves, solver, **how):
    fast = convolutional_layers(problem, solver, T, **how)
    slow = solve(problem, solver, n_iter=T, differentiate="unroll", **how).z
    assert fast is not None
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    assert ((fast == 0) == (slow == 0)).all()
    for one, other in zip(gradients(fast, leaves), gradients(slow, leaves), strict=True):
        assert other.norm() > 0
        assert (one - other).norm() <= 1e-11 * other.norm()


PAIRS = [
    (penalty, solver)
    for penalty in PENALTIES
    for solver in SOLVERS
    if "hard" not in penalty or ("decay" not in solver and "backtracking" not in solver)
]


@pytest.mark.parametrize(("penalty", "solver"), PAIRS)
@pytest.mark.parametrize("family", FAMILIES)
def test_codes_and_gradients_are_those_of_automatic_differentiation(family, penalty, solver):
    problem, leaves, step = problem_of(family)
    assert_equal(problem, leaves, SOLVERS[solver](PENALTIES[penalty], step))


@pytest.mark.parametrize("seed", range(5))
def test_several_channels_and_other_signals(seed):
    problem, leaves, step = problem_of("binomial", seed, channels=2)
    assert_equal(problem, leaves, FISTA(L1(0.5), step, restart=False))


def test_codes_may_begin_anywhere():
    problem, leaves, _ = problem_of()
    z0 = torch.randn(problem.code_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_equal(problem, leaves, FISTA(L1(0.4), restart=False), z0=z0)


def test_second_derivatives_are_refused_never_zero():
    """The incoming gradient of a loss that is linear in the codes is a constant."""
    problem, (y, filters), step = problem_of()
    codes = convolutional_layers(problem, ISTA(L1(0.4), step), T)
    assert codes is not None
    (gradient,) = torch.autograd.grad(codes.sum(), y, create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(gradient.square().sum(), filters)


def test_codes_can_be_changed_in_place():
    problem, leaves, step = problem_of()
    solver = ISTA(L1(0.4), step)
    fast = convolutional_layers(problem, solver, T)
    slow = solve(problem, solver, n_iter=T, differentiate="unroll").z
    assert fast is not None
    for one, other in zip(
        gradients(torch.relu_(fast), leaves), gradients(torch.relu(slow), leaves), strict=True
    ):
        assert (one - other).norm() <= 1e-10 * other.norm()


def test_weights_and_step_sizes_can_be_learned():
    problem, leaves, step = problem_of("binomial")
    weight = torch.tensor([[0.3], [0.5], [0.7]], dtype=torch.float64, requires_grad=True)
    length = torch.tensor(step, dtype=torch.float64, requires_grad=True)
    assert_equal(problem, (*leaves, weight, length), ISTA(L1(weight), length))
    assert_equal(problem, (*leaves, weight, length), FISTA(NonNegativeL1(weight), length, restart=False))


def test_layers_that_are_not_kept_are_computed_again(monkeypatch):
    problem, leaves, step = problem_of("binomial")
    solver = FISTA(L1(0.5), step, restart=False)
    found = []
    for stored in (module._STORED, 8 * 2 * T * (LENGTH + 5), 0):  # all; residuals, but not all codes; none
        monkeypatch.setattr(module, "_STORED", stored)
        codes = convolutional_layers(problem, solver, T)
        assert codes is not None
        found.append(gradients(codes, leaves))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_positions_that_become_active_late_are_noticed(monkeypatch):
    problem, leaves, step = problem_of()
    solver = ISTA(L1(1.5), step, decay=0.9)
    early = solve(problem, solver, n_iter=T // 2).z
    assert ((solve(problem, solver, n_iter=T).z != 0) & (early == 0)).any()
    assert_equal(problem, leaves, solver)


def test_codes_that_leave_zero_late_do_not_diverge():
    problem, leaves, step = problem_of()
    with torch.no_grad():
        leaves[0][0] *= 0.1
    solver = ISTA(L1(1.5), step, decay=0.9)
    assert not solve(problem, solver, n_iter=1).z[0].any()
    assert_equal(problem, leaves, solver)
    assert convolutional_layers(problem, solver, T)[0].any()


def test_float32_is_as_exact_as_dense_layers():
    problem, _, step = problem_of("binomial", dtype=torch.float32)
    exact, _, _ = problem_of("binomial")
    solver = FISTA(NonNegativeL1(0.4), step, restart=False)
    fast = convolutional_layers(problem, solver, T)
    assert fast is not None
    assert fast.dtype == torch.float32
    assert (fast - solve(exact, solver, n_iter=T).z).abs().max() < 1e-4


def test_bits_do_not_depend_on_the_number_of_threads():
    problem, leaves, step = problem_of("binomial", n=50)
    found, n = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            codes = convolutional_layers(problem, FISTA(L1(0.4), step, restart=False), T)
            assert codes is not None
            found.append((codes.detach(), *gradients(codes, leaves)))
    finally:
        torch.set_num_threads(n)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("penalty", [L1(0.4), NonNegativeL1(0.4), HardThreshold(0.3)])
def test_a_network_of_signals_has_the_same_layers(monkeypatch, tied, stride, penalty):
    problem, (y, filters), _ = problem_of("binomial", channels=2)
    learns = not isinstance(penalty, HardThreshold)
    network = UnfoldedAutoencoder(
        filters.detach(), penalty, n_unfold=8, stride=stride, likelihood=problem.likelihood, tied=tied,
        learn_threshold=learns, learn_step=True,
    )  # fmt: skip
    if not tied:
        with torch.no_grad():
            network.encoder_atoms.mul_(1.1)
            network.decoder_atoms.mul_(0.9)
    found = []
    for least in (0, np.inf):
        monkeypatch.setattr(module, "_LEAST", least)
        network.zero_grad()
        output = network(y, offset=0.1)
        problem.likelihood.nll(output, y).sum().backward()
        found.append((output.detach(), *(weights.grad for weights in network.parameters())))
    for fast, slow in zip(*found, strict=True):
        assert slow.norm() > 0
        assert (fast - slow).norm() <= 1e-11 * slow.norm()


def test_transformed_functions_are_left_to_dense_layers():
    problem, (y, filters), _ = problem_of()
    network = UnfoldedAutoencoder(filters.detach(), L1(0.4), n_unfold=8)
    output = torch.func.grad(lambda y: network(y).square().sum())(y.detach())
    torch.testing.assert_close(output, torch.autograd.grad(network(y).square().sum(), y)[0])
    assert convolutional_layers(problem, ISTA(L1(0.3)), T) is not None


def test_filters_that_have_been_changed_have_no_gradient():
    problem, (_, filters), step = problem_of()
    codes = convolutional_layers(problem, ISTA(L1(0.3), step), T)
    assert codes is not None
    with torch.no_grad():
        filters.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(codes, (filters,))


def test_what_is_not_known_is_left_to_dense_layers(monkeypatch):
    problem, (y, filters), step = problem_of("binomial")
    assert convolutional_layers(problem, ISTA(L1(0.3)), T) is not None
    for solver in (
        ISTA(ElasticNet(0.3, 0.1)), FISTA(HardThreshold(0.3), "backtracking"),
        ISTA(L1(torch.full((N, 1, 1), 0.3).double())),
    ):  # fmt: skip
        assert convolutional_layers(problem, solver, T) is None
    for operator in (
        ConvDictionary(filters, signal_shape=(LENGTH,), boundary="circular"),
        ConvDictionary(filters, signal_shape=(LENGTH - 1,), stride=2),
    ):
        other = Problem(operator, Gaussian(), torch.randn(N, *operator.out_shape, dtype=torch.float64))
        assert convolutional_layers(other, ISTA(L1(0.3), step), T) is None
    trials = Problem(problem.operator, Binomial(torch.full((N, 1, 1), 10)), y)
    assert convolutional_layers(trials, ISTA(L1(0.3), step), T) is None
    counts = Problem(problem.operator, Poisson(), y)
    assert convolutional_layers(counts, ISTA(L1(0.3)), T) is None
    offset = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    assert convolutional_layers(Problem(problem.operator, Gaussian(), y, offset), ISTA(L1(0.3)), T) is None
    monkeypatch.setattr(module, "_WIDEST", K - 1)
    assert convolutional_layers(problem, ISTA(L1(0.3)), T) is None


def test_codes_that_diverge_are_left_to_dense_layers_which_say_so():
    problem, _, _ = problem_of()
    solver = ISTA(HardThreshold(0.5), 8 / problem.lipschitz())
    assert convolutional_layers(problem, solver, 400) is None
    with pytest.raises(ValueError, match="step_size: expected less than"):
        solve(problem, solver, n_iter=400)
