"""Photon counts: the transformation to Gaussian noise, its inverse, and the choice of the method."""

import numpy as np
import pytest
from scipy import stats
from skimage import data

import calepin
from calepin.datasets import PoissonNoise
from calepin.imaging.counts import estimate_peak, inverse_anscombe, stabilised
from calepin.metrics import psnr

IMAGES = {
    "camera": data.camera()[60:156, 180:276],
    "coins": data.coins()[60:156, 100:196],
    "moon": data.moon()[200:296, 200:296],
}


def rates(name, peak):
    return IMAGES[name] / IMAGES[name].max() * peak


@pytest.mark.parametrize("mean", [0, 1e-3, 0.3, 2.0, 17.0, 399.0, 401.0, 5000.0])
def test_the_inverse_is_exact_and_unbiased(mean):
    counts = np.arange(8000)
    expected = stats.poisson.pmf(counts, mean) @ stabilised(counts)
    assert inverse_anscombe(expected) == pytest.approx(mean, rel=1e-5, abs=1e-6)


def test_values_below_those_of_zero_counts_are_zero():
    np.testing.assert_array_equal(inverse_anscombe(np.array([-1.0, 0.0, stabilised(np.zeros(1))[0]])), 0)


def test_transformed_counts_have_unit_noise(rng):
    for mean in (5, 30, 1000):
        assert stabilised(rng.poisson(mean, 100_000)).std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("peak", [0.5, 1, 4, 10, 100])
@pytest.mark.parametrize("name", IMAGES)
def test_the_peak_is_seen_in_the_counts(name, peak, rng):
    assert estimate_peak(rng.poisson(rates(name, peak))) == pytest.approx(peak, rel=0.2, abs=0.15)


@pytest.mark.parametrize("peak", [0.5, 2, 4, 10, 100, 1000])
@pytest.mark.parametrize("name", ["camera", "coins"])
@pytest.mark.filterwarnings("ignore:no network is shipped")
def test_the_default_for_counts_is_the_better_method_without_a_peak(name, peak, rng):
    rate = rates(name, peak)
    counts = rng.poisson(rate)

    def quality(method, noise):
        return psnr(calepin.denoise(counts, method=method, noise=noise).image, rate, peak=peak)

    chosen = quality(None, PoissonNoise())
    assert chosen > psnr(counts, rate, peak=peak) + 2
    for method in ("network", "dictionary"):
        assert chosen > quality(method, PoissonNoise(peak)) - 0.3


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
        assert result.image.mean() == pytest.approx(counts.mean(), rel=0.08)


def test_no_photons_are_no_light():
    for method in (None, "dictionary"):
        result = calepin.denoise(np.zeros((32, 32), int), method=method, noise=PoissonNoise())
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
    assert psnr(mean, rate, peak=10) > psnr(counts, rate, peak=10)
    bright = rate > 5
    assert mean[bright].sum() > 0.8 * counts[bright].sum()
