"""Decoding finds planted latents, from whatever starts, and no sample depends on those beside it."""

from importlib import import_module

import numpy as np
import pytest
import torch
from planted_latents import F64, SINE, draw, planted

from calepin.generators import GroupSparse, LatentProblem, PolynomialSine, ReLUNet
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators import Dense, LinearOperator, Mask
from calepin.problem import Problem
from calepin.solvers import LBFGS, Adam, GradientDescent, decode


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
    few = decode(problem, n_starts=1, generator=torch.Generator().manual_seed(1))
    many = decode(problem, n_starts=8, generator=torch.Generator().manual_seed(1))
    assert (many.objective <= few.objective * (1 + 1e-6) + 1e-9).all()
    assert (many.objective < 1e-6).float().mean() > (few.objective < 1e-6).float().mean()
    torch.testing.assert_close(problem.objective(many.z), many.objective, rtol=1e-8, atol=1e-12)


def test_samples_don_t_meet_each_other():
    problem, z = planted(SINE)
    together = decode(problem, z0=z + 0.3).z
    for i in range(len(z)):
        alone = decode(problem.take(torch.tensor([i])), z0=z[i : i + 1] + 0.3).z
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-6, atol=1e-6)


def test_a_prior_draws_latents_to_zero():
    plain, z = planted(SINE)
    drawn = LatentProblem(plain.problem, SINE, prior=5.0)
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
    found = decode(LatentProblem(Problem(operator, Gaussian(), y), SINE), z0=z + 0.05, n_starts=2)
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
    found = decode(LatentProblem(Problem(ToComplex(matrix), Gaussian(), y), SINE), z0=z + 0.05)
    assert found.z.dtype == F64
    torch.testing.assert_close(found.z, z, rtol=1e-6, atol=1e-6)


def test_blocks_change_nothing(monkeypatch):
    problem, _ = planted(SINE, n=11)
    whole = decode(problem, n_starts=3)
    monkeypatch.setattr(import_module("calepin.solvers.decode"), "_BLOCK", 3 * 2 * 8 * 4)
    torch.testing.assert_close(decode(problem, n_starts=3).objective, whole.objective, rtol=1e-4, atol=1e-6)


def test_decoding_has_the_same_bits_on_any_number_of_threads(with_threads):
    generator = ReLUNet((20, 400))  # products large enough for torch's BLAS to share them out
    atoms = draw(400, 784).float() / 40
    y = generator(draw(30, 20, seed=1).float()) @ atoms
    problem = LatentProblem(Problem(Dense(atoms), Gaussian(), y), generator)
    one, two, four = (with_threads(n, lambda: decode(problem, n_iter=8, n_starts=2)) for n in (1, 2, 4))
    for other in (two, four):
        assert torch.equal(one.z, other.z)
        assert torch.equal(one.objective, other.objective)
    assert with_threads(2, lambda: decode(problem, n_iter=1) and torch.get_num_threads()) == 2


def test_the_problem_is_not_changed_and_the_seed_decides():
    problem, z = planted(SINE)
    y, z0 = problem.problem.y.clone(), z + 0.3
    kept = z0.clone()
    first = decode(problem, z0=z0, n_starts=3)
    assert torch.equal(problem.problem.y, y)
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


def test_arrays_are_refused():
    problem, z = planted(SINE)
    with pytest.raises(TypeError, match=r"z0: expected a torch.Tensor, got numpy\.ndarray"):
        decode(problem, z0=z.numpy())
    with pytest.raises(TypeError, match=r"y: expected a torch.Tensor, got numpy\.ndarray"):
        Problem(Dense(draw(8, 10)), Gaussian(), np.zeros((3, 10)))


@pytest.mark.parametrize("per_sample", [False, True])
def test_trials_and_offsets_of_each_sample_stay_with_it(per_sample, monkeypatch):
    """In blocks, with samples that leave the batch, and with several starts in one batch."""
    n, m = 11, 20
    operator = Dense(0.5 * draw(8, m, seed=1))
    trials = torch.randint(
        1, 40, (n, 1) if per_sample else (n, m), generator=torch.Generator().manual_seed(5)
    )
    offset = draw(n, 1, seed=6)
    z = draw(n, 2, seed=2)
    y = (trials * torch.sigmoid(operator(SINE(z)) + offset)).round()
    problem = LatentProblem(Problem(operator, Binomial(trials), y, offset), SINE)
    whole = decode(problem, n_starts=3)
    monkeypatch.setattr(import_module("calepin.solvers.decode"), "_BLOCK", 3 * 2 * 8 * 4)
    blocks = decode(problem, n_starts=3)
    torch.testing.assert_close(blocks.objective, whole.objective, rtol=1e-9, atol=1e-9)
    for i in range(n):
        one = Problem(operator, Binomial(trials[i : i + 1]), y[i : i + 1], offset[i : i + 1])
        alone = decode(LatentProblem(one, SINE), n_starts=3)
        torch.testing.assert_close(alone.z, blocks.z[i : i + 1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "n_iter"), [(LBFGS(), 60), (GradientDescent(5e-4, momentum=0.9), 600), (Adam(0.05), 600)]
)
def test_every_optimiser_decodes(solver, n_iter):
    problem, z = planted(SINE, radius=3.0)
    found = decode(problem, solver=solver, z0=z + 0.05, n_iter=n_iter)
    torch.testing.assert_close(found.z, problem.project(z), rtol=1e-3, atol=1e-3)
