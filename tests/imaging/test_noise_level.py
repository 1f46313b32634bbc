"""The estimated noise level is near the true one."""

import numpy as np
import pytest
from skimage import data

from calepin.imaging import estimate_noise


@pytest.mark.parametrize("level", [5, 10, 25, 50, 100])
def test_the_level_is_found_within_five_percent(level):
    clean = data.camera()[:256, :256] / 255
    noisy = clean + np.random.default_rng(level).normal(0, level / 255, clean.shape)
    assert estimate_noise(noisy) == pytest.approx(level / 255, rel=0.05)


def test_pure_noise_is_unbiased():
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 128, 128))
    assert np.mean([estimate_noise(plane) for plane in noise]) == pytest.approx(0.1, rel=0.03)


def test_channels_are_averaged():
    noise = np.random.default_rng(1).normal(0, 1, (128, 128, 3)) * [1.0, 2.0, 3.0]
    assert estimate_noise(noise) == pytest.approx(np.sqrt(14 / 3), rel=0.04)


def test_clipping_at_black_does_not_hide_the_noise():
    clean = np.zeros((128, 256))
    clean[:, 64:] = 0.5
    noisy = np.clip(clean + np.random.default_rng(2).normal(0, 0.1, clean.shape), 0, 1)
    assert estimate_noise(noisy) == pytest.approx(0.1, rel=0.05)


def test_a_constant_image_has_no_noise():
    assert estimate_noise(np.full((32, 32), 0.7)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("image", [np.zeros((15, 99)), np.zeros(99), np.zeros((20, 20), dtype=int)])
def test_bad_images_are_refused(image):
    with pytest.raises(ValueError, match="image: expected"):
        estimate_noise(image)
