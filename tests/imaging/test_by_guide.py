"""The dictionary with a network as its guide: better than either, for each kind of noise."""

import numpy as np
import pytest
from skimage import data

import calepin
from calepin import GaussianNoise, PoissonGaussianNoise, PoissonNoise, VaryingGaussianNoise
from calepin.datasets import CorrelatedNoise
from calepin.imaging import DictionaryDenoiser, GuidedDenoiser
from calepin.metrics import psnr
from calepin.networks import pretrained

CLEAN = data.camera()[60:188, 180:308] / 255


def noisy(sigma) -> np.ndarray:
    return CLEAN + sigma * np.random.default_rng(0).standard_normal(CLEAN.shape)


@pytest.mark.parametrize("level", [10, 25, 75])
def test_both_are_better_than_either(level):
    y, noise = noisy(level / 255), GaussianNoise(level / 255)
    found = {m: psnr(calepin.denoise(y, method=m, noise=noise).image, CLEAN) for m in ("best", "dictionary")}
    found["network"] = psnr(calepin.denoise(y, method="network", noise=noise).image, CLEAN)
    assert found["best"] > max(found["dictionary"], found["network"]) + 0.02


def test_the_atoms_and_the_stages_are_those_of_the_dictionary():
    y, stages = noisy(0.1), []
    method = GuidedDenoiser(dictionary=DictionaryDenoiser(n_components=64, n_iter=2))
    result = calepin.denoise(
        y, method=method, noise=GaussianNoise(0.1), callback=lambda stage, part: stages.append((part, stage))
    )
    assert result.atoms.shape == (64, 64)
    assert len(result.history) == 2
    assert stages == sorted(stages, key=lambda at: at[0])
    order = list(dict.fromkeys(stage for _, stage in stages))
    assert order == ["learn", "code", "group 1", "group 2", "network", "group 3"]
    assert stages[-1][0] == pytest.approx(1)


def test_levels_of_each_pixel_and_colours():
    sigma = np.where(np.arange(128) < 64, 5, 40) / 255 * np.ones((128, 1))
    y = CLEAN + sigma * np.random.default_rng(0).standard_normal(CLEAN.shape)
    found, alone = (
        psnr(calepin.denoise(y, method=m, noise=VaryingGaussianNoise(sigma)).image, CLEAN)
        for m in ("best", "dictionary")
    )
    assert found > alone
    colour = data.astronaut()[60:108, 150:198] / 255
    y = colour + 0.1 * np.random.default_rng(0).standard_normal(colour.shape)
    result = calepin.denoise(y.astype(np.float32), method="best", noise=GaussianNoise(0.1))
    assert (result.image.shape, result.image.dtype) == (colour.shape, np.float32)
    assert psnr(result.image, colour) > psnr(y, colour) + 8


@pytest.mark.parametrize("noise", [PoissonNoise(), PoissonGaussianNoise(gain=2.0, offset=50.0, read=3.0)])
def test_it_is_the_default_for_photons(noise):
    rates = 10 * CLEAN
    rng = np.random.default_rng(0)
    counts = rng.poisson(rates)
    if isinstance(noise, PoissonGaussianNoise):
        counts = 2.0 * counts + 50 + rng.normal(0, 3, rates.shape)
        rates = 2.0 * rates + 50
    default = calepin.denoise(counts, noise=noise).image
    np.testing.assert_array_equal(default, calepin.denoise(counts, method="best", noise=noise).image)
    alone = calepin.denoise(counts, method="dictionary", noise=noise).image
    assert np.mean((default - rates) ** 2) < np.mean((alone - rates) ** 2)


def test_large_patches_do_for_few_photons():
    counts = np.random.default_rng(0).poisson(CLEAN)  # steps with blocks of pixels, which make images small
    method = GuidedDenoiser(dictionary=DictionaryDenoiser(patch_size=24, n_components=32, n_iter=1))
    result = calepin.denoise(counts, method=method, noise=PoissonNoise())
    assert np.mean((result.image - CLEAN) ** 2) < 0.2 * np.mean((counts - CLEAN) ** 2)


def test_a_network_without_any_place_is_left_out_with_a_warning():
    loud = pretrained("bsd-gaussian")
    loud.atoms.data *= 2
    y, noise = noisy(0.1), GaussianNoise(0.1)
    with pytest.warns(UserWarning, match="the network fits this image nowhere"):
        result = calepin.denoise(y, method=GuidedDenoiser(loud), noise=noise)
    alone = calepin.denoise(y, noise=noise).image
    np.testing.assert_array_equal(result.image, alone)
    forced = calepin.denoise(y, method=GuidedDenoiser(loud, fallback=False), noise=noise).image
    assert not np.allclose(forced, alone, atol=1e-3)


@pytest.mark.filterwarnings("ignore:the network fits this image nowhere")
@pytest.mark.parametrize("level", [10, 50])
@pytest.mark.parametrize("side", [4, 8])
def test_regular_patterns_are_left_to_the_dictionary(level, side):
    rows, columns = np.indices((128, 128)) // side
    clean = 0.2 + 0.6 * ((rows + columns) % 2)
    beside = np.where(np.arange(128) < 64, clean, CLEAN)
    for image in (clean, beside):
        y = image + level / 255 * np.random.default_rng(0).standard_normal(image.shape)
        both, alone, forced = (
            psnr(calepin.denoise(y, method=method, noise=GaussianNoise(level / 255)).image, image)
            for method in (GuidedDenoiser(), DictionaryDenoiser(), GuidedDenoiser(fallback=False))
        )
        assert both > max(alone - 0.05, forced + 1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"noise": CorrelatedNoise(np.ones((128, 128)))}, calepin.IncompatibleError, "GuidedDenoiser"),
        ({"noise": GaussianNoise(0.1, 0.2)}, calepin.IncompatibleError, "GuidedDenoiser .* one level"),
        ({"image": np.zeros((15, 40))}, ValueError, "image: expected at least 16 x 16 pixels"),
        ({"image": -np.ones((20, 20)), "noise": PoissonNoise()}, ValueError, "image: expected counts"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = {"image": noisy(0.1), "noise": GaussianNoise(0.1)} | change
    with pytest.raises(error, match=message):
        calepin.denoise(arguments["image"], method="best", noise=arguments["noise"])


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="model: expected PATH.safetensors or one of bsd-gaussian"):
        calepin.denoise(noisy(0.1), method=GuidedDenoiser("dncnn"), noise=GaussianNoise(0.1))
    with pytest.raises(ValueError, match="model: expected a name or a file, got an empty text"):
        GuidedDenoiser("")
    with pytest.raises(ValueError, match="dictionary: expected passes over groups"):
        GuidedDenoiser(dictionary=DictionaryDenoiser(group_passes=0))
    with pytest.raises(TypeError, match="dictionary: expected"):
        GuidedDenoiser(dictionary="ksvd")
