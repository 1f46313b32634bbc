"""Theorem 2: the two-layer generator recovers p-smooth signals from a few times p measurements.

Gradient descent with momentum runs until the residual is a thousandth of the measurements: without early
stopping, which would not help.
"""

from dataclasses import dataclass

import numpy as np
import torch

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import TwoLayerGenerator, triangular_kernel
from calepin.operators import GaussianSketch
from calepin.reconstruction import FitProgress, fit_untrained, trigonometric_basis
from calepin.report import curves, save_figure
from calepin.solvers import GradientDescent
from calepin_papers._common import band, fixed_iterations, spread
from calepin_papers._random import torch_generator

__all__ = ["CS_TWO_LAYER", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of the simulation.

    Attributes
    ----------
    n_signals
        Signals, each with coefficients of its own, behind one matrix for every m.
    ratios
        m / p.
    """

    n_signals: int
    ratios: tuple[int, ...] = (1, 2, 3, 4, 6)
    n: int = 300
    p: int = 11
    channels: int = 256
    width: int = 31
    momentum: float = 0.95
    tol: float = 1e-3
    max_iter: int = 1500


def measure(settings: Settings, run: Run) -> Findings:
    """Fit to convergence, watch the error on the way."""
    generator = torch_generator(run.seed)
    network = TwoLayerGenerator(
        settings.n, channels=settings.channels, kernel=triangular_kernel(settings.width)
    )
    basis = torch.from_numpy(trigonometric_basis(settings.n)[: settings.p]).float()
    signals = torch.nn.functional.normalize(torch.randn(settings.n_signals, settings.p, generator=generator))
    x = signals @ basis
    errors, ratios, iterations = [], [], []
    for done, ratio in enumerate(settings.ratios):
        run.progress(done / len(settings.ratios), f"m = {ratio} p")
        final, best, n_iter = _fit(network, x, ratio * settings.p, settings, generator)
        errors.append(final)
        ratios.append(final / best)
        iterations.append(n_iter)
    error = np.array(errors)
    values = {}
    for ratio, of in zip(settings.ratios, error, strict=True):
        values |= spread(f"err_{ratio}p", of)
    values["final_over_best"] = float(np.median(ratios, 1).max())
    values["final_over_best_max"] = float(np.max(ratios))  # the worst signal of all
    values["n_iter_max"] = float(max(iterations))
    claims = [
        Claim("four measurements a frequency are enough: error", values.get("err_4p", np.nan), "<=", 0.02),
        Claim(
            "no early stop is needed: final over best error, median of signals",
            values["final_over_best"],
            "<=",
            1.1,
        ),
    ]
    line = band(settings.ratios, error.T)
    figure = curves(
        {f"n {settings.n}, p {settings.p}, k {settings.channels}": line},
        xlabel="m / p",
        ylabel="squared error over squared norm",
        yscale="log",
        title="Two-layer generator at convergence (median, range)",
    )
    save_figure(figure, run.folder / "two-layer.png")
    return Findings(values, claims, ["two-layer.png"])


def _fit(
    network: TwoLayerGenerator, x: torch.Tensor, m: int, settings: Settings, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return each signal's error at the end, the least on the way, and the iterations done."""
    operator = GaussianSketch((settings.n,), m, generator=generator)
    y = operator(x)
    start = network.initial(len(x), like=y, generator=generator) * network.initial_scale(y)
    seen = [(start.new_tensor(0.0)).expand(len(x)) + x.square().sum(1)]

    def watch(progress: FitProgress) -> None:
        seen.append((progress.x - x).square().sum(1))

    with fixed_iterations():  # max_iter may come before tol
        found = fit_untrained(
            network,
            operator,
            y,
            optimizer=GradientDescent(momentum=settings.momentum, factor=2.0),
            start=start,
            tol=settings.tol,
            patience=None,
            max_iter=settings.max_iter,
            callback=watch,
        )
    final = (found.x - x).square().sum(1) / x.square().sum(1)
    best = torch.stack(seen).min(0).values / x.square().sum(1)
    return final.numpy(), best.numpy(), found.n_iter


CS_TWO_LAYER = Experiment(
    name="cs-two-layer",
    shows="a two-layer generator, run to convergence, recovers p-smooth signals from 4 p measurements",
    source="Heckel and Soltanolkotabi 2020, Theorem 2",
    quick=Settings(n_signals=3),
    paper=Settings(n_signals=50, max_iter=5000),
    measure=measure,
)
