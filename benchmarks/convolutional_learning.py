"""Learning of convolutional dictionaries: ``python -m benchmarks.convolutional_learning [SECONDS]``.

The set-up of RoseCDL (Allain et al., 2025): 10 signals of 16,000 samples, 10 atoms of 64 samples, each 20
times in each signal with amplitudes U(.5, 1.5), noise of deviation .03; alpha is a tenth of the largest
correlation of signals and initial atoms, codes are nonnegative. Each row is a pass: CPU seconds of learning
so far, the objective of all signals with codes of a duality gap of 1e-5, and how many planted atoms have a
cosine of .95 with a learned one, at the best shift. Evaluation is not timed. SECONDS (10) is the CPU time of
each learner; peers get four times as much, and every fourth of their iterations is shown. They run from
copies on PYTHONPATH, RoseCDL here, alphacsc in the environment whose Python CALEPIN_PEERS names (NumPy below
2): ``PYTHONPATH=RoseCDL:alphacsc CALEPIN_PEERS=python python -m benchmarks.convolutional_learning``.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.signal import correlate

from calepin import ConvolutionalDictionaryLearner
from calepin.learning.rules import _convolutional_moments as moments
from calepin.solvers import convolutional_encode
from calepin.solvers.coders.sparse_codes import SparseCodes

N_SIGNALS, LENGTH, N_ATOMS, KERNEL, N_EVENTS, NOISE = 10, 16_000, 10, 64, 20, 0.03
PEERS = Path(__file__).with_name("convolutional_learning_peers.py")
LEARNERS = {
    "default": {},
    "exact codes, Adam": {"coder": "exact", "optimizer": "adam"},
    "100 iterations of FISTA, Adam": {"coder": "fista", "optimizer": "adam"},
}


def planted(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return signals (n, 1, length) and the atoms in them (n_atoms, 1, kernel)."""
    rng = np.random.default_rng(seed)
    t = np.arange(KERNEL)
    atoms = np.zeros((N_ATOMS, 1, KERNEL))
    for atom in atoms:
        for frequency, phase in zip(rng.uniform(0.02, 0.12, 2), rng.uniform(0, 2 * np.pi, 2), strict=True):
            atom[0] += np.hanning(KERNEL) * np.sin(2 * np.pi * frequency * t + phase)
        atom /= np.linalg.norm(atom)
    X = NOISE * rng.standard_normal((N_SIGNALS, 1, LENGTH))
    for signal in X:
        for atom in atoms:
            for start in rng.integers(0, LENGTH - KERNEL + 1, N_EVENTS):
                signal[:, start : start + KERNEL] += rng.uniform(0.5, 1.5) * atom
    return X.astype(np.float32), atoms.astype(np.float32)


def windows(X: np.ndarray, seed: int) -> np.ndarray:
    """Return windows of the signals at random places, of unit norm."""
    rng = np.random.default_rng(seed)
    places = zip(rng.integers(0, N_SIGNALS, N_ATOMS), rng.integers(0, LENGTH - KERNEL, N_ATOMS), strict=True)
    found = np.stack([X[row, :, start : start + KERNEL] for row, start in places])
    return found / np.sqrt(np.square(found).sum((1, 2), keepdims=True))


def objective(X: np.ndarray, atoms: np.ndarray, alpha: float) -> float:
    """Return the objective of all signals with exact codes."""
    codes, info = convolutional_encode(X, atoms, alpha=alpha, nonnegative=True, tol=1e-5, return_info=True)
    return float(0.5 * info.residual.sum() + alpha * codes.sum(dtype=np.float64))


def n_found(atoms: np.ndarray, truth: np.ndarray) -> int:
    """Return how many planted atoms were found, up to shifts."""
    return sum(max(abs(correlate(t[0], a[0])).max() for a in atoms) > 0.95 for t in truth)


