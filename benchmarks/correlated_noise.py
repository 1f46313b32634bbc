"""How well correlated noise is removed, beside bm3d with and without the density.

    CALEPIN_DATA=... CALEPIN_PEERS=... python -m benchmarks.correlated_noise        # Set12 03 to 07
    ... --images 01 02 --kinds lines pink --sigma 36 --estimated

The kinds are those of Makinen, Azzari and Foi, "Collaborative filtering of correlated noise", 2020 (g1 to g4
there), with a fifth of white noise (+ white), and white noise after a Gaussian of one pixel (blurred). bm3d
runs in an environment of its own if CALEPIN_PEERS names its Python: ``pip install "numpy<2" bm3d``; once for
white noise, once with the density, and once with its slower profile "refilter". Image i has noise of
``default_rng(1000 + i)``, neither periodic nor clipped. PSNR has peak 1 and clips the result to [0, 1].
With --estimated calepin also estimates the density: from the noisy image itself, and from a dark frame; and
the level alone, as that of white noise.
"""

import argparse
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve

import calepin
from calepin.datasets import CorrelatedNoise, data_path, read_image
from calepin.imaging import estimate_noise_psd

SIZE = 101  # pixels per side of the kernels
REPORTED = ("03", "04", "05", "06", "07")


def kernel(kind: str, size: int) -> np.ndarray:
    """Return the kernel of a kind of noise, of norm 1; that of pink noise has the size of the image."""
    base = kind.removesuffix(" + white")
    t = np.arange(SIZE) - SIZE // 2
    u, v = np.meshgrid(t, t)
    bell = np.exp(-0.5 * (u**2 + v**2) / 10**2)
    if base == "lines":
        found = np.maximum(16.0 - np.abs(t), 0)[None]
    elif base == "circles":
        found = np.cos(np.hypot(u, v)) * bell
    elif base == "diagonals":
        found = np.cos(u + v) * bell
    elif base == "blurred":
        found = np.exp(-0.5 * (u**2 + v**2))[40:61, 40:61]
    else:
        w = np.arange(size) - size // 2
        spectrum = np.sqrt(0.01 * size / (np.hypot(*np.meshgrid(w, w)) + 0.01 * size))
        found = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum)).real)
    found = found / np.linalg.norm(found)
    if base != kind:
        power = 0.2 + 0.8 * np.abs(np.fft.fft2(found, (max(SIZE, found.shape[0]),) * 2)) ** 2
        found = np.fft.fftshift(np.fft.ifft2(np.sqrt(power)).real)
    return found / np.linalg.norm(found)


KINDS = ("lines", "circles", "diagonals", "pink", "blurred", "lines + white", "diagonals + white")


def filtered(taps: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    sides = [n + k - 1 for n, k in zip(shape, taps.shape, strict=True)]
    return fftconvolve(generator.standard_normal(sides), taps, mode="valid")


def scored(image: np.ndarray, clean: np.ndarray) -> float:
    return -10 * np.log10(np.mean((np.clip(image, 0, 1) - clean) ** 2))


def ours(y: np.ndarray, noise) -> tuple[np.ndarray, float]:
    begun = time.process_time()
    return calepin.denoise(y, noise=noise).image, time.process_time() - begun


def peers(y: np.ndarray, sigma: float, psd: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Return the images of bm3d and its CPU seconds, nothing without an environment for it."""
    python = os.environ.get("CALEPIN_PEERS")
    if python is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        problem, result = Path(folder) / "problem.npz", Path(folder) / "result.npz"
        np.savez(problem, y=y, sigma=sigma, psd=psd)
        script = Path(__file__).with_name("correlated_noise_peers.py")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run([python, script, problem, result], check=True, env=environment)
        with np.load(result) as file:
            names = ("white", "psd", "refilter")
            return {f"bm3d {n}": (file[n], float(s)) for n, s in zip(names, file["seconds"], strict=True)}


def measure(name: str, kind: str, sigma: float, estimated: bool) -> dict[str, tuple[float, float]]:
    """Return PSNR and CPU seconds of each method on an image."""
    clean = np.asarray(read_image(data_path(f"set12/{name}.png")).pixels, dtype=np.float64)
    taps = sigma * kernel(kind, clean.shape[0])
    generator = np.random.default_rng(1000 + int(name))
    y = clean + filtered(taps, clean.shape, generator)
    psd = np.abs(np.fft.fft2(taps, clean.shape)) ** 2
    found = {
        "noisy": (y, 0.0),
        "calepin white": ours(y, calepin.GaussianNoise(sigma)),
        "calepin psd": ours(y, CorrelatedNoise(psd)),
    }
    if estimated:
        found["estimated level"] = ours(y, None)
        found["estimated psd"] = ours(y, estimate_noise_psd(y))
        dark = filtered(taps, (256, 256), generator)
        found["dark frame"] = ours(y, CorrelatedNoise.from_dark_frames(dark))
    found |= peers(y, sigma, psd)
    return {method: (scored(image, clean), seconds) for method, (image, seconds) in found.items()}


def main() -> None:
    """Print a row for each image and the means of each kind."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.correlated_noise", description=__doc__)
    parser.add_argument("--images", nargs="+", default=REPORTED, help="of Set12")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--sigma", type=float, default=36.0, help="standard deviation, of 255")
    parser.add_argument("--estimated", action="store_true", help="also with densities that are estimated")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    measure("01", "blurred", 0.1, given.estimated)  # compiles
    for kind in given.kinds:
        rows = [measure(name, kind, given.sigma / 255, given.estimated) for name in given.images]
        print(f"\n{kind}, sigma {given.sigma:g}: PSNR of Set12 {' '.join(given.images)}; mean; CPU seconds")
        for method in rows[0]:
            values, seconds = zip(*(row[method] for row in rows), strict=True)
            cells = [f"{value:6.2f}" for value in values]
            print(f"{method:16}", *cells, f"| {np.mean(values):6.2f} | {np.mean(seconds):.1f}", flush=True)
        for peer in ("bm3d psd", "bm3d refilter"):
            if peer in rows[0]:
                gaps = [row["calepin psd"][0] - row[peer][0] for row in rows]
                cells = [f"{gap:+6.2f}" for gap in gaps]
                print(f"over {peer:11}", *cells, f"| {np.mean(gaps):+6.2f}", flush=True)


if __name__ == "__main__":
    main()
