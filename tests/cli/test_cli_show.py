"""``calepin show``: dictionaries as images."""

import json

import numpy as np
import pytest

from calepin.cli import main
from calepin.core.files import save_arrays
from calepin.datasets import read_image


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def said(capsys, *arguments):
    """Run a command with --json and return its object."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("n_features", "options", "drawn_as", "colour"),
    [
        (16, [], "patches", False),
        (48, [], "patches", True),
        (50, [], "curves", None),
        (50, ["--shape", "5x10"], "patches", False),
        (30, ["--shape", "2X5"], "patches", True),
    ],
)
def test_show_draws_patches_or_curves(capsys, n_features, options, drawn_as, colour):
    atoms = np.random.default_rng(0).standard_normal((9, n_features))
    save_arrays("D.safetensors", "dictionary", {"components": atoms}, {})
    assert said(capsys, "show", "D.safetensors", "-o", "D.png", *options)["drawn_as"] == drawn_as
    image = read_image("D.png")
    assert image.pixels.std() > 0.05
    pixels = image.pixels
    assert colour is None or bool(np.ptp(pixels, axis=2).max() > 0.1) == colour


@pytest.mark.parametrize(("shape", "drawn_as"), [((3, 2, 12), "curves"), ((3, 2, 5, 4), "patches")])
def test_filters_are_drawn_by_channel_and_have_their_own_shape(capsys, shape, drawn_as):
    filters = np.random.default_rng(0).standard_normal(shape)
    save_arrays("F.safetensors", "dictionary", {"components": filters}, {})
    found = said(capsys, "show", "F.safetensors", "-o", "F.png")
    assert (found["n_components"], found["drawn_as"]) == (3, drawn_as)
    assert read_image("F.png").pixels.std() > 0.01
    assert main(["show", "F.safetensors", "-o", "F.png", "--shape", "4x5"]) == 2
    assert "--shape: has no effect" in capsys.readouterr().err
