"""``calepin deblur``, ``upscale`` and ``demosaic`` on real files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from calepin.cli import main
from calepin.datasets import Image, load_sample, read_image, write_image
from calepin.metrics import psnr
from calepin.operators import Bayer, Blur, Downsample


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def crop(name="camera", size=48):
    pixels = load_sample(name).pixels
    top, left = (170, 230) if pixels.ndim == 2 else (100, 150)
    return pixels[top : top + size, left : left + size].astype(np.float64)


def psf(width=7, sigma=1.2):
    t = torch.arange(width, dtype=torch.float64) - width // 2
    line = (-0.5 * (t / sigma) ** 2).exp()
    return line[:, None] * line / line.sum() ** 2


def measured(operator, pixels):
    planes = pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    y = operator(torch.from_numpy(np.ascontiguousarray(planes))[None])[0].numpy()
    return y if y.ndim == 2 else np.moveaxis(y, 0, -1)


def run(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def fails(capsys, *arguments):
    assert main(list(arguments)) != 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("sample", ["camera", "cat"])
def test_a_blurred_image_gets_sharper_and_keeps_its_format(capsys, sample):
    clean = crop(sample)
    shape = clean.shape if clean.ndim == 2 else (3, *clean.shape[:2])
    alpha = np.random.default_rng(0).random(clean.shape[:2])
    blurred = measured(Blur(psf(), shape), clean)
    write_image("in.png", Image(blurred, 16, alpha=alpha))
    write_image("clean.png", Image(clean, 16))
    np.save("psf.npy", psf().numpy())
    given = ["--psf", "psf.npy", "--sigma", "1", "--prior", "tv", "--reference", "clean.png"]
    said, err = run(capsys, "deblur", "in.png", "-o", "out.png", *given)
    out = read_image("out.png")
    assert err == ""
    assert (out.bits, out.pixels.shape) == (16, clean.shape)
    assert psnr(out.pixels, clean) > psnr(read_image("in.png").pixels, clean) + 2
    own = psnr(out.pixels, clean, data_range=np.ptp(clean))  # of 16 bits, the range of the true image
    assert said["psnr"] == pytest.approx(own, abs=0.05)
    assert said["sigma"] == pytest.approx(1)
    assert said["converged"]
    np.testing.assert_array_equal(out.alpha, read_image("in.png").alpha)


def test_a_gaussian_blurs_all_colours(capsys):
    clean = crop("cat")
    blurred = measured(Blur(psf(), (3, *clean.shape[:2])), clean)
    write_image("in.png", Image(blurred, 16))
    run(capsys, "deblur", "in.png", "--gaussian", "1.2", "--sigma", "1", "--prior", "tv", "-o", "out.png")
    assert psnr(read_image("out.png").pixels, clean) > psnr(blurred, clean) + 2


def test_a_gaussian_needs_no_file_and_a_psf_is_divided_by_its_sum(capsys):
    write_image("in.png", Image(measured(Blur(psf(), (48, 48)), crop()), 16))
    given = ["--sigma", "1", "--prior", "tv"]
    assert main(["deblur", "in.png", "-o", "a.png", "--gaussian", "1.2", *given]) == 0
    out, err = capsys.readouterr()
    assert "48 x 48 gray, noise sigma 1" in out
    assert err == ""
    write_image("psf.png", Image(psf(9).numpy() / float(psf(9).max()), 16))
    _, err = run(capsys, "deblur", "in.png", "-o", "b.png", "--psf", "psf.png", *given)
    assert "calepin: note: psf.png: the PSF sums to" in err
    found = [read_image(name).pixels for name in ("a.png", "b.png")]
    assert psnr(found[0], found[1]) > 35
    assert psnr(found[0], crop()) > 26


def test_an_image_is_enlarged(capsys):
    clean = crop("cat")
    write_image("in.png", Image(measured(Downsample((3, 48, 48), 2), clean), 8))
    said, _ = run(capsys, "upscale", "in.png", "-o", "out.png", "--sigma", "0", "--prior", "tv")
    assert read_image("out.png").pixels.shape == (48, 48, 3)
    assert said["written"] == ["out.png"]
    assert psnr(read_image("out.png").pixels, clean) > 28
    write_image("alpha.png", Image(crop(size=24), alpha=np.ones((24, 24)) / 2))
    _, err = run(capsys, "upscale", "alpha.png", "-o", "out.png", "--sigma", "2", "--prior", "tv")
    assert "the alpha channel is left out" in err


def test_colours_are_found_in_a_mosaic(capsys):
    clean = crop("cat")
    write_image("in.tif", Image(measured(Bayer((48, 48), pattern="GBRG"), clean), 16))
    given = ["--pattern", "GBRG", "--sigma", "0", "--prior", "tv"]
    run(capsys, "demosaic", "in.tif", "-o", "out.tif", *given)
    out = read_image("out.tif")
    assert (out.bits, out.pixels.shape) == (16, clean.shape)
    assert psnr(out.pixels, clean) > 28
    run(capsys, "demosaic", "in.tif", "-o", "wrong.tif", "--sigma", "0", "--prior", "tv")
    assert psnr(read_image("wrong.tif").pixels, clean) < psnr(out.pixels, clean) - 5


def test_units_of_the_file_are_kept(capsys):
    np.save("in.npy", (1000 * measured(Blur(psf(), (48, 48)), crop()) - 200).astype(np.float32))
    given = ["--range=-200:800", "--sigma", "4", "--gaussian", "1.2", "--prior", "tv"]
    said, _ = run(capsys, "deblur", "in.npy", "-o", "out.npy", *given)
    assert said["sigma"] == pytest.approx(4)
    out = np.load("out.npy")
    assert out.dtype == np.float32
    assert psnr((out + 200) / 1000, crop()) > 26


def test_bad_input_is_one_line(capsys):
    write_image("in.png", Image(crop(size=24)))
    write_image("colour.png", Image(crop("cat", 24)))
    np.save("zero.npy", np.zeros((3, 3)))
    out = ["-o", "out.png"]
    assert "give one of --psf FILE and --gaussian" in fails(capsys, "deblur", "in.png", *out)
    assert "--gaussian: expected a blur of at most 3 pixels for an image of 24 x 24, got 9" in fails(
        capsys, "deblur", "in.png", *out, "--gaussian", "9"
    )
    assert "expected a PSF with a sum above 0" in fails(capsys, "deblur", "in.png", *out, "--psf", "zero.npy")
    assert "expected a gray image of a point" in fails(
        capsys, "deblur", "in.png", *out, "--psf", "colour.png"
    )
    said = "--sigma: expected at most the range of the samples, 255, got 1e+09"
    assert said in fails(capsys, "upscale", "in.png", *out, "--sigma", "1e9")
    assert "image: expected a gray mosaic" in fails(capsys, "demosaic", "colour.png", *out)
    assert "expected the shape of the restored image, (48, 48)" in fails(
        capsys, "upscale", "in.png", *out, "--prior", "tv", "--sigma", "1", "--reference", "in.png"
    )
    assert not Path("out.png").exists()


@pytest.mark.filterwarnings("always")
def test_a_psf_that_is_too_wide_is_told_and_the_measured_image_stands_beside(capsys):
    clean = crop()
    write_image("clean.tif", Image(clean, 32))
    write_image("in.tif", Image(measured(Blur(psf(9, 1.6), clean.shape), clean), 32))
    given = ["--reference", "clean.tif", "--range", "0:1", "--sigma", "0.002"]
    right, err = run(capsys, "deblur", "in.tif", "--gaussian", "1.6", "-o", "right.tif", *given)
    assert "rings" not in err
    assert right["psnr"] > right["psnr_measured"] + 2
    wrong, err = run(capsys, "deblur", "in.tif", "--gaussian", "3", "-o", "wrong.tif", *given)
    assert "of the pixels are far darker or brighter than all of the image: it rings" in err
    assert "the restored image is worse than the measured one, by " in err
    assert wrong["psnr"] < wrong["psnr_measured"]
    assert wrong["psnr_measured"] == right["psnr_measured"]


def test_a_reference_of_another_size_costs_no_work(capsys, monkeypatch):
    def work(*arguments, **settings):
        raise AssertionError("no work is expected")

    monkeypatch.setattr("calepin.restoration.restoring.restore", work)
    write_image("in.png", Image(crop(), 8))
    for command, size in (("upscale", 96), ("deblur", 48), ("demosaic", 48)):
        write_image("clean.png", Image(crop(size=32), 8))
        more = ["--gaussian", "1"] if command == "deblur" else []
        err = fails(capsys, command, "in.png", "-o", "out.png", "-q", "--reference", "clean.png", *more)
        shape = (size, size, 3) if command == "demosaic" else (size, size)
        assert f"reference: expected the shape of the restored image, {shape}, got (32, 32)" in err


def test_psfs_that_cannot_be_are_refused_before_any_work(capsys):
    write_image("in.png", Image(crop(), 8))
    np.save("complex.npy", psf().numpy() + 1j)
    err = fails(capsys, "deblur", "in.png", "--psf", "complex.npy", "-o", "out.png")
    assert "complex.npy: expected a real PSF, got complex128 (a transfer function?)" in err
    err = fails(capsys, "deblur", "in.png", "--gaussian", "1e9", "-o", "out.png")  # its kernel fits nowhere
    assert "--gaussian: expected a blur of at most" in err
