"""What a file holds comes back: depth, colour, alpha, profile; damaged files give one clear error."""

import os
import struct
import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from numpy.testing import assert_array_equal
from PIL import Image as PILImage
from PIL import ImageCms

from calepin.core.errors import FileFormatError
from calepin.datasets import Image, read_image, write_image
from calepin.datasets.images import Levels, automatic_range
from calepin.datasets.samples import load_sample

SHAPES = {"gray": (19, 23), "colour": (19, 23, 3)}


def levels(kind, bits, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**bits, SHAPES[kind])
    values.flat[:2] = 0, 2**bits - 1
    return values


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".tif", 8), (".TIFF", 16)])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_every_level_survives_a_round_trip(tmp_path, kind, suffix, bits, with_alpha):
    values, top = levels(kind, bits), 2**bits - 1
    alpha = levels("gray", bits, seed=1) / top if with_alpha else None
    path = tmp_path / f"image{suffix}"
    assert write_image(path, Image(values / top, bits, alpha)) == ()
    back = read_image(path)
    assert (back.bits, back.notes) == (bits, ())
    assert back.pixels.dtype == np.float32
    assert_array_equal(np.rint(back.pixels * top), values)
    if alpha is None:
        assert back.alpha is None
    else:
        assert_array_equal(np.rint(back.alpha * top), np.rint(alpha * top))


def png_with_every_filter(values):
    """Encode 16-bit RGB by the letter of the PNG standard, rows taking its five filters in turn."""

    def paeth(left, up, corner):
        guess = left + up - corner
        distances = abs(guess - left), abs(guess - up), abs(guess - corner)
        return (left, up, corner)[distances.index(min(distances))]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8).astype(int)
    stream = b""
    above = np.zeros_like(rows[0])
    for y, row in enumerate(rows):
        left = np.r_[np.zeros(6, int), row[:-6]]
        corner = np.r_[np.zeros(6, int), above[:-6]]
        predictions = [
            0,
            left,
            above,
            (left + above) // 2,
            np.array([paeth(*neighbours) for neighbours in zip(left, above, corner, strict=True)]),
        ]
        filtered = (row - predictions[y % 5]) % 256
        stream += bytes([y % 5]) + filtered.astype(np.uint8).tobytes()
        above = row
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(stream)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_deep_colour_png_of_another_writer_keeps_both_bytes(tmp_path):
    values = levels("colour", 16)
    path = tmp_path / "image.png"
    path.write_bytes(png_with_every_filter(values))
    assert_array_equal(np.rint(read_image(path).pixels * 65535), values)


def test_jpeg_keeps_colour_and_says_what_it_cannot_hold(tmp_path):
    image = load_sample("astronaut")
    pixels = image.pixels[:64, :64]
    path = tmp_path / "image.jpg"
    losses = write_image(path, Image(pixels, 16, np.ones((64, 64))))
    assert [loss.split()[1] for loss in losses] == ["stores", "has"]
    back = read_image(path)
    assert back.bits == 8
    assert back.pixels.shape == (64, 64, 3)
    assert np.sqrt(np.mean((back.pixels - pixels) ** 2)) < 0.02


def test_floating_point_tiff_is_kept_and_png_takes_it_with_16_bits(tmp_path):
    pixels = np.random.default_rng(0).random((9, 7)).astype(np.float32)
    assert write_image(tmp_path / "float.tif", Image(pixels, 32)) == ()
    back = read_image(tmp_path / "float.tif")
    assert back.bits == 32
    assert_array_equal(back.pixels, pixels)
    assert "16 bits" in write_image(tmp_path / "float.png", back)[0]
    assert read_image(tmp_path / "float.png").bits == 16


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_colour_profile_is_kept(tmp_path, name, bits):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image(levels("colour", 8) / 255, bits, icc_profile=profile)
    write_image(tmp_path / name, image)
    assert read_image(tmp_path / name).icc_profile == profile


