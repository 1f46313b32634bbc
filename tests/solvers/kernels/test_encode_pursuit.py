"""Greedy pursuits choose what their definition says, fit what they chose, and stop where asked."""

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.linear_model import orthogonal_mp

from calepin.solvers.coders.encode import sparse_encode


def problem(rng, n=40, p=50, m=20, dtype=np.float64):
    atoms = rng.normal(size=(p, m)) * rng.uniform(0.3, 3, size=(p, 1))
    return rng.normal(size=(n, m)).astype(dtype), atoms.astype(dtype)


def fit(x, atoms, support, nonnegative):
    if nonnegative:
        return nnls(atoms[support].T, x)[0]
    return np.linalg.lstsq(atoms[support].T, x)[0]


def by_definition(x, atoms, k, *, orthogonal, nonnegative=False, tol=0.0):
    """Choose atoms one by one from explicit projections."""
    support, z, r = [], np.zeros(0), x
    while len(support) < k and r @ r > tol:
        basis = np.linalg.qr(atoms[support].T)[0] if support and orthogonal else np.zeros((len(x), 0))
        outside = atoms - (atoms @ basis) @ basis.T
        norms = np.linalg.norm(outside, axis=1)
        norms[support] = np.inf
        c = atoms @ r
        score = np.where(norms > 1e-9, (c if nonnegative else np.abs(c)) / np.maximum(norms, 1e-9), 0)
        if score.max() <= 1e-9:
            break
        support.append(int(score.argmax()))
        z = fit(x, atoms, support, nonnegative)
        support, z = [j for j, v in zip(support, z, strict=True) if v != 0], z[z != 0]
        r = x - z @ atoms[support]
    code = np.zeros(len(atoms))
    code[support] = z
    return code


