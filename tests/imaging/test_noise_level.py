"""The estimated noise level is near the true one."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

import calepin
from calepin.imaging import DictionaryDenoiser, estimate_noise


@pytest.mark.parametrize("level", [5, 10, 25, 50, 100])
def test_the_level_is_found_within_five_percent(level):
    clean = data.camera()[:256, :256] / 255
    noisy = clean + np.random.default_rng(level).normal(0, level / 255, clean.shape)
    assert estimate_noise(noisy) == pytest.approx(level / 255, rel=0.05)


def test_pure_noise_is_unbiased():
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 128, 128))
    assert np.mean([estimate_noise(plane) for plane in noise]) == pytest.approx(0.1, rel=0.03)


def test_channels_are_averaged():
    noise = np.random.default_rng(1).normal(0, 1, (128, 128, 3)) * [1.0, 1.2, 1.5]
    assert estimate_noise(noise) == pytest.approx(np.sqrt(4.69 / 3), rel=0.04)


def test_clipping_at_black_does_not_hide_the_noise():
    clean = np.zeros((128, 256))
    clean[:, 64:] = 0.5
    noisy = np.clip(clean + np.random.default_rng(2).normal(0, 0.1, clean.shape), 0, 1)
    assert estimate_noise(noisy) == pytest.approx(0.1, rel=0.05)


def photograph(name, size=200):
    return getattr(data, name)()[:size, :size] / 255


def with_noise(clean, level):
    return clean + np.random.default_rng(3).normal(0, level / 255, clean.shape)


def quantised(image):
    """Return the image as an 8-bit file holds it: clipped at black and white."""
    return np.round(np.clip(image, 0, 1) * 255) / 255


@pytest.mark.parametrize("name", ["camera", "coins", "gravel", "moon"])
@pytest.mark.parametrize("level", [50, 75, 100])
def test_heavy_clipping_does_not_bias_the_level(name, level):
    noisy = quantised(with_noise(photograph(name), level))
    assert estimate_noise(noisy) == pytest.approx(level / 255, rel=0.05)


def test_the_limits_of_any_range_are_seen():
    noisy = np.clip(with_noise(photograph("camera"), 75), 0, 1)
    for unit, black in ((255, 0), (4095, 200), (1e-3, -5e-4)):
        assert estimate_noise(unit * noisy + black) == pytest.approx(unit * 75 / 255, rel=0.06)


MARGINS = {
    "black": np.s_[:100],
    "nine tenths": np.s_[20:],
    "columns": np.s_[:, 150:],
    "squares": np.s_[[[i] for i in range(200) if i % 40 < 20], [j for j in range(200) if j % 40 < 20]],
}


@pytest.mark.parametrize("value", [0, 1, 0.5, -3])
@pytest.mark.parametrize("where", MARGINS)
def test_constant_areas_are_left_out(where, value):
    noisy = with_noise(photograph("camera"), 20)
    noisy[MARGINS[where]] = value
    assert estimate_noise(noisy) == pytest.approx(20 / 255, rel=0.06)


def test_an_image_with_a_margin_is_denoised():
    clean = photograph("camera", 96)
    noisy = with_noise(clean, 20)
    clean[:48] = noisy[:48] = 0
    result = calepin.denoise(noisy, method=DictionaryDenoiser(group_passes=0))
    assert np.mean((result.image - clean) ** 2) < 0.3 * np.mean((noisy - clean) ** 2)


def test_saturated_areas_are_left_out():
    clean = photograph("camera")
    clean[:90] = 1.5  # an overexposed sky
    assert estimate_noise(quantised(with_noise(clean, 20))) == pytest.approx(20 / 255, rel=0.05)


@pytest.mark.parametrize(
    "image",
    [
        np.full((32, 32), 0.7),
        np.zeros((32, 32), dtype=np.float32),
        np.tile(np.linspace(0, 1, 64), (64, 1)),
        data.checkerboard() / 255,
    ],
)
def test_no_noise_is_said_to_be_none(image):
    with pytest.warns(UserWarning, match="noise level of the image is estimated as 0"):
        assert estimate_noise(image) == 0
    with pytest.warns(UserWarning, match="noise level of the image is estimated as 0"):
        np.testing.assert_array_equal(calepin.denoise(image).image, image)


@pytest.mark.parametrize("name", ["camera", "coins", "brick", "gravel", "moon"])
def test_noise_of_neighbours_that_is_correlated_is_said(name):
    clean, noise = photograph(name), with_noise(np.zeros((200, 200)), 20)
    half, one = (ndimage.gaussian_filter(noise, sigma) for sigma in (0.5, 1))
    box = ndimage.uniform_filter(noise, 2)
    for blurred in (half, one, box):
        with pytest.warns(UserWarning, match="noise is not white"):
            estimate_noise(clean + blurred)


@pytest.mark.parametrize("name", ["camera", "brick", "page", "text", "gravel", "grass", "moon"])
@pytest.mark.parametrize("level", [5, 10, 50])
def test_white_noise_on_texture_raises_no_warning(name, level):
    noisy = with_noise(photograph(name), level)
    estimate_noise(noisy)
    estimate_noise(quantised(noisy))


def test_masked_pixels_are_refused():
    noisy = np.ma.masked_greater(with_noise(photograph("camera", 64), 20), 0.9)
    with pytest.raises(ValueError, match="image: expected no mask, got one that hides .* fill them"):
        estimate_noise(noisy)
    without = np.ma.masked_array(noisy.data, mask=False)
    assert estimate_noise(without) == estimate_noise(noisy.data)


@pytest.mark.parametrize("image", [np.zeros((15, 99)), np.zeros(99), np.zeros((20, 20), dtype=int)])
def test_bad_images_are_refused(image):
    with pytest.raises(ValueError, match="image: expected"):
        estimate_noise(image)


@pytest.mark.parametrize("function", [estimate_noise, calepin.denoise])
@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[0.1, 0.2], [0.3]], "(rows of the same length|an array of numbers)"),
        (np.linspace(0, 1e300, 1024).reshape(32, 32), r"values below 1e\+140, got 1e\+300"),
    ],
)
def test_what_is_no_image_is_named(function, image, message):
    with pytest.raises(ValueError, match=f"^image: expected {message}"):
        function(image)
