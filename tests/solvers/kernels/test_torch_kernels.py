"""The batched coders for tensors on a device agree with the compiled ones; tested here on the CPU."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from calepin.solvers import dense_problem, sparse_encode
from calepin.solvers.kernels import torch_lasso as _torch_lasso
from calepin.solvers.kernels.encode import (
    batched_lasso_codes,
    batched_pursuit_codes,
    dense_terms,
    lasso_codes,
    pursuit_codes,
)
from calepin.solvers.kernels.torch_lasso import batched_lasso
from calepin.solvers.kernels.torch_pursuit import batched_pursuit


def problem(rng, dtype, n=30, p=40, m=16):
    atoms = rng.normal(size=(p, m)) * rng.uniform(0.5, 2, size=(p, 1))
    X = rng.normal(size=(n, m))
    X[5] = 0
    mask = rng.random((n, m)) < 0.7
    return tuple(torch.from_numpy(a.astype(dtype)) for a in (X, atoms)), torch.from_numpy(mask)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_batched_lasso_agrees_and_is_certified(rng, dtype, nonnegative, masked):
    (X, atoms), mask = problem(rng, dtype)
    mask = mask if masked else None
    X = X * mask if masked else X
    codes, gap, residual, _ = batched_lasso(X, atoms, 0.8, nonnegative=nonnegative, mask=mask)
    expected, info = sparse_encode(X, atoms, alpha=0.8, nonnegative=nonnegative, mask=mask, return_info=True)
    assert codes.dtype == X.dtype
    assert (gap <= 1e-6 * X.double().square().sum(1)).all()
    np.testing.assert_allclose(residual, info.residual, atol=1e-2)
    np.testing.assert_allclose(codes, expected, atol=1e-2)
    tight = batched_lasso(X.double(), atoms.double(), 0.8, tol=1e-10, nonnegative=nonnegative, mask=mask)
    expected = sparse_encode(
        X.double(), atoms.double(), alpha=0.8, tol=1e-12, nonnegative=nonnegative, mask=mask
    )
    np.testing.assert_allclose(tight[0], expected, atol=1e-4)


def test_batched_lasso_solves_duplicate_atoms(rng):
    (X, atoms), _ = problem(rng, np.float64)
    atoms = torch.cat([atoms, atoms[:10], -atoms[10:20], 0 * atoms[:1]])
    _, gap, _, _ = batched_lasso(X, atoms, 0.8)
    assert (gap <= 1e-6 * X.square().sum(1)).all()


def test_batched_lasso_reports_what_it_misses(rng, monkeypatch):
    (X, atoms), _ = problem(rng, np.float64)
    monkeypatch.setattr(_torch_lasso, "MAX_ITER", 20)
    with pytest.warns(ConvergenceWarning, match="of 30 samples exceeds tol = 1e-15"):
        batched_lasso(X, atoms, 0.01, tol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("selection", ["omp", "ols"])
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("limit", [{"n_nonzero": 6}, {"tol": 2.0}])
def test_batched_pursuit_agrees(rng, dtype, selection, nonnegative, masked, limit):
    (X, atoms), mask = problem(rng, dtype)
    mask = mask if masked else None
    X = X * mask if masked else X
    goals = {k: np.full(len(X), v) if k == "tol" else v for k, v in limit.items()}
    codes, _, residual, _ = batched_pursuit(
        X, atoms, selection=selection, nonnegative=nonnegative, mask=mask, **goals
    )
    expected, info = sparse_encode(
        X, atoms, method=selection, nonnegative=nonnegative, mask=mask, return_info=True, **limit
    )
    assert codes.dtype == X.dtype
    np.testing.assert_allclose(codes, expected, rtol=1e-3, atol=1e-3 if dtype == np.float32 else 1e-8)
    np.testing.assert_allclose(residual, info.residual, atol=1e-4)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_batched_pursuit_takes_no_atom_in_the_span(rng, nonnegative):
    (X, atoms), _ = problem(rng, np.float32, p=10)
    crowd = torch.cat([atoms, atoms, -atoms, 0 * atoms])
    codes, _, residual, _ = batched_pursuit(X, crowd, n_nonzero=30, selection="ols", nonnegative=nonnegative)
    assert codes.isfinite().all()
    assert ((codes != 0).sum(1) <= 10).all()
    _, info = sparse_encode(X, crowd, method="ols", n_nonzero=30, nonnegative=nonnegative, return_info=True)
    np.testing.assert_allclose(residual, info.residual, atol=1e-3)


def test_a_tight_error_is_reached_in_float32(rng):
    (X, atoms), _ = problem(rng, np.float32)
    tol = 1e-9 * X.double().square().sum(1)
    _, _, residual, _ = batched_pursuit(X, atoms, tol=tol.numpy())
    assert (residual <= tol).all()


@pytest.mark.parametrize(
    ("compiled", "batched", "settings"),
    [
        (lasso_codes, batched_lasso_codes, {"alpha": 0.8, "tol": 1e-6}),
        (pursuit_codes, batched_pursuit_codes, {"n_nonzero": 4, "tol": None, "selection": "omp"}),
        (
            pursuit_codes,
            batched_pursuit_codes,
            {"n_nonzero": None, "tol": np.full(30, 2.0), "selection": "ols"},
        ),
    ],
)
def test_both_ways_to_code_a_problem_agree(rng, compiled, batched, settings):
    (X, atoms), mask = problem(rng, np.float64)
    terms = dense_terms(dense_problem(torch.where(mask, X, torch.nan), atoms, mask), "coder")
    found = batched(terms, nonnegative=False, **settings)
    expected = compiled(terms, nonnegative=False, certify=True, **settings)
    np.testing.assert_allclose(found.values, expected.values.toarray(), rtol=1e-3, atol=1e-2)
    rest = torch.where(mask, X - found.values @ atoms, 0)
    np.testing.assert_allclose(found.residual, rest.square().sum(1), atol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, D, M: (X * torch.inf, D, None), "X: expected finite"),
        (lambda X, D, M: (X[0], D, None), r"X: expected shape \(n_samples, n_features\), got \(16,\)"),
        (lambda X, D, M: (X, D[:, :3], None), "atoms: expected as many features as X"),
        (lambda X, D, M: (X, D, X), "mask: expected dtype bool"),
        (lambda X, D, M: (X, D, M[:3]), "mask: expected the shape of X"),
        (lambda X, D, M: (X[:0], D, None), "X: expected at least one entry"),
    ],
)
def test_bad_tensors_are_named(rng, change, message):
    (X, atoms), mask = problem(rng, np.float64)
    with pytest.raises(ValueError, match=message):
        X, atoms, mask = change(X, atoms, mask)
        sparse_encode(X, atoms, alpha=0.8, mask=mask)
