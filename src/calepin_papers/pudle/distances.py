"""Unfolded dictionary learning: where each gradient points.

Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022, figures 4a and 4b.
Atoms D lie about .55 / log m from those, D~, that made the data. Three gradients through T layers at D
are compared with two global directions, ``z^T (z D - y) / n`` at fixed codes z:

    g*   codes of the lasso with D*, the unit atoms that minimise the lasso's objective of the data
    g~   codes that made the data

dec and ae-lasso should be nearer to g*, ae-ls nearer to g~. D* is found from D~ by alternating
minimisation with exact codes until it converges. (Adam with normalised atoms does not find it: the penalty
pulls atoms outwards, and Adam scales that pull into a motion along the sphere.)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from calepin import sparse_encode
from calepin.datasets import SparseData
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import dictionary_gradient
from calepin.metrics import dictionary_error
from calepin.penalties import L1
from calepin.report import curves, save_figure
from calepin.solvers import GradientRule
from calepin_papers._common import band, spread
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import FLOOR, best_atoms, draws
from calepin_papers.pudle.errors import decoder_gradient

__all__ = ["PUDLE_GLOBAL", "Settings"]

GRADIENTS: tuple[GradientRule, ...] = get_args(GradientRule)
TARGETS = {"star": "g*", "true": "g~"}


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation, and of what is measured.

    Attributes
    ----------
    n_draws
        Independent dictionaries, each with its samples; medians and ranges are over them.
    closeness
        The atoms are moved by Gaussian noise of variance 1 / m, times this over log m.
    layers
        Numbers of layers at which distances are measured; values are those of the last.
    n_passes
        Of the alternating minimisation that finds D*.
    """

    n_samples: int
    n_draws: int
    layers: tuple[int, ...]
    n_passes: int
    n_features: int = 50
    n_components: int = 100
    n_nonzero: int = 5
    alpha: float = 0.2
    step_size: float = 0.2
    closeness: float = 0.55


@single_threaded_torch()  # a second thread slows products of this size down
def measure(settings: Settings, run: Run) -> Findings:
    """Measure the distances of each gradient to g* and to g~ after each number of layers."""
    simulated = draws(settings, run, "gradients beside g* and g~", n_samples=settings.n_samples)
    parts = [
        run.piece(f"draw{draw}", partial(_distances, data, atoms, settings))
        for draw, (data, atoms) in enumerate(simulated)
    ]
    errors_star = [float(part["error_star"]) for part in parts]
    distances: dict[tuple[str, GradientRule], NDArray[np.float64]] = {
        (name, kind): np.array([part[f"{name}-{kind}"] for part in parts])
        for name in TARGETS
        for kind in GRADIENTS
    }
    last = {key: rows[:, -1] for key, rows in distances.items()}
    values = {
        **spread("ls_over_lasso_true", last["true", "ae-ls"] / last["true", "ae-lasso"]),
        **spread("lasso_over_ls_star", last["star", "ae-lasso"] / last["star", "ae-ls"]),
        **spread("error_star", errors_star),
    }
    for (name, kind), numbers in last.items():
        values |= spread(f"{kind.removeprefix('ae-')}_to_{name}", numbers)
    claims = [
        Claim(
            "ae-ls is nearer to g~: distance over that of ae-lasso",
            values["ls_over_lasso_true"],
            "<=",
            0.75,
        ),
        Claim(
            "ae-lasso is nearer to g*: distance over that of ae-ls", values["lasso_over_ls_star"], "<=", 0.6
        ),
    ]
    figures = [_draw(name, distances, settings, run) for name in TARGETS]
    return Findings(values, claims, figures)


def _distances(data: SparseData, atoms: NDArray[np.float64], settings: Settings) -> dict[str, Any]:
    """Return the error of D* to D~, and the distances to g* and g~ after each number of layers."""
    best = best_atoms(data.X, data.atoms, alpha=settings.alpha, n_passes=settings.n_passes)
    codes = sparse_encode(data.X, best, alpha=settings.alpha, tol=1e-10)
    targets = {
        "star": decoder_gradient(data.X, codes, atoms),
        "true": decoder_gradient(data.X, data.codes, atoms),
    }
    found: dict[str, Any] = {"error_star": dictionary_error(best, data.atoms)}
    for kind in GRADIENTS:
        gradients = [_gradient(data.X, atoms, kind, t, settings) for t in settings.layers]
        for name, target in targets.items():
            found[f"{name}-{kind}"] = [float(np.linalg.norm(gradient - target)) for gradient in gradients]
    return found


def _gradient(
    y: NDArray[np.float64], atoms: NDArray[np.float64], kind: GradientRule, t: int, settings: Settings
) -> NDArray[np.float64]:
    return dictionary_gradient(
        y, atoms, penalty=L1(settings.alpha), n_unfold=t, step_size=settings.step_size, gradient=kind
    )


def _draw(
    name: str, distances: dict[tuple[str, GradientRule], NDArray[np.float64]], settings: Settings, run: Run
) -> str:
    layers = np.array(settings.layers)
    figure = curves(
        {kind: band(layers, distances[name, kind], floor=FLOOR) for kind in GRADIENTS},
        xlabel="layers t",
        ylabel=f"distance to {TARGETS[name]}",
        yscale="log",
        title=f"Gradients beside {TARGETS[name]} (median, range)",
    )
    file = f"distance-{name}.png"
    save_figure(figure, run.folder / file)
    return file


PUDLE_GLOBAL = Experiment(
    name="pudle-global",
    shows="ae-lasso and dec point to the lasso's optimal dictionary, ae-ls to the one that made the data",
    source="Tolooshams and Ba 2022, Fig. 4a, 4b",
    quick=Settings(n_samples=500, n_draws=3, layers=(5, 10, 25, 50, 100, 200), n_passes=100),
    paper=Settings(n_samples=10_000, n_draws=3, layers=(5, 10, 25, 50, 100, 150, 200), n_passes=200),
    measure=measure,
)
