"""Ordinary dictionary learning is the case of a generator of sparse vectors.

"Dictionary learning under generative coefficient priors", 2022, section 1: "particular constructions for G
can capture k-sparsity (Kamath et al., 2019), recovering ordinary dictionary learning". With
`calepin.generators.KSparse` as the prior, Algorithm 1 learns a planted dictionary from atoms near the true
ones, each step from a fresh batch, beside MOD with orthogonal matching pursuit (OMP) on the same batches.

The construction moves the difficulty into the oracle. Here it is OMP, whose codes become latents; from random
starts, decoding finds few supports, and Algorithm 1 leaves the true atoms. As in ordinary dictionary learning
the norms of atoms are free, since codes may be of any size: errors are those of atoms of norm 1.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin import sparse_encode
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.generators import KSparse
from calepin.learning import MOD, Algorithm1, AtomSet, Batch
from calepin.metrics import dictionary_error
from calepin.problem import Problem
from calepin.report import curves, save_figure
from calepin.solvers import PursuitCoder
from calepin_papers._common import band, spread
from calepin_papers._random import torch_generator

__all__ = ["GEN_SPARSE", "CodedKSparse", "Settings"]

NAMES = {
    "oracle": "Algorithm 1, k-sparse generator, decoded by OMP",
    "mod": "MOD with OMP",
    "random": "Algorithm 1, k-sparse generator, random starts",
}


@dataclass(frozen=True)
class Settings:
    """Sizes of the model and of the runs.

    Attributes
    ----------
    delta
        Distance of each first atom to its truth.
    n_starts
        Random starts of a decoding without OMP.
    """

    n_draws: int
    n_iter: int
    n_batch: int = 500
    n_coefficients: int = 30
    n_features: int = 20
    n_nonzero: int = 2
    delta: float = 0.3
    n_starts: int = 4


class CodedKSparse(KSparse):
    """The generator of sparse vectors, whose latents start at the codes of orthogonal matching pursuit."""

    def latents(self, codes: Tensor) -> Tensor:
        """Return latents (n, 2 k) of codes (n, n_coefficients): of their k entries of largest magnitude."""
        places = codes.abs().topk(self.n_nonzero, dim=1).indices
        uniform = (places.to(codes) + 0.5) / self.n_coefficients
        positions = math.sqrt(2) * torch.erfinv(2 * uniform - 1)
        return torch.cat([positions, codes.gather(1, places)], 1)

    def initial_latents(self, problem: Problem) -> Tensor:
        """Return the latents of the codes of observations."""
        atoms = problem.operator(torch.eye(self.n_coefficients, dtype=problem.y.dtype))
        norms = atoms.norm(dim=1, keepdim=True)
        codes = sparse_encode(problem.y, atoms / norms, method="omp", n_nonzero=self.n_nonzero)
        return self.latents(torch.as_tensor(codes) / norms.mT)


def measure(settings: Settings, run: Run) -> Findings:
    """Learn in every draw by each method, each a piece."""
    errors: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for draw in range(settings.n_draws):
        for i, name in enumerate(NAMES):
            run.progress((draw + i / len(NAMES)) / settings.n_draws, f"draw {draw + 1}, {name}")
            piece = run.piece(
                f"draw{draw}-{name}",
                lambda m=name, d=draw: {"errors": np.array(learn(settings, m, [run.seed, d]))},
            )
            errors[name].append(piece["errors"])
    values = spread("error_start", [rows[0] for rows in errors["mod"]])
    for name, rows in errors.items():
        values |= spread(f"error_{name}", [row[-1] for row in rows])
    claims = [
        Claim(
            "Algorithm 1 with a k-sparse generator: error over the start", _over(errors["oracle"]), "<=", 0.05
        ),
        Claim("MOD on the same batches: error over the start", _over(errors["mod"]), "<=", 0.05),
        Claim(
            "from random starts it leaves the truth: error over the start", _over(errors["random"]), ">=", 1
        ),
    ]
    t = np.arange(settings.n_iter + 1)
    figure = curves(
        {NAMES[name]: band(t, rows, floor=1e-9) for name, rows in errors.items()},
        xlabel=f"batches of {settings.n_batch} samples",
        ylabel="relative error of the dictionary",
        yscale="log",
        title="Ordinary dictionary learning as a generator (median and range)",
    )
    save_figure(figure, run.folder / "sparse.png")
    return Findings(values, claims, ["sparse.png"])


def learn(settings: Settings, method: str, seed: list[int]) -> list[float]:
    """Return the error before the first and after each batch."""
    random = torch_generator(np.random.default_rng(seed))
    draw = lambda *shape: torch.randn(shape, dtype=torch.float64, generator=random)  # noqa: E731
    truth = AtomSet("sphere").project(draw(settings.n_coefficients, settings.n_features))
    atoms = truth + settings.delta * AtomSet("sphere").project(draw(*truth.shape))
    generator = CodedKSparse(settings.n_nonzero, settings.n_coefficients)
    if method == "mod":
        rule: Any = MOD(PursuitCoder(settings.n_nonzero), AtomSet("sphere"), replace_every=None)
    elif method == "oracle":
        rule = Algorithm1(generator)
    else:
        rule = Algorithm1(KSparse(settings.n_nonzero, settings.n_coefficients), n_starts=settings.n_starts)
    state = rule.init(atoms)
    error = lambda: dictionary_error(AtomSet("sphere").project(state.atoms), truth)  # noqa: E731
    errors = [error()]
    for _ in range(settings.n_iter):
        batch = generator(draw(settings.n_batch, generator.latent_dim)) @ truth
        rule.step(state, Batch(batch.numpy(), None))
        rule.end_pass(state)
        errors.append(error())
    return errors


def _over(errors: list[np.ndarray]) -> float:
    return float(np.median([row[-1] / row[0] for row in errors]))


GEN_SPARSE = Experiment(
    name="gen-sparse",
    shows="with a k-sparse generator and OMP as the oracle, Algorithm 1 is ordinary dictionary learning",
    source="Dictionary learning under generative coefficient priors 2022, section 1 (Kamath et al. 2019)",
    quick=Settings(n_draws=3, n_iter=15),
    paper=Settings(n_draws=10, n_iter=60, n_batch=4000),
    measure=measure,
)
