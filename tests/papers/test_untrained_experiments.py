"""Every experiment of the paper once in miniature: what is reported and drawn, and what the seed decides."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calepin.datasets import read_image
from calepin.experiments import perform
from calepin_papers import EXPERIMENTS
from calepin_papers.untrained_networks import (
    image_pair,
    images,
    inpainting,
    jacobian,
    kernels,
    linear,
    mri,
    two_layer,
)

TINY = {
    "cs-linear": linear.Settings(
        n_draws=3,
        n=60,
        decays=(0.8,),
        frequencies=(4,),
        measurements=(12, 40),
        shown_decay=0.8,
        shown_p=4,
    ),
    "cs-kernels": kernels.Settings(n_draws=2, channels=(16, 512), n=60, width=9, leading=9),
    "cs-two-layer": two_layer.Settings(
        n_signals=2,
        ratios=(1, 4),
        n=60,
        p=3,
        channels=128,
        width=15,
        max_iter=150,
        swept_channels=(32, 128),
        swept_xi=(0.3, 0.1),
    ),
    "cs-images": images.Settings(
        size=16, n_starts=2, max_iter=40, max_iter_prior=5, channels=8, depth=2, in_size=4, prior_depth=2
    ),
    "cs-jacobian": jacobian.Settings(
        n_draws=1,
        size=16,
        channels=8,
        in_size=4,
        iterations=(0, 5, 20),
        depth=3,
        line_size=48,
        line_in_size=6,
        n_vectors=5,
        n_functions=5,
    ),
    "cs-inpainting": inpainting.Settings(size=32, channels=16, max_iter=80, n_draws=2, depth=2),
}

TINY_MRI = mri.Settings(
    size=(32, 32),
    channels=16,
    max_iter=100,
    depth=3,
    in_size=(8, 4),
    n_center=4,
    alphas=(1e-3, 4e-3),
    alphas_variation=(1e-3, 4e-3),
    n_iter_wavelet=20,
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    reported = []
    results = {
        name: perform(
            replace(EXPERIMENTS[name], quick=settings),
            folder,
            seed=1,
            progress=lambda part, text: reported.append(part),
        )
        for name, settings in TINY.items()
    }
    return results, folder, reported


def test_the_theorem_holds_in_miniature(outcome):
    values = outcome[0]["cs-linear"]["values"]
    assert 0 < values["median_C"] <= values["largest_C"] < 0.3


def test_more_channels_come_closer_to_the_closed_form(outcome):
    values = outcome[0]["cs-kernels"]["values"]
    assert values["median_top21"] < values["median_top21_k16"]
    assert values["subspace_energy"] > values["subspace_energy_k16"]


def test_more_measurements_give_smaller_errors(outcome):
    values = outcome[0]["cs-two-layer"]["values"]
    assert values["err_4p"] < 0.3 * values["err_1p"]
    assert 1 <= values["final_over_best_max"] < 1.5
    assert values["error_over_bound"] < 1.5


def test_a_smooth_image_is_easier_than_grass(outcome):
    values = outcome[0]["cs-images"]["values"]
    assert values["art_single_min"] <= values["art_single"] <= values["art_single_max"] < values["grass"]
    assert values["art"] < values["art_single_max"]
    assert 1 <= values["final_over_best_art"] < 1.15
    assert values["grass_over_art_gaussian"] > 2


def test_singular_values_fall(outcome):
    values = outcome[0]["cs-jacobian"]["values"]
    assert values["over_geometric"] <= 1
    assert values["fall_min"] > 3
    assert 0 < values["drift_min"] <= values["drift"]


def test_leading_singular_vectors_have_low_frequencies(outcome):
    """A random subspace of 5 of 48 dimensions has a tenth of its energy in 5 functions and a fifth in ten."""
    values = outcome[0]["cs-jacobian"]["values"]
    assert values["line_energy_start_min"] > 0.4
    assert values["line_energy_twice_start_min"] > 0.7


def test_missing_pixels_are_filled_better_than_by_the_mean(outcome):
    values = outcome[0]["cs-inpainting"]["values"]
    assert min(values["gain_random"], values["gain_text"]) > 0.5


def test_an_eighth_of_the_k_space_of_a_phantom(tmp_path, monkeypatch):
    """The decoder is ahead of zero-filled and of the wavelets; single starts are behind their average."""
    monkeypatch.delenv("CALEPIN_DATA", raising=False)
    result = perform(replace(EXPERIMENTS["cs-mri"], quick=TINY_MRI), tmp_path, seed=1)
    values = result["values"]
    assert values["gain"] > 2.5
    assert values["psnr_l1wavelet"] > values["psnr_zero_filled"]
    assert values["psnr_decoder"] > max(values["psnr_decoder_single_max"], values["psnr_l1wavelet"])
    assert values["ssim_decoder"] > values["ssim_zero_filled"]
    assert values["psnr_variation"] > values["psnr_zero_filled"] + 1
    assert values["psnr_decoder"] < values["psnr_decoder_2d_4x"]
    assert 1 <= values["final_over_best"] < 1.5
    assert 10 <= values["best_iteration"] <= 100
    for figure in result["figures"]:
        assert read_image(tmp_path / "cs-mri" / figure).pixels.std() > 0.02


def test_figures_are_there_and_progress_was_reported(outcome):
    results, folder, reported = outcome
    for name, result in results.items():
        assert result["figures"]
        for figure in result["figures"]:
            assert read_image(folder / name / figure).pixels.std() > 0.02
    assert all(0 <= part <= 1 for part in reported)
    assert len(reported) > len(results)


@pytest.mark.parametrize("name", ["cs-linear", "cs-two-layer"])
def test_the_seed_decides_everything(name, outcome, tmp_path):
    experiment = replace(EXPERIMENTS[name], quick=TINY[name])
    assert perform(experiment, tmp_path, seed=1)["values"] == outcome[0][name]["values"]
    assert perform(experiment, tmp_path, seed=2)["values"] != outcome[0][name]["values"]


def test_without_the_public_datan_images_of_scikit_image_stand_in(monkeypatch):
    monkeypatch.delenv("CALEPIN_DATA", raising=False)
    pair, papers = image_pair.load_pair(32)
    assert not papers
    assert set(pair) == {"art", "grass"}
    assert all(p.shape == (1, 32, 32) and p.dtype == torch.float32 for p in pair.values())
    with pytest.raises(ValueError, match="size: expected a divisor of 256, got 100"):
        image_pair.shrink(np.ones((300, 300)), 100)
