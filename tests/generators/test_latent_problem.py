"""Latent problems: derivatives are derivatives, samples can be taken, and nothing linear is to be had."""

import pytest
import torch
from planted_latents import F64, SINE, draw, planted

from calepin.core.errors import IncompatibleError
from calepin.generators import LatentProblem, PolynomialSine
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators import Dense, Mask
from calepin.penalties import L1
from calepin.problem import Problem
from calepin.solvers import FISTA, IHT, ISTA, Adam, LevenbergMarquardt, decode, solve


@pytest.mark.parametrize("m", [5, 24])  # without and with the Gram matrix of the atoms
@pytest.mark.parametrize("likelihood", [Gaussian(), Binomial(5), Poisson()])
def test_normal_equations_are_derivatives(likelihood, m):
    linear, z = planted(SINE, m=m, scale=0.3)
    operator, y = linear.problem.operator, linear.problem.y.abs().round().clamp_max(5)
    problem = LatentProblem(Problem(operator, likelihood, y), SINE, prior=0.7).with_gram()
    z = z + 0.1
    gradient_there, hessian = problem.normal_equations(problem.at(z))
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.objective(leaf).sum(), leaf)
    torch.testing.assert_close(gradient_there, gradient)
    torch.testing.assert_close(problem.gradient(z), gradient)
    torch.testing.assert_close(problem.evaluate(z).gradient, gradient)
    torch.testing.assert_close(problem.evaluate(z).value, problem.objective(z))
    torch.testing.assert_close(problem.at(z).value, problem.objective(z))
    # J^H W J from the definition, with autograd for both
    for i in range(3):
        jacobian = torch.func.jacrev(lambda v: operator(SINE(v[None]))[0])(z[i])
        weights = torch.func.jacrev(lambda e: -likelihood.score(e, e * 0))(problem.eta(z)[i]).diagonal()
        expected = jacobian.mT @ (weights[:, None] * jacobian) + 0.7 * torch.eye(2, dtype=F64)
        torch.testing.assert_close(hessian[i], expected)


def test_a_gram_matrix_changes_only_the_work():
    problem, z = planted(SINE, prior=0.3)
    short = problem.with_gram()
    assert short.gram is not None
    near = z + 0.1 * draw(*z.shape, seed=3)
    (moved, decrease), (expected, fall) = (
        p.move(p.at(near), z + 0.05 * draw(*z.shape, seed=4)) for p in (short, problem)
    )
    torch.testing.assert_close(decrease, fall)
    torch.testing.assert_close(moved.value, expected.value)
    for ours, plain in zip(short.normal_equations(moved), problem.normal_equations(expected), strict=True):
        torch.testing.assert_close(ours, plain)


def test_it_has_a_problem_and_is_none():
    problem, _ = planted(SINE)
    assert not isinstance(problem, Problem)
    for linear in ("operator", "likelihood", "lipschitz"):
        assert not hasattr(problem, linear)


@pytest.mark.parametrize(
    "solver",
    [ISTA(L1(0.1)), ISTA(L1(0.1), 0.01), FISTA(L1(0.1), "backtracking"), IHT(n_nonzero=2)],
)
def test_solvers_of_linear_codes_are_refused_with_the_way_out(solver):
    problem, _ = planted(SINE)
    name = type(solver).__name__
    with pytest.raises(IncompatibleError) as caught:
        solve(problem, solver, n_iter=3)
    assert str(caught.value) == (
        f"{name} needs problem.operator, which LatentProblem does not have; "
        "use decode, or LevenbergMarquardt or Adam"
    )


def test_implicit_differentiation_is_refused():
    problem, _ = planted(SINE)
    with pytest.raises(IncompatibleError, match="'implicit' needs a Problem"):
        solve(problem, LevenbergMarquardt(), n_iter=3, differentiate="implicit")


def test_a_plain_problem_cannot_be_decoded():
    plain = planted(SINE)[0].problem
    with pytest.raises(IncompatibleError, match=r"decode needs problem\.generator, .* give LatentProblem"):
        decode(plain)
    with pytest.raises(IncompatibleError, match=r"LevenbergMarquardt needs problem\.generator"):
        solve(plain, LevenbergMarquardt(), n_iter=1)
    with pytest.raises(IncompatibleError, match=r"Adam needs problem\.evaluate, .* give LatentProblem"):
        solve(plain, Adam(), n_iter=1)
    with pytest.raises(IncompatibleError, match="LatentProblem needs a Problem"):
        LatentProblem(draw(3, 4), SINE)


@pytest.mark.parametrize("per_entry", [False, True])
def test_samples_are_taken_with_their_offset_and_their_trials(per_entry):
    z = draw(5, 2, seed=2)
    trials = torch.arange(1, 6, dtype=F64)[:, None] * (torch.ones(24, dtype=F64) if per_entry else 1)
    offset = draw(5, 1, seed=3)
    y = (trials * torch.rand(5, 24, dtype=F64, generator=torch.Generator().manual_seed(4))).round()
    problem = LatentProblem(Problem(Dense(draw(8, 24, seed=1)), Binomial(trials), y, offset), SINE)
    rows = torch.tensor([3, 0, 3])
    torch.testing.assert_close(problem.take(rows).objective(z[rows]), problem.objective(z)[rows])


def test_prepared_problems_have_the_same_objective():
    problem, z = planted(SINE)
    torch.testing.assert_close(problem.prepared().objective(z), problem.objective(z))


def test_a_problem_with_a_part_for_each_sample_is_not_separable():
    mask = draw(6, 24) > 0
    problem = Problem(Mask(mask, per_sample=True) @ Dense(draw(8, 24)), Gaussian(), draw(6, 24) * mask)
    latent = LatentProblem(problem, SINE)
    assert not latent.separable
    with pytest.raises(IncompatibleError, match="differs between 6 samples"):
        latent.take(torch.tensor([0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": -1.0}, "prior"),
        ({"radius": 0.0}, "radius"),
        ({"latent_dim": 5}, "latent_dim"),
        ({"generator": PolynomialSine(3)}, "generator: expected 8 coefficients"),
    ],
)
def test_bad_problems_are_named(options, message):
    problem = Problem(Dense(draw(8, 10, seed=1)), Gaussian(), draw(3, 10))
    with pytest.raises(ValueError, match=message):
        decode(LatentProblem(problem, **({"generator": SINE} | options)))
