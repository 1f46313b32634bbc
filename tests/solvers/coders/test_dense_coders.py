"""The coders' front: types follow the inputs, and bad input gives one clear error."""

import numpy as np
import pytest
import torch
from scipy import sparse

from calepin.core.errors import IncompatibleError
from calepin.likelihoods import Gaussian, Poisson
from calepin.operators import Dense, Identity
from calepin.problem import Problem
from calepin.solvers import (
    IHT,
    Codes,
    IHTCoder,
    LassoCoder,
    PursuitCoder,
    dense_problem,
    solve,
    sparse_encode,
)
from calepin.solvers.coders.coder import objective


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
        (np.float16, np.float32),
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
        (LassoCoder(0.2, nonnegative=True), {"alpha": 0.2, "nonnegative": True}),
        (PursuitCoder(3), {"method": "omp", "n_nonzero": 3}),
        (PursuitCoder(tol=0.5, selection="ols"), {"method": "ols", "tol": 0.5}),
    ],
)
def test_coders_of_the_learners_are_sparse_encode(samples, coder, options):
    X, atoms = samples
    mask = np.random.default_rng(1).random(X.shape) < 0.8
    y, D, observed = (torch.from_numpy(values) for values in (X, atoms, mask))
    codes = coder.encode(dense_problem(y, D)).values
    assert isinstance(codes, sparse.csr_array)
    assert (codes.toarray() == sparse_encode(X, atoms, **options)).all()
    masked = coder.encode(dense_problem(y, D, observed)).values
    assert (masked.toarray() == sparse_encode(X, atoms, mask=mask, **options)).all()


def test_iterative_hard_thresholding_keeps_large_entries(samples):
    X, atoms = (torch.from_numpy(values) for values in samples)
    codes = IHTCoder(0.5).encode(dense_problem(X, atoms)).values.toarray()
    assert codes.any()
    assert (np.abs(codes[codes != 0]) > 0.5).all()
    orthogonal = IHTCoder(0.5).encode(dense_problem(X, torch.eye(8, dtype=X.dtype))).values.toarray()
    np.testing.assert_allclose(orthogonal[orthogonal != 0], X.numpy()[orthogonal != 0], rtol=1e-4)
    nonnegative = IHTCoder(0.5, nonnegative=True).encode(dense_problem(X, atoms)).values
    assert (nonnegative.data > 0.5).all()


def test_a_hard_threshold_keeps_what_is_above_it():
    y, atoms = torch.tensor([[1.0, 0.5]]), torch.eye(2)
    codes = IHTCoder(0.5, step_size=1.0).encode(dense_problem(y, atoms)).values.toarray()
    by_solver = solve(dense_problem(y, atoms), IHT(0.5, step_size=1.0), n_iter=50).z
    assert codes.tolist() == by_solver.tolist() == [[1.0, 0.0]]


def test_codes_say_what_is_known_of_them(samples):
    X, atoms = (torch.from_numpy(values) for values in samples)
    problem = dense_problem(X, atoms)
    lasso = LassoCoder(0.2).encode(problem)
    assert bool(lasso.converged.all())
    assert bool((lasso.gap <= 1e-6 * X.square().sum(1)).all())
    torch.testing.assert_close(lasso.residual, (X - lasso.dense() @ atoms).square().sum(1))
    greedy = PursuitCoder(2, tol=1e-3).encode(problem)
    assert greedy.gap is None
    assert greedy.converged.tolist() == (greedy.residual <= 1e-3).tolist()
    assert PursuitCoder(2).encode(problem).converged is None
    assert LassoCoder(0.2, certify=False).encode(problem).gap is None


def test_objective_adds_the_penalty_of_the_coder(samples):
    X, atoms = (torch.from_numpy(values) for values in samples)
    problem, coder = dense_problem(X, atoms), LassoCoder(0.2)
    codes = coder.encode(problem)
    z = codes.dense()
    error = 0.5 * (X - z @ atoms).square().sum(1)
    expected = error + 0.2 * z.abs().sum(1)
    np.testing.assert_allclose(objective(problem, codes, coder.penalty), expected)
    np.testing.assert_allclose(objective(problem, Codes(z), coder.penalty), expected)
    np.testing.assert_allclose(objective(problem, codes, PursuitCoder(3).penalty), error)
    np.testing.assert_allclose(objective(problem, codes, IHTCoder(0.1).penalty), error)


