"""How far codes are from the minimiser: the violation of the optimality conditions."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from calepin import DictionaryLearner
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators.dense import Dense
from calepin.penalties import L1, GroupL1, HardThreshold, NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import LassoCoder, ProximalCoder
from calepin.solvers.coders.coder import FAR, Codes, violation

FAMILIES = {"gaussian": Gaussian(), "binomial": Binomial(5), "poisson": Poisson()}
PENALTIES = {"l1": L1(0.3), "nonnegative": NonNegativeL1(0.3), "groups": GroupL1(0.3, 2)}


def problem(family="gaussian", n=6):
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(8, 12, dtype=torch.float64, generator=generator)
    atoms /= atoms.norm(dim=1, keepdim=True)
    y = torch.randn(n, 12, dtype=torch.float64, generator=generator)
    if family != "gaussian":
        y = (2 + y).round().clamp(0, 5)
    return Problem(Dense(atoms), FAMILIES[family], y)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
def test_it_vanishes_at_the_minimiser_and_there_alone(family, penalty):
    near = ProximalCoder(penalty, 3000).encode(problem(family))
    assert near.converged.all()
    assert violation(problem(family), near, penalty).max() < 1e-6
    far = Codes(near.values + 1)
    assert (violation(problem(family), far, penalty) > FAR).all()


def test_for_the_lasso_it_is_the_excess_of_a_correlation_over_alpha():
    """At z = 0 the conditions say that no correlation exceeds alpha."""
    found = violation(problem(), Codes(torch.zeros(6, 8, dtype=torch.float64)), L1(1e-3))
    largest = problem().operator.adjoint(problem().y).abs().amax(1).numpy()
    np.testing.assert_allclose(found, (largest - 1e-3) / largest)


def test_exact_codes_do_not_violate_it():
    assert violation(problem(), LassoCoder(0.3).encode(problem()), L1(0.3)).max() < 1e-3


def test_the_result_of_a_hard_threshold_is_no_minimiser():
    coder = ProximalCoder(HardThreshold(0.5), 20, solver="ista")
    found = coder.encode(problem())
    assert found.converged is None
    assert not violation(problem(), found, coder.penalty).any()


def test_too_few_iterations_have_not_converged_and_layers_are_not_asked():
    few = ProximalCoder(L1(0.05), 2)
    assert not few.encode(problem()).converged.all()
    assert few.encode(problem(), gradient="ae-ls").converged is None


def test_a_learner_with_a_penalty_names_codes_far_from_the_minimiser(rng):
    atoms = 0.02 * np.eye(6) + 1  # nearly equal: fista takes long
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    learner = DictionaryLearner.from_components(atoms, penalty=L1(1e-4))
    X = rng.standard_normal((20, 6))
    with pytest.warns(ConvergenceWarning, match="codes are far .* after n_iter = 100 iterations"):
        learner.transform(X)
    with pytest.warns(ConvergenceWarning, match="codes are far"):
        learner.score(X)