@pytest.mark.parametrize("method", ["omp", "ols"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_codes_follow_the_definition(rng, method, nonnegative):
    X, atoms = problem(rng)
    codes = sparse_encode(X, atoms, method=method, n_nonzero=7, nonnegative=nonnegative)
    expected = [by_definition(x, atoms, 7, orthogonal=method == "ols", nonnegative=nonnegative) for x in X]
    np.testing.assert_allclose(codes, expected, atol=1e-9)


def test_omp_with_unit_atoms_is_that_of_scikit_learn(rng):
    X, atoms = problem(rng)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = sparse_encode(X, atoms, method="omp", n_nonzero=6)
    expected = orthogonal_mp(atoms.T, X.T, n_nonzero_coefs=6).T
    np.testing.assert_allclose(codes, expected, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["omp", "ols"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_error_is_reached_with_no_atom_too_many(rng, dtype, method, nonnegative):
    X, atoms = problem(rng, n=300, p=80, dtype=dtype)
    tol = 0.2 * (X.astype(np.float64) ** 2).sum(1)
    codes, info = sparse_encode(X, atoms, method=method, tol=tol, nonnegative=nonnegative, return_info=True)
    residual = ((X.astype(np.float64) - codes.astype(np.float64) @ atoms) ** 2).sum(1)
    np.testing.assert_allclose(info.residual, residual, rtol=1e-4)
    assert (residual <= tol).all()
    assert codes.dtype == dtype
    if dtype == np.float64:
        expected = [
            by_definition(x, atoms, 20, orthogonal=method == "ols", nonnegative=nonnegative, tol=t)
            for x, t in zip(X[:20], tol[:20], strict=True)
        ]
        np.testing.assert_allclose(codes[:20], expected, atol=1e-8)


def test_a_tight_error_is_reached_in_float32(rng):
    """Rounding in float32 hides an error of 1e-9 ||x||^2: the true residual decides."""
    X, atoms = problem(rng, n=200, m=20, dtype=np.float32)
    tol = 1e-9 * (X.astype(np.float64) ** 2).sum(1)
    codes, info = sparse_encode(X, atoms, method="omp", tol=tol, return_info=True)
    residual = ((X.astype(np.float64) - codes.astype(np.float64) @ atoms) ** 2).sum(1)
    assert (residual <= tol).all()
    np.testing.assert_allclose(info.residual, residual, rtol=1e-3, atol=1e-3 * tol.min())


def test_whichever_limit_comes_first_stops(rng):
    X, atoms = problem(rng)
    energy = (X**2).sum(1)
    both = sparse_encode(X, atoms, method="omp", n_nonzero=3, tol=0.3 * energy)
    few = sparse_encode(X, atoms, method="omp", n_nonzero=3)
    near = sparse_encode(X, atoms, method="omp", tol=0.3 * energy)
    expected = np.where(((near != 0).sum(1) < 3)[:, None], near, few)
    np.testing.assert_allclose(both, expected, atol=1e-12)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_fit_on_the_support_is_least_squares(rng, nonnegative):
    X, atoms = problem(rng, dtype=np.float32)
    codes = sparse_encode(X, atoms, method="ols", n_nonzero=9, nonnegative=nonnegative)
    for x, code in zip(X, codes, strict=True):
        support = np.flatnonzero(code)
        np.testing.assert_allclose(code[support], fit(x, atoms, support, nonnegative), atol=1e-4)
        assert not nonnegative or (code >= 0).all()


def test_ols_leaves_less_than_omp_on_average(rng):
    X, atoms = problem(rng, n=500, p=100)
    left = {
        method: sparse_encode(X, atoms, method=method, n_nonzero=6, return_info=True)[1].residual
        for method in ("omp", "ols")
    }
    assert left["ols"].mean() < 0.98 * left["omp"].mean()


@pytest.mark.parametrize("method", ["omp", "ols"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_no_atom_in_the_span_is_chosen(rng, method, nonnegative):
    """Twins, opposites, multiples and zero atoms add nothing, and do no harm."""
    X, atoms = problem(rng, n=100, p=10, dtype=np.float32)
    crowd = np.concatenate([atoms, atoms, -atoms, 3 * atoms, 0 * atoms])
    codes = sparse_encode(X, crowd, method=method, n_nonzero=30, nonnegative=nonnegative)
    assert np.isfinite(codes).all()
    assert ((codes != 0).sum(1) <= 10).all()
    for x, code in zip(X, codes, strict=True):
        both = np.concatenate([atoms, -atoms])
        best = fit(x, both if nonnegative else atoms, slice(None), nonnegative)
        best = best @ (both if nonnegative else atoms)
        np.testing.assert_allclose(code @ crowd, best, atol=1e-3)


@pytest.mark.parametrize("method", ["omp", "ols"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_mask_equals_coding_without_the_missing_features(rng, method, nonnegative):
    X, atoms = problem(rng, n=30)
    mask = rng.random(X.shape) < 0.7
    options = {"method": method, "n_nonzero": 5, "nonnegative": nonnegative}
    codes = sparse_encode(np.where(mask, X, np.nan), atoms, mask=mask, **options)
    for x, observed, code in zip(X, mask, codes, strict=True):
        alone = sparse_encode(x[None, observed], atoms[:, observed], **options)
        np.testing.assert_allclose(code, alone[0], atol=1e-9)


@pytest.mark.parametrize("method", ["omp", "ols"])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_codes_scale_with_samples_and_atoms(rng, method, scale):
    X, atoms = problem(rng, dtype=np.float32)
    codes = sparse_encode(X, atoms, method=method, n_nonzero=5)
    scale = np.float32(scale)
    scaled = sparse_encode(X * scale, atoms, method=method, n_nonzero=5)
    np.testing.assert_allclose(scaled / scale, codes, atol=1e-3)
    scaled = sparse_encode(X, atoms * scale, method=method, n_nonzero=5)
    np.testing.assert_allclose(scaled * scale, codes, atol=1e-3)


def test_zero_samples_and_more_atoms_than_features_end_well(rng):
    X, atoms = problem(rng, m=6)
    X[4] = 0
    codes = sparse_encode(X, atoms, method="omp", n_nonzero=50)
    assert not codes[4].any()
    assert ((codes != 0).sum(1) <= 6).all()
    np.testing.assert_allclose(codes @ atoms, X, atol=1e-10)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_bits_do_not_depend_on_the_number_of_threads(rng, with_threads, nonnegative):
    X, atoms = problem(rng, n=700, dtype=np.float32)
    one, two = (
        with_threads(k, lambda: sparse_encode(X, atoms, method="ols", n_nonzero=5, nonnegative=nonnegative))
        for k in (1, 2)
    )
    assert (one == two).all()
