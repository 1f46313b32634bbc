"""Unfolded dictionary learning: after how many layers the support of the lasso is found, and what follows.

Tolooshams and Ba 2022, proposition 3.1, lemmas A.1 and A.2, and theorem 3.1. With the limit z_hat of the
layers, its support S, and s = step size, the margin of a sample is

    omega = min over j outside S of s (alpha - |d_j . (x - z_hat D)|)

The number B of layers after which the support is that of z_hat for good is compared with three predictions:

    bound     ||z_hat||^2 / omega^2: at most so many layers have a nonzero outside S
              (Hale, Yin and Zhang 2007, theorem 4.5, from which the paper takes the proposition)
    distance  the first layer with ||z_t - z_hat|| below the margin and below each |z_hat_j| of S. The layers
              do not increase distances, and none of that size changes the support: B is at most that.
    rate      the layer at which rho^t ||z_hat|| is that small; an estimate

From B on, each layer multiplies the distance by at most rho, the norm of I - s D_S D_S^T (theorem 3.1).
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.penalties import L1
from calepin.problem import Problem
from calepin.report import Curve, curves, save_figure
from calepin.solvers import ISTA, solve
from calepin_papers._common import spread
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import draws

__all__ = ["PUDLE_SUPPORT", "Settings"]

_FLOOR = 1e-9  # a ratio of distances is measured above it: rounding is 1e-15


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation, and of what is measured.

    Attributes
    ----------
    n_draws
        Independent dictionaries, each with its samples; values are over all samples.
    n_unfold
        Layers that are followed; a support that is not found by then is never found.
    closeness
        The atoms are moved by Gaussian noise of variance 1 / m, times this over log m.
    """

    n_samples: int
    n_draws: int
    n_unfold: int
    n_features: int = 50
    n_components: int = 100
    n_nonzero: int = 5
    alpha: float = 0.2
    step_size: float = 0.2
    closeness: float = 0.55


@single_threaded_torch()  # a second thread slows products of this size down
def measure(settings: Settings, run: Run) -> Findings:
    """Follow the layers of every sample, and compare what is seen with what is predicted."""
    parts = []
    simulated = draws(settings, run, "supports layer by layer", n_samples=settings.n_samples)
    for draw, (data, atoms) in enumerate(simulated):
        parts.append(run.piece(f"draw{draw}", partial(_follow, data.X, atoms, settings)))
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    seen, distance, rate = found["seen"], found["distance"], found["rate"]
    selected = seen <= settings.n_unfold
    values = {
        **spread("layers_seen", seen),
        **spread("layers_by_distance", distance),
        **spread("layers_by_rate", rate),
        **spread("log10_bound", np.log10(found["bound"])),
        "fraction_selected": float(selected.mean()),
        "fraction_within_distance": float((seen <= distance).mean()),
        "fraction_within_rate": float((seen <= rate).mean()),
        "wrong_over_bound": float((found["wrong"] / found["bound"]).max()),
        "distance_over_seen": float(np.median(distance / seen)),
        "correlation_distance": _correlation(seen, distance),
        "correlation_rate": _correlation(seen, rate),
        "least_eigenvalue": float(found["mu"].min()),
        **spread("rho", found["rho"]),
        "contraction_over_rho": float(found["contraction"].max()),
    }
    claims = [
        Claim("Prop. 3.1: fraction of samples whose support is found for good", values["fraction_selected"],
              ">=", 1.0),
        Claim("B is at most the layer that the distance predicts: fraction of samples",
              values["fraction_within_distance"], ">=", 1.0),
        Claim("layers with a nonzero too many, over the bound of Hale, Yin and Zhang",
              values["wrong_over_bound"], "<=", 1.0),
        Claim("B follows the layer that the distance predicts: correlation of logarithms",
              values["correlation_distance"], ">=", 0.6),
        Claim("Lemma A.1: the least eigenvalue of D_S D_S^T", values["least_eigenvalue"], ">=", 1e-3),
        Claim("Lemma A.2: the largest rho", values["rho_max"], "<=", 0.999),
        Claim("Thm. 3.1: the largest ratio of two distances after B, over rho",
              values["contraction_over_rho"], "<=", 1 + 1e-5),
    ]  # fmt: skip
    return Findings(values, claims, [_draw(seen, distance, settings, run)])


