import numpy as np
import pytest

from calepin.metrics import code_error, duality_gap, mutual_coherence, support_recovery
from calepin.solvers.coders.encode import sparse_encode


def objective(X, codes, atoms, alpha):
    return 0.5 * ((X - codes @ atoms) ** 2).sum(1) + alpha * abs(codes).sum(1)


@pytest.fixture
def problem(rng):
    atoms = rng.standard_normal((15, 8))
    return rng.standard_normal((20, 8)), atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_gap_bounds_what_is_missed_and_closes_at_the_optimum(problem, rng, nonnegative):
    X, atoms = problem
    best = sparse_encode(X, atoms, alpha=0.2, nonnegative=nonnegative)
    assert duality_gap(X, best, atoms, alpha=0.2, nonnegative=nonnegative).max() < 1e-12
    for scale in (0.01, 0.3):
        codes = best + scale * rng.standard_normal(best.shape) * (best != 0)
        codes = abs(codes) if nonnegative else codes
        missed = objective(X, codes, atoms, 0.2) - objective(X, best, atoms, 0.2)
        gap = duality_gap(X, codes, atoms, alpha=0.2, nonnegative=nonnegative)
        assert (gap >= missed - 1e-12).all()
        assert gap.max() < 5


def test_a_code_that_may_not_be_has_an_infinite_gap(problem):
    X, atoms = problem
    codes = np.zeros((20, 15))
    codes[3, 2] = -0.1
    gap = duality_gap(X, codes, atoms, alpha=0.2, nonnegative=True)
    assert np.flatnonzero(np.isinf(gap)).tolist() == [3]


def test_the_gap_agrees_with_the_compiled_certificate(problem):
    X, atoms = problem
    codes, info = sparse_encode(X.astype("f"), atoms.astype("f"), alpha=0.2, return_info=True)
    found = duality_gap(X.astype("f"), codes, atoms.astype("f"), alpha=0.2)
    np.testing.assert_allclose(found, info.gap, atol=1e-5)


def test_supports_are_counted_over_samples():
    true = [[1, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]]
    found = [[1, 0, 0.01, 0], [0, 0, -2, 0], [0, 0, 0, 0]]
    all_of_it = support_recovery(found, true)
    assert (all_of_it.precision, all_of_it.recall) == (pytest.approx(2.5 / 3), pytest.approx(2.5 / 3))
    assert all_of_it.exact == pytest.approx(2 / 3)
    assert support_recovery(found, true, threshold=0.1).precision == 1


def test_code_errors_are_lengths():
    np.testing.assert_allclose(code_error([[3.0, 4.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 1.0]]), [5, 0])


def test_coherence_is_the_cosine_of_the_smallest_angle():
    angle = 0.3
    atoms = [[1, 0, 0], [0, 5, 0], [-2 * np.cos(angle), 0, -2 * np.sin(angle)]]
    assert mutual_coherence(atoms) == pytest.approx(np.cos(angle))
    assert mutual_coherence(np.eye(4)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: support_recovery([[1.0]], [[1.0, 2.0]]), "codes: expected the shape of reference"),
        (
            lambda: support_recovery([[1.0]], [[1.0]], threshold=-1),
            "threshold: expected a finite number of at least 0",
        ),
        (lambda: code_error([[1.0]], [[np.nan]]), "reference: expected finite"),
        (lambda: duality_gap([[1.0]], [[1.0]], [[1.0]], alpha=0), "alpha: expected a finite number above 0"),
        (lambda: duality_gap([[1.0]], [[1.0, 2.0]], [[1.0]], alpha=1), r"codes: expected shape \(1, 1\)"),
        (lambda: duality_gap([[1.0]], [[1.0]], [[1.0, 1.0]], alpha=1), r"atoms: expected shape \(1, 1\)"),
        (lambda: mutual_coherence([[1.0, 0.0]]), "atoms: expected at least two"),
        (lambda: mutual_coherence([1.0, 0.0]), "atoms: expected a matrix"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
