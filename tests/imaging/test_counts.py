"""Photon counts: the transformation to Gaussian noise, its inverse, and the choice of the method."""

import numpy as np
import pytest
from skimage import data

import calepin
from calepin.datasets import PoissonNoise
from calepin.imaging.counts import estimate_peak
from calepin.metrics import psnr

IMAGES = {
    "camera": data.camera()[60:156, 180:276],
    "coins": data.coins()[60:156, 100:196],
    "moon": data.moon()[200:296, 200:296],
}


def rates(name, peak):
    return IMAGES[name] / IMAGES[name].max() * peak


@pytest.mark.parametrize("peak", [0.5, 1, 4, 10, 100])
@pytest.mark.parametrize("name", IMAGES)
def test_the_peak_is_seen_in_the_counts(name, peak, rng):
    assert estimate_peak(rng.poisson(rates(name, peak))) == pytest.approx(peak, rel=0.2, abs=0.15)


@pytest.mark.parametrize("peak", [0.5, 2, 4, 10, 100, 1000])
@pytest.mark.parametrize("name", ["camera", "coins"])
@pytest.mark.filterwarnings("ignore:no network is shipped")
def test_both_methods_together_are_near_the_better_one(name, peak, rng):
    rate = rates(name, peak)
    counts = rng.poisson(rate)

    def quality(method, noise):
        return psnr(calepin.denoise(counts, method=method, noise=noise).image, rate, data_range=peak)

    chosen = quality("best", PoissonNoise())
    assert chosen > psnr(counts, rate, data_range=peak) + 2
    for method in ("network", "dictionary"):
        assert chosen > quality(method, PoissonNoise(peak)) - 0.7


def test_bright_counts_are_denoised_in_colour(rng):
    rate = data.astronaut()[:48, 160:208] / 255 * 50
    counts = rng.poisson(rate).astype(np.uint8)
    result = calepin.denoise(counts, noise=PoissonNoise())
    assert result.image.shape == rate.shape
    assert (result.noise, result.sigma) == (PoissonNoise(), None)
    assert np.mean((result.image - rate) ** 2) < 0.25 * np.mean((counts - rate) ** 2)


def test_the_mean_of_the_counts_is_kept(rng):
    for mean in (0.05, 0.7, 4.0, 60.0):
        counts = rng.poisson(mean, (64, 64))
        result = calepin.denoise(counts, method="dictionary", noise=PoissonNoise())
        assert result.image.mean() == pytest.approx(counts.mean(), rel=0.12)


def test_no_photons_are_no_light():
    result = calepin.denoise(np.zeros((32, 32), int), noise=PoissonNoise())
    np.testing.assert_allclose(result.image, 0, atol=1e-5)


def test_counts_without_a_peak_cannot_be_drawn():
    with pytest.raises(ValueError, match="peak: expected a number, to draw counts"):
        calepin.datasets.add_noise(np.ones((4, 4)), PoissonNoise())


@pytest.mark.parametrize("ground", [0.01, 0.2])
@pytest.mark.filterwarnings("ignore:the network removes more")
def test_single_bright_pixels_keep_their_photons(ground, rng):
    """On a ground of nearly no counts they have less energy than a patch of noise is taken to have."""
    rate = np.full((64, 64), ground)
    rate[rng.integers(0, 64, 20), rng.integers(0, 64, 20)] += 10
    counts = rng.poisson(rate)
    mean = calepin.denoise(counts, noise=PoissonNoise()).image
    assert psnr(mean, rate, data_range=10) > psnr(counts, rate, data_range=10)
    bright = rate > 5
    assert mean[bright].sum() > 0.7 * counts[bright].sum()
