"""How well and how fast images are denoised, beside bm3d, and what each idea brings.

    CALEPIN_DATA=... python -m benchmarks.denoise_quality             # per image, Set12 01 to 07, sigma 25
    CALEPIN_DATA=... python -m benchmarks.denoise_quality --ideas     # the mean of calepin's variants
    CALEPIN_DATA=... python -m benchmarks.denoise_quality --sigma 10  # another noise level

Image i (0 to 6) gets noise of ``default_rng(1000 + i)``, unclipped; PSNR has peak 1 and counts the
result clipped to [0, 1].
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

import calepin
from benchmarks.runner import Comparison, Contender
from calepin.datasets import data_path, read_image
from calepin.imaging import DictionaryDenoiser

Denoiser = Callable[[np.ndarray, float], np.ndarray]


def scenes(sigma: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the clean and the noisy images."""
    out = []
    for i in range(7):
        clean = np.asarray(read_image(data_path(f"set12/{i + 1:02d}.png")).pixels, dtype=np.float64)
        out.append((clean, clean + np.random.default_rng(1000 + i).normal(0, sigma, clean.shape)))
    return out


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return -10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2))


def ours(noisy: np.ndarray, sigma: float | None, **options) -> np.ndarray:
    noise = None if sigma is None else calepin.GaussianNoise(sigma)
    return calepin.denoise(noisy, method=DictionaryDenoiser(**options), noise=noise).image


def blind(noisy: np.ndarray, sigma: float, **options) -> np.ndarray:
    return ours(noisy, None, **options)


def contenders() -> dict[str, Denoiser]:
    """Return calepin, and bm3d where it can be imported."""
    known: dict[str, Denoiser] = {"calepin": ours}
    try:
        import bm3d
    except ImportError:
        return known
    known["bm3d"] = lambda noisy, sigma: np.asarray(bm3d.bm3d(noisy, sigma))
    return known


IDEAS: dict[str, Denoiser] = {
    "shipped dictionary as it is, one pass": partial(ours, n_iter=0, group_passes=0),
    "+ 5 rounds of K-SVD on the noisy patches": partial(ours, group_passes=0),
    "    10 rounds instead": partial(ours, n_iter=10, group_passes=0),
    "    MOD instead of K-SVD": partial(ours, rule="mod", group_passes=0),
    "    online instead of K-SVD": partial(ours, rule="online", group_passes=0),
    "    64 atoms instead of 256": partial(ours, n_components=64, group_passes=0),
    "    cosines, patches 7x7": partial(ours, patch_size=7, group_passes=0),
    "+ 1 pass over groups": partial(ours, group_passes=1),
    "+ 2 passes": partial(ours, group_passes=2),
    "+ 3 passes (the default)": ours,
    "    without learning (shipped dictionary)": partial(ours, n_iter=0),
    "    sigma estimated": blind,
}


def measure(denoiser: Denoiser, sigma: float) -> tuple[list[float], float, float]:
    """Return PSNR of every image, and wall and CPU seconds an image."""
    values, begun, cpu_begun = [], time.perf_counter(), time.process_time()
    for clean, noisy in scenes(sigma):
        values.append(psnr(denoiser(noisy, sigma), clean))
    return values, (time.perf_counter() - begun) / 7, (time.process_time() - cpu_begun) / 7


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.denoise_quality", description=__doc__)
    parser.add_argument("--sigma", type=float, default=25.0, help="noise level on the scale 0..255")
    parser.add_argument("--ideas", action="store_true", help="calepin's variants instead of bm3d")
    arguments = parser.parse_args()
    sigma = arguments.sigma / 255
    ours(scenes(sigma)[0][1][:64, :64], sigma)  # compiles

    table = Table(title=f"PSNR (dB), Set12 01 to 07, sigma {arguments.sigma:g}")
    table.add_column("")
    for column in (*(f"{i:02d}" for i in range(1, 8)), "mean", "s", "CPU s"):
        table.add_column(column, justify="right")
    for name, denoiser in (IDEAS if arguments.ideas else contenders()).items():
        values, wall, cpu = measure(denoiser, sigma)
        cells = [*(f"{value:.2f}" for value in values), f"{np.mean(values):.3f}", f"{wall:.2f}", f"{cpu:.2f}"]
        table.add_row(name, *cells)
    Console(width=140).print(table)


def _prepare() -> list[Contender]:
    pairs = scenes(25 / 255)
    return [
        Contender(
            name,
            lambda denoiser=denoiser: [denoiser(noisy, 25 / 255) for _, noisy in pairs],
            lambda images: {
                "PSNR": float(np.mean([psnr(x, clean) for x, (clean, _) in zip(images, pairs, strict=True)]))
            },
        )
        for name, denoiser in contenders().items()
    ]


COMPARISONS = [
    Comparison(
        "denoise",
        "Denoising seven 256x256 images, sigma 25 (needs CALEPIN_DATA)",
        "29.45 dB in at most 35 s (5 s an image); aim above bm3d",
        _prepare,
        rounds=1,
    )
]

if __name__ == "__main__":
    main()
