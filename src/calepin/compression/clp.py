"""Compression with a learned generative dictionary: the latents are the code.

A .clp file holds quantised latents, entropy coded, and what it takes to refuse rather than to return
wrong data: the hash of the model, the shape of the data and a checksum of all of it.

    4 bytes   CLP1
    4 bytes   length of the header, little endian
    header    JSON: version, model, shape, dtype, quantiser, integers, coding, n_bytes
    payload   latents as integers, one latent dimension after the other, bytes of equal weight together
    32 bytes  SHA-256 of all that stands before

Latents are rounded to a number of digits ("Dictionary learning under generative coefficient priors,
with applications to compression", 2022, section 6: four), or to a number of bits over the range of
each latent dimension. What `decompress` works with is exactly the rounded latents.
"""

import hashlib
import json
import lzma
import os
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.errors import FileFormatError
from calepin.core.files import atomic_write

__all__ = [
    "Model",
    "Quantiser",
    "compress",
    "decompress",
    "entropy_coded",
    "model_hash",
    "read_clp",
    "write_clp",
]

MAGIC = b"CLP1"
VERSION = 1
_HASH_BYTES = 32
_MOST_DIGITS, _MOST_BITS = 15, 32
_INTEGERS = ("int8", "int16", "int32", "int64")
# without the container, whose header would be seen in small files, and with a window that fits them
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20}]


