"""Missing pixels filled by calepin and by its peers: PSNR of every image, and seconds.

    CALEPIN_DATA=... python -m benchmarks.inpainting                         # Set12 whole, 50 % missing
    CALEPIN_DATA=... python -m benchmarks.inpainting --missing 0.8           # 80 %
    CALEPIN_DATA=... python -m benchmarks.inpainting --missing text          # a printed page covers the image
    CALEPIN_DATA=... python -m benchmarks.inpainting --size 128 --images 01 05

Peers: scikit-image's biharmonic inpainting, and both methods of OpenCV if it can be imported. Image i loses
the pixels where ``default_rng(i).random(shape) < missing``. PSNR has peak 1, of results clipped to [0, 1],
over all pixels of the image, or of its central square of `--size` pixels.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from skimage import data
from skimage.restoration import inpaint_biharmonic

from calepin.datasets import data_path, read_image
from calepin.imaging import inpaint

Filler = Callable[[np.ndarray, np.ndarray], np.ndarray]


def contenders() -> dict[str, Filler]:
    """Return functions of an image and of where it is known."""
    known: dict[str, Filler] = {
        "calepin": inpaint,
        "biharmonic": lambda image, mask: inpaint_biharmonic(np.where(mask, image, 0), ~mask),
    }
    try:
        import cv2
    except ImportError:
        return known
    for name, flag in (("OpenCV Telea", cv2.INPAINT_TELEA), ("OpenCV NS", cv2.INPAINT_NS)):
        known[name] = lambda image, mask, flag=flag: (
            cv2.inpaint(np.rint(255 * image).astype(np.uint8), (~mask).astype(np.uint8), 3, flag) / 255
        )
    return known


def mask_of(missing: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Return where an image is known."""
    if missing == "text":
        page = data.text() > 100
        return np.tile(page, (4, 2))[: shape[0], : shape[1]]
    return np.random.default_rng(seed).random(shape) >= float(missing)


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inpainting", description=__doc__)
    parser.add_argument("--missing", default="0.5", help="fraction of missing pixels, or 'text'")
    parser.add_argument("--images", nargs="+", default=[f"{i:02d}" for i in range(1, 13)])
    parser.add_argument("--size", type=int, help="side of the central square that is taken")
    given = parser.parse_args()
    known = contenders()
    table = Table(title=f"PSNR (dB), Set12, missing {given.missing}")
    for column in ("", *known, "gain", "calepin CPU s"):
        table.add_column(column, justify="right" if column else "left")
    rows = []
    for i, name in enumerate(given.images):
        clean = np.asarray(read_image(data_path(f"set12/{name}.png")).pixels, dtype=np.float64)
        if given.size:
            top, left = ((n - given.size) // 2 for n in clean.shape)
            clean = clean[top : top + given.size, left : left + given.size]
        mask = mask_of(given.missing, clean.shape, i)
        values, seconds = [], []
        for fill in known.values():
            begun = time.process_time()
            values.append(psnr(fill(np.where(mask, clean, 0), mask), clean))
            seconds.append(time.process_time() - begun)
        rows.append([*values, values[0] - max(values[1:]), seconds[0]])
        print(name, " ".join(f"{value:.2f}" for value in rows[-1]), flush=True)
        table.add_row(name, *(f"{value:.2f}" for value in rows[-1]))
    table.add_row("mean", *(f"{value:.2f}" for value in np.mean(rows, axis=0)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
