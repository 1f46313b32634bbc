"""``calepin denoise`` on real files of every kind: what comes out is less noisy and keeps its format."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import calepin
from calepin.cli import main
from calepin.core.files import save_arrays
from calepin.datasets import Image, load_sample, read_image, write_image
from calepin.metrics import psnr
from calepin.networks import UnfoldedAutoencoder, pretrained
from calepin.penalties import L1

FAST = ["--n-components", "64", "--seed", "3"]
PHOTONS = ["--noise", "poisson", "--peak", "4"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def crop(name, size=64):
    image = load_sample(name)
    top, left = (n // 2 - size for n in image.pixels.shape[:2])
    return image.pixels[top : top + size, left : left + size]


def write_noisy(path, name, bits=8, sigma=20, **kept):
    """Write a clean crop and a noisy image; return the clean pixels."""
    clean = crop(name)
    noisy = clean + np.random.default_rng(0).normal(0, sigma / 255, clean.shape)
    write_image("clean.png", Image(clean, 16))
    write_image(path, Image(noisy, bits, **kept))
    return clean


def denoise_json(capsys, *arguments):
    assert main(["denoise", *arguments, *FAST, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "error" not in err
    return json.loads(out)


@pytest.mark.parametrize("sample", ["camera", "astronaut"])
@pytest.mark.parametrize(("suffix", "bits"), [("png", 8), ("png", 16), ("tif", 8), ("tif", 16), ("jpg", 8)])
def test_every_format_keeps_depth_and_colour_and_loses_noise(capsys, sample, suffix, bits):
    clean = write_noisy(f"in.{suffix}", sample, bits)
    said = denoise_json(capsys, f"in.{suffix}", "-o", f"out.{suffix}", "--sigma", "20")
    noisy, denoised = read_image(f"in.{suffix}"), read_image(f"out.{suffix}")
    assert (denoised.bits, denoised.pixels.shape) == (bits, clean.shape)
    assert psnr(denoised.pixels, clean) > psnr(noisy.pixels, clean) + 3
    assert said["sigma"] == pytest.approx(20)
    assert (said["psnr_noisy"], said["psnr"], said["ssim"]) == (None, None, None)
    assert said["written"] == [f"out.{suffix}"]


def test_a_reference_is_measured_against_as_written_in_the_file(capsys):
    clean = write_noisy("in.png", "camera")
    said = denoise_json(capsys, "in.png", "-o", "out.png", "--sigma", "20", "--reference", "clean.png")
    assert said["psnr_noisy"] == pytest.approx(psnr(read_image("in.png").pixels, clean), abs=0.01)
    assert said["psnr"] == pytest.approx(psnr(read_image("out.png").pixels, clean), abs=0.05)
    assert said["psnr"] > said["psnr_noisy"] + 3
    assert said["ssim_noisy"] < said["ssim"] < 1
    assert said["seconds"] > 0
    assert said["peak_memory_mb"] > 10


def test_the_range_of_psnr_is_that_of_the_data_and_told(capsys):
    clean = 3000 * crop("camera").astype(np.float64) + 2000
    noisy = clean + np.random.default_rng(0).normal(0, 200, clean.shape)
    for dtype in ("uint16", "float32", "int16"):
        np.save("clean.npy", clean.astype(dtype))
        np.save("in.npy", noisy.astype(dtype))
        arguments = ["denoise", "in.npy", "--reference", "clean.npy", "--sigma", "0", "--range", "data"]
        assert main(arguments) == 0
        low, high = np.load("clean.npy").min(), np.load("clean.npy").max()
        assert f"range {low:.6g} to {high:.6g}" in " ".join(capsys.readouterr().out.split())
        assert main([*arguments, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["psnr_range"] == pytest.approx([low, high])
        expected = psnr(np.load("in.npy"), np.load("clean.npy"), data_range=high - low)
        assert said["psnr_noisy"] == pytest.approx(expected, abs=0.01)
    write_noisy("in.png", "camera")
    assert main(["denoise", "in.png", "--reference", "clean.png", "--sigma", "0"]) == 0
    assert "range 0 to 255" in " ".join(capsys.readouterr().out.split())


def test_added_noise_follows_the_protocol_and_its_level_is_known(capsys):
    write_image("in.png", Image(crop("camera")))
    said = denoise_json(capsys, "in.png", "--add-noise", "25", "-o", "out.png")
    clean = read_image("in.png").pixels
    noise = np.random.default_rng(3).normal(0, 25 / 255, clean.shape)
    assert said["psnr_noisy"] == pytest.approx(-10 * np.log10(np.mean(noise**2)), abs=1e-3)
    assert said["sigma"] == pytest.approx(25)


def test_without_a_level_the_noise_is_estimated(capsys):
    write_noisy("in.png", "camera", 16, sigma=15)
    said = denoise_json(capsys, "in.png", "-o", "out.png")
    assert said["sigma"] == pytest.approx(15, rel=0.25)
    write_image("clean8.png", Image(crop("camera")))
    said = denoise_json(capsys, "clean8.png", "-o", "out.png", "--add-noise", "15", "--sigma", "estimated")
    assert said["sigma"] != pytest.approx(15, abs=1e-6)
    assert said["sigma"] == pytest.approx(15, rel=0.25)


def test_the_same_seed_gives_the_same_file_and_alpha_is_kept(capsys):
    alpha = np.random.default_rng(1).random((64, 64))
    write_noisy("in.png", "camera", alpha=alpha)
    for name in ("a.png", "b.png"):
        denoise_json(capsys, "in.png", "-o", name)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    np.testing.assert_array_equal(read_image("a.png").alpha, read_image("in.png").alpha)


def test_a_person_sees_a_table_and_finds_the_images(capsys):
    write_noisy("in.png", "astronaut")
    arguments = ["in.png", "-o", "out.jpg", "--reference", "clean.png", "--sigma", "20"]
    images = ["--atoms-image", "atoms.png", "--figure", "figure.png"]
    assert main(["denoise", *arguments, *images, *FAST]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "64 x 64 colour, 8 bits, noise sigma 20 of 255" in out
    table = [line.split() for line in out.splitlines() if line.startswith(("noisy", "denoised"))]
    assert [len(row) for row in table] == [3, 3]
    assert float(table[1][1]) > float(table[0][1]) + 3
    assert "out.jpg, atoms.png, figure.png" in out
    assert read_image("atoms.png").pixels.std() > 0.05
    assert min(read_image("figure.png").pixels.shape[:2]) > 500


def test_what_a_format_loses_is_said_and_quiet_says_nothing(capsys):
    write_noisy("in.tif", "camera", 16)
    assert main(["denoise", "in.tif", "-o", "out.jpg", *FAST]) == 0
    assert (
        capsys.readouterr().err
        == "calepin: note: out.jpg: JPEG stores 8 bits per channel, the image has 16\n"
    )
    assert main(["denoise", "in.tif", "-o", "out.jpg", *FAST, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_failures_leave_the_old_output(capsys):
    write_noisy("out.png", "coins")
    old = Path("out.png").read_bytes()
    write_noisy("in.png", "camera")
    write_image("other.png", Image(crop("camera")[:32]))
    content = Path("in.png").read_bytes()
    Path("cut.png").write_bytes(content[: len(content) // 2])
    for arguments, message in [
        (["cut.png", "-o", "out.png"], "cut.png is not a readable image"),
        (
            ["in.png", "-o", "out.png", "--reference", "other.png"],
            "reference: expected the image's shape (64, 64), got (32, 64)",
        ),
        (["in.png", "-o", "out.png", "--patch-size", "1"], "patch_size: expected"),
        (["in.png", "-o", "out.png", "--n-components", "0"], "n_components: expected"),
        (["in.png", "-o", "out.png", "--patch-size", "100"], "image: expected at least 100 x 100 pixels"),
    ]:
        assert main(["denoise", *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
        assert Path("out.png").read_bytes() == old


def test_a_trained_network_denoises_colour_files_and_samples(capsys):
    clean = write_noisy("in.png", "astronaut", sigma=25)
    network = ["--method", "network", "--json"]
    assert main(["denoise", "in.png", "-o", "out.png", "--sigma", "25", *network]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert psnr(read_image("out.png").pixels, clean) > psnr(read_image("in.png").pixels, clean) + 6
    assert json.loads(out)["sigma"] == pytest.approx(25)
    noisy = ["--sample", "coins", "--add-noise", "90", "--model", "bsd-gaussian", "--json"]
    assert main(["denoise", *noisy, "--atoms-image", "atoms.png"]) == 0
    out, err = capsys.readouterr()
    assert "bsd-gaussian was trained for noise of sigma up to 75, the image has 90: it is scaled" in err
    assert json.loads(out)["psnr"] > json.loads(out)["psnr_noisy"] + 8
    assert read_image("atoms.png").pixels.std() > 0.05


def test_a_model_that_tells_no_level_is_applied_as_it_is(capsys):
    write_image("in.png", Image(0.5 + np.random.default_rng(0).normal(0, 10 / 255, (40, 40))))
    atoms = 0.3 * torch.randn(8, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    UnfoldedAutoencoder(atoms, L1(5.0), stride=2, n_unfold=2, local_mean=9).save("mine.safetensors")
    assert main(["denoise", "in.png", "-o", "out.png", "--sigma", "10", "--model", "mine.safetensors"]) == 0
    assert "mine.safetensors has no noise level of its training" in capsys.readouterr().err


def test_what_a_model_cannot_do_is_said_in_one_line(capsys):
    write_noisy("in.png", "camera")
    write_image("small.png", Image(crop("camera", 7)))
    save_arrays("dictionary.safetensors", "dictionary", {"components": np.eye(4)}, {})
    Path("cut.safetensors").write_bytes(Path("dictionary.safetensors").read_bytes()[:40])
    for arguments, message in [
        (["in.png", "--model", "dncnn"], "expected PATH.safetensors or one of bsd-gaussian"),
        (
            ["in.png", "--model", "dictionary.safetensors"],
            "holds a 'dictionary', expected a 'unfolded-autoencoder'",
        ),
        (["in.png", "--model", "cut.safetensors"], "cut.safetensors"),
        (["in.png", "--model", "nowhere.safetensors"], "nowhere.safetensors"),
        (["in.png", "--model", "in.png"], "in.png"),
        (["small.png", "--method", "network", "--sigma", "25"], "at least 8 x 8 pixels, got 7 x 7"),
        (["in.png", "--model", "bsd-gaussian", *PHOTONS], "a network for gray images and Poisson data"),
    ]:
        assert main(["denoise", *arguments, "-o", "out.png"]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
        assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--peak", ["--peak", "4"]),
        ("--sigma", [*PHOTONS, "--sigma", "25"]),
        ("--sigma", [*PHOTONS, "--sigma", "estimated"]),
        ("--model", ["--method", "dictionary", "--model", "bsd-gaussian"]),
        ("--patch-size", ["--method", "network", "--patch-size", "8"]),
        ("--n-components", ["--model", "bsd-gaussian", "--n-components", "256"]),
        ("--offset", [*PHOTONS[:2], "--offset", "10"]),
        ("--peak", [*PHOTONS, "--gain", "2"]),
        ("--gain", ["--gain", "2"]),
        ("--gain", [*PHOTONS[:2], "--gain", "0"]),
        ("--seed", ["--method", "network", "--seed", "0"]),
        ("--reference", ["--add-noise", "25", "--reference", "in.png"]),
    ],
)
def test_an_option_that_would_do_nothing_is_refused_by_name(capsys, option, arguments):
    write_noisy("in.png", "camera")
    assert main(["denoise", "in.png", "-o", "out.png", *arguments]) == 2
    err = capsys.readouterr().err
    assert f"Invalid value for {option}: " in err
    assert err.count("\n") == 1
    assert not Path("out.png").exists()


def test_the_help_shows_the_defaults_of_the_functions(capsys):
    assert main(["denoise", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for option, default in (("--patch-size N", "8"), ("--n-components N", "256"), ("--rule", "ksvd")):
        assert f"[default: {default}]" in words[words.index(option) :][:120]


HOUNSFIELD = (-1000.0, 3000.0)


def write_hounsfield(path, dtype, sigma=200):
    """Write a noisy image in units of its own; return the clean one."""
    black, white = HOUNSFIELD
    clean = black + (white - black) * crop("camera").astype(np.float64)
    noisy = clean + np.random.default_rng(0).normal(0, sigma, clean.shape)
    samples = noisy.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(noisy).astype(dtype)
    if path.endswith(".npy"):
        np.save(path, samples)
    else:
        tifffile.imwrite(path, samples)
    return clean


@pytest.mark.parametrize(("name", "dtype"), [("a.tif", "float32"), ("a.tif", "int16"), ("a.npy", "float64")])
def test_images_with_units_of_their_own_keep_them(capsys, name, dtype):
    clean = write_hounsfield(name, dtype)
    np.save("clean.npy", clean)
    out = f"out{name[1:]}"
    options = ["--range=-1000:3000", "--reference", "clean.npy", "--figure", "figure.png"]
    said = denoise_json(capsys, name, "-o", out, *options)
    assert said["sigma"] == pytest.approx(200, rel=0.2)
    assert said["range"] == [-1000, 3000]
    assert said["psnr"] > said["psnr_noisy"] + 3
    denoised = np.load(out) if name == "a.npy" else tifffile.imread(out)
    assert denoised.dtype == dtype
    assert np.sqrt(np.mean((denoised - clean) ** 2)) < 0.7 * 200
    assert read_image("figure.png").pixels.std() > 0.1
    known = denoise_json(capsys, name, "-o", out, "--range", "data", "--sigma", "200")
    assert known["sigma"] == pytest.approx(200)


def test_noise_is_added_in_the_units_of_the_range(capsys):
    write_hounsfield("a.npy", "float32", sigma=0)
    said = denoise_json(capsys, "a.npy", "-o", "out.png", "--range=-1000:3000", "--add-noise", "400")
    assert said["sigma"] == pytest.approx(400)
    assert said["psnr_noisy"] == pytest.approx(20, abs=0.3)  # a tenth of the range


def test_ranges_and_values_that_are_no_pixels_are_refused(capsys):
    write_hounsfield("a.tif", "int16")
    write_hounsfield("b.npy", "float64")
    np.save("nan.npy", np.where(np.eye(20), np.nan, 0.5))
    np.save("parts.npy", np.arange(400.0).reshape(20, 20) / 5)
    for arguments, message in [
        (["a.tif", "--sigma", "99999"], "--sigma: expected at most the range of the samples"),
        (["a.tif", "--add-noise", "1e40"], "--add-noise': Input should be less than or equal to 1000000000"),
        (
            ["nan.npy"],
            "nan.npy is not a readable image: 20 of its samples are NaN or infinite: missing pixels",
        ),
        (["b.npy", "--range", "5"], "--range: expected LO:HI with LO < HI, or 'data', got '5'"),
        (["b.npy", "--range", "5:5"], "--range: expected LO:HI with LO < HI"),
        (["b.npy", "--range", "nan:5"], "--range: expected LO:HI with LO < HI"),
        (["--sample", "camera", "--range", "data"], "--range: is for IMAGE, not for a sample"),
        (["b.npy", "--range", "data", *PHOTONS], "image: expected counts and a range from 0"),
        (["parts.npy", *PHOTONS], "image: expected whole counts, got 0.2"),
    ]:
        assert main(["denoise", *arguments, "-o", "out.npy"]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_counts_of_any_type_are_denoised_to_expected_counts(capsys, counts):
    np.save("counts.npy", counts.astype(np.int32))
    assert main(["denoise", "counts.npy", *PHOTONS, "--range", "0:4", "-o", "out.npy"]) == 0
    result = calepin.denoise(counts, noise=calepin.PoissonNoise(4))
    np.testing.assert_allclose(np.load("out.npy"), result.image, atol=1e-4)


@pytest.fixture
def counts():
    """Write the counts of a clean image as the samples of counts.png."""
    clean = load_sample("camera").pixels[200:240, 200:240]
    write_image("clean.png", Image(clean))
    drawn = np.random.default_rng(0).poisson(clean / clean.max() * 4)
    write_image("counts.png", Image(drawn / 255))
    return drawn


@pytest.mark.usefixtures("counts")
def test_photons_are_drawn_from_a_clean_image(capsys):
    said = []
    for seed in ("0", "0", "1"):
        arguments = ["clean.png", "--noise", "poisson", "--add-noise", "4", "--seed", seed, "-o", "out.png"]
        assert main(["denoise", *arguments, "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0]["psnr"] == said[1]["psnr"] > said[0]["psnr_noisy"] + 6
    assert said[2]["psnr_noisy"] != said[0]["psnr_noisy"]
    assert (said[0]["peak"], said[0]["sigma"]) == (4, None)
    assert read_image("out.png").pixels.std() > 0.03


def test_an_image_of_counts_is_measured_against_the_clean_one(capsys, counts):
    assert main(["denoise", "counts.png", *PHOTONS, "--reference", "clean.png", "--figure", "f.png"]) == 0
    out = capsys.readouterr().out
    assert "40 x 40 gray" in out
    assert "noise of peak 4" in out
    assert main(["denoise", "counts.png", *PHOTONS, "-o", "out.png", "--atoms-image", "a.png", "-q"]) == 0
    result = calepin.denoise(counts, noise=calepin.PoissonNoise(4))
    expected = np.clip(result.image / 4, 0, 1)  # the peak is white where nothing is known of the clean image
    np.testing.assert_allclose(read_image("out.png").pixels, expected, atol=1e-4)
    assert read_image("a.png").pixels.std() > 0.02


@pytest.mark.usefixtures("counts")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["counts.png", "--noise", "poisson", "--peak", "0"], "peak: expected a finite number above 0"),
        (["counts.png", "--noise", "poisson", "--add-noise", "0"], "peak: expected a finite number above 0"),
        (["--sample", "camera", *PHOTONS], "--sample: a sample image holds no counts: use --add-noise PEAK"),
        (["clean.png", "--sample", "camera"], "give one of IMAGE and --sample NAME"),
        (["clean.png", "--sigma", "-3"], "--sigma: expected a number of at least 0 or 'estimated', got '-3'"),
        (["clean.png", "--sigma", "auto"], "--sigma: expected a number of at least 0 or 'estimated'"),
        (["clean.png", "--add-noise", "-3"], "--add-noise"),
    ],
)
def test_what_does_not_fit_is_named(capsys, arguments, message):
    assert main(["denoise", *arguments, "-o", "out.png"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("peak", ["4", "9", "100"])
def test_counts_of_any_peak_are_denoised_without_a_word(capsys, peak):
    write_image("clean.png", Image(crop("camera")))
    arguments = ["clean.png", "--noise", "poisson", "--add-noise", peak, "--seed", "0"]
    assert main(["denoise", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["psnr"] > said["psnr_noisy"] + 3
    assert "warning" not in err


def test_an_image_of_a_camera_keeps_its_units(capsys):
    clean = 100 + 2.2 * 300 * crop("camera", 100)
    noise = calepin.PoissonGaussianNoise(2.2, 100.0, 4.0)
    noisy = calepin.datasets.add_noise(clean, noise, random_state=0).round().clip(0, 65535)
    tifffile.imwrite("camera.tif", noisy.astype(np.uint16))
    known = ["--gain", "2.2", "--offset", "100", "--read-noise", "4"]
    for camera in (known, ["--gain", "estimated", "--offset", "100"]):
        arguments = ["camera.tif", "--noise", "poisson", *camera, "-o", "out.tif"]
        assert main(["denoise", *arguments, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["gain"] == pytest.approx(2.2, rel=0.3)
        assert said["offset"] == pytest.approx(100)
        found = tifffile.imread("out.tif")
        assert found.dtype == np.uint16
        assert np.mean((found - clean) ** 2) < 0.4 * np.mean((noisy - clean) ** 2)
    assert main(["denoise", "camera.tif", "--noise", "poisson", *known, "-o", "out.tif"]) == 0
    assert "noise gain 2.2, offset 100, read noise 4" in capsys.readouterr().out


def test_a_tiff_of_one_page_keeps_its_metadata(capsys):
    samples = np.rint(65535 * load_sample("camera").pixels[:48, :48]).astype(np.uint16)
    known = {"unit": "um", "Info": "exposure=20ms"}
    tifffile.imwrite("in.tif", samples, imagej=True, resolution=(10, 10), metadata=known)
    assert main(["denoise", "in.tif", "-o", "out.tif", *FAST]) == 0
    assert "note" not in capsys.readouterr().err
    with tifffile.TiffFile("in.tif") as old, tifffile.TiffFile("out.tif") as new:
        assert new.imagej_metadata == old.imagej_metadata
        assert new.pages[0].tags["XResolution"].value == (10, 1)
        assert (new.asarray() != samples).any()
    assert main(["denoise", "in.tif", "-o", "out.png", *FAST]) == 0
    assert "out.png: .png is written without the description and resolution" in capsys.readouterr().err


def test_counts_need_no_peak(capsys, counts):
    assert main(["denoise", "counts.png", "--noise", "poisson", "-o", "out.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peak"] is None
    result = calepin.denoise(counts, noise=calepin.PoissonNoise())
    expected = np.clip(result.image / counts.max(), 0, 1)  # the largest count is white
    np.testing.assert_allclose(read_image("out.png").pixels, expected, atol=1e-4)
    arguments = ["counts.png", "--noise", "poisson", "--reference", "clean.png", "-o", "out.png"]
    assert main(["denoise", *arguments, "--method", "dictionary", "--rule", "mod"]) == 0
    assert "noise of counts" in capsys.readouterr().out
    assert psnr(read_image("out.png").pixels, read_image("clean.png").pixels) > 18


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (["--noise", "poisson", "--add-noise", "9"], "no network is shipped for counts of peak 9"),
        (["--add-noise", "25", "--model", "loud.safetensors"], "the network removes more than the noise"),
    ],
)
def test_the_dictionary_takes_over_with_a_warning(capsys, noise, message):
    write_image("clean.png", Image(crop("camera", 32)))
    loud = pretrained("bsd-gaussian")
    loud.atoms.data *= 2
    loud.save("loud.safetensors")
    assert main(["denoise", "clean.png", "--method", "network", *noise, "--seed", "0", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["psnr"] > json.loads(out)["psnr_noisy"] + 2
    assert err.startswith(f"calepin: warning: {message}")
    assert err.count("\n") == 1


@pytest.mark.filterwarnings("default")
def test_a_level_estimated_as_zero_is_said(capsys):
    write_image("flat.png", Image(np.full((32, 32), 0.5)))
    assert main(["denoise", "flat.png", "-o", "out.png"]) == 0
    assert "warning: the noise level of the image is estimated as 0" in capsys.readouterr().err


def test_the_best_method_takes_settings_of_the_dictionary(capsys):
    clean = write_noisy("in.png", "camera", sigma=25)
    found = {}
    for method in ("best", "dictionary"):
        options = ["--sigma", "25", "--method", method, "--n-components", "64", "--seed", "0"]
        assert main(["denoise", "in.png", "-o", f"{method}.png", *options]) == 0
        found[method] = psnr(read_image(f"{method}.png").pixels, clean)
    assert capsys.readouterr().err == ""
    assert found["best"] > found["dictionary"] + 0.02
