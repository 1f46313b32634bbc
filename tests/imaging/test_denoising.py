"""One denoise: words are short for objects, and what calepin does not know works where it fits."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

import calepin
from calepin.datasets import GaussianNoise, Image, PoissonNoise, VaryingGaussianNoise, load_sample
from calepin.imaging import Denoiser, DenoiseResult, DictionaryDenoiser, NetworkDenoiser, denoise
from calepin.imaging.denoising import METHODS
from calepin.imaging.scenes import noisy_scene, observed_scene
from calepin.metrics import psnr
from calepin.restoration import GroupDenoiser, TVDenoiser, WaveletDenoiser


@pytest.fixture(scope="module")
def noisy():
    rows, columns = np.mgrid[:40, :40]
    clean = 0.5 + 0.3 * np.sin(rows / 9) * np.cos(columns / 7)
    return clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)


@dataclass(frozen=True)
class Smooth:
    """A method that calepin does not know: a Gaussian filter as wide as the noise is strong."""

    width: float = 10.0

    def denoise(self, image, noise, *, random_state, callback):
        level = noise.sigma if isinstance(noise, GaussianNoise) else noise.level
        if callback is not None:
            callback("smooth", 1.0)
        return DenoiseResult(ndimage.gaussian_filter(image, self.width * level), noise)


@dataclass(frozen=True)
class Uniform:
    """A noise model that calepin does not know."""

    level: float

    def __call__(self, x, generator):
        raise NotImplementedError

    def scale(self, x):
        return 1.0


def test_denoise_is_a_function_at_the_top_and_in_its_room():
    assert calepin.denoise is denoise
    assert callable(denoise)
    assert calepin.DenoiseResult is DenoiseResult


def test_words_are_short_for_the_defaults(noisy):
    noise = GaussianNoise(0.1)
    by_default, by_word = denoise(noisy, noise=noise), denoise(noisy, method="dictionary", noise=noise)
    given = denoise(noisy, method=DictionaryDenoiser(), noise=noise)
    np.testing.assert_array_equal(by_default.image, given.image)
    np.testing.assert_array_equal(by_word.image, given.image)
    by_word, given = (
        denoise(noisy, method=m, noise=noise) for m in ("network", NetworkDenoiser("bsd-gaussian"))
    )
    np.testing.assert_array_equal(by_word.image, given.image)


def test_the_seed_reaches_the_method(noisy):
    method, noise = DictionaryDenoiser(group_passes=0, n_components=300), GaussianNoise(0.1)
    one, again, other = (
        denoise(noisy, method=method, noise=noise, random_state=seed).atoms for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_method_that_calepin_does_not_know_denoises(noisy):
    assert isinstance(Smooth(), Denoiser)
    heard = []
    result = denoise(noisy, method=Smooth(), callback=lambda *told: heard.append(told))
    assert heard == [("smooth", 1.0)]
    assert result.sigma == pytest.approx(0.1, rel=0.2)
    np.testing.assert_array_equal(result.image, ndimage.gaussian_filter(noisy, 10 * result.sigma))


def test_a_noise_model_that_calepin_does_not_know_reaches_the_method(noisy):
    result = denoise(noisy, method=Smooth(), noise=Uniform(0.2))
    assert (result.noise, result.sigma) == (Uniform(0.2), None)
    np.testing.assert_array_equal(result.image, ndimage.gaussian_filter(noisy, 2.0))
    for method in ("dictionary", "network"):
        with pytest.raises(calepin.IncompatibleError, match="Uniform"):
            denoise(noisy, method=method, noise=Uniform(0.2))


@pytest.mark.parametrize("method", ["bm3d", 3, DictionaryDenoiser])
def test_what_is_no_method_is_named(noisy, method):
    with pytest.raises(
        ValueError, match="method: expected one of 'dictionary', 'network', 'best', or an object"
    ):
        denoise(noisy, method=method)


@pytest.mark.parametrize("noise", [None, GaussianNoise(0.1)])
def test_pixels_are_floating_point_numbers(noise):
    with pytest.raises(ValueError, match="image: expected floating-point numbers"):
        denoise(np.zeros((40, 40), dtype=int), noise=noise)


def test_a_level_cannot_be_estimated_from_a_few_pixels():
    with pytest.raises(ValueError, match="image: .* at least 16 pixels per side"):
        denoise(np.zeros((12, 40)))


def test_a_scene_of_counts_shows_them_in_the_unit_of_the_clean_image(rng):
    clean = Image(rng.random((20, 30)).astype(np.float32), bits=8)
    scene = noisy_scene(clean, PoissonNoise(4), random_state=3)
    np.testing.assert_array_equal(
        scene.observed, np.random.default_rng(3).poisson(clean.pixels.astype(float) / scene.unit)
    )
    assert scene.unit == float(clean.pixels.max()) / 4
    np.testing.assert_array_equal(scene.noisy.pixels, scene.unit * scene.observed)
    assert scene.noisy.bits == 16
    black = Image(np.zeros((20, 20)))
    with pytest.raises(ValueError, match="image: expected a pixel above 0"):
        noisy_scene(black, PoissonNoise(4))


def test_counts_are_read_from_the_samples_of_an_image():
    counts = np.arange(12.0).reshape(3, 4)
    image = Image((counts / 255).astype(np.float32), bits=8)
    scene = observed_scene(image, PoissonNoise(4))
    np.testing.assert_array_equal(scene.observed, counts)
    assert scene.unit == 1 / 4
    reference = Image(np.full((3, 4), 0.5))
    scene = observed_scene(image, PoissonNoise(4), reference=reference)
    assert scene.unit == 0.5 / 4
    assert scene.clean is reference.pixels
    with pytest.raises(ValueError, match="image: expected counts in 8 or 16 bits"):
        observed_scene(Image(image.pixels, bits=32), PoissonNoise(4))
    with pytest.raises(ValueError, match=r"reference: expected the image's shape \(3, 4\), got \(2, 2\)"):
        observed_scene(image, reference=Image(np.zeros((2, 2))))


@pytest.mark.parametrize(
    ("method", "noise", "expected"),
    [
        ("dictionary", GaussianNoise(25 / 255), 29.1516),
        ("dictionary", None, 28.9573),
        ("network", GaussianNoise(25 / 255), 29.2659),
        ("network", PoissonNoise(3.1), 23.6122),
    ],
)
def test_what_is_computed_stays(method, noise, expected):
    """PSNR in dB: a change of what is computed must be meant."""
    clean = load_sample("camera").pixels[60:140, 180:260].astype(np.float64)
    if isinstance(noise, PoissonNoise):
        clean = clean / clean.max() * noise.peak
        noisy = np.random.default_rng(1).poisson(clean)
    else:
        noisy = clean + np.random.default_rng(0).normal(0, 25 / 255, clean.shape)
    peak = noise.peak if isinstance(noise, PoissonNoise) else 1.0
    assert psnr(denoise(noisy, method=method, noise=noise).image, clean, data_range=peak) == pytest.approx(
        expected, abs=2e-3
    )


@pytest.mark.parametrize("axes", [None, "TYX"])
def test_levels_that_are_zero_everywhere_are_told_of(noisy, axes):
    noisy = noisy if axes is None else np.stack([noisy, noisy])
    with pytest.warns(UserWarning, match="^noise: sigma is 0 everywhere, so that no noise is removed$"):
        result = denoise(noisy, noise=VaryingGaussianNoise(np.zeros(noisy.shape)), axes=axes)
    np.testing.assert_array_equal(result.image, noisy)


def far_cases():
    clean = 255 * load_sample("camera").pixels[200:248, 180:228].astype(np.float64)
    colours = 255 * load_sample("cat").pixels[100:132, 150:182].astype(np.float64)
    methods = (None, "network", "best", GroupDenoiser(), WaveletDenoiser(), TVDenoiser())
    return [
        *((clean, {"method": method}) for method in methods),
        (colours, {}),
        (np.stack([clean[:32, :32]] * 4), {"axes": "TYX"}),
        (np.stack([colours] * 3), {"axes": "TYXS"}),
    ]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("case", range(9))
def test_an_offset_of_a_million_is_kept_and_changes_nothing_else(rng, case, known):
    clean, settings = far_cases()[case]
    noisy = clean + rng.normal(0, 20, clean.shape)
    noise = GaussianNoise(20.0) if known else None
    near = denoise(noisy, noise=noise, **settings)
    far = denoise(noisy + 1e6, noise=noise, **settings)
    assert far.noise == near.noise or far.sigma == pytest.approx(near.sigma, rel=1e-6)
    error = np.sqrt(np.mean((near.image - clean) ** 2))
    assert np.sqrt(np.mean((far.image - 1e6 - near.image) ** 2)) < 2e-3 * error
    coarse = denoise((noisy + 1e6).astype(np.float32), noise=noise, **settings)  # a sample is 1/16
    assert coarse.image.dtype == np.float32
    assert np.sqrt(np.mean((coarse.image - 1e6 - clean) ** 2)) < 1.02 * error


def test_gaps_of_a_stack_far_from_zero_are_filled(rng):
    clean = np.stack([255 * load_sample("camera").pixels[200:232, 180:212].astype(np.float64)] * 4)
    noisy = clean + rng.normal(0, 20, clean.shape)
    noisy[1, 4:9, 5:11] = np.nan
    with pytest.warns(UserWarning, match="of the samples are NaN"):
        near, far = (denoise(x, noise=GaussianNoise(20.0), axes="TYX").image for x in (noisy, noisy + 1e6))
    np.testing.assert_allclose(far - 1e6, near, atol=0.2)


def test_an_image_far_from_zero_without_noise_is_returned_as_it_is(rng):
    image = 1e6 + 255 * rng.random((32, 32))
    np.testing.assert_array_equal(denoise(image, noise=GaussianNoise(0.0)).image, image)


@pytest.mark.parametrize("contrast", [500, 1300, 2100, 6000])
def test_a_binary_image_with_hardly_any_noise_gains(contrast):
    """Products of its patches are a million times the noise and more: rounding once was amplified."""
    clean = (load_sample("camera").pixels[40:104, 140:204] > 0.5) * 1.0
    sigma = 1 / contrast
    noisy = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
    error = (denoise(noisy, noise=GaussianNoise(sigma)).image - clean) / sigma
    assert np.sqrt(np.mean(error**2)) < 0.6
    assert np.abs(error).max() < 5


@pytest.mark.parametrize("method", [*METHODS, "counts", "stack"])
@pytest.mark.parametrize("shape", [(32, 40), (32, 40, 3)])
def test_the_order_of_an_array_in_memory_changes_no_bit(rng, method, shape):
    image = (0.5 + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    settings = {"method": method}
    if method == "counts":
        image, settings = rng.poisson(4, shape), {"noise": PoissonNoise()}
    elif method == "stack":
        image, settings = np.stack([image] * 3), {"axes": "TYXS"[: image.ndim + 1]}
    expected = denoise(image, **settings)
    for same in (np.asfortranarray(image), np.repeat(image, 2, axis=1)[:, ::2]):
        assert not same.flags.c_contiguous
        found = denoise(same, **settings)
        assert np.array_equal(found.image, expected.image)
        assert found.sigma == expected.sigma
