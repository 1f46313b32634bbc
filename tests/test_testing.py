"""Each conformance check catches a class that is wrong in one way."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch

from calepin.generators import PolynomialSine
from calepin.learning import (
    KSVD,
    MOD,
    NOODL,
    Algorithm1,
    AltMin,
    AtomSet,
    Autodiff,
    Batch,
    Convolutional,
    ConvolutionalOnline,
    LeastSquares,
    Online,
    Signals,
    Unfolded,
)
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators import ConvDictionary, Dense, Identity, LinearOperator
from calepin.penalties import L1, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import (
    ISTA,
    ConvolutionalLassoCoder,
    ConvolutionalPursuitCoder,
    IHTCoder,
    LassoCoder,
    ProximalCoder,
    PursuitCoder,
)
from calepin.testing import (
    check_coder,
    check_likelihood,
    check_operator,
    check_penalty,
    check_rule,
    check_solver,
)

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
        (Detached(torch.nn.Parameter(ATOMS)), "the gradient with respect to atoms through forward differs"),
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


def filters(n: int = 2) -> torch.Tensor:
    drawn = torch.randn(n, 1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return drawn / torch.linalg.vector_norm(drawn, dim=(1, 2), keepdim=True)


def convolutional(likelihood) -> Problem:
    operator = ConvDictionary(filters(), signal_shape=(20,))
    eta = operator(torch.ones(3, *operator.in_shape, dtype=torch.float64))
    y = likelihood.sample(0.3 * eta, generator=torch.Generator().manual_seed(3))
    return Problem(operator, likelihood, y)


@pytest.mark.parametrize(
    ("coder", "problem"),
    [
        (LassoCoder(0.3), None),
        (LassoCoder(0.3, nonnegative=True), None),
        (PursuitCoder(3), None),
        (PursuitCoder(tol=0.5, selection="ols", nonnegative=True), None),
        (IHTCoder(0.5), None),
        (ProximalCoder(L1(0.3), 50), None),
        (ProximalCoder(NonNegativeL1(0.3), 50, solver="ista", nonnegative=True), None),
        (ConvolutionalLassoCoder(0.2), convolutional(Gaussian())),
        (ConvolutionalPursuitCoder(3), convolutional(Gaussian())),
        (ConvolutionalPursuitCoder(3), convolutional(Binomial(10))),
        (ProximalCoder(NonNegativeL1(0.2), 50, nonnegative=True), convolutional(Poisson())),
    ],
    ids=str,
)
def test_coders_pass_their_check(coder, problem):
    check_coder(coder, problem=problem)


@dataclass(frozen=True)
class Forgetful(LassoCoder):
    """Says that its codes are nonnegative."""

    def encode(self, problem, *, z0=None, gradient=None):
        return LassoCoder(self.alpha).encode(problem)


@dataclass(frozen=True)
class Boasting(LassoCoder):
    """Says that its gap is nothing after a coarse search."""

    def encode(self, problem, *, z0=None, gradient=None):
        codes = LassoCoder(self.alpha, tol=0.5).encode(problem)
        z = 0.9 * codes.dense()
        return replace(codes, values=z, gap=0 * codes.gap, residual=None)


@dataclass(frozen=True)
class Averaging(ProximalCoder):
    """Lets samples meet."""

    def encode(self, problem, *, z0=None, gradient=None):
        codes = super().encode(problem, z0=z0, gradient=gradient)
        return replace(codes, values=codes.values - 0.01 * codes.values.mean(0))


@dataclass(frozen=True)
class Excessive(ProximalCoder):
    def encode(self, problem, *, z0=None, gradient=None):
        codes = super().encode(problem, z0=z0, gradient=gradient)
        return replace(codes, values=10 * codes.values)


@pytest.mark.parametrize(
    ("coder", "message"),
    [
        (Forgetful(0.3, nonnegative=True), "nonnegative is True, but codes are negative"),
        (Boasting(0.3), "gap does not bound the suboptimality"),
        (Averaging(L1(0.3), 50), "samples coded together differ from samples coded separately"),
        (Excessive(L1(0.3), 50), "codes have a larger objective than zero codes"),
    ],
)
def test_broken_coders_are_caught(coder, message):
    with pytest.raises(AssertionError, match=message):
        check_coder(coder)


ROWS = torch.nn.functional.normalize(ATOMS, dim=1)
SAMPLES = Batch(np.random.default_rng(0).standard_normal((30, 4)))
HOLES = Batch(SAMPLES.X, np.random.default_rng(1).random((30, 4)) < 0.8)
SIGNALS = Batch(
    [Signals(torch.from_numpy(np.random.default_rng(2).standard_normal((4, 1, 30))), Gaussian(), 0.0)]
)
ADAM = partial(torch.optim.Adam, lr=1e-2)
SINE = PolynomialSine(2)


@pytest.mark.parametrize(
    ("rule", "atoms", "batch"),
    [
        (Online(LassoCoder(0.1)), ROWS, SAMPLES),
        (Online(LassoCoder(0.1)), ROWS, HOLES),
        (MOD(PursuitCoder(2), AtomSet("sphere")), ROWS, SAMPLES),
        (KSVD(PursuitCoder(2)), ROWS, SAMPLES),
        (NOODL(IHTCoder(0.3)), ROWS, SAMPLES),
        (Unfolded(L1(0.1), n_unfold=5, optimizer=ADAM), ROWS, SAMPLES),
        (Unfolded(L1(0.1), n_unfold=5, learn_step=True, learn_threshold=True), ROWS, SAMPLES),
        (Unfolded(HardThreshold(0.1), n_unfold=5), ROWS, SAMPLES),
        (Convolutional(ProximalCoder(L1(0.1), 10), centre=True), filters(), SIGNALS),
        (Convolutional(ConvolutionalLassoCoder(0.1), baseline=True), filters(), SIGNALS),
        (ConvolutionalOnline(ConvolutionalLassoCoder(0.1), centre=True), filters(), SIGNALS),
        (LeastSquares(SINE), ROWS[:6], SAMPLES),
        (Algorithm1(SINE), ROWS[:6], SAMPLES),
        (AltMin(SINE, n_iter=5), ROWS[:6], SAMPLES),
        (Autodiff(SINE, n_iter=5), ROWS[:6], SAMPLES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_rules_pass_their_check(rule, atoms, batch):
    check_rule(rule, atoms, batch)


class Hiding(Unfolded):
    """Keeps its count of steps to itself."""

    count = [0]  # noqa: RUF012

    def decay_at(self, n_steps):
        self.count[0] += 1
        return 1.0 / (1 + self.count[0])


class InPlace(Unfolded):
    def init(self, atoms):
        state = super().init(atoms)
        state.atoms = atoms
        return state


class Idling(Unfolded):
    def step(self, state, batch):
        return np.ones(len(batch.X))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            Hiding(L1(0.1), n_unfold=3),
            "a resumed run differs from an uninterrupted one in atoms",
        ),
        (InPlace(L1(0.1), n_unfold=3), "init or step changes the atoms that were passed to init"),
        (Idling(L1(0.1)), "no tensor of the state changes"),
    ],
)
def test_broken_rules_are_caught(rule, message):
    with pytest.raises(AssertionError, match=message):
        check_rule(rule, ROWS.clone(), SAMPLES)
