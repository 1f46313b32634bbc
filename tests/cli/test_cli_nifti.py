"""Commands take volumes of NIfTI as they take stacks, and write them with header, type and scale."""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from numpy.testing import assert_allclose, assert_array_equal

from calepin.datasets import Image, load_sample, read_stack, write_image

pytestmark = pytest.mark.filterwarnings("ignore:the last step still changed")  # of small images

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -40], [0, 0, 3.5, 12], [0, 0, 0, 1]])
TV = ["--sigma", "4", "--prior", "tv"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def clean(n=4, size=32):
    """Return a volume (x, y, z) of values from 0 to about 1000, which changes little along z."""
    photo = load_sample("camera").pixels
    planes = [photo[200 : 200 + size, 180 + k : 180 + k + size] for k in range(n)]
    return 1000 * np.stack(planes).T.astype(np.float64)


def noisy(n=4, seed=0, sigma=60):
    return clean(n) + np.random.default_rng(seed).normal(0, sigma, clean(n).shape)


def write_nifti(path, values, scale=(1, 0)):
    image = nibabel.Nifti1Image(values, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"scanner"
    image.header.set_slope_inter(*scale)
    Path(path).parent.mkdir(exist_ok=True)
    image.to_filename(path)


def load(path):
    return nibabel.loadsave.load(path)


def values_of(path):
    return np.asarray(load(path).dataobj)


def calepin(run, *arguments, status=0):
    found, out, err = run(*arguments, "--json")
    assert found == status, err
    return (json.loads(out) if out else None), err


def check_same_header(path, other):
    one, two = load(path), load(other)
    assert one.header == two.header
    assert_array_equal(one.affine, two.affine)
    assert (one.dataobj.slope, one.dataobj.inter) == (two.dataobj.slope, two.dataobj.inter)


def rms(values, truth):
    return np.sqrt(np.mean((values - truth) ** 2))


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_a_volume_is_denoised_across_slices_in_its_type_and_with_its_header(run, suffix):
    write_nifti(f"a.{suffix}", np.rint(noisy()).astype(np.int16))
    said, err = calepin(run, "denoise", f"a.{suffix}", "-o", f"b.{suffix}", "--figure", "a.png")
    assert said["images"][0]["sigma"] == pytest.approx([60], rel=0.3)
    assert "samples are int16 from" in err
    check_same_header(f"b.{suffix}", f"a.{suffix}")
    assert load(f"b.{suffix}").get_data_dtype() == np.int16
    assert rms(values_of(f"b.{suffix}"), clean()) < 0.6 * rms(noisy(), clean())
    assert Path("a.png").stat().st_size > 0
    first = Path(f"b.{suffix}").read_bytes()
    calepin(run, "denoise", f"a.{suffix}", "-o", f"b.{suffix}")
    assert Path(f"b.{suffix}").read_bytes() == first


def test_values_of_a_scale_are_denoised_in_its_units_and_keep_it(run):
    raw = np.rint((noisy() + 1000) / 0.5).astype(np.int16)
    write_nifti("a.nii.gz", raw, scale=(0.5, -1000))
    write_nifti("clean.nii.gz", clean())
    options = ["--sigma", "60", "--reference", "clean.nii.gz"]
    said, err = calepin(run, "denoise", "a.nii.gz", "-o", "b.nii.gz", *options)
    assert "a.nii.gz: its values are int16 times 0.5 plus -1000" in err
    (file,) = said["images"]
    assert file["sigma"] == [60]
    assert file["psnr"] > file["psnr_noisy"] + 4
    check_same_header("b.nii.gz", "a.nii.gz")
    assert load("b.nii.gz").dataobj.get_unscaled().dtype == np.int16
    assert rms(values_of("b.nii.gz"), clean()) < 0.6 * 60


def test_each_volume_of_a_series_is_what_it_is_alone(run):
    volumes = [np.rint(noisy(3, seed)).astype(np.uint16) for seed in range(2)]
    write_nifti("series.nii.gz", np.stack(volumes, axis=-1))
    write_nifti("one.nii", volumes[1])
    options = ["--range", "0:1200", "--sigma", "60"]
    said, _ = calepin(run, "denoise", "series.nii.gz", "-o", "out.nii.gz", *options)
    assert said["images"][0]["sigma"] == [60, 60]
    calepin(run, "denoise", "one.nii", "-o", "alone.nii", *options)
    check_same_header("out.nii.gz", "series.nii.gz")
    assert_array_equal(values_of("out.nii.gz")[..., 1], values_of("alone.nii"))


def test_levels_of_sixteen_bits_without_a_range_are_told(run):
    write_nifti("a.nii", np.rint(noisy(2)).clip(1).astype(np.uint16))
    _, err = calepin(run, "denoise", "a.nii", "-o", "b.nii", "--sigma", ".2")
    assert (
        "noise levels are on the scale 0 to 255 of the whole range (1 is 257 in the file); with --range 0:"
        in err
    )
    _, err = calepin(run, "denoise", "a.nii", "-o", "b.nii", "--sigma", "60", "--range", "0:1200")
    assert "uint16" not in err


def test_tiny_values_have_units_of_their_own(run):
    write_nifti("a.nii", (1e-30 * noisy(2).clip(0)).astype(np.float32))
    said, err = calepin(run, "denoise", "a.nii", "-o", "b.nii", "--sigma", "60e-30")
    assert "samples are float32 from" in err
    assert said["images"][0]["sigma"] == [60e-30]
    assert rms(1e30 * values_of("b.nii"), clean(2)) < 0.6 * 60


def test_axes_choose_that_slices_are_denoised_along_time(run):
    frames = np.stack([noisy(1, seed)[:, :, 0] for seed in range(5)], axis=-1)
    series = np.stack([frames, frames[::-1]], axis=2).astype(np.float32)  # x, y, two slices, time
    write_nifti("a.nii", series)
    options = ["--axes", "XYKT", "--sigma", "60"]
    said, err = calepin(run, "denoise", "a.nii", "-o", "b.nii", *options)
    assert said["images"][0]["sigma"] == [60, 60]  # of each slice
    assert "each page is denoised alone" not in err
    check_same_header("b.nii", "a.nii")
    assert rms(values_of("b.nii")[:, :, 0], clean(1)) < 0.45 * 60


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 1)])
def test_a_single_slice_is_denoised_as_an_image(run, shape):
    write_nifti("a.nii.gz", noisy(1).reshape(shape).astype(np.float32))
    calepin(run, "denoise", "a.nii.gz", "-o", "b.nii.gz", "--sigma", "60", "--method", "dictionary")
    check_same_header("b.nii.gz", "a.nii.gz")
    tifffile.imwrite("a.tif", noisy(1)[:, :, 0].T.astype(np.float32))
    calepin(run, "denoise", "a.tif", "-o", "b.tif", "--sigma", "60", "--method", "dictionary")
    assert_array_equal(values_of("b.nii.gz").reshape(32, 32).T, tifffile.imread("b.tif"))


