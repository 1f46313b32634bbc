"""Latents as few bytes: a quantiser maps them to integers, an entropy coder the integers to bytes.

Latents are rounded to a number of decimals (four in "Dictionary learning under generative coefficient priors,
with applications to compression", 2022, section 6), or to a number of bits over the range of each dimension.
"""

import lzma
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calepin.core.arguments import check_fields
from calepin.core.checks import check_array, check_integer

__all__ = ["EncodedIntegers", "Quantiser", "encode_integers"]

INTEGERS = ("int8", "int16", "int32", "int64")
# no container, whose header would matter in small files, and a small window
LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20}]


@dataclass(frozen=True)
class Quantiser:
    """Map from latents to integers: rounding to decimals, or uniform over a range.

    Attributes
    ----------
    digits : int or None
        Number of decimals, at most 15: ``round(z * 10^digits)``.
    bits : int or None
        Number of bits in each dimension if `digits` is None, at most 32:
        ``round((z - low) / (high - low) * (2^bits - 1))``.
    low, high : tuple of float
        Range of each dimension, with `bits`.
    """

    digits: int | None = 4
    bits: int | None = None
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.digits is None) == (self.bits is None):
            raise ValueError(
                f"digits: expected a number of digits or of bits, got {self.digits!r} and {self.bits!r}"
            )
        check_integer("digits", self.digits, least=0, most=15, optional=True)
        check_integer("bits", self.bits, most=32, optional=True)
        check_fields(self)
        if len(self.low) != len(self.high):
            raise ValueError(f"high: expected as many as low, {len(self.low)}, got {len(self.high)}")

    @classmethod
    def fit(
        cls, latents: NDArray[np.floating], *, digits: int | None = None, bits: int | None = None
    ) -> "Quantiser":
        """Return the quantiser for latents (n, k) with a number of decimals or of bits.

        Parameters
        ----------
        latents : array (n, k)
        digits : int, optional
            Number of decimals; by default that of the class, unless `bits` is given.
        bits : int, optional

        Raises
        ------
        ValueError
            Both given, or out of range.
        """
        if bits is None:
            return cls() if digits is None else cls(digits)
        z = check_array("latents", latents, ndim=2)
        return cls(digits, bits, tuple(z.min(0).tolist()), tuple(z.max(0).tolist()))

    def encode(self, latents: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return latents (n, k) as integers."""
        z = check_array("latents", latents, ndim=2)
        if self.digits is not None:
            if np.abs(z).max() * 10.0**self.digits >= 2.0**62:
                raise ValueError(
                    f"digits: expected fewer for latents up to {np.abs(z).max():.3g}, got {self.digits}"
                )
            return np.rint(z * 10.0**self.digits).astype(np.int64)
        low, width = self._grid(z)
        return np.rint((z - low) / width).astype(np.int64)

    def decode(self, integers: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the rounded latents of integers (n, k)."""
        whole = check_array("integers", integers, ndim=2)
        if self.digits is not None:
            return whole / 10.0**self.digits
        low, width = self._grid(whole)
        return low + whole * width

    def _grid(self, values: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest value and the step size of the quantiser in each dimension of the values."""
        if values.shape[1] != len(self.low):
            raise ValueError(
                f"low: expected one for each of {values.shape[1]} dimensions, got {len(self.low)}"
            )
        low, high = np.array(self.low), np.array(self.high)
        width = (high - low) / (2.0 ** (self.bits or 0) - 1)
        # a constant dimension has only the lowest value; so has a range too small to divide
        return low, np.where(width >= np.finfo(np.float64).tiny, width, 1.0)


@dataclass(frozen=True)
class EncodedIntegers:
    """Entropy-coded integers (n, k).

    Attributes
    ----------
    kind
        Smallest integer type that holds all values.
    coding
        The coder with the shortest result: "lzma", "zlib" or "none".
    payload
        The bytes, ordered by dimension, and within a dimension by significance.
    shape
        (n, k).
    """

    kind: str
    coding: str
    payload: bytes
    shape: tuple[int, int]

    def decode(self) -> NDArray[np.int64]:
        """Return the integers (n, k).

        Raises
        ------
        ValueError
            If the payload has another length than that of n k integers.
        """
        n, k = self.shape
        kind = np.dtype(self.kind).newbyteorder("<")
        expected = n * k * kind.itemsize
        # at most one byte more is decompressed than expected, which tells a payload that is too long
        raw = {
            "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA).decompress(
                self.payload, expected + 1
            ),
            "zlib": lambda: zlib.decompressobj().decompress(self.payload, expected + 1),
            "none": lambda: self.payload,
        }[self.coding]()
        if len(raw) != expected:
            raise ValueError(f"payload: expected {expected} bytes of integers, got {len(raw)}")
        planes = np.frombuffer(raw, np.uint8).reshape(k, kind.itemsize, n)
        integers = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(kind)[..., 0].T
        return integers.astype(np.int64)


def encode_integers(integers: NDArray[np.int64]) -> EncodedIntegers:
    """Return entropy-coded integers (n, k), as stored in a .clp file."""
    kind = next(k for k in INTEGERS if _fits(integers, np.dtype(k)))
    # bytes of one dimension and one significance are similar, which makes them compressible
    planes = integers.T.astype(np.dtype(kind).newbyteorder("<"), order="C")
    raw = planes.view(np.uint8).reshape(*planes.shape, -1).transpose(0, 2, 1).tobytes()
    codings = {
        "lzma": lzma.compress(raw, format=lzma.FORMAT_RAW, filters=LZMA),
        "zlib": zlib.compress(raw, 9),
        "none": raw,
    }
    coding = min(codings, key=lambda name: len(codings[name]))
    return EncodedIntegers(kind, coding, codings[coding], (integers.shape[0], integers.shape[1]))


def _fits(integers: NDArray[np.int64], kind: np.dtype) -> bool:
    limits = np.iinfo(kind)
    return bool(limits.min <= integers.min() and integers.max() <= limits.max)
