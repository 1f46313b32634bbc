"""Noise models: batches of tensors and single images, the same formulas and always the same numbers."""

import numpy as np
import pytest
import torch

import calepin
from calepin.datasets import GaussianNoise, PoissonNoise, add_noise


def test_gaussian_noise_follows_the_protocol_of_the_benchmark():
    pixels = np.full((6, 5), 0.9)
    noisy = add_noise(pixels, GaussianNoise(25 / 255), random_state=1000)
    expected = pixels + np.random.default_rng(1000).normal(0, 25 / 255, (6, 5))
    np.testing.assert_array_equal(noisy, expected)
    assert noisy.max() > 1  # not clipped
    assert (pixels == 0.9).all()
    np.testing.assert_array_equal(add_noise(pixels, GaussianNoise(0.0)), pixels)


def test_counts_follow_the_protocol_of_the_benchmark():
    pixels = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    noise = PoissonNoise(4)
    assert noise.unit(pixels) == 11 / 4
    expected = np.random.default_rng(7).poisson(pixels.astype(np.float64) / (11 / 4))
    np.testing.assert_array_equal(add_noise(pixels, noise, random_state=7), expected)
    black = np.zeros((3, 3))
    assert noise.unit(black) == 1
    np.testing.assert_array_equal(add_noise(black, noise), black)


def test_an_interval_of_levels_gives_an_image_one_of_them():
    noise, flat = GaussianNoise(0.1, 0.5), np.zeros((50, 50))
    levels = [add_noise(flat, noise, random_state=seed).std() for seed in range(40)]
    assert 0.08 < min(levels) < 0.2
    assert 0.4 < max(levels) < 0.55


def test_a_generator_moves_on():
    generator, flat = np.random.default_rng(0), np.zeros((3, 3))
    first, second = (add_noise(flat, GaussianNoise(1.0), random_state=generator) for _ in range(2))
    assert not np.array_equal(first, second)


def test_poisson_noise_has_its_peak_at_the_brightest_entry_of_each_sample():
    x = torch.from_numpy(np.random.default_rng(0).random((3, 1, 12, 12))) * torch.tensor(
        [1.0, 50.0, 0.0]
    ).view(3, 1, 1, 1)
    noise = PoissonNoise(2.0)
    draws = torch.stack([noise(x, torch.Generator().manual_seed(k)) for k in range(400)])
    assert torch.equal(draws, draws.round())
    brightest = draws.mean(0).flatten(1).amax(1)
    torch.testing.assert_close(brightest[:2], torch.full((2,), 2.0, dtype=x.dtype), rtol=0, atol=0.35)
    torch.testing.assert_close(draws.mean(0) * noise.scale(x), x, rtol=0, atol=0.3 * 25)
    assert brightest[2] == 0


def test_noise_levels_fill_their_range():
    x = torch.zeros(400, 1, 20, 20, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    levels = GaussianNoise(0.1, 0.5)(x, generator).flatten(1).std(1)
    assert 0.08 < levels.min() < 0.12
    assert 0.45 < levels.max() < 0.56
    assert float(levels.mean()) == pytest.approx(0.3, abs=0.02)
    fixed = GaussianNoise(0.1)(x, generator).flatten(1).std(1)
    assert float(fixed.std()) < 0.01


def test_they_stand_at_the_top():
    assert calepin.GaussianNoise is GaussianNoise
    assert calepin.PoissonNoise is PoissonNoise
    assert GaussianNoise(0.1) == GaussianNoise(0.1) != GaussianNoise(0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(-0.1), "sigma: expected a finite number of at least 0, got -0.1"),
        (lambda: GaussianNoise(np.nan), "sigma: expected a finite number"),
        (lambda: GaussianNoise(np.inf), "sigma: expected a finite number"),
        (
            lambda: GaussianNoise(0.3, 0.1),
            "sigma_max: expected a finite number of at least 0.3 or None",
        ),
        (lambda: add_noise(np.ma.masked_equal([1.0, 2.0], 1), PoissonNoise(4)), "image: expected no mask"),
        (lambda: PoissonNoise(0.0), "peak: expected a finite number above 0"),
        (lambda: add_noise(np.full(3, -1.0), PoissonNoise(4)), "image: expected no negative entries"),
        (lambda: add_noise(np.full(3, np.nan), PoissonNoise(4)), "image: expected finite values"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
