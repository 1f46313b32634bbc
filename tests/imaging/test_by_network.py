"""Denoising by a trained network: what it promises on a photograph, and what it says about bad input."""

import numpy as np
import pytest
import torch
from skimage import data

import calepin
from calepin.datasets import GaussianNoise, PoissonNoise, VaryingGaussianNoise, load_sample
from calepin.imaging import (
    NETWORKS,
    DenoiseResult,
    GuidedDenoiser,
    NetworkDenoiser,
    load_network,
    network_planes,
)
from calepin.likelihoods import Poisson
from calepin.metrics import psnr
from calepin.networks import UnfoldedAutoencoder, UnfoldedDenoiser, pretrained
from calepin.penalties import L1, NonNegativeL1

SIGMA = 25 / 255


def noisy(clean: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    return clean + np.random.default_rng(0).normal(0, sigma, clean.shape)


def denoise(y, sigma=SIGMA, *, callback=None, **settings) -> DenoiseResult:
    noise = None if sigma is None else GaussianNoise(sigma)
    return calepin.denoise(y, method=NetworkDenoiser(**settings), noise=noise, callback=callback)


@pytest.fixture(scope="module")
def photograph() -> tuple[np.ndarray, np.ndarray]:
    clean = data.camera()[60:156, 180:276] / 255
    return clean, noisy(clean)


def small_network(**settings) -> UnfoldedAutoencoder:
    atoms = 0.3 * torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    return UnfoldedAutoencoder(atoms, L1(0.05), stride=2, n_unfold=3, **settings)


def test_the_shipped_network_denoises_and_shifts_help(photograph):
    clean, y = photograph
    one, all_shifts = (denoise(y, n_shifts=n).image for n in (1, None))
    assert psnr(one, clean) > psnr(y, clean) + 7
    assert psnr(all_shifts, clean) > psnr(one, clean) + 0.2


@pytest.mark.parametrize("level", [5, 15, 50, 150])
def test_one_network_is_for_all_levels(photograph, level):
    clean, _ = photograph
    sigma = level / 255
    y = noisy(clean, sigma)
    gain = {5: 1.5, 15: 5, 50: 10, 150: 14}[level]
    assert psnr(denoise(y, sigma, fallback=False).image, clean) > psnr(y, clean) + gain


def test_a_network_for_one_level_gets_images_scaled_to_it(photograph):
    _, y = photograph
    network = small_network(local_mean=9)
    network.card = {"sigma": SIGMA}
    settings = {"model": network, "fallback": False}
    twice = denoise(2 * y, 2 * SIGMA, **settings).image
    np.testing.assert_allclose(twice, 2 * denoise(y, **settings).image, atol=1e-5)
    network.card = {}
    assert not np.allclose(denoise(2 * y, 2 * SIGMA, **settings).image, twice, atol=1e-3)


def test_levels_of_each_pixel_are_for_networks_of_all_levels(photograph):
    clean, _ = photograph
    sigma = np.where(np.arange(96) < 48, 10, 50) / 255 * np.ones((96, 1))
    y = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)
    noise = VaryingGaussianNoise(sigma)
    mapped = calepin.denoise(y, method="network", noise=noise).image
    alike = denoise(y, float(np.sqrt(np.mean(sigma**2)))).image
    assert psnr(mapped, clean) > psnr(alike, clean) + 1
    half = VaryingGaussianNoise(np.where(np.arange(96) < 48, 0, 50) / 255 * np.ones((96, 1)))
    mixed = np.where(half.sigma > 0, y, clean)
    for method in ("network", "best"):
        result = calepin.denoise(mixed, method=method, noise=half).image
        np.testing.assert_allclose(result[:, :48], clean[:, :48], atol=1e-6)
        assert psnr(result[:, 48:], clean[:, 48:]) > psnr(y[:, 48:], clean[:, 48:]) + 8
    one_level = NetworkDenoiser(small_network())
    with pytest.raises(calepin.IncompatibleError, match="noise: a network for one level of noise"):
        calepin.denoise(y, method=one_level, noise=noise)


