import numpy as np
import pytest
import torch

from calepin.learning import ArrayBatches, AtomSet, dct_atoms, initial_atoms


@pytest.mark.parametrize("shape", ["ball", "sphere"])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_projection_is_the_nearest_point_of_the_set(rng, shape, nonnegative):
    atoms = rng.standard_normal((5, 3)) * rng.uniform(0.2, 2, (5, 1))
    atoms[:, 0] = np.abs(atoms[:, 0])
    projected = AtomSet(shape, nonnegative).project(atoms)
    candidates = rng.standard_normal((20_000, 3))
    candidates = np.abs(candidates) if nonnegative else candidates
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    if shape == "ball":
        candidates *= rng.random((20_000, 1)) ** (1 / 3)
        assert (np.linalg.norm(projected, axis=1) <= 1 + 1e-12).all()
    else:
        np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1)
    assert not nonnegative or (projected >= 0).all()
    for atom, mine in zip(atoms, projected, strict=True):
        best = np.linalg.norm(candidates - atom, axis=1).min()
        assert np.linalg.norm(mine - atom) <= best + 1e-12


def test_projection_of_tensors_is_that_of_arrays(rng):
    atoms = rng.standard_normal((5, 3))
    for atom_set in (AtomSet("ball", True), AtomSet("sphere")):
        tensor = atom_set.project(torch.as_tensor(atoms))
        np.testing.assert_allclose(tensor.numpy(), atom_set.project(atoms), rtol=1e-12)


def test_nonnegative_starts_have_no_empty_atom(rng):
    atoms = _start(-rng.random((30, 3)), 12, "data", atom_set=AtomSet("ball", nonnegative=True))
    assert (atoms >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1)


def test_an_atom_of_norm_zero_stays_zero():
    np.testing.assert_array_equal(AtomSet("sphere").project(np.zeros((1, 3))), np.zeros((1, 3)))


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("shape", ["ball", "sphere"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_an_atom_too_large_to_be_squared_does_not_become_zero(shape, kind):
    assert np.isnan(np.asarray(AtomSet(shape).project(kind(np.full((1, 3), 1e300))))).all()


@pytest.mark.parametrize(("p", "m"), [(256, 64), (144, 64), (20, 7), (3, 1), (10, 16)])
def test_cosine_atoms_have_unit_norm_and_the_asked_shape(p, m):
    atoms = dct_atoms(p, m)
    assert atoms.shape == (p, m)
    norms = np.linalg.norm(atoms, axis=1)
    assert np.all((np.abs(norms - 1) < 1e-12) | (norms < 1e-12))
    if m > 1:
        assert np.abs(atoms[0] - atoms[0, 0]).max() < 1e-12


def test_complete_cosine_atoms_span_the_space():
    assert np.linalg.matrix_rank(dct_atoms(64, 64)) == 64


def _start(X, n_components, init, **kwargs):
    data = ArrayBatches(X, 10)
    atom_set = kwargs.pop("atom_set", AtomSet())
    return initial_atoms(
        n_components, data, init=init, atom_set=atom_set, generator=np.random.default_rng(1), **kwargs
    )


def test_atoms_from_data_are_different_normalised_samples(rng):
    X = rng.standard_normal((50, 6)).astype(np.float32)
    atoms = _start(X, 20, "data")
    assert atoms.dtype == np.float32
    normalised = X / np.linalg.norm(X, axis=1, keepdims=True)
    nearest = (atoms @ normalised.T).argmax(axis=1)
    np.testing.assert_allclose(atoms, normalised[nearest], atol=1e-6)
    assert len(set(nearest)) == 20


@pytest.mark.parametrize("init", ["data", "random", "dct"])
def test_every_start_gives_unit_atoms_even_from_few_or_constant_samples(init):
    for X in (np.ones((2, 4)), np.zeros((3, 4)), np.eye(4)):
        atoms = _start(X, 9, init)
        assert atoms.shape == (9, 4)
        assert np.isfinite(atoms).all()
        np.testing.assert_allclose(np.linalg.norm(atoms, axis=1), 1, rtol=1e-6)


def test_a_given_start_is_normalised_and_checked(rng):
    X = rng.standard_normal((10, 4))
    given = rng.standard_normal((3, 4))
    before = given.copy()
    atoms = _start(X, 3, given)
    np.testing.assert_allclose(atoms, given / np.linalg.norm(given, axis=1, keepdims=True))
    np.testing.assert_array_equal(given, before)
    with pytest.raises(ValueError, match=r"n_features\) = \(5, 4\), got \(3, 4\)"):
        _start(X, 5, given)
    with pytest.raises(ValueError, match="init: expected finite"):
        _start(X, 3, given * np.nan)
    with pytest.raises(ValueError, match=r"one of \['data', 'dct', 'random'\], got 'zeros'"):
        _start(X, 3, "zeros")
