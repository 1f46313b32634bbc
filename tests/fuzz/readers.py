"""Damaged files of every kind that calepin reads: truncated, flipped, with lies in their headers, nested.

`check(seed)` damages one file and reads it. Run this module to do so for some time:

    python tests/fuzz/readers.py --seconds 3600 --start 0

Each seed is checked in a child process if it may crash (`--isolate`), and printed if anything but a
FileFormatError or ValueError that names the file, or a result, comes out.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.io import savemat

from calepin import DictionaryLearner, GenerativeDictionaryLearner
from calepin.compression import compress, read_clp
from calepin.core.checkpoint import Checkpoint
from calepin.core.files import load_arrays, read_header, save_arrays
from calepin.datasets import Image, Stack, read_idx, read_image, read_stack, write_image, write_stack
from calepin.datasets.arrays import open_codes, open_filter_codes, open_samples, open_signals
from calepin.generators import PolynomialSine, ReLUNet
from calepin.generators.files import load_generator, save_generator
from calepin.networks import VAE, UnfoldedAutoencoder
from calepin.penalties import L1
from calepin.reconstruction import (
    read_kspace,
    read_samples,
    read_sensitivities,
    read_trajectory,
    write_cfl,
)
from calepin.spikes import read_nwb_spikes, read_spikes, read_units

__all__ = ["KINDS", "check"]

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(0.3, (6, 40)).astype(np.float64)
TIMES = np.array([0.1, 0.25, 0.3])
KSPACE = (RNG.standard_normal((4, 8, 6)) + 1j * RNG.standard_normal((4, 8, 6))).astype(np.complex64)
PIXELS = RNG.random((21, 17, 3))


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    `make` writes a valid file at a path, `read` reads it. `unwrap` and `wrap` remove and add a compression or
    checksum, so that damage can reach what lies behind it. A slow kind is read in a child process.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    unwrap: Callable[[bytes], bytes] | None = None
    wrap: Callable[[bytes], bytes] | None = None
    slow: bool = False


def check(seed: int, names: tuple[str, ...] | None = None) -> None:
    """Damage a random file of a random kind, and raise AssertionError unless the outcome is documented."""
    rng = np.random.default_rng(seed)
    kinds = [kind for kind in KINDS if names is None or kind.name in names]
    weights = np.array([1 / 8 if kind.slow else 1.0 for kind in kinds])
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    content = _damaged(kind, rng)
    with tempfile.TemporaryDirectory() as folder:
        for other, beside in _valid(kind)[1].items():
            (Path(folder) / other).write_bytes(beside)
        path = Path(folder) / kind.name
        path.write_bytes(content)
        _check_outcome(kind, path, f"seed {seed}, {kind.name} of {len(content)} bytes")


def _check_outcome(kind: Kind, path: Path, what: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            kind.read(path)
        except ValueError as error:  # FileFormatError is a ValueError
            message = str(error)
            if path.stem not in message or "\n" in message or len(message) > 1000:
                raise AssertionError(f"{what}: {type(error).__name__}: {message!r}") from error
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {str(error)[:500]!r}") from error
    # what calepin says of the data names an argument; anything else comes from a library
    foreign = [w for w in said if w.category is not UserWarning or not re.match(r"\w+: ", str(w.message))]
    if foreign:
        raise AssertionError(f"{what}: warning {foreign[0].message}")


def _damaged(kind: Kind, rng: np.random.Generator) -> bytes:
    content = _valid(kind)[0]
    if kind.unwrap is None or kind.wrap is None or rng.random() < 0.4:
        return _mutate(content, rng)
    return kind.wrap(_mutate(kind.unwrap(content), rng))


def _mutate(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(1 if rng.random() < 0.7 else int(rng.integers(2, 6))):
        change = CHANGES[rng.integers(len(CHANGES))]
        data = bytearray(change(bytes(data), rng)) if data else data
    return bytes(data)


def _truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    near = len(data) if rng.random() < 0.5 else min(len(data), 400)  # headers are short
    for _ in range(rng.integers(1, 5)):
        changed[rng.integers(near)] ^= 1 << rng.integers(8)
    return bytes(changed)


def _set_number(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a binary number, of the size of a length or an offset."""
    value = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x10000, 2**62)[rng.integers(7)]
    order, size = "<>"[rng.integers(2)], (2, 4, 8)[rng.integers(3)]
    raw = struct.pack(f"{order}Q", value)
    raw = raw[:size] if order == "<" else raw[-size:]
    near = len(data) if rng.random() < 0.5 else min(len(data), 200)
    at = int(rng.integers(near)) // 2 * 2
    return data[:at] + raw + data[at + size :]


