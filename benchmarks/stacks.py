"""How well volumes and time series are denoised, beside their frames one by one and bm4d.

    CALEPIN_DATA=... python -m benchmarks.stacks volumes --wheels FOLDER  # brains, synthetic microscopy
    CALEPIN_DATA=... python -m benchmarks.stacks series                   # Set12: moving, at rest, unrelated
    CALEPIN_DATA=... python -m benchmarks.stacks photons                  # the series as counts
    CALEPIN_DATA=... python -m benchmarks.stacks gaps                     # the series with missing samples
    CALEPIN_DATA=... python -m benchmarks.stacks maps                     # noise that varies over the frame
    CALEPIN_DATA=... python -m benchmarks.stacks colours                  # series in colour
    ... --sigma 0.05 0.2 --peaks 4 30 --only camera

The brains are those that nilearn (MNI152 T1 template) and nibabel (example4d, a scan with noise of its own)
ship: ``pip download --no-deps nilearn nibabel -d FOLDER``. bm4d runs in the environment whose Python
CALEPIN_PEERS names (NumPy below 2). Noise is of ``default_rng(7)``, unclipped; PSNR has peak 1 and clips the
result to [0, 1].
"""

import argparse
import gzip
import os
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

import calepin
from calepin.datasets import data_path, read_image
from calepin.imaging.stabilisation import Stabiliser

Stack = np.ndarray
Noise = calepin.GaussianNoise | calepin.PoissonNoise
TEMPLATE = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
SCAN = "nibabel/tests/data/example4d.nii.gz"
TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 512: "u2"}  # of NIfTI-1
SIZE, FRAMES = 96, 16


