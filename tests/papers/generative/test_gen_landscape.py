"""The landscape of decoding in miniature."""

from dataclasses import replace

import pytest
import torch

from calepin.experiments import find, perform
from calepin_papers import EXPERIMENTS
from calepin_papers.generative import landscape
from calepin_papers.generative.landscape import GEN_LANDSCAPE, Settings, mirror_factor

TINY = Settings(n_points=60, n_draws=2, n_starts=6, n_iter=300)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return perform(replace(GEN_LANDSCAPE, quick=TINY), folder, seed=1), folder


def test_it_is_registered():
    assert find(["gen-landscape"], EXPERIMENTS) == [GEN_LANDSCAPE]


def test_the_claims_hold(outcome):
    assert all(claim["holds"] for claim in outcome[0]["claims"]), outcome[0]["claims"]


def test_the_figure_is_written(outcome):
    result, folder = outcome
    assert (folder / "gen-landscape" / result["figures"][0]).stat().st_size > 0


def test_the_values_follow_from_the_seed_alone(outcome, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        again = perform(replace(GEN_LANDSCAPE, quick=TINY), tmp_path, seed=1)
    assert again["values"] == outcome[0]["values"]


def test_the_gradient_is_that_of_the_objective():
    scene, random = landscape._scene(TINY, 0, 0)
    atoms = scene.moved_atoms(0.3, random)
    z = torch.randn(4, 5, dtype=torch.float64, generator=random).requires_grad_()
    objective = 0.5 * (scene.generator(z) @ atoms - scene.y).square().sum()
    (gradient,) = torch.autograd.grad(objective, z)
    assert torch.allclose(scene.gradient(z.detach(), atoms), gradient)


def test_the_derivative_at_zero_is_one_sided():
    scene, random = landscape._scene(TINY, 0, 0)
    u = torch.nn.functional.normalize(torch.randn(50, 5, dtype=torch.float64, generator=random))

    def f(z):
        return 0.5 * (scene.generator(z) @ scene.true_atoms - scene.y).square().sum(1)

    t = 1e-6
    found = (f(t * u) - f(0 * u)) / t
    assert landscape._largest_at_zero(scene, scene.true_atoms, u) == pytest.approx(
        float(found.max()), rel=1e-4
    )


def test_moved_atoms_are_as_far_as_asked():
    scene, random = landscape._scene(TINY, 0, 0)
    moved = scene.moved_atoms(0.2, random) - scene.true_atoms
    ratio = torch.linalg.matrix_norm(moved, 2) / torch.linalg.matrix_norm(scene.true_atoms, 2)
    assert float(ratio) == pytest.approx(0.2)


def test_the_mirror_factor_grows_to_one_with_the_layers():
    factors = [mirror_factor(n) for n in (1, 2, 5, 50, 500)]
    assert factors[0] == pytest.approx(0, abs=1e-12)
    assert factors[1] == pytest.approx(1 / torch.pi)
    assert factors == sorted(factors)
    assert factors[-1] > 0.95


def test_a_dictionary_far_from_the_true_one_has_a_larger_isometry_constant():
    """Lemma A.9 bounds the growth; a bound without its first term is exceeded."""
    scene, random = landscape._scene(TINY, 0, 0)
    true = landscape._rric(scene, scene.true_atoms)
    far = scene.moved_atoms(1.0, random)
    assert true < landscape._rric(scene, far) < true + scene.growth(far)
    assert scene.growth(scene.true_atoms) == 0