def test_what_a_compiled_coder_cannot_do_is_said_with_a_way_out(samples):
    X, atoms = (torch.from_numpy(values) for values in samples)
    counts = Problem(Dense(atoms), Poisson(), X.round().abs())
    with pytest.raises(IncompatibleError, match="LassoCoder needs a Gaussian likelihood, got Poisson; Prox"):
        LassoCoder(0.2).encode(counts)
    with pytest.raises(IncompatibleError, match="PursuitCoder needs a real Dense operator.*, got Identity"):
        PursuitCoder(3).encode(Problem(Identity((8,)), Gaussian(), X))
    with pytest.raises(IncompatibleError, match="IHTCoder needs gradient 'dec', got 'ae-ls'"):
        IHTCoder(0.2).encode(dense_problem(X, atoms), gradient="ae-ls")


X = np.ones((3, 4))
D = np.eye(4)
NAN = np.full((3, 4), np.nan)


@pytest.mark.parametrize(
    ("X", "atoms", "options", "message"),
    [
        (NAN, D, {}, r"X: expected finite values, got nan at index \(0, 0\)"),
        (X, np.full((4, 4), np.inf), {}, r"atoms: expected finite"),
        (NAN, D, {"mask": X > 0}, r"X: expected finite"),
        (-1e200 * X, D, {}, r"X: expected a largest magnitude from 1e-150 to 1e150, got 1e\+200"),
        (X, 1e-200 * D, {}, r"atoms: expected a largest magnitude"),
        (X[:0], D, {}, r"X: expected at least one entry, got shape \(0, 4\)"),
        (X, D[:0], {}, r"atoms: expected at least one entry"),
        (X[0], D, {}, r"X: expected shape \(n_samples, n_features\), got \(4,\)"),
        (X, D[0], {}, r"atoms: expected shape \(n_components, n_features\), got \(4,\)"),
        (X, D[:, :3], {}, r"atoms: expected as many features as X, 4, got shape \(4, 3\)"),
        (X * 1j, D, {}, r"X: expected real numbers, got dtype complex128"),
        (X, D.astype(str), {}, r"atoms: expected real numbers"),
        (X, D, {"alpha": 0}, r"alpha: expected a finite number above 0, got 0"),
        (X, D, {"alpha": -1.0}, r"alpha: expected a finite number above 0"),
        (X, D, {"alpha": float("nan")}, r"alpha: expected a finite number above 0"),
        (X, D, {"alpha": "big"}, r"alpha: expected a finite number above 0"),
        (X, D, {"alpha": None}, r"alpha: expected a positive number for method 'lasso'"),
        (X, D, {"tol": 0}, r"tol: expected a finite number above 0"),
        (X, D, {"n_nonzero": 2}, r"n_nonzero: expected None with method 'lasso', got 2"),
        (X, D, {"method": "lars"}, r"method: expected one of 'lasso', 'omp', 'ols', got 'lars'"),
        (X, D, {"output": "coo"}, r"output: expected one of 'dense', 'csr'"),
        (X, D, {"nonnegative": "yes"}, r"nonnegative: expected True or False, got 'yes'"),
        (X, D, {"mask": X}, r"mask: expected dtype bool"),
        (X, D, {"mask": X[:2] > 0}, r"mask: expected the shape of X, \(3, 4\), got \(2, 4\)"),
        (X, D, {"method": "omp"}, r"alpha: expected None with method 'omp', got 0.1"),
    ],
)
def test_bad_input_is_named(X, atoms, options, message):
    with pytest.raises(ValueError, match=message):
        sparse_encode(X, atoms, **{"alpha": 0.1, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"n_nonzero: expected a number of atoms, or tol"),
        ({"n_nonzero": 0}, r"n_nonzero: expected a positive integer or None, got 0"),
        ({"n_nonzero": 2.0}, r"n_nonzero: expected a positive integer"),
        ({"n_nonzero": True}, r"n_nonzero: expected a positive integer"),
        ({"tol": -1.0}, r"tol: expected finite numbers"),
        ({"tol": [1.0, 2.0]}, r"tol: expected one number or one per sample, \(3,\), got shape \(2,\)"),
        ({"tol": np.nan}, r"tol: expected finite"),
        ({"tol": "small"}, r"tol: expected real numbers"),
    ],
)
@pytest.mark.parametrize("method", ["omp", "ols"])
def test_bad_limits_of_pursuits_are_named(method, options, message):
    with pytest.raises(ValueError, match=message):
        sparse_encode(X, D, method=method, **options)


