"""Latents: normal equations are derivatives, decoding finds planted latents, starts and balls hold."""

from importlib import import_module

import pytest
import torch
from torch import nn

from calepin.core.errors import IncompatibleError
from calepin.generators import GroupSparse, PolynomialSine, ReLUNet, Sine
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators import Dense, LinearOperator, Mask
from calepin.problem import Problem
from calepin.solvers import solve
from calepin.solvers.decode import Adam, LatentProblem, LevenbergMarquardt, decode

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def planted(generator, *, n=12, m=24, scale=1.0, likelihood=None, **options):
    """Return a problem whose observations are exact means, and the latents behind them."""
    atoms = scale * draw(generator.n_coefficients, m, seed=1)
    z = draw(n, generator.latent_dim, seed=2)
    likelihood = Gaussian() if likelihood is None else likelihood
    y = likelihood.mean(generator(z) @ atoms)
    y = y if isinstance(likelihood, Gaussian) else y.round()
    return LatentProblem(Dense(atoms), likelihood, y, generator=generator, **options), z


SINE = Sine(2, 8, dtype=F64)


@pytest.mark.parametrize("m", [5, 24])  # without and with the Gram matrix of the atoms
@pytest.mark.parametrize("likelihood", [Gaussian(), Binomial(5), Poisson()])
def test_normal_equations_are_derivatives(likelihood, m):
    problem, z = planted(SINE, m=m, scale=0.3, likelihood=Gaussian(), prior=0.7)
    problem = LatentProblem(
        problem.operator, likelihood, problem.y.abs().round().clamp_max(5), generator=SINE, prior=0.7
    ).with_gram()
    z = z + 0.1
    gradient_there, hessian = problem.normal_equations(problem.at(z))
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.objective(leaf).sum(), leaf)
    torch.testing.assert_close(gradient_there, gradient)
    torch.testing.assert_close(problem.gradient(z), gradient)
    torch.testing.assert_close(problem.at(z).value, problem.objective(z))
    # J^H W J from the definition, with autograd for both
    for i in range(3):
        jacobian = torch.func.jacrev(lambda v: problem.operator(SINE(v[None]))[0])(z[i])
        weights = torch.func.jacrev(lambda e: -likelihood.score(e, e * 0))(problem.eta(z)[i]).diagonal()
        expected = jacobian.mT @ (weights[:, None] * jacobian) + 0.7 * torch.eye(2, dtype=F64)
        torch.testing.assert_close(hessian[i], expected)


@pytest.mark.parametrize("generator", [PolynomialSine(3), ReLUNet((3, 15, 40), dtype=F64), SINE])
def test_planted_latents_are_found_from_near(generator):
    problem, z = planted(generator)
    found = decode(problem, z0=z + 0.05 * draw(*z.shape, seed=3))
    torch.testing.assert_close(found.z, z, rtol=1e-6, atol=1e-6)
    assert found.converged.all()


@pytest.mark.parametrize("likelihood", [Binomial(20), Poisson()])
def test_other_families_end_where_the_gradient_vanishes(likelihood):
    problem, z = planted(SINE, likelihood=likelihood, scale=0.5)
    found = decode(problem, z0=z + 0.05, tol=1e-14)
    assert (problem.objective(found.z) <= problem.objective(z) + 1e-9).all()
    assert problem.gradient(found.z).abs().max() < 1e-4  # the tolerance times objective and curvature


def test_groups_are_decoded_from_their_own_start():
    generator = GroupSparse(4, 30)
    problem, z = planted(generator)
    torch.testing.assert_close(decode(problem).z, z.abs(), rtol=1e-5, atol=1e-5)


def test_more_starts_never_do_worse_and_some_do_better():
    problem, _ = planted(PolynomialSine(3), n=40)
    few = decode(problem, n_starts=1, rng=torch.Generator().manual_seed(1))
    many = decode(problem, n_starts=8, rng=torch.Generator().manual_seed(1))
    assert (many.objective <= few.objective * (1 + 1e-6) + 1e-9).all()
    assert (many.objective < 1e-6).float().mean() > (few.objective < 1e-6).float().mean()
    torch.testing.assert_close(problem.objective(many.z), many.objective, rtol=1e-8, atol=1e-12)


def test_samples_don_t_meet_each_other():
    problem, z = planted(SINE)
    together = decode(problem, z0=z + 0.3).z
    for i in range(len(z)):
        alone = decode(problem.take(torch.tensor([i])), z0=z[i : i + 1] + 0.3).z
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-6, atol=1e-6)


def test_latents_stay_in_the_ball_and_are_stationary_there():
    problem, z = planted(SINE, radius=0.5)
    found = decode(problem, z0=0.1 * z, tol=1e-12)
    norms = torch.linalg.vector_norm(found.z, dim=1)
    assert (norms <= 0.5 + 1e-12).all()
    border = norms > 0.5 - 1e-9
    assert border.any()
    gradient = problem.gradient(found.z)
    inward = (gradient * found.z).sum(1)
    assert (inward[border] <= 1e-9).all()
    along = gradient - inward[:, None] * found.z / norms[:, None] ** 2
    assert along[border].abs().max() < 1e-3


def test_a_prior_draws_latents_to_zero():
    plain, z = planted(SINE)
    drawn = LatentProblem(plain.operator, plain.likelihood, plain.y, generator=SINE, prior=5.0)
    assert (decode(drawn, z0=z).z.norm(dim=1) < decode(plain, z0=z).z.norm(dim=1)).all()


