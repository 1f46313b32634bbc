"""Regression of a coupled population beside nemos and statsmodels, on equal designs: likelihood and CPU time.

    python -m benchmarks.population                               calepin alone
    python -m benchmarks.population --statsmodels                 and statsmodels
    python -m benchmarks.population --nemos ENV/bin/python        and nemos, in an environment of its own
    python -m benchmarks.population --units 700 --bins 360000 --max-iter 1        memory

nemos gets the design that calepin makes, as one matrix, and fits all units by its ``PopulationGLM`` (Poisson,
L-BFGS, float64). Its compilation is not counted: the first fit warms up. statsmodels gets the same matrix,
and fits unit by unit (``GLM(...).fit(tol=1e-12)``, iteratively reweighted least squares).
"""
# pyright: reportMissingImports=false

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

N_LAGS, N_BASIS = 20, 5


def simulated(n_units: int, n_bins: int, seed: int = 0) -> np.ndarray:
    """Return counts (n_units, n_bins) of units that drive their right neighbour."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_units, n_bins), np.uint8)
    state = np.zeros(n_units)
    for n in range(n_bins):
        state = 0.7 * state
        if n:
            state += np.roll(0.5 * counts[:, n - 1], 1) - 0.5 * counts[:, n - 1]
        counts[:, n] = rng.poisson(np.exp(-3.0 + np.clip(state, -3, 2)))
    return counts


def ours(counts: np.ndarray, max_iter: int) -> dict[str, Any]:
    """Fit the population by calepin; return figures, and the log-likelihood of each unit."""
    from calepin.spikes import fit_population, raised_cosine_basis

    basis = raised_cosine_basis(N_LAGS, N_BASIS)
    fit_population(counts[:3, :2000], basis=basis, ridge=1.0)  # compiles
    wall, cpu = time.perf_counter(), time.process_time()
    fit = fit_population(counts, basis=basis, max_iter=max_iter, tol=1e-7)
    return {
        "name": "calepin",
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "log_likelihood": fit.log_likelihood.tolist(),
        "converged": int(fit.converged.sum()),
    }


def nemos(path: str) -> None:
    """Fit the population of a file by nemos, in its environment; print figures as JSON."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import nemos as nmo
    from scipy.special import gammaln

    with np.load(path) as file:
        X, y = file["X"], file["y"].astype(np.float64)

    def fit() -> Any:
        model = nmo.glm.PopulationGLM(
            observation_model="Poisson", solver_name="LBFGS", solver_kwargs={"tol": 1e-10, "maxiter": 5000}
        )
        return model.fit(X, y)

    fit()
    wall, cpu = time.perf_counter(), time.process_time()
    model = fit()
    figures = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    eta = X @ np.asarray(model.coef_) + np.asarray(model.intercept_)
    value = (y * eta - np.exp(eta) - gammaln(y + 1)).sum(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"name": "nemos", **figures, "peak_mb": peak, "log_likelihood": value.tolist()}))


def whole_design(counts: np.ndarray) -> np.ndarray:
    """Return the design of calepin as one matrix, its first column the intercept."""
    from calepin.spikes import raised_cosine_basis
    from calepin.spikes.population import _design

    design, _ = _design(counts, raised_cosine_basis(N_LAGS, N_BASIS), None, None)
    return np.concatenate([block.X for block in design.blocks()])


def statsmodels(counts: np.ndarray) -> dict[str, Any]:
    """Fit each unit by statsmodels; return figures, and the log-likelihood of each unit."""
    import statsmodels.api as sm

    X = whole_design(counts)
    wall, cpu = time.perf_counter(), time.process_time()
    values = [sm.GLM(y.astype(float), X, family=sm.families.Poisson()).fit(tol=1e-12).llf for y in counts]
    return {
        "name": "statsmodels",
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "log_likelihood": [float(value) for value in values],
    }


def beside(python: str, counts: np.ndarray) -> dict[str, Any]:
    """Return the figures of nemos on the design of calepin."""
    X = whole_design(counts)[:, 1:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "design.npz"
        np.savez(path, X=X, y=counts.T)
        command = [python, __file__, "--peer", str(path)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a line for each contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--bins", type=int, default=30_000)
    parser.add_argument("--max-iter", type=int, default=500)
    parser.add_argument("--nemos", help="Python of an environment with nemos")
    parser.add_argument("--statsmodels", action="store_true", help="fit by statsmodels, too")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        nemos(arguments.peer)
        return
    warnings.simplefilter("default")
    counts = simulated(arguments.units, arguments.bins)
    rows = [ours(counts, arguments.max_iter)]
    if arguments.nemos:
        rows.append(beside(arguments.nemos, counts))
    if arguments.statsmodels:
        rows.append(statsmodels(counts))
    for row in rows[1:]:
        gap = np.array(row["log_likelihood"]) - np.array(rows[0]["log_likelihood"])
        span = f"{gap.min():.2e} to {gap.max():.2e}"
        sys.stdout.write(f"{row['name']}: log-likelihood of a unit {span} nats above calepin's\n")
    for row in rows:
        total = sum(row.pop("log_likelihood"))
        sys.stdout.write(f"{json.dumps(row)} log-likelihood {total:.6f}\n")


if __name__ == "__main__":
    main()
