"""Peers of `benchmarks.restoration`: ``python restoration_peers.py JOB PROBLEM.npz RESULT.npy``.

This runs in an environment of its own, without calepin: bm3d_deblurring needs an older NumPy.
"""

import sys
from importlib import import_module

import numpy as np


def main(job: str, problem: str, result: str) -> None:
    """Read y, psf and sigma; write the restored image."""
    with np.load(problem) as file:
        y, psf, sigma = file["y"], file["psf"], float(file["sigma"])
    if job == "bm3d":
        restored = import_module("bm3d").bm3d_deblurring(np.atleast_3d(y), sigma, psf)
        np.save(result, np.squeeze(restored))
        return
    demosaicing = import_module("colour_demosaicing")
    methods = {
        "menon": demosaicing.demosaicing_CFA_Bayer_Menon2007,
        "malvar": demosaicing.demosaicing_CFA_Bayer_Malvar2004,
    }
    np.save(result, np.moveaxis(methods[job](y, "RGGB"), -1, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
