"""The coders' front: types follow the inputs, and bad input gives one clear error."""

import numpy as np
import pytest
import torch
from scipy import sparse

from calepin.solvers.coders.encode import IHTCoder, LassoCoder, PursuitCoder, objective, sparse_encode


@pytest.fixture
def samples(rng):
    atoms = rng.normal(size=(12, 8))
    return rng.normal(size=(20, 8)), atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


METHODS = [
    {"method": "lasso", "alpha": 0.2},
    {"method": "omp", "n_nonzero": 3},
    {"method": "ols", "n_nonzero": 3},
]


@pytest.mark.parametrize("options", METHODS)
def test_csr_is_dense_with_sorted_indices(samples, options):
    X, atoms = samples
    codes = sparse_encode(X, atoms, output="csr", **options)
    assert isinstance(codes, sparse.csr_array)
    for row in range(len(X)):
        assert (np.diff(codes.indices[codes.indptr[row] : codes.indptr[row + 1]]) > 0).all()
    assert (codes.toarray() == sparse_encode(X, atoms, **options)).all()


@pytest.mark.parametrize("options", METHODS)
def test_tensors_give_the_tensor_that_arrays_give(samples, options):
    X, atoms = samples
    codes, info = sparse_encode(torch.from_numpy(X), torch.from_numpy(atoms), return_info=True, **options)
    assert isinstance(codes, torch.Tensor)
    assert isinstance(info.residual, torch.Tensor)
    assert (codes.numpy() == sparse_encode(X, atoms, **options)).all()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.float16, np.float64),
        (np.int32, np.float64),
        (np.uint8, np.float64),
        (bool, np.float64),
    ],
)
def test_dtype_is_kept_or_becomes_float64(given, kept):
    X = np.eye(4, dtype=given)
    codes = sparse_encode(X, X, alpha=0.25)
    assert codes.dtype == kept
    np.testing.assert_allclose(codes, 0.75 * np.eye(4))


def test_layout_of_the_inputs_does_not_matter_and_they_are_left_alone(samples):
    X, atoms = samples
    expected = sparse_encode(X, atoms, alpha=0.2)
    readonly = X.copy()
    readonly.flags.writeable = False
    for view in (np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], readonly):
        assert (sparse_encode(view, np.asfortranarray(atoms), alpha=0.2) == expected).all()
    assert (readonly == X).all()


@pytest.mark.parametrize(
    ("coder", "options"),
    [
        (LassoCoder(0.2), {"alpha": 0.2}),
        (LassoCoder(0.2, positive=True), {"alpha": 0.2, "positive": True}),
        (PursuitCoder(3), {"method": "omp", "n_nonzero": 3}),
        (PursuitCoder(tol=0.5, selection="ols"), {"method": "ols", "tol": 0.5}),
    ],
)
def test_coders_of_the_learners_are_sparse_encode(samples, coder, options):
    X, atoms = samples
    mask = np.random.default_rng(1).random(X.shape) < 0.8
    codes = coder.encode(X, atoms)
    assert isinstance(codes, sparse.csr_array)
    assert (codes.toarray() == sparse_encode(X, atoms, **options)).all()
    masked = coder.encode(X, atoms, mask)
    assert (masked.toarray() == sparse_encode(X, atoms, mask=mask, **options)).all()


def test_iterative_hard_thresholding_keeps_large_entries(samples):
    X, atoms = samples
    codes = IHTCoder(0.5).encode(X, atoms).toarray()
    assert (np.abs(codes[codes != 0]) >= 0.5).all()
    on_tensors = IHTCoder(0.5)._on_tensors(torch.from_numpy(X), torch.from_numpy(atoms), None)[0]
    np.testing.assert_allclose(on_tensors.numpy(), codes, atol=1e-12)
    orthogonal = IHTCoder(0.5).encode(X, np.eye(8)).toarray()
    np.testing.assert_allclose(orthogonal[orthogonal != 0], X[orthogonal != 0], rtol=1e-4)


def test_objective_adds_the_penalty_of_the_coder(samples):
    X, atoms = samples
    codes = sparse_encode(X, atoms, alpha=0.2)
    error = 0.5 * ((X - codes @ atoms) ** 2).sum(1)
    expected = error + 0.2 * np.abs(codes).sum(1)
    np.testing.assert_allclose(objective(X, codes, atoms, coder=LassoCoder(0.2)), expected)
    np.testing.assert_allclose(objective(X, codes, atoms, coder=PursuitCoder(3)), error)
    in_csr = objective(X, sparse.csr_array(codes), atoms, coder=LassoCoder(0.2))
    np.testing.assert_allclose(in_csr, expected)