def test_values_outside_the_range_are_clipped(tmp_path):
    write_image(tmp_path / "a.png", Image(np.array([[-0.5, 0.5, 1.5]])))
    assert_array_equal(np.rint(read_image(tmp_path / "a.png").pixels * 255), [[0, 128, 255]])


def test_a_palette_becomes_colour(tmp_path):
    values = np.repeat(np.repeat(levels("colour", 8)[:4, :4] // 64 * 64, 4, 0), 4, 1).astype(np.uint8)
    PILImage.fromarray(values).quantize(64).save(tmp_path / "a.png")
    back = read_image(tmp_path / "a.png")
    assert_array_equal(np.rint(back.pixels * 255), values)
    assert "palette" in back.notes[0]


def test_cmyk_and_orientation_are_undone_with_a_note(tmp_path):
    image = PILImage.fromarray(np.zeros((8, 12, 3), np.uint8))
    exif = PILImage.Exif()
    exif[0x0112] = 6
    image.convert("CMYK").save(tmp_path / "a.jpg", exif=exif)
    back = read_image(tmp_path / "a.jpg")
    assert back.pixels.shape == (12, 8, 3)
    assert len(back.notes) == 2


def with_exif(path, size=(12, 8)):
    """Write an image with EXIF: a maker, an orientation that turns it, its size, a time and a place."""
    exif = PILImage.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769).update({0xA002: size[0], 0xA003: size[1], 0x829A: (1, 60)})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    PILImage.new("RGB", size, (90, 120, 200)).save(path, exif=exif)


@pytest.mark.parametrize("after", ["b.jpg", "b.png"])
@pytest.mark.parametrize("before", ["a.jpg", "a.png"])
def test_exif_is_kept_and_names_the_size_of_what_is_written(tmp_path, before, after):
    with_exif(tmp_path / before)
    image = read_image(tmp_path / before)
    assert write_image(tmp_path / after, replace(image, pixels=image.pixels.repeat(2, 0))) == ()
    with PILImage.open(tmp_path / after) as written:
        exif = written.getexif()
        assert written.size == (8, 24)
    assert exif[0x010F] == "Maker"
    assert 0x0112 not in exif
    assert exif.get_ifd(0x8769) == {0xA002: 8, 0xA003: 24, 0x829A: (1, 60)}
    assert exif.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)


