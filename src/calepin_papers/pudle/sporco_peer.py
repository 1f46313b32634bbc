"""Learn a dictionary by SPORCO: ``python sporco_peer.py PROBLEM.npz ATOMS.npy``.

This runs in an environment of its own, without calepin: SPORCO needs other versions of its dependencies.
"""

import sys
from importlib import import_module

import numpy as np


def main(problem: str, result: str) -> None:
    """Read y, atoms, alpha and n_iter; write the learned atoms, as rows."""
    learners = import_module("sporco.dictlrn.bpdndl")
    with np.load(problem) as file:
        y, atoms, alpha, n_iter = file["y"], file["atoms"], float(file["alpha"]), int(file["n_iter"])
    # rho of the sparse step as in SPORCO's example; that of the dictionary step is in proportion to samples
    options = learners.BPDNDictLearn.Options(
        {"Verbose": False, "MaxMainIter": n_iter, "BPDN": {"rho": 2.0}, "CMOD": {"rho": len(y) / 200}}
    )
    learner = learners.BPDNDictLearn(atoms.T, y.T, alpha, options)
    learner.solve()
    np.save(result, learner.getdict().T)


if __name__ == "__main__":
    main(*sys.argv[1:])
