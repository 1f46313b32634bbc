"""Unfolded dictionary learning: noise in the data, and few samples.

Tolooshams and Ba 2022, section 3.2, limitations: the theory is for data without noise and infinitely many
samples, and the paper conjectures that the comparison of the gradients survives noise. Two measurements, at
atoms D about .55 / log m from those that made the data:

    noise    For each standard deviation of noise: the ratio of the rates of ae-lasso and dec (theorem 3.3),
             and the distances of the gradients to g~, at the codes that made the data (theorem 3.4).
    samples  The gradients of the first n samples, beside g~ of all samples: how many are needed before the
             difference of ae-lasso and ae-ls is larger than what the draw of the samples adds.

Noise of standard deviation sigma has the norm sigma sqrt(m) in a sample; samples have about norm 3.4.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from calepin.datasets import SparseData
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import dictionary_gradient
from calepin.penalties import L1
from calepin.report import curves, save_figure
from calepin.solvers import GradientRule
from calepin_papers._common import band
from calepin_papers._threads import single_threaded_torch
from calepin_papers.pudle._planted import draws
from calepin_papers.pudle.convergence import Settings as Rates
from calepin_papers.pudle.convergence import differentiate, log_slope
from calepin_papers.pudle.errors import decoder_gradient

__all__ = ["PUDLE_NOISE", "Settings"]

GRADIENTS: tuple[GradientRule, ...] = get_args(GradientRule)


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation, and of what is measured.

    Attributes
    ----------
    n_samples
        All samples: those of g~.
    n_rate
        The first of them, which the rates are measured with.
    n_draws
        Independent dictionaries, each with its samples.
    noise
        Standard deviations of the noise, rising. Rates are measured below alpha: with more noise supports are
        large, and not found within the layers. That ae-ls is nearer to g~ is claimed up to alpha.
    counts
        Numbers of samples whose gradients are compared with g~ of all.
    n_unfold, every
        The rates are measured after every, 2 every, ... n_unfold layers.
    closeness
        The atoms are moved by Gaussian noise of variance 1 / m, times this over log m.
    """

    n_samples: int
    n_rate: int
    n_draws: int
    noise: tuple[float, ...]
    counts: tuple[int, ...]
    n_unfold: int
    every: int
    n_features: int = 50
    n_components: int = 100
    n_nonzero: int = 5
    alpha: float = 0.2
    step_size: float = 0.2
    closeness: float = 0.55


@single_threaded_torch()  # a second thread slows products of this size down
def measure(settings: Settings, run: Run) -> Findings:
    """Measure rates and distances for every level of noise and every number of samples, a piece each draw."""
    simulated = draws(settings, run, "noise and samples", n_samples=settings.n_samples)
    parts = []
    for draw, (data, atoms) in enumerate(simulated):
        noisy = partial(_noisy, data, atoms, np.random.SeedSequence([run.seed, draw]), settings)
        parts.append(
            run.piece(f"draw{draw}-noise", noisy)
            | run.piece(f"draw{draw}-samples", partial(_few, data, atoms, settings))
        )
    found = {name: np.array([part[name] for part in parts]) for name in parts[0]}
    values = _values(found, settings)
    return Findings(values, _claims(values, settings), _draw(found, settings, run))


def _noisy(
    data: SparseData, atoms: NDArray[np.float64], seeds: np.random.SeedSequence, settings: Settings
) -> dict[str, Any]:
    """Return rates, and distances to g~, for each level of noise."""
    unit = np.random.default_rng(seeds).standard_normal(data.X.shape)
    rates = Rates(
        n_samples=settings.n_rate,
        n_draws=1,
        n_unfold=settings.n_unfold,
        every=settings.every,
        alpha=settings.alpha,
        step_size=settings.step_size,
    )
    rows: dict[str, list[float]] = {"rate_dec": [], "rate_lasso": [], **{f"noise_{k}": [] for k in GRADIENTS}}
    for sigma in settings.noise:
        y = data.X + sigma * unit
        if sigma < settings.alpha:
            found = differentiate(y[: settings.n_rate], atoms, rates)
            for name, kind in (("rate_dec", "dec"), ("rate_lasso", "ae-lasso")):
                rows[name].append(log_slope(rates.layers, found[kind], found["selected"]))
        for kind, distance in _to_truth(y, data.codes, atoms, settings).items():
            rows[f"noise_{kind}"].append(distance)
    return rows


def _few(data: SparseData, atoms: NDArray[np.float64], settings: Settings) -> dict[str, Any]:
    """Return the distances of the gradients of n samples to g~ of all samples, and of their own g~ to it."""
    wanted = decoder_gradient(data.X, data.codes, atoms)
    rows: dict[str, list[float]] = {f"samples_{kind}": [] for kind in (*GRADIENTS, "truth")}
    for n in settings.counts:
        y, codes = data.X[:n], data.codes[:n]
        rows["samples_truth"].append(float(np.linalg.norm(decoder_gradient(y, codes, atoms) - wanted)))
        for kind in GRADIENTS:
            rows[f"samples_{kind}"].append(
                float(np.linalg.norm(_gradient(y, atoms, kind, settings) - wanted))
            )
    return rows


