import numpy as np
import pytest
import torch

from calepin.datasets import simulate_sparse
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.penalties import L1, ElasticNet, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import FISTA, IHT, ISTA, solve
from calepin.solvers import sparse_layers as module
from calepin.solvers.sparse_layers import sparse_layers

N, M, P, T = 40, 20, 30, 60

PENALTIES = {
    "l1": L1(0.3),
    "l1 per atom": L1(torch.linspace(0.2, 0.6, P, dtype=torch.float64)),
    "nonnegative l1": NonNegativeL1(0.3),
    "hard threshold": HardThreshold(0.35),
    "positive hard threshold": HardThreshold(0.35, nonnegative=True),
}


@pytest.fixture(autouse=True)
def small_problems(monkeypatch):
    """Small problems save no time, but are as good a test."""
    monkeypatch.setattr(module, "_LEAST", 0)
    monkeypatch.setattr(module, "_FASTER", 1)


def problem_of(seed=0, *, n=N, dtype=torch.float64, signs=True):
    """Sparse samples of atoms near those that they are coded with; both can be differentiated."""
    data = simulate_sparse(n, M, P, n_nonzero=2, signs=signs, random_state=seed)
    moved = data.atoms + 0.3 / M**0.5 * np.random.default_rng(seed).standard_normal(data.atoms.shape)
    y, atoms = (torch.from_numpy(a).to(dtype).requires_grad_() for a in (data.X, moved))
    return y, atoms


def gradients(codes, leaves, seed=0):
    weights = torch.randn(codes.shape, generator=torch.Generator().manual_seed(seed)).to(codes)
    return torch.autograd.grad((weights * codes + codes**2).sum(), leaves)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_codes_and_gradients_are_those_of_automatic_differentiation(penalty, seed):
    y, atoms = problem_of(seed)
    problem, solver = Problem(Dense(atoms), Gaussian(), y), ISTA(penalty)
    fast = sparse_layers(problem, solver, T)
    slow = solve(problem, solver, n_iter=T, differentiate="unroll").z
    assert fast is not None
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    assert ((fast == 0) == (slow == 0)).all()
    for one, other in zip(gradients(fast, (y, atoms)), gradients(slow, (y, atoms)), strict=True):
        assert other.norm() > 0
        assert (one - other).norm() <= 1e-10 * other.norm()


def test_a_penalty_that_decays_lets_atoms_in_later():
    y, atoms = problem_of()
    y = (y + 0.3 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))).detach().requires_grad_()
    problem, solver = Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.8), decay=0.97)
    fast, slow = sparse_layers(problem, solver, T), solve(problem, solver, n_iter=T, differentiate="unroll").z
    assert fast is not None
    early = solve(problem, solver, n_iter=T // 2).z
    assert ((slow != 0) & (early == 0)).any()
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    for one, other in zip(gradients(fast, (y, atoms)), gradients(slow, (y, atoms)), strict=True):
        assert (one - other).norm() <= 1e-9 * other.norm()


def test_second_derivatives_are_refused_never_zero():
    """The incoming gradient of a loss that is linear in the codes is a constant."""
    y, atoms = problem_of()
    codes = sparse_layers(Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.3)), T)
    assert codes is not None
    (gradient,) = torch.autograd.grad(codes.sum(), y, create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(gradient.square().sum(), atoms, retain_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        gradient.square().sum().backward()


def test_codes_can_be_changed_in_place():
    y, atoms = problem_of()
    problem, solver = Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.3))
    fast, slow = sparse_layers(problem, solver, T), solve(problem, solver, n_iter=T, differentiate="unroll").z
    assert fast is not None
    for one, other in zip(
        gradients(torch.relu_(fast), (y, atoms)), gradients(torch.relu(slow), (y, atoms)), strict=True
    ):
        assert (one - other).norm() <= 1e-10 * other.norm()


def test_an_offset_and_a_step_are_taken():
    y, atoms = problem_of()
    problem, solver = Problem(Dense(atoms), Gaussian(), y, 0.2), ISTA(L1(0.3), 0.1)
    fast = sparse_layers(problem, solver, T)
    assert fast is not None
    torch.testing.assert_close(fast, solve(problem, solver, n_iter=T).z, rtol=0, atol=1e-12)