def _follow(
    y: NDArray[np.float64], atoms: NDArray[np.float64], settings: Settings
) -> dict[str, NDArray[np.float64]]:
    """Return B as seen and as predicted, and the contraction, for each sample."""
    problem = Problem(Dense(torch.from_numpy(atoms)), Gaussian(), torch.from_numpy(y))
    layer = ISTA(L1(settings.alpha), settings.step_size)
    limit = solve(problem, layer, n_iter=1, differentiate="implicit").z.numpy()
    support = limit != 0
    gaps = settings.step_size * (settings.alpha - np.abs((y - limit @ atoms) @ atoms.T))
    omega = np.where(support, np.inf, gaps).min(1)
    margin = np.minimum(omega, np.where(support, np.abs(limit), np.inf).min(1))
    size = np.linalg.norm(limit, axis=1)
    mu, rho = np.array([_curvature(atoms[on], settings.step_size) for on in support]).T

    z = problem.zeros()
    distances, same, wrong = [], [], np.zeros(len(y))
    for _ in range(settings.n_unfold):
        z = solve(problem, layer, n_iter=1, z0=z).z
        code = z.numpy()
        distances.append(np.linalg.norm(code - limit, axis=1))
        same.append(((code != 0) == support).all(1))
        wrong += ((code != 0) & ~support).any(1)
    distance, found = np.array(distances), np.array(same)
    seen = _first_for_good(found)
    return {
        "seen": seen,
        "distance": _first_for_good(distance < margin),
        "rate": np.log(size / margin) / -np.log(rho),
        "bound": (size / omega) ** 2,
        "wrong": wrong,
        "mu": mu,
        "rho": rho,
        "contraction": np.array(
            [_ratio(distance[int(n) :, i]) / rho[i] for i, n in enumerate(seen)],
        ),
    }


def _curvature(active: NDArray[np.float64], step_size: float) -> tuple[float, float]:
    """Return the least eigenvalue of the Gram matrix of some atoms, and the norm of I - s Gram."""
    eigenvalues = np.linalg.eigvalsh(active @ active.T)
    return float(eigenvalues[0]), float(np.abs(1 - step_size * eigenvalues).max())


def _first_for_good(holds: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return, for each column, the first layer (from 1) from which on all entries are true; n + 1 if none."""
    never = ~holds
    return np.where(never.any(0), len(holds) - np.argmax(never[::-1], axis=0) + 1.0, 1.0)


def _ratio(distances: NDArray[np.float64]) -> float:
    """Return the largest ratio of successive distances above rounding, 0 without any."""
    above = distances[distances > _FLOOR]
    return float((above[1:] / above[:-1]).max()) if len(above) > 1 else 0.0


def _correlation(seen: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    if np.ptp(seen) == 0 or np.ptp(predicted) == 0:
        return np.nan
    return float(np.corrcoef(np.log(seen), np.log(predicted))[0, 1])


def _draw(seen: NDArray[np.float64], distance: NDArray[np.float64], settings: Settings, run: Run) -> str:
    t = np.arange(1, min(settings.n_unfold, int(distance.max())) + 1)
    lines = {
        "seen": Curve(t, (seen <= t[:, None]).mean(1)),
        "predicted from the distance": Curve(t, (distance <= t[:, None]).mean(1)),
    }
    figure = curves(
        lines,
        xlabel="layers t",
        ylabel="fraction of samples",
        title="Samples whose support is that of the lasso",
    )
    file = "support.png"
    save_figure(figure, run.folder / file)
    return file


PUDLE_SUPPORT = Experiment(
    name="pudle-support",
    shows="after B layers the support is that of the lasso, as predicted, and errors contract",
    source="Tolooshams and Ba 2022, Prop. 3.1, Thm. 3.1, Lemmas A.1, A.2",
    quick=Settings(n_samples=60, n_draws=3, n_unfold=1000),
    paper=Settings(n_samples=1000, n_draws=3, n_unfold=3000),
    measure=measure,
)
