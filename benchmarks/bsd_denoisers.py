"""The trained network beside bm3d and calepin's own learning on BSD68: PSNR, and seconds an image.

    CALEPIN_DATA=... python -m benchmarks.bsd_denoisers                        # all 68 images, sigma 25
    CALEPIN_DATA=... python -m benchmarks.bsd_denoisers --every 8 --sigma 50   # nine of them
    CALEPIN_DATA=... python -m benchmarks.bsd_denoisers --only network --model run.safetensors

Image i of the sorted files gets noise of ``default_rng(1000 + i)``, unclipped; PSNR has peak 1 and
counts the result clipped to [0, 1].
"""

import argparse
import fnmatch
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

import calepin
from benchmarks.runner import Comparison, Contender
from calepin import GaussianNoise
from calepin.datasets import data_path, read_image
from calepin.imaging import NetworkDenoiser, load_network

Denoiser = Callable[[np.ndarray, float], np.ndarray]


def scenes(sigma: float, every: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the clean and the noisy images."""
    out = []
    for i, path in enumerate(sorted(data_path("bsd68").glob("*.png"))):
        if i % every == 0:
            clean = np.asarray(read_image(path).pixels, dtype=np.float64)
            out.append((clean, clean + np.random.default_rng(1000 + i).normal(0, sigma, clean.shape)))
    return out


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2)))


def contenders(model: str) -> dict[str, Denoiser]:
    """Return the network with all shifts, fewer and none, calepin's own learning, and bm3d if installed."""
    network = load_network(model)

    def apply(noisy: np.ndarray, sigma: float, n_shifts: int | None) -> np.ndarray:
        method = NetworkDenoiser(network, n_shifts, fallback=False)
        return calepin.denoise(noisy, method=method, noise=GaussianNoise(sigma)).image

    known: dict[str, Denoiser] = {
        "network": partial(apply, n_shifts=None),
        "network, 4 shifts": partial(apply, n_shifts=4),
        "network, 1 shift": partial(apply, n_shifts=1),
        "calepin.denoise": lambda noisy, sigma: calepin.denoise(noisy, noise=GaussianNoise(sigma)).image,
    }
    try:
        import bm3d
    except ImportError:
        return known
    known["bm3d"] = lambda noisy, sigma: np.asarray(bm3d.bm3d(noisy, sigma))
    return known


def measure(
    denoiser: Denoiser, pairs: list[tuple[np.ndarray, np.ndarray]], sigma: float
) -> tuple[float, float, float]:
    """Return mean PSNR, and wall and CPU seconds an image."""
    values, begun, cpu_begun = [], time.perf_counter(), time.process_time()
    for clean, noisy in pairs:
        values.append(psnr(denoiser(noisy, sigma), clean))
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu_begun
    return float(np.mean(values)), wall / len(pairs), cpu / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bsd_denoisers", description=__doc__)
    parser.add_argument("--sigma", type=float, default=25.0, help="noise level on the scale 0..255")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th image only")
    parser.add_argument("--only", default="*", help="names of contenders, with * and ? as wildcards")
    parser.add_argument("--model", default="bsd-gaussian", help="name or file of the network")
    arguments = parser.parse_args()
    sigma, pairs = arguments.sigma / 255, scenes(arguments.sigma / 255, arguments.every)

    table = Table(title=f"BSD68, {len(pairs)} images, sigma {arguments.sigma:g}")
    for column in ("", "PSNR (dB)", "s an image", "CPU s"):
        table.add_column(column, justify="right" if column else "left")
    for name, denoiser in contenders(arguments.model).items():
        if fnmatch.fnmatch(name, arguments.only):
            denoiser(pairs[0][1][:64, :64], sigma)  # compiles
            mean, wall, cpu = measure(denoiser, pairs, sigma)
            table.add_row(name, f"{mean:.3f}", f"{wall:.2f}", f"{cpu:.2f}")
    Console(width=100).print(table)


def _prepare() -> list[Contender]:
    pairs = scenes(25 / 255, every=17)
    return [
        Contender(
            name,
            lambda denoiser=denoiser: [denoiser(noisy, 25 / 255) for _, noisy in pairs],
            lambda images: {
                "PSNR": float(np.mean([psnr(x, clean) for x, (clean, _) in zip(images, pairs, strict=True)]))
            },
        )
        for name, denoiser in contenders("bsd-gaussian").items()
    ]


COMPARISONS = [
    Comparison(
        "denoise-network",
        "Denoising four 481x321 images of BSD68 by the shipped network, sigma 25 (needs CALEPIN_DATA)",
        "28.2 dB on all 68 (python -m benchmarks.bsd_denoisers); aim 28.6",
        _prepare,
        rounds=1,
    )
]

if __name__ == "__main__":
    main()