def follow(name: str, settings: dict, X: np.ndarray, truth: np.ndarray, alpha: float, seconds: float) -> None:
    """Learn for some CPU seconds and print a row for each pass."""
    spent, begun = 0.0, time.process_time()

    def after(state) -> bool:
        nonlocal spent, begun
        spent += time.process_time() - begun
        atoms = state.learned.atoms.numpy()
        worth, found = objective(X, atoms, alpha), n_found(atoms, truth)
        print(
            f"{name:32} {spent:8.2f} s CPU   objective {worth:8.1f}   {found:2} of {N_ATOMS} atoms",
            flush=True,
        )
        begun = time.process_time()
        return spent > seconds

    learner = ConvolutionalDictionaryLearner(
        N_ATOMS,
        KERNEL,
        alpha=alpha,
        nonnegative=True,
        init=windows(X, 0),
        max_iter=1000,
        tol=0,
        random_state=0,
    )
    learner.set_params(**settings).fit(X, callbacks=[after])


def follow_peer(
    peer: str, python: str, X: np.ndarray, truth: np.ndarray, alpha: float, seconds: float
) -> None:
    """Print rows of a peer that learns in a process of its own, or that it cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, X=X.astype(np.float64), start=windows(X, 0).astype(np.float64), alpha=alpha)
        command = [python, "-W", "ignore", str(PEERS), peer, str(given), str(found), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{peer}: not run ({done.stderr.strip().splitlines()[-1]:.80})")
            return
        with np.load(found) as file:
            spent, atoms = file["seconds"], file["atoms"].astype(np.float32)
    for when, of_iteration in list(zip(spent, atoms, strict=True))[::4]:
        norms = np.sqrt(np.square(of_iteration).sum((1, 2), keepdims=True))
        unit = of_iteration / np.maximum(norms, 1e-12)
        worth, n = objective(X, unit, alpha), n_found(unit, truth)
        print(f"{peer:32} {when:8.2f} s CPU   objective {worth:8.1f}   {n:2} of {N_ATOMS} atoms", flush=True)


def print_parts(X: np.ndarray, atoms: np.ndarray, alpha: float) -> None:
    """Print the CPU seconds of the parts of a pass of the default: codes, moments, and the atoms."""
    start = torch.from_numpy(atoms)
    for last in (False, True):  # the first time compiles
        times = [time.process_time()]
        codes = convolutional_encode(X, atoms, alpha=alpha, nonnegative=True, tol=1e-3)
        times.append(time.process_time())
        S, B = moments.moments(start)
        moments.add_moments(S, B, SparseCodes.from_dense(torch.from_numpy(codes)), torch.from_numpy(X))
        times.append(time.process_time())
        moments.descend(start, S, B, n_iter=30)
        times.append(time.process_time())
        if last:
            coded, added, moved = np.diff(times)
            print(
                f"codes {coded:.3f} s, moments {added:.4f} s, 30 steps of the atoms {moved:.4f} s, in a pass"
            )


def main() -> None:
    """Compare the learners on one draw."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    X, truth = planted(0)
    start = windows(X, 0)
    alpha = 0.1 * max(correlate(x[0], atom[0], mode="valid").max() for x in X for atom in start)
    print(f"alpha {alpha:.4f}; objective of the start {objective(X, start, alpha):.1f}, of the planted atoms "
          f"{objective(X, truth, alpha):.1f}")  # fmt: skip
    print_parts(X, start, alpha)
    for name, settings in LEARNERS.items():
        warm = ConvolutionalDictionaryLearner(2, 8, alpha=alpha, max_iter=1, random_state=0, **settings)
        warm.fit(X[:2, :, :500])
        follow(name, settings, X, truth, alpha, seconds)
    follow_peer("rosecdl", sys.executable, X, truth, alpha, 4 * seconds)
    follow_peer("alphacsc", os.environ.get("CALEPIN_PEERS", sys.executable), X, truth, alpha, 4 * seconds)


if __name__ == "__main__":
    main()
