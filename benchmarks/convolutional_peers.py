"""What `benchmarks.convolutional` runs in the peers' own environment: one JSON line for each run."""
# pyright: reportMissingImports=false

import json
import sys
import time
from collections.abc import Callable

import numpy as np


def report(name: str, code: Callable[[], np.ndarray], objective: Callable[[np.ndarray], float]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    z = code()
    row = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({"name": name, **row, "objective": float(objective(z))}), flush=True)


def sporco(y: np.ndarray, atoms: np.ndarray, alpha: float) -> None:
    from sporco.admm.cbpdn import ConvBPDN

    image, filters = y[0, 0], np.ascontiguousarray(atoms[:, 0].transpose(1, 2, 0))

    def code(n_iter: int) -> np.ndarray:
        options = {"MaxMainIter": n_iter, "RelStopTol": 1e-9, "AutoRho": {"Enabled": True}, "RelaxParam": 1.8}
        coder = ConvBPDN(filters, image, alpha, ConvBPDN.Options(options), dimK=0)
        coder.solve()
        return coder.Y.squeeze().astype(np.float64)

    def objective(z: np.ndarray) -> float:
        spectrum = np.fft.fft2(z, axes=(0, 1)) * np.fft.fft2(filters, image.shape, axes=(0, 1))
        rest = image - np.fft.ifft2(spectrum.sum(2)).real
        return 0.5 * (rest**2).sum() + alpha * np.abs(z).sum()

    code(2)
    for n_iter in (50, 200):
        report(f"sporco ADMM, {n_iter} iterations", lambda n=n_iter: code(n), objective)


def alphacsc(y: np.ndarray, atoms: np.ndarray, alpha: float) -> None:
    from alphacsc.update_z_multi import update_z_multi

    def code(y: np.ndarray, tol: float) -> np.ndarray:
        settings = {"tol": tol, "max_iter": 1_000_000}
        return update_z_multi(y, atoms, alpha, solver="lgcd", solver_kwargs=settings, n_jobs=1)[0]

    def objective(z: np.ndarray) -> float:
        made = [sum(np.convolve(row, d) for row, d in zip(code, atoms[:, 0], strict=True)) for code in z]
        return 0.5 * ((y[:, 0] - np.array(made)) ** 2).sum() + alpha * np.abs(z).sum()

    code(y[:1], 0.1)
    for tol in (1e-1, 1e-2, 1e-3):
        report(f"alphacsc LGCD, tol {tol:g}", lambda tol=tol: code(y, tol), objective)


def main() -> None:
    """Code the problem in the file that the command line names."""
    with np.load(sys.argv[1]) as file:
        y, atoms, alpha = file["y"], file["atoms"], float(file["alpha"])
    (alphacsc if y.ndim == 3 else sporco)(y, atoms, alpha)


if __name__ == "__main__":
    main()
