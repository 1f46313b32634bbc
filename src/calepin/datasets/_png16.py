"""PNG of several channels with 16 bits each: Pillow writes none and reads their high bytes alone."""

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
    """Tell from its first 26 bytes whether a file is a PNG of several channels with 16 bits each."""
    return (
        start[:8] == SIGNATURE
        and len(start) >= 26
        and start[24] == 16
        and start[25] in {GRAY_ALPHA, RGB, RGBA}
    )


def read_deep(file: IO[bytes]) -> tuple[NDArray[np.uint16], bytes | None]:
    """Return the channels (h, w, 2 to 4) and the ICC profile of a PNG that `is_deep` recognised.

    Pillow decodes colour to the high byte of each sample; told that the samples are little endian it
    gives the low byte, so two passes make the whole sample. Gray with alpha has four bytes a pixel,
    which read as RGBA of 8 bits are both bytes of both samples.
    """
    file.seek(25)
    if file.read(1)[0] == GRAY_ALPHA:
        octets, profile = _decode(file, "RGBA")
        return octets[:, :, ::2] * np.uint16(256) + octets[:, :, 1::2], profile
    high, profile = _decode(file, ";16B")
    low, _ = _decode(file, ";16L")
    return high * np.uint16(256) + low, profile


def _decode(file: IO[bytes], raw_mode: str) -> tuple[NDArray[np.uint16], bytes | None]:
    """Let Pillow undo compression and row filters, and interpret the bytes as `raw_mode` says."""
    from PIL import Image

    file.seek(0)
    with Image.open(file) as image:
        raw_mode = image.mode + raw_mode if raw_mode.startswith(";") else raw_mode
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        return np.asarray(image).astype(np.uint16), image.info.get("icc_profile")


def write_deep(path: Path, channels: NDArray[np.uint16], icc_profile: bytes | None) -> None:
    """Write channels (h, w, 1 to 4) as a PNG of 16 bits a channel."""
    height, width, n_channels = channels.shape
    rows = channels.astype(">u2").reshape(height, -1).view(np.uint8)
    # Filter 2 (difference to the row above) is the one that costs no loop over pixels.
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