def test_exif_that_cannot_be_kept_is_told(tmp_path):
    PILImage.new("L", (8, 8)).save(tmp_path / "a.jpg", comment=b"by hand")
    assert read_image(tmp_path / "a.jpg").notes == ("metadata of the JPEG were left out: comment",)
    with_exif(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    for name in ("b.tif", "b.npy"):
        assert write_image(tmp_path / name, image) == ("the EXIF of the image was left out",)
    long = PILImage.Exif()
    long[0x010F] = "Maker" * 20000
    for exif, name in ((b"Exif\0\0damaged", "b.png"), (long.tobytes(), "b.jpg")):
        assert write_image(tmp_path / name, replace(image, exif=exif)) == (
            "the EXIF of the image was left out",
        )
        assert read_image(tmp_path / name).exif is None
    assert write_image(tmp_path / "b.png", replace(image, exif=long.tobytes())) == ()


def test_several_pages_are_no_image_but_a_thumbnail_is_no_page(tmp_path):
    import tifffile

    pages = np.stack([levels("gray", 16), levels("gray", 16, seed=1)]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    PILImage.new("L", (8, 8)).save(
        tmp_path / "film.gif", save_all=True, append_images=[PILImage.new("L", (8, 8), 9)]
    )
    for name in ("stack.tif", "film.gif"):
        with pytest.raises(FileFormatError, match="it holds 2 pages, expected one image"):
            read_image(tmp_path / name)
    with tifffile.TiffWriter(tmp_path / "one.tif") as writer:
        writer.write(pages[0])
        writer.write(pages[0, ::4, ::4], subfiletype=1)
    back = read_image(tmp_path / "one.tif")
    assert_array_equal(np.rint(back.pixels * 65535), pages[0])


def test_floats_too_dark_for_an_image_have_units_of_their_own():
    for white, usual in ((1e-30, False), (1e-5, False), (1e-4, True), (1.0, True), (0.0, True)):
        found, notes = automatic_range(np.array([[0, white]], np.float32))
        assert (found is None) == usual
        assert bool(notes) != usual


def test_an_automatic_range_keeps_the_samples_and_says_so(tmp_path):
    values = np.linspace(-1000, 3000, 200).reshape(10, 20)
    for dtype in ("float32", "float64", "int16", "int32"):
        np.save(tmp_path / "a.npy", values.astype(dtype))
        image = read_image(tmp_path / "a.npy", value_range="auto")
        assert image.levels == Levels(-1000, 3000, dtype)
        assert f"samples are {dtype} from -1000 to 3000" in image.notes[-1]
        write_image(tmp_path / "b.npy", image)
        np.testing.assert_allclose(np.load(tmp_path / "b.npy"), values.astype(dtype), atol=1e-3)
    np.save(tmp_path / "a.npy", np.array([[7, 9]], np.uint32))
    assert read_image(tmp_path / "a.npy", value_range="auto").levels == Levels(0, 9, "uint32")
    np.save(tmp_path / "a.npy", np.array([[7, 9]], np.uint16))
    assert read_image(tmp_path / "a.npy", value_range="auto").levels is None


def test_planar_and_lzw_tiff_of_other_writers(tmp_path):
    import tifffile

    colour = levels("colour", 16).astype(np.uint16)
    path = tmp_path / "planar.tif"
    tifffile.imwrite(path, np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate")
    assert_array_equal(np.rint(read_image(path).pixels * 65535), colour)
    gray = levels("gray", 16).astype(np.uint16)
    PILImage.fromarray(gray).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    assert_array_equal(np.rint(read_image(tmp_path / "lzw.tif").pixels * 65535), gray)


def test_a_file_that_is_no_image_is_named(tmp_path):
    bad = tmp_path / "bad.png"
    for content in (b"", b"hello, I am a text file", b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0"):
        bad.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"bad\.png"):
            read_image(bad)
    with pytest.raises(FileFormatError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.png"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_truncated_file_is_refused(tmp_path, name, bits):
    path = tmp_path / name
    write_image(path, Image(levels("colour", 8) / 255, bits))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(FileFormatError, match=name) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.full((4, 4), 2.0, np.float32), r"expected \[0, 1\]"),
        (np.full((4, 4), np.nan, np.float32), "NaN"),
        (np.zeros((4, 4), np.int16), "int16"),
        (np.zeros((4, 4, 5), np.uint16), "shape"),
    ],
)
def test_samples_without_a_place_in_the_range_are_refused(tmp_path, array, what):
    import tifffile

    planes = "contig" if array.ndim == 3 else None
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", planarconfig=planes)
    with pytest.raises(FileFormatError, match=what):
        read_image(tmp_path / "a.tif")


def test_what_cannot_be_written_is_refused_and_the_old_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    good = Image(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="NaN"):
        write_image(path, replace(good, pixels=np.full((4, 4), np.nan)))
    with pytest.raises(ValueError, match=r"shape \(h, w\)"):
        write_image(path, replace(good, pixels=np.zeros((4, 4, 2))))
    with pytest.raises(ValueError, match=r"\.gif: expected"):
        write_image(tmp_path / "a.gif", good)
    with pytest.raises(FileNotFoundError, match="folder"):
        write_image(tmp_path / "none" / "a.png", good)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_image(path, good)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


UNITS = [("int16", -1000, 3000), ("uint16", 100, 4095), ("int32", -70000, 70000), ("uint32", 0, 3e9)]
UNITS += [("float32", -1.5, 40.0), ("float64", 1e-9, 2e-9), ("float16", -2.0, 2.0), ("uint8", 10, 200)]


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize(("dtype", "black", "white"), UNITS)
@pytest.mark.parametrize("kind", SHAPES)
def test_samples_in_units_of_their_own_come_back(tmp_path, suffix, dtype, black, white, kind):
    import tifffile

    samples = (black + (white - black) * np.random.default_rng(0).random(SHAPES[kind])).astype(dtype)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, samples)
    else:
        tifffile.imwrite(path, samples, photometric="rgb" if kind == "colour" else "minisblack")
    image = read_image(path, value_range=(black, white))
    assert (image.levels.black, image.levels.white, image.levels.dtype) == (black, white, dtype)
    np.testing.assert_allclose(image.pixels * (white - black) + black, samples, rtol=1e-3, atol=1e-6 * white)
    assert write_image(path, image) == ()
    back = read_image(path, value_range="data")
    assert back.levels.dtype == dtype
    tolerance = 1 if np.dtype(dtype).kind in "iu" else 2e-7 * (white - black)
    assert back.levels.black == pytest.approx(float(samples.min()), abs=tolerance)
    assert back.levels.white == pytest.approx(float(samples.max()), abs=tolerance)


