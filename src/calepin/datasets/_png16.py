"""PNG files with several channels of 16 bits, which Pillow cannot write and only reads with 8 bits."""

import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_deep", "read_deep", "write_deep"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG colour type
GRAY_ALPHA, RGB, RGBA = 4, 2, 6  # the colour types of PNG with several channels


def is_deep(start: bytes) -> bool:
    """Return whether a file is a PNG with several channels of 16 bits, given its first 26 bytes."""
    return (
        start[:8] == SIGNATURE
        and len(start) >= 26
        and start[24] == 16
        and start[25] in {GRAY_ALPHA, RGB, RGBA}
    )


def read_deep(file: IO[bytes]) -> tuple[NDArray[np.uint16], bytes | None]:
    """Return the channels (h, w, 2 to 4) and the ICC profile of a PNG for which `is_deep` is True.

    Pillow returns only the high byte of each colour sample, or the low byte if the samples are declared
    little-endian. The file is therefore decoded twice. Gray with alpha has four bytes per pixel. It is
    decoded as RGBA with 8 bits, which gives both bytes of both samples.
    """
    file.seek(25)
    if file.read(1)[0] == GRAY_ALPHA:
        octets, profile = _decode(file, "RGBA")
        return octets[:, :, ::2] * np.uint16(256) + octets[:, :, 1::2], profile
    high, profile = _decode(file, ";16B")
    low, _ = _decode(file, ";16L")
    return high * np.uint16(256) + low, profile


def _decode(file: IO[bytes], raw_mode: str) -> tuple[NDArray[np.uint16], bytes | None]:
    """Decompress with Pillow, with the bytes interpreted as Pillow's raw mode `raw_mode`."""
    from PIL import Image

    file.seek(0)
    with Image.open(file) as image:
        raw_mode = image.mode + raw_mode if raw_mode.startswith(";") else raw_mode
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        return np.asarray(image).astype(np.uint16), image.info.get("icc_profile")


def write_deep(path: Path, channels: NDArray[np.uint16], icc_profile: bytes | None) -> None:
    """Write channels (h, w, 1 to 4) as a PNG with 16 bits per channel."""
    height, width, n_channels = channels.shape
    rows = channels.astype(">u2").reshape(height, -1).view(np.uint8)
    # Filter 2 (difference from the row above) needs no loop over pixels.
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[n_channels], 0, 0, 0)
    with path.open("wb") as file:
        file.write(SIGNATURE)
        file.write(_chunk(b"IHDR", header))
        if icc_profile:
            file.write(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
        file.write(_chunk(b"IDAT", zlib.compress(filtered.tobytes(), 4)))
        file.write(_chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
