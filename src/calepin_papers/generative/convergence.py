"""Algorithm 1 converges geometrically from atoms near the true ones.

Theorems 5.1 and 5.2 of "Dictionary learning under generative coefficient priors", 2022, on
G(z) = sin(W z + b), whose dictionary is identifiable (`calepin.generators.identifiability`): every atom
starts at distance Delta from its truth, each step takes a fresh batch. What is measured is the largest
distance of an atom to its truth.

The theorems assume an oracle that decodes to the global optimum. Its place is taken
by Levenberg-Marquardt from the true latents; `final_honest` is what decoding from random starts reaches,
where a few latents of a hundred end in a wrong optimum. With noise the errors end at a floor.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.generators import LatentProblem, Sine
from calepin.learning import algorithm1_step, preconditioner
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.problem import Problem
from calepin.report import curves, save_figure
from calepin.solvers import decode
from calepin_papers._common import band, spread

__all__ = ["GEN_CONVERGENCE", "Settings", "Step", "Variant", "iterations"]

_FLOOR = 1e-9  # errors below it are rounding and say nothing of the rate


@dataclass(frozen=True)
class Variant:
    """One curve: how Algorithm 1 is run.

    Attributes
    ----------
    eta
        Step size; 2/25 is what the proofs allow.
    precondition
        Whether C^{-1} is used, or the identity in its place.
    sigma
        Standard deviation of the noise.
    n_starts
        Random starts of each decoding; 0 starts at the true latents.
    """

    eta: float = 1.0
    precondition: bool = True
    sigma: float = 0.0
    n_starts: int = 0


VARIANTS = {
    "eta = 1": Variant(),
    "eta = 2/25": Variant(eta=2 / 25),
    "eta = 1, without C^-1": Variant(precondition=False),
    "eta = 1, sigma = .1": Variant(sigma=0.1),
    "eta = 1, random starts": Variant(n_starts=8),
}


@dataclass(frozen=True)
class Settings:
    """Sizes of the model and of the runs; `delta` is the distance of each first atom to its truth."""

    n_draws: int
    n_batch: int
    n_iter: int
    delta: float = 0.1
    latent_dim: int = 2
    n_coefficients: int = 8
    n_features: int = 24


def measure(settings: Settings, run: Run) -> Findings:
    """Run every variant in every draw."""
    errors: dict[str, list[np.ndarray]] = {name: [] for name in VARIANTS}
    seeds = np.random.SeedSequence(run.seed).generate_state(settings.n_draws)
    for draw, seed in enumerate(seeds.tolist()):
        for i, (name, variant) in enumerate(VARIANTS.items()):
            run.progress((draw + i / len(VARIANTS)) / settings.n_draws, f"draw {draw + 1}, {name}")
            piece = run.piece(f"draw{draw}-{i}", lambda v=variant, s=seed: {"errors": learn(settings, v, s)})
            errors[name].append(piece["errors"])
    found = {name: np.array(rows) for name, rows in errors.items()}
    values = _values(found)
    claims = [
        Claim(
            "noiseless, eta = 1: error after the run, over Delta",
            values["final_noiseless"] / settings.delta,
            "<=",
            1 / 30,
        ),
        Claim("it falls geometrically: factor an iteration", values["rate_eta1"], "<=", 0.9),
        Claim("eta = 2/25 falls geometrically too", values["rate_small_eta"], "<=", 0.97),
        Claim(
            "noise leaves a floor: over the noiseless error",
            values["floor_noise"] / max(values["final_noiseless"], _FLOOR),
            ">=",
            10,
        ),
    ]
    lines = {name: band(np.arange(rows.shape[1]), rows) for name, rows in found.items()}
    figure = curves(
        lines,
        xlabel="iterations of Algorithm 1",
        ylabel="largest distance of an atom to its truth",
        yscale="log",
        title="Algorithm 1 near the truth (median and range over draws)",
    )
    save_figure(figure, run.folder / "convergence.png")
    return Findings(values, claims, ["convergence.png"])


@dataclass(frozen=True)
class Step:
    """One iteration of Algorithm 1, before its update.

    Attributes
    ----------
    first, truth, atoms
        A0, A* and the current A, atoms in rows.
    z, found
        The true latents and the decoded ones.
    y, noise
        The samples, and the noise in them.
    inverse
        The preconditioner.
    """

    generator: Sine
    first: Tensor
    truth: Tensor
    atoms: Tensor
    z: Tensor
    found: Tensor
    y: Tensor
    noise: Tensor
    inverse: Tensor

    def moved(self, eta: float, delta: float = math.inf) -> Tensor:
        """Return the atoms after a step of size `eta`, within the balls of radius `delta`."""
        return algorithm1_step(
            self.atoms, self.generator(self.found), self.y, self.inverse, step_size=eta, first=self.first,
            delta=delta,
        )  # fmt: skip


def learn(settings: Settings, variant: Variant, seed: int) -> list[float]:
    """Return the error before the first and after each iteration."""
    steps = islice(iterations(settings, variant, seed), settings.n_iter + 1)
    return [_error(step.atoms, step.truth) for step in steps]


def iterations(settings: Settings, variant: Variant, seed: int) -> Iterator[Step]:
    """Yield the iterations of a run without end, each with its fresh batch."""
    random = torch.Generator().manual_seed(seed)
    generator = Sine(settings.latent_dim, settings.n_coefficients, seed=seed, dtype=torch.float64)
    truth = _unit_rows(_randn(random, settings.n_coefficients, settings.n_features))
    atoms = truth + settings.delta * _unit_rows(_randn(random, *truth.shape))
    inverse = torch.eye(len(truth), dtype=torch.float64)
    if variant.precondition:
        inverse = preconditioner(generator, like=truth, seed=seed)
    first = atoms.clone()
    # as near to the oracle as rounding allows; from random starts wrong optima, not tol, limit the result
    tol = 1e-6 if variant.n_starts else 1e-12
    while True:
        z = _randn(random, settings.n_batch, settings.latent_dim)
        noise = variant.sigma * _randn(random, settings.n_batch, settings.n_features)
        y = generator(z) @ truth + noise
        problem = LatentProblem(Problem(Dense(atoms), Gaussian(), y), generator)
        start = None if variant.n_starts else z
        found = decode(problem, z0=start, n_starts=variant.n_starts or 1, tol=tol, generator=random)
        step = Step(generator, first, truth, atoms, z, found.z, y, noise, inverse)
        yield step
        atoms = step.moved(variant.eta, settings.delta)


def _values(errors: dict[str, np.ndarray]) -> dict[str, float]:
    values = {}
    for key, name in (("rate_eta1", "eta = 1"), ("rate_small_eta", "eta = 2/25")):
        values |= spread(key, [_rate(row) for row in errors[name]])
    for key, name in (
        ("final_noiseless", "eta = 1"),
        ("final_small_eta", "eta = 2/25"),
        ("final_no_precondition", "eta = 1, without C^-1"),
        ("floor_noise", "eta = 1, sigma = .1"),
        ("final_honest", "eta = 1, random starts"),
    ):
        values |= spread(key, errors[name][:, -1])
    return values


def _rate(errors: np.ndarray) -> float:
    """Return the factor an iteration: that of a line through the logarithms above rounding."""
    t = np.flatnonzero(errors > _FLOOR)
    return float(np.exp(np.polyfit(t, np.log(errors[t]), 1)[0]))


def _error(atoms: Tensor, truth: Tensor) -> float:
    return float(torch.linalg.vector_norm(atoms - truth, dim=1).max())


def _randn(random: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=random)


def _unit_rows(x: Tensor) -> Tensor:
    return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)


_QUICK = Settings(n_draws=3, n_batch=400, n_iter=30)

GEN_CONVERGENCE = Experiment(
    name="gen-convergence",
    shows="Algorithm 1, decoding from the true latents, converges geometrically; noise leaves a floor",
    source="Dictionary learning under generative coefficient priors 2022, Thms. 5.1 and 5.2",
    quick=_QUICK,
    paper=replace(_QUICK, n_draws=20, n_batch=4000, n_iter=100),
    measure=measure,
)