def _to_truth(
    y: NDArray[np.float64], codes: NDArray[np.float64], atoms: NDArray[np.float64], settings: Settings
) -> dict[GradientRule, float]:
    wanted = decoder_gradient(y, codes, atoms)
    return {kind: float(np.linalg.norm(_gradient(y, atoms, kind, settings) - wanted)) for kind in GRADIENTS}


def _gradient(
    y: NDArray[np.float64], atoms: NDArray[np.float64], kind: GradientRule, settings: Settings
) -> NDArray[np.float64]:
    # infinitely many layers: dec and ae-lasso are one gradient
    return dictionary_gradient(
        y, atoms, penalty=L1(settings.alpha), n_unfold=1, gradient=kind, differentiate="implicit"
    )


def _values(found: dict[str, NDArray], settings: Settings) -> dict[str, float]:
    ratio = np.median(found["rate_lasso"] / found["rate_dec"], axis=0)
    truth = {name: np.median(rows, axis=0) for name, rows in found.items() if not name.startswith("rate")}
    values = {}
    for i, sigma in enumerate(settings.noise):
        if i < len(ratio):
            values[f"rate_ratio_noise{sigma:g}"] = float(ratio[i])
        values[f"ls_noise{sigma:g}"] = float(truth["noise_ae-ls"][i])
        values[f"lasso_noise{sigma:g}"] = float(truth["noise_ae-lasso"][i])
        values[f"ls_over_lasso_noise{sigma:g}"] = float(truth["noise_ae-ls"][i] / truth["noise_ae-lasso"][i])
    for i, n in enumerate(settings.counts):
        values[f"ls_over_lasso_n{n}"] = float(truth["samples_ae-ls"][i] / truth["samples_ae-lasso"][i])
        values[f"ls_n{n}"] = float(truth["samples_ae-ls"][i])
        values[f"lasso_n{n}"] = float(truth["samples_ae-lasso"][i])
        values[f"truth_n{n}"] = float(truth["samples_truth"][i])
    return values


def _claims(values: dict[str, float], settings: Settings) -> list[Claim]:
    claims = []
    for sigma in settings.noise:
        if sigma < settings.alpha:
            twice = values[f"rate_ratio_noise{sigma:g}"]
            claims.append(Claim(f"noise {sigma:g}: rate of ae-lasso over that of dec", twice, ">=", 1.6))
        if sigma <= settings.alpha:
            nearer = values[f"ls_over_lasso_noise{sigma:g}"]
            text = f"noise {sigma:g}: ae-ls is nearer to g~: distance over that of ae-lasso"
            claims.append(Claim(text, nearer, "<=", 1.0))
    for n in settings.counts:
        nearer = values[f"ls_over_lasso_n{n}"]
        text = f"{n} samples: ae-ls is nearer to g~ of all samples: distance over that of ae-lasso"
        claims.append(Claim(text, nearer, "<=", 1.0))
    return claims


def _draw(found: dict[str, NDArray], settings: Settings, run: Run) -> list[str]:
    names = {"ae-lasso": "dec and ae-lasso", "ae-ls": "ae-ls"}
    noise = {title: band(np.array(settings.noise), found[f"noise_{kind}"]) for kind, title in names.items()}
    figure = curves(
        noise,
        xlabel="standard deviation of the noise",
        ylabel="distance to the gradient g~",
        title="Gradients of data with noise (median, range)",
    )
    save_figure(figure, run.folder / "noise.png")
    names["truth"] = "g~ of the samples"
    n = np.array(settings.counts)
    samples = {title: band(n, found[f"samples_{kind}"]) for kind, title in names.items()}
    figure = curves(
        samples,
        xlabel="samples",
        ylabel="distance to g~ of all samples",
        yscale="log",
        title="Gradients of few samples (median, range)",
    )
    save_figure(figure, run.folder / "samples.png")
    return ["noise.png", "samples.png"]


PUDLE_NOISE = Experiment(
    name="pudle-noise",
    shows="with noise, and with few samples, ae-lasso stays faster than dec, and ae-ls nearer to the truth",
    source="Tolooshams and Ba 2022, Sec. 3.2, limitations",
    quick=Settings(
        n_samples=5000,
        n_rate=20,
        n_draws=2,
        noise=(0.0, 0.02, 0.05, 0.1, 0.2, 0.3),
        counts=(20, 50, 100, 300, 1000, 3000),
        n_unfold=320,
        every=20,
    ),
    paper=Settings(
        n_samples=50_000,
        n_rate=1000,
        n_draws=1,
        noise=(0.0, 0.02, 0.05, 0.1, 0.2, 0.3),
        counts=(20, 50, 100, 300, 1000, 3000, 10_000),
        n_unfold=500,
        every=20,
    ),
    measure=measure,
)
