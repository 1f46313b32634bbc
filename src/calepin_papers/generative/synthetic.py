"""Figure 1: coefficients that depend on each other, and groups of them, with a known generator.

"Dictionary learning under generative coefficient priors", 2022, section 6: a true A* and the first A with
entries uniform in [0, 1], latents normal, noise of standard deviation .1. The paper does not say whether
A* has unit atoms, nor k for the groups: its atoms are as drawn, k = 5.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calepin.experiments import Experiment, Findings, Run
from calepin.generators import GroupSparse, PolynomialSine
from calepin_papers._random import torch_generator
from calepin_papers.generative.comparison import (
    Comparison,
    Task,
    claims_of,
    compare,
    draw_losses,
    values_of,
)

__all__ = ["GEN_DEPENDENCIES", "GEN_GROUP", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of a synthetic problem, and of the comparison on it.

    Attributes
    ----------
    n_features
        m.
    n_groups
        k of the group generator with `n_coefficients`, or None for the polynomial-sine one with k = 3.
    n_test
        Samples of the test: 5 batches.
    """

    sizes: Comparison
    n_features: int
    n_coefficients: int
    n_groups: int | None = None
    sigma: float = 0.1
    n_test: int = 150


def measure(settings: Settings, run: Run) -> Findings:
    """Compare all methods on planted dictionaries."""
    outcome = compare(
        lambda trial: _task(settings, run.seed, trial),
        settings.sizes,
        lambda part: run.progress(part, f"{settings.sizes.n_trials} planted dictionaries"),
    )
    values = values_of(outcome, settings.sizes)
    title = "Planted dictionaries, known generator (median, range)"
    figure = draw_losses(outcome, settings.sizes, "losses.png", title, run)
    return Findings(values, claims_of(values), [figure])


def _task(settings: Settings, seed: int, trial: int) -> Task:
    draw = torch_generator(np.random.default_rng([seed, trial]))
    shape = (settings.n_coefficients, settings.n_features)
    truth, start = (torch.rand(shape, generator=draw) for _ in range(2))
    if settings.n_groups is None:
        generator = PolynomialSine(settings.n_coefficients // 3)
    else:
        generator = GroupSparse(settings.n_groups, settings.n_coefficients, seed=1000 * seed + trial)

    def batch(n: int) -> tuple[Tensor, Tensor]:
        clean = generator(torch.randn((n, generator.latent_dim), generator=draw)) @ truth
        return clean, clean + settings.sigma * torch.randn(clean.shape, generator=draw)

    clean, noisy = batch(settings.n_test)
    return Task(generator, generator.latent_dim, start, batch, clean, noisy)


def _experiment(name: str, shows: str, figure: str, quick: Settings, paper: Settings) -> Experiment:
    source = f"Dictionary learning under generative coefficient priors 2022, Fig. {figure}"
    return Experiment(name, shows, source, quick, paper, measure)


GEN_DEPENDENCIES = _experiment(
    "gen-dependencies",
    "with dependent coefficients [z; z^2; sin z] a generative prior beats sparse ones",
    "1a",
    Settings(Comparison(4, 10, 4, 5, n_starts=16, ridge=0.1, n_sweeps=30, relative=True), 10, 9),
    Settings(Comparison(4, 20, 4, 20, n_starts=16, ridge=0.1, n_sweeps=30, relative=True), 10, 9),
)
GEN_GROUP = _experiment(
    "gen-group",
    "with groups of coefficients of equal intensity a generative prior beats sparse ones",
    "1b",
    Settings(Comparison(4, 8, 1, 3, n_starts=1, ridge=0.01, relative=True), 784, 300, n_groups=5),
    Settings(Comparison(4, 20, 4, 20, n_starts=1, ridge=0.01, relative=True), 784, 300, n_groups=5),
)
