"""The lasso coder finds the optimum, says how far from it it is, and says so truthfully."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from calepin.solvers import sparse_encode
from calepin.solvers.kernels.blocks import PreparedAtoms
from calepin.solvers.kernels.encode_lasso import _Job, encode_lasso


def problem(rng, n=60, p=50, m=20, dtype=np.float64):
    atoms = rng.normal(size=(p, m)) * rng.uniform(0.3, 3, size=(p, 1))
    codes = rng.normal(size=(n, p)) * (rng.random((n, p)) < 0.1)
    X = codes @ atoms + 0.1 * rng.normal(size=(n, m))
    return X.astype(dtype), atoms.astype(dtype)


def true_gap(X, atoms, codes, alpha, *, nonnegative=False, mask=None):
    """Return the duality gap in float64, by the textbook formula."""
    X, atoms, codes = (np.asarray(a, np.float64) for a in (X, atoms, codes))
    mask = np.ones_like(X) if mask is None else mask
    X = X * mask
    R = (X - codes @ atoms) * mask
    C = R @ atoms.T
    largest = (C if nonnegative else np.abs(C)).max(1)
    theta = R * np.minimum(1, alpha / np.maximum(largest, 1e-300))[:, None]
    primal = 0.5 * (R**2).sum(1) + alpha * np.abs(codes).sum(1)
    return primal - 0.5 * (X**2).sum(1) + 0.5 * ((X - theta) ** 2).sum(1)


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize(("p", "m"), [(50, 20), (15, 40), (40, 40)])
def test_codes_are_those_of_scikit_learn(rng, nonnegative, p, m):
    X, atoms = problem(rng, p=p, m=m)
    codes = sparse_encode(X, atoms, alpha=0.7, nonnegative=nonnegative, tol=1e-12)
    peer = Lasso(alpha=0.7 / m, fit_intercept=False, positive=nonnegative, tol=1e-12, max_iter=100_000)
    expected = np.stack([peer.fit(atoms.T, x).coef_ for x in X])
    np.testing.assert_allclose(codes, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_certified_gap_is_the_true_gap_and_meets_its_goal(rng, dtype, nonnegative, masked):
    X, atoms = problem(rng, n=300, dtype=dtype)
    mask = rng.random(X.shape) < 0.7 if masked else None
    codes, info = sparse_encode(X, atoms, alpha=0.3, nonnegative=nonnegative, mask=mask, return_info=True)
    energy = (np.where(mask, X, 0) if masked else X).astype(np.float64)
    energy = (energy**2).sum(1)
    assert codes.dtype == dtype
    assert (info.gap <= 1e-6 * energy).all()
    gap = true_gap(X, atoms, codes, 0.3, nonnegative=nonnegative, mask=mask)
    assert (info.gap <= gap + 3e-7 * energy).all()
    if not encode_lasso(X, atoms, 0.3, nonnegative=nonnegative, mask=mask).n_refined:
        np.testing.assert_allclose(info.gap, gap, atol=3e-7 * energy.max())
    assert not nonnegative or (codes >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_certified_gap_bounds_what_the_objective_can_still_fall(rng, dtype):
    X, atoms = problem(rng, dtype=dtype)
    codes, info = sparse_encode(X, atoms, alpha=0.05, tol=1e-5, return_info=True)
    X, atoms = X.astype(np.float64), atoms.astype(np.float64)
    optimal = sparse_encode(X, atoms, alpha=0.05, tol=1e-13)

    def objective(z):
        return 0.5 * ((X - z @ atoms) ** 2).sum(1) + 0.05 * np.abs(z).sum(1)

    excess = objective(codes) - objective(optimal)
    assert (info.gap >= excess - 1e-12 * (X**2).sum(1)).all()


def test_float32_codes_reach_a_gap_that_float32_arithmetic_does_not(rng):
    X, atoms = problem(rng, dtype=np.float32)
    info = encode_lasso(X, atoms, 0.05, tol=1e-11)
    assert info.codes.dtype == np.float32
    assert info.n_refined == len(X)
    assert (info.gap <= 1e-11 * (X.astype(np.float64) ** 2).sum(1)).all()


def test_a_goal_out_of_reach_is_reported(rng):
    X, atoms = problem(rng)
    with pytest.warns(ConvergenceWarning, match="of 60 samples exceeds tol = 1e-30"):
        _, info = sparse_encode(X, atoms, alpha=0.05, tol=1e-30, return_info=True)
    assert (info.gap > 1e-30 * (X**2).sum(1)).any()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    p=st.integers(1, 40),
    m=st.integers(1, 20),
    alpha=st.floats(1e-3, 3.0),
    nonnegative=st.booleans(),
    twins=st.booleans(),
    grid=st.booleans(),
)
def test_optimality_conditions_hold_for_any_dictionary(seed, p, m, alpha, nonnegative, twins, grid):
    """Ties (entries on a grid), duplicate, opposite and zero atoms included."""
    rng = np.random.default_rng(seed)
    atoms, X = rng.normal(size=(p, m)), rng.normal(size=(5, m))
    if grid:
        atoms, X = np.round(atoms), np.round(X)
    if twins:
        atoms = np.concatenate([atoms, atoms, -atoms, 0 * atoms[:1]])
    codes = sparse_encode(X, atoms, alpha=alpha, nonnegative=nonnegative, tol=1e-9)
    C = (X - codes @ atoms) @ atoms.T
    slack = 1e-3 * (np.abs(X @ atoms.T).max() + alpha)
    assert (alpha + slack >= C).all()
    assert nonnegative or (-alpha - slack <= C).all()
    on = np.abs(codes) > 1e-3
    np.testing.assert_allclose(C[on], alpha * np.sign(codes[on]), atol=slack)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_codes_scale_with_samples_and_atoms(rng, dtype, scale):
    X, atoms = problem(rng, dtype=dtype)
    codes = sparse_encode(X, atoms, alpha=0.3)
    tol = 1e-3 if dtype == np.float32 else 1e-6
    with_samples = sparse_encode(X * dtype(scale), atoms, alpha=0.3 * scale)
    np.testing.assert_allclose(with_samples / dtype(scale), codes, atol=tol)
    with_atoms = sparse_encode(X, atoms * dtype(scale), alpha=0.3 * scale)
    np.testing.assert_allclose(with_atoms * dtype(scale), codes, atol=tol)


def test_mask_equals_coding_without_the_missing_features(rng):
    X, atoms = problem(rng, n=30)
    mask = rng.random(X.shape) < 0.6
    holes = np.where(mask, X, np.nan)
    codes = sparse_encode(holes, atoms, alpha=0.3, mask=mask, tol=1e-12)
    for x, observed, code in zip(X, mask, codes, strict=True):
        alone = sparse_encode(x[None, observed], atoms[:, observed], alpha=0.3, tol=1e-12)
        np.testing.assert_allclose(code, alone[0], atol=1e-7)


def test_a_sample_with_nothing_observed_has_no_code(rng):
    X, atoms = problem(rng, n=3)
    mask = np.ones(X.shape, dtype=bool)
    mask[1] = False
    codes, info = sparse_encode(X, atoms, alpha=0.1, mask=mask, return_info=True)
    assert not codes[1].any()
    assert info.gap[1] == info.residual[1] == 0


def test_zero_samples_and_zero_atoms_have_no_code(rng):
    X, atoms = problem(rng)
    X[3], atoms[7] = 0, 0
    codes, info = sparse_encode(X, atoms, alpha=0.1, return_info=True)
    assert not codes[3].any()
    assert not codes[:, 7].any()
    assert info.gap[3] == 0
    assert not sparse_encode(X, 0 * atoms, alpha=0.1).any()


def test_large_alpha_gives_zero_and_small_alpha_gives_the_sample(rng):
    X, atoms = problem(rng)
    largest = np.abs(X @ atoms.T).max()
    assert not sparse_encode(X, atoms, alpha=1.001 * largest).any()
    codes = sparse_encode(X, atoms, alpha=1e-7)
    np.testing.assert_allclose(codes @ atoms, X, atol=1e-5)


def test_duplicate_atoms_are_solved_without_a_warning(rng):
    X, atoms = problem(rng)
    atoms = np.concatenate([atoms, atoms[::2], -atoms[1::2]])
    _, info = sparse_encode(X, atoms, alpha=0.05, return_info=True)
    assert (info.gap <= 1e-6 * (X**2).sum(1)).all()


def test_float32_misses_are_coded_again_in_float64(rng):
    X, atoms = problem(rng, n=200, p=60, dtype=np.float32)
    atoms[30:] = atoms[:30] + np.float32(1e-3) * atoms[30:]  # nearly collinear
    info = encode_lasso(X, atoms, 0.01, tol=2e-6)
    assert info.n_refined > 0
    assert (info.gap <= 2e-6 * (X.astype(np.float64) ** 2).sum(1)).all()


@pytest.mark.parametrize("masked", [False, True])
def test_bits_do_not_depend_on_the_number_of_threads(rng, with_threads, masked):
    X, atoms = problem(rng, n=700, dtype=np.float32)
    mask = rng.random(X.shape) < 0.8 if masked else None
    one, two = (with_threads(k, lambda: sparse_encode(X, atoms, alpha=0.2, mask=mask)) for k in (1, 2))
    assert (one == two).all()


@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("alpha", [0.5, 0.005])
def test_descent_alone_certifies_every_sample(rng, twins, alpha):
    """The way out for samples that the homotopy cannot follow needs no help from it."""
    X, atoms = problem(rng, n=40)
    if twins:
        atoms = np.concatenate([atoms, atoms[::2], -atoms[1::2]])
    job = _Job(X, PreparedAtoms.of(atoms, X.dtype), alpha, 1e-8, False, None, X.dtype)
    found, failed = job.descend(sparse.csr_array((len(X), len(atoms))))
    assert not len(failed)
    gap = true_gap(X, job.atoms.atoms[: len(atoms)], found.codes.toarray(), job.alpha)
    assert (gap <= 1e-8 * (X**2).sum(1)).all()