def test_levels_of_each_voxel_are_a_volume(run):
    levels = np.where(np.arange(32)[:, None, None] < 16, 20, 60) * np.ones((32, 32, 4))
    values = clean() + np.random.default_rng(0).normal(0, levels)
    write_nifti("a.nii.gz", values.astype(np.float32))
    write_nifti("levels.nii.gz", levels.astype(np.float32))
    write_nifti("slice.nii", levels[:, :, :1].astype(np.float32))
    for k, option in enumerate(["levels.nii.gz", "slice.nii"]):
        calepin(run, "denoise", "a.nii.gz", "-o", f"{k}.nii.gz", "--noise-map", option)
    assert rms(values_of("0.nii.gz"), clean()) < 0.65 * rms(values, clean())
    assert_allclose(values_of("1.nii.gz"), values_of("0.nii.gz"), atol=1e-3)


def test_missing_samples_of_a_volume_are_filled(run):
    values = noisy().astype(np.float32)
    values[10:13, 5:9, 2] = np.nan
    write_nifti("a.nii.gz", values)
    _, err = calepin(run, "denoise", "a.nii.gz", "-o", "b.nii.gz", "--sigma", "60")
    assert "NaN" in err
    assert np.isfinite(values_of("b.nii.gz")).all()
    assert rms(values_of("b.nii.gz"), clean()) < 0.6 * 60


