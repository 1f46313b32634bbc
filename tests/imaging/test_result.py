"""Images as planes in units of the noise, and the checks of what a denoiser is given."""

import numpy as np
import pytest

from calepin.core.errors import IncompatibleError
from calepin.datasets import GaussianNoise, PoissonNoise
from calepin.imaging import DenoiseResult
from calepin.imaging.result import (
    OPPONENT,
    check_image,
    check_size,
    far_level,
    from_planes,
    sigma_of,
    to_planes,
)


def test_the_opponent_transform_keeps_white_noise_white():
    np.testing.assert_allclose(OPPONENT @ OPPONENT.T, np.eye(3), atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_planes_in_units_of_the_noise_come_back_as_the_image(rng, shape, dtype):
    image = rng.random(shape).astype(dtype)
    planes = to_planes(image, 0.2)
    assert planes.dtype == np.float32
    np.testing.assert_allclose(np.square(planes).sum(), np.square(image / 0.2).sum(), rtol=1e-5)
    again = from_planes(planes, 0.2, image)
    assert again.dtype == dtype
    np.testing.assert_allclose(again, image, atol=1e-6)


@pytest.mark.parametrize("opponent", [True, False])
@pytest.mark.parametrize("offset", [1e6, -1e9, np.array([1e6, 2e6, -3e3])])
def test_planes_of_an_image_far_from_zero_keep_its_differences(rng, offset, opponent):
    image = rng.random((20, 24, 3)) + offset
    planes = to_planes(image, 0.2, opponent=opponent)
    assert np.abs(planes).max() < 20
    np.testing.assert_allclose(from_planes(planes, 0.2, image, opponent=opponent), image, rtol=0, atol=1e-6)
    gray = image[..., 0].astype(np.float32)  # coarse, but kept as it is
    np.testing.assert_array_equal(from_planes(to_planes(gray, 1.0), 1.0, gray), gray)


def test_what_is_subtracted_from_an_image_far_from_zero_is_subtracted_exactly(rng):
    for dtype in (np.float32, np.float64):
        image = (1e6 + 255 * rng.random((40, 40))).astype(dtype)
        image[3, 4] = 0  # a dead pixel
        level = far_level(image, colour=False)
        assert abs(level - 1e6) < 255
        np.testing.assert_array_equal((image - level) + level, image)
        np.testing.assert_array_equal((image - level).astype(float), image.astype(float) - float(level))
    assert far_level(rng.random((40, 40)), colour=False) is None
    assert far_level(np.zeros((40, 40)), colour=False) is None
    levels = far_level(rng.random((40, 40, 3)) + np.array([0, 1e3, 1e6]), colour=True)
    assert levels[0] == 0 < levels[1] < levels[2]


def test_a_result_has_a_sigma_where_the_noise_is_gaussian():
    image = np.zeros((4, 4))
    assert DenoiseResult(image, GaussianNoise(0.3)).sigma == 0.3
    result = DenoiseResult(image, PoissonNoise(4))
    assert (result.sigma, result.atoms, result.history) == (None, None, [])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((40, 40), dtype=np.uint16),
            r"image: expected floating-point numbers, got uint16; image.astype\(float\) keeps its units",
        ),
        (np.zeros((40, 40), dtype=complex), "image: expected floating-point numbers, got complex128$"),
        (np.zeros((40, 40, 2)), r"image: expected shape \(h, w\) or \(h, w, 3\)"),
        (np.zeros(40), r"image: expected shape \(h, w\) or \(h, w, 3\)"),
        (np.where(np.eye(40) == 1, np.nan, 0.5), "image: expected finite values, got 40 NaN"),
        (np.full((40, 40), np.inf), "image: expected finite"),
        (
            np.ma.masked_equal(np.eye(4), 1),
            "image: expected no mask, got one that hides 4 of 16 entries; fill them",
        ),
    ],
)
def test_bad_images_are_named(image, message):
    with pytest.raises(ValueError, match=message):
        check_image(image)


def test_a_mask_that_leaves_nothing_out_is_no_mask():
    image = check_image(np.ma.masked_array(np.eye(4), mask=False))
    assert type(image) is np.ndarray


def test_counts_may_be_integers():
    counts = np.zeros((4, 4), dtype=np.uint8)
    assert check_image(counts, integers=True) is counts
    with pytest.raises(ValueError, match="image: expected real numbers, got complex128"):
        check_image(counts.astype(complex), integers=True)


def test_sizes_are_compared_along_both_axes():
    check_size(np.zeros((4, 5, 3)), (4, 5))
    for least in ((5, 5), (4, 6)):
        with pytest.raises(ValueError, match="image: expected at least"):
            check_size(np.zeros((4, 5, 3)), least)


def test_a_level_is_one_number():
    assert sigma_of(GaussianNoise(0.3), "it") == sigma_of(GaussianNoise(0.3, 0.3), "it") == 0.3
    with pytest.raises(IncompatibleError, match="noise: it removes Gaussian noise of one level"):
        sigma_of(GaussianNoise(0.3, 0.4), "it")
