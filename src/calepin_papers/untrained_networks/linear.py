"""Theorem 1: a linear generator with a geometric spectrum recovers signals of low frequency.

sigma_i^2 = gamma^i over the trigonometric basis of n entries; signals of unit norm in the span of its
first p functions; Gaussian measurements. The estimate has a closed form, computed in float64.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.reconstruction import recovery_bound, trigonometric_basis
from calepin.report import Curve, curves, save_figure
from calepin_papers._common import band, spread

__all__ = ["CS_LINEAR", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation.

    Attributes
    ----------
    n_draws
        Independent matrices and signals for every m, gamma and p.
    """

    n_draws: int
    n: int = 300
    decays: tuple[float, ...] = (0.9, 0.95, 0.98)
    frequencies: tuple[int, ...] = (10, 20)
    measurements: tuple[int, ...] = (12, 20, 30, 45, 60, 90, 120, 180)
    shown_decay: float = 0.95
    shown_p: int = 10


def measure(settings: Settings, run: Run) -> Findings:
    """Compare squared errors with the bound, whose constant is the largest ratio seen."""
    rng = np.random.default_rng(run.seed)
    basis = trigonometric_basis(settings.n)
    errors: dict[tuple[float, int], NDArray] = {}
    bounds: dict[tuple[float, int], NDArray] = {}
    for done, decay in enumerate(settings.decays):
        run.progress(done / len(settings.decays), f"gamma {decay}")
        sigma = decay ** (np.arange(1, settings.n + 1) / 2)
        for p in settings.frequencies:
            cells = [
                [_draw(basis, sigma, p, m, rng) for _ in range(settings.n_draws)]
                for m in settings.measurements
            ]
            errors[decay, p], bounds[decay, p] = np.moveaxis(np.array(cells), 2, 0)
    ratios = np.array([errors[cell] / bounds[cell] for cell in errors])
    shown = errors[settings.shown_decay, settings.shown_p]
    at = {m: shown[i] for i, m in enumerate(settings.measurements)}
    values = {"largest_C": float(ratios.max()), "median_C": float(np.median(ratios))}
    for m in (30, 60, 120):
        if m in at:
            values |= spread(f"err_m{m}", at[m])
    claims = [Claim("Theorem 1 holds with a small constant: largest C", values["largest_C"], "<=", 0.3)]
    if 120 in at:
        claims.append(
            Claim(
                "low frequencies are recovered: error (m = 120, gamma .95, p 10)",
                values["err_m120"],
                "<=",
                1e-3,
            )
        )
    lines = {f"gamma {decay}, p {p}": band(settings.measurements, errors[decay, p].T) for decay, p in errors}
    middle = np.median(bounds[settings.shown_decay, settings.shown_p], 1)
    lines["bound, C 1 (gamma .95, p 10)"] = Curve(settings.measurements, middle)
    figure = curves(
        lines,
        xlabel="measurements m",
        ylabel="squared error",
        yscale="log",
        title="Recovery by a linear generator (median, range)",
    )
    save_figure(figure, run.folder / "linear.png")
    return Findings(values, claims, ["linear.png"])


def _draw(basis: NDArray, sigma: NDArray, p: int, m: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the squared error of one estimate and its bound."""
    coefficients = np.zeros(len(sigma))
    coefficients[:p] = rng.standard_normal(p)
    coefficients /= np.linalg.norm(coefficients)
    # in the basis, which is orthonormal, a Gaussian matrix is a Gaussian matrix
    A = rng.standard_normal((m, len(sigma))) / np.sqrt(m)
    Q, R = np.linalg.qr((A * sigma).T)
    estimate = sigma * (Q @ np.linalg.solve(R.T, A @ coefficients))
    error = float(((estimate - coefficients) ** 2).sum())
    return error, recovery_bound(basis.T @ coefficients, sigma, m, basis=basis)


CS_LINEAR = Experiment(
    name="cs-linear",
    shows="a linear generator with a falling spectrum recovers low frequencies, within the bound",
    source="Heckel and Soltanolkotabi 2020, Theorem 1",
    quick=Settings(n_draws=20),
    paper=Settings(n_draws=200),
    measure=measure,
)
