"""The recovery error sees neither the order nor the sign of atoms, and nothing else escapes it."""

import itertools

import numpy as np
import pytest

from calepin.metrics import dictionary_error, match_atoms, recovered_fraction


def test_order_and_sign_do_not_count():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((7, 5))
    signs = rng.choice([-1.0, 1.0], 7)
    order = rng.permutation(7)
    shuffled = (signs[:, None] * reference)[order]
    assert dictionary_error(shuffled, reference) == 0
    found, found_signs = match_atoms(shuffled, reference)
    np.testing.assert_array_equal(found_signs[:, None] * shuffled[found], reference)


def test_the_match_is_the_best_of_all():
    rng = np.random.default_rng(1)
    atoms, reference = rng.standard_normal((2, 4, 3))
    best = min(
        np.linalg.norm(np.array(signs)[:, None] * atoms[list(order)] - reference)
        for order in itertools.permutations(range(4))
        for signs in itertools.product([-1, 1], repeat=4)
    )
    expected = best / np.linalg.norm(reference)
    assert dictionary_error(atoms, reference) == pytest.approx(expected, rel=1e-12)


def test_a_small_perturbation_gives_its_relative_size():
    rng = np.random.default_rng(2)
    reference = rng.standard_normal((20, 30))
    step = rng.standard_normal((20, 30))
    step *= 0.01 * np.linalg.norm(reference) / np.linalg.norm(step)
    assert dictionary_error(reference + step, reference) == pytest.approx(0.01)


def test_the_recovered_share_counts_atoms_within_the_tolerance():
    reference = np.eye(4)
    turned = np.array([1, 1.01, 0.99, 3])  # tan of the angle, in units of the tolerance's
    limit = np.tan(np.arccos(0.99))
    atoms = np.eye(4) + np.diag(turned[:3] * limit, k=1)
    atoms[3] = [0.6, 0.5, 0.5, 0.4]
    assert recovered_fraction(-5 * atoms[[2, 0, 3, 1]], reference) == 0.5
    assert recovered_fraction(reference, reference) == 1
    assert recovered_fraction(np.zeros((4, 4)), reference) == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"the same shape .*\(2, 3\) and \(3, 3\)"):
        dictionary_error(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="atoms: expected finite"):
        match_atoms(np.full((2, 2), np.nan), np.eye(2))
    with pytest.raises(ValueError, match="reference: expected at least"):
        dictionary_error(np.eye(2), np.zeros((2, 2)))