def _set_digits(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace a decimal number of a text header, keeping the length where the number is long enough."""
    digits = [i for i in range(min(len(data), 5000)) if data[i : i + 1].isdigit()]
    if not digits:
        return data
    at = digits[rng.integers(len(digits))]
    new = (b"9", b"0", b"-1", b"99999999999", b"1e400", b"NaN", b'"x"')[rng.integers(7)]
    return data[:at] + new + data[at + len(new) if rng.random() < 0.5 else at + 1 :]


def _nest(data: bytes, rng: np.random.Generator) -> bytes:
    places = [i for i in range(min(len(data), 5000)) if data[i : i + 1] in (b"[", b"{", b"(")]
    if not places:
        return data
    at, depth = places[rng.integers(len(places))], int(rng.integers(1, 30)) ** 3
    return data[:at] + data[at : at + 1] * depth + data[at:]


def _move(data: bytes, rng: np.random.Generator) -> bytes:
    """Copy a part of the file over, into or out of another place."""
    start, at = (int(i) for i in rng.integers(len(data), size=2))
    part = data[start : start + int(rng.integers(1, 64))]
    return (
        data[:at] + part + data[at + len(part) :],
        data[:at] + part + data[at:],
        data[:at] + data[at + len(part) :],
        data + part,
    )[rng.integers(4)]


CHANGES = (_truncate, _flip, _flip, _set_number, _set_number, _set_digits, _nest, _move)


@cache
def _valid(kind: Kind) -> tuple[bytes, dict[str, bytes]]:
    """Return the content of a valid file, and of the files beside it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / kind.name
        kind.make(path)
        kind.read(path)
        beside = {p.name: p.read_bytes() for p in Path(folder).iterdir() if p != path}
        return path.read_bytes(), beside


# safetensors: the text in its header is JSON in JSON, which random bytes hardly ever keep well formed


def _parameters(content: bytes) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])["__metadata__"]["parameters"].encode()


def _with_parameters(name: str) -> Callable[[bytes], bytes]:
    def wrap(text: bytes) -> bytes:
        content = _valid(next(kind for kind in KINDS if kind.name == name))[0]
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        header["__metadata__"]["parameters"] = text.decode(errors="replace")
        new = json.dumps(header).encode()
        new += b" " * (-len(new) % 8)
        return struct.pack("<Q", len(new)) + new + content[8 + length :]

    return wrap


def _safetensors(name: str, make: Callable[[Path], object], read: Callable[[Path], object]) -> Kind:
    return Kind(name, make, read, _parameters, _with_parameters(name))


