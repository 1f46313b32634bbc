import math

import pytest
import torch

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Binomial, Gaussian, Poisson
from calepin.operators import Dense
from calepin.penalties import NonNegativeL1
from calepin.problem import Problem
from calepin.solvers import FISTA, ISTA, solve
from calepin.testing import check_likelihood


@pytest.mark.parametrize("shape", [(4, 1), (3, 5), (2, 3, 4)])
def test_gaussian_conforms(shape):
    eta = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    check_likelihood(Gaussian(), eta)


def test_complex_noise_has_unit_variance_in_both_parts():
    eta = torch.zeros(20_000, dtype=torch.complex128)
    y = Gaussian().sample(eta, generator=torch.Generator().manual_seed(0))
    assert float(y.real.var()) == pytest.approx(1, rel=0.05)
    assert float(y.imag.var()) == pytest.approx(1, rel=0.05)
    assert float(Gaussian().nll(eta[None], y[None])) == pytest.approx(float(0.5 * y.abs().square().sum()))


def test_the_same_seed_draws_the_same_observation():
    eta = torch.zeros(5)
    draws = [Gaussian().sample(eta, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)


def test_the_first_bad_entry_is_named():
    y = torch.ones(2, 3)
    y[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"y: expected finite values, got nan at index \(1, 2\)"):
        Gaussian().check(y)


TRIALS = [1, 7, torch.tensor([[3.0], [25.0], [1.0]]), torch.arange(1.0, 16.0).view(3, 5)]


@pytest.mark.parametrize("family", [*map(Binomial, TRIALS), Poisson()], ids=str)
def test_counts_conform(family):
    if isinstance(family, Binomial) and isinstance(family.trials, torch.Tensor):
        # the check draws thousands of copies, for which trials a sample don't repeat themselves
        eta = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        y = family.sample(eta, generator=torch.Generator().manual_seed(5))
        family.check(y)
        point = eta.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(family.nll(point, y).sum(), point)
        assert torch.allclose(family.score(eta, y), -gradient)
    else:
        eta = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        check_likelihood(family, eta)


@pytest.mark.parametrize("trials", TRIALS, ids=lambda t: str(getattr(t, "shape", t)))
def test_trials_of_each_sample_or_entry_have_their_own_mean(trials):
    eta = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert torch.allclose(Binomial(trials).mean(eta), trials * torch.sigmoid(eta))
    assert Binomial(trials).curvature == float(torch.as_tensor(trials).max()) / 4


@pytest.mark.parametrize("family", [Binomial(9), Poisson()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_predictors_stay_finite(family, dtype):
    eta = torch.tensor([[-1e4, -800.0, -90.0, 0.0, 90.0, 800.0, 1e4]], dtype=dtype)
    for count in (0.0, 5.0):
        y = torch.full_like(eta, count)
        for values in (family.nll(eta, y), family.score(eta, y), family.mean(eta)):
            assert torch.isfinite(values).all()
    assert float(family.mean(eta)[0, 0]) == 0


def test_the_nll_is_that_of_scipy_up_to_what_does_not_depend_on_eta():
    from scipy import stats

    eta = torch.linspace(-3, 3, 7, dtype=torch.float64)[None]
    y = torch.tensor([[0.0, 1, 2, 3, 4, 5, 6]], dtype=torch.float64)
    ours = Binomial(6).nll(eta, y) - Binomial(6).nll(0 * eta, y)
    p = torch.sigmoid(eta).numpy()
    theirs = -stats.binom.logpmf(y, 6, p).sum() + stats.binom.logpmf(y, 6, 0.5).sum()
    assert float(ours) == pytest.approx(theirs, rel=1e-12)
    ours = Poisson().nll(eta, y) - Poisson().nll(0 * eta, y)
    theirs = -stats.poisson.logpmf(y, eta.exp()).sum() + stats.poisson.logpmf(y, 1.0).sum()
    assert float(ours) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("family", "bad", "message"),
    [
        (Poisson(), -1.0, r"y: expected counts of at least 0, got -1.0 at index \(0, 1\)"),
        (Poisson(), 0.5, r"y: expected whole numbers \(counts\), got 0.5 at index \(0, 1\)"),
        (Poisson(), math.nan, "y: expected finite counts, got nan"),
        (Poisson(), math.inf, "y: expected finite counts, got inf"),
        (Binomial(3), 4.0, r"y: expected at most the number of trials \(3\), got 4.0"),
        (Binomial(3), -1.0, "y: expected counts of at least 0"),
        (Binomial(3), 1.5, "y: expected whole numbers"),
        (
            Binomial(torch.tensor([[2.0, 3.0, 1.0]])),
            4.0,
            r"at most the number of trials \(3 or fewer\), got 4.0",
        ),
    ],
)
def test_what_no_count_can_be_is_refused(family, bad, message):
    y = torch.tensor([[1.0, bad, 0.0]])
    with pytest.raises(ValueError, match=message):
        family.check(y)


@pytest.mark.parametrize("trials", [0, -2, 1.5, torch.tensor([1.0, 0.0]), math.nan])
def test_trials_are_whole_numbers_from_one_on(trials):
    with pytest.raises(ValueError, match="trials: expected whole numbers of at least 1, got"):
        Binomial(trials)


def test_trials_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"trials: expected a shape that broadcasts to that of y, \(2, 3\)"):
        Binomial(torch.ones(4)).check(torch.ones(2, 3))


def test_poisson_needs_backtracking_or_a_step():
    problem = Problem(Dense(torch.eye(4)), Poisson(), torch.ones(1, 4))
    message = "ISTA needs likelihood.curvature, which Poisson does not have; give step_size='backtracking'"
    with pytest.raises(IncompatibleError, match=message):
        solve(problem, ISTA(NonNegativeL1(0.1)), n_iter=3)


@pytest.mark.parametrize("kind", [ISTA, FISTA])
@pytest.mark.parametrize("y", ["dark", "bright"])
def test_backtracking_tames_counts_of_any_size(kind, y):
    generator = torch.Generator().manual_seed(0)
    atoms = torch.rand(12, 30, dtype=torch.float64, generator=generator)
    counts = torch.zeros(2, 30, dtype=torch.float64)
    if y == "bright":
        counts = torch.poisson(torch.full_like(counts, 1000), generator=generator)
    problem = Problem(Dense(atoms), Poisson(), counts, offset=-5.0)
    penalty = NonNegativeL1(0.1)
    first = problem.nll(problem.zeros())
    found = solve(problem, kind(penalty, "backtracking"), n_iter=400)
    assert found.finite.all()
    assert (problem.nll(found.z) + penalty.value(found.z) <= first).all()
    moved = penalty.prox(found.z - 1e-4 * problem.gradient(found.z), 1e-4)
    assert float((moved - found.z).abs().max()) < 1e-3 * float(found.z.abs().max().clamp_min(1))