@pytest.mark.parametrize("method", ["omp", "ols"])
def test_more_nonzeros_than_atoms_are_all_atoms_with_a_warning(samples, method):
    X, atoms = samples
    with pytest.warns(RuntimeWarning, match="n_nonzero: expected at most 5, the number of atoms, got 9"):
        found = sparse_encode(X, atoms[:5], method=method, n_nonzero=9)
    np.testing.assert_array_equal(found, sparse_encode(X, atoms[:5], method=method, n_nonzero=5))


@pytest.mark.parametrize("options", METHODS)
def test_sparse_samples_are_coded_in_blocks_as_dense_ones(samples, options, monkeypatch):
    X, atoms = samples
    X[np.abs(X) < 0.5] = 0
    expected, known = sparse_encode(X, atoms, return_info=True, **options)
    monkeypatch.setattr("calepin.solvers.coders.encode._BLOCK", 7)
    for given in (sparse.csr_array(X), sparse.csc_matrix(X)):
        for output in ("dense", "csr"):
            codes, info = sparse_encode(
                given, sparse.csr_array(atoms), output=output, return_info=True, **options
            )
            codes = codes if output == "dense" else codes.toarray()
            np.testing.assert_allclose(codes, expected, atol=1e-12)
            for name in ("gap", "residual"):
                ours, theirs = getattr(info, name), getattr(known, name)
                assert (ours is None) == (theirs is None)
                if theirs is not None:
                    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    observed = np.random.default_rng(0).random(X.shape) > 0.2
    np.testing.assert_allclose(
        sparse_encode(sparse.csr_array(X), atoms, mask=observed, **options),
        sparse_encode(X, atoms, mask=observed, **options),
        atol=1e-12,
    )
    np.testing.assert_array_equal(
        sparse_encode(np.ma.masked_array(X, ~observed), atoms, **options),
        sparse_encode(X, atoms, mask=observed, **options),
    )


def test_the_tolerance_of_each_sparse_sample_is_its_own(samples, monkeypatch):
    X, atoms = samples
    monkeypatch.setattr("calepin.solvers.coders.encode._BLOCK", 7)
    tol = np.linspace(0.1, 3, len(X))
    np.testing.assert_array_equal(
        sparse_encode(sparse.csr_array(X), atoms, method="omp", tol=tol),
        sparse_encode(X, atoms, method="omp", tol=tol),
    )


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_coded_in_float32(samples, half):
    X, atoms = (torch.from_numpy(values).to(half) for values in samples)
    codes = sparse_encode(X.requires_grad_(), atoms, alpha=0.2)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes, sparse_encode(X.detach().float(), atoms.float(), alpha=0.2))
    if half is torch.float16:
        assert sparse_encode(X.detach().numpy(), atoms.numpy(), alpha=0.2).dtype == np.float32


def test_tensors_give_no_csr():
    with pytest.raises(ValueError, match="output: expected 'dense' for tensors"):
        sparse_encode(torch.ones(2, 4), torch.eye(4), alpha=0.1, output="csr")


def test_coders_refuse_bad_values_when_made():
    for make in (lambda: LassoCoder(0.0), lambda: PursuitCoder(), lambda: IHTCoder(-1.0)):
        with pytest.raises(ValueError, match="expected"):
            make()
