from dataclasses import dataclass

import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Binomial, Gaussian
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


def test_arrays_are_refused(atoms, y):
    with pytest.raises(TypeError, match=r"y: expected a torch.Tensor, got numpy\.ndarray"):
        Problem(Dense(atoms), Gaussian(), y.numpy())
    with pytest.raises(TypeError, match=r"offset: expected a torch.Tensor, got numpy\.ndarray"):
        Problem(Dense(atoms), Gaussian(), y, y.numpy())
    for make in (Dense, Mask):
        with pytest.raises(TypeError, match=r"expected a torch.Tensor, got numpy\.ndarray"):
            make(atoms.numpy())
    with pytest.raises(TypeError, match=r"x: expected a torch.Tensor, got numpy\.ndarray"):
        Dense(atoms)(atoms.numpy())


@pytest.mark.parametrize("offset", [0.5, torch.ones(4), torch.arange(3.0)[:, None], torch.ones(1, 4)])
@pytest.mark.parametrize("trials", [7, torch.full((4,), 7), torch.tensor([[5], [6], [7]])])
def test_some_samples_are_a_problem_of_their_own(atoms, offset, trials):
    counts = torch.tensor([[0.0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]], dtype=torch.float64)
    problem = Problem(Dense(atoms), Binomial(trials), counts, offset)
    z = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    rows = torch.tensor([2, 0])
    assert problem.separable
    torch.testing.assert_close(problem.take(rows).nll(z[rows]), problem.nll(z)[rows])
    torch.testing.assert_close(problem.take(rows).gradient(z[rows]), problem.gradient(z)[rows])


def test_an_operator_with_a_part_for_each_sample_cannot_be_taken_apart(atoms, y):
    problem = Problem(Mask(y > 0, per_sample=True) @ Dense(atoms), Gaussian(), y * (y > 0))
    assert not problem.separable
    with pytest.raises(IncompatibleError, match="differs between 3 samples"):
        problem.take(torch.tensor([0]))
