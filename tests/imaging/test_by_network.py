"""Denoising by a trained network: what it promises on a photograph, and what it says about bad input."""

import numpy as np
import pytest
import torch
from skimage import data

import calepin
from calepin.imaging import by_network as learned
from calepin.likelihoods import Poisson
from calepin.metrics import psnr
from calepin.networks import UnfoldedAutoencoder, pretrained
from calepin.penalties import L1, NonNegativeL1

SIGMA = 25 / 255


def noisy(clean: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    return clean + np.random.default_rng(0).normal(0, sigma, clean.shape)


@pytest.fixture(scope="module")
def photograph() -> tuple[np.ndarray, np.ndarray]:
    clean = data.camera()[60:156, 180:276] / 255
    return clean, noisy(clean)


def small_network(**settings) -> UnfoldedAutoencoder:
    atoms = 0.3 * torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    return UnfoldedAutoencoder(atoms, L1(0.05), stride=2, n_unfold=3, **settings)


def test_the_shipped_network_denoises_and_shifts_help(photograph):
    clean, y = photograph
    one, all_shifts = (
        calepin.denoise_with("bsd-gaussian", y, sigma=SIGMA, n_shifts=n).image for n in (1, None)
    )
    assert psnr(one, clean) > psnr(y, clean) + 7
    assert psnr(all_shifts, clean) > psnr(one, clean) + 0.2


@pytest.mark.parametrize("level", [15, 50])
def test_other_levels_of_noise_are_scaled_to_the_one_the_network_knows(photograph, level):
    clean, _ = photograph
    sigma = level / 255
    y = noisy(clean, sigma)
    network = pretrained("bsd-gaussian")
    scaled = psnr(calepin.denoise_with(network, y, sigma=sigma, n_shifts=2).image, clean)
    network.card = {}
    assert scaled > psnr(calepin.denoise_with(network, y, sigma=sigma, n_shifts=2).image, clean) + 0.5


def test_the_units_of_an_image_do_not_matter(photograph):
    _, y = photograph
    expected = calepin.denoise_with("bsd-gaussian", y, sigma=SIGMA, n_shifts=1).image
    moved = calepin.denoise_with("bsd-gaussian", 255 * y - 40, sigma=25, n_shifts=1).image
    np.testing.assert_allclose((moved + 40) / 255, expected, atol=1e-5)


def test_the_level_is_estimated_where_it_is_not_given(photograph):
    _, y = photograph
    result = calepin.denoise_with("bsd-gaussian", y, n_shifts=1)
    assert result.sigma == pytest.approx(SIGMA, rel=0.15)
    given = calepin.denoise_with("bsd-gaussian", y, sigma=result.sigma, n_shifts=1)
    np.testing.assert_array_equal(result.image, given.image)


def test_tiles_leave_no_seams(photograph, monkeypatch):
    _, y = photograph
    y = np.tile(y, (3, 2))[:-5, :-3]
    network = pretrained("bsd-gaussian")
    whole = calepin.denoise_with(network, y, sigma=SIGMA, n_shifts=1).image
    monkeypatch.setattr(learned, "TILE", 100)
    tiled = calepin.denoise_with(network, y, sigma=SIGMA, n_shifts=1).image
    np.testing.assert_allclose(tiled, whole, atol=1e-3)


def test_colour_depth_and_progress(photograph):
    clean = data.astronaut()[100:140, 200:250] / 255
    y = noisy(clean).astype(np.float32)
    heard = []
    result = calepin.denoise_with("bsd-gaussian", y, sigma=SIGMA, callback=heard.append)
    assert (result.image.shape, result.image.dtype) == (y.shape, np.float32)
    assert psnr(result.image, clean) > psnr(y, clean) + 7
    assert heard == sorted(heard)
    assert heard[-1] == 1
    np.testing.assert_allclose(np.linalg.norm(result.atoms, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(calepin.denoise_with("bsd-gaussian", y, sigma=0).image, y)


def test_a_network_from_a_file_is_the_network(tmp_path, photograph):
    _, y = photograph
    network = small_network(local_mean=9)
    network.save(tmp_path / "mine.safetensors", card={"sigma": SIGMA})
    loaded = calepin.denoise_with(tmp_path / "mine.safetensors", y, sigma=SIGMA)
    np.testing.assert_array_equal(loaded.image, calepin.denoise_with(network, y, sigma=SIGMA).image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "dncnn"}, "model: expected PATH.safetensors or one of bsd-gaussian"),
        (
            {"image": np.zeros((8, 30))},
            r"image: expected at least the kernel's \(9, 9\) pixels, got \(8, 30\)",
        ),
        ({"image": np.zeros((30, 30), dtype=int)}, "image: expected floating-point numbers"),
        ({"image": np.full((30, 30), np.nan)}, "image: expected finite numbers"),
        ({"sigma": -1.0}, "sigma: expected a finite number of at least 0"),
        ({"n_shifts": 17}, "n_shifts: expected 1 to 16, or None, got 17"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"model": "bsd-gaussian", "image": np.zeros((30, 30)), "sigma": 0.1} | change
    with pytest.raises(ValueError, match=message):
        calepin.denoise_with(arguments.pop("model"), arguments.pop("image"), **arguments)


def test_networks_for_other_data_are_refused(tmp_path):
    counts = UnfoldedAutoencoder(torch.ones(2, 1, 3, 3), NonNegativeL1(0.1), likelihood=Poisson(), step=0.1)
    volumes = UnfoldedAutoencoder(torch.ones(2, 1, 3, 3, 3), L1(0.1))
    for network in (counts, volumes):
        with pytest.raises(ValueError, match="model: expected a network for gray images and Gaussian data"):
            calepin.denoise_with(network, np.zeros((30, 30)), sigma=0.1)
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        calepin.denoise_with(tmp_path / "nowhere.safetensors", np.zeros((30, 30)), sigma=0.1)
