"""Levenberg-Marquardt: it descends, stays in the ball, and damps what cannot be factored."""

import pytest
import torch
from planted_latents import SINE, planted
from torch import nn

from calepin.generators import LatentProblem
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.problem import Problem
from calepin.solvers import LevenbergMarquardt, decode, solve


def test_solve_runs_latent_solvers_and_descends():
    problem, z = planted(SINE)
    z0 = z + 0.3
    solution = solve(problem, LevenbergMarquardt(), n_iter=8, z0=z0, tol=0.0)
    assert solution.z.shape == z.shape
    assert (problem.objective(solution.z) <= problem.objective(z0)).all()


def test_a_matrix_without_a_factor_is_damped_more_and_not_given_up():
    """Two latents of which only one sum is seen, and a damping below single precision."""
    generator = nn.Linear(2, 2, bias=False).requires_grad_(False)
    generator.weight.copy_(torch.tensor([0.1, 0.3]).expand(2, 2))
    y = torch.tensor([[3.0, 3.0], [-1.0, -1.0]])
    problem = LatentProblem(Problem(Dense(torch.eye(2)), Gaussian(), y), generator, latent_dim=2)
    found = decode(problem, solver=LevenbergMarquardt(damping=1e-9))
    assert (found.objective < 1e-8).all()


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


def test_the_damping_is_checked():
    with pytest.raises(ValueError, match="damping: expected a finite number above 0"):
        LevenbergMarquardt(0.0)
