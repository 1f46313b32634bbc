"""First-order optimisers: their steps are those of the textbooks, one sample never meets another."""

from dataclasses import dataclass, replace

import pytest
import torch
from planted_latents import F64, SINE, draw, planted

from calepin.core.errors import IncompatibleError
from calepin.core.samples import Rows
from calepin.solvers import LBFGS, Adam, GradientDescent, decode, solve

CURVATURE = torch.tensor([[1.0, 4.0, 0.25], [2.0, -1.0, 3.0]], dtype=F64)
MINIMUM = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.02, -0.5]], dtype=F64)


@dataclass(frozen=True, eq=False)
class Evaluation(Rows):
    z: torch.Tensor
    value: torch.Tensor
    gradient: torch.Tensor


class Quadratic:
    """0.5 || a (z - b) ||^2 of each sample."""

    def __init__(self, a=CURVATURE, b=MINIMUM):
        self.a, self.b = a, b

    def evaluate(self, z):
        residual = self.a * (z - self.b)
        return Evaluation(z, 0.5 * residual.square().sum(1), self.a * residual)

    def lipschitz(self, z):
        return float(self.a.square().max())


def run(optimizer, n_iter, problem=None, z0=None):
    problem = problem or Quadratic()
    state = optimizer.init(problem, torch.zeros_like(problem.b) if z0 is None else z0)
    for _ in range(n_iter):
        state = optimizer.step(problem, state)
    return state


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (  # as the latents had it: torch.optim.Adam(lr=1e-2), five steps
            Adam(),
            [
                [0.049901704252760276, -0.049953839932273626, 0.049977633796752734],
                [0.0, 0.031709499266937204, -0.0499017051560294],
            ],
        ),
        (  # as the weights had it: torch.optim.Adam(lr=0.03, betas=(0.9, 0.99)), five steps
            Adam(0.03, betas=(0.9, 0.99)),
            [
                [0.14894271764862732, -0.1495646558079875, 0.14980295448010492],
                [0.0, 0.009686341472632632, -0.14894272043955453],
            ],
        ),
    ],
)
def test_adam_takes_the_steps_of_torch(optimizer, expected):
    torch.testing.assert_close(run(optimizer, 5).z, torch.tensor(expected, dtype=F64), rtol=1e-12, atol=1e-14)


def test_adam_decodes_as_torch_does():
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
    assert torch.equal(solve(problem, Adam(), z0=z + 0.3, n_iter=50).z, found.z)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_gradient_descent_is_its_formula(momentum):
    z, velocity = torch.zeros_like(MINIMUM), torch.zeros_like(MINIMUM)
    for _ in range(4):
        velocity = momentum * velocity - 0.01 * CURVATURE**2 * (z - MINIMUM)
        z = z + velocity
    torch.testing.assert_close(run(GradientDescent(0.01, momentum), 4).z, z)


def test_the_default_step_is_one_over_the_lipschitz_constant():
    assert torch.equal(run(GradientDescent(), 3).z, run(GradientDescent(1 / 16), 3).z)
    assert torch.equal(run(GradientDescent(factor=2.0), 3).z, run(GradientDescent(1 / 8), 3).z)
    problem, _ = planted(SINE)
    with pytest.raises(
        IncompatibleError, match=r"GradientDescent needs problem\.lipschitz, .*; give step_size"
    ):
        decode(problem, solver=GradientDescent())
    with pytest.raises(IncompatibleError, match=r"needs problem\.lipschitz"):
        GradientDescent().init(problem, problem.zeros())


def test_lbfgs_minimises_a_quadratic_in_few_steps():
    state = run(LBFGS(), 30)
    torch.testing.assert_close(state.z, MINIMUM, rtol=1e-6, atol=1e-6)


def test_a_failed_search_stays_and_forgets():
    class Uphill(Quadratic):
        """A gradient of the wrong sign: no step lowers the objective."""

        def evaluate(self, z):
            point = super().evaluate(z)
            return Evaluation(point.z, point.value, -point.gradient)

    z0 = torch.ones(2, 3, dtype=F64)
    state = run(LBFGS(), 3, Uphill(), z0)
    assert torch.equal(state.z, z0)
    assert not state.rho.any()


@pytest.mark.parametrize("optimizer", [Adam(0.05), LBFGS(3), GradientDescent(0.01, 0.9)])
def test_samples_do_not_meet(optimizer):
    together = run(optimizer, 12).z
    for i in range(2):
        alone = run(optimizer, 12, Quadratic(CURVATURE[i : i + 1], MINIMUM[i : i + 1])).z
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("optimizer", [Adam(0.05), LBFGS(3), GradientDescent(0.01, 0.9)])
def test_states_can_be_taken_and_written(optimizer):
    problem = Quadratic()
    state = run(optimizer, 4)
    row = torch.tensor([1])
    alone = optimizer.step(Quadratic(CURVATURE[row], MINIMUM[row]), state.take(row))
    torch.testing.assert_close(alone.z, optimizer.step(problem, state).z[row])
    fresh = optimizer.init(problem, torch.zeros_like(MINIMUM)).with_tensors(state.tensors())
    assert torch.equal(optimizer.step(problem, fresh).z, optimizer.step(problem, state).z)


@pytest.mark.parametrize("optimizer", [Adam(0.05), GradientDescent(0.01)])
def test_the_scale_shortens_the_first_step(optimizer):
    problem = Quadratic()
    state = optimizer.init(problem, torch.zeros_like(MINIMUM))
    halved = replace(state, scale=state.scale / 2)
    torch.testing.assert_close(optimizer.step(problem, halved).z, optimizer.step(problem, state).z / 2)


def test_latents_stay_in_their_ball():
    problem, z = planted(SINE, radius=0.5)
    for optimizer in (Adam(0.05), LBFGS(), GradientDescent(5e-4)):
        found = decode(problem, solver=optimizer, z0=z + 0.1 * draw(*z.shape, seed=3), n_iter=20)
        assert (found.z.norm(dim=1) <= 0.5 + 1e-12).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(0.0), "learning_rate: expected a finite number above 0"),
        (lambda: Adam(betas=(0.9, 1.0)), "betas: expected two numbers"),
        (lambda: Adam(epsilon=-1.0), "epsilon: expected a finite number above 0"),
        (lambda: GradientDescent(-1.0), "step_size: expected a finite number above 0"),
        (lambda: GradientDescent(momentum=1.0), "momentum: expected a finite number of at least 0 and below"),
        (lambda: GradientDescent(factor=0.0), "factor: expected a finite number above 0"),
        (lambda: LBFGS(0), "memory: expected a positive integer"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
