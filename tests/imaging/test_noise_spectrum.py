"""The density of the noise of an image, estimated from its flat windows."""

import warnings

import numpy as np
import pytest
from skimage import data

import calepin
from calepin.datasets import CorrelatedNoise, add_noise, load_sample
from calepin.imaging import DictionaryDenoiser, estimate_noise_psd

PHOTO = np.asarray(load_sample("camera").pixels, dtype=np.float64)
BLUR = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
DASHES = np.ones((1, 5))


def seen(noise: CorrelatedNoise, side: int = 32) -> np.ndarray:
    """Return the mean periodogram of the noise alone, as windows of this side see it."""
    windows = np.stack([add_noise(np.zeros((side, side)), noise, random_state=k) for k in range(400)])
    weights = np.outer(*2 * (np.hanning(side + 2)[1:-1],))
    return np.mean(np.abs(np.fft.fft2(weights * windows)) ** 2, axis=0) / np.sum(weights**2)


def far(side: int = 32) -> np.ndarray:
    """Return which frequencies are not among the lowest, where shading is."""
    k = np.rint(side * np.fft.fftfreq(side))
    return np.hypot(k[:, None], k) > 3


@pytest.mark.parametrize("sigma", [0.06, 0.14])
def test_white_noise_has_a_flat_density_on_a_photograph(sigma):
    noisy = add_noise(PHOTO, calepin.GaussianNoise(sigma), random_state=0)
    found = estimate_noise_psd(noisy)
    assert found.sigma == pytest.approx(sigma, rel=0.05)
    ratio = found.psd[far()] / sigma**2
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    assert ratio.std() < 0.15


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_alone_is_not_underestimated(seed):
    found = estimate_noise_psd(np.random.default_rng(seed).standard_normal((256, 256)))
    assert found.sigma == pytest.approx(1, rel=0.03)
    assert found.psd[:2, :2] == pytest.approx(1, abs=0.5)  # what the fitted planes took is given back
    assert found.psd[16, 16] == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("kernel", [DASHES, DASHES.T, BLUR])
def test_the_density_of_a_kernel_is_recovered_on_a_photograph(kernel):
    noise = CorrelatedNoise.from_kernel(kernel, sigma=0.1)
    found = estimate_noise_psd(add_noise(PHOTO, noise, random_state=1))
    assert found.sigma == pytest.approx(0.1, rel=0.1)
    expected = seen(noise)
    strong = far() & (expected > 0.1 * expected.mean())
    decibel = 10 * np.log10(found.psd[strong] / expected[strong])
    assert abs(decibel.mean()) < 0.5
    assert decibel.std() < 1
    assert np.abs(found.psd - expected)[far()].mean() < 0.2 * expected.mean()


def test_it_gains_most_of_what_the_true_density_gains():
    clean = PHOTO[128:272, 160:304]
    noise = CorrelatedNoise.from_kernel(np.ones((1, 9)), sigma=0.12)
    noisy = add_noise(clean, noise, random_state=2)

    def error(assumed) -> float:
        restored = calepin.denoise(noisy, method=DictionaryDenoiser(n_components=64), noise=assumed)
        return 10 * np.log10(np.mean((restored.image - clean) ** 2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few flat windows in so small an image
        found = estimate_noise_psd(noisy)
    estimated, given, white = error(found), error(noise), error(calepin.GaussianNoise(0.12))
    assert estimated < white - 2
    assert estimated < given + 0.5


def test_each_channel_has_its_density():
    noisy = data.astronaut()[:256, :256] / 255.0
    for c, kernel in enumerate((DASHES, DASHES.T, np.ones((1, 1)))):
        noise = CorrelatedNoise.from_kernel(kernel, sigma=0.05 * (c + 1))
        noisy[..., c] = add_noise(noisy[..., c], noise, random_state=c)
    found = estimate_noise_psd(noisy)
    assert found.psd.shape == (32, 32, 3)
    levels = np.sqrt(found.psd.mean(axis=(0, 1)))
    np.testing.assert_allclose(levels, [0.05, 0.1, 0.15], rtol=0.15)
    assert found.psd[16, 0, 0] > 10 * found.psd[0, 16, 0]
    assert found.psd[0, 16, 1] > 10 * found.psd[16, 0, 1]


def test_it_follows_the_units_and_the_axes_of_the_image():
    noisy = add_noise(PHOTO[:200, :180], CorrelatedNoise.from_kernel(DASHES, sigma=0.1), random_state=3)
    found = estimate_noise_psd(noisy).psd
    np.testing.assert_allclose(estimate_noise_psd(1000 * noisy + 70).psd, 1e6 * found, rtol=1e-6)
    np.testing.assert_allclose(estimate_noise_psd(noisy.astype(np.float32)).psd, found, rtol=1e-3)
    np.testing.assert_allclose(found, np.roll(found[::-1, ::-1], 1, axis=(0, 1)))
    assert (found > 0).all()


def test_a_small_image_has_smaller_windows():
    noisy = np.random.default_rng(0).standard_normal((48, 127))
    assert estimate_noise_psd(noisy).psd.shape == (16, 16)
    assert estimate_noise_psd(noisy).sigma == pytest.approx(1, rel=0.1)


def test_a_margin_and_clipped_areas_are_left_out():
    noise = CorrelatedNoise.from_kernel(BLUR, sigma=0.1)
    noisy = add_noise(PHOTO, noise, random_state=4).clip(0, 1)
    noisy[:, :150] = 0.5
    assert estimate_noise_psd(noisy).sigma == pytest.approx(0.1, rel=0.1)


def test_texture_everywhere_and_clipping_everywhere_are_told():
    grass = data.grass()[:256, :256] / 255.0
    lines = CorrelatedNoise.from_kernel(np.ones((1, 9)), sigma=0.05)
    with pytest.warns(UserWarning, match=r"may be wrong: only [0-9.]+ % of the windows .* are flat"):
        estimate_noise_psd(add_noise(grass, lines, random_state=0))
    dark = np.random.default_rng(0).standard_normal((128, 128)).clip(0)
    with pytest.warns(UserWarning, match="may be wrong: most windows of the image have constant or clipped"):
        estimate_noise_psd(dark)


def test_a_drawing_has_no_noise():
    drawing = np.zeros((128, 128))
    drawing[40:80, 40:80] = 1
    with pytest.warns(UserWarning, match="the estimated density of the noise may be wrong: it is 0"):
        assert estimate_noise_psd(drawing).sigma < 1e-12


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((40, 64)), r"image: expected shape .* with at least 48 pixels per side, got \(40, 64\)"),
        (np.ones((64, 64, 2)), r"image: expected shape .* got \(64, 64, 2\)"),
        (np.ones(64), "image: expected shape"),
        (np.ones((64, 64), dtype=np.uint8), "image: expected finite floating-point numbers, got uint8"),
        (np.full((64, 64), np.nan), "image: expected finite"),
        (np.ones((64, 64)), "image: expected noise, got a constant image or channel"),
        (np.ma.masked_less(np.ones((64, 64)), 0), "image: "),
    ],
)
def test_an_image_that_does_not_fit_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        estimate_noise_psd(image)
