"""White noise of all levels: calepin's methods beside bm3d, image by image, with CPU seconds.

    CALEPIN_DATA=... python -m benchmarks.white_noise                           # 16 images, seven levels
    CALEPIN_DATA=... python -m benchmarks.white_noise --set bsd68 --every 8     # images of BSD68
    python -m benchmarks.white_noise --set samples --sigma 25 --only best bm3d  # images of scikit-image
    python -m benchmarks.white_noise --set samples --model run.safetensors      # another network
    python -m benchmarks.white_noise --set patterns --sigma 10 25 50            # regular drawings

Image i of a set gets noise of ``default_rng(1000 + i)``, unclipped; PSNR has peak 1 and counts the result
clipped to [0, 1]. bm3d is left out where it is not installed.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table
from skimage import data

import calepin
from benchmarks.runner import Comparison, Contender
from calepin import GaussianNoise
from calepin.datasets import data_path, read_image
from calepin.imaging import Denoiser, GuidedDenoiser, NetworkDenoiser

Denoise = Callable[[np.ndarray, float], np.ndarray]
Scenes = dict[str, tuple[np.ndarray, np.ndarray]]

SIGMAS = (5, 10, 15, 25, 35, 50, 75)
SAMPLES = ("camera", "coins", "brick", "gravel", "grass", "moon", "cell", "microaneurysms", "page")
SIDE = 256  # of the middle of each sample


def samples() -> dict[str, np.ndarray]:
    """Return the middle of images of scikit-image, their green channel if they are colour, in [0, 1]."""
    found = {}
    for name in SAMPLES:
        image = getattr(data, name)()
        image = (image[..., 1] if image.ndim == 3 else image) / 255
        top, left = (max(0, (size - SIDE) // 2) for size in image.shape)
        found[name] = image[top : top + SIDE, left : left + SIDE]
    return found


def files(pattern: str) -> dict[str, np.ndarray]:
    """Return the images of files under CALEPIN_DATA."""
    folder, name = pattern.split("/")
    paths = sorted(data_path(folder).glob(name))
    return {path.stem: np.asarray(read_image(path).pixels, dtype=np.float64) for path in paths}


def patterns() -> dict[str, np.ndarray]:
    """Return drawings of 160 x 160 pixels that repeat themselves, as no photograph does."""
    rows, columns = np.indices((160, 160))
    drawn = {f"squares of {side}": (rows // side + columns // side) % 2.0 for side in (2, 4, 8, 16, 32)}
    drawn["stripes of 5"] = (rows + columns) // 5 % 2.0
    drawn["dots"] = 1.0 * ((rows % 7 == 0) & (columns % 7 == 0))
    drawn["waves"] = (1 + np.sin(0.6 * rows + 1.2 * columns)) / 2
    drawn["slope"] = (rows + columns) / 318
    drawn["squares beside a photograph"] = (rows // 6 + columns // 6) % 2.0
    drawn = {name: 0.2 + 0.6 * image for name, image in drawn.items()}
    drawn["squares beside a photograph"][:, 80:] = samples()["camera"][40:200, 90:170]
    return drawn


SETS: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    "both": lambda: files("set12/0[1-7].png") | samples(),
    "set12": lambda: files("set12/0[1-7].png"),
    "samples": samples,
    "bsd68": lambda: files("bsd68/*.png"),
    "patterns": patterns,
}


def scenes(name: str, sigma: float, every: int = 1) -> Scenes:
    """Return the clean and the noisy image of each name, of every so many-th image of a set."""
    out = {}
    for i, (image, clean) in enumerate(SETS[name]().items()):
        if i % every == 0:
            noise = np.random.default_rng(1000 + i).normal(0, sigma, clean.shape)
            out[image] = clean, clean + noise
    return out


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2)))


def _by(method: str | Denoiser, noisy: np.ndarray, sigma: float) -> np.ndarray:
    return calepin.denoise(noisy, method=method, noise=GaussianNoise(sigma)).image


def contenders(model: str | None = None) -> dict[str, Denoise]:
    """Return calepin's methods, and bm3d where it can be imported."""
    known: dict[str, Denoise] = {
        "dictionary": partial(_by, "dictionary"),
        "best": partial(_by, GuidedDenoiser(model)),
        "best, one weight": partial(_by, GuidedDenoiser(model, fallback=False)),
        "network": partial(_by, NetworkDenoiser(model, fallback=False)),
        "network, 1 shift": partial(_by, NetworkDenoiser(model, n_shifts=1, fallback=False)),
    }
    try:
        import bm3d
    except ImportError:
        return known
    return {"bm3d": lambda noisy, sigma: np.asarray(bm3d.bm3d(noisy, sigma)), **known}


def main() -> None:
    """Print a table for each level: PSNR of the first contender, and differences to it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.white_noise", description=__doc__)
    parser.add_argument("--set", choices=list(SETS), default="both")
    parser.add_argument("--sigma", type=float, nargs="+", default=SIGMAS, help="levels on the scale 0..255")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th image only")
    parser.add_argument("--only", nargs="+", help="names of contenders, the first is the reference")
    parser.add_argument("--model", help="name or file of the network")
    given = parser.parse_args()
    known = contenders(given.model)
    chosen = {name: known[name] for name in given.only or known}
    for sigma in given.sigma:
        pairs = scenes(given.set, sigma / 255, given.every)
        table = Table(title=f"sigma {sigma:g}: PSNR of {next(iter(chosen))}, and what others gain (dB)")
        for column in ("", *chosen):
            table.add_column(column, justify="right" if column else "left")
        columns, seconds = [], []
        for denoise in chosen.values():
            denoise(next(iter(pairs.values()))[1][:64, :64], sigma / 255)  # compiles
            begun = time.process_time()
            columns.append([psnr(denoise(noisy, sigma / 255), clean) for clean, noisy in pairs.values()])
            seconds.append((time.process_time() - begun) / len(pairs))
        first, *others = np.array(columns)
        for i, name in enumerate(pairs):
            table.add_row(name, f"{first[i]:.2f}", *(f"{one[i] - first[i]:+.2f}" for one in others))
        table.add_row("mean", f"{first.mean():.3f}", *(f"{(one - first).mean():+.3f}" for one in others))
        table.add_row("smallest", "", *(f"{(one - first).min():+.2f}" for one in others))
        table.add_row("CPU s an image", *(f"{value:.2f}" for value in seconds))
        Console(width=110).print(table)


def _prepare(name: str, every: int) -> list[Contender]:
    pairs = list(scenes(name, 25 / 255, every).values())
    return [
        Contender(
            name,
            lambda denoise=denoise: [denoise(noisy, 25 / 255) for _, noisy in pairs],
            lambda images: {
                "PSNR": float(np.mean([psnr(x, clean) for x, (clean, _) in zip(images, pairs, strict=True)]))
            },
        )
        for name, denoise in sorted(contenders().items(), key=lambda item: item[0] == "bm3d")
    ]


COMPARISONS = [
    Comparison(
        "denoise",
        "Denoising seven 256x256 images, sigma 25 (needs CALEPIN_DATA)",
        "29.45 dB in at most 35 s (5 s an image); aim above bm3d",
        partial(_prepare, "set12", 1),
        rounds=1,
    ),
    Comparison(
        "denoise-photographs",
        "Denoising four 481x321 images of BSD68, sigma 25 (needs CALEPIN_DATA)",
        "above bm3d",
        partial(_prepare, "bsd68", 17),
        rounds=1,
    ),
]

if __name__ == "__main__":
    main()
