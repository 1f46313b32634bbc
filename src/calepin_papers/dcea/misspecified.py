"""A Gaussian model of binomial counts does not find the filters, however many trials there are.

Tolooshams et al. 2020, figure 5, whose curves are medians over independent trials. Both models code by the
same greedy pursuit of as many events and alternate with the same moves of the filters; what differs is the
family: binomial counts with their baseline of log-odds, or relative frequencies with the baseline that
belongs to it. The gap shows where the link bends: at a low baseline and large amplitudes, -2 and 5 here.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.likelihoods import Gaussian
from calepin.report import curves, save_figure
from calepin.solvers import ConvolutionalPursuitCoder
from calepin_papers._common import band, spread
from calepin_papers.dcea._planted import Planted, learn, perturbed

__all__ = ["DCEA_MISSPECIFIED", "Settings"]

MODELS = {"b": "binomial", "g": "Gaussian"}


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation and of the runs.

    Attributes
    ----------
    planted
        The simulation, apart from its number of trials.
    trials
        Numbers M of trials; 30 and 200 among them.
    n_draws
        Independent simulations for each number.
    n_rounds
        Alternations of codes and filters.
    """

    planted: Planted = field(default_factory=lambda: Planted(baseline=-2.0))
    trials: tuple[int, ...] = (10, 30, 200)
    n_draws: int = 3
    n_rounds: int = 5


def measure(settings: Settings, run: Run) -> Findings:
    """Learn by both models in every draw for every number of trials."""
    errors: dict[tuple[str, int], list[float]] = {}
    n_runs = len(settings.trials) * settings.n_draws
    for i, trials in enumerate(settings.trials):
        for draw in range(settings.n_draws):
            run.progress((settings.n_draws * i + draw) / n_runs, f"{trials} trials, draw {draw + 1}")
            for model in MODELS:
                errors.setdefault((model, trials), []).append(_error(model, trials, draw, settings, run))
    values = {}
    for (model, trials), found in errors.items():
        values |= spread(f"{model}_{trials}", found)
    claims = [
        Claim("binomial model, 30 trials: error", values["b_30"], "<=", 0.25),
        Claim("Gaussian over binomial, 30 trials", values["g_30"] / values["b_30"], ">=", 1.0),
        Claim("Gaussian over binomial, 200 trials", values["g_200"] / values["b_200"], ">=", 2.0),
    ]
    return Findings(values, claims, [_draw(errors, settings, run)])


def _error(model: str, trials: int, draw: int, settings: Settings, run: Run) -> float:
    """Return the mean error of the filters, over shifts, of one run."""
    planted = replace(settings.planted, trials=trials)
    rng = np.random.default_rng([run.seed, draw])
    data = planted.draw(rng)
    X, baseline, likelihood = data.X, planted.baseline, None
    if model == "g":
        X, baseline, likelihood = X / trials, 1 / (1 + np.exp(-baseline)), Gaussian()
    _, trace = learn(
        X,
        ConvolutionalPursuitCoder(planted.n_components * planted.n_events),
        init=perturbed(data.atoms, planted.start_error, rng),
        reference=data.atoms,
        likelihood=likelihood,
        trials=trials,
        baseline=float(baseline),
        n_passes=settings.n_rounds,
        batch_size=len(X),
        n_updates=16,
        learning_rate=0.02,
        max_shift=planted.kernel // 2,
        seed=draw,
        device=run.device,
    )
    return float(trace[-1].mean())


def _draw(errors: dict[tuple[str, int], list[float]], settings: Settings, run: Run) -> str:
    lines = {}
    for model, name in MODELS.items():
        found = np.array([errors[model, trials] for trials in settings.trials])
        lines[name] = band(settings.trials, found.T)
    figure = curves(
        lines,
        xlabel="trials M",
        ylabel="err(h, ĥ)",
        xscale="log",
        title="Filters of binomial counts by two models (median, range)",
    )
    save_figure(figure, run.folder / "misspecification.png")
    return "misspecification.png"


DCEA_MISSPECIFIED = Experiment(
    name="dcea-misspecified",
    shows="a Gaussian model of binomial counts misses the filters that a binomial one finds",
    source="Tolooshams et al. 2020, Fig. 5",
    quick=Settings(),
    paper=Settings(
        planted=Planted(n_signals=1000, baseline=-2.0), trials=(1, 5, 10, 15, 20, 30, 50, 100, 200),
        n_draws=20, n_rounds=8,
    ),
    measure=measure,
)  # fmt: skip