X = np.ones((3, 4))
D = np.eye(4)
NAN = np.full((3, 4), np.nan)


@pytest.mark.parametrize(
    ("X", "atoms", "options", "message"),
    [
        (NAN, D, {}, r"X: expected finite values, its entry \(0, 0\) is nan"),
        (X, np.full((4, 4), np.inf), {}, r"atoms: expected finite"),
        (NAN, D, {"mask": X > 0}, r"X: expected finite"),
        (-1e200 * X, D, {}, r"X: expected a scale at which its squares are numbers, got entries of 1e\+200"),
        (X, 1e-200 * D, {}, r"atoms: expected a scale"),
        (X[:0], D, {}, r"X: expected at least one entry, got shape \(0, 4\)"),
        (X, D[:0], {}, r"atoms: expected at least one entry"),
        (X[0], D, {}, r"X: expected shape \(n_samples, n_features\), got \(4,\)"),
        (X, D[0], {}, r"atoms: expected shape \(n_components, n_features\), got \(4,\)"),
        (X, D[:, :3], {}, r"atoms: expected as many features as X, 4, got shape \(4, 3\)"),
        (X * 1j, D, {}, r"X: expected real numbers, got dtype complex128"),
        (X, D.astype(str), {}, r"atoms: expected real numbers"),
        (X, D, {"alpha": 0}, r"alpha: expected a positive finite number, got 0"),
        (X, D, {"alpha": -1.0}, r"alpha: expected a positive"),
        (X, D, {"alpha": float("nan")}, r"alpha: expected a positive"),
        (X, D, {"alpha": "big"}, r"alpha: expected a positive"),
        (X, D, {"alpha": None}, r'alpha: expected a positive number for method "lasso"'),
        (X, D, {"tol": 0}, r"tol: expected a positive"),
        (X, D, {"n_nonzero": 2}, r'n_nonzero: expected None for method "lasso", got 2'),
        (X, D, {"method": "lars"}, r"method: expected \"lasso\", \"omp\" or \"ols\", got 'lars'"),
        (X, D, {"output": "coo"}, r'output: expected "dense" or "csr"'),
        (X, D, {"positive": "yes"}, r"positive: expected True or False, got 'yes'"),
        (X, D, {"mask": X}, r"mask: expected dtype bool"),
        (X, D, {"mask": X[:2] > 0}, r"mask: expected the shape of X, \(3, 4\), got \(2, 4\)"),
        (X, D, {"method": "omp"}, r'alpha: expected None for method "omp", got 0.1'),
    ],
)
def test_bad_input_is_named(X, atoms, options, message):
    with pytest.raises(ValueError, match=message):
        sparse_encode(X, atoms, **{"alpha": 0.1, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"n_nonzero: expected a number of atoms, or tol"),
        ({"n_nonzero": 0}, r"n_nonzero: expected a whole number of at least 1, got 0"),
        ({"n_nonzero": 2.0}, r"n_nonzero: expected a whole number"),
        ({"n_nonzero": True}, r"n_nonzero: expected a whole number"),
        ({"n_nonzero": 5}, r"n_nonzero: expected at most the number of atoms, 4, got 5"),
        ({"tol": -1.0}, r"tol: expected finite numbers"),
        ({"tol": [1.0, 2.0]}, r"tol: expected one number or one a sample, \(3,\), got shape \(2,\)"),
        ({"tol": np.nan}, r"tol: expected finite"),
        ({"tol": "small"}, r"tol: expected real numbers"),
    ],
)
@pytest.mark.parametrize("method", ["omp", "ols"])
def test_bad_limits_of_pursuits_are_named(method, options, message):
    with pytest.raises(ValueError, match=message):
        sparse_encode(X, D, method=method, **options)


def test_tensors_give_no_csr():
    with pytest.raises(ValueError, match='output: expected "dense" for tensors'):
        sparse_encode(torch.ones(2, 4), torch.eye(4), alpha=0.1, output="csr")


def test_coders_refuse_bad_values_when_made():
    for make in (lambda: LassoCoder(0.0), lambda: PursuitCoder(), lambda: IHTCoder(-1.0)):
        with pytest.raises(ValueError, match="expected"):
            make()
