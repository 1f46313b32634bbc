"""Denoising: what it promises on a photograph, and what it says about bad input."""

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

import calepin
from calepin.imaging.by_dictionary import OPPONENT, STAGES

SIGMA = 25 / 255


def camera(size: int = 128) -> np.ndarray:
    return data.camera()[60 : 60 + size, 180 : 180 + size] / 255


def noisy(clean: np.ndarray, sigma: float = SIGMA, seed: int = 0) -> np.ndarray:
    return clean + np.random.default_rng(seed).normal(0, sigma, clean.shape)


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(peak_signal_noise_ratio(clean, np.clip(image, 0, 1), data_range=1))


@pytest.fixture(scope="module")
def photograph() -> tuple[np.ndarray, np.ndarray]:
    clean = camera()
    return clean, noisy(clean)


def test_the_dictionary_alone_gains_most_and_groups_gain_more(photograph):
    clean, y = photograph
    alone = calepin.denoise(y, sigma=SIGMA, group_passes=0)
    full = calepin.denoise(y, sigma=SIGMA)
    assert psnr(alone.image, clean) > psnr(y, clean) + 7.5
    assert psnr(full.image, clean) > psnr(alone.image, clean) + 0.1


def test_learning_on_the_noisy_image_finds_what_no_shipped_dictionary_knows():
    glyph = np.random.default_rng(3).random((8, 8))
    clean = np.tile(glyph, (16, 16))
    y = noisy(clean)
    shipped = calepin.denoise(y, sigma=SIGMA, n_iter=0, group_passes=0)
    learned = calepin.denoise(y, sigma=SIGMA, group_passes=0)
    assert psnr(learned.image, clean) > psnr(shipped.image, clean) + 3
    assert len(learned.history) == 5
    assert shipped.history == []


@pytest.mark.parametrize("rule", ["mod", "online"])
def test_every_rule_denoises(photograph, rule):
    clean, y = photograph
    result = calepin.denoise(y, sigma=SIGMA, rule=rule, group_passes=0, n_iter=2)
    assert psnr(result.image, clean) > psnr(y, clean) + 7


@pytest.mark.parametrize(("level", "gain"), [(5, 2.5), (100, 11.0)])
def test_weak_and_strong_noise_are_removed(level, gain):
    clean = camera()
    y = noisy(clean, level / 255)
    assert psnr(calepin.denoise(y, sigma=level / 255).image, clean) > psnr(y, clean) + gain


def test_the_estimated_noise_level_costs_little(photograph):
    clean, y = photograph
    result = calepin.denoise(y)
    assert result.sigma == pytest.approx(SIGMA, rel=0.1)
    assert psnr(result.image, clean) > psnr(calepin.denoise(y, sigma=SIGMA).image, clean) - 0.3


def test_colour_is_denoised_better_together_than_channel_by_channel():
    clean = data.astronaut()[:96, 160:256] / 255
    y = noisy(clean)
    together = calepin.denoise(y, sigma=SIGMA).image
    apart = np.stack([calepin.denoise(y[..., c], sigma=SIGMA).image for c in range(3)], axis=2)
    assert together.shape == clean.shape
    assert psnr(together, clean) > psnr(apart, clean) + 1


def test_the_opponent_transform_keeps_white_noise_white():
    np.testing.assert_allclose(OPPONENT @ OPPONENT.T, np.eye(3), atol=1e-15)


@pytest.mark.parametrize("shape", [(70, 90), (64, 64, 3)])
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(shape):
    y = noisy(np.random.default_rng(1).random(shape[2:] or ()) * np.ones(shape), 0.1)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(calepin.denoise(y, sigma=0.1, random_state=4))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0].image, results[1].image)
    np.testing.assert_array_equal(results[0].atoms, results[1].atoms)


def test_the_units_of_the_image_do_not_matter(photograph):
    _, y = photograph
    scaled = calepin.denoise(255 * y[:64, :64], sigma=25.0).image
    np.testing.assert_allclose(scaled / 255, calepin.denoise(y[:64, :64], sigma=SIGMA).image, atol=2e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_input_are_kept(photograph, dtype):
    y = photograph[1][:40, :40].astype(dtype)
    before = y.copy()
    result = calepin.denoise(y, sigma=SIGMA, n_atoms=64)
    assert result.image.dtype == dtype
    assert result.atoms.shape == (64, 64)
    np.testing.assert_allclose(np.linalg.norm(result.atoms, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("patch_size", [5, 12])
def test_other_patch_sizes_start_from_cosines(photograph, patch_size):
    clean, y = photograph
    result = calepin.denoise(y, sigma=SIGMA, patch_size=patch_size, n_atoms=300, n_iter=2)
    assert result.atoms.shape == (300, patch_size**2)
    assert psnr(result.image, clean) > psnr(y, clean) + 7.5


def test_progress_is_told_in_order_and_ends_at_one(photograph):
    told: list[tuple[str, float]] = []
    calepin.denoise(
        photograph[1][:40, :40], sigma=SIGMA, callback=lambda stage, part: told.append((stage, part))
    )
    positions = [STAGES.index(stage) + part for stage, part in told]
    assert positions == sorted(positions)
    assert [part for stage, part in told if stage == STAGES[-1]][-1] == 1
    assert {stage for stage, _ in told} == set(STAGES)


def test_a_constant_image_stays_what_it_is():
    flat = np.full((40, 50), 0.3)
    np.testing.assert_array_equal(calepin.denoise(flat).image, flat)
    np.testing.assert_allclose(calepin.denoise(flat, sigma=SIGMA).image, flat, atol=1e-5)
    np.testing.assert_array_equal(calepin.denoise(flat + 0.1, sigma=0).image, flat + 0.1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((40, 40), dtype=np.uint8), "image: expected floating-point numbers"),
        (np.zeros((40, 40), dtype=complex), "image: expected floating-point numbers"),
        (np.zeros((40, 40, 2)), r"image: expected shape \(h, w\) or \(h, w, 3\)"),
        (np.zeros(40), r"image: expected shape \(h, w\) or \(h, w, 3\)"),
        (np.zeros((0, 40)), "image: expected at least 16 pixels a side"),
        (np.zeros((7, 40)), "image: expected at least 16 pixels a side"),
        (np.where(np.eye(40) == 1, np.nan, 0.5), "image: expected finite values, got 40 NaN"),
        (np.full((40, 40), np.inf), "image: expected finite"),
    ],
)
def test_bad_images_are_named(image, message):
    with pytest.raises(ValueError, match=message):
        calepin.denoise(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -1.0}, "sigma: expected a number >= 0 or None"),
        ({"sigma": np.nan}, "sigma: expected a number >= 0 or None"),
        ({"sigma": "auto"}, "sigma: expected a number >= 0 or None"),
        ({"patch_size": 1}, "patch_size: expected an integer of at least 2"),
        ({"patch_size": 50}, "image: expected at least 50 pixels a side"),
        ({"n_atoms": 0}, "n_atoms: expected an integer of at least 1"),
        ({"rule": "noodl"}, "rule: expected one of"),
        ({"n_iter": -1}, "n_iter: expected an integer of at least 0"),
        ({"group_passes": 4}, "group_passes: expected at most 3"),
        ({"random_state": "x"}, "random_state"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        calepin.denoise(np.zeros((40, 40)), **options)
