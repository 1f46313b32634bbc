"""Compression with a learned generative dictionary: the latents are the code.

A .clp file holds quantised and entropy-coded latents, the shape of the data, the hash of the model and a
checksum, so that a wrong model or a damaged file is an error.

    4 bytes   CLP1
    4 bytes   length of the header, little endian
    header    JSON: version, model, shape, dtype, quantiser, integers, coding, n_bytes
    payload   latents as integers, entropy coded
    32 bytes  SHA-256 of everything before

`decompress` recovers exactly the rounded latents; see `calepin.compression.coding`.
"""

import hashlib
import json
import math
import os
import struct
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.compression.coding import EncodedIntegers, Quantiser, encode_integers
from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_methods
from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write
from calepin.core.paths import check_input
from calepin.core.reading import check_declared, reading

__all__ = [
    "Model",
    "compress",
    "decompress",
    "model_hash",
    "read_clp",
    "write_clp",
]

MAGIC = b"CLP1"
VERSION = 1
_HASH_BYTES = 32


class Model(Protocol):
    """A model that maps samples to latents and back: a fitted `calepin.GenerativeDictionaryLearner`."""

    components_: np.ndarray
    generator: Any
    latent_dim_: int

    def transform(self, X: Any) -> np.ndarray:
        """Return latents (n_samples, k)."""
        ...

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Return samples (n_samples, n_features)."""
        ...


def compress(X: ArrayLike, model: Model, *, digits: int | None = None, bits: int | None = None) -> bytes:
    """Return samples as the content of a .clp file.

    Parameters
    ----------
    X : array of shape (n_samples, ...)
        Samples; each is flattened to the features of the model.
    model : GenerativeDictionaryLearner
        A fitted model; `decompress` needs the same one.
    digits : int, optional
        Decimals of a latent. Default: those of `Quantiser`, unless `bits` is given.
    bits : int, optional
        Bits of a latent before entropy coding.

    Raises
    ------
    ValueError
        No samples, NaN, another number of features, or digits or bits out of range.
    """
    check_array("X", X, empty=True)
    check_methods("model", model, "transform", "inverse_transform")
    samples = np.asarray(X)
    if samples.ndim < 2 or 0 in samples.shape or samples.dtype.kind not in "fiub":
        raise ValueError(
            "X: expected real numbers of shape (n_samples, ...), "
            f"got {samples.dtype} of shape {samples.shape}"
        )
    n_features = model.components_.shape[1]
    flat = samples.reshape(len(samples), -1)
    if flat.shape[1] != n_features:
        raise ValueError(
            f"X: expected {n_features} features per sample, those of the model, got {flat.shape[1]}"
        )
    dtype = samples.dtype if samples.dtype.kind == "f" else np.dtype(np.float32)
    flat = flat.astype(dtype)
    if not np.isfinite(flat).all():
        raise ValueError("X: expected finite numbers, got NaN or infinity")
    latents = np.asarray(model.transform(flat))
    quantiser = Quantiser.fit(latents, digits=digits, bits=bits)
    return _pack(quantiser, quantiser.encode(latents), model_hash(model), samples.shape, dtype)


def decompress(content: bytes, model: Model, *, trusted: bool = False) -> NDArray[np.floating]:
    """Return the samples of the content of a .clp file, in their original shape.

    Parameters
    ----------
    content : bytes
        The content of the file.
    model : GenerativeDictionaryLearner
        The model used for compression.
    trusted : bool, default False
        Return samples that are far larger than the content; see `calepin.core.reading`.

    Raises
    ------
    FileFormatError
        Not the content of a .clp file, truncated or altered content, another version, or content that
        declares far more samples than it holds.
    ValueError
        Another model than the one used for compression.
    """
    check_arguments(decompress, locals())
    return _restore(*_unpack(content, "content", trusted), model, "content")


def _restore(header: dict[str, Any], latents: NDArray[np.float64], model: Model, name: str) -> NDArray:
    if header["model"] != model_hash(model):
        raise ValueError(
            f"model: expected the one {name} was compressed with, "
            f"{header['model'][:12]}..., got {model_hash(model)[:12]}..."
        )
    samples = np.asarray(model.inverse_transform(latents))
    with reading(name, ".clp file"):
        return samples.reshape(header["shape"]).astype(header["dtype"])


def write_clp(
    path: str | os.PathLike, X: ArrayLike, model: Model, *, digits: int | None = None, bits: int | None = None
) -> int:
    """Write samples as a .clp file, atomically, and return its size in bytes; see `compress`."""
    content = compress(X, model, digits=digits, bits=bits)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return len(content)


def read_clp(path: str | os.PathLike, model: Model, *, trusted: bool = False) -> NDArray[np.floating]:
    """Return the samples of a .clp file; see `decompress`."""
    path = check_input(path, "a .clp file")
    return _restore(*_unpack(path.read_bytes(), str(path), trusted), model, str(path))


def model_hash(model: Model) -> str:
    """Return the SHA-256 of the dictionary and the generator of a model.

    A generator that cannot be stored in a file enters by its values at a few fixed latents, rounded to four
    digits, since another machine may sum in another order.
    """
    from calepin.generators.files import arrays_of, describe, fingerprint

    arrays = {"components": model.components_}
    description = describe(model.generator)
    if description is None:
        seen = np.asarray(fingerprint(model.generator, model.latent_dim_), np.float64)
        arrays["seen"] = np.char.mod("%.3e", seen).astype("S")
    else:
        arrays |= arrays_of(model.generator)
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _pack(
    quantiser: Quantiser, integers: NDArray[np.int64], model: str, shape: tuple[int, ...], dtype: np.dtype
) -> bytes:
    encoded = encode_integers(integers)
    header = json.dumps(
        {
            "version": VERSION,
            "model": model,
            "shape": list(shape),
            "dtype": dtype.name,
            "n_latents": integers.shape[1],
            "quantiser": asdict(quantiser),
            "integers": encoded.kind,
            "coding": encoded.coding,
            "n_bytes": len(encoded.payload),
        },
        separators=(",", ":"),
        default=int,  # NumPy integers
    ).encode()
    body = MAGIC + struct.pack("<I", len(header)) + header + encoded.payload
    return body + hashlib.sha256(body).digest()


def _unpack(content: bytes, name: str, trusted: bool) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return header and rounded latents, after checking the content."""
    if content[:3] != MAGIC[:3]:
        raise FileFormatError(f"{name} is not a .clp file: it does not begin with {MAGIC.decode()}")
    if content[:4] != MAGIC:
        raise FileFormatError(f"{name} has .clp version {content[3:4]!r}, this calepin reads {MAGIC[3:]!r}")
    body, checksum = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
    if len(content) < 8 + _HASH_BYTES or hashlib.sha256(body).digest() != checksum:
        raise FileFormatError(f"{name} is truncated or was altered: its checksum does not match")
    with reading(name, ".clp file"):
        (length,) = struct.unpack("<I", body[4:8])
        header = json.loads(body[8 : 8 + length])
        version, shape = header["version"], header["shape"]
        if version != VERSION:
            raise FileFormatError(f"{name} has format version {version}, this calepin reads {VERSION}")
        n, k = shape[0], header["n_latents"]
        for size in (*shape, k):
            check_integer("shape", size)
        if not isinstance(header["model"], str):
            raise ValueError("its model is not the text of a hash")
        samples = math.prod(shape) * np.dtype(header["dtype"]).itemsize
        check_declared(name, samples + 8 * n * k, len(content), trusted=trusted)
        encoded = EncodedIntegers(header["integers"], header["coding"], body[8 + length :], (n, k))
        settings = header["quantiser"]
        quantiser = Quantiser(
            settings["digits"], settings["bits"], tuple(settings["low"]), tuple(settings["high"])
        )
        return header, quantiser.decode(encoded.decode())
