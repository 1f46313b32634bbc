"""What each idea of the dictionary denoiser brings: the mean PSNR of its variants, and seconds.

    CALEPIN_DATA=... python -m benchmarks.denoise_ideas             # Set12 01 to 07, sigma 25
    CALEPIN_DATA=... python -m benchmarks.denoise_ideas --sigma 50  # another noise level

Images, noise and PSNR are those of `benchmarks.white_noise`.
"""

import argparse
import time
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

import calepin
from benchmarks.white_noise import Denoise, psnr, scenes
from calepin.imaging import DictionaryDenoiser


def ours(noisy: np.ndarray, sigma: float | None, **options) -> np.ndarray:
    noise = None if sigma is None else calepin.GaussianNoise(sigma)
    return calepin.denoise(noisy, method=DictionaryDenoiser(**options), noise=noise).image


def blind(noisy: np.ndarray, sigma: float, **options) -> np.ndarray:
    return ours(noisy, None, **options)


IDEAS: dict[str, Denoise] = {
    "shipped dictionary as it is, one pass": partial(ours, n_iter=0, group_passes=0),
    "+ 5 rounds of K-SVD on the noisy patches": partial(ours, group_passes=0),
    "    10 rounds instead": partial(ours, n_iter=10, group_passes=0),
    "    MOD instead of K-SVD": partial(ours, rule="mod", group_passes=0),
    "    online instead of K-SVD": partial(ours, rule="online", group_passes=0),
    "    64 atoms instead of 256": partial(ours, n_components=64, group_passes=0),
    "    cosines, patches 7x7": partial(ours, patch_size=7, group_passes=0),
    "+ 1 pass over groups": partial(ours, group_passes=1),
    "+ 2 passes": partial(ours, group_passes=2),
    "+ 3 passes": partial(ours, group_passes=3),
    "+ 4 passes": partial(ours, group_passes=4),
    "+ as many as the noise needs (the default)": ours,
    "    without learning (shipped dictionary)": partial(ours, n_iter=0),
    "    sigma estimated": blind,
}


def measure(denoise: Denoise, sigma: float) -> tuple[list[float], float, float]:
    """Return PSNR of every image, and wall and CPU seconds an image."""
    pairs = scenes("set12", sigma).values()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    values = [psnr(denoise(noisy, sigma), clean) for clean, noisy in pairs]
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu_begun
    return values, wall / len(pairs), cpu / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.denoise_ideas", description=__doc__)
    parser.add_argument("--sigma", type=float, default=25.0, help="noise level on the scale 0..255")
    sigma = parser.parse_args().sigma
    ours(next(iter(scenes("set12", sigma / 255).values()))[1][:64, :64], sigma / 255)  # compiles
    table = Table(title=f"PSNR (dB), Set12 01 to 07, sigma {sigma:g}")
    table.add_column("")
    for column in (*(f"{i:02d}" for i in range(1, 8)), "mean", "s", "CPU s"):
        table.add_column(column, justify="right")
    for name, denoise in IDEAS.items():
        values, wall, cpu = measure(denoise, sigma / 255)
        cells = [*(f"{value:.2f}" for value in values), f"{np.mean(values):.3f}", f"{wall:.2f}", f"{cpu:.2f}"]
        table.add_row(name, *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
