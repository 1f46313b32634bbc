"""Unfolded dictionary learning: the same conclusions with several optimisers, and which of them end at D*.

Tolooshams and Ba 2022, appendix B.1 ("consistent across various optimizers") and section 3.2: the atoms
that dec and ae-lasso learn are nearer to D*, the unit atoms that minimise the lasso's objective, than to the
truth, those of ae-ls nearer to the truth. Each optimiser learns through few layers by all three gradients,
and through infinitely many, where dec is ae-lasso.

With few layers ae-lasso is beyond dec with all of them. That ae-ls is beyond ae-lasso, as in figure 4c, is
not claimed: it is so with RMSprop, mostly with Adam, and with the others the three end near each other.

Adam and RMSprop, with atoms normalised after every step, do not end at D*: the penalty pulls atoms outwards,
and scaling that pull coordinate by coordinate makes it a motion along the sphere. Gradient descent, and Adam
with gradients along the sphere, do end there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.datasets import SparseData
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import ArrayBatches, AtomSet, Optimizer, TrainState, Unfolded, train
from calepin.metrics import dictionary_error
from calepin.penalties import L1
from calepin.report import curves, save_figure
from calepin.solvers import GradientRule
from calepin_papers._common import band, spread
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import FLOOR, best_atoms, draws, quiet_about_long_steps

__all__ = ["PUDLE_OPTIMISERS", "Settings"]

GRADIENTS: tuple[GradientRule, ...] = get_args(GradientRule)

OPTIMISERS: dict[str, tuple[str, Callable[[float], Optimizer], bool]] = {
    "adam": ("Adam", lambda rate: partial(torch.optim.Adam, lr=rate), False),
    "rmsprop": ("RMSprop", lambda rate: partial(torch.optim.RMSprop, lr=rate), False),
    "descent": ("gradient descent", lambda rate: partial(torch.optim.SGD, lr=rate, momentum=0.9), False),
    "tangent": ("Adam along the sphere", lambda rate: partial(torch.optim.Adam, lr=rate), True),
}
"""Title, optimiser of a learning rate, and whether gradients are projected onto the sphere, by name."""

DRIFTING = ("adam", "rmsprop")
"""Optimisers that do not end at D*."""


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation and of the runs.

    Attributes
    ----------
    n_draws
        Independent dictionaries, each with its samples; medians and ranges are over them.
    rates
        Learning rates, in the order of `OPTIMISERS`.
    n_unfold
        Layers, few.
    n_epochs
        Full-batch updates.
    n_passes
        Of the alternating minimisation that finds D*.
    closeness
        The atoms are moved by Gaussian noise of variance 1 / m, times this over log m.
    """

    n_samples: int
    n_draws: int
    n_features: int
    n_components: int
    n_nonzero: int
    n_epochs: int
    n_passes: int
    closeness: float
    rates: tuple[float, ...]
    every: int = 5
    n_unfold: int = 25
    alpha: float = 0.2
    step_size: float = 0.2


@single_threaded_torch()  # a second thread slows products of this size down
def measure(settings: Settings, run: Run) -> Findings:
    """Learn by each optimiser and each gradient in every draw, a piece each."""
    found: dict[tuple[str, str], list[dict[str, NDArray]]] = {}
    simulated = draws(settings, run, "learning by several optimisers", n_samples=settings.n_samples)
    for draw, (data, atoms) in enumerate(simulated):
        find_star = partial(best_atoms, data.X, data.atoms, alpha=settings.alpha, n_passes=settings.n_passes)
        star = run.piece(f"draw{draw}-star", lambda find=find_star: {"star": find()})["star"]
        for name, rate in zip(OPTIMISERS, settings.rates, strict=True):
            for kind, rule in _rules(name, rate, settings).items():
                learn = partial(_learn, rule, data, star, atoms, settings)
                found.setdefault((name, kind), []).append(run.piece(f"draw{draw}-{name}-{kind}", learn))
    values: dict[str, float] = {}
    for (name, kind), parts in found.items():
        true, to_star = (np.array([part[what] for part in parts]) for what in ("true", "star"))
        if kind.startswith("few"):
            numbers = {"lowest": true.min(1)}
        else:
            numbers = {"end": true[:, -1], "end_to_star": to_star[:, -1]}
        for what, of_draws in numbers.items():
            found_here = spread(f"{name}_{kind}_{what}", of_draws)
            values |= found_here if settings.n_draws > 1 else dict([*found_here.items()][:1])
    figures = [_draw(name, found, settings, run) for name in OPTIMISERS]
    return Findings(values, _claims(values), figures)


