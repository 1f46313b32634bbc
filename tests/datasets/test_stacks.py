"""Stacks come back with all planes: their samples, their order and the metadata of the file."""

import json
import re
import zlib

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from PIL import Image as PILImage

from calepin.core.errors import FileFormatError
from calepin.datasets import Stack, read_stack, write_stack
from calepin.datasets.stacks import count_planes

SHAPE = (2, 3, 4, 10, 12)  # T, C, Z, Y, X


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def samples(dtype="uint16", shape=SHAPE):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write_ome(path, values, **metadata):
    channels = {"Name": [f"stain {k}" for k in range(values.shape[1])]}
    known = {"axes": "TCZYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "Channel": channels}
    tifffile.imwrite(path, values, ome=True, metadata=known | metadata)


def ome_of(path):
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        return tiff.ome_metadata


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
def test_ome_tiff_keeps_planes_axes_and_metadata(dtype):
    values = samples(dtype)
    write_ome("a.ome.tif", values)
    stack = read_stack("a.ome.tif")
    assert (stack.axes, stack.leading, count_planes("a.ome.tif")) == ("TCZYX", "TCZ", 24)
    assert_array_equal(stack.samples, values)
    write_stack("b.ome.tif", stack)
    again = read_stack("b.ome.tif")
    assert again.axes == "TCZYX"
    assert again.samples.dtype == dtype
    assert_array_equal(again.samples, values)
    assert ome_of("b.ome.tif") == ome_of("a.ome.tif")


def test_ome_tiff_tells_the_type_of_new_samples():
    write_ome("a.ome.tif", samples(), SignificantBits=12)
    stack = read_stack("a.ome.tif")
    halves = stack.with_planes(stack.planes.astype(np.float32) / 2)
    write_stack("b.ome.tif", halves)
    assert_array_equal(read_stack("b.ome.tif").samples, samples() / 2)
    assert re.search('Type="float"', ome_of("b.ome.tif"))
    assert "SignificantBits" not in ome_of("b.ome.tif")
    assert "stain 2" in ome_of("b.ome.tif")


def test_planes_of_ome_tiff_keep_their_places_in_the_file():
    """Microscopes write channel after channel or depth after depth: the description says which."""
    values = samples()
    pages = values.transpose(0, 2, 1, 3, 4)  # C is faster than Z in the file
    known = {"axes": "TZCYX", "Channel": {"Name": ["a", "b", "c"]}}
    tifffile.imwrite("a.ome.tif", pages, ome=True, metadata=known)
    write_stack("b.ome.tif", read_stack("a.ome.tif"))
    with tifffile.TiffFile("a.ome.tif") as first, tifffile.TiffFile("b.ome.tif") as second:
        for page, again in zip(first.pages, second.pages, strict=True):
            assert_array_equal(page.asarray(), again.asarray())


def test_imagej_keeps_axes_spacing_and_resolution():
    values = samples().transpose(0, 2, 1, 3, 4)
    known = {"axes": "TZCYX", "spacing": 0.5, "unit": "um", "finterval": 0.2, "Labels": ["one", "two"]}
    tifffile.imwrite("a.tif", values, imagej=True, resolution=(10, 10), metadata=known)
    stack = read_stack("a.tif")
    assert stack.axes == "TZCYX"
    assert_array_equal(stack.samples, values)
    write_stack("b.tif", stack)
    with tifffile.TiffFile("a.tif") as first, tifffile.TiffFile("b.tif") as second:
        assert second.series[0].axes == "TZCYX"
        assert_array_equal(second.asarray(), values)
        assert second.imagej_metadata == first.imagej_metadata
        assert second.pages[0].tags["XResolution"].value == first.pages[0].tags["XResolution"].value


@pytest.mark.parametrize("compression", [None, "zlib", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
def test_pages_of_other_writers_keep_all_that_is_said_of_each(compression):
    values = samples(shape=(5, 10, 12))
    if compression in {None, "zlib"}:
        with tifffile.TiffWriter("a.tif") as writer:
            for k, page in enumerate(values):
                kept = {"description": f"exposure {k}", "software": "scope", "resolution": (3, 4)}
                writer.write(page, compression=compression, metadata=None, **kept)
    else:
        first, *rest = [PILImage.fromarray(page) for page in values]
        first.save("a.tif", save_all=True, append_images=rest, compression=compression)
    stack = read_stack("a.tif")
    assert_array_equal(stack.samples, values)
    write_stack("b.tif", stack)
    with tifffile.TiffFile("a.tif") as first, tifffile.TiffFile("b.tif") as second:
        assert_array_equal(second.asarray(), values)
        for page, again in zip(first.pages, second.pages, strict=True):
            assert again.description == page.description
            assert again.software == page.software


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_stay_together(planar):
    values = samples("uint8", (4, 10, 12, 3))
    stored = values if planar == "contig" else np.moveaxis(values, -1, 1)
    tifffile.imwrite("a.tif", stored, photometric="rgb", planarconfig=planar, metadata=None)
    stack = read_stack("a.tif")
    assert_array_equal(stack.planes, values)
    write_stack("b.tif", stack)
    assert_array_equal(read_stack("b.tif").planes, values)


def test_arrays_take_axes_in_any_order():
    values = samples("float32", (12, 3, 10))
    np.save("a.npy", values)
    stack = read_stack("a.npy", axes="XZY")
    assert_array_equal(stack.planes, values.transpose(1, 2, 0))
    assert_array_equal(stack.with_planes(stack.planes).samples, values)
    write_stack("b.npy", stack)
    assert_array_equal(np.load("b.npy"), values)
    write_stack("c.tif", stack)
    assert_array_equal(tifffile.imread("c.tif"), stack.planes)
    cube = Stack(samples(shape=(6, 6, 6)), "XYZ")
    write_stack("cube.tif", cube)
    assert_array_equal(read_stack("cube.tif").planes, cube.planes)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_keeps_axes_and_attributes(version):
    zarr = pytest.importorskip("zarr")
    values = samples(shape=(3, 10, 12))
    names = {"dimension_names": ["z", "y", "x"]} if version == 3 else {}
    known = {"gain": 2.0} | ({"_ARRAY_DIMENSIONS": ["z", "y", "x"]} if version == 2 else {})
    zarr.create_array("a.zarr", data=values, zarr_format=version, attributes=known, **names)
    stack = read_stack("a.zarr")
    assert stack.axes == "ZYX"
    write_stack("b.zarr", stack)
    again = read_stack("b.zarr")
    assert (again.axes, again.attributes["gain"]) == ("ZYX", 2.0)
    assert_array_equal(again.samples, values)
    with pytest.raises(FileExistsError, match="b.zarr: it exists"):
        write_stack("b.zarr", stack)


def test_default_axes_are_those_of_files_that_tell_none():
    zarr = pytest.importorskip("zarr")
    values = samples(shape=(3, 10, 12))
    zarr.create_array("told.zarr", data=values, dimension_names=["z", "y", "x"])
    zarr.create_array("none.zarr", data=values, chunks=(1, 10, 12))
    np.save("none.npy", values)
    assert read_stack("told.zarr", default_axes="TYX").axes == "ZYX"
    assert read_stack("none.npy", default_axes="TYX").axes == "TYX"
    stack = read_stack("none.zarr", default_axes="TYX")
    assert (stack.axes, stack.layout.chunks["T"]) == ("TYX", 1)
    assert read_stack("none.npy", axes="ZYX", default_axes="TYX").axes == "ZYX"
    with pytest.raises(ValueError, match="default_axes: expected letters with Y and X"):
        read_stack("none.npy", default_axes="T")


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_is_read_and_written_at_its_largest_resolution(version):
    zarr = pytest.importorskip("zarr")
    values = samples(shape=(2, 3, 10, 12))
    axes = [{"name": name, "type": "space"} for name in "tzyx"]
    scale = [{"type": "scale", "scale": [1, 0.5, 0.1, 0.1]}]
    levels = [{"path": path, "coordinateTransformations": scale} for path in ("full", "half")]
    image = {"version": "0.4", "axes": axes, "datasets": levels}
    group = zarr.open_group("a.zarr", mode="w", zarr_format=version)
    group.attrs.update({"multiscales": [image]} if version == 2 else {"ome": {"multiscales": [image]}})
    group.create_array("full", data=values, chunks=(1, 1, 5, 6))
    group.create_array("half", data=values[..., ::2, ::2])
    stack = read_stack("a.zarr")
    assert stack.axes == "TZYX"
    assert stack.notes == ("smaller copies of the images, a pyramid, were left out",)
    assert_array_equal(stack.samples, values)
    write_stack("b.zarr", stack)
    assert_array_equal(read_stack("b.zarr").samples, values)
    kept = zarr.open("b.zarr", mode="r")
    assert (kept.metadata.zarr_format, kept["0"].chunks) == (version, group["full"].chunks)
    written = dict(kept.attrs).get("ome", dict(kept.attrs))["multiscales"][0]
    assert written["axes"] == axes
    assert written["datasets"] == [{"path": "0", "coordinateTransformations": scale}]


def zarr_array(version, compressed, dtype=">u2", **settings):
    """Write an array of zarr with chunks, shards if it can have them, and names of its axes."""
    zarr = pytest.importorskip("zarr")
    names = ["time", "y", "x"]
    settings |= {"attributes": {"_ARRAY_DIMENSIONS": names}} if version == 2 else {"dimension_names": names}
    settings |= {"order": "F", "chunk_key_encoding": {"name": "v2", "separator": "/"}} if version == 2 else {}
    zarr.create_array(
        "a.zarr",
        data=samples(dtype, (3, 20, 24)),
        chunks=(1, 8, 16),
        shards=(1, 16, 32) if version == 3 else None,
        compressors="auto" if compressed else None,
        zarr_format=version,
        **settings,
    )


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("version", [2, 3])
def test_zarr_keeps_its_layout(version, compressed):
    zarr_array(version, compressed)
    stack = read_stack("a.zarr")
    assert (stack.axes, stack.notes) == ("TYX", ())
    write_stack("b.zarr", stack)
    zarr = pytest.importorskip("zarr")
    assert zarr.open("b.zarr", mode="r").metadata == zarr.open("a.zarr", mode="r").metadata
    assert_array_equal(read_stack("b.zarr").samples, stack.samples)


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_keeps_the_lengths_of_chunks_for_another_shape(version):
    zarr_array(version, True)
    stack = read_stack("a.zarr", axes="ZYX")
    planes = np.random.default_rng(0).random((3, 10, 48, 3))
    other, _ = stack.with_other_planes(planes)
    write_stack("b.zarr", other)
    zarr = pytest.importorskip("zarr")
    after = zarr.open("b.zarr", mode="r")
    assert (after.metadata.zarr_format, after.chunks) == (version, (1, 8, 16, 3))
    assert after.shards == ((1, 16, 32, 3) if version == 3 else None)
    again = read_stack("b.zarr")
    assert again.axes == "ZYXS"
    assert_array_equal(again.planes, planes)


@pytest.mark.parametrize(
    ("version", "dtype", "fill_value"),
    [(2, ">u2", 7), (2, "u2", None), (3, "u2", 7), (3, "f4", float("nan")), (3, "f8", -1.5)],
)
def test_zarr_keeps_the_sample_of_missing_chunks(version, dtype, fill_value):
    zarr_array(version, True, dtype, fill_value=fill_value)
    stack = read_stack("a.zarr")
    write_stack("b.zarr", stack)
    zarr = pytest.importorskip("zarr")
    before, after = (zarr.open(name, mode="r").metadata.to_dict() for name in ("a.zarr", "b.zarr"))
    assert str(after["fill_value"]) == str(before["fill_value"])
    write_stack("i4.zarr", stack.with_planes(stack.planes.astype("i4")))
    assert zarr.open("i4.zarr", mode="r").fill_value == (None if fill_value is None else 0)


def test_the_only_array_of_a_group_of_zarr_keeps_the_attributes_of_both():
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group("a.zarr", mode="w")
    group.attrs.update({"scope": "left", "gain": 1})
    names = {"dimension_names": ["z", "y", "x"]}
    group.create_array("frames", data=samples(shape=(3, 10, 12)), attributes={"gain": 2}, **names)
    stack = read_stack("a.zarr")
    assert stack.attributes == {"scope": "left", "gain": 2}
    assert stack.notes == ("its only array is written without the group that it is in",)


def test_names_of_axes_that_others_replace_are_told():
    zarr = pytest.importorskip("zarr")
    names = {"dimension_names": ["plane", "row", "column"]}
    zarr.create_array("a.zarr", data=samples(shape=(3, 10, 12)), **names)
    stack = read_stack("a.zarr", axes="ZYX")
    assert stack.notes == ("the names of its axes, plane, row, column, were left out",)
    write_stack("b.zarr", stack)
    assert zarr.open("b.zarr", mode="r").metadata.dimension_names == ("z", "y", "x")


def test_what_zarr_loses_is_said():
    numcodecs = pytest.importorskip("numcodecs")
    zarr_array(2, True, "<u2", filters=[numcodecs.Delta("<u2")])
    stack = read_stack("a.zarr")
    assert stack.notes == ("its samples are written without the filters of zarr (Delta)",)
    write_stack("b.zarr", stack)
    assert_array_equal(read_stack("b.zarr").samples, samples("<u2", (3, 20, 24)))


def test_zarr_that_names_code_is_not_run():
    zarr = pytest.importorskip("zarr")
    zarr.create_array("a.zarr", data=samples(shape=(3, 10, 12)), zarr_format=2)
    for entry in ({"compressor": {"id": "pickle"}}, {"filters": [{"id": "json2"}]}):
        path = "a.zarr/.zarray"
        with open(path) as file:
            settings = json.load(file)
        with open(path, "w") as file:
            json.dump(settings | entry, file)
        with pytest.raises(FileFormatError, match="it is coded with '(pickle|json2)', expected one of"):
            read_stack("a.zarr", axes="ZYX")


def test_zarr_that_declares_more_than_it_holds_is_refused():
    zarr = pytest.importorskip("zarr")
    zarr.create_array("a.zarr", shape=(10_000, 1000, 1000), chunks=(1, 1000, 1000), dtype="f8")
    with pytest.raises(FileFormatError, match="declares 80000000000 bytes"):
        read_stack("a.zarr", axes="ZYX")


def test_a_pyramid_keeps_its_levels_as_means_of_the_new_pixels():
    values = samples(shape=(3, 33, 32))
    with tifffile.TiffWriter("pyramid.ome.tif", ome=True) as writer:
        writer.write(values, subifds=2, metadata={"axes": "ZYX"})
        writer.write(values[:, ::2, ::2], subfiletype=1)
        writer.write(values[:, :32:4, ::4], subfiletype=1)
    stack = read_stack("pyramid.ome.tif")
    assert stack.factors == (2, 4)
    assert stack.notes == ()
    new = values[::-1].copy()
    write_stack("written.ome.tif", stack.with_planes(new))
    with tifffile.TiffFile("written.ome.tif") as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
        assert tiff.series[0].axes == "ZYX"
    assert_array_equal(levels[0], new)
    assert [level.shape for level in levels] == [(3, 33, 32), (3, 17, 16), (3, 9, 8)]
    means = new[:, :32].reshape(3, 16, 2, 16, 2).mean(axis=(2, 4))
    assert_array_equal(levels[1][:, :16], np.rint(means))
    assert_array_equal(read_stack("written.ome.tif").samples, new)


def test_smaller_copies_that_are_no_pyramid_are_told_of():
    values = samples(shape=(3, 32, 32))
    with tifffile.TiffWriter("pyramid.ome.tif", ome=True) as writer:
        writer.write(values, subifds=1, metadata={"axes": "ZYX"})
        writer.write(values[:, :20, ::2], subfiletype=1)
    stack = read_stack("pyramid.ome.tif")
    assert_array_equal(stack.samples, values)
    assert stack.notes == ("smaller copies of the images, a pyramid or thumbnails, were left out",)
    write_ome("plain.ome.tif", samples())
    assert read_stack("plain.ome.tif").notes == ()


def test_what_is_no_stack_is_told_in_one_line():
    np.save("a.npy", samples(shape=(3, 10, 12)))
    np.save("words.npy", np.array([[["a", "b"]]]))
    with tifffile.TiffWriter("sizes.tif") as writer:
        writer.write(samples(shape=(10, 12)))
        writer.write(samples(shape=(6, 7)))
    PILImage.new("L", (8, 8)).save("a.png")
    for name, axes, error, message in [
        ("a.npy", None, FileFormatError, r"array of shape \(3, 10, 12\): expected axes for it"),
        ("a.npy", "YX", ValueError, r"axes: expected a letter for each axis of a.npy \(3 x 10 x 12\), got"),
        ("a.npy", "ZYS", ValueError, "axes: expected letters with Y and X"),
        ("a.npy", "YYX", ValueError, "axes: expected letters with Y and X"),
        ("a.npy", "zyx", ValueError, "axes: expected letters with Y and X"),
        ("a.npy", "YXS", ValueError, "axes: expected a letter for each axis"),
        ("words.npy", "ZYX", FileFormatError, "expected real numbers"),
        ("sizes.tif", None, FileFormatError, r"images of different sizes \(6 x 7, 10 x 12\)"),
        ("a.png", None, FileFormatError, "a.png is no stack of images"),
        ("none.tif", None, FileNotFoundError, "none.tif"),
    ]:
        with pytest.raises(error, match=message):
            read_stack(name, axes=axes)
    with pytest.raises(ValueError, match=r"b\.png: expected a name that ends in \.tif"):
        write_stack("b.png", Stack(samples(shape=(3, 10, 12)), "ZYX"))


def test_images_are_no_stacks():
    PILImage.new("L", (8, 8)).save("a.png")
    np.save("gray.npy", np.zeros((10, 12)))
    np.save("colour.npy", np.zeros((10, 12, 3)))
    tifffile.imwrite("a.tif", samples("uint8", (10, 12, 3)))
    with open("bad.tif", "wb") as file:
        file.write(b"II*\0" + bytes(20))
    for name in ("a.png", "gray.npy", "colour.npy", "a.tif", "bad.tif"):
        assert count_planes(name) == 1
    np.save("stack.npy", np.zeros((3, 10, 12)))
    assert count_planes("stack.npy") == 3


def test_a_strip_that_grows_beyond_its_plane_is_refused(monkeypatch):
    monkeypatch.setattr("calepin.datasets._tiff.LARGE_STRIP", 100)
    monkeypatch.setattr("calepin.core.reading.ALWAYS_ALLOWED", 10_000)
    strip = zlib.compress(bytes(2_000_000))
    with tifffile.TiffWriter("a.tif") as file:
        for _ in range(2):
            tile = {"shape": (16, 16), "dtype": np.uint16, "tile": (16, 16), "metadata": None}
            file.write(iter([strip]), **tile, compression="zlib", photometric="minisblack")
    with pytest.raises(FileFormatError, match=r"a\.tif declares \d+ bytes"):
        read_stack("a.tif")


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("predictor", [None, 2])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_pyramid_keeps_tiles_compression_and_order_of_bytes(byteorder, compression, predictor):
    values = samples(shape=(3, 100, 64))
    stored = {"compression": compression, "predictor": predictor if compression else None, "tile": (32, 16)}
    with tifffile.TiffWriter("a.ome.tif", ome=True, byteorder=byteorder) as writer:
        writer.write(values, subifds=1, metadata={"axes": "ZYX"}, **stored)
        writer.write(values[:, ::2, ::2], subfiletype=1, **stored)
    stack = read_stack("a.ome.tif")
    assert_array_equal(stack.samples, values)
    for name, planes in (("b", values[::-1].copy()), ("c", (values / 2).astype(np.float32))):
        write_stack(f"{name}.ome.tif", stack.with_planes(planes))
        with tifffile.TiffFile("a.ome.tif") as first, tifffile.TiffFile(f"{name}.ome.tif") as second:
            assert second.byteorder == byteorder
            assert_array_equal(second.asarray(), planes)
            for old, new in zip(first.series[0].levels, second.series[0].levels, strict=True):
                assert (new.keyframe.tile, new.keyframe.compression) == (
                    old.keyframe.tile,
                    old.keyframe.compression,
                )
                assert new.keyframe.predictor == (old.keyframe.predictor if name == "b" else 1)


def test_files_of_imagej_keep_the_order_of_bytes_of_their_metadata_and_samples():
    values = samples().transpose(0, 2, 1, 3, 4)
    known = {"axes": "TZCYX", "spacing": 0.5, "Labels": ["one", "two"]}
    for byteorder in "<>":
        tifffile.imwrite("a.tif", values, imagej=True, metadata=known, byteorder=byteorder)
        write_stack("b.tif", read_stack("a.tif"))
        with tifffile.TiffFile("a.tif") as first, tifffile.TiffFile("b.tif") as second:
            assert second.byteorder == byteorder
            assert second.imagej_metadata == first.imagej_metadata
            assert second.pages[0].compression == 1
            assert_array_equal(second.asarray(), values)


def test_a_compression_that_cannot_be_written_is_told():
    first, *rest = [PILImage.fromarray(page) for page in samples("uint8", (3, 10, 12))]
    first.save("a.tif", save_all=True, append_images=rest, compression="jpeg")
    stack = read_stack("a.tif")
    assert stack.notes == ("its samples are written by DEFLATE, in place of JPEG",)
    write_stack("b.tif", stack)
    with tifffile.TiffFile("b.tif") as tiff:
        assert tiff.pages[0].compression == 8
        assert_array_equal(tiff.asarray(), stack.samples)


@pytest.mark.parametrize(("extra", "second"), [("unassalpha", "alpha"), ("unspecified", "an extra channel")])
@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_gray_images_with_alpha_are_named_and_may_be_channels(tmp_path, rng, planarconfig, extra, second):
    pages = rng.integers(0, 255, (3, 20, 24, 2), dtype=np.uint8)
    stored = pages if planarconfig == "contig" else np.moveaxis(pages, -1, 1)
    tifffile.imwrite(
        tmp_path / "alpha.tif",
        stored,
        photometric="minisblack",
        extrasamples=[extra],
        planarconfig=planarconfig,
    )
    right = "TYXC" if planarconfig == "contig" else "TCYX"
    for axes in (None, right.replace("C", "S")):
        said = f"alpha.tif holds two samples a pixel, gray and {second}: .* such as {right}$"
        with pytest.raises(FileFormatError, match=said):
            read_stack(tmp_path / "alpha.tif", axes=axes)
    stack = read_stack(tmp_path / "alpha.tif", axes=right)
    np.testing.assert_array_equal(stack.planes, np.moveaxis(pages, -1, 1).reshape(-1, 20, 24))
    assert stack.notes[-1].startswith("the metadata of its pages, whose axes are ")
    write_stack(tmp_path / "channels.tif", stack)
    with tifffile.TiffFile(tmp_path / "channels.tif") as tiff:
        assert tiff.series[0].axes == "TCYX"
        np.testing.assert_array_equal(tiff.asarray().reshape(-1, 20, 24), stack.planes)


def test_a_tiff_tells_the_axes_in_which_its_planes_are_written():
    values = samples("uint8", (10, 12, 3))
    tifffile.imwrite("pages.tif", values, photometric="minisblack")
    np.save("array.npy", values)
    for name in ("pages.tif", "array.npy"):
        stack = read_stack(name, axes="YXT")
        write_stack("b.tif", stack)
        with tifffile.TiffFile("b.tif") as tiff:
            assert tiff.series[0].axes == "TYX"
            assert_array_equal(tiff.asarray(), stack.planes)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_pages_that_pillow_reads_keep_their_samples(compression, inverted, n):
    values = samples("uint8", (n, 10, 12))
    first, *rest = [PILImage.fromarray(page) for page in values]
    white = {"tiffinfo": {262: 0}} if inverted else {}
    first.save("a.tif", compression=compression, save_all=True, append_images=rest, **white)
    stack = read_stack("a.tif", axes="YX" if n == 1 else "TYX")
    assert_array_equal(stack.planes, 255 - values if inverted else values)
    write_stack("b.tif", stack)
    with PILImage.open("b.tif") as written:
        assert_array_equal(np.asarray(written), values[0])