def _zipped(name: str, make: Callable[[Path], object], read: Callable[[Path], object]) -> Kind:
    """Return a kind of archive, whose first member is damaged behind the checksums of the archive."""

    def unwrap(content: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(archive.namelist()[0])

    def wrap(member: bytes) -> bytes:
        content = _valid(next(kind for kind in KINDS if kind.name == name))[0]
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
            for i, part in enumerate(old.namelist()):
                new.writestr(part, old.read(part) if i else member)
        return file.getvalue()

    return Kind(name, make, read, unwrap, wrap)


def _npy(name: str, array: np.ndarray, read: Callable[[Path], object]) -> Kind:
    return Kind(name, lambda path: np.save(path, array), read)


def _image(name: str, image: Image, **settings: Any) -> Kind:
    return Kind(name, lambda path: write_image(path, image), lambda path: read_image(path, **settings))


def _pillow(name: str, mode: str, **settings: Any) -> Kind:
    def make(path: Path) -> None:
        from PIL import Image as PILImage

        PILImage.fromarray((255 * PIXELS).astype(np.uint8)).convert(mode).save(path, **settings)

    return Kind(name, make, read_image)


@cache
def _generative() -> GenerativeDictionaryLearner:
    atoms = RNG.standard_normal((6, 12))
    return GenerativeDictionaryLearner.from_components(atoms, generator=PolynomialSine(2))


def _make_vae(path: Path) -> None:
    VAE(2, 5, 7).save(path)


def _make_network(path: Path) -> None:
    UnfoldedAutoencoder(torch.ones(3, 1, 5, 5), L1(0.1), stride=2, n_unfold=2).save(path)


def _make_clp(path: Path) -> None:
    model = _generative()
    samples = model.inverse_transform(np.random.default_rng(1).standard_normal((30, 2)))
    path.write_bytes(compress(samples, model, digits=2))


def _make_checkpoint(path: Path) -> None:
    Checkpoint(path, "run", {"a": 1}).save({"x": np.ones((2, 3)), "c": np.ones(3, complex)}, {"n": 3})


def _make_idx(path: Path) -> None:
    path.write_bytes(bytes([0, 0, 8, 2]) + (6).to_bytes(4) + (7).to_bytes(4) + bytes(range(42)))


def _make_idx_gz(path: Path) -> None:
    _make_idx(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def _make_mat73(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        counts = file.create_dataset("train", data=COUNTS.T, chunks=(10, 3), compression="gzip")
        counts.attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as start:
        start.write(b"MATLAB 7.3 MAT-file")


def _make_h5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=KSPACE, chunks=(2, 4, 3), compression="gzip")
        file["reconstruction"] = np.ones((3, 4))


def _make_ismrmrd(path: Path) -> None:
    import ismrmrd
    from ismrmrd import xsd

    size, field = xsd.matrixSizeType(x=6, y=4, z=1), xsd.fieldOfViewMm(x=60.0, y=40.0, z=5.0)
    space = xsd.encodingSpaceType(matrixSize=size, fieldOfView_mm=field)
    encoding = xsd.encodingType(
        encodedSpace=space,
        reconSpace=space,
        encodingLimits=xsd.encodingLimitsType(),
        trajectory=xsd.trajectoryType.CARTESIAN,
    )
    conditions = xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63_000_000)
    header = xsd.ismrmrdHeader(experimentalConditions=conditions, encoding=[encoding])
    with ismrmrd.Dataset(str(path), "dataset", create_if_needed=True) as file:
        file.write_xml_header(header.toXML("utf-8"))
        for row in range(4):
            line = ismrmrd.Acquisition.from_array(np.ones((2, 6), np.complex64))
            line.center_sample, line.idx.kspace_encode_step_1 = 3, row
            file.append_acquisition(line)


def _make_cells(path: Path) -> None:
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.atleast_2d(TIMES), np.atleast_2d(TIMES + 0.5)
    savemat(path, {"spikes": cells, "units": {"rate": 1.0}})


def _make_nwb(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.8.0"
        units, trials = file.create_group("units"), file.create_group("intervals/trials")
        units.attrs["colnames"] = ["spike_times"]
        units["id"], units["spike_times_index"] = [7], np.array([4], np.uint8)
        units["spike_times"] = [0.1, 0.2, 0.9, 1.4]
        trials.attrs["colnames"] = ["start_time", "stop_time"]
        trials["id"], trials["start_time"], trials["stop_time"] = [0, 1], [0.0, 1.0], [0.5, 1.5]


def _make_bart(path: Path, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, np.complex64)
    array[2:] = 0
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, shape)) + "\n")
    path.with_suffix(".cfl").write_bytes(array.tobytes(order="F"))


def _make_cfl(path: Path) -> None:
    write_cfl(path.with_suffix(".cfl"), KSPACE[None])


def _make_nifti(path: Path) -> None:
    write_stack(path, Stack((1000 * PIXELS[..., 0]).astype(np.int16)[..., None], "XYZ"))


def _make_reference(path: Path) -> None:
    arrays = {"H": np.ones((2, 1, 3, 3)), "b": np.zeros(2)}
    np.savez(path, allow_pickle=False, **arrays)
    settings = {"model": "tied", "T": 2, "stride": 1, "nonlin": "ELU", "elu_alpha": 1.0}
    path.with_suffix(".json").write_text(json.dumps(settings))


def _signed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


def _both_headers(path: Path) -> None:
    read_header(path)
    load_arrays(path, "dictionary", ["components"])


