"""Correlated noise in the dictionary denoiser: whitened patches, the pilot image, and the result."""

import warnings

import numpy as np
import pytest
import torch
from skimage import data

import calepin
from calepin.core.errors import IncompatibleError
from calepin.datasets import CorrelatedNoise, GaussianNoise, add_noise
from calepin.imaging import DictionaryDenoiser
from calepin.imaging.whitening import Whitening, covariances, noise_of_planes, window_estimate

LINE = CorrelatedNoise.from_kernel(16 - np.abs(np.arange(-15, 16.0))[None], sigma=0.14)
GRAIN = CorrelatedNoise.from_kernel(np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]), sigma=0.1)
CLEAN = data.camera()[60:156, 180:276] / 255
COLOUR = data.astronaut()[60:124, 150:214] / 255


def error(image, clean=CLEAN):
    return float(np.sqrt(np.mean((image - clean) ** 2)))


def test_whitened_patches_of_noise_are_white():
    noise = CorrelatedNoise.from_kernel(np.ones((2, 3)) + np.eye(2, 3), sigma=1.0)
    drawn = add_noise(np.zeros((300, 300)), noise)[None].astype(np.float32)
    whitening = Whitening.of(np.zeros_like(drawn), covariances([noise], 5))
    patches = whitening.samples(drawn, 20_000, np.random.default_rng(0))
    eigenvalues = np.linalg.eigvalsh(np.cov(patches, rowvar=False))
    assert eigenvalues.min() > 0.75
    assert eigenvalues.max() < 1.3


def test_whitening_can_be_undone():
    whitening = Whitening.of(np.zeros((1, 8, 8)), covariances([GRAIN], 4))
    np.testing.assert_allclose(whitening.forward[0] @ whitening.backward[0], np.eye(16), atol=1e-3)
    atoms = np.random.default_rng(0).standard_normal((5, 16)).astype(np.float32)
    undone = whitening.unwhitened(whitening.atoms(atoms))
    expected = np.concatenate([np.ones((1, 16)), atoms[:4]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(undone, expected, atol=1e-3)


@pytest.mark.parametrize("shape", [(50, 37), (16, 16), (33, 100)])
def test_the_pilot_keeps_what_noise_does_not_explain(shape):
    ramp = 200 + 50 * np.add.outer(np.arange(shape[0]), 2.0 * np.arange(shape[1]))
    noise = noise_of_planes(GRAIN, 1)
    found = window_estimate(ramp[None].astype(np.float32), noise)[0]
    assert found.shape == shape
    assert error(found, ramp) < 1


@pytest.mark.parametrize("noise", [LINE, GRAIN], ids=["lines", "grain"])
def test_the_density_gains_what_a_level_alone_does_not(noise):
    noisy = add_noise(CLEAN, noise)
    aware = calepin.denoise(noisy, noise=noise).image
    blind = calepin.denoise(noisy, noise=GaussianNoise(noise.sigma)).image
    assert error(aware) < 0.6 * error(noisy)
    assert error(aware) < 0.7 * error(blind)


def test_a_constant_density_does_as_well_as_white_noise():
    noisy = add_noise(CLEAN, GaussianNoise(0.1))
    white = calepin.denoise(noisy, noise=GaussianNoise(0.1)).image
    constant = calepin.denoise(noisy, noise=CorrelatedNoise(np.full((96, 96), 0.01))).image
    assert error(constant) < 1.05 * error(white)


def test_the_units_of_the_image_do_not_matter():
    noisy = add_noise(CLEAN, GRAIN)
    found = calepin.denoise(noisy, noise=GRAIN)
    scaled = calepin.denoise(1000 * noisy, noise=CorrelatedNoise(1e6 * GRAIN.psd))
    np.testing.assert_allclose(scaled.image, 1000 * found.image, rtol=1e-3, atol=5)
    assert found.noise is GRAIN
    np.testing.assert_allclose(np.linalg.norm(found.atoms, axis=1), 1, rtol=1e-4)
    assert found.atoms.shape == (256, 64)
    assert len(found.history) == 5


def test_any_number_of_threads_gives_the_same_bits():
    noisy, found, before = add_noise(CLEAN, LINE), [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(calepin.denoise(noisy, noise=LINE).image)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("own", [False, True], ids=["one density", "a density for each channel"])
def test_colour(own):
    noise = CorrelatedNoise(GRAIN.psd[..., None] * [0.2, 1.0, 1.8]) if own else GRAIN
    noisy = add_noise(COLOUR, noise)
    found = calepin.denoise(noisy, noise=noise).image
    assert found.shape == COLOUR.shape
    assert error(found, COLOUR) < 0.65 * error(noisy, COLOUR)


def test_noise_of_nothing_returns_the_image():
    noise = CorrelatedNoise(np.zeros((8, 8)))
    np.testing.assert_array_equal(calepin.denoise(CLEAN, noise=noise).image, CLEAN)


def test_a_density_in_other_units_is_told():
    psd = np.full((96, 96), 0.01 * 96 * 96)  # as bm3d takes it
    with pytest.warns(UserWarning, match="psd: its noise is [0-9.]+ times as strong as the whole image"):
        DictionaryDenoiser(group_passes=0).denoise(CLEAN, CorrelatedNoise(psd))


@pytest.mark.parametrize("method", ["network", "best"])
def test_other_methods_refuse(method):
    with pytest.raises(IncompatibleError, match="noise: "):
        calepin.denoise(CLEAN, method=method, noise=GRAIN)


def test_densities_of_channels_need_a_colour_image():
    with pytest.raises(ValueError, match=r"psd: expected shape \(a, b\) for an image of shape \(96, 96\)"):
        calepin.denoise(CLEAN, noise=CorrelatedNoise(np.ones((8, 8, 3))))


@pytest.mark.parametrize(("ratio", "of_drawing"), [(1000, 0.8), (3000, 0.97)])
def test_at_high_contrast_the_result_is_no_worse_than_the_image(ratio, of_drawing):
    """Errors of the estimate are larger than the noise in a photograph, but not in a drawing."""
    drawing = ((np.add.outer(np.arange(64), np.arange(64)) // 20) % 2).astype(float)
    noise = CorrelatedNoise(GRAIN.psd * (1 / ratio / GRAIN.sigma) ** 2)
    for clean, most in ((data.camera()[100:164, 150:214] / 255, 1.01), (drawing, of_drawing)):
        noisy = add_noise(clean, noise, random_state=1)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = calepin.denoise(noisy, noise=noise).image
        assert np.std(found - clean) < most * noise.sigma
        if most > 1:
            (warning,) = told
            assert "of what would be removed is kept as detail" in str(warning.message)
