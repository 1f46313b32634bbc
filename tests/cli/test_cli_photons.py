"""``calepin denoise --noise poisson``: counts are drawn or read, and come out nearer to the image."""

import json

import numpy as np
import pytest

from calepin.cli import main
from calepin.datasets import Image, load_sample, read_image, write_image

PHOTONS = ["--noise", "poisson", "--peak", "4"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clean = load_sample("camera").pixels[200:240, 200:240]
    write_image("clean.png", Image(clean))
    counts = np.random.default_rng(0).poisson(clean / clean.max() * 4)
    write_image("counts.png", Image(counts / 255))


def test_photons_are_drawn_from_a_clean_image(capsys):
    said = []
    for _ in range(2):
        assert main(["denoise", "clean.png", *PHOTONS, "--add-noise", "-o", "out.png", "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0]["psnr"] == said[1]["psnr"] > said[0]["psnr_noisy"] + 6
    assert (said[0]["peak"], said[0]["sigma"]) == (4, None)
    assert read_image("out.png").pixels.std() > 0.03


def test_an_image_of_counts_is_measured_against_the_clean_one(capsys):
    assert main(["denoise", "counts.png", *PHOTONS, "--reference", "clean.png", "--figure", "f.png"]) == 0
    out = capsys.readouterr().out
    assert "40 x 40 gray" in out
    assert "noise of peak 4" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["counts.png", "--noise", "poisson"], "say the expected count of the brightest pixel"),
        (["counts.png", *PHOTONS, "--sigma", "3"], "does not go with --noise poisson: --sigma"),
        (["clean.png", *PHOTONS, "--add-noise", "25"], "does not go with --noise poisson: --add-noise S"),
        (["counts.png", "--peak", "4"], "--peak goes with --noise poisson"),
        (["clean.png", "--add-noise"], "--add-noise without a level goes with --noise poisson"),
        (["--sample", "camera", *PHOTONS], "a sample holds no counts: add --add-noise"),
        (["clean.png", *PHOTONS, "--add-noise", "--reference", "clean.png"], "goes with counts in IMAGE"),
    ],
)
def test_what_does_not_fit_is_named(capsys, arguments, message):
    assert main(["denoise", *arguments, "-o", "out.png"]) == 2
    assert message in capsys.readouterr().err
