"""``calepin inpaint`` on files: what is missing is filled, and files keep their format."""

import json

import numpy as np
import pytest
import tifffile

from calepin.datasets import Image, load_sample, read_image, write_image
from calepin.metrics import psnr


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photo():
    """Write photo.png with black gaps, mask.png, white where it is known, and clean.png."""
    clean = load_sample("camera").pixels[100:140, 150:190]
    mask = np.random.default_rng(0).random(clean.shape) < 0.6
    write_image("clean.png", Image(clean))
    write_image("photo.png", Image(np.where(mask, clean, 0)))
    write_image("mask.png", Image(mask.astype(float)))
    write_image("inverted.png", Image(1 - mask.astype(float)))
    np.save("mask.npy", mask)
    return clean, mask


@pytest.mark.parametrize("mask", [["mask.png"], ["mask.npy"], ["inverted.png", "--invert-mask"]])
def test_an_image_is_filled_from_a_mask(run, photo, mask):
    clean, known = photo
    status, out, err = run(
        "inpaint", "photo.png", "--mask", *mask, "-o", "out.png", "--reference", "clean.png",
        "--figure", "figure.png", "--json",
    )  # fmt: skip
    assert (status, err) == (0, "")
    said, filled = json.loads(out), read_image("out.png")
    assert filled.bits == 8
    np.testing.assert_array_equal(filled.pixels[known], read_image("photo.png").pixels[known])
    assert psnr(filled.pixels, clean) > psnr(np.where(known, clean, clean.mean()), clean) + 8
    assert said["psnr"] == pytest.approx(psnr(filled.pixels, clean), abs=0.05)
    assert said["missing"] == pytest.approx(1 - known.mean())
    assert said["written"] == ["out.png", "figure.png"]
    assert read_image("figure.png").pixels.shape[1] > 500


def test_nan_is_missing_and_units_are_kept(run):
    field = np.add.outer(np.arange(30.0), np.arange(30.0)) * 100 - 800
    known = np.random.default_rng(0).random(field.shape) < 0.7
    np.save("field.npy", np.where(known, field, np.nan))
    status, out, _ = run("inpaint", "field.npy", "--range", "data", "-o", "out.npy")
    assert status == 0
    assert "30 x 30 gray" in out
    filled = np.load("out.npy")
    np.testing.assert_allclose(filled[known], field[known], atol=1e-3)
    np.testing.assert_allclose(filled, field, atol=60)


def test_noise_is_removed_on_the_scale_of_255(run, photo):
    clean, known = photo
    noisy = clean + np.random.default_rng(1).normal(0, 20 / 255, clean.shape)
    write_image("photo.png", Image(noisy, 16))
    assert run("inpaint", "photo.png", "--mask", "mask.png", "--sigma", "20", "-o", "out.png")[0] == 0
    filled = read_image("out.png")
    assert filled.bits == 16
    assert psnr(filled.pixels[known], clean[known]) > psnr(noisy[known], clean[known]) + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png", "--mask", "photo.png"], "photo.png: expected a mask of two values"),
        (["photo.png", "--mask", "small.png"], "small.png: expected a mask of the image's shape (40, 40)"),
        (["photo.png", "--mask", "black.png"], "mask: expected an observed entry, got none"),
        (["photo.png", "--mask", "nothing.png"], "nothing.png"),
        (
            ["photo.png", "--mask", "pages.tif"],
            "pages.tif: expected a mask of one page for a single image, got 3 pages",
        ),
        (["photo.png", "--invert-mask"], "--invert-mask: goes with --mask"),
        (
            ["photo.png", "--mask", "mask.png", "--sigma", "1e9"],
            "--sigma: expected at most the range of the samples, 255, got 1e+09",
        ),
        (["nan.npy"], "all of its samples are NaN"),
        (
            ["photo.png", "--mask", "mask.png", "--reference", "small.png"],
            "reference: expected the image's shape",
        ),
    ],
)
def test_bad_files_are_one_line(run, photo, arguments, message):
    write_image("small.png", Image(np.ones((8, 8))))
    write_image("black.png", Image(np.zeros((40, 40))))
    np.save("nan.npy", np.full((20, 20), np.nan))
    tifffile.imwrite("pages.tif", np.zeros((3, 40, 40), np.uint8), photometric="minisblack")
    status, _, err = run("inpaint", *arguments, "-o", "out.png")
    assert status in (1, 2)
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.filterwarnings("default:mask")
def test_nothing_missing_is_said(run, photo):
    status, _, err = run("inpaint", "clean.png", "-o", "out.png")
    assert status == 0
    assert "mask: no entry is missing" in err
