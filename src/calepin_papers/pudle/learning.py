"""Unfolded dictionary learning: what the three gradients learn, with few layers and with many.

Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022, figures 4c and 4d.
Atoms begin about 2.8 / log m from those that made the data and move by full-batch Adam, normalised after
every step. With T = 25 layers ae-lasso learns better than dec (its gradient converges faster); with T = 100
the two agree; ae-ls ends nearest to the truth with both. dec and ae-lasso first approach the truth, then
drift away from it, so that their lowest errors over the epochs are compared.

The atoms that are learned at the end are compared with D* too, the unit atoms that minimise the lasso's
objective: with many layers dec and ae-lasso end nearer to D* than to the truth, ae-ls nearer to the truth
(theorem 3.4). How near to D* they come depends on the optimiser, see `calepin_papers.pudle.optimisers`.
"""

from dataclasses import dataclass
from functools import partial
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.datasets import SparseData
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import ArrayBatches, AtomSet, TrainState, Unfolded, train
from calepin.metrics import dictionary_error
from calepin.penalties import L1
from calepin.report import curves, save_figure
from calepin.solvers import GradientRule
from calepin_papers._common import band, spread
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import FLOOR, best_atoms, draws, quiet_about_long_steps

__all__ = ["PUDLE_LEARNING", "Settings"]

