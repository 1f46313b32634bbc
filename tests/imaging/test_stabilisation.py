"""Stabilised counts: unit noise, the exact unbiased inverse, and steps from coarse to fine."""

import numpy as np
import pytest
from scipy import stats
from skimage import data

import calepin
from calepin.datasets import GaussianNoise, PoissonGaussianNoise, PoissonNoise, add_noise
from calepin.imaging import DictionaryDenoiser
from calepin.imaging.stabilisation import Stabiliser, expected_photons, steps_for
from calepin.metrics import psnr

HOUSE = data.camera()[100:228, 180:308] / 255


@pytest.mark.parametrize("mean", [0, 1e-3, 0.3, 2.0, 17.0, 399.0, 401.0, 5000.0])
def test_the_inverse_is_exact_and_unbiased(mean):
    counts = np.arange(8000)
    expected = stats.poisson.pmf(counts, mean) @ Stabiliser().apply(counts)
    assert Stabiliser().invert(expected) == pytest.approx(mean, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("share", "read"), [(1.0, 2.5), (0.4, 0.0), (0.6, 1.0)])
@pytest.mark.parametrize("mean", [0.5, 4.0, 60.0, 900.0])
def test_the_inverse_of_mixtures_and_read_noise_is_unbiased(share, read, mean, rng):
    photons = rng.poisson(mean, 1_000_000) + read * rng.standard_normal(1_000_000)
    values = Stabiliser(share, read).apply(share * photons + (1 - share) * mean)
    deviation = np.sqrt(mean + read**2) * share / 1000  # of the mean of a million
    assert Stabiliser(share, read).invert(values.mean()) == pytest.approx(
        mean, abs=6 * deviation + 1e-4 * mean
    )


def test_values_below_those_of_zero_counts_are_zero():
    lowest = Stabiliser().apply(np.zeros(1))[0]
    np.testing.assert_array_equal(Stabiliser().invert(np.array([-1.0, 0.0, lowest])), 0)


@pytest.mark.parametrize("read", [0.0, 3.0])
def test_transformed_counts_have_unit_noise(rng, read):
    for mean in (5, 30, 1000):
        photons = rng.poisson(mean, 100_000) + read * rng.standard_normal(100_000)
        assert Stabiliser(read=read).apply(photons).std() == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("shape", [(32, 48), (37, 50), (33, 35, 3)])
@pytest.mark.parametrize("steps", [((1, 1.0),), ((4, 1.0), (2, 0.7), (1, 0.4))])
def test_without_noise_the_estimate_is_the_image(shape, steps):
    """A perfect denoiser gets the transformed means, and the counts have to come back."""
    smooth = 50 + 30 * np.cos(np.linspace(0, 2, shape[0]))[:, None] * np.cos(np.linspace(0, 3, shape[1]))
    image = smooth if len(shape) == 2 else smooth[..., None] * [1.0, 0.8, 0.5]
    means = expected_photons(image, 0.0, steps, lambda values, _: values)
    assert means.shape == shape
    # the transformation of a mean is larger than the mean of what is transformed, by a quarter of a photon
    np.testing.assert_allclose(means, image + 0.25, atol=0.7)


def test_blocks_are_no_larger_than_the_image_allows():
    assert steps_for(1.0, 1) == ((1, 1.0), (1, 0.7), (1, 0.5), (1, 0.3))
    assert max(side for side, _ in steps_for(0.1, 100)) == 8
    assert steps_for(1000.0, 100) == ((1, 1.0),)


@pytest.mark.parametrize(("peak", "gain"), [(1, 1.0), (2, 1.0), (4, 0.5)])
def test_steps_gain_over_one_stabilisation(peak, gain, rng):
    clean = peak * HOUSE
    counts = rng.poisson(clean)
    once = Stabiliser().invert(
        DictionaryDenoiser().denoise(Stabiliser().apply(counts), GaussianNoise(1.0)).image
    )
    found = calepin.denoise(counts, noise=PoissonNoise()).image
    assert psnr(found, clean, data_range=peak) > psnr(once, clean, data_range=peak) + gain


def test_an_image_of_a_camera_is_denoised_in_its_units(rng):
    noise = PoissonGaussianNoise(gain=2.2, offset=100.0, read=3.5)
    clean = 100 + 2.2 * 20 * HOUSE
    noisy = add_noise(clean, noise, random_state=0)
    result = calepin.denoise(noisy, noise=noise)
    assert result.noise == noise
    assert result.image.mean() == pytest.approx(noisy.mean(), rel=0.01)
    plain = calepin.denoise(noisy).image  # one level for all pixels, estimated
    assert psnr(result.image, clean, data_range=44) > psnr(plain, clean, data_range=44) + 0.3
    whole = calepin.denoise(np.round(noisy).astype(np.uint16), noise=noise).image
    assert psnr(whole, clean, data_range=44) == pytest.approx(
        psnr(result.image, clean, data_range=44), abs=0.3
    )


def test_counts_are_those_of_a_camera_without_offset_and_read_noise(rng):
    counts = rng.poisson(30 * HOUSE[:48, :48])
    as_counts = calepin.denoise(counts, noise=PoissonNoise()).image
    as_camera = calepin.denoise(3.0 * counts, noise=PoissonGaussianNoise(gain=3.0)).image
    np.testing.assert_allclose(as_camera, 3 * as_counts, rtol=1e-4, atol=1e-2)


def test_negative_counts_need_an_offset_or_read_noise():
    image = np.full((20, 20), 5.0)
    image[3, 4] = -1
    with pytest.raises(ValueError, match="image: expected no negative values without an offset"):
        calepin.denoise(image, noise=PoissonGaussianNoise(gain=2.0))
    assert np.isfinite(calepin.denoise(image, noise=PoissonGaussianNoise(1.0, -5.0)).image).all()


@pytest.mark.parametrize("settings", [{"gain": 0}, {"gain": -1.0}, {"read": -1.0}, {"offset": np.nan}])
def test_bad_cameras_are_named(settings):
    with pytest.raises(ValueError, match=rf"^{next(iter(settings))}: "):
        PoissonGaussianNoise(**settings)


def test_the_clean_image_of_a_camera_is_above_its_offset():
    with pytest.raises(ValueError, match="image: expected entries of at least the offset, 100"):
        add_noise(np.zeros((4, 4)), PoissonGaussianNoise(1.0, 100.0))


def test_an_offset_or_a_gain_that_does_not_fit_is_told(rng):
    noise = PoissonGaussianNoise(gain=2.2, offset=100.0, read=3.5)
    noisy = add_noise(100 + 2.2 * 100 * HOUSE[:48, :48], noise, random_state=0)
    with pytest.raises(ValueError, match="image: expected values above the offset, got none"):
        calepin.denoise(noisy / 65535, noise=noise)
    with pytest.warns(UserWarning, match=r"offset: \d+% of the pixels lie further below it"):
        calepin.denoise(noisy, noise=PoissonGaussianNoise(2.2, 200.0, 3.5))
    with pytest.warns(UserWarning, match="gain: the brightest pixels have .* photons"):
        calepin.denoise(noisy, noise=PoissonGaussianNoise(1e6, 0.0, 3.5))
