"""``calepin reconstruct``: images and slices of k-space come back from few measurements."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from calepin.cli import main
from calepin.cli.measured import _by_matrix
from calepin.datasets import Image, load_sample, read_image, write_image
from calepin.metrics import psnr
from calepin.operators import NonCartesianFourier, Radon, radial_trajectory
from calepin.operators.fourier import centred_fft, centred_ifft, root_sum_of_squares

FAST = ["--max-iter", "100", "--n-starts", "1"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALEPIN_DATA", raising=False)


def of_network(arguments):
    """Return options of a fast fit; k-space has other priors by default."""
    return [*FAST, "--prior", "untrained"] if "--mri" in arguments else FAST


def said_as_json(capsys, *arguments):
    options = [] if "--prior" in arguments else of_network(arguments)
    assert main(["reconstruct", *map(str, arguments), *options, "--json"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "error" not in err
    return json.loads(out), err


def fails(capsys, *arguments):
    assert main(["reconstruct", *map(str, arguments), *of_network(arguments)]) == 2
    return capsys.readouterr().err


def smooth_images(n_coils, height=48, width=40):
    """Return complex images of coils (n_coils, height, width): a bright disc in turning phases."""
    y, x = np.mgrid[-0.9 : 1 : height * 1j, -1.1 : 1 : width * 1j]
    disc = 1 / (1 + np.exp(60 * (np.hypot(x, y) - 0.7)))
    turns = [np.exp(1j * (k + 0.5 * x)) * np.exp(-((x - np.cos(k)) ** 2)) for k in range(n_coils)]
    return (disc * np.array(turns)).astype(np.complex64)


def write_kspace(path, n_coils=2, **size):
    images = torch.from_numpy(smooth_images(n_coils, **size))
    kspace = centred_fft(images).numpy()
    np.save(path, kspace)
    return kspace, root_sum_of_squares(images[None])[0, 0].numpy()


@pytest.mark.parametrize("operator", ["gaussian", "hadamard", "dct", "mask"])
def test_a_bundled_image_comes_back_from_a_third_of_its_measurements(capsys, operator):
    said, err = said_as_json(
        capsys,
        "--sample",
        "camera",
        "--operator",
        operator,
        "--ratio",
        ".33",
        "--size",
        "32",
        "-o",
        "out.png",
    )
    assert "reduced from 512 x 512 to 32 x 32" in err
    assert "warning" not in err
    assert said["psnr"] > said["psnr_adjoint"] + 6
    assert said["ssim"] > said["ssim_adjoint"]
    assert said["fraction"] == pytest.approx(0.33, abs=1e-3)
    assert read_image("out.png").pixels.shape == (32, 32)


def test_the_same_seed_writes_the_same_image_and_all_measurements_give_it_back(capsys):
    arguments = ["--sample", "coins", "--size", "16", "--seed", "5"]
    for name in ("a.png", "b.png"):
        said_as_json(capsys, *arguments, "--ratio", ".5", "-o", name)
    assert (read_image("a.png").pixels == read_image("b.png").pixels).all()
    said, _ = said_as_json(capsys, *arguments, "--operator", "dct", "--ratio", "1")
    assert said["psnr"] > 80


def test_colour_is_taken_by_channel_and_odd_sizes_are_padded_and_said_to_be(capsys):
    said, err = said_as_json(
        capsys, "--sample", "cat", "--size", "24", "-o", "out.png", "--figure", "figure.png"
    )
    assert (said["width"], said["height"]) == (24, 16)
    assert "384 pixels padded with zeros to 512" in err
    assert "each colour channel" in err
    assert read_image("out.png").pixels.shape == (16, 24, 3)
    assert said["written"] == ["out.png", "figure.png"]
    assert read_image("figure.png").pixels.shape[1] > read_image("figure.png").pixels.shape[0]


def test_a_mask_of_ones_own_keeps_the_known_pixels(capsys):
    x = np.add.outer(np.linspace(0, 0.5, 16), np.linspace(0.1, 0.4, 16))
    write_image("in.png", Image(x, 16))
    known = np.ones((16, 16), bool)
    known[4:7, 3:12] = False
    np.save("known.npy", known)
    said, _ = said_as_json(capsys, "in.png", "--operator", "mask", "--mask", "known.npy", "-o", "out.png")
    out = read_image("out.png").pixels
    np.testing.assert_allclose(out[known], x[known], atol=1 / 255)
    assert said["psnr"] > said["psnr_adjoint"] + 6


def test_fully_sampled_kspace_is_thinned_out_and_measured_against(capsys):
    kspace, image = write_kspace("full.npy")
    said, _ = said_as_json(
        capsys, "full.npy", "--mri", "--acceleration", "3", "-o", "out.png", "--complex", "coils.npy"
    )
    assert said["fraction"] == pytest.approx(1 / 3, abs=0.01)
    assert said["psnr"] > said["psnr_adjoint"] + 2
    coils = np.load("coils.npy")
    assert (coils.dtype, coils.shape) == (np.complex64, kspace.shape)
    magnitude = np.clip(np.linalg.norm(coils, axis=0) / image.max(), 0, 1)
    assert psnr(magnitude, image / image.max()) == pytest.approx(said["psnr"], abs=0.1)
    np.testing.assert_allclose(read_image("out.png").pixels, magnitude, atol=1 / 255)


@pytest.mark.parametrize("prior", ["groups", "wavelet", "tv"])
def test_a_prior_on_calibrated_sensitivities_is_ahead_of_zero_filling(capsys, prior):
    write_kspace("full.npy", n_coils=3)
    said, err = said_as_json(capsys, "full.npy", "--mri", "--acceleration", "3", "--prior", prior)
    assert said["psnr"] > said["psnr_adjoint"] + 3
    assert "note" not in err


def test_groups_are_the_default_where_sensitivities_can_be_calibrated(capsys):
    write_kspace("full.npy", n_coils=3)
    arguments = ["reconstruct", "full.npy", "--mri", "--acceleration", "3"]
    said, _ = said_as_json(capsys, *arguments[1:], "--prior", "groups", "-o", "groups.png")
    assert main([*arguments, "-o", "default.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] == said["psnr"]
    assert (read_image("default.png").pixels == read_image("groups.png").pixels).all()
    assert main([*arguments, "--max-iter", "5"]) == 2
    assert "--max-iter: goes with --prior untrained" in capsys.readouterr().err


def test_without_a_full_middle_a_network_is_fitted_and_that_is_told(capsys):
    kspace, _ = write_kspace("full.npy")
    np.save("gaps.npy", kspace * (np.arange(40) % 2))
    assert main(["reconstruct", "gaps.npy", "--mri", "-o", "out.png", *FAST]) == 0
    assert "the middle of k-space is not fully sampled" in capsys.readouterr().err
    assert main(["reconstruct", "gaps.npy", "--mri", "-o", "out.png", "--prior", "tv"]) == 2
    assert "sensitivities need 6 x 6 samples" in capsys.readouterr().err


def test_full_kspace_is_shown_as_it_is(capsys):
    _, image = write_kspace("full.npy")
    said, err = said_as_json(capsys, "full.npy", "--mri", "--prior", "groups", "-o", "out.png")
    assert "fully sampled: the image is the inverse transform" in err
    assert (said["n_iter"], said["psnr"], said["fraction"]) == (0, None, 1.0)
    np.testing.assert_allclose(read_image("out.png").pixels, image / image.max(), atol=1 / 255)


def test_zeros_of_kspace_are_what_is_missing_and_what_was_acquired_is_kept(capsys):
    kspace, _ = write_kspace("full.npy")
    acquired = np.random.default_rng(0).random(kspace.shape[1:]) < 0.4
    acquired[18:30, 14:26] = True
    np.save("gaps.npy", kspace * acquired)
    said, _ = said_as_json(capsys, "gaps.npy", "--mri", "--complex", "coils.npy")
    assert (said["psnr"], said["psnr_adjoint"]) == (None, None)
    assert said["fraction"] == pytest.approx(acquired.mean())
    found = centred_fft(torch.from_numpy(np.load("coils.npy"))).numpy()
    np.testing.assert_allclose(found[:, acquired], kspace[:, acquired], atol=1e-4 * np.abs(kspace).max())
    np.save("mask.npy", acquired)
    masked, _ = said_as_json(capsys, "full.npy", "--mri", "--mask", "mask.npy", "--complex", "again.npy")
    assert masked["psnr"] > masked["psnr_adjoint"]
    np.testing.assert_allclose(np.load("again.npy"), np.load("coils.npy"), atol=1e-5)


def test_columns_of_zeros_are_cropped_and_their_place_is_told(capsys):
    kspace, _ = write_kspace("full.npy")
    np.save("padded.npy", np.pad(kspace, [(0, 0), (0, 0), (4, 6)]))
    err = fails(capsys, "padded.npy", "--mri", "--acceleration", "2")
    assert "columns other than 4:44 are zero and can be cut off" in err
    err = fails(capsys, "padded.npy", "--mri", "--acceleration", "2", "--columns", "4:44")
    assert "column 25" in err
    np.save("padded.npy", np.pad(kspace, [(0, 0), (0, 0), (5, 5)]))
    said, _ = said_as_json(
        capsys, "padded.npy", "--mri", "--acceleration", "2", "--columns", "5:45", "--pattern", "columns"
    )
    assert said["width"] == 40


def test_a_slice_and_the_middle_of_kspace_can_be_chosen(capsys):
    kspace, _ = write_kspace("one.npy")
    np.save("three.npy", np.stack([kspace, 2 * kspace, kspace]))
    said, err = said_as_json(capsys, "three.npy", "--mri", "--acceleration", "2", "--size", "16")
    assert "slice 1 of 0 to 2" in err
    assert (said["width"], said["height"]) == (16, 16)
    assert "expected 0 to 2, got 3" in fails(capsys, "three.npy", "--mri", "--slice", "3")


def test_the_zero_filled_image_is_the_inverse_transform(capsys):
    kspace, image = write_kspace("full.npy")
    mask = np.zeros(kspace.shape[1:], int)
    mask[14:34, 10:30] = 1
    np.save("mask.npy", mask)
    said, _ = said_as_json(capsys, "full.npy", "--mri", "--mask", "mask.npy")
    zero_filled = np.linalg.norm(centred_ifft(torch.from_numpy(kspace * mask)).numpy(), axis=0)
    peak = image.max()
    assert said["psnr_adjoint"] == pytest.approx(
        psnr(np.clip(zero_filled / peak, 0, 1), image / peak), abs=0.01
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of IMAGE and --sample"),
        (["--sample", "nobody"], "sample: expected one of"),
        (["--sample", "camera", "--ratio", "1.5"], "ratio: expected"),
        (["--sample", "camera", "--ratio", "nan"], "ratio: expected"),
        (["--sample", "camera", "--acceleration", "2"], "--acceleration: needs --mri"),
        (["--sample", "camera", "--mask", "mask.npy"], "--operator mask"),
        (
            ["--sample", "camera", "--operator", "mask", "--mask", "mask.npy"],
            "expected shape (128, 128), got (3, 3)",
        ),
        (["full.npy", "--mri"], "expected a file for the image"),
        (["--sample", "camera", "--prior", "tv"], "--prior: needs --mri"),
        (["full.npy", "--mri", "--mask", "mask.npy", "--pattern", "points"], "--pattern: goes with"),
        (["--sample", "camera", "--slice", "0"], "--slice: needs --mri"),
        (["full.npy", "--mri", "--ratio", "0.5"], "--ratio: is for images"),
        (
            ["--sample", "camera", "--operator", "mask", "--mask", "mask.npy", "--ratio", ".5"],
            "--ratio: has no",
        ),
        (["full.npy", "--mri", "--operator", "dct"], "--operator"),
        (
            ["full.npy", "--mri", "--acceleration", "2", "--mask", "mask.npy"],
            "--mask: goes without --acceleration",
        ),
        (
            ["full.npy", "--mri", "--mask", "mask.npy"],
            "expected shape (48, 40), or (40,) of columns, got (3, 3)",
        ),
        (["full.npy", "--mri", "--mask", "none.npy"], "at least one sample"),
        (["full.npy", "--mri", "--mask", "twos.npy"], "zeros and ones"),
        (["full.npy", "--mri", "--acceleration", "0.5"], "acceleration"),
        (["full.npy", "--mri", "--acceleration", "2", "--columns", "3"], "first:last"),
        (["full.npy", "--mri", "--acceleration", "2", "--complex", "out.png"], ".npy"),
        (["gaps.npy", "--mri"], "expected a file for the image"),
        (["real.npy", "--mri", "--acceleration", "2"], "complex"),
        (["nothing.npy", "--mri", "--acceleration", "2"], "only zeros"),
        (["missing.npy", "--mri", "--acceleration", "2"], "no such file"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(capsys, arguments, message):
    kspace, _ = write_kspace("full.npy")
    np.save("gaps.npy", kspace * (np.arange(40) % 2))
    np.save("real.npy", kspace.real)
    np.save("nothing.npy", 0 * kspace)
    np.save("mask.npy", np.eye(3, dtype=bool))
    np.save("none.npy", np.zeros((48, 40), bool))
    np.save("twos.npy", np.full((48, 40), 2))
    err = fails(capsys, *arguments)
    assert message in err
    assert err.startswith("calepin: error: ")
    assert len([line for line in err.splitlines() if "error" in line]) == 1


def test_quiet_says_nothing_and_writes_all_the_same(capsys):
    assert main(["reconstruct", "--sample", "coins", "--size", "16", "-o", "out.png", "-q", *FAST]) == 0
    assert capsys.readouterr() == ("", "")
    assert read_image("out.png").pixels.shape == (13, 16)


@pytest.mark.filterwarnings("default:the fit diverged")
def test_a_fit_that_diverged_is_told(capsys, monkeypatch):
    monkeypatch.setattr("calepin.reconstruction.scans.LEARNING_RATE", 1e12)
    _, err = said_as_json(capsys, "--sample", "camera", "--size", "16", "-o", "out.png")
    assert "warning: the fit diverged, its learning rate was halved" in err


def write_measured(sigma=0.01):
    """Write measurements of a crop by random patterns and as a sinogram; return the crop."""
    clean = load_sample("camera").pixels[200:232, 180:212].astype(np.float64)
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2, (500, 32, 32), dtype=np.uint8)
    counts = patterns.reshape(500, -1) @ clean.ravel()
    np.save("patterns.npy", patterns)
    np.save("matrix.npy", patterns.reshape(500, -1).astype(np.float32))
    np.save("y.npy", counts + sigma * rng.standard_normal(500))
    angles = torch.arange(0.0, 180.0, 5.0, dtype=torch.float64)
    sinogram = Radon((32, 32), angles)(torch.from_numpy(clean)[None])[0].numpy()
    np.save("sinogram.npy", sinogram + sigma * rng.standard_normal(sinogram.shape))
    np.save("angles.npy", angles.numpy())
    write_image("clean.tif", Image(clean, 32))
    return clean


@pytest.mark.parametrize(
    "arguments",
    [
        ["y.npy", "--matrix", "patterns.npy"],
        ["y.npy", "--matrix", "patterns.npy", "--shape", "32x32"],
        ["y.npy", "--matrix", "matrix.npy"],
        ["y.npy", "--matrix", "matrix.npy", "--shape", "32x32", "--sigma", ".01", "--prior", "tv"],
        ["sinogram.npy", "--angles", "0:180", "--shape", "32x32"],
        ["sinogram.npy", "--angles", "angles.npy", "--shape", "32x32", "--prior", "groups"],
    ],
)
def test_measurements_that_were_made_become_an_image(capsys, arguments):
    clean = write_measured()
    assert main(["reconstruct", *arguments, "-o", "out.npy", "--reference", "clean.tif", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    image = np.load("out.npy")
    assert (image.shape, image.dtype) == ((32, 32), np.float32)
    assert said["psnr"] == pytest.approx(psnr(image, clean, data_range=np.ptp(clean)), abs=0.1)
    assert said["psnr"] > 24
    assert said["residual"] < 0.05


@pytest.mark.filterwarnings("always")
def test_a_sinogram_whose_geometry_does_not_fit_is_told(capsys):
    write_measured()
    np.save("turned.npy", np.load("sinogram.npy").T)
    options = ["--prior", "wavelet", "--sigma", "0.01", "-o", "out.npy"]
    for arguments, message in [
        (["sinogram.npy", "--angles", "0:180", "--shape", "32x32"], None),
        (["turned.npy", "--angles", "0:180"], "it seems to be (n_detectors, n_angles)"),
        (["sinogram.npy", "--angles", "0:3.1416", "--shape", "32x32"], "as those in radians"),
        (["sinogram.npy", "--angles", "0:180", "--shape", "12x12"], "does not explain"),
    ]:
        assert main(["reconstruct", *arguments, *options]) == 0
        told = capsys.readouterr().err
        assert ("does not explain" in told) == (message is not None)
        assert (message or "") in told


@pytest.mark.parametrize("white", [1, 255])
def test_a_reference_of_8_bits_is_in_the_units_of_the_measurements(capsys, white):
    clean = write_measured()
    write_image("clean.png", Image(np.rint(255 * clean) / 255, 8))
    np.save("y.npy", white * np.load("y.npy"))
    arguments = ["reconstruct", "y.npy", "--matrix", "patterns.npy", "-o", "out.npy", "--prior", "tv"]
    assert main([*arguments, "--max-iter", "9", "--reference", "clean.png", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["psnr"] == pytest.approx(psnr(np.load("out.npy") / white, clean, data_range=1), abs=0.1)
    assert said["n_iter"] <= 9


@pytest.mark.parametrize("dtype", ["f4", "f8", "u2"])
def test_the_order_of_bytes_of_a_matrix_changes_nothing(dtype):
    write_measured()
    rows = np.load("matrix.npy")
    for order, name in (("<", "little.npy"), (">", "big.npy")):
        np.save("rows.npy", rows.astype(order + dtype))
        given = ["y.npy", "--matrix", "rows.npy", "--sigma", ".01", "--prior", "tv"]
        assert main(["reconstruct", *given, "-o", name, "--quiet"]) == 0
    np.testing.assert_array_equal(np.load("big.npy"), np.load("little.npy"))


@pytest.mark.parametrize("rows", ["?", "i1", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("counts", ["i4", "f4", "f8"])
def test_any_numbers_are_measurements_for_an_untrained_network(rows, counts):
    write_measured()
    np.save("matrix.npy", np.load("matrix.npy").astype(rows))
    np.save("y.npy", np.load("y.npy").astype(counts))
    given = ["y.npy", "--matrix", "matrix.npy", "--prior", "untrained", "--sigma", "200", "-o", "out.npy"]
    assert main(["reconstruct", *given, "--quiet"]) == 0
    assert np.ptp(np.load("out.npy")) > 0


def test_large_integers_of_a_matrix_are_not_rounded():
    rows = 2**24 + np.arange(20).reshape(5, 4)
    np.save("rows.npy", rows)
    operator = _by_matrix(np.ones(5), Path("rows.npy"), None)
    np.testing.assert_array_equal(operator.matrix.numpy(), rows)


def test_a_column_of_measurements_is_a_vector(capsys):
    write_measured()
    np.save("column.npy", np.load("y.npy")[:, None])
    found = []
    for name in ("y.npy", "column.npy"):
        said_as_json(capsys, name, "--matrix", "matrix.npy", "--prior", "tv", "-o", "out.npy")
        found.append(np.load("out.npy"))
    np.testing.assert_array_equal(*found)


def test_measurements_that_do_not_fit_are_refused_in_one_line(capsys):
    write_measured()
    np.save("flat.npy", np.zeros((3, 7)))
    np.save("square.npy", np.zeros((250, 2)))
    np.save("nan.npy", [np.nan, np.inf, *np.zeros(498)])
    tifffile.imwrite("pages.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    np.save("nan_angles.npy", [0, 5, np.nan])
    np.save("long.npy", np.ones((500, 4), np.longdouble))
    np.save("complex.npy", np.ones((500, 4), complex))
    for arguments, message in [
        (["y.npy", "--matrix", "flat.npy"], "--shape: expected HEIGHTxWIDTH, 7 pixels are no square"),
        (
            ["y.npy", "--matrix", "flat.npy", "--shape", "1x7"],
            "expected a row for each measurement, (500,), got (3, 7)",
        ),
        (["square.npy", "--matrix", "matrix.npy"], "measurements: expected one for each row of matrix.npy"),
        (["y.npy", "--matrix", "matrix.npy", "--shape", "31x33"], "for images of 31 x 33, got (500, 1024)"),
        (["y.npy", "--matrix", "matrix.npy", "--shape", "32"], "--shape: expected HEIGHTxWIDTH, got '32'"),
        (
            ["nan.npy", "--matrix", "matrix.npy"],
            "nan.npy: expected finite measurements, got 2 of 500 that are NaN",
        ),
        (
            ["complex.npy", "--matrix", "matrix.npy"],
            "complex.npy: expected real measurements, got complex128",
        ),
        (
            ["pages.tif"],
            "IMAGE: expected an image of one page, or measurements in .npy with --matrix or --angles",
        ),
        (["y.npy", "--matrix", "long.npy"], "--matrix: expected real numbers of up to 64 bits, got "),
        (
            ["y.npy", "--matrix", "complex.npy"],
            "--matrix: expected real numbers of up to 64 bits, got complex",
        ),
        (["y.npy", "--angles", "0:180"], "expected a sinogram (n_angles, n_detectors), got shape (500,)"),
        (["sinogram.npy", "--angles", "y.npy"], "--angles: expected 36 angles, one for each row"),
        (
            ["sinogram.npy", "--angles", "nan_angles.npy"],
            "finite angles, got nan_angles.npy, whose angle 2 is nan",
        ),
        (["sinogram.npy", "--angles", "0:nan"], "expected finite angles, got 0:nan, whose angle 1 is nan"),
        (["sinogram.npy", "--angles", "-inf:9"], "expected finite angles, got -inf:9, whose angle 0 is -inf"),
        (
            ["y.npy", "--matrix", "matrix.npy", "--sigma", "1e39"],
            "noise: expected sigma in the units of y, whose largest magnitude is ",
        ),
        (
            ["y.npy", "--matrix", "matrix.npy", "--prior", "untrained", "--n-starts", "2"],
            "--n-starts: has no effect with --matrix",
        ),
        (["sinogram.npy", "--angles", "180"], "--angles: expected FIRST:LAST in degrees or a file .npy"),
        (["sinogram.npy", "--angles", "0:180", "--matrix", "matrix.npy"], "--angles: goes without --matrix"),
        (["sinogram.npy", "--angles", "0:180", "--mri"], "--mri: has no effect with --angles"),
        (["sinogram.npy", "--angles", "0:180", "--ratio", ".1"], "--ratio: has no effect with --angles"),
        (["y.npy", "--shape", "32x32"], "--shape: needs --matrix, --angles or --trajectory"),
        (["sinogram.npy", "--angles", "0:180", "--reference", "clean.tif"], "reference: expected the shape"),
    ]:
        assert main(["reconstruct", *arguments, "-o", "out.npy"]) == 2, arguments
        err = capsys.readouterr().err
        assert message in err, (arguments, err)
        assert err.count("\n") == 1, err


def test_a_magnitude_keeps_the_units_of_kspace_where_the_format_can(capsys):
    _, magnitude = write_kspace("full.npy")
    for name in ("out.tif", "out.npy"):
        assert main(["reconstruct", "full.npy", "--mri", "-o", name]) == 0
        image = read_image(name, value_range="auto")
        values = image.pixels if image.levels is None else image.levels.samples(image.pixels)
        np.testing.assert_allclose(values, magnitude, rtol=1e-4, atol=1e-4)


def test_coils_that_are_not_the_first_axis_are_asked_for(capsys):
    kspace, _ = write_kspace("full.npy")
    np.save("last.npy", np.moveaxis(kspace, 0, -1))
    main(["reconstruct", "last.npy", "--mri", "-o", "out.png"])
    assert "48 coils of 40 x 2 samples: are coils the first axis?" in capsys.readouterr().err


def write_spokes(n_coils, n_spokes=16):
    """Write samples along spokes, a third of what 40 x 40 pixels need; return the magnitude."""
    images = torch.from_numpy(smooth_images(n_coils, height=40))
    spokes = radial_trajectory((40, 40), n_spokes)
    np.save("spokes.npy", NonCartesianFourier((n_coils, 40, 40), spokes)(images[None])[0].numpy())
    np.save("k.npy", spokes.numpy())
    np.save("maps.npy", (images / torch.linalg.vector_norm(images, dim=0).clamp_min(1e-3)).numpy())
    return np.linalg.norm(images.numpy(), axis=0)


@pytest.mark.parametrize(("n_coils", "more"), [(1, []), (3, []), (3, ["--sensitivities", "maps.npy"])])
def test_samples_along_spokes_become_an_image_in_the_units_of_kspace(capsys, n_coils, more):
    truth = write_spokes(n_coils)
    arguments = ["spokes.npy", "--mri", "--trajectory", "k.npy", "--prior", "wavelet", *more]
    said, _ = said_as_json(capsys, *arguments, "-o", "out.tif")
    assert (said["width"], said["height"], said["psnr"]) == (40, 40, None)
    image = read_image("out.tif", value_range="auto")
    levels = image.levels
    found = image.pixels if levels is None else image.pixels * levels.unit + levels.black
    assert psnr(found, truth) > 30


@pytest.mark.parametrize("source", ["spokes.npy", "full.npy"])
def test_predicted_errors_go_with_sensitivities_and_with_trajectories(capsys, source):
    truth = write_spokes(3)
    kspace = centred_fft(torch.from_numpy(smooth_images(3, height=40))).numpy()
    np.save("full.npy", kspace)
    more = ["--trajectory", "k.npy"] if source == "spokes.npy" else ["--acceleration", "3"]
    arguments = [source, "--mri", *more, "--sensitivities", "maps.npy", "--prior", "wavelet"]
    said, _ = said_as_json(capsys, *arguments, "-o", "out.npy", "--error-map", "errors.npy")
    assert said["written"] == ["out.npy", "errors.npy"]
    error, predicted = np.abs(np.load("out.npy") - truth), np.load("errors.npy")
    assert predicted.shape == truth.shape
    assert 0.2 < np.sqrt((predicted**2).mean() / (error**2).mean()) < 5


@pytest.mark.parametrize(
    ("unit", "name"), [(1, "clean.npy"), (1, "clean.tif"), (1000, "clean.npy"), (0.99, "clean.png")]
)
def test_a_reference_along_a_trajectory_is_compared_in_the_units_of_kspace_or_of_its_own(capsys, unit, name):
    truth = write_spokes(3)
    if name == "clean.png":
        write_image(name, Image(unit * truth / truth.max(), 8))
    elif name == "clean.tif":
        tifffile.imwrite(name, truth.astype(np.float32))
    else:
        np.save(name, unit * truth)
    arguments = ["spokes.npy", "--mri", "--trajectory", "k.npy", "--prior", "wavelet", "--reference", name]
    said, err = said_as_json(capsys, *arguments, "-o", "out.npy")
    assert ("--reference is not in the units of k-space" in err) == (unit != 1)
    truth = truth / truth.max()
    image = np.load("out.npy")
    image *= (image * truth).sum() / (image**2).sum()  # the scale of least squares
    assert said["psnr"] == pytest.approx(psnr(image, truth, data_range=np.ptp(truth)), abs=0.3)
    assert said["psnr"] > said["psnr_adjoint"] + 5


@pytest.mark.filterwarnings("always:the total variation still fell")
def test_the_noise_of_kspace_can_be_given(capsys):
    write_spokes(3)
    write_kspace("full.npy", n_coils=3)
    residuals = {}
    for source, *more in (["spokes.npy", "--trajectory", "k.npy"], ["full.npy", "--acceleration", "3"]):
        for sigma in (".001", ".3"):
            given = ["--mri", "--prior", "tv", *more, "--sigma", sigma, "-o", "o.npy"]
            said, _ = said_as_json(capsys, source, *given)
            residuals[source, sigma] = said["residual"]
        assert residuals[source, ".001"] < residuals[source, ".3"]


def test_sets_of_sensitivities_are_those_of_bart(capsys):
    """The maps of ``bart ecalib -m2`` have their sets in dimension 4."""
    write_spokes(3)
    maps = np.load("maps.npy").astype(np.complex64)
    sets = np.stack([maps, 0.1 * maps.conj()])
    np.save("sets.npy", sets)
    bart = sets.transpose(2, 3, 1, 0)[:, :, None].astype(np.complex64)
    Path("sets.hdr").write_text("# Dimensions\n" + " ".join(map(str, bart.shape)) + "\n")
    Path("sets.cfl").write_bytes(bart.tobytes(order="F"))
    kspace = centred_fft(torch.from_numpy(smooth_images(3, height=40))).numpy()
    np.save("full.npy", kspace)
    for more in (["spokes.npy", "--trajectory", "k.npy"], ["full.npy", "--acceleration", "3"]):
        images = []
        for name in ("sets.npy", "sets.cfl", "sets.hdr"):
            arguments = [*more, "--mri", "--prior", "tv", "--sensitivities", name, "-o", "out.npy"]
            said_as_json(capsys, *arguments)
            images.append(np.load("out.npy"))
        for image in images[1:]:
            np.testing.assert_array_equal(image, images[0])


@pytest.mark.filterwarnings("always")
def test_sensitivities_of_another_scan_are_asked_for(capsys):
    write_spokes(3)
    np.save("others.npy", np.random.default_rng(0).standard_normal((3, 40, 40)) + 0j)
    call = ["spokes.npy", "--mri", "--trajectory", "k.npy", "--prior", "tv", "-o", "o.npy"]
    for name in ("maps.npy", "others.npy"):
        said, err = said_as_json(capsys, *call, "--sensitivities", name)
        assert ("% of the samples: they are noisy, or the trajectory" in err) == (name == "others.npy"), said[
            "residual"
        ]


def test_samples_and_trajectories_that_do_not_fit_are_told(capsys):
    write_spokes(2)
    k, samples = np.load("k.npy"), np.load("spokes.npy")
    np.save("cycles.npy", k / 40)
    np.save("fewer.npy", samples[:, :-1])
    np.save("small.npy", np.ones((8, 8)))
    np.save("zero.npy", np.zeros((40, 40)))
    np.save("signed.npy", np.eye(40) - 0.5)
    np.save("complex.npy", np.eye(40) * 1j)
    call = ["--mri", "--trajectory", "k.npy", "-o", "out.tif"]
    for arguments, message in (
        (["fewer.npy", *call], "samples: expected shape (n_coils, 1280), one for each of the coordinates"),
        (["spokes.npy", "--mri", "--trajectory", "cycles.npy", "-o", "o.tif"], "probably cycles per pixel"),
        (["spokes.npy", *call, "--shape", "20x20"], "shape: expected at least (40, 40) for frequencies"),
        (["spokes.npy", *call, "--slice", "0"], "--slice: is for k-space on a grid, not along a trajectory"),
        (["spokes.npy", *call, "--sigma", "0"], "--sigma: expected more than 0 for k-space"),
        (
            ["spokes.npy", *call, "--sigma", "1", "--prior", "untrained"],
            "--sigma: has no effect with --prior",
        ),
        (
            ["spokes.npy", *call, "--reference", "small.npy"],
            "reference: expected the magnitude of an image of shape (40, 40), got small.npy of shape (8, 8), "
            "see --shape",
        ),
        (
            ["spokes.npy", *call, "--reference", "zero.npy"],
            "reference: expected the magnitude of an image that is not 0 everywhere, got zero.npy",
        ),
        (
            ["spokes.npy", *call, "--reference", "signed.npy"],
            "reference: expected the magnitude of an image, at least 0, got signed.npy from -0.5 to 0.5",
        ),
        (
            ["spokes.npy", *call, "--reference", "complex.npy"],
            "reference: expected the magnitude of an image, got complex.npy of complex128: numpy.abs",
        ),
        (["spokes.npy", *call, "--sensitivities", "k.npy"], "k.npy holds float64, expected complex k-space"),
        (["spokes.npy", "--trajectory", "k.npy", "-o", "out.tif"], "--trajectory: needs --mri"),
    ):
        assert main(["reconstruct", *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