def test_levels_that_vary_from_pixel_to_pixel_are_warned_of(photograph):
    clean, _ = photograph
    rng = np.random.default_rng(0)
    sigma = np.where(rng.random(clean.shape) < 0.5, 5, 50) / 255
    y, noise = clean + sigma * rng.standard_normal(clean.shape), VaryingGaussianNoise(sigma)
    with pytest.warns(UserWarning, match="the levels vary from pixel to pixel"):
        network = calepin.denoise(y, method="network", noise=noise).image
    assert psnr(calepin.denoise(y, method="best", noise=noise).image, clean) > psnr(network, clean) + 2


@pytest.mark.parametrize("method", ["network", "best"])
def test_each_channel_has_its_own_levels(method):
    clean = data.astronaut()[60:108, 150:198] / 255
    sigma = np.ones((48, 48, 1)) * [0.02, 0.05, 0.3]
    y = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)
    own = calepin.denoise(y, method=method, noise=VaryingGaussianNoise(sigma)).image
    for channel in range(3):
        gray = calepin.denoise(
            y[..., channel], method=method, noise=GaussianNoise(sigma[0, 0, channel])
        ).image
        assert psnr(own[..., channel], clean[..., channel]) > psnr(gray, clean[..., channel]) - 0.1


def test_the_units_of_an_image_do_not_matter(photograph):
    _, y = photograph
    expected = denoise(y, n_shifts=1).image
    moved = denoise(255 * y - 40, 25, n_shifts=1).image
    np.testing.assert_allclose((moved + 40) / 255, expected, atol=1e-5)


def test_the_level_is_estimated_where_it_is_not_given(photograph):
    _, y = photograph
    result = denoise(y, None, n_shifts=1)
    assert result.sigma == pytest.approx(SIGMA, rel=0.15)
    given = denoise(y, result.sigma, n_shifts=1)
    np.testing.assert_array_equal(result.image, given.image)


def test_tiles_leave_no_seams(photograph, monkeypatch):
    _, y = photograph
    y = np.tile(y, (3, 2))[:-5, :-3]
    network = pretrained("bsd-gaussian")
    whole = denoise(y, model=network, n_shifts=1).image
    monkeypatch.setattr(network_planes, "TILE", 100)
    tiled = denoise(y, model=network, n_shifts=1).image
    np.testing.assert_allclose(tiled, whole, atol=1e-3)


def test_colour_depth_and_progress(photograph):
    clean = data.astronaut()[100:140, 200:250] / 255
    y = noisy(clean).astype(np.float32)
    heard = []
    result = denoise(y, callback=lambda stage, fraction: heard.append(fraction))
    assert (result.image.shape, result.image.dtype) == (y.shape, np.float32)
    assert psnr(result.image, clean) > psnr(y, clean) + 7
    assert heard == sorted(heard)
    assert heard[-1] == 1
    np.testing.assert_allclose(np.linalg.norm(result.atoms, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(denoise(y, 0).image, y)


def test_a_network_from_a_file_is_the_network(tmp_path, photograph):
    _, y = photograph
    network = small_network(local_mean=9)
    network.save(tmp_path / "mine.safetensors", card={"sigma": SIGMA})
    loaded = denoise(y, model=tmp_path / "mine.safetensors", fallback=False)
    np.testing.assert_array_equal(loaded.image, denoise(y, model=network, fallback=False).image)


def test_the_shipped_networks_are_known_by_name():
    assert NETWORKS[0] == "bsd-gaussian"
    assert len(NETWORKS) == 7
    assert isinstance(load_network(NETWORKS[-1]).likelihood, Poisson)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "dncnn"}, "model: expected PATH.safetensors or one of bsd-gaussian"),
        ({"model": "vae-digits"}, "model: expected PATH.safetensors or one of bsd-gaussian"),
        ({"y": np.zeros((7, 30))}, "image: expected at least 8 x 8 pixels, got 7 x 30"),
        ({"n_shifts": 17}, "n_shifts: expected an integer from 1 to 4 or None, got 17"),
        ({"n_shifts": 0}, "n_shifts: expected a positive integer or None, got 0"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"y": np.zeros((30, 30)), "sigma": 0.1} | change
    with pytest.raises(ValueError, match=message):
        denoise(arguments.pop("y"), **arguments)