def _rules(name: str, rate: float, settings: Settings) -> dict[str, Unfolded]:
    """Return rules by few_dec, few_lasso, few_ls, many_lasso and many_ls."""
    _, optimiser, tangent = OPTIMISERS[name]
    rule = partial(Unfolded, L1(settings.alpha), optimizer=optimiser(rate), tangent=tangent)
    few = {
        f"few_{gradient.removeprefix('ae-')}": rule(
            n_unfold=settings.n_unfold, step_size=settings.step_size, gradient=gradient
        )
        for gradient in GRADIENTS
    }
    many: dict[str, Unfolded] = {
        "many_lasso": rule(gradient="ae-lasso", differentiate="implicit"),
        "many_ls": rule(gradient="ae-ls", differentiate="implicit"),
    }
    return few | many


def _learn(
    rule: Unfolded, data: SparseData, star: NDArray, atoms: NDArray[np.float64], settings: Settings
) -> dict[str, Any]:
    """Return relative errors to the truth and to D*, at the start and after every few epochs."""
    start = AtomSet("sphere").project(atoms)
    true, to_star = [dictionary_error(start, data.atoms)], [dictionary_error(start, star)]

    def note(state: TrainState) -> None:
        if state.n_steps % settings.every == 0:
            true.append(dictionary_error(state.learned.atoms, data.atoms))
            to_star.append(dictionary_error(state.learned.atoms, star))

    batches = ArrayBatches(data.X.astype(np.float32), None)
    state = TrainState(rule.init(start.astype(np.float32)))
    with quiet_about_long_steps():
        train(rule, batches, state, max_iter=settings.n_epochs, callbacks=[note])
    return {"true": true, "star": to_star}


def _claims(values: dict[str, float]) -> list[Claim]:
    claims = []
    for name, (title, _, _) in OPTIMISERS.items():
        dec, lasso = (values[f"{name}_few_{kind}_lowest"] for kind in ("dec", "lasso"))
        end = {kind: values[f"{name}_many_{kind}_end"] for kind in ("lasso", "ls")}
        star = {kind: values[f"{name}_many_{kind}_end_to_star"] for kind in end}
        claims += [
            Claim(f"{title}, few layers: ae-lasso's lowest error over dec's", lasso / dec, "<=", 1.0),
            Claim(f"{title}, all layers: ae-lasso ends nearer to D* than to the truth: ratio of distances",
                  star["lasso"] / end["lasso"], "<=", 1.0 if name in DRIFTING else 0.1),
            Claim(f"{title}, all layers: ae-ls ends nearer to the truth than to D*: ratio of distances",
                  end["ls"] / star["ls"], "<=", 1.0),
        ]  # fmt: skip
    return claims


def _draw(
    name: str, found: dict[tuple[str, str], list[dict[str, NDArray]]], settings: Settings, run: Run
) -> str:
    kinds = {
        "few_dec": f"dec, T = {settings.n_unfold}",
        "few_lasso": f"ae-lasso, T = {settings.n_unfold}",
        "few_ls": f"ae-ls, T = {settings.n_unfold}",
        "many_lasso": "dec and ae-lasso, all layers",
        "many_ls": "ae-ls, all layers",
    }
    lines = {}
    for kind, title in kinds.items():
        errors = np.array([part["true"] for part in found[name, kind]])
        lines[title] = band(settings.every * np.arange(errors.shape[1]), errors, floor=FLOOR)
    figure = curves(
        lines,
        xlabel="epochs",
        ylabel="relative error of the dictionary",
        yscale="log",
        title=f"Learning by {OPTIMISERS[name][0]} (median, range)",
    )
    file = f"learning-{name}.png"
    save_figure(figure, run.folder / file)
    return file


PUDLE_OPTIMISERS = Experiment(
    name="pudle-optimisers",
    shows="several optimisers lead to the same order of dec, ae-lasso and ae-ls; which of them end at D*",
    source="Tolooshams and Ba 2022, App. B.1, Sec. 3.2",
    quick=Settings(
        n_samples=600,
        n_draws=1,
        n_features=30,
        n_components=50,
        n_nonzero=3,
        n_epochs=100,
        n_passes=60,
        closeness=2.4,
        rates=(1e-2, 5e-3, 2.0, 1e-2),
        every=10,
    ),
    paper=Settings(
        n_samples=10_000,
        n_draws=1,
        n_features=50,
        n_components=100,
        n_nonzero=5,
        n_epochs=600,
        n_passes=200,
        closeness=2.8,
        rates=(1e-3, 1e-3, 2.0, 1e-3),
        every=20,
    ),
    measure=measure,
)