def test_float32_is_as_exact_as_dense_layers():
    y, atoms = problem_of(dtype=torch.float32)
    exact = solve(Problem(Dense(atoms.double()), Gaussian(), y.double()), ISTA(L1(0.3)), n_iter=T).z
    fast = sparse_layers(Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.3)), T)
    assert fast is not None
    assert fast.dtype == torch.float32
    assert (fast - exact).abs().max() < 1e-5


def test_iterative_hard_thresholding_has_the_same_layers():
    y, atoms = problem_of(signs=False)
    problem, solver = Problem(Dense(atoms), Gaussian(), y), IHT(0.35, nonnegative=True)
    fast = sparse_layers(problem, solver, T)
    assert fast is not None
    torch.testing.assert_close(fast, solve(problem, solver, n_iter=T).z, rtol=0, atol=1e-12)


def test_bits_do_not_depend_on_the_number_of_threads():
    y, atoms = problem_of(n=200)
    problem, solver = Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.3), 0.2)
    found, n = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            codes = sparse_layers(problem, solver, T)
            assert codes is not None
            found.append((codes.detach(), *gradients(codes, (y, atoms))))
    finally:
        torch.set_num_threads(n)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_sample_without_code_has_no_gradient():
    y, atoms = problem_of()
    with torch.no_grad():
        y[3] = 0
    codes = sparse_layers(Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.3)), T)
    assert codes is not None
    assert not codes[3].any()
    assert not gradients(codes, (y,))[0][3].any()


def test_atoms_that_have_been_changed_have_no_gradient():
    y, atoms = problem_of()
    codes = sparse_layers(Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.3)), T)
    assert codes is not None
    with torch.no_grad():
        atoms.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(codes, (atoms,))


def test_what_is_not_sparse_real_and_plain_is_left_to_dense_layers(monkeypatch):
    y, atoms = problem_of()
    plain = Problem(Dense(atoms), Gaussian(), y)
    assert sparse_layers(plain, ISTA(L1(0.3)), T) is not None
    learned = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    for solver in (
        FISTA(L1(0.3), restart=False), ISTA(ElasticNet(0.3, 0.1)), ISTA(L1(learned)), ISTA(L1(0.3), learned),
        ISTA(L1(0.3), "backtracking"), IHT(n_nonzero=2), ISTA(L1(torch.full((N, P), 0.3).double())),
    ):  # fmt: skip
        assert sparse_layers(plain, solver, T) is None
    moved = Problem(Dense(atoms), Gaussian(), y, torch.zeros(M, dtype=torch.float64, requires_grad=True))
    assert sparse_layers(moved, ISTA(L1(0.3)), T) is None
    complex_ = Problem(Dense(atoms.to(torch.complex128)), Gaussian(), y.to(torch.complex128))
    assert sparse_layers(complex_, ISTA(L1(0.3)), T) is None
    monkeypatch.setattr(module, "_FASTER", 1000)
    assert sparse_layers(plain, ISTA(L1(0.3)), T) is None
    monkeypatch.setattr(module, "_FASTER", 1)
    monkeypatch.setattr(module, "_LEAST", 1e9)
    assert sparse_layers(plain, ISTA(L1(0.3)), T) is None


@pytest.mark.parametrize("unit", [1e-25, 1e-10, 1e10, 1e25])
def test_codes_have_the_unit_of_the_samples(unit):
    y, atoms = problem_of(dtype=torch.float32)
    expected = solve(Problem(Dense(atoms), Gaussian(), y), ISTA(L1(0.3)), n_iter=T).z
    found = sparse_layers(Problem(Dense(atoms), Gaussian(), unit * y), ISTA(L1(unit * 0.3)), T)
    assert (found is None) == (unit in (1e-25, 1e25))  # squares under- and overflow: dense layers do it
    if found is not None:
        torch.testing.assert_close(found / unit, expected, rtol=0, atol=1e-5)


def test_codes_that_diverge_are_left_to_dense_layers_which_say_so():
    y, atoms = problem_of()
    problem = Problem(Dense(atoms), Gaussian(), y)
    solver = ISTA(HardThreshold(0.5), 8 / problem.lipschitz())
    assert sparse_layers(problem, solver, 400) is None
    with pytest.raises(ValueError, match="step_size: expected less than"):
        solve(problem, solver, n_iter=400)