def test_networks_for_other_data_are_refused(tmp_path):
    counts = UnfoldedAutoencoder(
        torch.ones(2, 1, 3, 3), NonNegativeL1(0.1), likelihood=Poisson(), step_size=0.1
    )
    volumes = UnfoldedAutoencoder(torch.ones(2, 1, 3, 3, 3), L1(0.1))
    for network in (counts, volumes):
        with pytest.raises(ValueError, match="model: expected a network for gray images and Gaussian data"):
            denoise(np.zeros((30, 30)), model=network)
    with pytest.raises(ValueError, match="model: expected a network for gray images and Poisson data"):
        calepin.denoise(np.ones((30, 30)), method=NetworkDenoiser("bsd-gaussian"), noise=PoissonNoise(4))
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        denoise(np.zeros((30, 30)), model=tmp_path / "nowhere.safetensors")


def test_other_noise_is_refused():
    with pytest.raises(calepin.IncompatibleError, match="noise: NetworkDenoiser removes .* one level"):
        calepin.denoise(np.zeros((30, 30)), method="network", noise=GaussianNoise(0.1, 0.2))


def rates(peak, size=48):
    clean = load_sample("camera").pixels[200 : 200 + size, 200 : 200 + size]
    return clean / clean.max() * peak


def expected_counts(counts, peak, callback=None):
    return calepin.denoise(counts, method="network", noise=PoissonNoise(peak), callback=callback)


@pytest.mark.parametrize("peak", [1, 2, 4])
def test_most_of_the_noise_of_counts_goes(peak, rng):
    rate = rates(peak)
    counts = rng.poisson(rate)
    heard = []
    result = expected_counts(counts, peak, lambda stage, fraction: heard.append(fraction))
    assert np.mean((result.image - rate) ** 2) < 0.2 * np.mean((counts - rate) ** 2)
    assert (result.noise, result.sigma) == (PoissonNoise(peak), None)
    assert heard[-1] == pytest.approx(1)
    assert heard == sorted(heard)


def test_channels_of_counts_are_denoised_one_by_one(rng):
    counts = rng.poisson(rates(4, 20)[:, :, None] * [1, 0.5, 0.2])
    estimate = expected_counts(counts, 4).image
    assert estimate.shape == (20, 20, 3)
    np.testing.assert_allclose(estimate[:, :, 1], expected_counts(counts[:, :, 1], 4).image, rtol=1e-5)


def test_fewer_shifts_do_for_counts_too(rng):
    counts = rng.poisson(rates(4, 20))
    noise = PoissonNoise(4)
    one, two, every = (
        calepin.denoise(counts, method=NetworkDenoiser(n_shifts=n), noise=noise).image for n in (1, 2, 49)
    )
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(every, expected_counts(counts, 4).image)


def test_no_photons_at_all_are_denoised(rng):
    with pytest.warns(UserWarning, match="no network is shipped for counts of peak"):
        result = calepin.denoise(np.zeros((24, 24), int), method="network", noise=PoissonNoise())
    assert float(np.abs(result.image).max()) < 1e-3


def test_no_network_is_chosen_without_a_peak():
    with pytest.raises(ValueError, match="peak: expected a number, for which a network is chosen"):
        NetworkDenoiser().network(PoissonNoise())


@pytest.mark.parametrize(("peak", "bound"), [(0.5, 1), (1.3, 1), (1.5, 2), (2.9, 4), (40.0, 4)])
def test_the_nearest_peak_is_taken_on_a_logarithmic_scale(peak, bound):
    assert NetworkDenoiser().network(PoissonNoise(peak)).residual_bound == bound


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.full((12, 12), -1), "image: expected counts for PoissonNoise, whole numbers of at least 0"),
        (np.full((12, 12), 0.5), "image: expected counts for PoissonNoise, whole numbers of at least 0"),
        (np.full((12, 12), np.nan), "image: expected finite values"),
        (np.ones((12, 12, 2)), r"image: expected shape \(h, w\) or \(h, w, 3\)"),
        (np.ones((12, 8)), "image: expected at least 11 x 11 pixels, got 12 x 8"),
    ],
)
def test_what_is_wrong_with_counts_is_named(counts, message):
    with pytest.raises(ValueError, match=message):
        expected_counts(counts, 1)