def test_a_folder_holds_both_kinds_of_files_and_each_keeps_its_name(run):
    write_nifti("in/a.nii", noisy(2).astype(np.float32))
    write_nifti("in/b.nii.gz", noisy(2, 1).astype(np.float32))
    write_nifti("in/bad.nii.gz", noisy(2).astype(np.float32))
    Path("in/bad.nii.gz").write_bytes(Path("in/bad.nii.gz").read_bytes()[:-500])
    Path("in/notes.gz").write_text("no volume")
    options = ["--sigma", "60", "--share", "--n-components", "32"]
    said, err = calepin(run, "denoise", "in/a.nii", "in/b.nii.gz", "-o", "out", *options)
    assert said["written"] == ["out/a.nii", "out/b.nii.gz"]
    for name in ("a.nii", "b.nii.gz"):
        check_same_header(f"out/{name}", f"in/{name}")
    said, err = calepin(run, "denoise", "in", "-o", "all", "--sigma", "60", status=1)
    assert said["written"] == ["all/a.nii", "all/b.nii.gz"]
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert "in/bad.nii.gz is not a readable NIfTI file" in line
    said, _ = calepin(run, "denoise", "in", "-o", "all", "--sigma", "60", status=1)
    assert said["skipped"] == ["all/a.nii", "all/b.nii.gz"]


def test_volumes_become_tiff_and_back_with_a_note(run):
    write_nifti("a.nii.gz", noisy().astype(np.float32))
    _, err = calepin(run, "denoise", "a.nii.gz", "-o", "b.tif", "--sigma", "60")
    assert "b.tif: .tif is written without the header of NIfTI, which says where voxels lie" in err
    assert read_stack("b.tif").axes == "ZYX"
    tifffile.imwrite("c.ome.tif", noisy().T.astype(np.float32), ome=True, metadata={"axes": "ZYX"})
    _, err = calepin(run, "denoise", "c.ome.tif", "-o", "d.nii.gz", "--sigma", "60")
    assert "d.nii.gz: .nii.gz is written without the description and resolution of the TIFF" in err
    assert_array_equal(values_of("d.nii.gz"), read_stack("b.tif").planes.T)


def test_inpaint_takes_masks_of_nifti_beside_volumes(run):
    known = np.random.default_rng(0).random((32, 32, 2)) < 0.8
    write_nifti("in/a.nii.gz", np.rint(clean(2)).astype(np.int16))
    write_nifti("masks/a.nii", known.astype(np.uint8))
    said, _ = calepin(run, "inpaint", "in", "--mask", "masks", "-o", "out")
    assert said["images"][0]["missing"] == pytest.approx([1 - known[..., k].mean() for k in range(2)])
    check_same_header("out/a.nii.gz", "in/a.nii.gz")
    assert_array_equal(values_of("out/a.nii.gz")[known], values_of("in/a.nii.gz")[known])
    write_nifti("one.nii", known[..., :1].astype(np.uint8))  # one slice for all
    said, _ = calepin(run, "inpaint", "in/a.nii.gz", "--mask", "one.nii", "-o", "b.nii.gz")
    assert said["images"][0]["missing"] == pytest.approx([1 - known[..., 0].mean()] * 2)


def test_deblur_keeps_the_header_and_upscale_the_field(run):
    write_nifti("a.nii.gz", np.rint(clean(2)).astype(np.int16))
    calepin(run, "deblur", "a.nii.gz", "--gaussian", "1", "-o", "b.nii.gz", *TV)
    check_same_header("b.nii.gz", "a.nii.gz")
    calepin(run, "upscale", "a.nii.gz", "-o", "c.nii.gz", *TV)
    larger = load("c.nii.gz")
    assert larger.shape == (64, 64, 2)
    assert larger.header.get_zooms() == (1, 1, 3.5)
    assert_allclose(larger.affine[:3, 3], [30.5, -40.5, 12])  # the middle of a voxel of half the size


