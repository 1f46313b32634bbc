"""Volumes of NIfTI come back with values, type, affine, header and extensions, as nibabel reads them."""

import gzip
import sys
from importlib.resources import files
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from nibabel.nifti1 import Nifti1Extension
from numpy.testing import assert_allclose, assert_array_equal

from calepin.core.errors import FileFormatError
from calepin.datasets import Stack, read_image, read_stack, write_stack
from calepin.datasets.stacks import check_stack_path, count_planes

SHAPE = (7, 6, 5, 3)  # X, Y, Z, T
AFFINE = np.array([[-2.0, 0.1, 0, 30], [0.1, 2.0, 0.3, -40], [0, -0.3, 3.5, 12], [0, 0, 0, 1]])
KINDS = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def samples(dtype="int16", shape=SHAPE):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write_nifti(path, values, *, version=1, order="<", scale=(1, 0)):
    """Write a file as scanners' software does: units, codes, a description, an intent and an extension."""
    kind = KINDS[version]
    header = kind.header_class(endianness=order)
    header.set_data_dtype(values.dtype)
    image = kind(values, None, header)
    image.header.set_sform(AFFINE, "mni")
    image.header.set_qform(AFFINE, "scanner")
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_intent("t test", (12,), name="contrast")
    image.header["descrip"], image.header["cal_max"] = b"scanner 3T", 900
    image.header["pixdim"][4] = 2.5  # seconds between volumes
    image.header.extensions.append(Nifti1Extension("comment", b"kept as it is"))
    image.header.set_slope_inter(*scale)
    image.to_filename(path)


def load(path):
    return nibabel.loadsave.load(path)


def check_same_header(path, other):
    one, two = load(path), load(other)
    assert one.header == two.header
    assert_array_equal(one.affine, two.affine)
    assert [e.get_content() for e in one.header.extensions] == [
        e.get_content() for e in two.header.extensions
    ]
    assert (one.dataobj.slope, one.dataobj.inter) == (two.dataobj.slope, two.dataobj.inter)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_samples_header_and_extensions_come_back(version, order, name):
    values = samples()
    write_nifti(name, values, version=version, order=order)
    stack = read_stack(name)
    assert (stack.axes, stack.leading, stack.notes) == ("XYZT", "ZT", ())
    assert_array_equal(stack.samples, values)
    assert_array_equal(stack.planes[4], values[:, :, 1, 1].T)
    write_stack("b.nii", stack.with_planes(stack.planes + 1))
    check_same_header("b.nii", name)
    assert load("b.nii").get_data_dtype() == np.dtype(np.int16).newbyteorder(order)
    assert_array_equal(np.asarray(load("b.nii").dataobj), values + 1)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_type_of_real_numbers_comes_back(dtype):
    values = samples(dtype)
    nibabel.Nifti1Image(values, AFFINE, dtype=dtype).to_filename("a.nii.gz")
    stack = read_stack("a.nii.gz")
    assert stack.samples.dtype == dtype
    write_stack("b.nii.gz", stack)
    assert load("b.nii.gz").get_data_dtype() == dtype
    assert_array_equal(np.asarray(load("b.nii.gz").dataobj), values)


def test_the_type_of_the_planes_is_written_without_a_scale():
    write_nifti("a.nii", samples())
    stack = read_stack("a.nii")
    write_stack("b.nii", stack.with_planes(stack.planes.astype(np.float32) / 2))
    after = load("b.nii")
    assert after.get_data_dtype() == np.float32
    assert_array_equal(np.asarray(after.dataobj), samples() / 2)
    assert_array_equal(after.affine, load("a.nii").affine)
    assert after.header["descrip"] == b"scanner 3T"


def test_values_of_a_scale_are_in_its_units_and_are_rounded_to_it():
    raw = samples()
    write_nifti("a.nii.gz", raw, scale=(0.25, -1000))
    stack = read_stack("a.nii.gz")
    assert_array_equal(stack.samples, 0.25 * raw - 1000.0)
    (note,) = stack.notes
    assert note.startswith(
        "its values are int16 times 0.25 plus -1000, a scale in which they are also written"
    )
    write_stack("b.nii.gz", stack)
    check_same_header("b.nii.gz", "a.nii.gz")
    assert_array_equal(load("b.nii.gz").dataobj.get_unscaled(), raw)
    write_stack("c.nii.gz", stack.with_planes(stack.planes + 0.2))  # to the next step
    assert_array_equal(load("c.nii.gz").dataobj.get_unscaled(), raw + 1)
    write_stack("d.nii.gz", stack.with_planes(stack.planes + 1e9))
    assert (load("d.nii.gz").dataobj.get_unscaled() == 32767).all()
    with pytest.raises(ValueError, match="expected finite numbers for a file of integers, got NaN"):
        write_stack("e.nii.gz", stack.with_planes(stack.planes * np.nan))