def test_floats_in_units_of_their_own_are_not_clipped_and_integers_are(tmp_path):
    from calepin.datasets.images import Levels

    pixels = np.array([[-1.0, 0.5, 2.0]])
    for dtype, expected in (("float32", [-100, 50, 200]), ("int8", [-100, 50, 127])):
        image = Image(pixels, levels=Levels(0, 100, dtype))
        write_image(tmp_path / "a.npy", image)
        assert_array_equal(np.load(tmp_path / "a.npy"), [expected])
    (loss,) = write_image(tmp_path / "a.png", Image(pixels, levels=Levels(0, 100, "float32")))
    assert loss == "PNG cannot store float32, 0 to 100 was scaled to 0 to 65535"
    assert_array_equal(np.rint(read_image(tmp_path / "a.png").pixels * 65535), [[0, 32768, 65535]])
    (loss,) = write_image(tmp_path / "a.jpg", Image(pixels, levels=Levels(0, 100, "int16")))
    assert loss == "JPEG cannot store int16, 0 to 100 was scaled to 0 to 255"


def test_a_16_bit_png_with_a_range_keeps_its_units_and_alpha(tmp_path):
    values, alpha = levels("gray", 12), levels("gray", 16, seed=1) / 65535
    write_image(tmp_path / "a.png", Image(values / 65535, 16, alpha))
    image = read_image(tmp_path / "a.png", value_range=(0, 4095))
    assert image.pixels.max() == 1
    assert write_image(tmp_path / "b.png", image) == ()
    back = read_image(tmp_path / "b.png")
    assert_array_equal(np.rint(back.pixels * 65535), values)
    assert_array_equal(np.rint(back.alpha * 65535), np.rint(alpha * 65535))


def test_arrays_with_the_usual_samples_need_no_range(tmp_path):
    for samples, bits in (
        (levels("gray", 8).astype("u1"), 8),
        (np.random.default_rng(0).random((5, 6, 3)), 32),
    ):
        np.save(tmp_path / "a.npy", samples)
        image = read_image(tmp_path / "a.npy")
        assert (image.bits, image.levels) == (bits, None)
        write_image(tmp_path / "b.npy", image)
        np.testing.assert_allclose(np.load(tmp_path / "b.npy"), samples, atol=1e-7)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            np.zeros((4, 4), np.int16),
            "samples are int16 from 0 to 0, expected .* --range LO:HI or --range data",
        ),
        (np.full((4, 4), 7.0), r"floats lie in \[7, 7\], expected \[0, 1\], or a range of samples"),
        (np.array([[0.5, np.nan], [np.inf, 1]]), "2 of its samples are NaN or infinite"),
        (np.zeros((4, 4), bool), "samples are bool"),
        (np.zeros((4, 4), complex), "samples are complex128"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.array([[-1.7e308, 1.7e308]]), "too large"),
    ],
)
def test_what_an_array_lacks_as_an_image_is_said(tmp_path, samples, message):
    np.save(tmp_path / "a.npy", samples)
    with pytest.raises(FileFormatError, match=rf"a\.npy is not a readable image: .*{message}"):
        read_image(tmp_path / "a.npy", value_range="data" if message == "too large" else None)


