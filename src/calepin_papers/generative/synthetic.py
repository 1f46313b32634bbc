"""Figure 1: coefficients that depend on each other, and groups of them, with a known generator.

"Dictionary learning under generative coefficient priors", 2022, section 6: a true A* and the first A with
entries uniform in [0, 1], latents normal, noise of standard deviation .1. The paper does not say whether
A* has unit atoms, nor k for the groups: its atoms are as drawn, k = 5.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from calepin.experiments import Experiment, Findings, Run
from calepin.generators import GroupSparse, PolynomialSine
from calepin_papers._random import torch_generator
from calepin_papers.generative.comparison import (
    Comparison,
    Order,
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
    ordering
        What is claimed about the ratios of losses.
    n_test
        Samples of the test: 5 batches.
    """

    sizes: Comparison
    n_features: int
    n_coefficients: int
    ordering: tuple[Order, ...]
    n_groups: int | None = None
    sigma: float = 0.1
    n_test: int = 150


def measure(settings: Settings, run: Run) -> Findings:
    """Compare all methods on planted dictionaries."""
    outcome = compare(lambda trial: _task(settings, run.seed, trial), settings.sizes, run, "planted")
    values = values_of(outcome)
    title = "Planted dictionaries, known generator (median, range)"
    figure = draw_losses(outcome, settings.sizes, "losses.png", title, run)
    return Findings(values, claims_of(values, settings.ordering), [figure])


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


def _below(methods: tuple[str, ...], others: tuple[str, ...]) -> tuple[Order, ...]:
    return tuple((f"{method}_over_{other}", "<=") for method in methods for other in others)


_CUT = ("mod_default", "ksvd_default")
_FITTED = ("mod_omp", "ksvd_omp")
_DEPENDENCIES = Settings(
    Comparison(4, 20, 4, 20, n_starts=16, ridge=0.1, n_sweeps=30, relative=True), 10, 9,
    ordering=(
        *_below(("least_squares", "autodiff", "altmin"), _CUT),
        ("autodiff_over_mod_omp", ">="),
        ("altmin_over_mod_omp", ">="),
    ),
)  # fmt: skip
_GROUP = Settings(
    Comparison(4, 20, 4, 20, n_starts=1, ridge=0.01, relative=True), 784, 300,
    ordering=(
        *_below(("least_squares", "altmin"), _CUT + _FITTED),
        ("autodiff_over_mod_default", "<="),
        ("autodiff_over_mod_omp", ">="),
    ),
    n_groups=5,
)  # fmt: skip
GEN_DEPENDENCIES = _experiment(
    "gen-dependencies",
    "autodiff and altmin beat sparse codes cut to k as in the paper, but not those fitted with k terms",
    "1a",
    replace(_DEPENDENCIES, sizes=replace(_DEPENDENCIES.sizes, slow_trials=2)),
    _DEPENDENCIES,
)
GEN_GROUP = _experiment(
    "gen-group",
    "altmin and least squares beat sparse codes, cut to k or fitted with k; autodiff beats MOD's cut ones",
    "1b",
    replace(_GROUP, sizes=replace(_GROUP.sizes, n_batches=10, slow_trials=1, slow_batches=10)),
    _GROUP,
)
