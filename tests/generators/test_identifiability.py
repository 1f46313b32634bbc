import math
from importlib import import_module

import numpy as np
import pytest
import torch

from calepin.generators import GroupSparse, KSparse, PolynomialSine, ReLUNet, Sine, linearise
from calepin.generators.identifiability import identifiability, samples_needed


def atoms_of(n, m, seed=0):
    return np.random.default_rng(seed).standard_normal((n, m)) / np.sqrt(m)


def left_over(moves, atoms, generator, z):
    """Residual of samples after a small move of the atoms and the best first-order move of the latents."""
    g, J = (t.double().numpy() for t in linearise(generator, z))
    residuals = []
    for coefficients, slopes in zip(g, J, strict=True):
        change, tangent = coefficients @ moves, (slopes @ atoms).T
        residuals.append(change - tangent @ np.linalg.lstsq(tangent, change, rcond=None)[0])
    return np.linalg.norm(residuals) / np.linalg.norm(g @ moves)


def test_the_scale_of_a_relu_net_is_named():
    atoms, generator = atoms_of(8, 24), ReLUNet((2, 8), dtype=torch.float64)
    found = identifiability(atoms, generator)
    assert found.n_null == 1
    assert "the scale of the whole dictionary" in found.symmetries[0]
    assert "scale of the whole dictionary" in str(found)
    # the one null direction is the dictionary itself
    (move,) = found.null_directions
    cosine = abs((move * atoms).sum()) / np.linalg.norm(move) / np.linalg.norm(atoms)
    assert cosine == pytest.approx(1, abs=1e-5)


def test_the_group_generator_leaves_the_mixing_of_its_groups():
    found = identifiability(atoms_of(10, 24), GroupSparse(3, 10).double())
    assert (found.n_seen, found.n_null) == (3, 9)
    assert not found.identifiable
    assert "any mixing of the 3 dimensions" in found.symmetries[0]
    assert "The coefficients span 3 of 10 dimensions" in str(found)


def test_the_sine_generator_is_identifiable():
    found = identifiability(atoms_of(8, 24), Sine(2, 8, dtype=torch.float64))
    assert found.identifiable
    assert found.symmetries == ()
    assert 0 < found.contraction < 0.9
    assert "identifiable" in str(found)


def test_scales_of_single_atoms_are_named():
    # a sine of each latent fixes its scale
    both = identifiability(atoms_of(4, 9), lambda z: torch.cat([z, torch.sin(3 * z)], 1), latent_dim=2)
    assert both.identifiable
    found = identifiability(atoms_of(3, 9), lambda z: torch.cat([z, z[:, :1] ** 3], 1), latent_dim=2)
    assert any("scale of single atoms (1): 1" in symmetry for symmetry in found.symmetries)


@pytest.mark.parametrize(
    "generator", [ReLUNet((3, 9), dtype=torch.float64), PolynomialSine(3), Sine(2, 6, dtype=torch.float64)]
)
def test_the_spectrum_is_that_of_what_no_latents_explain(generator):
    """Null directions leave no residual on fresh latents, a random direction does."""
    n = generator.n_coefficients
    atoms, fresh = atoms_of(n, 12), torch.randn(50, generator.latent_dim, dtype=torch.float64)
    found = identifiability(atoms, generator)
    assert ((found.spectrum >= 0) & (found.spectrum <= 1)).all()
    assert (np.diff(found.spectrum) >= -1e-12).all()
    for move in found.null_directions:
        assert left_over(move, atoms, generator, fresh) < 1e-3
    assert left_over(atoms_of(n, 12, seed=1), atoms, generator, fresh) > 0.1


def test_a_step_contracts_by_the_spectrum():
    """Apply the linearised update to a direction and compare with the eigenvalues."""
    generator = Sine(2, 5, dtype=torch.float64)
    atoms = atoms_of(5, 9)
    z = torch.randn(150, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = identifiability(atoms, generator, latents=z.numpy())
    g, J = (t.numpy() for t in linearise(generator, z))
    inverse = np.linalg.inv(g.T @ g / len(g))
    move = atoms_of(5, 9, seed=3)
    for _ in range(150):  # the power iteration of 1 - T ends in the slowest direction
        before = move / np.linalg.norm(move)
        gradient = np.zeros_like(move)
        for coefficients, slopes in zip(g, J, strict=True):
            change, tangent = coefficients @ before, (slopes @ atoms).T
            rest = change - tangent @ np.linalg.lstsq(tangent, change, rcond=None)[0]
            gradient += np.outer(coefficients, rest) / len(g)
        move = before - inverse @ gradient
    assert np.linalg.norm(move) == pytest.approx(found.contraction, rel=1e-3)


def test_many_unknowns_are_searched_for_the_smallest_eigenvalues(monkeypatch):
    atoms, generator = atoms_of(12, 20), ReLUNet((3, 12), dtype=torch.float64)
    whole = identifiability(atoms, generator)
    monkeypatch.setattr(import_module("calepin.generators.identifiability"), "_DENSE", 10)
    few = identifiability(atoms, generator, n_directions=6)
    np.testing.assert_allclose(few.spectrum, whole.spectrum[:6], atol=1e-6)
    assert few.symmetries == whole.symmetries


def test_samples_needed_counts_equations():
    assert samples_needed(10, 9, 3) == math.ceil(90 / 7)
    assert samples_needed(3, 9, 3) == math.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"atoms": np.ones(3)}, "atoms: expected finite numbers of shape"),
        ({"atoms": np.full((9, 5), np.nan)}, "atoms: expected finite"),
        ({"atoms": atoms_of(8, 12)}, "atoms: expected 9 rows, one per coefficient, got 8"),
        ({"n_samples": 5}, "n_samples: expected at least"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        identifiability(**{"atoms": atoms_of(9, 12), "generator": PolynomialSine(3)} | arguments)


def test_a_sparse_generator_has_a_scale_for_every_atom():
    found = identifiability(atoms_of(6, 12), KSparse(2, 6).double())
    assert any("scale of single atoms (6)" in symmetry for symmetry in found.symmetries)
