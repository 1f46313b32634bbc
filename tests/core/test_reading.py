"""What a file declares is checked against what it holds, special files are refused, errors name the file."""

import gzip
import json
import os
import socket
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import sparse

from calepin.core import reading
from calepin.core.errors import FileFormatError
from calepin.core.files import load_arrays, load_atoms, read_header, save_arrays
from calepin.core.paths import check_input
from calepin.core.reading import check_declared, read_npy
from calepin.datasets import Image, read_idx, read_image, write_image
from calepin.datasets.arrays import open_array, open_codes, open_filter_codes

BOMB = "declares [0-9]+ bytes, the file holds [0-9]+: expected at most"


@pytest.fixture
def small_limit(monkeypatch):
    """Let files declare 64 KiB, so that small files can be bombs."""
    monkeypatch.setattr(reading, "ALWAYS_ALLOWED", 2**16)


def test_the_limit_is_lifted_by_an_argument_and_by_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(bytes(10))
    check_declared(path, 2**28)
    check_declared("a", 2**30, held=2**24)
    with pytest.raises(FileFormatError, match=rf"a {BOMB} 268435456 \(CALEPIN_TRUST_FILES=1 lifts"):
        check_declared(path, 2**28 + 1)
    check_declared(path, 2**40, trusted=True)
    monkeypatch.setenv("CALEPIN_TRUST_FILES", "0")
    with pytest.raises(FileFormatError, match=BOMB):
        check_declared(path, 2**40)
    monkeypatch.setenv("CALEPIN_TRUST_FILES", "1")
    check_declared(path, 2**40)


@pytest.mark.usefixtures("small_limit")
def test_compressed_files_that_grow_without_measure_are_refused(tmp_path):
    big = np.zeros((400, 500))
    np.savez_compressed(tmp_path / "filters.npz", codes=big[None], offset=np.zeros(1))
    sparse.save_npz(tmp_path / "codes.npz", sparse.csr_array((10**6, 3)))
    header = bytes([0, 0, 14, 2]) + (400).to_bytes(4) + (500).to_bytes(4)
    (tmp_path / "a.gz").write_bytes(gzip.compress(header + big.tobytes()))
    tifffile.imwrite(
        tmp_path / "deep.tif", big.astype(np.uint16), compression="zlib", photometric="minisblack"
    )
    write_image(tmp_path / "a.tif", Image(big))
    write_image(tmp_path / "a.png", Image(big))
    write_image(tmp_path / "deep.png", Image(np.zeros((400, 500, 3)), 16))
    for name, read in [
        ("filters.npz", open_filter_codes),
        ("codes.npz", open_codes),
        ("a.gz", read_idx),
        ("deep.tif", read_image),
        ("a.tif", read_image),
        ("a.png", read_image),
        ("deep.png", read_image),
    ]:
        with pytest.raises(FileFormatError, match=f"{name} {BOMB}"):
            read(tmp_path / name)
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", trusted=True), big)
    assert read_image(tmp_path / "a.png", trusted=True).pixels.shape == (400, 500)


@pytest.mark.usefixtures("small_limit")
def test_a_strip_that_grows_beyond_its_image_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("calepin.datasets._tiff.LARGE_STRIP", 100)
    strip = zlib.compress(bytes(200_000))
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        tile = iter([strip])
        shape = {"shape": (16, 16), "dtype": np.uint16, "tile": (16, 16)}
        file.write(tile, **shape, compression="zlib", photometric="minisblack")
    with pytest.raises(FileFormatError, match=rf"a\.tif {BOMB}"):
        read_image(tmp_path / "a.tif")