@pytest.mark.parametrize("scale", [(0.0, 7.0), (np.nan, np.nan)])
def test_a_slope_of_zero_or_nan_is_no_scale(scale):
    write_nifti("a.nii", samples())
    content = bytearray(Path("a.nii").read_bytes())
    content[112:120] = np.array(scale, "<f4").tobytes()
    Path("a.nii").write_bytes(content)
    stack = read_stack("a.nii")
    assert_array_equal(stack.samples, samples())
    write_stack("b.nii", stack)
    assert Path("b.nii").read_bytes() == bytes(content)


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 1, 4), (7, 6, 5, 1, 1)])
def test_single_slices_and_axes_of_one_sample_keep_their_shape(shape):
    values = samples(shape=shape)
    write_nifti("a.nii", values)
    stack = read_stack("a.nii")
    assert count_planes("a.nii") == 2  # at most a stack of one plane
    assert stack.planes.shape == (values.size // 42, 6, 7)
    write_stack("b.nii", stack)
    check_same_header("b.nii", "a.nii")
    assert_array_equal(np.asarray(load("b.nii").dataobj), values)


def test_axes_that_are_given_change_no_place_of_a_sample():
    write_nifti("a.nii", samples())
    stack = read_stack("a.nii", axes="YXKT")
    assert_array_equal(stack.planes[0], samples()[:, :, 0, 0])
    write_stack("b.nii", stack)
    assert Path("b.nii").read_bytes() == Path("a.nii").read_bytes()


def test_the_bytes_of_a_compressed_file_depend_on_its_content_alone():
    write_nifti("a.nii.gz", samples())
    stack = read_stack("a.nii.gz")
    write_stack("b.nii.gz", stack)
    write_stack("c.nii.gz", stack)
    packed = Path("b.nii.gz").read_bytes()
    assert packed == Path("c.nii.gz").read_bytes()
    assert packed[3:8] == bytes(5)  # no name, no time
    write_stack("d.nii", stack)
    assert gzip.decompress(packed) == Path("d.nii").read_bytes()


@pytest.mark.parametrize("form", ["sform", "qform", "none"])
def test_more_pixels_cover_the_same_field(form):
    write_nifti("a.nii", samples())
    content = bytearray(Path("a.nii").read_bytes())
    content[252:256] = np.array([form == "qform", form == "sform"], "<i2").tobytes()
    Path("a.nii").write_bytes(content)
    stack = read_stack("a.nii")
    larger, notes = stack.with_other_planes(stack.planes.repeat(2, axis=1).repeat(3, axis=2))
    assert notes == ()
    write_stack("b.nii", larger)
    before, after = load("a.nii"), load("b.nii")
    assert after.shape == (21, 12, 5, 3)
    assert_allclose(after.header.get_zooms()[2:], before.header.get_zooms()[2:], rtol=1e-6)
    assert_allclose(after.header.get_zooms()[:2], np.divide(before.header.get_zooms()[:2], (3, 2)), rtol=1e-6)
    if form == "none":
        return
    for corner in ([-0.5, -0.5, 0], [6.5, 5.5, 4]):
        finer = (np.array(corner) + 0.5) * (3, 2, 1) - 0.5
        field = nibabel.affines.apply_affine(before.affine, corner)
        assert_allclose(nibabel.affines.apply_affine(after.affine, finer), field, atol=1e-4)


def test_stacks_of_other_formats_become_nifti_and_back():
    values = samples(shape=(3, 5, 6, 7))  # T, Z, Y, X
    write_stack("a.nii.gz", Stack(values, "TZYX"))
    image = load("a.nii.gz")
    assert_array_equal(np.asarray(image.dataobj), values.T)
    assert image.header.get_zooms() == (1, 1, 1, 1)
    write_stack("movie.nii", Stack(values[:, 0], "TYX"))
    assert load("movie.nii").shape == (7, 6, 1, 3)
    stack = read_stack("a.nii.gz")
    (lost,) = write_stack("b.tif", stack)
    assert lost == ".tif is written without the header of NIfTI, which says where voxels lie"
    again = read_stack("b.tif")
    assert (again.axes, again.samples.shape) == ("ZTYX", (5, 3, 6, 7))
    assert_array_equal(again.planes, stack.planes)


def test_what_nifti_cannot_hold_of_a_tiff_is_said_or_refused():
    tifffile.imwrite("a.ome.tif", samples(shape=(5, 6, 7)), ome=True, metadata={"axes": "ZYX"})
    (lost,) = write_stack("a.nii", read_stack("a.ome.tif"))
    assert lost == ".nii is written without the description and resolution of the TIFF"
    for stack, message in [
        (Stack(samples(shape=(5, 6, 7)), "CYX"), "NIfTI holds the axes X, Y, Z and T, got CYX"),
        (Stack(samples(shape=(5, 6, 3)), "YXS"), "NIfTI holds the axes X, Y, Z and T, got YXS"),
        (Stack(samples("float16", (5, 6, 7)), "ZYX"), "NIfTI cannot hold float16 of shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_stack("b.nii", stack)
    write_nifti("c.nii", samples())
    stack = read_stack("c.nii")
    colours, _ = stack.with_other_planes(np.stack([stack.planes] * 3, axis=-1))
    with pytest.raises(ValueError, match="NIfTI holds the axes X, Y, Z, T, got ZTYXS: it has no colours"):
        write_stack("d.nii", colours)


IN_HEADER = {
    "pair": (344, b"ni1\0", "its samples are in another file"),
    "mark": (344, b"abcd", "expected the mark n\\+1 or n\\+2"),
    "colours": (70, np.int16(128), "it holds colours, expected real numbers"),
    "complex": (70, np.int16(32), "it holds complex numbers"),
    "long double": (70, np.int16(1536), "it holds samples of the type 1536, expected real"),
    "unknown type": (70, np.int16(77), "it holds samples of the type 77"),
    "one axis": (40, np.array([1, 7], "<i2"), r"shape \(7,\), expected axes X, Y, Z and T"),
    "five axes": (40, np.array([5, 7, 6, 5, 1, 3], "<i2"), "expected at most four axes"),
    "no samples": (40, np.array([3, 7, 0, 5], "<i2"), r"shape \(7, 0, 5\)"),
    "place": (108, np.float32(12), r"begin at byte 12 \(vox_offset\), expected them after the header"),
    "no place": (108, np.float32(np.nan), r"begin at byte nan \(vox_offset\), expected them after"),
    "infinite place": (108, np.float32(np.inf), r"begin at byte inf \(vox_offset\), expected them after"),
    "huge": (40, np.array([4, *[3000] * 4], "<i2"), "declares 162000000000384 bytes"),
    "intercept": (112, np.array([2, np.inf], "<f4"), "invalid intercept inf"),
}  # place, bytes there, and what the error says


@pytest.mark.parametrize("name", IN_HEADER)
def test_a_header_that_cannot_be_read_is_an_error_of_one_line(name):
    place, value, message = IN_HEADER[name]
    write_nifti("bad.nii", samples())
    content = bytearray(Path("bad.nii").read_bytes())
    value = value if isinstance(value, bytes) else value.tobytes()
    content[place : place + len(value)] = value
    check_refused("bad.nii", bytes(content), message)


def test_a_file_that_is_damaged_or_of_another_kind_is_an_error_of_one_line():
    write_nifti("good.nii", samples())
    content = Path("good.nii").read_bytes()
    packed = bytearray(gzip.compress(content))
    check_refused("short.nii.gz", bytes(packed[:-200]), "ended before the end-of-stream marker")
    packed[-6] ^= 255
    check_refused("damaged.nii.gz", bytes(packed), "CRC check failed")
    check_refused("bad.nii.gz", b"\x1f\x8bnothing", "is not a readable NIfTI file")
    check_refused("empty.nii", b"", "does not begin with a header")
    check_refused("other.nii", b"no NIfTI" * 100, "does not begin with a header")
    check_refused("header.nii", content[:200], "truncated: expected a header of 348 bytes, got 200")
    check_refused("short.nii", content[:-100], "truncated: expected 1260 bytes of samples, got 1160")


def check_refused(path, content, message):
    Path(path).write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as raised:
        read_stack(path)
    assert str(raised.value).startswith(path)
    assert "\n" not in str(raised.value)


def test_bytes_after_the_samples_are_told_of():
    write_nifti("a.nii", samples())
    Path("a.nii").write_bytes(Path("a.nii").read_bytes() + b"more")
    assert read_stack("a.nii").notes == ("bytes after its samples were left out",)


def test_without_nibabel_the_extra_is_named(monkeypatch):
    write_nifti("a.nii", samples())
    stack = read_stack("a.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    for call in (
        lambda: read_stack("a.nii"),
        lambda: check_stack_path("b.nii.gz"),
        lambda: write_stack("b.nii.gz", stack),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"needs nibabel: pip install 'calepin\[nifti\]'"):
            call()


def test_a_volume_is_no_image_and_dicom_is_refused_kindly():
    write_nifti("a.nii", samples())
    with pytest.raises(FileFormatError, match="a.nii holds a volume of NIfTI, expected one image"):
        read_image("a.nii")
    Path("a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    for read in (read_image, read_stack):
        with pytest.raises(FileFormatError, match="a.dcm is DICOM, which is not read: convert the series"):
            read("a.dcm")


@pytest.mark.parametrize("name", ["example4d.nii.gz", "example_nifti2.nii.gz", "functional.nii"])
def test_files_of_scanners_come_back(name):
    """Those that nibabel is tested with: of its own kind, of version 2, and with a scale."""
    path = files("nibabel") / "tests" / "data" / name
    if not path.is_file():
        pytest.skip(f"nibabel came without {name}")
    stack = read_stack(str(path))
    assert stack.axes == "XYZT"
    assert_array_equal(stack.samples, np.asarray(load(path).dataobj))
    write_stack("out.nii", stack)
    check_same_header("out.nii", path)
    assert_array_equal(load("out.nii").dataobj.get_unscaled(), load(path).dataobj.get_unscaled())
