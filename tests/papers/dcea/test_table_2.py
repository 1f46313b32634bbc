"""The test sets and photons of Table 2, and networks and baselines on two small images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data

from calepin.experiments import Run, find
from calepin.networks import UnfoldedAutoencoder
from calepin_papers import EXPERIMENTS
from calepin_papers.dcea import photons, reference, table


def test_they_are_registered():
    assert [entry.name for entry in find(["dcea-reference"], EXPERIMENTS)] == ["dcea-reference"]


def test_photons_are_those_of_the_issue():
    clean = np.arange(12.0).reshape(3, 4)
    counts, unit = photons.draw_counts(clean, 4, 7)
    assert unit == 11 / 4
    assert np.array_equal(counts, np.random.default_rng(1007).poisson(clean / (11 / 4)))


def test_test_images_have_whole_numbers_for_pixels(public_data):
    sizes = {name: len(list((public_data / name).glob("*.png"))) for name in photons.SETS}
    assert sizes == photons.SETS
    first = photons.clean_images("set12", 2)
    assert [image.shape for image in first] == [(256, 256), (256, 256)]
    assert np.array_equal(first[0], first[0].round())
    assert first[0].max() > 200


def test_the_whole_table_is_held_against_the_papers(public_data, tmp_path, monkeypatch):
    corner = photons.clean_images("set12", 2)
    corner = [image[96:128, 96:128] for image in corner]
    monkeypatch.setattr(reference, "clean_images", lambda name, count: corner)
    reported = []
    settings = reference.Settings(sets=("set12",), n_images=None, peaks=(2,))
    run = Run(0, "cpu", tmp_path, lambda part, text: reported.append(part))
    findings = reference.measure(settings, run)
    assert reported == [0.25, 0.5, 0.75, 1.0]
    assert len(findings.claims) == 2
    path = public_data / "dcea_reference_weights" / "dcea_tied_peak2.npz"
    net = UnfoldedAutoencoder.load_reference(path)
    expected = []
    for index, image in enumerate(corner):
        unit = image.max() / 2
        y = np.random.default_rng(1000 + index).poisson(image / unit)
        with torch.no_grad():
            estimate = unit * net(torch.from_numpy(y)[None, None]).exp()[0, 0].numpy()
        expected.append(10 * np.log10(image.max() ** 2 / np.mean((estimate - image) ** 2)))
    assert findings.values["set12_tied_peak2"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert min(expected) > 15


def windows(name, count=None):
    """Two images at the places of "camera" and "house"."""
    return [image[150:214, 200:264].astype(float) for image in (data.camera(), data.moon())]


def test_untied_networks_beat_tied_ones_and_stabilised_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "clean_images", windows)
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    settings = table.Settings(images=("camera",), peaks=(2,))
    findings = table.measure(settings, Run(0, "cpu", tmp_path))
    assert all(claim.holds for claim in findings.claims)
    assert findings.values["quoted_camera_bm3d_peak2"] == 22.13
    assert findings.values["quoted_camera_spda_peak2"] == 21.54
    assert "camera_vst_bm3d_peak2" not in findings.values
    assert (tmp_path / "peak2.png").stat().st_size > 1000


def test_bm3d_gets_an_image_in_0_to_1_with_its_noise_and_the_inverse_is_unbiased(monkeypatch):
    """In place of bm3d stands the mean of the stabilised counts, which the inverse takes to theirs."""
    mean = 3.0
    counts = np.random.default_rng(0).poisson(mean, (400, 400)).astype(float)
    seen = {}

    def denoiser(image, sigma):
        seen.update(low=image.min(), high=image.max(), sigma=sigma, noise=image.std())
        return np.full_like(image, image.mean())

    monkeypatch.setattr(table, "import_module", lambda name: SimpleNamespace(bm3d=denoiser))
    estimate = table.stabilised(counts, table.bm3d)
    assert (seen["low"], seen["high"]) == (0, 1)
    assert seen["sigma"] == pytest.approx(seen["noise"], rel=0.1)
    np.testing.assert_allclose(estimate, mean, rtol=0.02)


def test_table_2_is_quoted_whole():
    for method, by_peak in photons.QUOTED.items():
        assert set(by_peak) == {1, 2, 4}, method
    assert photons.PAPER["bsd68", "untied"] == {1: 21.84, 2: 22.92, 4: 24.1}
    assert photons.QUOTED["class_agnostic"][4]["set12"] == 24.4
