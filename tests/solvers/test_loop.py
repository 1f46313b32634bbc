import pytest
import torch

from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.penalties import L1
from calepin.problem import Problem
from calepin.solvers import FISTA, ISTA, solve


def make_problem(atoms=None, n=4):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(9, 6, dtype=torch.float64, generator=generator)
    y = torch.randn(n, 6, dtype=torch.float64, generator=generator)
    return Problem(Dense(drawn if atoms is None else atoms), Gaussian(), y)


def test_without_a_tolerance_the_loop_does_just_what_is_asked():
    problem = make_problem()
    solution = solve(problem, ISTA(L1(0.1)), n_iter=7)
    state = ISTA(L1(0.1)).init(problem, problem.zeros())
    for _ in range(7):
        state = ISTA(L1(0.1)).step(problem, state)
    assert torch.equal(solution.z, state.z)
    assert solution.n_iter == 7
    assert solution.history.numel() == 0
    assert not solution.converged.any()


def test_with_a_tolerance_it_ends_when_all_samples_rest():
    solution = solve(make_problem(), FISTA(L1(0.1)), n_iter=5000, tol=1e-9)
    assert solution.n_iter < 5000
    assert solution.converged.all()
    assert len(solution.history) == solution.n_iter
    assert solution.history[-1] <= 1e-9 < solution.history[-2]


def test_a_start_is_used_and_left_as_it_was():
    problem = make_problem()
    best = solve(problem, FISTA(L1(0.1)), n_iter=3000).z
    kept = best.clone()
    again = solve(problem, FISTA(L1(0.1)), n_iter=50, z0=best, tol=1e-8)
    assert again.n_iter < 5
    assert torch.equal(best, kept)


def test_codes_carry_no_graph_unless_asked_for():
    problem = make_problem(torch.nn.Parameter(torch.randn(9, 6, dtype=torch.float64)))
    assert not solve(problem, ISTA(L1(0.1)), n_iter=3).z.requires_grad
    assert solve(problem, ISTA(L1(0.1)), n_iter=3, differentiate="unroll").z.requires_grad


def test_the_unrolled_gradient_is_that_of_finite_differences():
    atoms = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def loss(atoms):
        z = solve(make_problem(atoms), ISTA(L1(0.1), 0.05), n_iter=15, differentiate="unroll").z
        return z.square().sum()

    leaf = atoms.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    direction = torch.randn_like(atoms)
    h = 1e-6
    numeric = (loss(atoms + h * direction) - loss(atoms - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(), numeric.detach(), rtol=1e-6, atol=1e-8)


def test_what_is_not_finite_is_reported_for_its_sample_alone():
    problem = make_problem()
    z0 = problem.zeros()
    z0[2] = torch.nan
    solution = solve(problem, FISTA(L1(0.1)), n_iter=3000, z0=z0, tol=1e-8)
    assert solution.finite.tolist() == [True, True, False, True]
    assert solution.converged.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_iter": 0}, "n_iter: expected an integer of at least 1, got 0"),
        ({"n_iter": 2.5}, "n_iter: expected"),
        ({"n_iter": 2, "tol": -1.0}, "tol: expected a number of at least 0 or None"),
        ({"n_iter": 2, "differentiate": "magic"}, "differentiate: expected one of"),
        ({"n_iter": 2, "z0": torch.zeros(4, 8, dtype=torch.float64)}, r"z0: expected shape \(4, 9\)"),
        ({"n_iter": 2, "z0": torch.zeros(4, 9)}, "z0: expected shape .* and torch.float64"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve(make_problem(), ISTA(L1(0.1)), **arguments)
