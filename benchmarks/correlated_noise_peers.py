"""bm3d for `benchmarks.correlated_noise`: ``python correlated_noise_peers.py PROBLEM.npz RESULT.npz``.

This runs in an environment of its own, without calepin: bm3d needs an older NumPy.
"""

import sys
import time
from importlib import import_module

import numpy as np


def main(problem: str, result: str) -> None:
    """Read the noisy image, sigma and the density; write the three results and their CPU seconds."""
    bm3d, found, seconds = import_module("bm3d"), {}, []
    with np.load(problem) as file:
        y, sigma, psd = file["y"], float(file["sigma"]), file["psd"]
    ways = {"white": (sigma, "np"), "psd": (psd * psd.size, "np"), "refilter": (psd * psd.size, "refilter")}
    for name, (noise, profile) in ways.items():
        begun = time.process_time()
        found[name] = bm3d.bm3d(y, noise, profile=profile)
        seconds.append(time.process_time() - begun)
    np.savez(result, seconds=seconds, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
