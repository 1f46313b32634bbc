"""Each conformance check catches a class that is wrong in one way."""

from dataclasses import dataclass

import pytest
import torch

from calepin.likelihoods import Gaussian
from calepin.operators import Dense, Identity, LinearOperator
from calepin.penalties import L1
from calepin.solvers import ISTA
from calepin.testing import check_likelihood, check_operator, check_penalty, check_solver

ATOMS = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ETA = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Affine(Dense):
    def forward(self, x):
        return super().forward(x) + 1


class WrongAdjoint(Dense):
    def adjoint(self, y):
        return 1.001 * super().adjoint(y)


class Detached(Dense):
    def adjoint(self, y):
        return y @ self.atoms.detach().mH


class NoShapeCheck(Identity):
    def check_input(self, x):
        pass

    def check_output(self, y):
        pass


class SmallNorm(Dense):
    def _compute_norm_squared(self, generator):
        return 1e-3


class WrongShape(LinearOperator):
    def __init__(self):
        super().__init__((4,), (3,))

    def forward(self, x):
        self.check_input(x)
        return x


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (Affine(ATOMS), "not linear"),
        (WrongAdjoint(ATOMS), r"dot test: <A x, y> = \[.*\], <x, A\^H y> = \["),
        (Detached(torch.nn.Parameter(ATOMS)), "the gradient in atoms through forward is not"),
        (NoShapeCheck((3,)), "expected a ValueError"),
        (SmallNorm(ATOMS), "norm_squared: 0.001 is less"),
        (WrongShape(), r"forward: expected shape \(3, 3\), got \(3, 4\)"),
    ],
)
def test_broken_operators_are_caught(operator, message):
    with pytest.raises(AssertionError, match=message):
        check_operator(operator)


@dataclass(frozen=True)
class TooSoft(L1):
    def prox(self, v, step):
        return super().prox(v, 0.9 * step)


@dataclass(frozen=True)
class Mixed(L1):
    def value(self, z):
        return super().value(z).sum()


@dataclass(frozen=True)
class Negative(L1):
    def value(self, z):
        return -super().value(z)


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (TooSoft(0.7), "does not minimise its objective"),
        (Mixed(0.7), r"value: expected shape \(5,\)"),
        (Negative(0.7), "value: expected at least 0"),
    ],
)
def test_broken_penalties_are_caught(penalty, message):
    with pytest.raises(AssertionError, match=message):
        check_penalty(penalty)


@dataclass(frozen=True)
class WrongScore(Gaussian):
    def score(self, eta, y):
        return eta - y


@dataclass(frozen=True)
class TooFlat(Gaussian):
    curvature = 0.5


@dataclass(frozen=True)
class Shifted(Gaussian):
    def mean(self, eta):
        return eta + 1


@dataclass(frozen=True)
class Credulous(Gaussian):
    def check(self, y):
        pass


@dataclass(frozen=True)
class SummedOver(Gaussian):
    def nll(self, eta, y):
        return super().nll(eta, y).sum()


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (WrongScore(), "score is not minus the gradient"),
        (TooFlat(), "curvature 0.5 does not bound"),
        (Shifted(), "do not average to mean"),
        (Credulous(), "check: expected a ValueError for a NaN"),
        (SummedOver(), r"nll: expected shape \(4,\)"),
    ],
)
def test_broken_likelihoods_are_caught(likelihood, message):
    with pytest.raises(AssertionError, match=message):
        check_likelihood(likelihood, ETA)


@dataclass(frozen=True)
class Stubborn(ISTA):
    def step(self, problem, state):
        return state


@dataclass(frozen=True)
class Mixing(ISTA):
    def step(self, problem, state):
        moved = super().step(problem, state)
        return type(moved)(
            moved.z + 1e-3 * (moved.z.mean(0) - moved.z) * (moved.z.abs() > 0.5), moved.step_size
        )


@dataclass(frozen=True)
class Rising(ISTA):
    """Steps back in every iteration by a little more than it gained."""

    def step(self, problem, state):
        moved = super().step(problem, state)
        return type(moved)(moved.z * 1.05, moved.step_size)


def test_broken_solvers_are_caught():
    with pytest.raises(AssertionError, match="not stationary"):
        check_solver(Stubborn(L1(0.3)), n_iter=50)
    with pytest.raises(AssertionError, match="samples solved together differ|not stationary"):
        check_solver(Mixing(L1(0.3)), n_iter=3000, tol=1.0)
    with pytest.raises(AssertionError, match="objective rises"):
        check_solver(Rising(L1(0.3), 0.05), monotone=True, tol=1e9)
