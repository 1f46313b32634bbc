"""Classes that calepin does not know pass its checks, and then work wherever its own do."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import calepin
from calepin.learning import AtomSet, AtomState, BaseRule, Batch, Signals
from calepin.networks import DeepDecoder, UnfoldedAutoencoder
from calepin.operators import ConvDictionary, Dense, Identity, LinearOperator
from calepin.penalties import L1
from calepin.problem import Problem
from calepin.reconstruction import fit_untrained
from calepin.solvers import Codes, LassoCoder, dense_problem, sparse_encode
from calepin.testing import check_coder, check_likelihood, check_operator, check_penalty, check_rule


@dataclass(frozen=True)
class WideGaussian:
    """Normal noise of a variance other than one."""

    variance: float = 4.0

    @property
    def curvature(self) -> float:
        return 1 / self.variance

    def nll(self, eta: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (y - eta).square().flatten(1).sum(1) / self.variance

    def mean(self, eta: Tensor) -> Tensor:
        return eta

    def score(self, eta: Tensor, y: Tensor) -> Tensor:
        return (y - eta) / self.variance

    def sample(self, eta: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return eta + self.variance**0.5 * torch.randn(eta.shape, dtype=eta.dtype, generator=generator)

    def check(self, y: Tensor) -> None:
        if not bool(torch.isfinite(y).all()):
            raise ValueError("y: expected finite values")


@dataclass(frozen=True)
class ElasticNet:
    """alpha |z| + beta z^2 / 2."""

    alpha: float
    beta: float

    def value(self, z: Tensor) -> Tensor:
        return (self.alpha * z.abs() + 0.5 * self.beta * z.square()).flatten(1).sum(1)

    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        return L1(self.alpha).prox(v, step_size) / (1 + step_size * self.beta)


class Reversed(LinearOperator):
    """Signals from their last entry to their first, each times a weight."""

    weights: Tensor

    def __init__(self, shape: tuple[int, ...], weights: Tensor) -> None:
        super().__init__(shape, shape)
        self.register_buffer("weights", weights)

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        return self.weights * x.flip(-1)


@dataclass(frozen=True)
class OneStep:
    """One proximal gradient step from zero."""

    penalty: Any
    nonnegative: bool = False

    def encode(self, problem, *, z0=None, gradient=None):
        step_size = 1 / problem.lipschitz()
        with torch.set_grad_enabled(gradient not in (None, "dec") and torch.is_grad_enabled()):
            z = self.penalty.prox(-step_size * problem.gradient(problem.zeros()), step_size)
        return Codes(z, problem.offset)

    def shortened(self, n_rounds):
        return self


@dataclass(frozen=True)
class Hebbian(BaseRule):
    """Atoms move by the correlation of codes and residuals, as far as a learning rate says."""

    name: ClassVar[str] = "hebbian"

    coder: Any
    learning_rate: float = 0.5
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere"))

    def init(self, atoms: Any) -> AtomState:
        return AtomState(torch.as_tensor(atoms).clone())

    def step(self, state: AtomState, batch: Batch) -> np.ndarray:
        X = torch.as_tensor(batch.X)
        z = self.coder.encode(dense_problem(X, state.atoms)).dense()
        rest = X - z @ state.atoms
        move = self.learning_rate / len(X) * z.T @ rest
        state.atoms = self.atom_set.project(state.atoms + move)
        return 0.5 * rest.square().sum(1).double().numpy()


class FilterHebbian(Hebbian):
    """The same for filters of signals."""

    def step(self, state: AtomState, batch: Batch) -> np.ndarray:
        values, moves = [], torch.zeros_like(state.atoms)
        for group in batch.X:
            assert isinstance(group, Signals)
            leaf = state.atoms.clone().requires_grad_()
            problem = group.problem(ConvDictionary(leaf, signal_shape=tuple(group.y.shape[2:])))
            with torch.no_grad():
                z = self.coder.encode(problem).dense()
            with torch.enable_grad():
                nll = problem.nll(z)
                moves -= torch.autograd.grad(nll.sum(), leaf)[0] / group.y.numel()
            values.append(nll.detach().double().numpy())
        moved = (state.atoms + self.learning_rate * moves).flatten(1)
        state.atoms = self.atom_set.project(moved).view_as(state.atoms)
        return np.concatenate(values)


@pytest.fixture
def X(rng):
    atoms = rng.standard_normal((12, 8))
    return (rng.standard_normal((60, 12)) * (rng.random((60, 12)) < 0.2)) @ atoms


@pytest.fixture
def signals(rng):
    return rng.standard_normal((4, 1, 40))


ELASTIC = ElasticNet(0.1, 0.5)
CODER = OneStep(ELASTIC)


def test_they_pass_their_checks(X):
    weights = torch.linspace(0.5, 2.0, 6, dtype=torch.float64)
    check_operator(Reversed((6,), weights))
    check_penalty(ELASTIC)
    check_likelihood(WideGaussian(), torch.linspace(-2, 2, 12, dtype=torch.float64).view(3, 4))
    check_coder(CODER)
    atoms = torch.nn.functional.normalize(torch.from_numpy(X[:5].copy()), dim=1)
    check_rule(Hebbian(CODER), atoms, Batch(X))


def test_sparse_encode_takes_them(X, rng):
    atoms = rng.standard_normal((12, 8))
    z = torch.from_numpy(sparse_encode(X, atoms, penalty=ELASTIC, tol=1e-10))
    problem = dense_problem(torch.from_numpy(X), torch.from_numpy(atoms))
    step_size = 1 / problem.lipschitz()
    moved = ELASTIC.prox(z - step_size * problem.gradient(z), step_size)
    torch.testing.assert_close(moved, z, atol=1e-7, rtol=0)

    narrow = sparse_encode(X, atoms, alpha=0.4, tol=1e-10)
    wide = sparse_encode(X, atoms, alpha=0.1, likelihood=WideGaussian(4.0), tol=1e-10)
    np.testing.assert_allclose(wide, narrow, atol=1e-5)  # a quarter of the precision, and of the weight

    by_coder = sparse_encode(X, atoms, method=CODER)
    np.testing.assert_allclose(by_coder, CODER.encode(problem).values.numpy())

    weights = torch.linspace(0.5, 2.0, 8, dtype=torch.float64)
    turned = Reversed((8,), weights) @ Dense(torch.from_numpy(atoms))
    by_operator = sparse_encode(X, turned, penalty=L1(0.2), tol=1e-10)
    explicit = sparse_encode(X, weights.numpy() * atoms[:, ::-1], alpha=0.2, tol=1e-10)
    np.testing.assert_allclose(by_operator, explicit, atol=1e-5)


def test_dictionary_learners_take_them(X):
    coded = calepin.DictionaryLearner(12, coder=CODER, max_iter=4, tol=0, random_state=0).fit(X)
    assert coded.history_[-1]["objective"] < coded.history_[0]["objective"]
    problem = dense_problem(torch.from_numpy(X), torch.from_numpy(coded.components_))
    np.testing.assert_allclose(coded.transform(X), CODER.encode(problem).values.numpy())

    penalised = calepin.DictionaryLearner(12, penalty=ELASTIC, max_iter=4, tol=0, random_state=0).fit(X)
    assert penalised.history_[-1]["objective"] < penalised.history_[0]["objective"]

    rule = Hebbian(LassoCoder(0.1))
    ruled = calepin.DictionaryLearner(12, rule=rule, max_iter=4, tol=0, random_state=0).fit(X)
    assert ruled.history_[-1]["objective"] < ruled.history_[0]["objective"]
    np.testing.assert_allclose(ruled.transform(X), sparse_encode(X, ruled.components_, alpha=0.1), atol=1e-6)


def test_unfolded_learners_take_them(X):
    learner = calepin.UnfoldedDictionaryLearner(
        12, penalty=ELASTIC, likelihood=WideGaussian(), n_unfold=10, max_iter=4, tol=0, random_state=0
    ).fit(X)
    assert learner.history_[-1]["objective"] < learner.history_[0]["objective"]
    ruled = calepin.UnfoldedDictionaryLearner(12, rule=Hebbian(CODER), max_iter=3, random_state=0).fit(X)
    assert ruled.transform(X).shape == (60, 12)


def test_convolutional_learners_take_them(signals):
    learner = calepin.ConvolutionalDictionaryLearner(
        2, 6, likelihood=WideGaussian(), penalty=ELASTIC, max_iter=4, tol=0, random_state=0
    ).fit(signals)
    assert learner.history_[-1]["objective"] < learner.history_[0]["objective"]
    coded = calepin.ConvolutionalDictionaryLearner(2, 6, coder=CODER, max_iter=2, random_state=0).fit(signals)
    problem = Problem(
        ConvDictionary(torch.from_numpy(coded.components_), signal_shape=(40,)),
        calepin.likelihoods.Gaussian(),
        torch.from_numpy(signals),
    )
    np.testing.assert_allclose(coded.transform(signals), CODER.encode(problem).values.numpy())
    ruled = calepin.ConvolutionalDictionaryLearner(
        2, 6, rule=FilterHebbian(CODER), max_iter=4, tol=0, random_state=0
    ).fit(signals)
    assert ruled.history_[-1]["objective"] < ruled.history_[0]["objective"]


def test_networks_and_untrained_fits_take_them(signals):
    y = torch.from_numpy(signals).float()
    atoms = torch.randn(3, 1, 5, generator=torch.Generator().manual_seed(0))
    network = UnfoldedAutoencoder(atoms, ELASTIC, n_unfold=3, likelihood=WideGaussian())
    assert network(y).shape == y.shape

    decoder = DeepDecoder((40,), out_channels=1, channels=8, in_size=(5,))
    for operator in (Identity((1, 40)), Reversed((1, 40), torch.ones(40))):
        fit = fit_untrained(decoder, operator, y[:1], likelihood=WideGaussian(), max_iter=30, tol=0.9)
        assert fit.history["loss"][-1] < fit.history["loss"][0]
