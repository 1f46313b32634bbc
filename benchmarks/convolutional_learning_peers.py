"""What `benchmarks.convolutional_learning` runs in the peers' environment, from copies on its Python path.

Writes the CPU seconds of learning after each iteration, and the atoms, to the file that the command line
names.
"""
# pyright: reportMissingImports=false

import contextlib
import sys
import time

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


def alphacsc(X: np.ndarray, start: np.ndarray, alpha: float, clock: Clock) -> None:
    """Learn by alternate minimisation, codes by LGCD."""
    from alphacsc.learn_d_z_multi import learn_d_z_multi

    settings = {
        "reg": alpha,
        "lmbd_max": "fixed",
        "rank1": False,
        "solver_z": "lgcd",
        "solver_z_kwargs": {"tol": 1e-3, "max_iter": 100_000},
        "D_init": start,
        "n_jobs": 1,
        "random_state": 0,
        "verbose": 0,
        "raise_on_increase": False,
    }
    learn_d_z_multi(X[:2, :, :1000], len(start), start.shape[2], n_iter=1, **settings)  # compiles
    clock.begun = time.process_time()
    learn_d_z_multi(
        X,
        len(start),
        start.shape[2],
        n_iter=1000,
        callback=lambda z_encoder, _: clock.note(z_encoder.D_hat),
        eps=-np.inf,
        **settings,
    )


def rosecdl(X: np.ndarray, start: np.ndarray, alpha: float, clock: Clock) -> None:
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


def main() -> None:
    """Learn from the signals in the file that the command line names, by one peer."""
    peer, path, out, seconds = sys.argv[1:]
    with np.load(path) as file:
        X, start, alpha = file["X"], file["start"], float(file["alpha"])
    clock = Clock(float(seconds))
    with contextlib.suppress(StopIteration):
        {"alphacsc": alphacsc, "rosecdl": rosecdl}[peer](X, start, alpha, clock)
    np.savez(out, seconds=clock.seconds, atoms=np.array(clock.atoms))


if __name__ == "__main__":
    main()
