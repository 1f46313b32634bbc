"""Proximal gradient methods on convolutional dictionaries: all families, one and two dimensions."""

import pytest
import torch

from calepin import Problem, solve
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators import ConvDictionary, Mask
from calepin.penalties import L1, HardThreshold, NonNegativeL1
from calepin.solvers import FISTA, IHT, ISTA
from calepin.solvers.coders.convolutional_lasso import convolutional_encode

FAMILIES = [Gaussian(), Binomial(20), Poisson()]
GEOMETRIES = {"1-D": ((1, 60), (1, 9)), "2-D": ((1, 13, 12), (1, 4, 4))}


def make_problem(likelihood, geometry, boundary="zero", n=3, scale=3.0, implementation=None):
    signal, kernel = GEOMETRIES[geometry]
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(3, *kernel, generator=generator, dtype=torch.float64)
    atoms /= atoms.flatten(1).norm(dim=1).view(-1, *[1] * len(signal))
    operator = ConvDictionary(
        atoms, signal_shape=signal[1:], boundary=boundary, implementation=implementation
    )
    z = torch.rand(n, *operator.in_shape, generator=generator, dtype=torch.float64)
    z = scale * z * (torch.rand(z.shape, generator=generator) < 0.08)
    offset = torch.linspace(-1, 0, n, dtype=torch.float64).view(n, *[1] * len(signal))
    y = likelihood.sample(operator(z) + offset, generator=generator)
    return Problem(operator, likelihood, y, offset=offset)


def step_for(likelihood):
    return "backtracking" if likelihood.curvature is None else None


@pytest.mark.parametrize("likelihood", FAMILIES, ids=repr)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("boundary", ["zero", "circular"])
@pytest.mark.parametrize("penalty", [L1(0.8), NonNegativeL1(0.8)], ids=["soft", "nonnegative"])
def test_the_limit_is_stationary_with_a_baseline_for_each_sample(likelihood, geometry, boundary, penalty):
    problem = make_problem(likelihood, geometry, boundary)
    z = solve(problem, FISTA(penalty, step_size=step_for(likelihood)), n_iter=2000, tol=1e-9).z
    slope = -problem.gradient(z)
    assert (z != 0).any()
    torch.testing.assert_close(slope[z != 0], 0.8 * z[z != 0].sign(), atol=2e-4, rtol=0)
    nonnegative = isinstance(penalty, NonNegativeL1)
    assert (slope if nonnegative else slope.abs()).max() <= 0.8 + 2e-4
    assert not nonnegative or (z >= 0).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_limit_is_the_code_of_the_exact_coder(geometry, nonnegative):
    problem = make_problem(Gaussian(), geometry)
    penalty = (NonNegativeL1 if nonnegative else L1)(0.3)
    z = solve(problem, FISTA(penalty), n_iter=5000, tol=1e-12).z
    codes = convolutional_encode(
        problem.y - problem.offset, problem.operator.atoms, alpha=0.3, nonnegative=nonnegative, tol=1e-10
    )
    objective = problem.nll(z) + penalty.value(z)
    torch.testing.assert_close(problem.nll(codes) + penalty.value(codes), objective, atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("likelihood", FAMILIES, ids=repr)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_hard_thresholds_lower_their_objective_in_every_iteration(likelihood, geometry):
    problem = make_problem(likelihood, geometry)
    solver = IHT(threshold=0.05, step_size=step_for(likelihood))
    state = solver.init(problem, problem.zeros())
    before = problem.nll(state.z)
    for _ in range(30):
        after = solver.step(problem, state)
        step = torch.as_tensor(after.step_size if likelihood.curvature else state.step_size)
        if likelihood.curvature is not None:
            value = problem.nll(after.z) + HardThreshold(0.05).value(after.z) / step
            assert (value <= before + 1e-9).all()
            before = value
        assert ((after.z == 0) | (after.z.abs() > 0.05)).all()
        state = after
    assert (problem.nll(state.z) < problem.nll(problem.zeros())).all()
    assert (state.z != 0).any()


@pytest.mark.parametrize("method", [ISTA, FISTA])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("start", [0.0, 5.0])
def test_backtracking_survives_bright_and_dark_images(method, geometry, start):
    signal, kernel = GEOMETRIES[geometry]
    atoms = torch.ones(1, *kernel)
    operator = ConvDictionary(atoms / atoms.norm(), signal_shape=signal[1:])
    bright, dark = torch.zeros(signal), torch.zeros(signal)
    bright[..., 4:8] = 1000
    problem = Problem(operator, Poisson(), torch.stack([bright, dark]))
    z0 = torch.full(problem.code_shape, start)
    penalty = NonNegativeL1(0.1)
    found = solve(problem, method(penalty, step_size="backtracking"), n_iter=300, z0=z0)
    assert found.finite.all()
    before, after = (problem.nll(z) + penalty.value(z) for z in (z0, found.z))
    assert (after[0] < before[0]) & (after[1] <= before[1])
    assert start or (found.z[0].max() > 1 and (found.z[1] == 0).all())


def test_the_spectra_of_one_solve_are_not_those_of_the_next():
    problem = make_problem(Gaussian(), "2-D", implementation="fft")
    direct = make_problem(Gaussian(), "2-D", implementation="direct")
    for scale in (1.0, 2.0):
        for p in (problem, direct):
            torch.as_tensor(p.operator.atoms).mul_(scale)
        expected = solve(direct, FISTA(L1(0.3)), n_iter=20).z
        torch.testing.assert_close(solve(problem, FISTA(L1(0.3)), n_iter=20).z, expected)


def test_a_prepared_operator_is_the_operator():
    problem = make_problem(Gaussian(), "2-D", boundary="circular", implementation="fft")
    mask = (torch.arange(13 * 12) % 3 > 0).view(1, 13, 12)
    generator = torch.Generator().manual_seed(1)
    for operator in (problem.operator, Mask(mask) @ problem.operator):
        prepared = operator.prepared()
        assert prepared is not operator
        z = torch.randn(2, *operator.in_shape, dtype=torch.float64, generator=generator)
        torch.testing.assert_close(prepared(z), operator(z))
        torch.testing.assert_close(prepared.adjoint(operator(z)), operator.adjoint(operator(z)))
        assert prepared.norm_squared() == operator.norm_squared()