GRADIENTS: tuple[GradientRule, ...] = get_args(GradientRule)


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation and of the runs.

    Attributes
    ----------
    n_draws
        Independent dictionaries, each with its samples; medians and ranges are over them.
    layers
        Numbers of layers T, few and many.
    n_epochs, n_epochs_biased
        Full-batch updates of ae-ls for each of them, and of dec and ae-lasso, which are at their best early.
    n_passes
        Of the alternating minimisation that finds D*.
    every
        Errors are measured after every that many epochs.
    closeness
        The atoms are moved by Gaussian noise of variance 1 / m, times this over log m.
    """

    n_samples: int
    n_draws: int
    n_epochs: tuple[int, int]
    n_epochs_biased: int
    learning_rate: float
    n_passes: int = 60
    every: int = 5
    n_features: int = 50
    n_components: int = 100
    n_nonzero: int = 5
    layers: tuple[int, int] = (25, 100)
    alpha: float = 0.2
    step_size: float = 0.2
    closeness: float = 2.8


@single_threaded_torch()  # a second thread slows products of this size down
def measure(settings: Settings, run: Run) -> Findings:
    """Learn by each gradient with each number of layers, in every draw."""
    errors: dict[tuple[int, GradientRule], list[NDArray[np.float64]]] = {}
    to_star: dict[tuple[int, GradientRule], list[float]] = {}
    simulated = draws(settings, run, "learning", n_samples=settings.n_samples)
    for draw, (data, atoms) in enumerate(simulated):
        star = run.piece(f"draw{draw}-star", partial(_star, data, settings))["star"]
        for n_unfold in settings.layers:
            for gradient in GRADIENTS:
                learn = partial(_learn, data, atoms, gradient, n_unfold, settings, run.device)
                found = run.piece(f"draw{draw}-T{n_unfold}-{gradient}", learn)
                errors.setdefault((n_unfold, gradient), []).append(found["errors"])
                to_star.setdefault((n_unfold, gradient), []).append(dictionary_error(found["atoms"], star))
    few, many = settings.layers
    lowest = {key: np.min(np.array(rows), axis=1) for key, rows in errors.items()}
    values = {
        **spread("t25_min_dec", lowest[few, "dec"]),
        **spread("t25_min_lasso", lowest[few, "ae-lasso"]),
        **spread("t25_ls", lowest[few, "ae-ls"]),
        **spread("t100_dec", lowest[many, "dec"]),
        **spread("t100_lasso", lowest[many, "ae-lasso"]),
        **spread("t100_ls", lowest[many, "ae-ls"]),
    }
    end = {key: np.array(rows)[:, -1] for key, rows in errors.items()}
    for (n_unfold, gradient), numbers in to_star.items():
        name = f"t{'25' if n_unfold == few else '100'}_{gradient.removeprefix('ae-')}"
        values |= spread(f"{name}_end", end[n_unfold, gradient])
        values |= spread(f"{name}_end_to_star", numbers)
        values |= spread(f"{name}_star_over_true", np.array(numbers) / end[n_unfold, gradient])
    figures = [_draw(n_unfold, errors, settings, run) for n_unfold in settings.layers]
    return Findings(values, _claims(values, settings), figures)


def _star(data: SparseData, settings: Settings) -> dict[str, NDArray[np.float64]]:
    return {"star": best_atoms(data.X, data.atoms, alpha=settings.alpha, n_passes=settings.n_passes)}


def _learn(
    data: SparseData,
    atoms: NDArray[np.float64],
    gradient: GradientRule,
    n_unfold: int,
    settings: Settings,
    device: str,
) -> dict[str, NDArray]:
    """Return the relative errors at the start and after every few epochs, and the atoms at the end."""
    start = AtomSet("sphere").project(atoms)
    unfolded = Unfolded(
        L1(settings.alpha),
        n_unfold=n_unfold,
        step_size=settings.step_size,
        gradient=gradient,
        optimizer=partial(torch.optim.Adam, lr=settings.learning_rate),
    )
    errors = [dictionary_error(start, data.atoms)]

    def note(state: TrainState) -> None:
        if state.n_steps % settings.every == 0:
            errors.append(dictionary_error(state.learned.atoms.cpu(), data.atoms))

    begin = torch.tensor(start, dtype=torch.float32, device=device)
    batches = ArrayBatches(data.X.astype(np.float32), None, device=device)
    n_epochs = settings.n_epochs_biased
    if gradient == "ae-ls":
        n_epochs = settings.n_epochs[settings.layers.index(n_unfold)]
    state = TrainState(unfolded.init(begin))
    with quiet_about_long_steps():
        train(unfolded, batches, state, max_iter=n_epochs, callbacks=[note])
    return {"errors": np.array(errors), "atoms": state.learned.atoms.cpu().numpy()}


def _claims(values: dict[str, float], settings: Settings) -> list[Claim]:
    few, many = settings.layers
    dec, lasso, ls = (values[f"t25_{name}"] for name in ("min_dec", "min_lasso", "ls"))
    dec_many, lasso_many, ls_many = (values[f"t100_{name}"] for name in ("dec", "lasso", "ls"))
    return [
        Claim(f"T = {few}: ae-lasso's error over dec's", lasso / dec, "<=", 0.85),
        Claim(f"T = {few}: ae-ls's error over ae-lasso's", ls / lasso, "<=", 0.85),
        Claim(
            f"T = {many}: dec and ae-lasso differ, relatively, by",
            abs(dec_many - lasso_many) / lasso_many,
            "<=",
            0.03,
        ),
        Claim(f"T = {many}: ae-ls's error over ae-lasso's", ls_many / lasso_many, "<=", 0.25),
        *[
            Claim(
                f"T = {many}: {name} ends nearer to D*: distance over that to the truth",
                values[f"t100_{name.removeprefix('ae-')}_star_over_true"],
                "<=",
                1.0,
            )
            for name in ("dec", "ae-lasso")
        ],
        Claim(
            f"T = {many}: ae-ls ends nearer to the truth: distance to D* over that to the truth",
            values["t100_ls_star_over_true"],
            ">=",
            1.0,
        ),
    ]


def _draw(
    n_unfold: int,
    errors: dict[tuple[int, GradientRule], list[NDArray[np.float64]]],
    settings: Settings,
    run: Run,
) -> str:
    lines = {}
    for gradient in GRADIENTS:
        found = np.array(errors[n_unfold, gradient])
        lines[gradient] = band(settings.every * np.arange(found.shape[1]), found, floor=FLOOR)
    figure = curves(
        lines,
        xlabel="epochs",
        ylabel="relative error of the dictionary",
        yscale="log",
        title=f"Learning through T = {n_unfold} layers (median, range)",
    )
    file = f"learning-{n_unfold}.png"
    save_figure(figure, run.folder / file)
    return file


PUDLE_LEARNING = Experiment(
    name="pudle-learning",
    shows="with few layers ae-lasso learns better than dec, with many they agree; ae-ls learns best",
    source="Tolooshams and Ba 2022, Fig. 4c, 4d",
    quick=Settings(n_samples=1000, n_draws=2, n_epochs=(115, 80), n_epochs_biased=42, learning_rate=2e-2),
    paper=Settings(
        n_samples=10_000,
        n_draws=1,
        n_epochs=(600, 600),
        n_epochs_biased=600,
        learning_rate=1e-3,
        n_passes=200,
        every=20,
    ),
    measure=measure,
)