@pytest.mark.parametrize("value_range", [(1, 0), (0, 0), (0,), "all", (0, np.nan), 3])
def test_a_range_is_an_increasing_pair(tmp_path, value_range):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    with pytest.raises(ValueError, match="value_range: expected"):
        read_image(tmp_path / "a.npy", value_range=value_range)


def test_a_program_is_not_run_as_an_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(FileFormatError, match=r"a\.png is not a readable image: it is a program"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_damaged_tiff_files_write_nothing_to_stderr(tmp_path, capfd, compression):
    import tifffile

    path = tmp_path / "a.tif"
    for samples in (levels("gray", 8).astype(np.uint8), levels("colour", 16).astype(np.uint16)):
        tifffile.imwrite(
            path, samples, compression=compression, photometric="rgb" if samples.ndim == 3 else None
        )
        content = path.read_bytes()
        for cut in (12, 150, len(content) - 40):
            for damaged in (content[:cut], content[:cut] + b"\xff" * 8 + content[cut + 8 :]):
                path.write_bytes(damaged)
                with suppress(FileFormatError):
                    read_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_pyramid_that_an_image_leaves_out_is_told(tmp_path, dtype):
    pixels = np.arange(64 * 64).reshape(64, 64).astype(dtype)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(pixels, subifds=1)
        writer.write(pixels[::2, ::2], subfiletype=1)
    (note,) = read_image(tmp_path / "a.tif").notes
    assert note.startswith("the smaller levels of its pyramid are left out; a stack keeps them (axes, on ")
    tifffile.imwrite(tmp_path / "b.tif", pixels)
    assert read_image(tmp_path / "b.tif").notes == ()


OME = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5}
DESCRIBED = {
    "description": "SEM HV=5kV",
    "resolution": (5000, 2500),
    "resolutionunit": 3,
    "datetime": "2026:01:02 03:04:05",
    "software": "FEI",
    "metadata": None,
}


def gray16(seed=0):
    return levels("gray", 16, seed).astype(np.uint16)


def tags(path, *names):
    with tifffile.TiffFile(path) as tiff:
        found = tiff.pages[0].tags
        return {name: found[name].value for name in names if name in found}


