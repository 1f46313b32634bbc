"""Convolutional coders beside sporco and alphacsc: ``python -m benchmarks.convolutional``.

Wall and CPU seconds of one run after a warm-up, and the objective reached. The peers run in an environment
of their own, since alphacsc needs an older NumPy: CALEPIN_PEERS names its Python
(``pip install "numpy<2.4" sporco alphacsc``); without it only calepin's rows appear. Threads are torch's.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from skimage.io import imread

from calepin import DictionaryLearner, Problem, solve
from calepin.likelihoods import Binomial
from calepin.operators import ConvDictionary
from calepin.penalties import NonNegativeL1
from calepin.solvers import FISTA, convolutional_encode, convolutional_pursuit

IMAGE_ALPHA, SIGNAL_ALPHA, TRIALS = 0.02, 0.3, 25
PEERS = Path(__file__).with_name("convolutional_peers.py")


def timed(function: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return wall seconds, CPU seconds and the result of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def high_passed_image() -> tuple[np.ndarray, np.ndarray]:
    """Return Set12 01 without low frequencies (sporco's Tikhonov filter), and 32 atoms learned from it."""
    path = Path(os.environ["CALEPIN_DATA"]) / "set12" / "01.png"
    image = imread(path).astype(np.float64) / 255
    wide = np.pad(image, 16, mode="symmetric")
    laplace = [2 - 2 * np.cos(2 * np.pi * np.fft.fftfreq(n)) for n in wide.shape]
    gain = 1 / (1 + 5 * (laplace[0][:, None] + laplace[1]))
    y = image - np.fft.ifft2(np.fft.fft2(wide) * gain).real[16:-16, 16:-16]
    patches = sliding_window_view(y, (8, 8)).reshape(-1, 64)[::3]
    atoms = DictionaryLearner(32, alpha=0.1, max_iter=5, random_state=0).fit(patches).components_
    return y.astype(np.float32)[None, None], atoms.astype(np.float32).reshape(32, 1, 8, 8)


def events() -> tuple[np.ndarray, np.ndarray]:
    """Return 100 noisy signals of 10,000 samples with 15 events of each of 10 atoms of 100 samples."""
    rng = np.random.default_rng(0)
    t = np.arange(100)
    atoms = np.stack([np.hanning(100) * np.sin(0.08 * (k + 1) * t + k) for k in range(10)])
    atoms += 0.1 * rng.normal(size=atoms.shape)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    y = 0.1 * rng.normal(size=(100, 1, 10_000))
    for signal in y:
        for atom in atoms:
            for start in rng.choice(9_901, 15, replace=False):
                signal[0, start : start + 100] += rng.uniform(1, 3) * atom
    return y, atoms[:, None]


def print_row(name: str, wall: float, cpu: float, worth: str) -> None:
    print(f"{name:46} {wall:8.2f} s wall {cpu:8.2f} s CPU   {worth}", flush=True)


def beside_peers(name: str, y: np.ndarray, atoms: np.ndarray, alpha: float, **options: Any) -> None:
    """Code at several tolerances, then let the peers code the same."""
    convolutional_encode(y[:1, ..., :200], atoms, alpha=alpha, **options)
    for tol in (1e-2, 1e-3, 1e-4):
        wall, cpu, found = timed(
            lambda tol=tol: convolutional_encode(y, atoms, alpha=alpha, tol=tol, return_info=True, **options)
        )
        codes, info = found
        worth = 0.5 * info.residual.sum() + alpha * np.abs(codes).sum(dtype=np.float64)
        print_row(f"{name}: calepin, tol {tol:g}", wall, cpu, f"objective {worth:.5f}")
    if "CALEPIN_PEERS" not in os.environ:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, y=y, atoms=atoms, alpha=alpha)
        command = [os.environ["CALEPIN_PEERS"], str(PEERS), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            print_row(f"{name}: {row['name']}", row["wall"], row["cpu"], f"objective {row['objective']:.5f}")


def counts(n: int) -> Problem:
    """Return n binomial samples of 500 bins with five events of each of three atoms of 50 bins."""
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(50.0)
    bumps = [torch.exp(-0.5 * ((t - c) / w) ** 2) for c, w in ((15, 5), (25, 8), (32, 4))]
    atoms = torch.stack([bumps[0] - 0.5 * bumps[2], torch.sin(0.126 * t) * bumps[1], bumps[1]])
    atoms = (atoms / atoms.norm(dim=1, keepdim=True))[:, None]
    operator = ConvDictionary(atoms, signal_shape=(500,))
    z = 6.0 * (torch.rand(n, *operator.in_shape, generator=generator) < 5 / 451)
    y = Binomial(TRIALS).sample(operator(z) - 1, generator=generator)
    return Problem(operator, Binomial(TRIALS), y, offset=-1.0)


def coded(problem: Problem, batch: int) -> float:
    """Return the mean nll after 250 iterations, in batches."""
    total = 0.0
    for y in problem.y.split(batch):
        part = Problem(problem.operator, problem.likelihood, y, problem.offset)
        total += float(part.nll(solve(part, FISTA(NonNegativeL1(0.38)), n_iter=250).z).sum())
    return total / len(problem.y)


def main() -> None:
    """Print one line for each coder."""
    y, atoms = high_passed_image()
    beside_peers("image", y, atoms, IMAGE_ALPHA, boundary="circular")
    beside_peers("100 signals", *events(), SIGNAL_ALPHA, nonnegative=True)
    problem = counts(1000)
    coded(counts(8), 8)
    for batch in (1000, 250):
        wall, cpu, nll = timed(lambda batch=batch: coded(problem, batch))
        print_row(f"binomial, J = 1000, 250 iterations, batch {batch}", wall, cpu, f"nll {nll:.4f}")
    problem = counts(100)
    options = {"likelihood": problem.likelihood, "offset": problem.offset, "n_nonzero": 15}
    convolutional_pursuit(problem.y[:1], problem.operator.atoms, **options)
    wall, cpu, z = timed(lambda: convolutional_pursuit(problem.y, problem.operator.atoms, **options))
    nll = problem.nll(torch.as_tensor(z)).mean()
    print_row("BCOMP, J = 100, 15 events", wall, cpu, f"nll {nll:.4f}")


if __name__ == "__main__":
    main()
