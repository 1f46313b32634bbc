"""Another estimate is believed where it differs no more than a good one does."""

import numpy as np
import pytest

from calepin.imaging.agreement import WINDOW, agreement

SHAPE = (2, 128, 192)


def planes(error: float, level: float | np.ndarray = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return noisy zeros, zeros, and zeros with an error on the left side."""
    rng = np.random.default_rng(0)
    noisy = (level * rng.standard_normal(SHAPE)).astype(np.float32)
    other = (level * error * rng.standard_normal(SHAPE)).astype(np.float32)
    other[..., 96:] = 0
    return noisy, np.zeros_like(noisy), other


@pytest.mark.parametrize("level", [None, 1.0, 0.01, np.linspace(0.5, 2, SHAPE[2])])
def test_a_pattern_is_doubted_in_its_place_alone(level):
    noisy, estimate, other = planes(0.6, 1.0 if level is None else level)
    believed = agreement(noisy, estimate, other, level)
    assert believed.shape == SHAPE
    assert believed.dtype == np.float32
    assert (believed[..., : 96 - WINDOW // 2] == 0).all()
    assert (believed[..., 96 + WINDOW // 2 :] == 1).all()


def test_a_small_difference_is_believed():
    assert (agreement(*planes(0.05)) == 1).all()


def test_what_spares_more_of_the_noise_may_differ_more():
    noisy, estimate, _ = planes(0)
    believed = [agreement(noisy, estimate, np.float32(part) * noisy).mean() for part in (0.1, 0.3)]
    assert believed[0] == 1  # the squared difference is .01 of the noise, of which .19 are spared
    assert 0 < believed[1] < 1


def test_images_smaller_than_a_window_and_pixels_without_noise():
    noisy, estimate, other = (plane[:, :16, :20] for plane in planes(3.0))
    assert (agreement(noisy, estimate, other) == 0).all()
    still = np.zeros((16, 20))
    assert np.isfinite(agreement(noisy, estimate, other, still)).all()
    assert (agreement(noisy, noisy, noisy, still) == 1).all()
