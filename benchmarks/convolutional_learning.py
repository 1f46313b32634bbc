"""Learning of convolutional dictionaries: ``python -m benchmarks.convolutional_learning [WORKLOAD ...]``.

- signals: the set-up of RoseCDL (Allain et al., 2025): 10 signals of 16,000 samples, 10 atoms of 64 samples,
  each 20 times in each signal with amplitudes U(.5, 1.5), noise of deviation .03; codes are nonnegative.
- masked: the same without a tenth of the samples, at random.
- channels: 4 signals of 64 channels and 4,000 samples; 10 atoms, a pattern of the channels times a waveform.
- image: Set12 01 without low frequencies, 32 atoms of 8x8 (needs CALEPIN_DATA).

alpha is a tenth of the largest correlation of signals and initial atoms. Each row is a pass: CPU seconds of
learning so far, the objective of all signals with codes of a duality gap of 1e-5, and how many planted atoms
have a cosine of .95 with a learned one, at the best shift. Evaluation is not timed. --seconds (10) is the CPU
time of each learner; peers get four times as much, and every fourth of many iterations is shown. They run
from copies on PYTHONPATH, RoseCDL here, alphacsc and sporco in the environment whose Python CALEPIN_PEERS
names (NumPy below 2): ``PYTHONPATH=RoseCDL:alphacsc CALEPIN_PEERS=python python -m ...``.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import correlate

from benchmarks.convolutional import high_passed_image
from calepin import ConvolutionalDictionaryLearner
from calepin.learning import FilterSet
from calepin.learning.rules import _convolutional_moments as moments
from calepin.solvers import convolutional_encode
from calepin.solvers.coders.sparse_codes import SparseCodes

N_ATOMS, KERNEL, NOISE = 10, 64, 0.03
_FEW = 8  # iterations of a peer that are all shown
PEERS = Path(__file__).with_name("convolutional_learning_peers.py")
LEARNERS = {
    "default": {},
    "exact codes, Adam": {"coder": "exact", "optimizer": "adam"},
    "100 iterations of FISTA, Adam": {"coder": "fista", "optimizer": "adam"},
}


@dataclass(frozen=True)
class Workload:
    """Signals (n, channels, *spatial), the initial atoms, and the planted ones where there are any."""

    X: np.ndarray
    start: np.ndarray
    truth: np.ndarray | None = None
    mask: np.ndarray | None = None
    nonnegative: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    peers: tuple[str, ...] = ("alphacsc",)

    @property
    def alpha(self) -> float:
        """A tenth of the largest correlation of signals and initial atoms."""
        seen = self.X if self.mask is None else self.X * self.mask
        return 0.1 * max(abs(correlate(x, atom, mode="valid")).max() for x in seen for atom in self.start)

    def objective(self, atoms: np.ndarray) -> float:
        """Return the objective of all signals with exact codes."""
        codes, info = convolutional_encode(
            self.X, atoms, alpha=self.alpha, nonnegative=self.nonnegative, mask=self.mask, tol=1e-5,
            return_info=True,
        )  # fmt: skip
        return float(0.5 * info.residual.sum() + self.alpha * np.abs(codes).sum(dtype=np.float64))

    def row(self, atoms: np.ndarray) -> str:
        """Return objective and number of planted atoms that were found, up to shifts, as text."""
        text = f"objective {self.objective(atoms):8.1f}"
        if self.truth is None:
            return text
        found = sum(max(abs(correlate(t, a)).max() for a in atoms) > 0.95 for t in self.truth)
        return f"{text}   {found:2} of {len(self.truth)} atoms"


def planted(n_signals: int, n_channels: int, length: int, n_events: int) -> tuple[np.ndarray, np.ndarray]:
    """Return signals (n, n_channels, length) and the atoms in them (n_atoms, n_channels, kernel)."""
    rng = np.random.default_rng(0)
    t = np.arange(KERNEL)
    atoms = np.zeros((N_ATOMS, n_channels, KERNEL))
    for atom in atoms:
        pattern = np.ones((1, 1)) if n_channels == 1 else rng.standard_normal((n_channels, 1))
        for frequency, phase in zip(rng.uniform(0.02, 0.12, 2), rng.uniform(0, 2 * np.pi, 2), strict=True):
            atom += pattern * np.hanning(KERNEL) * np.sin(2 * np.pi * frequency * t + phase)
        atom /= np.linalg.norm(atom)
    X = NOISE * rng.standard_normal((n_signals, n_channels, length))
    for signal in X:
        for atom in atoms:
            for start in rng.integers(0, length - KERNEL + 1, n_events):
                signal[:, start : start + KERNEL] += rng.uniform(0.5, 1.5) * atom
    return X.astype(np.float32), atoms.astype(np.float32)


def windows(X: np.ndarray, n_atoms: int, kernel: tuple[int, ...]) -> np.ndarray:
    """Return windows of the signals at random places, of unit norm."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(X), n_atoms)
    corners = np.stack(
        [rng.integers(0, n - k, n_atoms) for n, k in zip(X.shape[2:], kernel, strict=True)], axis=1
    )
    places = [tuple(slice(c, c + k) for c, k in zip(at, kernel, strict=True)) for at in corners]
    found = np.stack([X[row, :, *place] for row, place in zip(rows, places, strict=True)])
    return found / np.sqrt(np.square(found).sum(tuple(range(1, found.ndim)), keepdims=True))


