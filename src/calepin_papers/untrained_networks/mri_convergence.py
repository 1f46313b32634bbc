"""Figure 5: the error on the way of a fit to an eighth of k-space, until it hardly changes.

The paper's way: one start, no weights on k-space, and the network's output as it is. A deep decoder makes
the images of all coils as its output channels.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import ComplexPair, DeepDecoder
from calepin.reconstruction import FitProgress, fit_untrained, weighted
from calepin.report import Curve, curves, save_figure
from calepin.solvers import Adam
from calepin_papers._common import fixed_iterations
from calepin_papers._random import torch_generator
from calepin_papers.untrained_networks.mri import load_slice, magnitude, relative_error, sample

__all__ = ["CS_MRI_CONVERGENCE", "Settings"]

_PATTERNS = ("points", "columns")
_EVERY = 10
_LAST = 10  # errors at the end that are averaged: those of Adam fluctuate


@dataclass(frozen=True)
class Settings:
    """Sizes of slice and network.

    Attributes
    ----------
    size
        Samples around the middle of k-space.
    n_center
        Samples in the middle of each axis that masks of points keep.
    """

    size: tuple[int, int]
    channels: int
    max_iter: int
    depth: int = 5
    in_size: int = 8
    learning_rate: float = 0.01
    acceleration: float = 8.0
    n_center: int = 12


def measure(settings: Settings, run: Run) -> Findings:
    """Fit points and columns, and compare the end with the best iterate."""
    values, lines = {}, {}
    for done, pattern in enumerate(_PATTERNS):
        run.progress(done / len(_PATTERNS), pattern)
        one = run.piece(pattern, partial(_fit, settings, pattern, run))
        errors = one["errors"]
        values |= {
            f"error_{pattern}": float(errors[-_LAST:].mean()),
            f"error_zero_filled_{pattern}": float(one["zero_filled"]),
            f"best_iteration_{pattern}": float(_EVERY * (1 + errors.argmin())),
            f"final_over_best_{pattern}": float(errors[-_LAST:].mean() / errors.min()),
            f"residual_{pattern}": float(one["residual"]),
        }
        lines[pattern] = Curve(_EVERY * np.arange(1, len(errors) + 1), errors)
    values["over_zero_filled_points"] = values["error_points"] / values["error_zero_filled_points"]
    claims = [
        Claim(
            "points: an early stop would hardly help: final over best error",
            values["final_over_best_points"],
            "<=",
            1.15,
        ),
        Claim(
            "points: at convergence the decoder is nearer than zero-filled: ratio of errors",
            values["over_zero_filled_points"],
            "<=",
            0.9,
        ),
    ]
    figure = curves(
        lines,
        xlabel="iteration",
        ylabel="||G(C) - x||^2 / ||x||^2",
        xscale="log",
        yscale="log",
        title=f"Fit to k-space, {settings.acceleration:g}x (Fig. 5)",
    )
    save_figure(figure, run.folder / "convergence.png")
    return Findings(values, claims, ["convergence.png"])


def _fit(settings: Settings, pattern: str, run: Run) -> dict[str, NDArray | float]:
    """Return the relative squared error every ten iterations, that of zero filling, and the residual."""
    images = load_slice(settings.size).to(run.device)
    truth = magnitude(images)
    coils = images.shape[1]
    operator = sample(settings.size, pattern, settings.acceleration, settings.n_center, run.seed, coils)
    operator = operator.to(run.device)
    y = operator(images)
    problem = weighted(operator, y, torch.ones(settings.size, device=y.device))  # scaled, not weighted
    network = ComplexPair(
        DeepDecoder(
            settings.size,
            out_channels=2 * coils,
            channels=settings.channels,
            depth=settings.depth,
            in_size=settings.in_size,
            output="none",
        )
    ).to(y.device)
    errors = []

    def watch(progress: FitProgress) -> None:
        if progress.n_iter % _EVERY == 0:
            errors.append(relative_error(magnitude(problem.scale * progress.x), truth))

    with fixed_iterations():
        fit = fit_untrained(
            network,
            problem.operator,
            problem.y,
            optimizer=Adam(settings.learning_rate),
            max_iter=settings.max_iter,
            tol=0.0,
            patience=None,
            generator=torch_generator(run.seed),
            callback=watch,
        )
    return {
        "errors": np.array(errors),
        "zero_filled": relative_error(magnitude(operator.adjoint(y)), truth),
        "residual": float(fit.residual),
    }


CS_MRI_CONVERGENCE = Experiment(
    name="cs-mri-convergence",
    shows="fitted to an eighth of k-space until it converges, a deep decoder is near its best iterate",
    source="Heckel and Soltanolkotabi 2020, Fig. 5",
    quick=Settings(size=(80, 84), channels=64, max_iter=1500),
    paper=Settings(size=(320, 168), channels=256, max_iter=10_000, in_size=16, n_center=24),
    measure=measure,
)
