"""Counts of photons are denoised by the network of the nearest peak."""

import numpy as np
import pytest

from calepin.datasets import load_sample
from calepin.imaging import denoise_counts
from calepin.imaging.by_photons import network_for_peak


def rates(peak, size=48):
    clean = load_sample("camera").pixels[200 : 200 + size, 200 : 200 + size]
    return clean / clean.max() * peak


@pytest.mark.parametrize("peak", [1, 2, 4])
def test_most_of_the_noise_goes(peak, rng):
    rate = rates(peak)
    counts = rng.poisson(rate)
    told = []
    estimate = denoise_counts(counts, peak=peak, callback=told.append)
    assert np.mean((estimate - rate) ** 2) < 0.2 * np.mean((counts - rate) ** 2)
    assert told[-1] == pytest.approx(1)
    assert told == sorted(told)


def test_channels_are_denoised_one_by_one(rng):
    counts = rng.poisson(rates(4, 20)[:, :, None] * [1, 0.5, 0.2])
    estimate = denoise_counts(counts, peak=4)
    assert estimate.shape == (20, 20, 3)
    np.testing.assert_allclose(estimate[:, :, 1], denoise_counts(counts[:, :, 1], peak=4), rtol=1e-5)


@pytest.mark.parametrize(("peak", "bound"), [(0.3, 1), (1.3, 1), (1.5, 2), (2.9, 4), (40.0, 4)])
def test_the_nearest_peak_is_taken_on_a_logarithmic_scale(peak, bound):
    assert network_for_peak(peak).residual_bound == bound


@pytest.mark.parametrize(
    ("counts", "peak", "message"),
    [
        (np.full((12, 12), -1), 1, "y: expected counts of at least 0"),
        (np.full((12, 12), 0.5), 1, "y: expected whole numbers"),
        (np.full((12, 12), np.nan), 1, "y: expected finite counts"),
        (np.ones((12, 12, 2)), 1, r"counts: expected real numbers of shape \(h, w\) or \(h, w, 3\)"),
        (np.ones((12, 8)), 1, r"y: expected signals of at least the kernel's size \(11, 11\)"),
        (np.ones((12, 12)), 0, "peak: expected a finite number above 0"),
    ],
)
def test_what_is_wrong_is_named(counts, peak, message):
    with pytest.raises(ValueError, match=message):
        denoise_counts(counts, peak=peak)
