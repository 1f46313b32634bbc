"""Commands on many images: each as if it were alone, none twice, none lost (denoise has tests of its own)."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile

from calepin.cli import main
from calepin.cli.many import Done
from calepin.cli.output import Output
from calepin.datasets import Image, Stack, load_sample, read_image, read_stack, write_image, write_stack

pytestmark = pytest.mark.filterwarnings("ignore:the last step still changed")  # of small images

COMMANDS = {
    "inpaint": ["--mask", "mask.png"],
    "deblur": ["--gaussian", "1", "--sigma", "2", "--prior", "tv"],
    "upscale": ["--sigma", "1", "--prior", "tv"],
    "demosaic": ["--sigma", "1", "--prior", "tv"],
}
DONE = {"inpaint": "filled", "deblur": "deblurred", "upscale": "enlarged", "demosaic": "demosaiced"}
NAMES = ["a.png", "b.tif", "c.npy"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pixels(k=0, size=24):
    return load_sample("camera").pixels[200 + 8 * k : 200 + 8 * k + size, 180 : 180 + size]


def mask(seed=0, size=24):
    return (np.random.default_rng(seed).random((size, size)) < 0.7).astype(float)


@pytest.fixture
def folder():
    """Write three images of several formats into a folder, a mask for all, and a folder with one for each."""
    Path("in").mkdir()
    for k, name in enumerate(NAMES):
        write_image(Path("in") / name, Image(pixels(k), 16))
    Path("in/notes.txt").write_text("no image")
    write_image("mask.png", Image(mask()))
    Path("masks").mkdir()
    for k, name in enumerate(["a.png", "b.png", "c.npy"]):
        write_image(Path("masks") / name, Image(mask(k)))
    return Path("in")


@pytest.fixture(params=sorted(COMMANDS))
def command(request):
    return request.param


def batch(run, command, *arguments, status=0, options=None):
    """Run a command and return what it says as JSON, and stderr."""
    found, out, err = run(command, *arguments, *(COMMANDS[command] if options is None else options), "--json")
    assert found == status, err
    return (json.loads(out) if out else None), err


def names(files):
    return sorted(Path(file).name for file in files)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_each_image_of_a_batch_is_what_it_is_alone(run, folder, command):
    said, err = batch(run, command, "in", "-o", "out")
    assert names(said["written"]) == NAMES
    assert "error" not in err
    for name in NAMES:
        alone, _ = batch(run, command, f"in/{name}", "-o", name)
        assert alone["written"] == [name]
        assert Path(name).read_bytes() == Path("out", name).read_bytes()
        assert Path(name).read_bytes() != Path("in", name).read_bytes()
    values = said["images"][-1]
    assert values["sigma"] == alone["sigma"]
    assert {"image", "written", "seconds"} < values.keys()


def test_files_keep_their_type_and_units(run, command):
    Path("in").mkdir()
    for name, dtype in [("a", "float32"), ("b", "float64"), ("c", "int16")]:
        np.save(f"in/{name}.npy", (1000 * pixels() - 200).astype(dtype))
    tifffile.imwrite("in/d.tif", (3000 * pixels()).astype(np.float32))
    write_image("mask.png", Image(mask()))
    batch(run, command, "in", "-o", "out")
    for name in ("a.npy", "b.npy", "c.npy", "d.tif"):
        load = np.load if name.endswith("npy") else tifffile.imread
        before, after = load(f"in/{name}"), load(f"out/{name}")
        assert after.dtype == before.dtype
        assert abs(after.mean() - before.mean()) < 0.1 * (before.max() - before.min())


def test_what_is_done_is_skipped_but_for_other_settings_or_files(run, folder, command):
    batch(run, command, "in/*.png", "in/a.png", "in/b.tif", "-o", "out")
    before = contents("out")
    assert sorted(before) == ["a.png", "b.tif", f"calepin-{command}.json"]
    said, err = batch(run, command, "in", "-o", "out")
    assert names(said["written"]) == ["c.npy"]
    assert names(said["skipped"]) == ["a.png", "b.tif"]
    assert "2 of 3 images are in out already: skipped" in err
    after = contents("out")
    assert [after[name] for name in ("a.png", "b.tif")] == [before[name] for name in ("a.png", "b.tif")]

    write_image("in/a.png", Image(pixels(5), 16))  # another image under the name
    os.utime("in/a.png", ns=(0, 0))
    said, _ = batch(run, command, "in", "-o", "out")
    assert names(said["written"]) == ["a.png"]
    said, _ = batch(run, command, "in", "-o", "out", "--range", "0:2")
    assert names(said["written"]) == NAMES


def test_a_file_that_fails_does_not_stop_the_others(run, folder, command):
    Path("in/b.tif").write_bytes(b"II*\0 damaged")
    status, out, err = run(command, "in", "in/none.png", "-o", "out", *COMMANDS[command])
    assert status == 1
    errors = [line for line in err.splitlines() if "error" in line]
    assert [("in/b.tif" in line, "in/none.png" in line) for line in errors] == [(True, False), (False, True)]
    assert f"2 {DONE[command]}, 0 skipped, 2 failed" in out
    write_image("in/b.tif", Image(pixels(1), 16))
    said, _ = batch(run, command, "in", "-o", "out")
    assert names(said["written"]) == ["b.tif"]


def test_debug_shows_where_a_file_of_several_failed(run, folder):
    Path("in/b.tif").write_bytes(b"II*\0 damaged")
    for command, options in (("upscale", COMMANDS["upscale"]), ("denoise", ["--n-components", "64"])):
        for debug in ([], ["--debug"]):
            _, err = batch(
                run, command, "in/a.png", "in/b.tif", "-o", command, *debug, options=options, status=1
            )
            assert ("Traceback (most recent call last)" in err) == bool(debug)
            assert err.splitlines()[-1].startswith("calepin: error: in/b.tif")


def test_an_image_that_is_gone_does_not_stop_the_others(run, folder, command):
    batch(run, command, "in", "-o", "out")
    Path("in/a.png").unlink()
    kept = contents("out")["a.png"]
    said, err = batch(run, command, "in/a.png", "in/b.tif", "-o", "out", status=1)
    assert names(said["skipped"]) == ["b.tif"]
    assert "in/a.png" in err
    assert contents("out")["a.png"] == kept


def test_files_of_others_are_not_replaced(run, folder, command):
    Path("out").mkdir()
    write_image("out/a.png", Image(pixels(), 8))
    before = contents("out")
    _, err = batch(run, command, "in", "-o", "out", status=2)
    assert "cannot write out/a.png: it exists; --force replaces it" in err
    assert contents("out") == before
    batch(run, command, "in", "-o", "out", "--force")
    assert contents("out")["a.png"] != before["a.png"]
    write_image("out/a.png", Image(pixels(), 8))
    _, err = batch(run, command, "in", "-o", "out", status=2)
    assert "cannot write out/a.png: it was changed after it was written; --force replaces it" in err


def test_results_of_another_command_are_not_replaced(run, folder):
    batch(run, "deblur", "in", "-o", "out")
    _, err = batch(run, "demosaic", "in", "-o", "out", status=2)
    assert "cannot write out/a.png: it exists; --force replaces it" in err


def test_one_image_of_a_folder_or_pattern_can_be_written_as_a_file(run, folder, command):
    batch(run, command, "in/a*", "-o", "out.png")
    batch(run, command, "in/a.png", "-o", "other.png")
    assert Path("out.png").read_bytes() == Path("other.png").read_bytes()
    assert not list(Path().glob("*.json"))


def test_no_image_is_replaced_by_its_result(run, folder, command):
    before = contents("in")
    for arguments in (["in", "-o", "in"], ["in/a*", "-o", "in/a.png"], ["in/a.png", "-o", "in"]):
        _, err = batch(run, command, *arguments, "--force", status=2)
        assert "--output: expected another file than IMAGE, got in/a.png for both" in err
    Path("out").mkdir()
    os.link("in/b.tif", "out/a.png")  # the result of one would replace another
    _, err = batch(run, command, "in", "-o", "out", "--force", status=2)
    assert "--output: expected another file than IMAGE, got out/a.png for both" in err
    assert contents("in") == before


def test_what_does_not_go_with_many_images_is_refused_in_one_line(run, folder, command):
    Path("twice").mkdir()
    write_image("twice/a.png", Image(pixels(), 8))
    Path("empty").mkdir()
    cases = [
        (["in", "-o", "out.png"], "--output: expected a folder for 3 images, got out.png"),
        (["in", "-o", "out", "--reference", "in/a.png"], "--reference: is for a single image"),
        (["in", "-o", "out", "--range", "2:1"], "--range: expected LO:HI with LO < HI"),
        (["empty", "-o", "out"], "expected images in the folder empty"),
        (["x*.png", "-o", "out"], "expected files that match x*.png"),
        (["in/a.png", "twice/a.png", "-o", "out"], "in/a.png and twice/a.png would both be out/a.png"),
    ]
    if command == "inpaint":
        cases.append((["in", "-o", "out", "--figure", "a.png"], "--figure: is for a single image or stack"))
    for arguments, message in cases:
        _, err = batch(run, command, *arguments, status=2)
        assert message in err, (arguments, err)
        assert err.count("\n") == 1, err
    assert not Path("out").exists()


def test_an_error_names_the_option(run, folder):
    write_image("in/a.png", Image(pixels(size=8)))
    options = ["--gaussian", "2", "--sigma", "1", "--prior", "tv"]
    said, err = batch(run, "deblur", "in", "-o", "out", status=1, options=options)
    assert "calepin: error: in/a.png: --gaussian: expected a blur of at most 1 pixels" in err
    assert names(said["written"]) == ["b.tif", "c.npy"]


def test_another_point_spread_function_is_another_setting(run, folder):
    options = ["--psf", "psf.npy", "--sigma", "1", "--prior", "tv"]
    np.save("psf.npy", np.ones((3, 3)) / 9)
    batch(run, "deblur", "in", "-o", "out", options=options)
    said, _ = batch(run, "deblur", "in", "-o", "out", options=options)
    assert said["written"] == []
    np.save("psf.npy", np.ones((5, 5)) / 25)
    said, _ = batch(run, "deblur", "in", "-o", "out", options=options)
    assert names(said["written"]) == NAMES
    Path("psfs").mkdir()
    np.save("psfs/c.npy", np.ones((3, 3)) / 9)
    options[1] = "psfs/c.npy"
    _, err = batch(run, "deblur", "in", "-o", "psfs", "--force", options=options, status=2)
    assert "--output: expected another file than --psf, got psfs/c.npy for both" in err


def test_each_image_has_the_mask_of_its_name(run, folder):
    said, _ = batch(run, "inpaint", "in", "-o", "out", options=["--mask", "masks"])
    assert [file["missing"] for file in said["images"]] == pytest.approx(
        [1 - mask(k).mean() for k in range(3)]
    )
    for k, (name, of_it) in enumerate(zip(NAMES, ["a.png", "b.png", "c.npy"], strict=True)):
        batch(run, "inpaint", f"in/{name}", "-o", name, options=["--mask", f"masks/{of_it}"])
        assert Path(name).read_bytes() == Path("out", name).read_bytes()
        batch(run, "inpaint", f"in/{name}", "-o", name, options=["--mask", "masks"])
        assert Path(name).read_bytes() == Path("out", name).read_bytes()
        known = mask(k) > 0
        np.testing.assert_array_equal(read_image(name).pixels[known], read_image(f"in/{name}").pixels[known])


def test_another_mask_is_another_setting(run, folder):
    batch(run, "inpaint", "in", "-o", "out", options=["--mask", "masks"])
    write_image("masks/b.png", Image(mask(7)))
    os.utime("masks/b.png", ns=(0, 0))
    said, _ = batch(run, "inpaint", "in", "-o", "out", options=["--mask", "masks"])
    assert names(said["written"]) == ["b.tif"]
    Path("masks/b.png").unlink()
    said, _ = batch(run, "inpaint", "in", "-o", "out", options=["--mask", "masks"], status=1)
    assert [names(said[key]) for key in ("written", "skipped")] == [[], ["a.png", "c.npy"]]


def test_masks_that_are_not_there_or_do_not_fit_are_errors_of_their_image(run, folder):
    Path("masks/b.png").unlink()
    write_image("masks/a.png", Image(mask(size=8)))
    write_image("in/d.png", Image(pixels()))
    for name in ("masks/d.tif", "masks/d.npy"):
        write_image(name, Image(mask()))
    said, err = batch(run, "inpaint", "in", "-o", "out", options=["--mask", "masks"], status=1)
    assert names(said["written"]) == ["c.npy"]
    assert "in/a.png: masks/a.png: expected a mask of the image's shape (24, 24), got (8, 8)" in err
    wanted = "expected one file {0}.png, .tif, .npy or .nii in masks for in/{0}.{1}, got {2}"
    assert "--mask: " + wanted.format("b", "tif", "none") in err
    assert "--mask: " + wanted.format("d", "png", "d.npy and d.tif") in err
    assert err.count("\n") == 3
    _, err = batch(run, "inpaint", "in", "-o", "other", options=["--mask", "nothing"], status=2)
    assert "--mask: expected a file or a folder of masks, got nothing, which does not exist" in err


def test_masks_are_not_replaced_by_results(run, folder):
    before = contents("masks")
    for arguments in (
        ["in", "-o", "masks"],
        ["in/a.png", "-o", "masks/a.png"],
        ["in/b.tif", "-o", "masks/b.png"],
    ):
        _, err = batch(run, "inpaint", *arguments, "--force", options=["--mask", "masks"], status=2)
        assert "--output: expected another file than --mask, got masks/" in err
    arguments = ["in/a*", "-o", "out.png", "--figure", "in/a.png"]
    _, err = batch(run, "inpaint", *arguments, options=["--mask", "masks"], status=2)
    assert "--figure: expected another file than IMAGE, got in/a.png for both" in err
    assert contents("masks") == before


def test_nan_is_missing_in_each_of_many_images(run):
    Path("in").mkdir()
    for k in range(2):
        np.save(f"in/{k}.npy", np.where(mask(k) > 0, 1000 * pixels(k) - 200, np.nan))
    said, _ = batch(run, "inpaint", "in", "-o", "out", options=[])
    assert [file["missing"] for file in said["images"]] == pytest.approx(
        [1 - mask(k).mean() for k in range(2)]
    )
    for k in range(2):
        filled = np.load(f"out/{k}.npy")
        assert np.isfinite(filled).all()
        np.testing.assert_allclose(filled[mask(k) > 0], (1000 * pixels(k) - 200)[mask(k) > 0], atol=1e-3)


@pytest.mark.parametrize("suffix", ["ome.tif", "npy", "zarr"])
def test_each_plane_of_a_stack_is_what_it_is_alone(run, folder, command, suffix):
    if suffix == "zarr":
        pytest.importorskip("zarr")
    planes = np.stack([np.rint(255 * pixels(k)) for k in range(3)]).astype(np.uint8)
    if suffix == "ome.tif":
        tifffile.imwrite("in/d.ome.tif", planes, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5})
    else:
        write_stack(f"in/d.{suffix}", Stack(planes, "ZYX"))
    options = [*COMMANDS[command], *(["--axes", "ZYX"] if suffix == "npy" else [])]
    target = f"d.{suffix}"
    if command == "inpaint":
        options = ["--mask", "masks/a.png"]
        options += ["--axes", "ZYX"] if suffix == "npy" else []
    said, _ = batch(run, command, f"in/d.{suffix}", "-o", target, options=options)
    assert said["images"][0]["written"] == target
    axes = "ZYXS" if command == "demosaic" else "ZYX"
    found = read_stack(target, axes=axes if suffix == "npy" else None)
    assert len(found.planes) == 3
    assert found.axes == axes
    assert found.samples.dtype == np.uint8
    write_image("one.png", Image(planes[1] / np.float32(255), 8))
    alone = [option for option in options if option not in {"--axes", "ZYX"}]
    batch(run, command, "one.png", "-o", "alone.png", options=alone)
    expected = np.rint(255 * read_image("alone.png").pixels)
    np.testing.assert_array_equal(found.planes[1], expected)
    if suffix == "ome.tif" and command in {"upscale", "deblur"}:
        with tifffile.TiffFile(target) as tiff:
            text = tiff.ome_metadata
        factor = 2 if command == "upscale" else 1
        assert f'SizeX="{24 * factor}"' in text
        assert f'PhysicalSizeX="{0.5 / factor:g}"' in text


def test_an_ome_tiff_of_one_page_keeps_its_metadata(run, folder, command):
    plane, known = np.rint(65535 * pixels()).astype(np.uint16), {"axes": "YX", "PhysicalSizeX": 0.5}
    tifffile.imwrite("in/d.ome.tif", plane, metadata=known, resolution=(20, 20), resolutionunit=3)
    options = ["--mask", "masks/a.png"] if command == "inpaint" else None
    _, err = batch(run, command, "in/d.ome.tif", "-o", "d.ome.tif", options=options)
    factor = 2 if command == "upscale" else 1
    with tifffile.TiffFile("d.ome.tif") as tiff:
        tags = tiff.pages[0].tags
        assert (tags["XResolution"].value, tags["ResolutionUnit"].value) == ((20 * factor, 1), 3)
        if command == "demosaic":
            assert "d.ome.tif: the description of OME, which names the colours of planes, was left out" in err
            return
        assert f'SizeX="{24 * factor}"' in tiff.ome_metadata
        assert f'PhysicalSizeX="{0.5 / factor:g}"' in tiff.ome_metadata


@pytest.mark.parametrize("dtype", ["u2", "u4", "f4"])
def test_the_order_of_bytes_of_a_stack_changes_nothing(run, dtype):
    planes = np.rint(60000 * np.stack([pixels(k) for k in range(2)]))
    for order, name in (("<", "little.npy"), (">", "big.npy")):
        np.save(name, planes.astype(order + dtype))
        _, err = batch(
            run, "deblur", name, "-o", f"of_{name}", options=[*COMMANDS["deblur"], "--axes", "ZYX"]
        )
        assert ("in these units" in err) == (dtype != "u2")
    np.testing.assert_array_equal(np.load("of_big.npy"), np.load("of_little.npy"))


def test_a_folder_may_hold_stacks_and_a_figure_shows_planes(run, folder):
    planes = np.stack([pixels(k) for k in range(3)]).astype(np.float32)
    tifffile.imwrite("in/d.tif", planes, photometric="minisblack")
    said, _ = batch(run, "upscale", "in", "-o", "out")
    assert names(said["written"]) == [*NAMES, "d.tif"]
    assert read_stack("out/d.tif").samples.shape == (3, 48, 48)
    batch(run, "upscale", "in/d.tif", "-o", "d.tif", options=[*COMMANDS["upscale"], "--figure", "f.png"])
    assert Path("f.png").stat().st_size > 0


def test_a_mask_has_a_page_for_all_planes_or_for_each(run, folder):
    planes = np.stack([pixels(k) for k in range(3)]).astype(np.float32)
    np.save("s.npy", planes)
    np.save("masks.npy", np.stack([mask(k) for k in range(3)]) > 0)
    said, _ = batch(run, "inpaint", "s.npy", "-o", "o.npy", options=["--mask", "masks.npy", "--axes", "ZYX"])
    assert said["images"][0]["missing"] == pytest.approx([1 - mask(k).mean() for k in range(3)])
    known = np.load("masks.npy")
    np.testing.assert_allclose(np.load("o.npy")[known], planes[known], atol=1e-6)
    np.save("few.npy", known[:2])
    options = ["--mask", "few.npy", "--axes", "ZYX"]
    _, err = batch(run, "inpaint", "s.npy", "-o", "p.npy", options=options, status=2)
    assert "few.npy: expected the shape (24, 24) of a plane, or (3, 24, 24) of all, got (2, 24, 24)" in err


def test_a_stack_without_gaps_is_told_and_its_figure_shows_the_gaps_of_others(run, folder, monkeypatch):
    from calepin.cli import planes as module

    shown = []
    monkeypatch.setattr(module, "draw_planes", lambda stack, before, *rest, **settings: shown.append(before))
    planes = np.stack([pixels(k) for k in range(2)]).astype(np.float32)
    np.save("s.npy", planes)
    _, err = batch(run, "inpaint", "s.npy", "-o", "o.npy", options=["--axes", "ZYX"])
    assert "s.npy: no sample is missing: the planes are written as they are" in err
    known = np.stack([mask(k) for k in range(2)]) > 0
    np.save("masks.npy", known)
    options = ["--mask", "masks.npy", "--axes", "ZYX", "--figure", "f.png"]
    batch(run, "inpaint", "s.npy", "-o", "p.npy", options=options)
    np.testing.assert_array_equal(np.isnan(shown[-1]), ~known)


def test_an_interrupted_batch_keeps_what_is_done(monkeypatch, folder):
    from calepin.cli import many

    def interrupt(self, source, target, report):
        if source.name == "c.npy":
            raise KeyboardInterrupt
        return write(self, source, target, report)

    write = many.Done.write
    monkeypatch.setattr(many.Done, "write", interrupt)
    assert main(["upscale", "in", "-o", "out", *COMMANDS["upscale"], "-q"]) == 130
    known = json.loads(Path("out/calepin-upscale.json").read_text())["files"]
    assert sorted(known) == ["a.png", "b.tif"]


def test_one_image_without_memory_does_not_stop_the_others(monkeypatch, run, folder):
    from calepin.cli import many

    def fail(self, source, target, report):
        if source.name == "b.tif":
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 80 bytes")
        return write(self, source, target, report)

    write = many.Done.write
    monkeypatch.setattr(many.Done, "write", fail)
    said, _ = batch(run, "upscale", "in", "-o", "out", status=1)
    assert names(said["written"]) == ["a.png", "c.npy"]


UNITS = [("denoise", []), *[(name, COMMANDS[name]) for name in ("deblur", "inpaint")]]


def files_of(*types):
    """Write images whose samples have these types into the folder in; a number scales floats."""
    Path("in").mkdir()
    for k, kind in enumerate(types):
        of_type = (255 * pixels()).astype(kind) if isinstance(kind, str) else (kind * pixels()).astype("f4")
        np.save(f"in/{k}.npy", of_type)
    write_image("mask.png", Image(mask()))
    write_image("in/9.png", Image(pixels()))
    return [f"in/{k}.npy" for k in range(len(types))]


@pytest.mark.parametrize(("command", "options"), UNITS)
def test_one_sigma_in_two_units_is_refused_by_headers_before_any_work(run, command, options):
    sources = files_of("uint16", "int16")
    for given in (["in"], [sources[1], sources[0]], [sources[1], "in/9.png"]):
        _, err = batch(run, command, *given, "-o", "out", "--sigma", "4", options=options, status=2)
        assert "--sigma: is in the units of the samples for in/1.npy, and on the scale 0 to 255 for " in err
        estimates = command != "inpaint"  # known pixels stay as they are without --sigma
        assert ("apart, or leave it out to estimate the noise" in err) == estimates
        assert err.count("\n") == 1
        assert not Path("out").exists()


@pytest.mark.parametrize(("command", "options"), UNITS)
def test_floats_whose_sigma_has_another_unit_are_not_written_but_the_others_are(run, command, options):
    sources = files_of(1, 300, 1)
    arguments = [*sources, "-o", "out", "--sigma", "4"]
    for left in (["0.npy", "2.npy"], []):  # also if an earlier run has done those before
        said, err = batch(run, command, *arguments, options=options, status=1)
        assert names(said["written"]) == left
        assert "error: --sigma: is in the units of the samples for in/1.npy, and on the scale 0 to" in err
    batch(run, command, sources[1], "-o", "apart", "--sigma", "4", options=options)


def test_stacks_have_one_unit_too(run):
    for k, scale in enumerate([1, 300]):
        np.save(f"{k}.npy", np.stack([scale * pixels(), scale * pixels(1)]).astype("f4"))
    arguments = ["0.npy", "1.npy", "-o", "out", "--axes", "ZYX", "--sigma", "4"]
    for command, options in (("denoise", []), ("deblur", ["--gaussian", "1", "--prior", "tv"])):
        _, err = batch(run, command, *arguments[:-1], "4", "--force", options=options, status=1)
        assert "--sigma: is in the units of the samples for 1.npy, and on the scale 0 to 255 for 0.npy" in err


def test_a_map_of_levels_has_one_unit_too(run):
    files_of(1, 300)
    np.save("map.npy", np.full((24, 24), 4.0))
    arguments = ["in/0.npy", "in/1.npy", "-o", "out", "--noise-map", "map.npy"]
    _, err = batch(run, "denoise", *arguments, options=[], status=1)
    assert "--noise-map: is in the units of the samples for in/1.npy" in err


@pytest.mark.parametrize("options", [[], ["--sigma", "0"], ["--sigma", "4", "--range", "0:300"]])
def test_other_levels_have_one_unit_in_all_files(run, options):
    files_of(1, 300, "int16")
    said, _ = batch(run, "deblur", "in", "-o", "out", "--gaussian", "1", "--prior", "tv", options=options)
    assert len(said["written"]) == 4


def test_a_shared_dictionary_is_not_learned_from_files_with_two_units(run):
    sources = files_of(1, 300)
    _, err = batch(run, "denoise", *sources, "-o", "out", "--share", "--sigma", "4", options=[], status=2)
    assert "--sigma: is in the units of the samples for in/1.npy" in err
    assert not list(Path("out").glob("*.npy"))


def test_notes_that_differ_in_numbers_alone_are_one_with_their_count(capsys):
    def work(source, target, report):
        for k in range(3):
            warnings.warn(f"plane {k}: the level {1.5 * k:.3g} may be wrong", stacklevel=2)
        warnings.warn("another", stacklevel=2)
        return "done", {}

    Done(Output(False, True), work, doing="working", done="worked").write(Path("a.tif"), Path("b.tif"))
    notes = ["a.tif: plane 0: the level 0 may be wrong (2 more like it)", "a.tif: another"]
    assert capsys.readouterr().err.splitlines() == [f"calepin: note: {note}" for note in notes]
