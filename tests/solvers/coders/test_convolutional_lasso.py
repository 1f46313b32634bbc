"""The exact convolutional coder: equal to the lasso of the explicit matrix, and certified to be so."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from calepin import sparse_encode
from calepin.operators import ConvDictionary
from calepin.solvers import ConvolutionalLassoCoder, convolutional_encode
from calepin.solvers.coders import convolutional_lasso as convolutional
from calepin.solvers.coders.convolutional_terms import convolutional_problem

GEOMETRIES = {
    "1-D": ((1, 40), (1, 9)),
    "2-D": ((1, 17, 11), (1, 3, 5)),
    "channels": ((2, 9, 8), (2, 3, 3)),
    "whole signal": ((1, 6, 7), (1, 6, 7)),
}


@pytest.fixture
def problem(rng):
    def make(geometry, n=3, n_components=4, dtype=np.float64):
        signal, kernel = GEOMETRIES[geometry]
        y, atoms = rng.normal(size=(n, *signal)), rng.normal(size=(n_components, *kernel))
        atoms /= np.linalg.norm(atoms.reshape(n_components, -1), axis=1).reshape(-1, *[1] * len(signal))
        return y.astype(dtype), atoms.astype(dtype)

    return make


def synthesis(y, atoms, boundary):
    return ConvDictionary(torch.as_tensor(atoms), signal_shape=y.shape[2:], boundary=boundary)


def matrix(y, atoms, boundary):
    """Rows are the shifted atoms."""
    operator = synthesis(y, atoms, boundary)
    size = int(np.prod(operator.in_shape))
    return operator(torch.eye(size, dtype=torch.float64).view(size, *operator.in_shape)).flatten(1).numpy()


def objective(y, atoms, codes, alpha, boundary, mask=True):
    rest = np.where(mask, y - synthesis(y, atoms, boundary)(torch.as_tensor(codes)).numpy(), 0)
    return 0.5 * (rest**2).reshape(len(y), -1).sum(1) + alpha * np.abs(codes).reshape(len(y), -1).sum(1)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("boundary", ["zero", "circular"])
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_codes_are_the_lasso_of_the_explicit_matrix(problem, rng, geometry, boundary, nonnegative, masked):
    y, atoms = problem(geometry)
    mask = rng.random(y.shape) < 0.8 if masked else None
    codes, info = convolutional_encode(
        y, atoms, alpha=0.5, nonnegative=nonnegative, boundary=boundary, mask=mask, tol=1e-8, return_info=True
    )
    flat = None if mask is None else mask.reshape(len(y), -1)
    D = matrix(y, atoms, boundary)
    expected = sparse_encode(
        y.reshape(len(y), -1), D, alpha=0.5, nonnegative=nonnegative, mask=flat, tol=1e-10
    )
    observed = True if mask is None else mask
    reached = objective(y, atoms, codes, 0.5, boundary, observed)
    optimum = objective(y, atoms, expected.reshape(codes.shape), 0.5, boundary, observed)
    np.testing.assert_allclose(reached, optimum, rtol=1e-6)
    assert (reached - optimum <= info.gap + 1e-12).all()
    assert (info.gap <= 1e-8 * (np.where(observed, y, 0) ** 2).reshape(len(y), -1).sum(1)).all()
    assert not nonnegative or (codes >= 0).all()


@pytest.mark.parametrize("geometry", ["1-D", "2-D"])
@pytest.mark.parametrize("boundary", ["zero", "circular"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_codes_with_a_ridge_are_the_lasso_of_a_longer_matrix(problem, rng, geometry, boundary, nonnegative):
    y, atoms = problem(geometry)
    ridge, mask = 0.7, rng.random(y.shape) < 0.8
    settings = {"alpha": 0.3, "nonnegative": nonnegative}
    codes, info = convolutional_encode(
        y, atoms, ridge=ridge, boundary=boundary, mask=mask, tol=1e-9, return_info=True, **settings
    )
    D = matrix(y, atoms, boundary)
    longer = np.hstack([D, np.sqrt(ridge) * np.eye(len(D))])
    zeros = np.zeros((len(y), len(D)))
    seen = np.hstack([mask.reshape(len(y), -1), zeros == 0])
    expected = sparse_encode(
        np.hstack([y.reshape(len(y), -1), zeros]), longer, mask=seen, tol=1e-12, **settings
    ).reshape(codes.shape)

    def whole(z):
        return objective(y, atoms, z, 0.3, boundary, mask) + 0.5 * ridge * (z**2).reshape(len(y), -1).sum(1)

    np.testing.assert_allclose(codes, expected, atol=1e-4)
    assert (whole(codes) - whole(expected) <= info.gap + 1e-12).all()
    assert info.converged.all()
    coder = ConvolutionalLassoCoder(0.3, nonnegative=nonnegative, ridge=ridge)
    found = coder.penalty.value(torch.as_tensor(codes)).numpy() + objective(
        y, atoms, codes, 0, boundary, mask
    )
    np.testing.assert_allclose(found, whole(codes))


@pytest.mark.parametrize("geometry", ["1-D", "2-D"])
@pytest.mark.parametrize("boundary", ["zero", "circular"])
def test_strips_change_the_order_and_not_the_optimum(problem, monkeypatch, geometry, boundary):
    y, atoms = problem(geometry, n_components=2)
    atoms = atoms[..., :4]
    whole = convolutional_encode(y, atoms, alpha=0.5, boundary=boundary, tol=1e-9)
    monkeypatch.setattr(convolutional, "_STRIPED", 0)
    strips = convolutional_encode(y, atoms, alpha=0.5, boundary=boundary, tol=1e-9)
    assert not (whole == strips).all()  # there were strips
    np.testing.assert_allclose(
        objective(y, atoms, strips, 0.5, boundary), objective(y, atoms, whole, 0.5, boundary), rtol=1e-7
    )


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("boundary", ["zero", "circular"])
def test_threads_do_not_change_bits(problem, monkeypatch, n, boundary):
    monkeypatch.setattr(convolutional, "_STRIPED", 0)
    y, atoms = problem("2-D", n=n, dtype=np.float32)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(convolutional_encode(y, atoms, alpha=0.3, boundary=boundary))
    finally:
        torch.set_num_threads(threads)
    assert found[0].any()
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_what_the_mask_hides_plays_no_part(problem, rng):
    y, atoms = problem("2-D")
    mask = rng.random(y.shape) < 0.7
    codes = convolutional_encode(y, atoms, alpha=0.5, mask=mask)
    hidden = np.where(mask, y, np.nan)
    assert (convolutional_encode(hidden, atoms, alpha=0.5, mask=mask) == codes).all()
    nothing = np.zeros_like(mask)
    assert not convolutional_encode(hidden, atoms, alpha=0.5, mask=nothing).any()


def test_the_gap_bounds_what_is_missing_after_one_round(problem):
    y, atoms = problem("2-D")
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        codes, info = convolutional_encode(y, atoms, alpha=0.1, tol=1e-12, max_iter=1, return_info=True)
    best = convolutional_encode(y, atoms, alpha=0.1, tol=1e-10)
    missing = objective(y, atoms, codes, 0.1, "zero") - objective(y, atoms, best, 0.1, "zero")
    assert (missing > 0).all()
    assert (missing <= info.gap).all()
    assert not info.converged.any()


def test_planted_events_are_found_where_they_are(rng):
    atoms = rng.normal(size=(3, 1, 20))
    atoms /= np.linalg.norm(atoms, axis=2, keepdims=True)
    planted = np.zeros((2, 3, 481))
    for sample, atom, position in ((0, 0, 50), (0, 1, 300), (0, 2, 310), (1, 2, 0), (1, 0, 480)):
        planted[sample, atom, position] = 5
    y = synthesis(np.zeros((2, 1, 500)), atoms, "zero")(torch.from_numpy(planted)).numpy()
    codes = convolutional_encode(y, atoms, alpha=0.01, tol=1e-8)
    assert ((np.abs(codes) > 1) == (planted > 0)).all()
    np.testing.assert_allclose(codes, planted, atol=0.1)


def test_types_follow_the_inputs_and_inputs_stay_as_they_are(problem):
    y, atoms = problem("2-D", dtype=np.float32)
    before = y.copy()
    codes = convolutional_encode(y, atoms, alpha=0.5)
    assert codes.dtype == np.float32
    assert (y == before).all()
    tensor, info = convolutional_encode(
        torch.from_numpy(y), torch.from_numpy(atoms), alpha=0.5, return_info=True
    )
    assert isinstance(tensor, torch.Tensor)
    assert isinstance(info.gap, torch.Tensor)
    assert (tensor.numpy() == codes).all()
    assert convolutional_encode(y, atoms.astype(np.float64), alpha=0.5).dtype == np.float64
    precise = convolutional_encode(y, atoms, alpha=0.5, tol=1e-9)  # computed in float64
    assert precise.dtype == np.float32


def test_the_coder_of_the_learners_is_the_function(problem):
    y, atoms = problem("1-D")
    coder = ConvolutionalLassoCoder(0.5, nonnegative=True)
    codes = coder.encode(convolutional_problem(y, atoms, boundary="circular")).values.numpy()
    assert (codes == convolutional_encode(y, atoms, alpha=0.5, nonnegative=True, boundary="circular")).all()
    np.testing.assert_allclose(coder.penalty.value(torch.from_numpy(codes)), 0.5 * codes.sum((1, 2)))


def test_no_code_where_alpha_exceeds_every_correlation_and_none_of_atoms_that_are_zero(problem):
    y, atoms = problem("1-D")
    codes, info = convolutional_encode(y, atoms, alpha=1e4, return_info=True)
    assert not codes.any()
    np.testing.assert_array_equal(info.gap, 0)
    atoms[1] = 0
    assert not convolutional_encode(y, atoms, alpha=0.1)[:, 1].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0}, "alpha: expected a finite number above 0, got 0"),
        ({"alpha": -1.0}, "alpha: expected a finite number above 0"),
        ({"tol": float("nan")}, "tol: expected a finite number above 0"),
        ({"boundary": "reflect"}, r"boundary: expected one of .*, got 'reflect'"),
        ({"max_iter": 0}, "max_iter: expected a positive integer, got 0"),
        ({"nonnegative": 1}, "nonnegative: expected True or False"),
        ({"atoms": np.ones((2, 1, 50))}, "atoms: expected a kernel no longer than the signal"),
        ({"atoms": np.ones((2, 3, 5))}, "atoms: expected the channels"),
        ({"atoms": np.ones((2, 1, 5, 5))}, "atoms: expected the channels and the number of spatial axes"),
        ({"atoms": np.full((2, 1, 5), np.inf)}, "atoms: expected finite values, got inf at index"),
        ({"y": np.full((1, 1, 40), np.nan)}, r"y: expected finite values, got nan at index \(0, 0, 0\)"),
        ({"y": np.ones((1, 1, 40), complex)}, "y: expected real numbers"),
        ({"y": np.ones((1, 40))}, r"y: expected shape \(n, channels, \*spatial\)"),
        ({"y": np.ones((0, 1, 40))}, "y: expected shape"),
        ({"mask": np.ones((1, 40), bool)}, "mask: expected bool"),
        ({"mask": np.ones((1, 1, 40))}, "mask: expected bool"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"y": np.ones((1, 1, 40)), "atoms": np.ones((2, 1, 5)), "alpha": 0.1} | change
    with pytest.raises(ValueError, match=message):
        convolutional_encode(arguments.pop("y"), arguments.pop("atoms"), **arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("geometry", [(30,), (9, 8)])
def test_atoms_of_few_patterns_over_many_channels_have_the_codes_of_the_explicit_matrix(rng, geometry, dtype):
    patterns = rng.normal(size=(3, 8, *[1] * len(geometry)))
    atoms = patterns * rng.normal(size=(3, 1, *[4] * len(geometry)))
    y, atoms = rng.normal(size=(2, 8, *geometry)).astype(dtype), atoms.astype(dtype)
    assert convolutional._basis_of_channels(atoms).shape == (8, 3)
    assert convolutional._basis_of_channels(rng.normal(size=(3, 8, 4))) is None
    problem = convolutional_problem(y, atoms)
    tol = 1e-4 if dtype == np.float32 else 1e-9
    codes, residual = ConvolutionalLassoCoder(0.5, tol).encode_sparse(problem)
    z = codes.values.dense()
    rest = problem.y - problem.operator(z)
    np.testing.assert_allclose(residual, rest, atol=1e-12 if dtype == np.float64 else 2e-5)
    np.testing.assert_allclose(codes.residual, rest.flatten(1).double().square().sum(1), rtol=1e-5)
    expected = sparse_encode(
        y.reshape(2, -1), matrix(y, atoms.astype(np.float64), "zero"), alpha=0.5, tol=1e-10
    )
    reached = objective(y, atoms, z.numpy(), 0.5, "zero")
    optimum = objective(y, atoms, expected.reshape(z.shape).astype(dtype), 0.5, "zero")
    assert codes.converged.all()
    assert (reached - optimum <= codes.gap.numpy() + 1e-5 * reached).all()