def test_info_says_axes_and_type_also_with_missing_samples(run):
    values = clean(2).astype(np.float32)
    values[0] = np.nan
    write_nifti("a.nii.gz", values)
    said, _ = calepin(run, "info", "a.nii.gz")
    assert (said["kind"], said["axes"], said["shape"]) == ("stack of images", "XYZ", [32, 32, 2])
    assert said["mean"] == pytest.approx(np.nanmean(values))


def test_pairs_and_masks_of_another_shape_are_told_in_one_line(run):
    pair = nibabel.Nifti1Pair(noisy(2).astype(np.float32), AFFINE)
    pair.to_filename("a.img")
    write_nifti("series.nii", np.stack([noisy(2)] * 3, axis=-1).astype(np.float32))
    write_nifti("mask.nii", (noisy(2) > 200).astype(np.uint8))
    shapes = "mask.nii: expected the shape (32, 32) of a plane, or (6, 32, 32) of all, got (2, 32, 32)"
    for arguments, message in [
        (["denoise", "a.img", "-o", "b.nii"], "a.img is one of a pair of NIfTI, header (.hdr) and samples"),
        (["denoise", "a.hdr", "-o", "b.png"], "a.hdr is one of a pair of NIfTI, header (.hdr) and samples"),
        (["info", "a.img"], "a.img is one of a pair of NIfTI"),
        (["inpaint", "series.nii", "--mask", "mask.nii", "-o", "b.nii"], f"--mask {shapes}"),
        (["denoise", "series.nii", "--noise-map", "mask.nii", "-o", "b.nii"], f"--noise-map {shapes}"),
        (
            ["deblur", "series.nii", "--gaussian", "1", "--prior", "none", "-o", "b.nii"],
            "'--prior': 'none' is",
        ),
    ]:
        status, _, err = run(*arguments)
        assert status != 0
        (line,) = [line for line in err.splitlines() if "error: " in line]
        assert message in line


def test_what_cannot_be_done_is_said_in_one_line_before_the_work(run, monkeypatch):
    write_nifti("a.nii", noisy(2).astype(np.float32))
    write_image("a.png", Image(clean(1)[..., 0] / 1000))
    Path("dicom").mkdir()
    Path("dicom/1.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    Path("other.nii").write_bytes(b"something else")
    for arguments, message in [
        (["denoise", "dicom/1.dcm", "-o", "b.tif"], "1.dcm is DICOM, which is not read: convert the series"),
        (["denoise", "dicom", "-o", "out"], "expected images in the folder dicom, got DICOM: convert"),
        (["denoise", "other.nii", "-o", "b.nii"], "other.nii is no NIfTI file"),
        (["denoise", "a.nii", "-o", "b.png"], "b.png: a stack needs a name that ends in .tif"),
        (["denoise", "a.nii", "-o", "other.nii"], "other.nii: it is no .nii file of calepin; --force"),
        (["denoise", "a.png", "-o", "b.nii"], "cannot write b.nii: expected a name that ends in .png"),
        (["inpaint", "a.png", "--mask", "a.nii", "-o", "b.png"], "a.nii holds a volume of NIfTI"),
        (["upscale", "a.png", "-o", "b.nii"], "cannot write b.nii: expected a name that ends in .png"),
        (["denoise", "a.png", "-o", "b.png", "--reference", "a.nii"], "a.nii holds a volume of NIfTI"),
        (["reconstruct", "a.nii", "-o", "b.png"], "a.nii holds a volume of NIfTI, expected one image"),
    ]:
        status, _, err = run(*arguments)
        assert status != 0
        (line,) = err.splitlines()
        assert message in line
    monkeypatch.setitem(sys.modules, "nibabel", None)
    for arguments in (["a.nii", "-o", "b.nii"], ["a.png", "-o", "out", "a.nii"]):
        status, _, err = run("denoise", *arguments)
        assert status != 0
        assert "needs nibabel: pip install 'calepin[nifti]'" in err