def test_compressed_sensing_needs_fewer_measurements_than_features():
    """Bora et al. 2017: A is a known random matrix with 12 rows, signals have 60 entries."""
    generator = ReLUNet((3, 20, 60), dtype=F64)
    problem, z = planted(generator, m=12)
    found = decode(problem, n_starts=6)
    error = (generator(found.z) - generator(z)).norm(dim=1) / generator(z).norm(dim=1)
    assert (error < 1e-5).float().mean() > 0.8


def test_any_operator_will_do_even_one_that_tells_samples_apart():
    atoms = draw(8, 20, seed=4)
    z = draw(6, 2, seed=5)
    mask = draw(6, 20, seed=6) > -0.5
    operator = Mask(mask, per_sample=True) @ Dense(atoms)
    y = operator(SINE(z))
    assert operator.n_samples == 6
    found = decode(LatentProblem(operator, Gaussian(), y, generator=SINE), z0=z + 0.05, n_starts=2)
    torch.testing.assert_close(found.z, z, rtol=1e-6, atol=1e-6)


class ToComplex(LinearOperator):
    """Real coefficients seen by complex measurements."""

    def __init__(self, matrix):
        super().__init__((matrix.shape[0],), (matrix.shape[1],))
        self.register_buffer("matrix", matrix)

    def forward(self, x):
        return x @ self.matrix

    def adjoint(self, y):
        return y @ self.matrix.mH


def test_complex_observations_have_real_latents():
    matrix = torch.complex(draw(8, 10, seed=7), draw(8, 10, seed=8))
    z = draw(6, 2, seed=9)
    y = SINE(z).to(matrix.dtype) @ matrix
    found = decode(LatentProblem(ToComplex(matrix), Gaussian(), y, generator=SINE), z0=z + 0.05)
    assert found.z.dtype == F64
    torch.testing.assert_close(found.z, z, rtol=1e-6, atol=1e-6)


def test_solve_runs_latent_solvers_and_descends():
    problem, z = planted(SINE)
    z0 = z + 0.3
    solution = solve(problem, LevenbergMarquardt(), n_iter=8, z0=z0, tol=0.0)
    assert solution.z.shape == z.shape
    assert (problem.objective(solution.z) <= problem.objective(z0)).all()
    with pytest.raises(IncompatibleError, match=r"needs problem\.generator"):
        solve(Problem(problem.operator, Gaussian(), problem.y), LevenbergMarquardt(), n_iter=1)


def test_adam_is_that_of_torch():
    problem, z = planted(SINE)
    leaf = (z + 0.3).requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        problem.objective(leaf).sum().backward()
        optimizer.step()
    found = decode(problem, solver=Adam(), z0=z + 0.3, n_iter=50)
    torch.testing.assert_close(found.z, leaf.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.objective, problem.objective(found.z))
    assert not found.converged.any()


def test_blocks_change_nothing(monkeypatch):
    problem, _ = planted(SINE, n=11)
    whole = decode(problem, n_starts=3)
    monkeypatch.setattr(import_module("calepin.solvers.decode"), "_BLOCK", 3 * 2 * 8 * 4)
    torch.testing.assert_close(decode(problem, n_starts=3).objective, whole.objective, rtol=1e-4, atol=1e-6)


def test_decoding_has_the_same_bits_on_any_number_of_threads(with_threads):
    generator = ReLUNet((20, 400))  # products large enough for torch's BLAS to share them out
    atoms = draw(400, 784).float() / 40
    y = generator(draw(30, 20, seed=1).float()) @ atoms
    problem = LatentProblem(Dense(atoms), Gaussian(), y, generator=generator)
    one, two, four = (with_threads(n, lambda: decode(problem, n_iter=8, n_starts=2)) for n in (1, 2, 4))
    for other in (two, four):
        assert torch.equal(one.z, other.z)
        assert torch.equal(one.objective, other.objective)
    assert with_threads(2, lambda: decode(problem, n_iter=1) and torch.get_num_threads()) == 2


def test_a_matrix_without_a_factor_is_damped_more_and_not_given_up():
    """Two latents of which only one sum is seen, and a damping below single precision."""
    generator = nn.Linear(2, 2, bias=False).requires_grad_(False)
    generator.weight.copy_(torch.tensor([0.1, 0.3]).expand(2, 2))
    y = torch.tensor([[3.0, 3.0], [-1.0, -1.0]])
    problem = LatentProblem(Dense(torch.eye(2)), Gaussian(), y, generator=generator, latent_dim=2)
    found = decode(problem, solver=LevenbergMarquardt(damping=1e-9))
    assert (found.objective < 1e-8).all()


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


def test_the_problem_is_not_changed_and_the_seed_decides():
    problem, z = planted(SINE)
    y, z0 = problem.y.clone(), z + 0.3
    kept = z0.clone()
    first = decode(problem, z0=z0, n_starts=3)
    assert torch.equal(problem.y, y)
    assert torch.equal(z0, kept)
    assert torch.equal(first.z, decode(problem, z0=z0, n_starts=3).z)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_starts": 0}, "n_starts"),
        ({"n_iter": 0}, "n_iter"),
        ({"z0": draw(12, 3)}, "z0: expected shape"),
        ({"z0": draw(12, 2).float()}, "z0: expected shape"),
    ],
)
def test_bad_arguments_are_named(options, message):
    problem, _ = planted(SINE)
    with pytest.raises(ValueError, match=message):
        decode(problem, **options)


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
    y, atoms = draw(3, 10), draw(8, 10, seed=1)
    with pytest.raises(ValueError, match=message):
        decode(LatentProblem(Dense(atoms), Gaussian(), y, **({"generator": SINE} | options)))
    with pytest.raises(ValueError, match="damping"):
        LevenbergMarquardt(0.0)
    with pytest.raises(ValueError, match="learning_rate"):
        Adam(-1.0)
