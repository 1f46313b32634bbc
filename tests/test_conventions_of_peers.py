"""What `docs/how-to/coming-from.md` says about other libraries: the same numbers after its translation.

scikit-learn is always there. The others are tested where they are installed:
``pip install spams-bin sigpy`` beside calepin; sporco and alphacsc need ``"numpy<2.4"``.
"""

import numpy as np
import pytest
import torch

import calepin
from calepin.operators import centred_fft
from calepin.penalties import L1
from calepin.solvers import convolutional_encode

ALPHA = 0.15


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """Return samples and atoms, as rows; atoms have unit norm."""
    random = np.random.default_rng(0)
    atoms = random.standard_normal((24, 16))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = random.standard_normal((30, 24)) * (random.random((30, 24)) < 0.15)
    return codes @ atoms + 0.05 * random.standard_normal((30, 16)), atoms


def lasso(X, atoms, alpha=ALPHA, **settings):
    return calepin.sparse_encode(X, atoms, alpha=alpha, tol=1e-12, **settings)


@pytest.mark.parametrize("algorithm", ["lasso_lars", "lasso_cd"])
def test_lasso_of_scikit_learn_has_the_same_alpha(data, algorithm):
    from sklearn.decomposition import sparse_encode

    X, atoms = data
    theirs = sparse_encode(X, atoms, algorithm=algorithm, alpha=ALPHA, max_iter=100_000)
    assert np.abs(theirs - lasso(X, atoms)).max() < 2e-3  # lasso_cd stops at a tolerance of 1e-4


def test_alpha_of_scikit_learns_lasso_is_divided_by_the_number_of_features(data):
    from sklearn.linear_model import Lasso

    X, atoms = data
    theirs = Lasso(alpha=ALPHA / X.shape[1], fit_intercept=False, tol=1e-10).fit(atoms.T, X[0]).coef_
    np.testing.assert_allclose(lasso(X, atoms)[0], theirs, atol=1e-5)


def test_omp_of_scikit_learn_is_the_same(data):
    from sklearn.decomposition import sparse_encode

    X, atoms = data
    theirs = sparse_encode(X, atoms, algorithm="omp", n_nonzero_coefs=3)
    np.testing.assert_allclose(calepin.sparse_encode(X, atoms, method="omp", n_nonzero=3), theirs, atol=1e-8)


def test_objective_of_scikit_learns_dictionary_learning_is_a_sum(data):
    """Its error_ is the sum over samples; calepin's history has the mean."""
    from sklearn.decomposition import DictionaryLearning

    X, atoms = data
    theirs = DictionaryLearning(24, alpha=ALPHA, max_iter=20, dict_init=atoms, random_state=0).fit(X)
    learner = calepin.DictionaryLearner.from_components(theirs.components_, alpha=ALPHA)
    assert -learner.score(X) * len(X) == pytest.approx(theirs.error_[-1], rel=0.02)


def test_lasso_of_spams_has_samples_and_atoms_as_columns(data):
    spams = pytest.importorskip("spams")
    X, atoms = (np.asfortranarray(values.T) for values in data)
    theirs = spams.lasso(X, atoms, lambda1=ALPHA, mode=2).toarray().T
    np.testing.assert_allclose(lasso(*data), theirs, atol=1e-6)


def test_omp_of_spams_is_orthogonal_least_squares(data):
    spams = pytest.importorskip("spams")
    X, atoms = (np.asfortranarray(values.T) for values in data)
    theirs = spams.omp(X, atoms, L=3, eps=0.0).toarray().T
    np.testing.assert_allclose(calepin.sparse_encode(*data, method="ols", n_nonzero=3), theirs, atol=1e-6)


def test_bpdn_of_sporco_has_samples_and_atoms_as_columns(data):
    bpdn = pytest.importorskip("sporco.admm.bpdn")
    X, atoms = data
    options = bpdn.BPDN.Options({"MaxMainIter": 5000, "RelStopTol": 1e-8})
    solver = bpdn.BPDN(atoms.T, X.T, ALPHA, options)
    solver.solve()
    np.testing.assert_allclose(lasso(X, atoms), solver.Y.T, atol=1e-4)


def test_convolutions_of_sporco_are_circular():
    cbpdn = pytest.importorskip("sporco.admm.cbpdn")
    random = np.random.default_rng(0)
    filters = random.standard_normal((2, 1, 9))
    filters /= np.linalg.norm(filters, axis=2, keepdims=True)
    signal = random.standard_normal((1, 1, 80))
    options = cbpdn.ConvBPDN.Options({"MaxMainIter": 5000, "RelStopTol": 1e-8})
    solver = cbpdn.ConvBPDN(filters[:, 0].T, signal[0, 0], 1.0, options, dimK=0, dimN=1)
    solver.solve()
    ours = convolutional_encode(signal, filters, alpha=1.0, boundary="circular", tol=1e-8)
    np.testing.assert_allclose(solver.Y.squeeze().T, ours[0], atol=1e-5)


def test_codes_of_alphacsc_are_nonnegative_codes_of_calepin():
    module = pytest.importorskip("alphacsc.update_z_multi")
    random = np.random.default_rng(0)
    filters = random.standard_normal((2, 1, 9))
    filters /= np.linalg.norm(filters, axis=2, keepdims=True)
    signals = random.standard_normal((3, 1, 80))
    settings = {"tol": 1e-4, "max_iter": 100_000}
    theirs = module.update_z_multi(signals, filters, 0.5, solver="lgcd", solver_kwargs=settings)[0]
    ours = convolutional_encode(signals, filters, alpha=0.5, nonnegative=True, tol=1e-10)
    np.testing.assert_allclose(np.asarray(theirs), ours, atol=1e-3)


def test_fft_of_sigpy_is_the_centred_orthonormal_one():
    sigpy = pytest.importorskip("sigpy")
    random = np.random.default_rng(0)
    image = random.standard_normal((2, 12, 9)) + 1j * random.standard_normal((2, 12, 9))
    theirs = sigpy.fft(image, axes=(-2, -1))
    np.testing.assert_allclose(centred_fft(torch.from_numpy(image)).numpy(), theirs, atol=1e-12)


def test_l1_of_sigpy_is_that_of_calepin():
    sigpy = pytest.importorskip("sigpy")
    v = np.linspace(-2, 2, 9)
    theirs = sigpy.prox.L1Reg((9,), 0.3)(0.5, v)
    np.testing.assert_allclose(L1(0.3).prox(torch.from_numpy(v)[None], 0.5)[0].numpy(), theirs, atol=1e-12)
