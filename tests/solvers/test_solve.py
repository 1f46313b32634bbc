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


def gradient(solver, **how):
    atoms = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    z = solve(make_problem(atoms.requires_grad_()), solver, differentiate="unroll", **how).z
    return torch.autograd.grad(z.square().sum(), atoms)[0]


@pytest.mark.parametrize("solver", [ISTA(L1(0.1), decay=0.95), FISTA(L1(0.1))])
@pytest.mark.parametrize("every", [1, 4, 100])
def test_checkpoints_change_no_bit_of_the_gradient(solver, every):
    whole = gradient(solver, n_iter=18)
    assert torch.equal(gradient(solver, n_iter=18, checkpoint_every=every), whole)


def test_checkpoints_keep_fewer_tensors():
    def kept(**how):
        held = []
        atoms = make_problem().operator.atoms.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
            solve(make_problem(atoms), ISTA(L1(0.1)), n_iter=100, differentiate="unroll", **how)
        return sum(held)

    assert kept(checkpoint_every=10) < 0.2 * kept()


def test_the_last_iterations_are_differentiated_from_a_constant_start():
    atoms = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    problem = make_problem(atoms.requires_grad_())
    start = solve(problem, ISTA(L1(0.1)), n_iter=12).z
    slow = solve(problem, ISTA(L1(0.1)), n_iter=5, z0=start, differentiate="unroll").z
    for how in ({}, {"checkpoint_every": 2}):
        z = solve(problem, ISTA(L1(0.1)), n_iter=17, differentiate="last-k", last_k=5, **how).z
        assert torch.equal(z, slow)
        one, other = (torch.autograd.grad(c.square().sum(), atoms, retain_graph=True)[0] for c in (z, slow))
        assert torch.equal(one, other)


def test_the_last_iterations_follow_those_that_come_to_rest():
    atoms = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    problem = make_problem(atoms.requires_grad_())
    at_rest = solve(problem, FISTA(L1(0.1)), n_iter=5000, tol=1e-8)
    solution = solve(problem, FISTA(L1(0.1)), n_iter=5000, tol=1e-8, differentiate="last-k", last_k=7)
    assert solution.n_iter == at_rest.n_iter + 7
    assert solution.z.requires_grad
    assert solution.converged.all()


def test_as_many_last_iterations_as_there_are_is_unrolling():
    solver = FISTA(L1(0.1))
    atoms = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    z = solve(make_problem(atoms.requires_grad_()), solver, n_iter=6, differentiate="last-k", last_k=9).z
    assert torch.equal(torch.autograd.grad(z.square().sum(), atoms)[0], gradient(solver, n_iter=6))


def test_a_penalty_decays_from_the_second_iteration_on():
    problem = make_problem()
    z = solve(problem, ISTA(L1(0.4), 0.05), n_iter=1).z
    z = solve(problem, ISTA(L1(0.4 * 0.5), 0.05), n_iter=1, z0=z).z
    z = solve(problem, ISTA(L1(0.4 * 0.25), 0.05), n_iter=1, z0=z).z
    torch.testing.assert_close(solve(problem, ISTA(L1(0.4), 0.05, decay=0.5), n_iter=3).z, z)


def test_with_decay_the_bias_of_the_amplitudes_goes():
    problem = make_problem(2 * torch.eye(6, dtype=torch.float64))
    for solver in (ISTA(L1(0.3), decay=0.8), FISTA(L1(0.3), decay=0.8)):
        z = solve(problem, solver, n_iter=150).z
        torch.testing.assert_close(z, problem.y / 2, rtol=0, atol=1e-9)


def test_a_factor_of_decay_is_at_most_one():
    with pytest.raises(ValueError, match=r"decay: expected a number in \(0, 1\], got 1.5"):
        ISTA(L1(0.1), decay=1.5)


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
        ({"n_iter": 0}, "n_iter: expected a positive integer, got 0"),
        ({"n_iter": 2.5}, "n_iter: expected"),
        ({"n_iter": 2, "tol": -1.0}, "tol: expected a finite number of at least 0 or None"),
        ({"n_iter": 2, "differentiate": "magic"}, "differentiate: expected one of"),
        ({"n_iter": 2, "differentiate": "last-k"}, "last_k: expected a positive integer with"),
        ({"n_iter": 2, "differentiate": "last-k", "last_k": 0}, "last_k: expected a positive integer or"),
        ({"n_iter": 2, "differentiate": "unroll", "last_k": 1}, "last_k: expected None with"),
        ({"n_iter": 2, "checkpoint_every": 2}, "checkpoint_every: expected None with"),
        ({"n_iter": 2, "differentiate": "unroll", "checkpoint_every": 0}, "checkpoint_every: expected a pos"),
        (
            {"n_iter": 2, "differentiate": "unroll", "checkpoint_every": 2, "tol": 0.1},
            "tol: expected None with checkpoint_every",
        ),
        ({"n_iter": 2, "z0": torch.zeros(4, 8, dtype=torch.float64)}, r"z0: expected shape \(4, 9\)"),
        ({"n_iter": 2, "z0": torch.zeros(4, 9)}, "z0: expected shape .* and torch.float64"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve(make_problem(), ISTA(L1(0.1)), **arguments)