KINDS = (
    _safetensors(
        "dictionary.safetensors",
        lambda path: save_arrays(path, "dictionary", {"components": np.eye(4)}, {"a": [1, {"b": 2.5}]}),
        _both_headers,
    ),
    _safetensors(
        "learner.safetensors",
        lambda path: DictionaryLearner.from_components(np.eye(4, 6), alpha=0.1).save(path),
        DictionaryLearner.load,
    ),
    _safetensors(
        "generative.safetensors", lambda path: _generative().save(path), GenerativeDictionaryLearner.load
    ),
    _safetensors("relu.safetensors", lambda path: save_generator(path, ReLUNet((2, 4, 8))), load_generator),
    _safetensors("vae.safetensors", _make_vae, VAE.load),
    _safetensors("network.safetensors", _make_network, UnfoldedAutoencoder.load),
    _safetensors("run.safetensors", _make_checkpoint, lambda path: Checkpoint(path, "run", {"a": 1}).load()),
    _npy("samples.npy", RNG.standard_normal((5, 4)), open_samples),
    _npy("signals.npy", RNG.standard_normal((5, 2, 9)), open_signals),
    _npy("spikes.npy", COUNTS, read_spikes),
    Kind("times.csv", lambda p: p.write_text("unit,time\na,0.5\nb,1.25\n"), read_units),
    _zipped("times.npz", lambda path: np.savez(path, TIMES, TIMES + 0.5), read_units),
    _npy("kspace.npy", KSPACE, read_kspace),
    _npy("image.npy", PIXELS.astype(np.float32), read_image),
    _zipped("codes.npz", lambda path: sparse.save_npz(path, sparse.csr_array(np.eye(5, 7))), open_codes),
    _zipped(
        "filters.npz",
        lambda path: np.savez_compressed(path, codes=np.ones((2, 3, 9)), offset=np.zeros((2, 1))),
        open_filter_codes,
    ),
    _zipped("reference.npz", _make_reference, UnfoldedAutoencoder.load_reference),
    Kind("digits-ubyte", _make_idx, read_idx),
    Kind("digits-ubyte.gz", _make_idx_gz, read_idx, gzip.decompress, gzip.compress),
    Kind("volume.nii", _make_nifti, read_stack),
    Kind("volume.nii.gz", _make_nifti, read_stack, gzip.decompress, gzip.compress),
    Kind("slices.cfl", _make_cfl, read_kspace),
    Kind("slices.hdr", _make_cfl, read_kspace),
    _npy("spokes.npy", KSPACE[:, 0], read_samples),
    _npy("trajectory.npy", TIMES.reshape(-1, 1) * [[1.0, 2.0]], read_trajectory),
    Kind("spokes.cfl", partial(_make_bart, shape=(1, 6, 5, 2)), read_samples),
    Kind("maps.cfl", partial(_make_bart, shape=(6, 5, 1, 2, 2)), read_sensitivities),
    Kind("trajectory.hdr", partial(_make_bart, shape=(3, 6, 5)), read_trajectory),
    Kind(
        "samples.clp", _make_clp, lambda path: read_clp(path, _generative()), lambda data: data[:-32], _signed
    ),
    _image("gray8.png", Image(PIXELS[..., 0])),
    _image("colour16.png", Image(PIXELS, 16)),
    _image("colour8.jpg", Image(PIXELS)),
    _image("gray8.tif", Image(PIXELS[..., 0])),
    _image("colour16.tif", Image(PIXELS, 16)),
    _image("floats.tif", Image(PIXELS[..., 0], 32), value_range="data"),
    _pillow("palette.gif", "P"),
    _pillow("lzw.tif", "L", compression="tiff_lzw"),
    _pillow("packed.tif", "1", compression="packbits"),
    _pillow("colour.webp", "RGB"),
    _pillow("gray.bmp", "L"),
    Kind("train.mat", lambda p: savemat(p, {"train": COUNTS}), read_spikes, slow=True),
    Kind(
        "packed.mat",
        lambda p: savemat(p, {"train": COUNTS, "t": [1, 2]}, do_compression=True),
        read_spikes,
        slow=True,
    ),
    Kind("sparse.mat", lambda p: savemat(p, {"train": sparse.csc_array(COUNTS)}), read_spikes, slow=True),
    Kind("old.mat", lambda p: savemat(p, {"train": COUNTS}, format="4"), read_spikes, slow=True),
    Kind("new.mat", _make_mat73, read_spikes, slow=True),
    Kind("kspace.mat", lambda p: savemat(p, {"k": KSPACE}), read_kspace, slow=True),
    Kind("kspace.h5", _make_h5, read_kspace, slow=True),
    Kind("ismrmrd.h5", _make_ismrmrd, read_kspace, slow=True),
    Kind("cells.mat", _make_cells, partial(read_units, variable="spikes"), slow=True),
    Kind("unit.nwb", _make_nwb, read_nwb_spikes, slow=True),
)


def main() -> int:
    """Check seeds for some time, and return the number of failures."""
    parser = argparse.ArgumentParser(description="Damage files and read them.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--isolate", action="store_true", help="find crashes: check in a child process")
    arguments = parser.parse_args()
    end, seed, failures = time.monotonic() + arguments.seconds, arguments.start, 0
    step = 200
    while time.monotonic() < end:
        if arguments.isolate:
            code = f"import readers; [readers.check_and_print(i) for i in range({seed}, {seed + step})]"
            done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=False)
            failures += done.returncode != 0
            if done.returncode < 0:
                print(f"seeds {seed} to {seed + step - 1}: killed by signal {-done.returncode}")
            seed += step
        else:
            failures += not check_and_print(seed)
            seed += 1
    print(f"{seed - arguments.start} files, {failures} failures")
    return min(failures, 1)


def check_and_print(seed: int) -> bool:
    """Return whether a seed passes, and print why not."""
    try:
        check(seed)
    except AssertionError as error:
        print(error, flush=True)
        return False
    return True


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
