"""Denoising by a dictionary: what it promises on a photograph, and what it says about bad input."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

import calepin
from calepin.datasets import CorrelatedNoise, GaussianNoise, VaryingGaussianNoise
from calepin.imaging import DenoiseResult, DictionaryDenoiser

SIGMA = 25 / 255


def camera(size: int = 128) -> np.ndarray:
    return data.camera()[60 : 60 + size, 180 : 180 + size] / 255


def noisy(clean: np.ndarray, sigma: float = SIGMA, seed: int = 0) -> np.ndarray:
    return clean + np.random.default_rng(seed).normal(0, sigma, clean.shape)


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(peak_signal_noise_ratio(clean, np.clip(image, 0, 1), data_range=1))


def denoise(y: np.ndarray, sigma: float | None = SIGMA, *, seed: int = 0, **settings) -> DenoiseResult:
    noise = None if sigma is None else GaussianNoise(sigma)
    return calepin.denoise(y, method=DictionaryDenoiser(**settings), noise=noise, random_state=seed)


@pytest.fixture(scope="module")
def photograph() -> tuple[np.ndarray, np.ndarray]:
    clean = camera()
    return clean, noisy(clean)


def test_the_dictionary_alone_gains_most_and_groups_gain_more(photograph):
    clean, y = photograph
    alone = denoise(y, group_passes=0)
    full = denoise(y)
    assert psnr(alone.image, clean) > psnr(y, clean) + 7.5
    assert psnr(full.image, clean) > psnr(alone.image, clean) + 0.1


def test_learning_on_the_noisy_image_finds_what_no_shipped_dictionary_knows():
    glyph = np.random.default_rng(3).random((8, 8))
    clean = np.tile(glyph, (16, 16))
    y = noisy(clean)
    shipped = denoise(y, n_iter=0, group_passes=0)
    learned = denoise(y, group_passes=0)
    assert psnr(learned.image, clean) > psnr(shipped.image, clean) + 3
    assert len(learned.history) == 5
    assert shipped.history == []


@pytest.mark.parametrize("rule", ["mod", "online"])
def test_every_rule_denoises(photograph, rule):
    clean, y = photograph
    result = denoise(y, rule=rule, group_passes=0, n_iter=2)
    assert psnr(result.image, clean) > psnr(y, clean) + 7


@pytest.mark.parametrize(("level", "gain"), [(5, 2.5), (100, 11.0)])
def test_weak_and_strong_noise_are_removed(level, gain):
    clean = camera()
    y = noisy(clean, level / 255)
    assert psnr(denoise(y, level / 255).image, clean) > psnr(y, clean) + gain


def test_the_estimated_noise_level_costs_little(photograph):
    clean, y = photograph
    result = denoise(y, None)
    assert result.sigma == pytest.approx(SIGMA, rel=0.1)
    assert psnr(result.image, clean) > psnr(denoise(y).image, clean) - 0.3


def test_colour_is_denoised_better_together_than_channel_by_channel():
    clean = data.astronaut()[:96, 160:256] / 255
    y = noisy(clean)
    together = denoise(y).image
    apart = np.stack([denoise(y[..., c]).image for c in range(3)], axis=2)
    assert together.shape == clean.shape
    assert psnr(together, clean) > psnr(apart, clean) + 1


@pytest.mark.parametrize("shape", [(70, 90), (64, 64, 3)])
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(shape):
    y = noisy(np.random.default_rng(1).random(shape[2:] or ()) * np.ones(shape), 0.1)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(denoise(y, 0.1, seed=4))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0].image, results[1].image)
    np.testing.assert_array_equal(results[0].atoms, results[1].atoms)


def test_the_units_of_the_image_do_not_matter(photograph):
    _, y = photograph
    scaled = denoise(255 * y[:64, :64], 25.0).image
    np.testing.assert_allclose(scaled / 255, denoise(y[:64, :64]).image, atol=2e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_input_are_kept(photograph, dtype):
    y = photograph[1][:40, :40].astype(dtype)
    before = y.copy()
    result = denoise(y, n_components=64)
    assert result.image.dtype == dtype
    assert result.atoms.shape == (64, 64)
    np.testing.assert_allclose(np.linalg.norm(result.atoms, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("patch_size", [5, 12])
def test_other_patch_sizes_start_from_cosines(photograph, patch_size):
    clean, y = photograph
    result = denoise(y, patch_size=patch_size, n_components=300, n_iter=2)
    assert result.atoms.shape == (300, patch_size**2)
    assert psnr(result.image, clean) > psnr(y, clean) + 7.5


@pytest.mark.parametrize("group_passes", [1, 3])
def test_progress_is_reported_in_order_and_ends_at_one(photograph, group_passes):
    heard: list[tuple[str, float]] = []
    calepin.denoise(
        photograph[1][:40, :40],
        method=DictionaryDenoiser(group_passes=group_passes),
        noise=GaussianNoise(SIGMA),
        callback=lambda stage, fraction: heard.append((stage, fraction)),
    )
    fractions = [fraction for _, fraction in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    stages = list(dict.fromkeys(stage for stage, _ in heard))
    assert stages == ["learn", "code", "group 1", "group 2", "group 3"][: 2 + group_passes]


def test_a_constant_image_stays_what_it_is():
    flat = np.full((40, 50), 0.3)
    with pytest.warns(UserWarning, match="estimated as 0"):
        np.testing.assert_array_equal(denoise(flat, None).image, flat)
    np.testing.assert_allclose(denoise(flat).image, flat, atol=1e-5)
    np.testing.assert_array_equal(denoise(flat + 0.1, 0.0).image, flat + 0.1)


@pytest.mark.parametrize(
    ("shape", "patch_size", "message"),
    [
        ((0, 40), 8, "image: expected at least 16 x 16 pixels, got 0 x 40"),
        ((40, 7), 8, "image: expected at least 16 x 16 pixels, got 40 x 7"),
        ((40, 40), 50, "image: expected at least 50 x 50 pixels"),
    ],
)
def test_small_images_are_refused(shape, patch_size, message):
    with pytest.raises(ValueError, match=message):
        denoise(np.zeros(shape), patch_size=patch_size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": 1}, "patch_size: expected an integer of at least 2"),
        ({"n_components": 0}, "n_components: expected a positive integer"),
        ({"n_components": 64.0}, "n_components: expected a positive integer"),
        ({"rule": "noodl"}, "rule: expected one of 'ksvd', 'mod', 'online', got 'noodl'"),
        ({"n_iter": -1}, "n_iter: expected an integer of at least 0"),
        ({"group_passes": 9}, "group_passes: expected an integer from 0 to 8"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DictionaryDenoiser(**settings)


@pytest.mark.parametrize("noise", [GaussianNoise(0.1, 0.2), 0.1])
def test_other_noise_is_refused_with_the_way_out(noise):
    with pytest.raises(
        calepin.IncompatibleError, match=r"noise: DictionaryDenoiser removes Gaussian .* PoissonNoise\(\)"
    ) as caught:
        calepin.denoise(np.ones((40, 40)), noise=noise)
    assert "\n" not in str(caught.value)


def test_a_patch_that_is_not_sparse_is_not_worsened():
    """Texture far above the noise needs more atoms than a patch may have."""
    clean = data.page()[20:84, 100:164] / 255
    y = noisy(clean, 0.5 / 255)
    for group_passes in (0, 3):
        assert psnr(denoise(y, 0.5 / 255, group_passes=group_passes).image, clean) > psnr(y, clean) + 0.1


@pytest.mark.parametrize("n_components", [1, 20])
def test_few_atoms_denoise_too(photograph, n_components):
    clean, y = photograph
    assert psnr(denoise(y, n_components=n_components).image, clean) > psnr(y, clean) + 7


@pytest.mark.parametrize(("sigma", "offset"), [(1e-5, 0), (1e-7, 0), (1e-5, 2000)])
def test_noise_beyond_single_precision_is_left(photograph, sigma, offset):
    y = noisy(photograph[0][:40, :40] + offset, sigma)
    with pytest.warns(
        UserWarning, match="the noise is too weak for the contrast of the image in single precision"
    ):
        np.testing.assert_array_equal(denoise(y, sigma).image, y)


@pytest.mark.filterwarnings("ignore:the network fits this image nowhere")
@pytest.mark.parametrize("method", ["dictionary", "best"])
@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3)])
def test_a_few_saturated_pixels_are_no_obstacle(method, shape):
    """A field of stars, two of which are ten thousand times the noise."""
    rng = np.random.default_rng(0)
    clean = np.full(shape, 1000.0)
    clean[20:24, 30:34], clean[50, 12] = 65000, 40000
    y = clean + rng.normal(0, 6, shape)
    with pytest.warns(UserWarning, match="more than 2048 times the noise from the median, and stay"):
        found = calepin.denoise(y, noise=GaussianNoise(6.0), method=method).image
    near = clean == 1000
    np.testing.assert_array_equal(found[~near], y[~near])
    assert np.std(found[near] - 1000) < 2


@pytest.mark.filterwarnings("ignore:0.0[0-9]+ of the samples are more than 2048 times")
@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3)])
def test_many_hot_pixels_cost_the_others_little(photograph, shape):
    rng = np.random.default_rng(0)
    clean = np.broadcast_to(
        photograph[0][:64, :64].T if len(shape) == 2 else photograph[0][:64, :64, None], shape
    )
    y = clean + rng.normal(0, 0.1, shape)
    hot = rng.random(shape) < 0.09
    found = calepin.denoise(np.where(hot, 1e4, y), noise=GaussianNoise(0.1), method="dictionary").image
    without = calepin.denoise(y, noise=GaussianNoise(0.1), method="dictionary").image
    assert np.std((found - clean)[~hot]) < 1.15 * np.std((without - clean)[~hot])


def test_an_offset_is_no_obstacle(photograph):
    clean = 100 + photograph[0]
    y = noisy(clean)
    assert np.mean((denoise(y).image - clean) ** 2) < 0.2 * np.mean((y - clean) ** 2)


def stripes_of_noise(shape) -> np.ndarray:
    """Return levels of noise that differ by eight between the halves of an image."""
    level = np.full(shape, 0.02)
    level[:, shape[1] // 2 :] = 0.16
    return level


def test_a_map_of_levels_is_better_than_one_level():
    clean = camera(64)
    level = stripes_of_noise(clean.shape)
    y = clean + level * np.random.default_rng(0).standard_normal(clean.shape)
    noise = VaryingGaussianNoise(level)
    result = calepin.denoise(y, noise=noise)
    assert (result.noise, result.sigma) == (noise, None)
    one = denoise(y, float(np.sqrt(np.mean(level**2))))
    for half in (slice(0, 32), slice(32, 64)):
        assert psnr(result.image[:, half], clean[:, half]) > psnr(y[:, half], clean[:, half]) + 2
    assert psnr(result.image, clean) > psnr(one.image, clean) + 0.3


def test_a_constant_map_is_one_level():
    y = noisy(camera(48))
    noise = VaryingGaussianNoise(np.full(y.shape, SIGMA))
    np.testing.assert_allclose(calepin.denoise(y, noise=noise).image, denoise(y).image, atol=2e-3)


def test_pixels_without_noise_stay():
    clean = camera(48)
    level = np.where(np.arange(48) < 24, 0.0, SIGMA) * np.ones((48, 1))
    y = clean + level * np.random.default_rng(0).standard_normal(clean.shape)
    found = calepin.denoise(y, noise=VaryingGaussianNoise(level)).image
    np.testing.assert_allclose(found[level == 0], clean[level == 0], atol=1e-6)
    assert psnr(found, clean) > psnr(y, clean) + 5


def test_each_channel_has_its_own_level():
    clean = data.astronaut()[:48, 160:208] / 255
    level = np.ones(clean.shape) * [0.02, 0.05, 0.15]
    y = clean + level * np.random.default_rng(0).standard_normal(clean.shape)
    found = calepin.denoise(y, noise=VaryingGaussianNoise(level)).image
    one = denoise(y, float(np.sqrt(np.mean(level**2)))).image
    assert psnr(found, clean) > psnr(y, clean) + 9
    assert psnr(found, clean) > psnr(one, clean) + 0.3


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (np.ones((8, 9)), r"sigma: expected shape \(40, 40\), as the image"),
        (np.ones(8), r"sigma: expected shape \(h, w\), \(h, w, 3\) or that of a stack"),
        (-np.ones((40, 40)), "sigma: expected finite real numbers of at least 0"),
        (np.full((40, 40), np.inf), "sigma: expected finite values"),
    ],
)
def test_bad_maps_are_named(sigma, message):
    with pytest.raises(ValueError, match=message):
        calepin.denoise(np.random.default_rng(0).random((40, 40)), noise=VaryingGaussianNoise(sigma))


def test_a_given_dictionary_starts_whatever_the_noise_is():
    """Without learning, the atoms of the result are the given ones; with it they come from them."""
    rng = np.random.default_rng(0)
    image = rng.normal(0.5, 0.1, (40, 40))
    atoms = rng.standard_normal((12, 25))
    own = DictionaryDenoiser(dictionary=atoms, n_iter=0, group_passes=0)
    assert (own.n_components, own.patch_size) == (12, 5)
    white = own.denoise(image, GaussianNoise(0.1), random_state=0)
    np.testing.assert_allclose(np.linalg.norm(white.atoms, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(white.atoms.mean(axis=1), 0, atol=1e-6)
    correlated = CorrelatedNoise.from_kernel(np.ones((1, 3)), sigma=0.1)
    assert own.denoise(image, correlated, random_state=0).atoms.shape == (12, 25)


@pytest.mark.parametrize(("level", "n_passes"), [(25, 3), (50, 3), (100, 5)])
def test_strong_noise_gets_more_passes(level, n_passes):
    clean = data.camera()[::2, ::2] / 255
    y = clean + np.random.default_rng(0).normal(0, level / 255, clean.shape)
    stages = []
    chosen = calepin.denoise(
        y,
        method=DictionaryDenoiser(n_iter=0),
        noise=GaussianNoise(level / 255),
        callback=lambda stage, fraction: stages.append(stage),
    )
    assert len({stage for stage in stages if stage.startswith("group")}) == n_passes
    three = denoise(y, level / 255, n_iter=0, group_passes=3)
    assert psnr(chosen.image, clean) >= psnr(three.image, clean) + (0.1 if level == 100 else -0.01)


@pytest.mark.parametrize("method", ["dictionary", "network", "best"])
def test_noise_too_weak_beside_that_of_others_is_told(method):
    level = np.full((48, 48), 0.1)
    level[:4, :4] = 100
    y = level * np.random.default_rng(0).standard_normal(level.shape)
    with pytest.warns(UserWarning, match="noise: 99.3% of the pixels keep theirs, .* below 3%"):
        result = calepin.denoise(y, method=method, noise=VaryingGaussianNoise(level))
    np.testing.assert_allclose(result.image[10:], y[10:], atol=1e-3)
