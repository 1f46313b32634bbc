"""``calepin denoise`` with noise that files describe: a density, dark frames, a map of levels."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from calepin.cli import main
from calepin.datasets import CorrelatedNoise, Image, add_noise, load_sample, write_image

FAST = ["--n-components", "64", "--seed", "3"]
NOISE = CorrelatedNoise.from_kernel(np.ones((1, 9)), sigma=30 / 255)
CLEAN = load_sample("camera").pixels[60:156, 180:276]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("clean.png", Image(CLEAN, 16))
    write_image("in.png", Image(add_noise(CLEAN, NOISE).clip(0, 1), 8))
    np.save("psd.npy", 255**2 * NOISE.psd)


def said(capsys, *arguments):
    assert main(["denoise", *arguments, *FAST, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_density_is_on_the_scale_of_the_levels(capsys):
    found = said(capsys, "in.png", "--psd", "psd.npy", "--reference", "clean.png", "-o", "out.png")
    assert found["sigma"] == pytest.approx(30)
    assert found["psnr"] > found["psnr_noisy"] + 4
    white = said(capsys, "in.png", "--sigma", "30", "--reference", "clean.png")
    assert found["psnr"] > white["psnr"] + 1
    assert main(["denoise", "in.png", "--psd", "psd.npy", "-o", "out.png", *FAST]) == 0
    assert "noise correlated, sigma 30 of 255" in capsys.readouterr().out


def test_dark_frames_have_the_units_of_the_image(capsys):
    for k in range(2):
        dark = add_noise(np.full((128, 128), 500.0), CorrelatedNoise(1e6 * NOISE.psd), random_state=k)
        tifffile.imwrite(f"dark{k}.tif", dark.astype(np.float32))
    tifffile.imwrite("in.tif", (1000 * add_noise(CLEAN, NOISE) + 500).astype(np.float32))
    tifffile.imwrite("clean.tif", (1000 * CLEAN + 500).astype(np.float32))
    shared = ["in.tif", "--range", "0:2000", "--reference", "clean.tif"]
    for frames in (["--dark-frame", "dark0.tif"], ["--dark-frame", "dark0.tif", "--dark-frame", "dark1.tif"]):
        found = said(capsys, *shared, *frames)
        assert found["sigma"] == pytest.approx(1000 * NOISE.sigma, rel=0.1)
        assert found["psnr"] > found["psnr_noisy"] + 4


def test_a_map_has_the_level_of_each_pixel(capsys):
    sigma = np.full(CLEAN.shape, 5.0)
    sigma[:, 48:] = 50
    noisy = CLEAN + sigma / 255 * np.random.default_rng(0).standard_normal(CLEAN.shape)
    write_image("map.png", Image(noisy.clip(0, 1), 16))
    np.save("map.npy", sigma)
    found = said(capsys, "map.png", "--noise-map", "map.npy", "--reference", "clean.png")
    white = said(capsys, "map.png", "--reference", "clean.png")
    assert found["sigma"] == pytest.approx(np.sqrt(np.mean(sigma**2)))
    assert found["psnr"] > white["psnr"] + 1


def test_a_density_is_estimated_from_the_image(capsys):
    clean = load_sample("camera").pixels[60:220, 180:340]
    noise = CorrelatedNoise.from_kernel(np.ones((1, 9)), sigma=30 / 255)
    write_image("large.png", Image(clean, 16))
    write_image("noisy.png", Image(add_noise(clean, noise).clip(0, 1), 16))
    shared = ["noisy.png", "--reference", "large.png"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few flat windows in so small an image
        found = said(capsys, *shared, "--psd", "estimated")
    assert found["sigma"] == pytest.approx(30, rel=0.15)
    white = said(capsys, *shared, "--sigma", "30")
    assert found["psnr"] > white["psnr"] + 2


def test_an_image_without_an_estimate_is_one_line(capsys):
    write_image("small.png", Image(np.random.default_rng(0).random((40, 64)), 8))
    assert main(["denoise", "small.png", "-o", "out.png", "--psd", "estimated"]) == 2
    err = capsys.readouterr().err
    assert "image: expected shape (h, w) or (h, w, 3) with at least 48 pixels per side, got (40, 64)" in err
    assert err.count("\n") == 1


def test_files_are_done_again_if_the_density_is_estimated(capsys):
    write_image("noisy.png", Image(np.random.default_rng(0).random((64, 64)), 8))
    for options, skipped in ([], 0), (["--psd", "estimated"], 0), (["--psd", "estimated"], 1):
        assert main(["denoise", "noisy.png", "-o", "clean/", *options, *FAST, "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["skipped"]) == skipped


def test_a_report_is_written(capsys):
    assert main(["denoise", "in.png", "--psd", "psd.npy", "--report", "r.html", *FAST]) == 0
    np.save("map.npy", np.full(CLEAN.shape, 20.0))
    assert main(["denoise", "in.png", "--noise-map", "map.npy", "--report", "m.html", *FAST]) == 0
    assert "psd.npy" in Path("r.html").read_text()
    assert Path("m.html").exists()


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--sigma", ["--psd", "psd.npy", "--sigma", "25"]),
        ("--noise poisson", ["--psd", "psd.npy", "--noise", "poisson"]),
        ("--noise poisson", ["--noise-map", "psd.npy", "--noise", "poisson", "--gain", "2"]),
        ("--add-noise", ["--dark-frame", "in.png", "--add-noise", "25"]),
        ("--method", ["--psd", "psd.npy", "--method", "network"]),
        ("--model", ["--psd", "psd.npy", "--model", "bsd-gaussian"]),
        ("--noise-map", ["--psd", "psd.npy", "--noise-map", "psd.npy"]),
        ("--sigma", ["--psd", "estimated", "--sigma", "25"]),
        ("--dark-frame", ["--psd", "psd.npy", "--dark-frame", "in.png"]),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(capsys, option, arguments):
    assert main(["denoise", "in.png", "-o", "out.png", *arguments]) == 2
    err = capsys.readouterr().err
    assert f"Invalid value for {option}: " in err
    assert err.count("\n") == 1
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        ("--psd", np.ones(5), "file.npy: psd: expected shape (a, b) or (a, b, 3), got (5,)"),
        ("--psd", np.ones((5, 5, 3)), "file.npy: psd: expected shape (a, b) for an image of shape (96, 96)"),
        ("--psd", -np.ones((5, 5)), "file.npy: psd: expected finite real numbers of at least 0"),
        ("--psd", np.ones((5, 5)) * 1j, "file.npy: expected real numbers, got complex128"),
        ("--noise-map", np.ones((5, 5)), "file.npy: expected the shape (96, 96) of a plane, got (5, 5)"),
        ("--noise-map", -np.ones((96, 96)), "file.npy: sigma: expected finite real numbers"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(capsys, option, values, message):
    np.save("file.npy", values)
    assert main(["denoise", "in.png", "-o", "out.png", option, "file.npy"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("out.png").exists()


def test_a_dark_frame_that_does_not_fit_is_one_line(capsys):
    write_image("small.png", Image(np.full((8, 8), 0.5), 8))
    write_image("deep.png", Image(np.full((32, 32), 0.5), 16))
    write_image("colour.png", Image(np.full((32, 32, 3), 0.5), 8))
    for name, message in (
        ("small.png", "small.png: frames: expected frames (h, w) or (h, w, 3) of at least 16 pixels"),
        ("deep.png", "deep.png: expected 8 bits, as the image, got 16"),
        ("colour.png", "colour.png: psd: expected shape (a, b) for an image of shape (96, 96)"),
        ("nowhere.png", "nowhere.png"),
    ):
        assert main(["denoise", "in.png", "-o", "out.png", "--dark-frame", name]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_levels_in_other_units_are_told(capsys):
    np.save("map.npy", np.full(CLEAN.shape, 250.0))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["denoise", "in.png", "-o", "out.png", "--noise-map", "map.npy", *FAST]) == 0
    assert "times as strong as the whole image: levels are in the units of --sigma" in capsys.readouterr().err