def test_an_ome_tiff_of_one_page_stays_one_and_tells_the_type_of_its_samples(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", gray16(), metadata=OME)
    image = read_image(tmp_path / "a.ome.tif")
    counts = replace(image, levels=Levels(0, 65535, "float32"))
    for new, name in ((image, "uint16"), (counts, "float")):
        assert write_image(tmp_path / "b.ome.tif", new) == ()
        with tifffile.TiffFile(tmp_path / "a.ome.tif") as a, tifffile.TiffFile(tmp_path / "b.ome.tif") as b:
            assert b.is_ome
            assert b.ome_metadata == a.ome_metadata.replace('Type="uint16"', f'Type="{name}"')
            assert 'PhysicalSizeX="0.25"' in b.ome_metadata
            assert_array_equal(b.asarray(), gray16())


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_tiff_of_imagej_of_one_page_keeps_unit_info_and_resolution(tmp_path, byteorder):
    known = {"unit": "um", "Info": "exposure=20ms", "min": 3.0}
    options = {"imagej": True, "resolution": (10, 5), "metadata": known, "byteorder": byteorder}
    tifffile.imwrite(tmp_path / "a.tif", gray16(), **options)
    assert write_image(tmp_path / "b.tif", read_image(tmp_path / "a.tif")) == ()
    with tifffile.TiffFile(tmp_path / "a.tif") as a, tifffile.TiffFile(tmp_path / "b.tif") as b:
        assert b.byteorder == byteorder
        assert b.imagej_metadata == a.imagej_metadata
        assert b.imagej_metadata["unit"] == "um"
        assert b.pages[0].tags["XResolution"].value == (10, 1)
        assert_array_equal(b.asarray(), gray16())


@pytest.mark.parametrize("kind", SHAPES)
def test_description_resolution_date_software_and_layout_of_a_tiff_are_kept(tmp_path, kind):
    values = levels(kind, 16).astype(np.uint16)
    layout = {"tile": (16, 32), "compression": "zlib", "predictor": 2, "byteorder": ">"}
    colour = "rgb" if kind == "colour" else "minisblack"
    text = [(315, "s", 0, "Ann", True)]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=colour, extratags=text, **layout, **DESCRIBED)
    assert write_image(tmp_path / "b.tif", read_image(tmp_path / "a.tif")) == ()
    names = (
        "ImageDescription",
        "XResolution",
        "YResolution",
        "ResolutionUnit",
        "DateTime",
        "Software",
        "Artist",
    )
    assert len(tags(tmp_path / "b.tif", *names)) == len(names)
    names += "TileWidth", "TileLength", "Compression", "Predictor", "PhotometricInterpretation"
    assert tags(tmp_path / "b.tif", *names) == tags(tmp_path / "a.tif", *names)
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert tiff.byteorder == ">"
        assert_array_equal(tiff.asarray(), values)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_whose_0_is_white_stays_one(tmp_path, dtype):
    values = (gray16() >> 8).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite", metadata=None)
    image = read_image(tmp_path / "a.tif")
    top = np.iinfo(dtype).max
    assert_array_equal(np.rint(image.pixels * top), top - values)
    assert write_image(tmp_path / "b.tif", image) == ()
    assert_array_equal(tifffile.imread(tmp_path / "b.tif"), values)
    assert_array_equal(read_image(tmp_path / "b.tif").pixels, image.pixels)
    (note,) = write_image(tmp_path / "c.tif", replace(image, bits=32))
    assert note == "its samples are 0 for black, in place of 0 for white"
    assert_array_equal(tifffile.imread(tmp_path / "c.tif"), image.pixels)


def test_deep_samples_whose_0_is_white_are_inverted_also_where_pillow_reads_them(tmp_path):
    white = {262: 0}
    PILImage.fromarray(gray16()).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo=white)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages[0].photometric == 0
    assert_array_equal(np.rint(read_image(tmp_path / "a.tif").pixels * 65535), 65535 - gray16())


def test_metadata_follow_a_larger_image_and_are_left_out_for_another_field(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", gray16(), metadata=OME, resolution=(10, 20))
    image = read_image(tmp_path / "a.ome.tif")
    larger = image.pixels.repeat(2, axis=0).repeat(4, axis=1)
    scaled = replace(image, pixels=larger, page=image.page.scaled((2, 4)))
    assert write_image(tmp_path / "b.ome.tif", scaled) == ()
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tiff:
        assert tiff.asarray().shape == larger.shape
        for text in ('SizeX="92"', 'SizeY="38"', 'PhysicalSizeX="0.0625"', 'PhysicalSizeY="0.25"'):
            assert text in tiff.ome_metadata
    assert tags(tmp_path / "b.ome.tif", "XResolution") == {"XResolution": (40, 1)}
    cut = replace(image, pixels=image.pixels[:9])
    expected = "the metadata of its TIFF, of 23 x 19 pixels, were left out"
    assert write_image(tmp_path / "c.tif", cut) == (expected,)


def test_metadata_that_another_file_cannot_hold_are_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", gray16(), metadata=OME)
    image = read_image(tmp_path / "a.ome.tif")
    for suffix in (".png", ".npy"):
        losses = write_image(tmp_path / f"b{suffix}", image)
        assert losses == (f"{suffix} is written without the description and resolution of the TIFF",)
    colour = replace(image, pixels=np.repeat(image.pixels[:, :, None], 3, axis=2))
    (loss,) = write_image(tmp_path / "b.ome.tif", colour)
    assert loss == "the description of OME, which names the colours of planes, was left out"
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tiff:
        assert tiff.series[0].axes == "YXS"
    PILImage.fromarray(gray16()).save(tmp_path / "a.tif", compression="tiff_lzw")
    (loss,) = write_image(tmp_path / "b.tif", read_image(tmp_path / "a.tif"))
    assert loss == "its samples are written by DEFLATE, in place of LZW"


def test_a_palette_of_tiff_becomes_colour_with_the_description_of_its_file(tmp_path):
    colours = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256) * 85
    values = levels("gray", 8).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=colours, **DESCRIBED)
    image = read_image(tmp_path / "a.tif")
    assert write_image(tmp_path / "b.tif", image) == ()
    assert_array_equal(read_image(tmp_path / "b.tif").pixels, image.pixels)
    assert tags(tmp_path / "b.tif", "ImageDescription") == {"ImageDescription": "SEM HV=5kV"}


