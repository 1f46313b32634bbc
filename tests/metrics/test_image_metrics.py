"""PSNR and SSIM are scikit-image's, whatever the size of the bands they are worked out in."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from calepin.metrics import psnr, ssim


@pytest.mark.parametrize("shape", [(7, 9), (263, 40), (600, 33), (300, 20, 3)])
def test_both_equal_scikit_image(shape):
    rng = np.random.default_rng(0)
    clean = rng.random(shape)
    noisy = clean + 0.1 * rng.standard_normal(shape)
    channels = 2 if len(shape) == 3 else None
    assert psnr(noisy, clean) == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=1))
    expected = structural_similarity(clean, noisy, data_range=1, channel_axis=channels)
    assert ssim(noisy, clean) == pytest.approx(expected, rel=1e-12)


def test_the_range_is_that_of_the_data():
    rng = np.random.default_rng(0)
    clean = rng.integers(10, 200, (20, 20)).astype(np.uint8)
    noisy = clean.astype(float) + rng.normal(0, 3, clean.shape)
    for reference, unit in (
        (clean, 255),
        (clean / 255, 1),
        (clean.astype(np.uint16), np.ptp(clean)),
        (clean.astype(np.int16) - 100, np.ptp(clean)),
        (clean.astype(float), np.ptp(clean)),
    ):
        observed = reference + (noisy - clean) / (255 if unit == 1 else 1)
        for metric in (psnr, ssim):
            assert metric(observed, reference) == metric(observed, reference, data_range=unit)
    with pytest.raises(ValueError, match="data_range: expected a number for a constant reference"):
        psnr(noisy, np.full(clean.shape, 7.0))


def test_equal_images_have_no_error():
    image = np.random.default_rng(0).random((20, 20))
    assert psnr(image, image) == np.inf
    assert ssim(image, image) == pytest.approx(1)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"the same shape, got \(3, 3\) and \(3, 4\)"):
        psnr(np.zeros((3, 3)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="data_range: expected a finite number above 0"):
        psnr(np.zeros((3, 3)), np.zeros((3, 3)), data_range=0)
    with pytest.raises(ValueError, match="at least 7"):
        ssim(np.zeros((3, 9)), np.zeros((3, 9)))


def test_psnr_leaves_out_what_is_masked_and_ssim_refuses_it():
    rng = np.random.default_rng(0)
    clean = rng.random((16, 16))
    pixels = clean + 0.1 * rng.standard_normal(clean.shape)
    hidden = rng.random(clean.shape) < 0.3
    expected = psnr(pixels[~hidden], clean[~hidden])
    spoilt = np.where(hidden, 1e6, pixels)
    for one, other in (
        (np.ma.array(spoilt, mask=hidden), clean),
        (spoilt, np.ma.array(np.where(hidden, np.nan, clean), mask=hidden)),
    ):
        assert psnr(one, other) == pytest.approx(expected)
        with pytest.raises(
            ValueError, match="expected no masked entries, which windows would cross; psnr takes"
        ):
            ssim(one, other)
    with pytest.raises(ValueError, match="pixels: expected entries that are not masked, got none"):
        psnr(np.ma.array(pixels, mask=True), clean)
    nothing_hidden = np.ma.array(pixels, mask=False)
    assert ssim(nothing_hidden, clean) == ssim(pixels, clean)
