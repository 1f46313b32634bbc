import math

import numpy as np
import pytest
import torch

from calepin.generators import PolynomialSine, Sine
from calepin_papers.generative.constants import generator_constants, weight_distribution


def orthogonal(n, m):
    return np.linalg.qr(np.random.default_rng(0).standard_normal((m, n)))[0].T


def test_an_isometry_has_perfect_constants():
    found = generator_constants(orthogonal(9, 12), PolynomialSine(3))
    assert found.gamma == pytest.approx(1)
    assert found.rric == pytest.approx(0, abs=1e-6)


def test_the_least_stretch_of_a_dictionary_bounds_gamma():
    atoms = np.random.default_rng(1).standard_normal((8, 20)) / np.sqrt(20)
    values = np.linalg.svd(atoms, compute_uv=False)
    found = generator_constants(atoms, Sine(2, 8, dtype=torch.float64))
    assert values[-1] <= found.gamma <= values[0]
    assert 0 < found.rric <= max(values[0] ** 2 - 1, 1 - values[-1] ** 2)
    # an isometry up to eps has gamma >= sqrt(1 - eps) (section 5)
    assert found.gamma >= math.sqrt(max(0, 1 - found.rric)) - 1e-9
    shifted = generator_constants(atoms, Sine(2, 8, dtype=torch.float64), delta=0.5)
    assert shifted.gamma > found.gamma


def test_more_samples_only_sharpen_the_bounds():
    z = np.random.default_rng(0).standard_normal((400, 3))
    atoms = np.random.default_rng(1).standard_normal((9, 12))
    few, many = (generator_constants(atoms, PolynomialSine(3), latents=part) for part in (z[:100], z))
    assert many.radius >= few.radius


def test_radius_and_lipschitz_constant_of_a_linear_map():
    def double(z):
        return 2 * z

    z = np.random.default_rng(0).standard_normal((50, 3))
    found = generator_constants(np.eye(3), double, latents=z)
    assert found.radius == pytest.approx(2 * np.linalg.norm(z, axis=1).max())
    assert found.lipschitz == pytest.approx(2)
    gram = np.linalg.eigvalsh(4 * z.T @ z / 50)
    assert found.condition == pytest.approx(gram[-1] / gram[0])


def test_assumption_6_fails_and_tells_that_it_cannot_hold():
    found = generator_constants(np.eye(3), lambda z: torch.sin(z), latent_dim=3).assumption_6
    assert not found.holds
    assert found.value >= found.least_value >= 10 * 3**2 > found.bound


def test_a_coefficient_that_never_varies_makes_the_condition_infinite():
    found = generator_constants(np.eye(3), lambda z: torch.cat([z, 0 * z[:, :1]], 1), latent_dim=2)
    assert found.condition == math.inf
    assert found.assumption_6.value == math.inf


def test_wide_gaussian_layers_satisfy_the_weight_distribution_condition():
    rng = np.random.default_rng(0)
    found = [
        weight_distribution(rng.standard_normal((n, 4)) / np.sqrt(n), n_pairs=300) for n in (100, 10_000)
    ]
    assert found[1] < 0.1
    assert found[1] < found[0] / 4  # as one over the root of the width


def test_a_layer_that_is_all_of_one_sign_violates_it():
    assert weight_distribution(np.abs(np.random.default_rng(0).standard_normal((500, 3)))) > 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: generator_constants(np.eye(4), PolynomialSine(3)),
            r"atoms: expected shape \(9, n_features\)",
        ),
        (
            lambda: generator_constants(np.eye(9), PolynomialSine(3), latents=np.ones((2, 3))),
            "latents: expected at least four",
        ),
        (
            lambda: generator_constants(np.eye(3), lambda z: 0 * z, latent_dim=3),
            "generator: expected coefficients that vary",
        ),
        (lambda: weight_distribution(np.ones(3)), "weights: expected finite numbers of shape"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