def test_odd_tags_of_a_tiff_are_no_obstacle_and_what_is_left_out_is_told(tmp_path):
    odd = [
        (305, 2, 0, "Größe".encode(), True),
        (306, 2, 0, "yesterday", True),
        (65000, 3, 1, 7, True),
    ]
    options = {"metadata": None, "software": False, "extratags": odd}
    tifffile.imwrite(tmp_path / "a.tif", gray16(), **options)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
        for name in ("XResolution", "YResolution"):
            tiff.pages[0].tags[name].overwrite((0, 0))
    losses = write_image(tmp_path / "b.tif", read_image(tmp_path / "a.tif"))
    assert losses == ("its DateTime is no date of TIFF, it was left out", "its tags 65000 were left out")
    assert tags(tmp_path / "b.tif", "Software", "DateTime") == {"Software": "Größe"}
    numbers = {"metadata": None, "software": False, "extratags": [(305, 3, 1, 7, True)]}
    tifffile.imwrite(tmp_path / "a.tif", gray16(), **numbers)
    (loss,) = write_image(tmp_path / "b.tif", read_image(tmp_path / "a.tif"))
    assert loss == "its Software is no text, it was left out"


def test_the_orientation_is_applied_or_kept(tmp_path):
    turned = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "deep.tif", levels("colour", 16).astype(np.uint16), extratags=turned)
    assert write_image(tmp_path / "b.tif", read_image(tmp_path / "deep.tif")) == ()
    assert tags(tmp_path / "b.tif", "Orientation") == {"Orientation": 6}
    tifffile.imwrite(tmp_path / "a.tif", levels("gray", 8).astype(np.uint8), extratags=turned)
    image = read_image(tmp_path / "a.tif")
    assert image.pixels.shape == (23, 19)
    assert image.notes[-1] == "its metadata are left out, as rows became columns"
    write_image(tmp_path / "b.tif", image)
    assert tags(tmp_path / "b.tif", "Orientation") == {}


def test_a_georeference_is_kept_and_left_out_of_a_larger_image(tmp_path):
    scale = (33550, "d", 3, (0.5, 0.5, 0.0), True)
    tifffile.imwrite(tmp_path / "a.tif", gray16(), extratags=[scale])
    image = read_image(tmp_path / "a.tif")
    assert write_image(tmp_path / "b.tif", image) == ()
    assert tags(tmp_path / "b.tif", "ModelPixelScaleTag") == {"ModelPixelScaleTag": scale[3]}
    larger = replace(image, pixels=image.pixels.repeat(2, axis=0), page=image.page.scaled((2, 1)))
    assert write_image(tmp_path / "b.tif", larger) == ("its georeference, which counts pixels, was left out",)
    assert tags(tmp_path / "b.tif", "ModelPixelScaleTag") == {}


def test_exif_that_cannot_be_read_is_told(tmp_path):
    block = b"Exif\0\0II*\0\x08\0\0\0" + b"\xff" * 40
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    PILImage.fromarray(pixels).save(tmp_path / "a.jpg", exif=block)
    found = read_image(tmp_path / "a.jpg")
    assert found.exif is None
    assert "its EXIF, which cannot be read, was left out" in found.notes
