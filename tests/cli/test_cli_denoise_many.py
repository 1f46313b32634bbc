"""``calepin denoise`` for many files and for stacks: each as if it were alone, none twice, none lost."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

import calepin
from calepin.cli import main
from calepin.core.files import save_arrays
from calepin.datasets import Image, load_sample, read_image, read_stack, write_image
from calepin.metrics import psnr

FAST = ["--n-components", "64", "--seed", "3"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def clean(k=0, size=48):
    return load_sample("camera").pixels[200 + 8 * k : 200 + 8 * k + size, 180 : 180 + size]


def noisy(k=0, sigma=20):
    return clean(k) + np.random.default_rng(k).normal(0, sigma / 255, clean(k).shape)


@pytest.fixture
def folder():
    """Write four noisy images of several formats into a folder."""
    Path("in").mkdir()
    for k, name in enumerate(["a.png", "b.tif", "c.npy", "d.png"]):
        write_image(Path("in") / name, Image(noisy(k), 16))
    Path("in/notes.txt").write_text("no image")
    return Path("in")


def run(*arguments, capsys, status=0):
    assert main(["denoise", *arguments, *FAST, "--json"]) == status
    out, err = capsys.readouterr()
    return (json.loads(out) if out else None), err


def names(files):
    return sorted(Path(file).name for file in files)


def test_each_file_of_a_batch_is_what_it_is_alone(capsys, folder):
    said, _ = run("in", "-o", "out", capsys=capsys)
    assert names(said["written"]) == ["a.png", "b.tif", "c.npy", "d.png"]
    for k, name in enumerate(["a.png", "b.tif", "c.npy", "d.png"]):
        assert main(["denoise", f"in/{name}", "-o", name, *FAST]) == 0
        assert Path(name).read_bytes() == Path("out", name).read_bytes()
        assert psnr(read_image(f"out/{name}").pixels, clean(k)) > psnr(noisy(k), clean(k)) + 3


def test_patterns_folders_and_files_are_taken_once(capsys, folder):
    said, _ = run("in/*.png", "in/a.png", "in/b.tif", "-o", "out", capsys=capsys)
    assert names(said["written"]) == ["a.png", "b.tif", "d.png"]


def test_what_is_done_is_not_done_again_but_for_other_settings_or_files(capsys, folder):
    run("in", "-o", "out", capsys=capsys)
    before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    said, err = run("in", "-o", "out", capsys=capsys)
    assert said["written"] == []
    assert len(said["skipped"]) == 4
    assert "4 of 4 images are in out already: skipped" in err
    assert before == {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}

    write_image("in/a.png", Image(noisy(5), 16))  # another image under the name
    os.utime("in/a.png", ns=(0, 0))
    Path("out/d.png").unlink()
    said, _ = run("in", "-o", "out", capsys=capsys)
    assert names(said["written"]) == ["a.png", "d.png"]
    said, _ = run("in", "-o", "out", "--sigma", "15", capsys=capsys)
    assert len(said["written"]) == 4


def test_results_that_were_lost_are_made_again_and_changed_ones_are_kept(capsys, folder):
    run("in", "-o", "out", capsys=capsys)
    kept = Path("out/a.png").read_bytes()
    Path("out/a.png").write_bytes(b"")
    said, _ = run("in", "-o", "out", capsys=capsys)
    assert names(said["written"]) == ["a.png"]
    assert Path("out/a.png").read_bytes() == kept
    write_image("out/a.png", Image(clean(), 8))
    _, err = run("in", "-o", "out", capsys=capsys, status=2)
    assert "cannot write out/a.png: it was changed after it was written; --force replaces it" in err


def test_a_shared_dictionary_is_that_of_all_files(capsys, folder):
    run("in", "-o", "out", "--share", capsys=capsys)
    write_image("in/e.png", Image(noisy(7), 16))
    said, _ = run("in", "-o", "out", "--share", capsys=capsys)
    assert len(said["written"]) == 5


def test_what_is_known_of_a_camera_is_told_for_each_plane(capsys):
    frames = 2 * np.random.default_rng(0).poisson(200 * np.stack([clean(0, 64)] * 2)) + 100
    tifffile.imwrite("in.tif", frames.astype(np.uint16), photometric="minisblack")
    options = ["--noise", "poisson", "--gain", "estimated", "--offset", "100"]
    assert main(["denoise", "in.tif", "-o", "out.tif", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)["images"][0]
    assert found["offset"] == [100, 100]
    assert len(found["gain"]) == len(found["read_noise"]) == 2


def test_a_file_that_fails_does_not_stop_the_others(capsys, folder):
    Path("in/b.tif").write_bytes(b"II*\0 damaged")
    said, err = run("in", "-o", "out", capsys=capsys, status=1)
    assert names(said["written"]) == ["a.png", "c.npy", "d.png"]
    assert [failed["image"] for failed in said["failed"]] == ["in/b.tif"]
    assert "calepin: error: in/b.tif" in err
    assert main(["denoise", "in", "-o", "other", "-q", *FAST]) == 1
    assert capsys.readouterr().err.startswith("calepin: error: in/b.tif")  # errors are not quiet
    write_image("in/b.tif", Image(noisy(1), 16))
    said, _ = run("in", "-o", "out", capsys=capsys)
    assert names(said["written"]) == ["b.tif"]


def test_files_of_others_are_not_replaced(capsys, folder):
    Path("out").mkdir()
    write_image("out/a.png", Image(clean(), 8))
    kept = Path("out/a.png").read_bytes()
    _, err = run("in", "-o", "out", capsys=capsys, status=2)
    assert "cannot write out/a.png: it exists; --force replaces it" in err
    assert [path.name for path in Path("out").iterdir()] == ["a.png"]
    assert Path("out/a.png").read_bytes() == kept
    run("in", "-o", "out", "--force", capsys=capsys)
    assert Path("out/a.png").read_bytes() != kept


def test_a_stack_is_denoised_plane_by_plane_and_keeps_its_file(capsys):
    planes = np.stack([noisy(k) for k in range(4)])
    samples = np.clip(1000 + 2000 * planes, 0, 65535).astype(np.uint16).reshape(2, 2, 48, 48)
    tifffile.imwrite("in.ome.tif", samples, ome=True, metadata={"axes": "TZYX", "PhysicalSizeX": 0.1})
    said, _ = run("in.ome.tif", "-o", "out.ome.tif", capsys=capsys)
    assert len(said["images"][0]["sigma"]) == 4
    stack = read_stack("out.ome.tif")
    assert (stack.axes, stack.samples.shape, stack.samples.dtype) == ("TZYX", samples.shape, np.uint16)
    with tifffile.TiffFile("in.ome.tif") as first, tifffile.TiffFile("out.ome.tif") as second:
        assert first.ome_metadata == second.ome_metadata
    for k, plane in enumerate(stack.planes):
        write_image("plane.tif", Image(samples.reshape(4, 48, 48)[k] / np.float32(65535), 16))
        run("plane.tif", "-o", "alone.tif", capsys=capsys)
        np.testing.assert_array_equal(tifffile.imread("alone.tif"), plane)


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float32", "float64"])
def test_stacks_keep_the_units_of_their_samples(capsys, dtype):
    planes = np.stack([noisy(k) for k in range(2)])
    low = 0 if dtype == "uint32" else -1000
    samples = (low + 3000 * np.clip(planes, 0, None)).astype(dtype)
    np.save("in.npy", samples)
    said, err = run("in.npy", "-o", "out.npy", "--axes", "ZYX", capsys=capsys)
    assert "noise levels are in these units" in err
    np.testing.assert_allclose(said["images"][0]["sigma"], 20 / 255 * 3000, rtol=0.2)
    out = np.load("out.npy")
    assert (out.dtype, out.shape) == (dtype, samples.shape)
    truth = low + 3000 * np.stack([clean(k) for k in range(2)])
    assert np.std(out - truth) < 0.6 * np.std(samples - truth)


def test_a_stack_of_counts_becomes_expected_counts(capsys):
    counts = np.random.default_rng(0).poisson(10 * np.stack([clean(k) for k in range(2)]))
    tifffile.imwrite("in.tif", counts.astype(np.uint16), photometric="minisblack")
    assert main(["denoise", "in.tif", "-o", "out.tif", "--noise", "poisson"]) == 0
    result = calepin.denoise(counts[1], noise=calepin.PoissonNoise())
    out = tifffile.imread("out.tif")
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[1], result.image, atol=1e-3)


def write_movie(dtype, axes="TYX", n=4):
    """Write a noisy and a clean movie, of samples of a type; return both."""
    still = np.stack([clean(k) for k in range(n)])
    movie = still + np.random.default_rng(0).normal(0, 20 / 255, still.shape)
    white = {"uint8": 255, "uint16": 65535, "float32": 1000}[dtype]
    both = []
    for name, pixels in (("movie.tif", movie), ("clean.tif", still)):
        samples = white * np.clip(pixels, 0, 1)
        both.append((np.rint(samples) if dtype[0] == "u" else samples).astype(dtype))
        tifffile.imwrite(name, both[-1], imagej=True, metadata={"axes": axes})
    return both


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_stack_is_compared_with_a_clean_one_as_a_whole_and_plane_by_plane(capsys, dtype):
    movie, still = write_movie(dtype)
    said, _ = run("movie.tif", "-o", "out.tif", "--reference", "clean.tif", capsys=capsys)
    (found,) = said["images"]
    done, span = tifffile.imread("out.tif"), float(still.max()) - float(still.min())
    assert found["psnr_range"] == pytest.approx([float(still.min()), float(still.max())], rel=1e-6)
    for name, planes in (("_noisy", movie), ("", done)):
        planes, target = planes.astype(float), still.astype(float)
        assert found[f"psnr{name}"] == pytest.approx(psnr(planes, target, data_range=span))
        each = [psnr(one, two, data_range=span) for one, two in zip(planes, target, strict=True)]
        expected = [min(each), np.median(each), max(each)]
        assert found[f"psnr_planes{name}"] == pytest.approx(expected)
    assert found["psnr"] > found["psnr_noisy"] + 3
    assert main(["denoise", "movie.tif", "-o", "out.tif", "--reference", "clean.tif", *FAST, "--force"]) == 0
    assert f"PSNR {found['psnr']:.2f} dB (noisy {found['psnr_noisy']:.2f}; range" in capsys.readouterr().out


def test_a_clean_stack_of_another_type_is_in_the_samples_of_the_noisy_one_or_in_parts_of_white(capsys):
    _, still = write_movie("uint8")
    wanted = None
    for clean_samples in (
        still,
        still.astype(np.float32),
        (still / 255).astype(np.float32),
        257 * still.astype("u2"),
    ):
        tifffile.imwrite("other.tif", clean_samples, imagej=True, metadata={"axes": "TYX"})
        said, _ = run("movie.tif", "-o", "out.tif", "--reference", "other.tif", "--force", capsys=capsys)
        measured = {k: v for k, v in said["images"][0].items() if k.startswith("psnr")}
        wanted = wanted or measured
        assert measured["psnr"] == pytest.approx(wanted["psnr"], abs=1e-4)
        assert measured["psnr_range"] == pytest.approx(wanted["psnr_range"], rel=1e-6)
    np.save("other.npy", still)  # its axes are those of the stack
    said, _ = run("movie.tif", "-o", "out.tif", "--reference", "other.npy", "--force", capsys=capsys)
    assert said["images"][0]["psnr"] == pytest.approx(wanted["psnr"])
    zarr = pytest.importorskip("zarr")
    zarr.create_array("other.zarr", data=still)
    said, _ = run("movie.tif", "-o", "out.tif", "--reference", "other.zarr", "--force", capsys=capsys)
    assert said["images"][0]["psnr"] == pytest.approx(wanted["psnr"])


def test_missing_samples_count_in_no_psnr_and_equal_planes_have_none(capsys):
    movie, still = write_movie("float32")
    movie[0] = still[0]
    movie[1, 5:9] = np.nan
    movie[2] = np.nan
    tifffile.imwrite("movie.tif", movie, imagej=True, metadata={"axes": "TYX"})
    assert main(["denoise", "movie.tif", "-o", "out.tif", "--reference", "clean.tif", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["images"]
    error = (movie - still)[~np.isnan(movie)].astype(float)
    expected = 20 * np.log10(float(np.ptp(still))) - 10 * np.log10(np.mean(error**2))
    assert found["psnr_noisy"] == pytest.approx(expected, abs=1e-3)
    assert found["psnr_planes_noisy"][2] is None
    assert found["psnr"] > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda still: still[:3],
            "expected shape (4, 48, 48) and axes TYX, those of the stack, got (3, 48, 48)",
        ),
        (lambda still: still[:, 1:], "got (4, 47, 48) and axes TYX in clean.tif"),
        (lambda still: still[0], "got (48, 48) and YX in clean.tif"),
        (lambda still: np.where(still > 900, np.nan, still), "reference: expected finite samples, got NaN"),
    ],
)
def test_a_clean_stack_that_does_not_fit_is_refused_in_one_line(capsys, change, message):
    _, still = write_movie("float32")
    other = change(still)
    axes = "TYX"[3 - other.ndim :]
    tifffile.imwrite("clean.tif", other.astype(np.float32), imagej=True, metadata={"axes": axes})
    _, err = run("movie.tif", "-o", "out.tif", "--reference", "clean.tif", capsys=capsys, status=2)
    assert message.replace("axes TYX in", "TYX in") in err
    assert err.count("error") == 1
    assert not Path("out.tif").exists()


def test_a_clean_stack_has_the_axes_of_the_noisy_one_where_both_are_known(capsys):
    _, still = write_movie("uint8")
    tifffile.imwrite("depth.tif", still, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite("pages.tif", still, photometric="minisblack", metadata=None)
    call = ["movie.tif", "-o", "out.tif", "--reference"]
    _, err = run(*call, "depth.tif", capsys=capsys, status=2)
    assert "expected shape (4, 48, 48) and axes TYX, those of the stack, got (4, 48, 48) and ZYX" in err
    said, _ = run(*call, "pages.tif", capsys=capsys)
    assert said["images"][0]["psnr"] > said["images"][0]["psnr_noisy"]
    _, err = run(*call, "none.tif", "--force", capsys=capsys, status=2)
    assert "no such file: none.tif" in err
    write_image("one.png", Image(clean()))
    _, err = run(*call, "one.png", "--force", capsys=capsys, status=2)
    assert "one.png is no stack of images" in err


@pytest.mark.parametrize("noise", ["gaussian", "poisson", "camera"])
def test_planes_in_depth_or_time_help_each_other(capsys, noise):
    frames = np.stack([clean(0)] * 5)
    rng = np.random.default_rng(0)
    if noise == "gaussian":
        samples, options, unit = 1000 * frames + rng.normal(0, 80, frames.shape) + 1000, [], 1000
    elif noise == "poisson":
        samples, options, unit = rng.poisson(20 * frames), ["--noise", "poisson"], 20
    else:
        samples = 2 * rng.poisson(100 * frames) + 100 + rng.normal(0, 2, frames.shape)
        options, unit = ["--noise", "poisson", "--gain", "2", "--offset", "100", "--read-noise", "2"], 200
    two = np.stack([samples, samples[::-1]]).astype(np.uint16)  # two channels
    tifffile.imwrite("in.ome.tif", two, ome=True, metadata={"axes": "CTYX"})
    assert main(["denoise", "in.ome.tif", "-o", "out.ome.tif", *options]) == 0
    assert "together along T" in capsys.readouterr().out
    assert main(["denoise", "in.ome.tif", "-o", "alone.ome.tif", "--method", "dictionary", *options]) == 0
    out, alone = read_stack("out.ome.tif"), read_stack("alone.ome.tif")
    assert out.axes == "CTYX"
    truth = unit * frames + {"gaussian": 1000, "poisson": 0, "camera": 100}[noise]
    for channel in range(2):
        better = np.std(alone.samples[channel] - truth) / np.std(out.samples[channel] - truth)
        assert 20 * np.log10(better) > 1
    if noise == "poisson":
        result = calepin.denoise(samples, noise=calepin.PoissonNoise(), axes="TYX")
        np.testing.assert_allclose(out.samples[0], result.image, atol=1e-3)


def test_missing_samples_of_a_series_are_filled_and_this_is_told(capsys):
    frames = 300 * np.stack([clean(0, 32)] * 4)
    rng = np.random.default_rng(0)
    samples = frames + rng.normal(0, 20, frames.shape)
    missing = rng.random(frames.shape) < 0.05
    samples[missing] = np.nan
    samples[2] = np.nan
    np.save("in.npy", samples.astype(np.float32))
    assert main(["denoise", "in.npy", "-o", "out.npy", "--axes", "TYX", "--figure", "f.png"]) == 0
    err = capsys.readouterr().err
    assert "note: in.npy: image: 0.28 of the samples are NaN: they are filled" in err
    out = np.load("out.npy")
    assert out.dtype == np.float32
    assert np.std(out - frames) < 10
    assert np.std((out - frames)[missing]) < 12
    assert Path("f.png").stat().st_size > 0


def test_a_map_of_levels_has_a_page_for_all_planes_or_for_each(capsys):
    frames = 300 * np.stack([clean(0, 32)] * 4)
    levels = np.broadcast_to(np.geomspace(5, 50, 32), (32, 32))
    samples = frames + levels * np.random.default_rng(0).standard_normal(frames.shape)
    np.save("in.npy", samples.astype(np.float32))
    np.save("map.npy", levels)
    tifffile.imwrite("map.tif", np.stack([levels] * 4).astype(np.float32), photometric="minisblack")
    for name in ("map.npy", "map.tif"):
        options = ["--axes", "TYX", "--noise-map", name]
        assert main(["denoise", "in.npy", "-o", f"{name}.npy", *options]) == 0
        assert "together along T" in capsys.readouterr().out
    one, each = np.load("map.npy.npy"), np.load("map.tif.npy")
    np.testing.assert_allclose(one, each, atol=1e-2)
    assert main(["denoise", "in.npy", "-o", "flat.npy", "--axes", "TYX"]) == 0
    assert np.std(one - frames) < 0.9 * np.std(np.load("flat.npy") - frames)


def test_a_series_in_colour_keeps_its_alpha_and_its_planes_help_each_other(capsys):
    cat = load_sample("cat").pixels[100:132, 150:182]
    frames = np.stack([cat] * 4)
    noisy = frames + np.random.default_rng(0).normal(0, 0.08, frames.shape)
    alpha = np.random.default_rng(1).random(frames.shape[:3])[..., None]
    samples = np.rint(65535 * np.clip(np.concatenate([noisy, alpha], axis=3), 0, 1)).astype(np.uint16)
    tifffile.imwrite(
        "in.tif", samples, photometric="rgb", extrasamples=["unassalpha"], metadata={"axes": "TYXS"}
    )
    assert main(["denoise", "in.tif", "-o", "out.tif"]) == 0
    assert "together along T" in capsys.readouterr().out
    out = read_stack("out.tif")
    assert (out.axes, out.samples.shape, out.samples.dtype) == ("TYXS", samples.shape, np.uint16)
    np.testing.assert_array_equal(out.samples[..., 3], samples[..., 3])
    assert psnr(out.samples[..., :3] / 65535, frames) > psnr(noisy, frames) + 9


def test_axes_make_a_stack_of_an_array_that_looks_like_colours(capsys):
    volume = np.stack([noisy(0)] * 3, axis=2).astype(np.float32)
    np.save("in.npy", np.clip(volume, 0, 1))
    said, _ = run("in.npy", "-o", "out.npy", "--axes", "YXZ", capsys=capsys)
    assert len(said["images"][0]["sigma"]) == 3
    assert np.load("out.npy").shape == volume.shape


@pytest.mark.parametrize("shape", [(9, 32, 32), (2, 32, 32, 3)])
def test_a_figure_of_a_stack_shows_planes_before_and_after(shape):
    from PIL import Image as PILImage

    values = np.random.default_rng(0).normal(120, 20, shape).clip(0, 255).astype(np.uint8)
    tifffile.imwrite("in.tif", values, photometric="rgb" if len(shape) == 4 else "minisblack")
    assert main(["denoise", "in.tif", "-o", "out.tif", "--figure", "sheet.png", *FAST]) == 0
    with PILImage.open("sheet.png") as drawn:
        width, height = drawn.size
    assert height / width > (0.4 if len(shape) == 4 else 1.2)  # a row for each of two, or six planes


def test_a_figure_of_an_image_that_a_pattern_names_is_drawn(folder):
    assert main(["denoise", "in/c*.npy", "-o", "out.npy", "--figure", "sheet.png", *FAST]) == 0
    assert Path("sheet.png").stat().st_size > 0


def test_no_image_that_a_pattern_names_is_replaced(capsys, folder):
    kept = Path("in/c.npy").read_bytes(), Path("in/a.png").read_bytes()
    _, err = run("in/c*.npy", "-o", "in/c.npy", capsys=capsys, status=2)
    assert "--output: expected another file than IMAGE, got in/c.npy for both" in err
    _, err = run("in/a*", "-o", "out.png", "--figure", "in/a.png", capsys=capsys, status=2)
    assert "--figure: expected another file than IMAGE, got in/a.png for both" in err
    assert kept == (Path("in/c.npy").read_bytes(), Path("in/a.png").read_bytes())


def test_warnings_name_the_file_once(capsys):
    Path("in").mkdir()
    write_image("in/flat.png", Image(np.full((32, 32), 0.5), 8))
    tifffile.imwrite("in/flat.tif", np.full((3, 32, 32), 7, np.uint8), photometric="minisblack")
    _, err = run("in", "-o", "out", capsys=capsys)
    for name in ("in/flat.png", "in/flat.tif"):
        assert err.count(f"note: {name}: the noise level of the image is estimated as 0") == 1


def test_pages_of_unknown_meaning_are_denoised_alone_and_this_is_said(capsys):
    pages = np.clip(np.stack([noisy(k) for k in range(2)]) * 255, 0, 255).astype(np.uint8)
    tifffile.imwrite("in.tif", pages, photometric="minisblack")
    assert main(["denoise", "in.tif", "-o", "out.tif"]) == 0
    assert "each page is denoised alone; with --axes ZYX or TYX" in capsys.readouterr().err
    assert main(["denoise", "in.tif", "-o", "other.tif", "--axes", "TYX"]) == 0
    assert not np.array_equal(tifffile.imread("out.tif"), tifffile.imread("other.tif"))


def test_one_dictionary_is_shared_and_the_order_of_files_changes_nothing(capsys, folder):
    run("in", "-o", "shared", "--share", capsys=capsys)
    run("in", "-o", "apart", capsys=capsys)
    a, b = (read_image(f"{where}/a.png").pixels for where in ("shared", "apart"))
    assert not np.array_equal(a, b)
    assert psnr(a, clean()) > psnr(b, clean()) - 0.3
    run("in", "-o", "again", "--share", capsys=capsys)
    for name in ("a.png", "b.tif", "c.npy", "d.png"):
        assert Path("shared", name).read_bytes() == Path("again", name).read_bytes()


def test_a_dictionary_of_a_file_is_used_as_it_is(capsys, folder):
    atoms = np.random.default_rng(0).standard_normal((32, 25)).astype(np.float32)
    save_arrays("d.safetensors", "dictionary", {"components": atoms}, {})
    assert main(["denoise", "in", "-o", "out", "--dictionary", "d.safetensors"]) == 0
    denoiser = calepin.imaging.DictionaryDenoiser(dictionary=atoms, n_iter=0)
    image = read_image("in/c.npy").pixels
    expected = calepin.denoise(image, method=denoiser).image
    np.testing.assert_allclose(read_image("out/c.npy").pixels, np.clip(expected, 0, 1), atol=1e-5)


def test_what_does_not_go_with_many_images_is_refused_in_one_line(capsys, folder):
    planes = np.stack([noisy(k) for k in range(2)]).astype(np.float32)
    np.save("stack.npy", np.clip(planes, 0, 1))
    planes = np.clip(planes, 0, 1)
    planes[1, 3, 4] = np.nan
    np.save("nan.npy", planes)
    planes[1, 3, 4] = np.inf
    np.save("inf.npy", planes)
    np.save("wide.npy", np.ones((3, 48, 48)))
    Path("empty").mkdir()
    Path("twice").mkdir()
    write_image("twice/a.png", Image(noisy(), 8))
    save_arrays("flat.safetensors", "dictionary", {"components": np.ones((8, 16))}, {})
    save_arrays("long.safetensors", "dictionary", {"components": np.ones((8, 15))}, {})
    for arguments, message in [
        (["in"], "--output: expected a file or folder for the images, got none"),
        (["in", "-o", "out.png"], "--output: expected a folder for 4 images, got out.png"),
        (["in", "-o", "out", "--reference", "in/a.png"], "--reference: is for one image or one stack"),
        (
            ["in/[a].png", "-o", "o.png", "--reference", "in/b.tif"],
            "--reference: is for one image or one stack",
        ),
        (["in", "-o", "out", "--add-noise", "3"], "--add-noise: is for a single image"),
        (["in", "-o", "out", "--figure", "a.png"], "--figure: is for one image or one stack"),
        (["in", "-o", "in"], "--output: expected another file than IMAGE, got in/a.png for both"),
        (["empty", "-o", "out"], "expected images in the folder empty"),
        (["x*.png", "-o", "out"], "expected files that match x*.png"),
        (["in/a.png", "twice/a.png", "-o", "out"], "in/a.png and twice/a.png would both be out/a.png"),
        (["in/a.png", "-o", "a.png", "--share"], "--share: is for several images"),
        (["in/a.png", "-o", "a.tif", "--axes", "YX"], "in/a.png is no stack of images"),
        (
            ["inf.npy", "-o", "out.npy", "--axes", "ZYX"],
            "inf.npy: expected finite samples, got 1 infinities",
        ),
        (
            ["nan.npy", "-o", "out.npy", "--axes", "ZYX", "--method", "best"],
            "nan.npy: 1 of its samples are NaN: they are filled without --method and its settings",
        ),
        (
            ["stack.npy", "-o", "out.npy", "--axes", "ZYX", "--noise-map", "wide.npy"],
            "wide.npy: expected the shape (48, 48) of a plane, or (2, 48, 48) of all, got (3, 48, 48)",
        ),
        (["in", "-o", "out", "--share", "--noise", "poisson"], "--share: needs white Gaussian noise"),
        (["in", "-o", "out", "--share", "--dictionary", "d.safetensors"], "d.safetensors"),
        (["in", "-o", "out", "--dictionary", "flat.safetensors"], "expected atoms that are not constant"),
        (["in", "-o", "out", "--dictionary", "long.safetensors"], "expected atoms of square patches"),
        (["stack.npy", "-o", "out.npy"], "array of shape (2, 48, 48): expected axes for it"),
        (["stack.npy", "-o", "out.npy", "--axes", "ZY"], "axes: expected letters with Y and X"),
        (["stack.npy", "-o", "out.png", "--axes", "ZYX"], "a stack needs a name that ends in .tif"),
    ]:
        assert main(["denoise", *arguments]) == 2, arguments
        err = capsys.readouterr().err
        assert message in err, (arguments, err)
        assert err.count("\n") == 1, err
    Path("out").mkdir(exist_ok=True)
    Path("out/calepin-denoise.json").write_text("{")
    assert main(["denoise", "in", "-o", "out"]) == 2
    assert "calepin-denoise.json is damaged: remove it" in capsys.readouterr().err


def test_an_interrupted_batch_keeps_what_is_done(monkeypatch, folder):
    from calepin.cli import denoise_many

    def interrupt(self, source, target, report):
        if source.name == "c.npy":
            raise KeyboardInterrupt
        return write(self, source, target, report)

    write = denoise_many.Done.write
    monkeypatch.setattr(denoise_many.Done, "write", interrupt)
    assert main(["denoise", "in", "-o", "out", *FAST, "-q"]) == 130
    known = json.loads(Path("out/calepin-denoise.json").read_text())["files"]
    assert sorted(known) == ["a.png", "b.tif"]


def test_no_file_of_an_option_is_replaced_by_a_result(capsys, folder):
    Path("out").mkdir()
    np.save("out/c.npy", np.full((48, 48), 20.0))
    write_image("out/a.png", Image(noisy(), 16))
    np.save("psd.npy", np.full((8, 8), 400.0))
    os.link("psd.npy", "out/d.png")
    atoms = np.random.default_rng(0).standard_normal((32, 25)).astype(np.float32)
    save_arrays("d.safetensors", "dictionary", {"components": atoms}, {})
    os.link("d.safetensors", "out/b.tif")
    for option, value, target in [
        ("--noise-map", "out/c.npy", "c.npy"),
        ("--dark-frame", "out/a.png", "a.png"),
        ("--psd", "psd.npy", "d.png"),
        ("--dictionary", "d.safetensors", "b.tif"),
        ("--model", "d.safetensors", "b.tif"),
    ]:
        kept = Path("out", target).read_bytes()
        sources = [str(path) for path in Path("in").glob(f"{Path(target).stem}.*")]
        assert main(["denoise", *sources, "-o", "out", option, value, "--force"]) == 2
        err = capsys.readouterr().err
        assert f"--output: expected another file than {option}, got out/{target} for both" in err
        assert Path("out", target).read_bytes() == kept
