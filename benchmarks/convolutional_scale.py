"""Long and wide signals: cost and memory of a convolutional dictionary, from files that stay on disk.

    python -m benchmarks.convolutional_scale [--figure cost.png] [--without-large]

Signals have 10 planted atoms of 64 samples and noise of deviation .03. First, CPU seconds of a pass of
learning (the second of two) and of `events`, for one signal of 10,000 to 1,000,000 samples; the slope
of their logarithms is 1 for a linear cost. Then by how much the memory of a fresh process grows while it
learns for two passes and codes what it learned from, for one signal of 5 million samples and for 64 channels
of 100,000, from a memory map and from zarr.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.runner import peak_growth_mb
from calepin import ConvolutionalDictionaryLearner

N_ATOMS, KERNEL, NOISE, EVERY = 10, 64, 0.03, 80  # an event of each atom in so many kernels
LENGTHS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
LARGE = {"1 channel x 5,000,000": (1, 5_000_000), "64 channels x 100,000": (64, 100_000)}
OPEN = {
    "memory map": "numpy.load({path!r}, mmap_mode='r')",
    "zarr": "zarr.open({path!r}, mode='r')",
}
CODE = """
import numpy, zarr
from calepin import ConvolutionalDictionaryLearner

def learner():
    return ConvolutionalDictionaryLearner(
        10, 64, sampling_rate=1000, n_init=1, max_iter=2, tol=0, random_state=0
    )

learner().fit(numpy.random.default_rng(0).standard_normal((2, {n_channels}, 2000)).astype("float32"))

def main():
    X = {open}
    learned = learner().fit(X)
    return learned, learned.events(X)
"""


def planted(n_channels: int, length: int, seed: int = 0) -> np.ndarray:
    """Return one signal (1, n_channels, length)."""
    rng = np.random.default_rng(seed)
    t = np.arange(KERNEL)
    y = NOISE * rng.standard_normal((1, n_channels, length), dtype=np.float32)
    for _ in range(N_ATOMS):
        frequency, phase = rng.uniform(0.02, 0.12), rng.uniform(0, 2 * np.pi)
        wave = np.hanning(KERNEL) * np.sin(2 * np.pi * frequency * t + phase)
        atom = rng.standard_normal((n_channels, 1)) * wave
        atom = (atom / np.linalg.norm(atom)).astype(np.float32)
        for start in rng.integers(0, length - KERNEL + 1, length // (EVERY * KERNEL)):
            y[0, :, start : start + KERNEL] += rng.uniform(0.5, 1.5) * atom
    return y


def seconds(length: int) -> tuple[float, float]:
    """Return CPU seconds of a pass of learning, and of coding."""
    X = planted(1, length)
    begun: list[float] = []
    learner = ConvolutionalDictionaryLearner(
        N_ATOMS, KERNEL, sampling_rate=1000, n_init=1, max_iter=2, tol=0, random_state=0
    ).fit(X, callbacks=[lambda _: begun.append(time.process_time())])
    start = time.process_time()
    learner.events(X)
    return begun[1] - begun[0], time.process_time() - start


def print_cost(figure: Path | None) -> None:
    """Print seconds for each length and the slopes, and draw them if a file is named."""
    seconds(LENGTHS[0])  # compiles
    found = np.array([seconds(length) for length in LENGTHS])
    for length, (learning, coding) in zip(LENGTHS, found, strict=True):
        print(f"{length:9,} samples   a pass {learning:7.3f} s CPU   coding {coding:7.3f} s CPU", flush=True)
    slopes = np.polyfit(np.log(LENGTHS), np.log(found), 1)[0]
    print(f"slopes of the logarithms: a pass {slopes[0]:.2f}, coding {slopes[1]:.2f}")
    if figure is not None:
        draw(found, figure)


def draw(found: np.ndarray, path: Path) -> None:
    """Draw seconds over lengths beside a linear cost."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    for values, name in zip(found.T, ("a pass of learning", "coding"), strict=True):
        axes.loglog(LENGTHS, values, "o-", label=name)
    axes.loglog(LENGTHS, found[-1, 0] / LENGTHS[-1] * np.array(LENGTHS), "--", color="0.6", label="linear")
    axes.set(xlabel="samples", ylabel="CPU time (s)")
    axes.legend()
    figure.savefig(path, dpi=120)


def print_memory() -> None:
    """Print the growth of memory for each large signal and way of storing it."""
    import zarr

    for name, (n_channels, length) in LARGE.items():
        X = planted(n_channels, length)
        with tempfile.TemporaryDirectory() as folder:
            paths = {"memory map": f"{folder}/signal.npy", "zarr": f"{folder}/signal.zarr"}
            np.save(paths["memory map"], X)
            zarr.create_array(paths["zarr"], data=X)
            for way, path in paths.items():
                code = CODE.format(open=OPEN[way].format(path=path), n_channels=n_channels)
                begun = time.perf_counter()
                growth = peak_growth_mb(code)
                print(
                    f"{name:22} {way:10} {X.nbytes / 2**20:6.0f} MB on disk   memory + {growth:6.0f} MB   "
                    f"{time.perf_counter() - begun:6.1f} s",
                    flush=True,
                )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutional_scale", description=__doc__)
    parser.add_argument("--figure", type=Path, help="file for the drawing of the cost")
    parser.add_argument("--without-large", action="store_true", help="no table of memory")
    arguments = parser.parse_args()
    print_cost(arguments.figure)
    if not arguments.without_large:
        print_memory()


if __name__ == "__main__":
    main()
