from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Gaussian
from calepin.operators import Dense, Mask
from calepin.penalties import L1, GroupL1, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import FISTA, IHT, ISTA, solve
from calepin.testing import check_solver

PENALTIES = [L1(0.3), NonNegativeL1(0.3), GroupL1(0.3, 2)]


@dataclass(frozen=True)
class NoCurvature(Gaussian):
    curvature = None


@dataclass(frozen=True)
class Exponential:
    """A mean that is the exponential of eta, as that of counts: no bound on its curvature."""

    curvature: ClassVar[None] = None

    def nll(self, eta, y):
        return (eta.exp() - y * eta).sum(1)

    def score(self, eta, y):
        return y - eta.exp()

    def check(self, y):
        pass


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(3)
    atoms = torch.randn(14, 8, dtype=torch.float64, generator=generator)
    return Problem(Dense(atoms), Gaussian(), torch.randn(5, 8, dtype=torch.float64, generator=generator))


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("step_size", [None, "backtracking", 0.1])
def test_ista_conforms_and_descends(penalty, step_size):
    check_solver(ISTA(penalty, step_size), monotone=True, n_iter=1000, tol=1e-3)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("step_size", [None, "backtracking"])
def test_fista_conforms(penalty, step_size):
    check_solver(FISTA(penalty, step_size), n_iter=1000)


@pytest.mark.parametrize("solver", [IHT(threshold=0.4), IHT(n_nonzero=3), ISTA(HardThreshold(0.4))], ids=str)
def test_hard_thresholding_conforms(solver):
    check_solver(solver)


def test_backtracking_serves_a_likelihood_without_curvature(problem):
    free = Problem(problem.operator, NoCurvature(), problem.y)
    expected = solve(problem, FISTA(L1(0.3)), n_iter=3000).z
    found = solve(free, FISTA(L1(0.3), "backtracking"), n_iter=3000).z
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)
    with pytest.raises(
        IncompatibleError, match=r"ISTA needs likelihood.curvature, which NoCurvature does not have; give"
    ):
        solve(free, ISTA(L1(0.3)), n_iter=2)


@pytest.mark.parametrize("solver", [ISTA, FISTA])
@pytest.mark.parametrize("penalty", [L1(100.0), L1(0.3), HardThreshold(100.0)], ids=str)
def test_a_sample_at_rest_keeps_its_backtracked_step(solver, penalty):
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(3, 8, generator=generator)
    y[0] = 0
    problem = Problem(Dense(torch.randn(14, 8, generator=generator)), Gaussian(), y)
    state = solver(penalty, "backtracking").init(problem, problem.zeros())
    first = state.step_size
    for _ in range(700):
        state = solver(penalty, "backtracking").step(problem, state)
    assert torch.isfinite(state.z).all()
    assert state.step_size[0] == first[0]
    assert (state.step_size > first / 8).all()
    assert (state.step_size < 100 * first).all()


def test_backtracking_meets_counts_of_a_thousand_and_none():
    generator = torch.Generator().manual_seed(2)
    atoms = torch.randn(6, 8, dtype=torch.float64, generator=generator) / 8**0.5
    y = torch.poisson(torch.full((4, 8), 1000.0, dtype=torch.float64), generator=generator)
    y[0] = 0
    problem = Problem(Dense(atoms), Exponential(), y)
    for solver in (ISTA(L1(1.0), "backtracking"), FISTA(L1(1.0), "backtracking")):
        state = solver.init(problem, problem.zeros())
        start = objective = problem.nll(state.z)
        for _ in range(300):
            state = solver.step(problem, state)
            before, objective = objective, problem.nll(state.z) + state.z.abs().sum(1)
            if isinstance(solver, ISTA):
                assert (objective <= before + 1e-9 * before.abs()).all()
        assert torch.isfinite(objective).all()
        assert (objective < start).all()


def test_solutions_are_those_of_scikit_learn(problem):
    z = solve(problem, FISTA(L1(0.3)), n_iter=5000).z.numpy()
    atoms, y = problem.operator.atoms.numpy(), problem.y.numpy()
    for sample, code in zip(y, z, strict=True):
        lasso = Lasso(alpha=0.3 / 8, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(atoms.T, sample)
        np.testing.assert_allclose(code, lasso.coef_, atol=1e-6)


def test_restart_reaches_in_fewer_iterations_what_plain_momentum_does(problem):
    best = solve(problem, FISTA(L1(0.3)), n_iter=5000).z
    errors = {}
    for restart in (True, False):
        z = solve(problem, FISTA(L1(0.3), restart=restart), n_iter=500).z
        errors[restart] = float((z - best).norm())
    assert errors[True] < 0.01 * errors[False]


def test_momentum_beats_plain_steps(problem):
    best = solve(problem, FISTA(L1(0.05)), n_iter=5000).z
    errors = [
        float((solve(problem, s, n_iter=200).z - best).norm()) for s in (FISTA(L1(0.05)), ISTA(L1(0.05)))
    ]
    assert errors[0] < 0.2 * errors[1]


def test_n_nonzero_is_kept(problem):
    z = solve(problem, IHT(n_nonzero=3), n_iter=100).z
    assert ((z != 0).sum(1) <= 3).all()


def test_missing_entries_are_left_out(problem):
    observed = torch.rand(5, 8, generator=torch.Generator().manual_seed(0)) > 0.3
    y = torch.where(observed, problem.y, 0)
    masked = Problem(Mask(observed, per_sample=True) @ problem.operator, Gaussian(), y)
    z = solve(masked, FISTA(L1(0.2)), n_iter=2000).z
    for i in range(5):
        alone = Problem(
            Dense(problem.operator.atoms[:, observed[i]]), Gaussian(), problem.y[i : i + 1, observed[i]]
        )
        expected = solve(alone, FISTA(L1(0.2)), n_iter=2000).z
        torch.testing.assert_close(z[i : i + 1], expected, atol=1e-6, rtol=0)


def test_a_step_beyond_two_over_l_is_an_error_and_above_one_over_l_a_warning(problem):
    longest = 2 / problem.lipschitz()
    with pytest.raises(ValueError, match=r"step_size: expected less than 2 / L"):
        solve(problem, ISTA(L1(0.01), 2 * longest), n_iter=200)
    with pytest.warns(RuntimeWarning, match="above 1 / L"):
        ISTA(L1(0.01), 0.9 * longest).check(problem)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ISTA(L1(0.1), 0.0), "step_size: expected None, 'backtracking' or a finite positive"),
        (lambda: ISTA(L1(0.1), "newton"), "step_size: expected"),
        (lambda: FISTA(L1(0.1), -1.0), "step_size: expected"),
        (lambda: IHT(), "threshold: expected either threshold or n_nonzero"),
        (lambda: IHT(threshold=0.1, n_nonzero=2), "threshold: expected either threshold or n_nonzero"),
        (lambda: IHT(n_nonzero=0), "n_nonzero: expected a positive integer, got 0"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_more_nonzeros_than_entries_is_an_error(problem):
    with pytest.raises(ValueError, match="n_nonzero: expected at most the 14 entries"):
        solve(problem, IHT(n_nonzero=15), n_iter=2)