def test_a_trusted_image_may_exceed_the_limit_of_pillow(tmp_path, monkeypatch):
    from PIL import Image as PILImage

    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 100)
    write_image(tmp_path / "a.png", Image(np.zeros((20, 30))))
    with pytest.raises(FileFormatError, match=r"a\.png is not a readable image: Image size"):
        read_image(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", trusted=True).pixels.shape == (20, 30)
    assert PILImage.MAX_IMAGE_PIXELS == 100


def test_a_header_cannot_declare_more_than_its_file_holds(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((11, 13)))
    content = (tmp_path / "a.npy").read_bytes()
    for lie in (b"(91, 13)", b"(11, 93)", b"(11,-13)"):
        (tmp_path / "b.npy").write_bytes(content.replace(b"(11, 13)", lie))
        for read in (read_npy, open_array):
            with pytest.raises(FileFormatError, match=r"b\.npy is not a readable .npy array: "):
                read(tmp_path / "b.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(
            "codes.npy", content.replace(b"(11, 13)", b"(99999999999, 13)  ").replace(b"   \n", b"\n")
        )
        archive.writestr("offset.npy", content)
    with pytest.raises(FileFormatError, match=r"a\.npz is not a readable file of codes.*header declares"):
        open_filter_codes(tmp_path / "a.npz")


def test_special_files_are_refused_instead_of_read_for_ever(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "socket"))
    for path in (tmp_path / "pipe.npy", tmp_path / "socket", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(FileFormatError, match="is a pipe, socket or device, expected an image"):
            check_input(path, "an image")
        for read in (read_npy, read_image, read_idx, load_arrays, open_codes):
            with pytest.raises(FileFormatError, match="is a pipe, socket or device"):
                read(path)
    (tmp_path / "link.npy").symlink_to(tmp_path / "array.npy")
    np.save(tmp_path / "array.npy", np.ones(3))
    assert check_input(tmp_path / "link.npy", "an array") == tmp_path / "link.npy"


@pytest.mark.parametrize("parameters", ["[" * 100_000, "{", "[1]", "null", '{"a": ' * 100_000, "9" * 5000])
def test_parameters_that_are_no_json_object_are_errors_of_the_file(tmp_path, monkeypatch, parameters):
    path = tmp_path / "a.safetensors"
    monkeypatch.setattr("calepin.core.files.json.dumps", lambda *_, **__: parameters)
    save_arrays(path, "dictionary", {"components": np.eye(2)}, {})
    monkeypatch.undo()
    for read in (load_arrays, read_header):
        with pytest.raises(FileFormatError, match=r"a\.safetensors is not a readable file of calepin: "):
            read(path)


def test_arrays_that_a_caller_needs_are_named(tmp_path):
    save_arrays(tmp_path / "a.safetensors", "dictionary", {"atoms": np.eye(2)}, {})
    with pytest.raises(FileFormatError, match=r"a\.safetensors lacks components: it holds atoms"):
        load_arrays(tmp_path / "a.safetensors", "dictionary", ["components"])


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (np.ones(3), r"float64 of shape \(3,\)"),
        (np.ones((2, 2), np.int64), "int64"),
        (np.ones((0, 2)), r"shape \(0, 2\)"),
        (np.full((2, 2), np.nan), "NaN or infinity"),
    ],
)
def test_atoms_of_a_file_are_finite_floats(tmp_path, atoms, message):
    from calepin import DictionaryLearner

    save_arrays(tmp_path / "a.safetensors", "dictionary", {"components": atoms}, {})
    for read in (load_atoms, DictionaryLearner.load):
        with pytest.raises(FileFormatError, match=rf"a\.safetensors: expected components to be .*{message}"):
            read(tmp_path / "a.safetensors")


def test_settings_cannot_declare_layers_that_the_file_does_not_hold(tmp_path):
    from calepin.generators import ReLUNet
    from calepin.generators.files import load_generator, save_generator
    from calepin.networks import VAE

    VAE(2, 3, 4).save(tmp_path / "vae.safetensors")
    save_generator(tmp_path / "net.safetensors", ReLUNet((2, 3, 4)))
    for name, key, read in (("vae", '"n_hidden": 3', VAE.load), ("net", "[2, 3, 4]", load_generator)):
        path = tmp_path / f"{name}.safetensors"
        arrays, parameters = load_arrays(path)
        kind = read_header(path)["kind"]
        text = json.dumps(parameters)
        assert key in text
        save_arrays(path, kind, arrays, json.loads(text.replace(key, key.replace("3", "300000"))))
        with pytest.raises(FileFormatError, match=rf"{name}\.safetensors.*settings contain 300000"):
            read(path)


def test_an_absurd_size_is_not_printed_digit_by_digit(tmp_path):
    (tmp_path / "huge").write_bytes(b"0" * 10)
    with pytest.raises(FileFormatError, match="declares over 10.15 bytes, the file holds 10"):
        check_declared(tmp_path / "huge", 10**900)