def nifti(wheels: Path, package: str, name: str) -> Stack:
    """Return the array in a gzipped little-endian NIfTI-1 file of a wheel."""
    (wheel,) = wheels.glob(f"{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        raw = gzip.decompress(archive.read(name))
    rank, *shape = np.frombuffer(raw, "<i2", 8, 40).tolist()
    kind, start = np.frombuffer(raw, "<i2", 1, 70)[0], int(np.frombuffer(raw, "<f4", 1, 108)[0])
    n = int(np.prod(shape[:rank]))
    return np.frombuffer(raw, f"<{TYPES[int(kind)]}", n, start).reshape(shape[:rank], order="F").astype(float)


def brain(wheels: Path) -> Stack:
    whole = nifti(wheels, "nilearn", TEMPLATE)
    return (whole / whole.max())[60:100, 80:144, 60:124]


def scan(wheels: Path) -> Stack:
    whole = nifti(wheels, "nibabel", SCAN)[..., 0].transpose(2, 0, 1)
    return (whole / whole.max())[:, 20:100, 10:90]


def microscopy(shape: tuple[int, int, int] = (24, SIZE, SIZE)) -> Stack:
    """Return filaments and cells, blurred as by a microscope: more along the depth."""
    generator = np.random.default_rng(0)
    lines = np.zeros(shape)
    flat = np.array([0.3, 1, 1])
    for _ in range(25):
        place, step = generator.uniform(0, 1, 3) * shape, generator.normal(size=3) * flat
        for _ in range(400):
            step = step / np.linalg.norm(step) + 0.08 * generator.normal(size=3) * flat
            place = place + 0.5 * step / np.linalg.norm(step)
            at = tuple(np.round(place).astype(int))
            if not all(0 <= a < n for a, n in zip(at, shape, strict=True)):
                break
            lines[at] += 1
    grid = np.mgrid[: shape[0], : shape[1], : shape[2]]
    cells = np.zeros(shape)
    for _ in range(6):
        centre, radius = generator.uniform(0, 1, 3) * shape, generator.uniform(6, 12)
        away = np.sqrt(sum((w * (g - c)) ** 2 for w, g, c in zip((1.5, 1, 1), grid, centre, strict=True)))
        cells = np.maximum(cells, 1 / (1 + np.exp(2 * (away - radius))))
    lines = ndimage.gaussian_filter(lines, (1.5, 1, 1))
    whole = lines / np.quantile(lines, 0.999) + 0.3 * cells
    return whole / whole.max()


def photograph(number: int) -> np.ndarray:
    return np.asarray(read_image(data_path(f"set12/{number:02d}.png")).pixels, dtype=np.float64)


def middle(image: np.ndarray) -> np.ndarray:
    top, left = ((n - SIZE) // 2 for n in image.shape)
    return image[top : top + SIZE, left : left + SIZE]


def moving(number: int) -> Stack:
    """Return a scene that drifts by 0.8 pixels a frame, with two textured discs of their own motion."""
    ground, texture = photograph(number), photograph(6)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    frames = []
    for t in range(FRAMES):
        frame = middle(ndimage.shift(ground, (0.37 * t, 0.71 * t), order=3, mode="reflect"))
        for k, way in enumerate((1, -1)):
            y, x = 20 + 40 * k + 1.3 * t * way, 10 + 50 * k + 2.2 * t * way
            disc = 1 / (1 + np.exp(2 * (np.hypot(rows - y, columns - x) - 9)))
            pattern = ndimage.shift(texture, (y, x), order=3, mode="grid-wrap")[:SIZE, :SIZE]
            frame = frame * (1 - disc) + disc * pattern
        frames.append(frame)
    return np.clip(frames, 0, 1)


def series() -> dict[str, Callable[[], Stack]]:
    return {
        "camera, moving": lambda: moving(1),
        "house, moving": lambda: moving(2),
        "peppers, moving": lambda: moving(3),
        "camera, at rest": lambda: np.repeat(middle(photograph(1))[None], FRAMES, axis=0),
        "unrelated images": lambda: np.stack([middle(photograph(k)) for k in range(1, 8)]),
    }


def ours(noisy: Stack, noise: Noise) -> Stack:
    return calepin.denoise(noisy, noise=noise, axes="TYX").image


def one_by_one(noisy: Stack, noise: Noise) -> Stack:
    return np.stack([calepin.denoise(frame, noise=noise).image for frame in noisy])


def bm4d(noisy: Stack, sigma: float) -> tuple[Stack, float]:
    """Return the result of bm4d and its CPU seconds, from the environment of CALEPIN_PEERS."""
    code = (
        "import sys, time, numpy as np; from bm4d import bm4d; y = np.load(sys.argv[1]); "
        "s = float(sys.argv[2]); t = time.process_time(); np.save(sys.argv[1], bm4d(y, s)); "
        "print(time.process_time() - t)"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stack.npy")
        np.save(path, noisy)
        command = [os.environ["CALEPIN_PEERS"], "-W", "ignore", "-c", code, str(path), str(sigma)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return np.load(path), float(done.stdout.split()[-1])


def stabilised_bm4d(counts: Stack) -> tuple[Stack, float]:
    anscombe = Stabiliser()
    restored, seconds = bm4d(anscombe.apply(counts), 1.0)
    return anscombe.invert(restored), seconds


def timed(function: Callable[..., Stack]) -> Callable[..., tuple[Stack, float]]:
    def run(*arguments: object) -> tuple[Stack, float]:
        begun = time.process_time()
        return function(*arguments), time.process_time() - begun

    return run


def psnr(stack: Stack, clean: Stack) -> float:
    return -10 * np.log10(np.mean((np.clip(stack, 0, 1) - clean) ** 2))


def gaussian_row(clean: Stack, sigma: float) -> dict[str, tuple[float, float]]:
    """Return PSNR and CPU seconds of each method."""
    noisy = clean + np.random.default_rng(7).normal(0, sigma, clean.shape)
    noise = calepin.GaussianNoise(sigma)
    found = {"calepin": timed(ours)(noisy, noise), "frame by frame": timed(one_by_one)(noisy, noise)}
    if "CALEPIN_PEERS" in os.environ:
        found["bm4d"] = bm4d(noisy, sigma)
    return {name: (psnr(stack, clean), seconds) for name, (stack, seconds) in found.items()}


def photon_row(clean: Stack, peak: float) -> dict[str, tuple[float, float]]:
    counts, noise = np.random.default_rng(7).poisson(peak * clean), calepin.PoissonNoise()
    found = {"calepin": timed(ours)(counts, noise), "frame by frame": timed(one_by_one)(counts, noise)}
    if "CALEPIN_PEERS" in os.environ:
        found["Anscombe + bm4d"] = stabilised_bm4d(counts)
    return {name: (psnr(stack / peak, clean), seconds) for name, (stack, seconds) in found.items()}


def gap_row(clean: Stack, sigma: float) -> dict[str, tuple[float, float]]:
    """Return PSNR and CPU seconds with missing samples: their fraction, at random, and one frame of all."""
    noisy = clean + np.random.default_rng(7).normal(0, sigma, clean.shape)
    noise, found = calepin.GaussianNoise(sigma), {}
    for fraction in (0.0, 0.05, 0.2, 0.5):
        missing = np.random.default_rng(8).random(clean.shape) < fraction
        found[f"{fraction:.0%} missing"] = timed(ours)(np.ma.array(noisy, mask=missing), noise)
    missing = np.zeros(clean.shape, bool)
    missing[len(clean) // 2] = True
    found["a frame missing"] = timed(ours)(np.ma.array(noisy, mask=missing), noise)
    return {name: (psnr(stack, clean), seconds) for name, (stack, seconds) in found.items()}


def map_row(clean: Stack, sigma: float) -> dict[str, tuple[float, float]]:
    """Return PSNR and CPU seconds for noise of a quarter to twice the level, from left to right."""
    levels = np.broadcast_to(sigma * np.geomspace(0.25, 2, clean.shape[2]), clean.shape[1:])
    noisy = clean + levels * np.random.default_rng(7).standard_normal(clean.shape)
    known, mean = calepin.VaryingGaussianNoise(levels), calepin.GaussianNoise(np.sqrt(np.mean(levels**2)))
    found = {
        "calepin": timed(ours)(noisy, known),
        "one level": timed(ours)(noisy, mean),
        "frame by frame": timed(one_by_one)(noisy, known),
    }
    return {name: (psnr(stack, clean), seconds) for name, (stack, seconds) in found.items()}


def coloured(name: str, speed: float) -> Stack:
    """Return a colour photograph of scikit-image that drifts by some pixels a frame."""
    from skimage import data

    image = getattr(data, name)()[:300, :400] / 255
    moved = (ndimage.shift(image, (speed * t, 2 * speed * t, 0), order=1, mode="reflect") for t in range(8))
    return np.clip([frame[100 : 100 + SIZE, 150 : 150 + SIZE] for frame in moved], 0, 1)


def colour_row(clean: Stack, sigma: float) -> dict[str, tuple[float, float]]:
    noisy = clean + np.random.default_rng(7).normal(0, sigma, clean.shape)
    noise = calepin.GaussianNoise(sigma)

    def by_channel(noisy: Stack, noise: Noise) -> Stack:
        return np.stack([ours(noisy[..., c], noise) for c in range(3)], axis=3)

    def together(noisy: Stack, noise: Noise) -> Stack:
        return calepin.denoise(noisy, noise=noise, axes="TYXS").image

    found = {
        "calepin": timed(together)(noisy, noise),
        "channel by channel": timed(by_channel)(noisy, noise),
        "frame by frame": timed(one_by_one)(noisy, noise),
    }
    return {name: (psnr(stack, clean), seconds) for name, (stack, seconds) in found.items()}


ROWS = {"photons": photon_row, "gaps": gap_row, "maps": map_row, "colours": colour_row}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stacks", description=__doc__)
    parser.add_argument("job", choices=["volumes", "series", *ROWS])
    parser.add_argument("--wheels", type=Path, help="folder with the wheels of nilearn and nibabel")
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--peaks", type=float, nargs="+", default=[1, 4, 30])
    parser.add_argument("--only", default="", help="stacks whose name contains this")
    given = parser.parse_args()
    stacks = series()
    if given.job == "volumes":
        stacks = {"synthetic microscopy": microscopy}
        if given.wheels:
            stacks |= {"MNI152 T1": lambda: brain(given.wheels), "scan": lambda: scan(given.wheels)}
    if given.job == "colours":
        stacks = {
            "coffee, moving": lambda: coloured("coffee", 0.4),
            "astronaut, moving": lambda: coloured("astronaut", 0.4),
            "cat, at rest": lambda: coloured("cat", 0.0),
        }
    levels, row = given.peaks if given.job == "photons" else given.sigma, ROWS.get(given.job, gaussian_row)
    small = next(iter(stacks.values()))()[:2, :32, :32]
    for compiled in (ours, one_by_one):
        compiled(small if small.ndim == 3 else small[..., 0], calepin.GaussianNoise(0.1))

    table = Table(title=f"{given.job}: PSNR in dB and CPU seconds")
    for name, make in ((n, m) for n, m in stacks.items() if given.only in n):
        clean = make()
        for level in levels:
            found = row(clean, level)
            if not table.columns:
                for column in ("stack", "shape", "peak" if given.job == "photons" else "sigma", *found):
                    table.add_column(column, justify="left" if column == "stack" else "right")
            cells = [f"{value:.2f} ({seconds:.1f} s)" for value, seconds in found.values()]
            table.add_row(name, "x".join(map(str, clean.shape)), f"{level:g}", *cells)
            print(name, level, *cells, flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
