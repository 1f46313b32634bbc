"""What `benchmarks.convolutional_learning` runs in the peers' environment, from copies on its Python path.

Writes the CPU seconds of learning after each iteration, and the atoms, to the file that the command line
names.
"""
# pyright: reportMissingImports=false

import contextlib
import sys
import time
from functools import partial
from typing import Any

import numpy as np


class Clock:
    """CPU seconds of learning and the atoms after each iteration; StopIteration when the time is over."""

    def __init__(self, seconds: float) -> None:
        self.limit, self.spent, self.begun = seconds, 0.0, time.process_time()
        self.seconds: list[float] = []
        self.atoms: list[np.ndarray] = []

    def note(self, atoms: np.ndarray) -> None:
        """Keep the atoms; the clock stands still meanwhile."""
        self.spent += time.process_time() - self.begun
        self.seconds.append(self.spent)
        self.atoms.append(np.array(atoms))
        if self.spent > self.limit:
            raise StopIteration
        self.begun = time.process_time()


def alphacsc(
    X: np.ndarray, start: np.ndarray, alpha: float, mask: np.ndarray, clock: Clock, *, rank1: bool = False
) -> None:
    """Learn by alternate minimisation, codes by LGCD."""
    from alphacsc.learn_d_z_multi import learn_d_z_multi

    n_channels, kernel = start.shape[1:]

    def full(atoms: np.ndarray) -> np.ndarray:
        return atoms[:, :n_channels, None] * atoms[:, None, n_channels:] if rank1 else atoms

    settings = {
        "reg": alpha,
        "lmbd_max": "fixed",
        "rank1": rank1,
        "solver_z": "lgcd",
        "solver_z_kwargs": {"tol": 1e-3, "max_iter": 100_000},
        "D_init": two_factors(start) if rank1 else start,
        "n_jobs": 1,
        "random_state": 0,
        "verbose": 0,
        "raise_on_increase": False,
    }
    learn_d_z_multi(X[:2, :, :1000], len(start), kernel, n_iter=1, **settings)  # compiles
    clock.begun = time.process_time()
    learn_d_z_multi(
        X,
        len(start),
        kernel,
        n_iter=1000,
        callback=lambda z_encoder, _: clock.note(full(z_encoder.D_hat)),
        eps=-np.inf,
        **settings,
    )


def two_factors(atoms: np.ndarray) -> np.ndarray:
    """Return the patterns of the channels beside the waveforms of atoms of rank one."""
    u, s, v = np.linalg.svd(atoms, full_matrices=False)
    return np.concatenate([u[:, :, 0], s[:, :1] * v[:, 0]], axis=1)


def sporco(
    X: np.ndarray, start: np.ndarray, alpha: float, mask: np.ndarray, clock: Clock, *, masked: bool = False
) -> None:
    """Learn by alternating steps of ADMM (codes) and of FISTA (atoms); with a mask by mask decoupling."""
    from sporco.dictlrn import cbpdndl, cbpdndlmd

    n_axes = X.ndim - 2
    given = np.moveaxis(X[:, 0], 0, -1)  # (*spatial, n)
    atoms = np.moveaxis(start[:, 0], 0, -1)

    def note(solver: Any) -> None:
        clock.note(np.moveaxis(solver.getdict().squeeze(), -1, 0)[:, None])

    settings = {"Verbose": False, "MaxMainIter": 100_000, "Callback": note, "AccurateDFid": False}
    if masked:
        learn = cbpdndlmd.ConvBPDNMaskDictLearn
        weights = np.moveaxis(mask[:, 0], 0, -1)[..., None, :, None]  # (*spatial, channels, n, atoms)
        options = learn.Options(settings | {"CBPDN": {"NonNegCoef": True}}, dmethod="cns")
        solver = learn(atoms, given, alpha, weights, options, dmethod="cns", dimK=1, dimN=n_axes)
    else:
        learn = cbpdndl.ConvBPDNDictLearn
        options = learn.Options(settings | {"CBPDN": {"AutoRho": {"Enabled": True}}}, dmethod="pgm")
        solver = learn(atoms, given, alpha, options, dmethod="pgm", dimK=1, dimN=n_axes)
    clock.begun = time.process_time()
    solver.solve()


def rosecdl(X: np.ndarray, start: np.ndarray, alpha: float, mask: np.ndarray, clock: Clock) -> None:
    """Learn from random windows by stochastic line search."""
    import torch
    from rosecdl.rosecdl import RoseCDL

    torch.set_num_threads(1)
    learner = RoseCDL(
        alpha,
        D_init=start,
        scale_lmbd=False,
        epochs=1000,
        random_state=0,
        callbacks=[lambda model, *_: clock.note(model.csc.D_hat_)],
    )
    clock.begun = time.process_time()
    learner.fit(X[:, 0])


PEERS = {
    "alphacsc": alphacsc,
    "alphacsc-rank1": partial(alphacsc, rank1=True),
    "rosecdl": rosecdl,
    "sporco": sporco,
    "sporco-masked": partial(sporco, masked=True),
}


def main() -> None:
    """Learn from the signals in the file that the command line names, by one peer."""
    peer, path, out, seconds = sys.argv[1:]
    with np.load(path) as file:
        X, start, alpha, mask = file["X"], file["start"], float(file["alpha"]), file["mask"]
    clock = Clock(float(seconds))
    with contextlib.suppress(StopIteration):
        PEERS[peer](X, start, alpha, mask, clock)
    np.savez(out, seconds=clock.seconds, atoms=np.array(clock.atoms))


if __name__ == "__main__":
    main()