CROPS = {
    "camera": data.camera()[60:108, 180:228] / 255,
    "page": data.page()[20:68, 100:148] / 255,
    "checkerboard": data.checkerboard()[30:78, 30:78] / 255,
    "gravel": data.gravel()[100:148, 100:148] / 255,
    "colour": data.astronaut()[60:92, 150:182] / 255,
    "white noise": np.random.default_rng(1).random((48, 48)),
}


@pytest.mark.filterwarnings("ignore:the network (removes more than the noise|fits this image nowhere)")
@pytest.mark.parametrize("unit", [1, 255])
@pytest.mark.parametrize("level", [0, 0.5, 2, 10, 25, 75, 100])
@pytest.mark.parametrize("method", ["network", "dictionary", "best"])
def test_no_result_is_worse_than_the_noisy_image(method, level, unit):
    for name in CROPS if unit == 1 else ["camera"]:
        clean, sigma = unit * CROPS[name], unit * level / 255
        y = noisy(clean, sigma)
        error = np.mean((calepin.denoise(y, method=method, noise=GaussianNoise(sigma)).image - clean) ** 2)
        assert error <= 1.001 * np.mean((y - clean) ** 2), name


def loud() -> UnfoldedDenoiser:
    """Return a network whose result has twice the contrast of the image."""
    network = pretrained("bsd-gaussian")
    network.atoms.data *= 2
    return network


@pytest.mark.parametrize("denoiser", [NetworkDenoiser, GuidedDenoiser])
def test_the_dictionary_takes_over_where_the_network_does_not_fit(photograph, denoiser):
    clean, y = photograph
    noise, heard = GaussianNoise(SIGMA), []
    with pytest.warns(UserWarning, match="the network .* denoised by the dictionary"):
        result = calepin.denoise(
            y,
            method=denoiser(loud()),
            noise=noise,
            callback=lambda stage, fraction: heard.append(fraction),
        )
    np.testing.assert_array_equal(result.image, calepin.denoise(y, noise=noise).image)
    assert heard == sorted(heard)
    assert heard[-1] == 1
    assert psnr(denoise(y, model=loud(), fallback=False).image, clean) < psnr(y, clean)


def test_one_bad_tile_is_enough_for_the_dictionary(photograph, monkeypatch):
    clean, _ = photograph
    monkeypatch.setattr(network_planes, "TILE", 48)
    half = np.where(np.arange(96) < 48, clean.mean(), clean)  # flat on the left: there the network fits
    with pytest.warns(UserWarning, match="denoised by the dictionary"):
        result = denoise(noisy(half, 5 / 255), 5 / 255, model=loud())
    assert psnr(result.image, half) > 36


def test_an_image_too_small_for_the_dictionary_is_returned_as_it_is(photograph):
    y = noisy(photograph[0][:12, :40], 1 / 255)
    with pytest.warns(UserWarning, match="the dictionary needs 16 pixels per side: the image is returned"):
        np.testing.assert_array_equal(denoise(y, 1 / 255, model=loud()).image, y)


@pytest.mark.parametrize("peak", [0.1, 10.0, 1000.0])
def test_counts_of_another_peak_are_denoised_by_the_dictionary(peak, rng):
    counts = rng.poisson(rates(peak))
    with pytest.warns(UserWarning, match=f"no network is shipped for counts of peak {peak:g}"):
        result = expected_counts(counts, peak)
    by_dictionary = calepin.denoise(counts, method="dictionary", noise=PoissonNoise())
    np.testing.assert_array_equal(result.image, by_dictionary.image)


def test_counts_that_a_network_does_not_fit_are_denoised_by_the_dictionary(rng):
    counts = rng.poisson(rates(100))
    with pytest.warns(UserWarning, match="denoised by the dictionary"):
        result = expected_counts(counts, 4)  # not the peak of these counts
    assert np.mean((result.image - rates(100)) ** 2) < 0.5 * rates(100).mean()
