"""sigpy for `benchmarks.scans`: ``python scans_peers.py PROBLEM.npz RESULT.npz``.

This runs in an environment of its own, without calepin. ESPIRiT calibrates one set of sensitivities from the
square middle of k-space; L1WaveletRecon and TotalVariationRecon have weights on a grid.
"""

import sys
import time
from importlib import import_module
from typing import Any

import numpy as np

LAMBDAS = (5e-4, 2e-3, 8e-3)


def main(problem: str, result: str) -> None:
    """Read k-space, mask and width of the middle; write images of the coils and CPU seconds."""
    with np.load(problem) as file:
        y, acquired, width = file["y"], file["acquired"], int(file["width"])
    app = import_module("sigpy.mri.app")
    begun = time.process_time()
    maps = app.EspiritCalib(
        y, calib_width=width, kernel_width=min(6, width // 2 + 1), crop=0.8, show_pbar=False
    ).run()
    calibration = time.process_time() - begun
    found: dict[str, Any] = {}
    for name, method in (("l1wavelet", app.L1WaveletRecon), ("tv", app.TotalVariationRecon)):
        for i, weight in enumerate(LAMBDAS):
            begun = time.process_time()
            image = method(y, maps, weight, weights=acquired.astype(float), show_pbar=False).run()
            found[f"{name}_{i}"] = (maps * image).astype(np.complex64)
            found[f"{name}_{i}_seconds"] = np.array(calibration + time.process_time() - begun)
    np.savez(result, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