def signals() -> Workload:
    X, atoms = planted(10, 1, 16_000, 20)
    return Workload(X, windows(X, N_ATOMS, (KERNEL,)), atoms, peers=("rosecdl", "alphacsc"))


def masked() -> Workload:
    X, atoms = planted(10, 1, 16_000, 20)
    mask = np.random.default_rng(1).random(X.shape) > 0.1
    return Workload(X, windows(X, N_ATOMS, (KERNEL,)), atoms, mask, peers=("sporco-masked",))


def channels() -> Workload:
    X, atoms = planted(4, 64, 4_000, 10)
    start = windows(X, N_ATOMS, (KERNEL,))
    u, _, v = np.linalg.svd(start, full_matrices=False)
    start = u[:, :, :1] @ v[:, :1]  # the nearest of rank one
    return Workload(X, start, atoms, settings={"filters": FilterSet(rank=1)}, peers=("alphacsc-rank1",))


def image() -> Workload:
    X, _ = high_passed_image()
    return Workload(X, windows(X, 32, (8, 8)), nonnegative=False, peers=("sporco",))


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "signals": signals, "masked": masked, "channels": channels, "image": image
}  # fmt: skip


def follow(name: str, settings: dict[str, Any], work: Workload, seconds: float) -> None:
    """Learn for some CPU seconds and print a row for each pass."""
    spent, begun = 0.0, time.process_time()

    def after(state: Any) -> bool:
        nonlocal spent, begun
        spent += time.process_time() - begun
        print(f"{name:32} {spent:8.2f} s CPU   {work.row(state.learned.atoms.numpy())}", flush=True)
        begun = time.process_time()
        return spent > seconds

    learner = ConvolutionalDictionaryLearner(
        alpha=work.alpha, nonnegative=work.nonnegative, init=work.start, max_iter=1000, tol=0, random_state=0
    )
    learner.set_params(**settings).fit(work.X, mask=work.mask, callbacks=[after])


def follow_peer(peer: str, python: str, work: Workload, seconds: float) -> None:
    """Print rows of a peer that learns in a process of its own, or that it cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        mask = np.ones(work.X.shape) if work.mask is None else work.mask.astype(float)
        np.savez(
            given,
            X=work.X.astype(np.float64),
            start=work.start.astype(np.float64),
            alpha=work.alpha,
            mask=mask,
        )
        command = [python, "-W", "ignore", str(PEERS), peer, str(given), str(found), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{peer}: not run ({done.stderr.strip().splitlines()[-1]:.80})")
            return
        with np.load(found) as file:
            spent, atoms = file["seconds"], file["atoms"].astype(np.float32)
    shown = list(zip(spent, atoms, strict=True))
    for when, of_iteration in shown[:: 4 if len(shown) > _FEW else 1]:
        norms = np.sqrt(np.square(of_iteration).sum(tuple(range(1, of_iteration.ndim)), keepdims=True))
        row = work.row(of_iteration / np.maximum(norms, 1e-12))
        print(f"{peer:32} {when:8.2f} s CPU   {row}", flush=True)


def print_parts(work: Workload) -> None:
    """Print the CPU seconds of the parts of a pass of the default: codes, moments, and the atoms."""
    start = torch.from_numpy(work.start)
    for last in (False, True):  # the first time compiles
        times = [time.process_time()]
        codes = convolutional_encode(
            work.X, work.start, alpha=work.alpha, nonnegative=work.nonnegative, tol=1e-3
        )
        times.append(time.process_time())
        S, B = moments.moments(start)
        moments.add_moments(S, B, SparseCodes.from_dense(torch.from_numpy(codes)), torch.from_numpy(work.X))
        times.append(time.process_time())
        moments.descend(start, S, B, n_iter=30)
        times.append(time.process_time())
        if last:
            coded, added, moved = np.diff(times)
            print(
                f"codes {coded:.3f} s, moments {added:.4f} s, 30 steps of the atoms {moved:.4f} s, in a pass"
            )


def compare(name: str, seconds: float) -> None:
    """Compare the learners on one workload."""
    work = WORKLOADS[name]()
    truth = "" if work.truth is None else f", of the planted atoms {work.objective(work.truth):.1f}"
    print(f"{name}: alpha {work.alpha:.4f}; objective of the start {work.objective(work.start):.1f}{truth}")
    if work.mask is None:
        print_parts(work)
    learners = {title: settings | work.settings for title, settings in LEARNERS.items()}
    if work.settings:  # of filters that Adam does not know
        learners = {"default": work.settings, "exact codes, Adam, any rank": LEARNERS["exact codes, Adam"]}
    small = work.X[:2, :, :500] if work.X.ndim == 3 else work.X[:, :, :64, :64]
    for title, settings in learners.items():
        warm = ConvolutionalDictionaryLearner(init=work.start, max_iter=1, **settings)
        warm.fit(small, mask=None if work.mask is None else work.mask[:2, :, :500])
        follow(title, settings, work, seconds)
    for peer in work.peers:
        python = sys.executable if peer == "rosecdl" else os.environ.get("CALEPIN_PEERS", sys.executable)
        follow_peer(peer, python, work, 4 * seconds)


def main() -> None:
    """Compare the learners on the workloads that the command line names, by default all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutional_learning", description=__doc__)
    parser.add_argument("workloads", nargs="*", choices=[[], *WORKLOADS], metavar="WORKLOAD")
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU seconds of each learner")
    arguments = parser.parse_args()
    for name in arguments.workloads or WORKLOADS:
        compare(name, arguments.seconds)


if __name__ == "__main__":
    main()
