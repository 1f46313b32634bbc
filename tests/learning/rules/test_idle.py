"""What counts as idle, what is kept to take its place, and the replacement itself."""

import numpy as np
import pytest
import torch

from calepin.learning.rules.idle import IdleReplacement, find_idle

REPLACEMENT = IdleReplacement(pool=3, rare=0.1, coherence=0.98)


def unit(atoms):
    return atoms / atoms.flatten(1).norm(dim=1).clamp_min(1e-30).view(-1, *[1] * (atoms.ndim - 1))


def test_idle_atoms_are_the_unused_the_rare_and_the_less_used_twin():
    atoms = np.eye(6)
    atoms[3] = -atoms[1]
    usage = np.array([40, 90, 0, 30, 70, 2])
    np.testing.assert_array_equal(find_idle(atoms, usage, rare=0.0, coherence=0.99), [2, 3])
    np.testing.assert_array_equal(find_idle(atoms, usage, rare=0.1, coherence=0.99), [2, 3, 5])
    np.testing.assert_array_equal(find_idle(atoms, usage, rare=0.0, coherence=1.1), [2])


def test_an_atom_of_norm_zero_is_idle_however_much_it_is_used():
    atoms = np.array([[1.0, 0], [0, 0], [0, 2.0]])
    np.testing.assert_array_equal(find_idle(atoms, np.array([5, 5, 5]), rare=0.0, coherence=0.9), [1])


def test_length_makes_no_twins():
    atoms = np.array([[0.1, 0], [5.0, 5.0]])  # their inner product is 0.5, their angle 45 degrees
    assert not len(find_idle(atoms, np.array([5, 5]), rare=0.0, coherence=0.8))
    np.testing.assert_array_equal(find_idle(atoms, np.array([5, 6]), rare=0.0, coherence=0.7), [0])


@pytest.mark.parametrize("shape", [(4,), (2, 5)], ids=["sample", "window"])
def test_the_pool_keeps_what_is_explained_worst(shape):
    idle = REPLACEMENT.init(torch.zeros(6, *shape, dtype=torch.float64))
    assert idle.pool.shape == (3, *shape)
    for error in (2.0, 9.0, 1.0, 5.0, 0.5, 7.0):
        REPLACEMENT.keep(idle, torch.full(shape, error, dtype=torch.float64), error)
    assert sorted(idle.pool_error) == [5.0, 7.0, 9.0]
    for kept, error in zip(idle.pool, idle.pool_error, strict=True):
        assert torch.equal(kept, torch.full(shape, error, dtype=torch.float64))


def pooled(atoms, samples):
    idle = REPLACEMENT.init(atoms)
    for k, sample in enumerate(samples):
        REPLACEMENT.keep(idle, torch.tensor(sample, dtype=atoms.dtype), float(k + 1))
    return idle


def test_the_worst_explained_takes_the_first_place_and_counting_begins_anew():
    atoms = torch.eye(4, dtype=torch.float64)
    idle = pooled(atoms, [[0, 3.0, 0, 0], [0, 0, 4.0, 3.0]])
    idle.usage[:] = [50, 0, 40, 0]
    assert REPLACEMENT.replace(idle, atoms, unit) == [1, 3]
    expected = torch.tensor([[1, 0, 0, 0], [0, 0, 0.8, 0.6], [0, 0, 1, 0], [0, 1, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(atoms, expected)
    assert not idle.usage.any()
    assert (idle.pool_error == -1).all()
    assert idle.n_replaced == 2


def test_replaced_atoms_add_up_until_they_are_reported():
    atoms = torch.eye(3, dtype=torch.float64)
    idle = pooled(atoms, [[1.0, 1.0, 0]])
    idle.usage[:] = [5, 0, 5]
    REPLACEMENT.replace(idle, atoms, unit)
    REPLACEMENT.keep(idle, torch.tensor([0, 1.0, 1.0], dtype=torch.float64), 1.0)
    idle.usage[:] = [5, 5, 0]
    REPLACEMENT.replace(idle, atoms, unit)
    assert idle.n_replaced == 2


def test_without_candidates_an_idle_atom_stays():
    atoms = torch.eye(3, dtype=torch.float64)
    idle = REPLACEMENT.init(atoms)
    idle.usage[:] = [5, 0, 5]
    assert REPLACEMENT.replace(idle, atoms, unit) == []
    assert torch.equal(atoms, torch.eye(3, dtype=torch.float64))


def test_a_candidate_without_a_direction_is_skipped():
    atoms = torch.eye(3, dtype=torch.float64)
    idle = pooled(atoms, [[0, 1.0, 1.0], [-1.0, -2.0, -1.0]])
    idle.usage[:] = [5, 0, 5]
    assert REPLACEMENT.replace(idle, atoms, lambda candidate: unit(candidate.clamp_min(0))) == []
    assert torch.equal(atoms, torch.eye(3, dtype=torch.float64))
