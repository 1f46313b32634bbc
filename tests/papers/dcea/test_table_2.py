"""The test sets and photons of Table 2, and the released networks on two small images."""

import numpy as np
import pytest
import torch

from calepin.experiments import Run, find
from calepin.networks import UnfoldedAutoencoder
from calepin_papers import EXPERIMENTS
from calepin_papers.dcea import photons, reference


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
