"""Unfolded dictionary learning beside NOODL and alternating minimisation.

Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning", 2022, figures 5 and 6. Atoms
begin about 1 / log m from those that made the data, each step sees new samples, and all rules see the same:

    ls      ae-ls through T layers: biased, as the lasso's amplitudes are
    decay   the same with a penalty that fades from layer to layer, lambda_k = lambda beta^k, beta falling
    ht      the same with a hard threshold
    noodl   Rambhatla, Li and Haupt 2019: hard thresholds, and the sign gradient
    altmin  alternating minimisation of the lasso's objective: exact codes, then a step on the decoder alone
            (where the paper ran SPORCO), by the same optimiser

What is measured is the relative error to the planted atoms.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.datasets import SparseData
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import NOODL, ArrayBatches, AtomSet, TrainState, Unfolded, train
from calepin.metrics import dictionary_error
from calepin.penalties import L1, HardThreshold
from calepin.report import curves, save_figure
from calepin.solvers import IHTCoder
from calepin_papers._common import band, spread
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import FLOOR, draws, quiet_about_long_steps

__all__ = ["NAMES", "PUDLE_RECOVERY", "Settings", "draw_errors", "learn", "rules"]

NAMES = {
    "ls": "ae-ls",
    "decay": "ae-ls, decay",
    "ht": "ae-ls, HT",
    "noodl": "NOODL",
    "altmin": "lasso altmin",
}


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation and of the runs.

    Attributes
    ----------
    n_draws
        Independent dictionaries, each with its samples; medians and ranges are over them.
    n_updates, batch_size
        Steps of each rule, and the samples in one; errors are measured after every `every` steps.
    decay_every
        Steps after which beta falls by .005.
    threshold
        Of the hard thresholds, NOODL's among them.
    closeness
        The atoms are moved by Gaussian noise of variance 1 / m, times this over log m.
    """

    n_features: int
    n_components: int
    n_nonzero: int
    n_updates: int
    n_unfold: int
    n_draws: int
    learning_rate: float
    decay_every: int
    every: int
    batch_size: int = 50
    alpha: float = 0.2
    threshold: float = 0.1
    step_size: float = 0.2
    closeness: float = 1.0


@single_threaded_torch()  # a second thread slows products of this size down
def measure(settings: Settings, run: Run) -> Findings:
    """Learn by each rule in every draw."""
    errors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in NAMES}
    simulated = draws(
        settings, run, "learning by five rules", n_samples=settings.n_updates * settings.batch_size
    )
    for draw, (data, atoms) in enumerate(simulated):
        for name, rule in rules(settings).items():
            piece = run.piece(f"draw{draw}-{name}", partial(learn, rule, data, atoms, settings, run.device))
            errors[name].append(piece["errors"])
    last = {name: np.array(rows)[:, -1] for name, rows in errors.items()}
    values = {"err_start": float(np.median([rows[0] for rows in errors["ls"]]))}
    for name, numbers in last.items():
        values |= spread(f"err_{name}", numbers)
    claims = [
        Claim(
            f"{NAMES[name]}: error over that of {NAMES['ls']}",
            values[f"err_{name}"] / values["err_ls"],
            "<=",
            bar,
        )
        for name, bar in (("decay", 1 / 4), ("ht", 1 / 20), ("noodl", 1 / 10))
    ]
    biased = values["err_altmin"] / values["err_ls"]
    claims.append(Claim(f"{NAMES['altmin']}: error over that of {NAMES['ls']}", biased, ">=", 1.0))
    return Findings(values, claims, [draw_errors(errors, settings, run, "recovery.png")])


def rules(settings: Settings) -> dict[str, Any]:
    """Return the rules by name."""
    adam = partial(torch.optim.Adam, lr=settings.learning_rate, eps=1e-3)
    unfolded = partial(Unfolded, n_unfold=settings.n_unfold, step_size=settings.step_size, optimizer=adam)
    coder = IHTCoder(settings.threshold, step_size=settings.step_size, n_iter=settings.n_unfold)
    return {
        "ls": unfolded(L1(settings.alpha)),
        "decay": unfolded(L1(settings.alpha), decay_drop=0.005, decay_every=settings.decay_every),
        "ht": unfolded(HardThreshold(settings.threshold)),
        "noodl": NOODL(coder, AtomSet("sphere")),
        "altmin": Unfolded(L1(settings.alpha), gradient="dec", differentiate="implicit", optimizer=adam),
    }


def learn(
    rule: Any, data: SparseData, atoms: NDArray[np.float64], settings: Settings, device: str
) -> dict[str, list[float]]:
    """Return the relative errors of the atoms at the start and after every few updates."""
    start = AtomSet("sphere").project(atoms)
    errors = [dictionary_error(start, data.atoms)]

    def note(state: TrainState) -> None:
        if state.n_steps % settings.every == 0:
            errors.append(dictionary_error(state.learned.atoms.cpu(), data.atoms))

    batches = ArrayBatches(data.X.astype(np.float32), settings.batch_size, device=device)
    state = TrainState(rule.init(start.astype(np.float32)).to(device))
    with quiet_about_long_steps():
        train(rule, batches, state, max_iter=1, callbacks=[note])
    return {"errors": errors}


def draw_errors(errors: dict[str, list[NDArray[np.float64]]], settings: Settings, run: Run, file: str) -> str:
    """Draw the errors of each rule, in draws, over the updates (Fig. 5, 6); return the file."""
    lines = {}
    for name, title in NAMES.items():
        found = np.array(errors[name])
        lines[title] = band(settings.every * np.arange(found.shape[1]), found, floor=FLOOR)
    figure = curves(
        lines,
        xlabel="updates",
        ylabel="relative error of the dictionary",
        yscale="log",
        title=f"A planted dictionary, {settings.n_nonzero}-sparse codes, {settings.n_draws} draws",
    )
    save_figure(figure, run.folder / file)
    return file


PUDLE_RECOVERY = Experiment(
    name="pudle-recovery",
    shows="ae-ls with decay or a hard threshold recovers a dictionary as NOODL does, without bias",
    source="Tolooshams and Ba 2022, Fig. 5, 6",
    quick=Settings(
        n_features=100,
        n_components=150,
        n_nonzero=3,
        n_updates=300,
        n_unfold=50,
        n_draws=3,
        learning_rate=2e-3,
        decay_every=30,
        every=30,
    ),
    paper=Settings(
        n_features=1000,
        n_components=1500,
        n_nonzero=20,
        n_updates=1000,
        n_unfold=100,
        n_draws=1,
        learning_rate=1e-3,
        decay_every=100,
        every=50,
    ),
    measure=measure,
)
