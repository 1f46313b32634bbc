"""Generators: their closed Jacobians are their derivatives, bad ones are refused, cuts are cuts."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import nn

from calepin.generators import (
    GroupSparse,
    KSparse,
    PolynomialSine,
    ReLUNet,
    Sine,
    check_generator,
    latent_dimension,
    linearise,
    truncate,
)
from calepin.generators._nonnegative import nonnegative_least_squares
from calepin.generators.base import in_dtype, is_layered, like_generator
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.problem import Problem

READY = {
    "polynomial-sine": PolynomialSine(3),
    "group": GroupSparse(4, 30),
    "k-sparse": KSparse(3, 20),
    "relu": ReLUNet((4, 12, 25), dtype=torch.float64),
    "sine": Sine(2, 8, dtype=torch.float64),
}


def latents(generator, n=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator.latent_dim, dtype=torch.float64, generator=draw)


@pytest.mark.parametrize("name", READY)
def test_the_jacobian_is_the_derivative(name):
    generator = READY[name]
    z = latents(generator)
    value, jacobian = linearise(generator, z)
    torch.testing.assert_close(value, generator(z))
    direction = latents(generator, seed=1)
    step = 1e-6
    moved = (generator(z + step * direction) - generator(z - step * direction)) / (2 * step)
    torch.testing.assert_close((direction[:, :, None] * jacobian).sum(1), moved, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["polynomial-sine", "group", "relu", "sine"])
def test_closed_forms_are_what_forward_mode_finds(name):
    generator = READY[name]
    z = latents(generator)
    for mine, derived in zip(generator.linearise(z), linearise(lambda v: generator(v), z), strict=True):
        torch.testing.assert_close(mine, derived)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid(), nn.GELU(), nn.Softplus(beta=2.0)])
def test_the_jacobian_of_layers_is_what_forward_mode_finds(activation):
    first, second = (nn.Linear(*sizes, dtype=torch.float64) for sizes in ((3, 7), (7, 5)))
    layers = nn.Sequential(first, activation, second, nn.Tanh()).requires_grad_(False)
    z = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for network in (layers, truncate(nn.Sequential(*layers, nn.Identity()), 4)):
        for mine, derived in zip(linearise(network, z), linearise(lambda v: layers(v), z), strict=True):
            torch.testing.assert_close(mine, derived)


def test_layers_that_mix_entries_are_left_to_forward_mode():
    layers = nn.Sequential(nn.Linear(3, 7, dtype=torch.float64), nn.Softmax(1)).requires_grad_(False)
    z = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert not is_layered(layers)
    torch.testing.assert_close(linearise(layers, z)[1].sum(2), torch.zeros(6, 3, dtype=torch.float64))


@pytest.mark.parametrize("name", READY)
def test_ready_generators_pass_the_check(name):
    generator = READY[name]
    like = torch.empty(0, dtype=torch.float64)
    assert check_generator(generator, like=like) == generator.n_coefficients
    assert not list(generator.parameters())


def test_sparse_vectors_have_no_more_nonzeros_than_terms():
    coefficients = READY["k-sparse"](latents(READY["k-sparse"], n=500))
    counts = (coefficients != 0).sum(1)
    assert counts.max() == 3
    assert (coefficients != 0).any(0).all()


def test_a_random_layer_keeps_the_norm_on_average():
    generator = ReLUNet((40, 2000), dtype=torch.float64)
    z = latents(generator, n=200)
    ratio = generator(z).square().sum(1) / z.square().sum(1)
    assert abs(float(ratio.mean()) - 1) < 0.02


def test_nonnegative_least_squares_is_scipys(rng):
    atoms, y = rng.normal(size=(5, 12)), rng.normal(size=(40, 12))
    mine = nonnegative_least_squares(torch.from_numpy(y), torch.from_numpy(atoms), tol=1e-12).numpy()
    np.testing.assert_allclose(mine, [nnls(atoms.T, row)[0] for row in y], atol=1e-8)
    assert (mine == 0).any()


def test_groups_start_where_no_other_square_fits_better(rng):
    generator = GroupSparse(4, 30)
    atoms = torch.from_numpy(rng.normal(size=(30, 20)))
    z = latents(generator)
    problem = Problem(Dense(atoms), Gaussian(), generator(z) @ atoms)
    torch.testing.assert_close(generator.initial_latents(problem), z.abs(), rtol=1e-5, atol=1e-5)


def test_latent_dimension_is_said_once():
    assert latent_dimension(PolynomialSine(3)) == 3
    assert latent_dimension(torch.sin, 4) == 4
    with pytest.raises(ValueError, match="latent_dim: expected 3"):
        latent_dimension(PolynomialSine(3), 4)
    with pytest.raises(ValueError, match="latent_dim: expected a positive integer"):
        latent_dimension(torch.sin)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (lambda z: torch.cat([z, z], 1)[:, :5], "expected 6 coefficients.*got 5"),
        (lambda z: torch.cat([z, z], 1) * torch.nan, "finite coefficients"),
        (lambda z: torch.cat([z.detach(), z.detach()], 1), "differentiable"),
        (lambda z: torch.round(torch.cat([z, z], 1)), "differentiable"),
        (lambda z: z.mT, "shape"),
        (lambda z: z.numpy(), "expected it to return a Tensor"),
        (lambda z: torch.cat([z, z], 1) - z.mean(), "depend on each other"),
        (nn.Linear(7, 6), "function of latents"),
    ],
)
def test_bad_generators_are_refused(generator, message):
    with pytest.raises(ValueError, match=message):
        check_generator(generator, 3, n_coefficients=6)


def test_more_latents_than_features_are_refused():
    with pytest.raises(ValueError, match="latent_dim: expected at most the 2 features"):
        check_generator(PolynomialSine(3), n_features=2)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(6), nn.Dropout()])
def test_a_network_in_training_mode_is_refused(layer):
    network = nn.Sequential(nn.Linear(3, 6), layer)
    with pytest.raises(
        ValueError, match=rf"{type(layer).__name__} '1' in training mode.*call generator\.eval"
    ):
        check_generator(network)
    assert check_generator(network.eval()) == 6


def test_the_first_linear_layer_declares_the_latent_dimension():
    linear = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(3, 6), nn.Tanh()), nn.Linear(6, 9))
    assert latent_dimension(linear) == 3
    assert latent_dimension(nn.Sequential(PolynomialSine(2), nn.Flatten())) == 2
    with pytest.raises(ValueError, match="latent_dim: expected a positive integer for a generator without"):
        latent_dimension(nn.Sequential(nn.Conv1d(4, 2, 1), nn.Flatten(), nn.Linear(7, 2)))
    with pytest.raises(TypeError, match="generator: expected a function, got numpy.ndarray"):
        latent_dimension(np.ones((3, 4)), 3)


def test_images_of_a_generator_have_a_way_to_become_coefficients():
    images = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4)))
    with pytest.raises(
        ValueError, match=r"got \(4, 1, 4, 4\); torch.nn.Sequential\(generator, torch.nn.Flatten"
    ):
        check_generator(images)
    assert check_generator(nn.Sequential(images, nn.Flatten())) == 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "generator",
    [
        nn.Sequential(nn.Linear(3, 6), nn.Tanh()),
        Sine(3, 6, dtype=torch.float64),
        PolynomialSine(3),
        lambda z: z @ torch.ones(3, 6),
        lambda z: z.float().sin(),
    ],
)
def test_a_generator_follows_the_dtype_of_latents(generator, dtype):
    z = torch.randn(4, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    converted = in_dtype(generator, dtype, 3)
    assert converted(z).dtype == dtype
    own = like_generator(generator)
    torch.testing.assert_close(converted(z), generator(z.to(own)).to(dtype), rtol=1e-5, atol=1e-6)


def test_truncation_keeps_the_first_layers_frozen():
    decoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 12), nn.Sigmoid())
    generator = truncate(decoder, -2)
    assert len(generator) == len(truncate(decoder, 3)) == 3
    assert generator.latent_dim == 3
    assert check_generator(generator) == 8
    assert not generator.train().training
    assert not any(p.requires_grad for p in generator.parameters())
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    before = generator(z)
    with torch.no_grad():
        decoder[0].weight.add_(1)
    assert torch.equal(generator(z), before)
    assert decoder.training
    for layers in (0, 5, -5, 6):
        with pytest.raises(ValueError, match="layers: expected 1 to 4"):
            truncate(decoder, layers)
