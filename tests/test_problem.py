from dataclasses import dataclass

import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Gaussian
from calepin.operators import Dense, Mask
from calepin.problem import Problem


@dataclass(frozen=True)
class NoCurvature(Gaussian):
    curvature = None


@pytest.fixture
def atoms():
    return torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def y():
    return torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_gradient_is_that_of_the_likelihood_of_the_code(atoms, y):
    problem = Problem(Dense(atoms), Gaussian(), y, offset=0.5)
    z = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(problem.nll(z).sum(), z)
    torch.testing.assert_close(problem.gradient(z), expected)
    torch.testing.assert_close(problem.eta(z), z @ atoms + 0.5)


def test_missing_entries_have_no_part_in_the_gradient(atoms, y):
    observed = torch.tensor([True, False, True, True])
    problem = Problem(Mask(observed) @ Dense(atoms), Gaussian(), y * observed)
    z = torch.randn(3, 6, dtype=torch.float64)
    residual = (y - z @ atoms)[:, observed]
    torch.testing.assert_close(problem.gradient(z), -residual @ atoms[:, observed].T)


def test_the_lipschitz_constant_is_curvature_times_norm(atoms, y):
    largest = torch.linalg.matrix_norm(atoms, 2) ** 2
    assert Problem(Dense(atoms), Gaussian(), y).lipschitz() == pytest.approx(float(largest))
    with pytest.raises(IncompatibleError, match=r"needs likelihood.curvature, which NoCurvature does not"):
        Problem(Dense(atoms), NoCurvature(), y).lipschitz()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: {"y": y[:, :3]}, r"y: Dense expected shape \(n, 4\), got \(3, 3\)"),
        (lambda y: {"y": y[:0]}, "y: expected at least one sample"),
        (lambda y: {"y": y.long()}, "y: expected a floating or complex dtype"),
        (lambda y: {"y": y.float()}, "y: expected the precision of operator.atoms"),
        (lambda y: {"y": y * torch.inf}, "y: expected finite values"),
        (lambda y: {"offset": torch.ones(5)}, "offset: expected a shape that broadcasts"),
    ],
)
def test_bad_observations_are_named(atoms, y, change, message):
    with pytest.raises(ValueError, match=message):
        Problem(**{"operator": Dense(atoms), "likelihood": Gaussian(), "y": y, **change(y)})