class Model(Protocol):
    """What codes data as latents, and back: a fitted `calepin.GenerativeDictionaryLearner`."""

    components_: np.ndarray
    generator: Any
    latent_dim_: int

    def transform(self, X: Any) -> np.ndarray:
        """Return latents (n_samples, k)."""
        ...

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Return samples (n_samples, n_features)."""
        ...


@dataclass(frozen=True)
class Quantiser:
    """Latents as integers: to a number of digits, or uniformly over a range.

    Attributes
    ----------
    digits : int or None
        Decimal digits behind the point: ``round(z * 10^digits)``.
    bits : int or None
        Without digits: ``round((z - low) / (high - low) * (2^bits - 1))`` in each latent dimension.
    low, high : tuple of float
        The range of each dimension, with bits.
    """

    digits: int | None = None
    bits: int | None = None
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def fit(cls, latents: NDArray[np.floating], *, digits: int | None, bits: int | None) -> "Quantiser":
        """Return the quantiser of latents (n, k) to a number of digits, or of bits.

        Raises
        ------
        ValueError
            Both or none given, or out of range.
        """
        if (digits is None) == (bits is None):
            raise ValueError(f"digits: expected a number of digits or of bits, got {digits!r} and {bits!r}")
        if digits is not None:
            _check_integer("digits", digits, 0, _MOST_DIGITS)
            return cls(digits=int(digits))
        _check_integer("bits", bits, 1, _MOST_BITS)
        z = latents.astype(np.float64)
        return cls(bits=int(bits or 0), low=tuple(z.min(0).tolist()), high=tuple(z.max(0).tolist()))

    def encode(self, latents: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the integers of latents (n, k)."""
        z = latents.astype(np.float64)
        if self.digits is not None:
            if np.abs(z).max() * 10.0**self.digits >= 2.0**62:
                raise ValueError(
                    f"digits: expected fewer for latents up to {np.abs(z).max():.3g}, got {self.digits}"
                )
            return np.rint(z * 10.0**self.digits).astype(np.int64)
        low, step = self._grid()
        return np.rint((z - low) / step).astype(np.int64)

    def decode(self, integers: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the rounded latents that integers (n, k) stand for."""
        if self.digits is not None:
            return integers / 10.0**self.digits
        low, step = self._grid()
        return low + integers * step

    def _grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = np.array(self.low), np.array(self.high)
        # a dimension that never varies is all low, whatever its step
        return low, np.where(high > low, (high - low) / (2.0 ** (self.bits or 0) - 1), 1.0)


def compress(X: ArrayLike, model: Model, *, digits: int | None = None, bits: int | None = None) -> bytes:
    """Return samples as the content of a .clp file.

    Parameters
    ----------
    X : array of shape (n_samples, ...)
        A sample is flattened to the model's features.
    model : GenerativeDictionaryLearner
        Fitted; `decompress` needs the same.
    digits : int, optional
        Digits of a latent behind the point; 4 unless `bits` is given.
    bits : int, optional
        Bits of a latent before entropy coding.

    Raises
    ------
    ValueError
        No samples, NaN, another number of features, or digits or bits out of range.
    """
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
            f"X: expected {n_features} features a sample, those of the model, got {flat.shape[1]}"
        )
    dtype = samples.dtype if samples.dtype.kind == "f" else np.dtype(np.float32)
    flat = flat.astype(np.float64)
    if not np.isfinite(flat).all():
        raise ValueError("X: expected finite numbers, got NaN or infinity")
    latents = np.asarray(model.transform(flat))
    quantiser = Quantiser.fit(latents, digits=4 if digits is None and bits is None else digits, bits=bits)
    return _pack(quantiser, quantiser.encode(latents), model_hash(model), samples.shape, dtype)


def decompress(content: bytes, model: Model) -> NDArray[np.floating]:
    """Return the samples of a .clp file's content, in the shape they were given in.

    Raises
    ------
    FileFormatError
        Not such content, truncated or altered content, or another version.
    ValueError
        A model other than that of the compression.
    """
    header, latents = _unpack(content, "content")
    if header["model"] != model_hash(model):
        raise ValueError(
            "model: expected the one the data were compressed with, "
            f"{header['model'][:12]}..., got {model_hash(model)[:12]}..."
        )
    samples = np.asarray(model.inverse_transform(latents))
    return samples.reshape(header["shape"]).astype(header["dtype"])


def write_clp(
    path: str | os.PathLike, X: ArrayLike, model: Model, *, digits: int | None = None, bits: int | None = None
) -> int:
    """Write samples as a .clp file, atomically, and return its size in bytes; see `compress`."""
    content = compress(X, model, digits=digits, bits=bits)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return len(content)


def read_clp(path: str | os.PathLike, model: Model) -> NDArray[np.floating]:
    """Return the samples of a .clp file; see `decompress`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    content = path.read_bytes()
    _unpack(content, str(path))  # what is wrong with the file is said by its name
    return decompress(content, model)


def model_hash(model: Model) -> str:
    """Return the SHA-256 of a model: of its dictionary and of its generator.

    A generator that no file can hold counts by what it makes of a few fixed latents, to four digits:
    another machine may add up in another order.
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


def entropy_coded(integers: NDArray[np.int64]) -> bytes:
    """Return integers (n, k) as few bytes: what a .clp file stores of them."""
    return _shortest(integers)[2]


def _shortest(integers: NDArray[np.int64]) -> tuple[str, str, bytes]:
    """Return integer type, coding and bytes of the shortest way to store integers (n, k)."""
    kind = next(k for k in _INTEGERS if _fits(integers, np.dtype(k)))
    # a dimension's integers lie together, and of these the bytes of one weight: what resembles itself
    planes = integers.T.astype(np.dtype(kind).newbyteorder("<"), order="C")
    raw = planes.view(np.uint8).reshape(*planes.shape, -1).transpose(0, 2, 1).tobytes()
    codings = {
        "lzma": lzma.compress(raw, format=lzma.FORMAT_RAW, filters=_LZMA),
        "zlib": zlib.compress(raw, 9),
        "none": raw,
    }
    coding = min(codings, key=lambda name: len(codings[name]))
    return kind, coding, codings[coding]


def _pack(
    quantiser: Quantiser, integers: NDArray[np.int64], model: str, shape: tuple[int, ...], dtype: np.dtype
) -> bytes:
    kind, coding, payload = _shortest(integers)
    header = json.dumps(
        {
            "version": VERSION,
            "model": model,
            "shape": list(shape),
            "dtype": dtype.name,
            "n_latents": integers.shape[1],
            "quantiser": asdict(quantiser),
            "integers": kind,
            "coding": coding,
            "n_bytes": len(payload),
        },
        separators=(",", ":"),
    ).encode()
    body = MAGIC + struct.pack("<I", len(header)) + header + payload
    return body + hashlib.sha256(body).digest()


def _unpack(content: bytes, name: str) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return header and rounded latents, once nothing is wrong with them."""
    if content[:3] != MAGIC[:3]:
        raise FileFormatError(f"{name} is not a .clp file: it does not begin with {MAGIC.decode()}")
    if content[:4] != MAGIC:
        raise FileFormatError(f"{name} has .clp version {content[3:4]!r}, this calepin reads {MAGIC[3:]!r}")
    body, checksum = content[:-_HASH_BYTES], content[-_HASH_BYTES:]
    if len(content) < 8 + _HASH_BYTES or hashlib.sha256(body).digest() != checksum:
        raise FileFormatError(f"{name} is truncated or was altered: its checksum does not match")
    (length,) = struct.unpack("<I", body[4:8])
    header = json.loads(body[8 : 8 + length])
    if header["version"] != VERSION:
        raise FileFormatError(f"{name} has format version {header['version']}, this calepin reads {VERSION}")
    payload = body[8 + length :]
    raw = {
        "lzma": lambda: lzma.decompress(payload, format=lzma.FORMAT_RAW, filters=_LZMA),
        "zlib": lambda: zlib.decompress(payload),
        "none": lambda: payload,
    }[header["coding"]]()
    kind = np.dtype(header["integers"]).newbyteorder("<")
    planes = np.frombuffer(raw, np.uint8).reshape(header["n_latents"], kind.itemsize, header["shape"][0])
    integers = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(kind)[..., 0].T
    settings = header["quantiser"]
    quantiser = Quantiser(
        settings["digits"], settings["bits"], tuple(settings["low"]), tuple(settings["high"])
    )
    return header, quantiser.decode(integers.astype(np.int64))


def _fits(integers: NDArray[np.int64], kind: np.dtype) -> bool:
    limits = np.iinfo(kind)
    return bool(limits.min <= integers.min() and integers.max() <= limits.max)


def _check_integer(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer from {low} to {high}, got {value!r}")
