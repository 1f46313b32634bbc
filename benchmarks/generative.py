"""Latents behind a generator: Levenberg-Marquardt beside the paper's 1000 steps of Adam, and learning."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.runner import Comparison, Contender
from calepin.datasets import data_path, load_mnist
from calepin.generators import Generator, GroupSparse, LatentProblem, PolynomialSine, ReLUNet
from calepin.learning import Autodiff, Batch, GenerativeRule, LeastSquares
from calepin.likelihoods import Gaussian
from calepin.networks import pretrained
from calepin.operators import Dense
from calepin.problem import Problem
from calepin.solvers import Adam, Decoded, LevenbergMarquardt, decode
from calepin_papers.generative.digits import digit_task, load

N, SIGMA = 30, 0.1


def _planted(generator: Generator, atoms: Tensor, k: int) -> LatentProblem:
    draw = torch.Generator().manual_seed(1)
    clean = generator(torch.randn((N, k), generator=draw)) @ atoms
    y = clean + SIGMA * torch.randn(clean.shape, generator=draw)
    return LatentProblem(Problem(Dense(atoms), Gaussian(), y), generator)


def _decoders(problem: LatentProblem, n_starts: int) -> list[Contender]:
    def measure(found: Decoded) -> dict[str, float]:
        residual = (problem.eta(found.z) - problem.problem.y).norm(dim=1)
        return {"residual": float(residual.mean()), "iterations": float(found.n_iter)}

    lm = lambda: decode(problem, solver=LevenbergMarquardt(), n_starts=n_starts)  # noqa: E731
    return [
        Contender(f"Levenberg-Marquardt, {n_starts} starts", lm, measure),
        Contender("Adam, 1000 steps", lambda: decode(problem, solver=Adam()), measure),
    ]


def _poly() -> list[Contender]:
    atoms = torch.rand((9, 10), generator=torch.Generator().manual_seed(0))
    return _decoders(_planted(PolynomialSine(3), atoms, 3), 4)


def _group() -> list[Contender]:
    atoms = torch.rand((300, 784), generator=torch.Generator().manual_seed(0))
    return _decoders(_planted(GroupSparse(5, 300), atoms, 5), 1)


def _relu() -> list[Contender]:
    atoms = torch.randn((400, 784), generator=torch.Generator().manual_seed(0)) / 40
    return _decoders(_planted(ReLUNet((20, 400)), atoms, 20), 2)


def _mnist() -> list[Contender]:
    """Decode logits of all test digits, from the encoder's latents: a warm start."""
    network = pretrained("vae-mnist")
    x = torch.from_numpy(load_mnist("test")[0])
    atoms = network.decoder[2].weight.detach().T.contiguous()
    with torch.no_grad():
        z0 = network.encode(x)[0]
        y = network.decoder[:-1](z0) + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    problem = LatentProblem(Problem(Dense(atoms), Gaussian(), y), network.generator())

    def measure(found: Decoded) -> dict[str, float]:
        return {"residual": float((2 * found.objective).sqrt().mean()), "iterations": float(found.n_iter)}

    return [
        Contender("10,000 digits, random start", lambda: decode(problem), measure),
        Contender("10,000 digits, encoder's start", lambda: decode(problem, z0=z0), measure),
    ]


def _learning() -> list[Contender]:
    generator = ReLUNet((20, 400))
    draw = torch.Generator().manual_seed(0)
    truth, start = (torch.randn((400, 784), generator=draw) / 40 for _ in range(2))
    y = (generator(torch.randn((N, 20), generator=draw)) @ truth).numpy()

    def contender(name: str, rule: GenerativeRule) -> Contender:
        def step() -> Any:
            return rule.step(rule.init(start), Batch(y, None))

        return Contender(name, step, lambda objective: {"objective": float(np.mean(objective))})

    return [contender("least squares", LeastSquares(generator)), contender("autodiff", Autodiff(generator))]


AFTER = (1, 2, 4, 10, 20)


class _Finer(LeastSquares):
    """Latents found as exactly as in coding."""

    learning_tol = 1e-6


class _Coarser(LeastSquares):
    """Latents found to a hundredth."""

    learning_tol = 1e-2


def _ideas() -> list[Contender]:
    """Learn from blurred digits, 20 batches of 30; losses are those of `gen-mnist-transfer`, seed 0."""
    data_path("mnist")  # the figures are of its digits
    digits = load()
    rules: dict[str, Callable[..., LeastSquares]] = {
        "latents to 1e-3": LeastSquares,
        "to 1e-6": _Finer,
        "to 1e-2": _Coarser,
        "4 starts": partial(LeastSquares, n_starts=4),
        "ridge .3": partial(LeastSquares, ridge=0.3),
        "ridge 4": partial(LeastSquares, ridge=4.0),
        "ridge by evidence": partial(LeastSquares, ridge="evidence"),
        "3 turns a batch": partial(LeastSquares, n_sweeps=3),
    }

    def learn(rule: Callable[..., LeastSquares]) -> dict[str, float]:
        task, reached, spent = digit_task(digits, "blur", 0, 0), {}, 0.0
        learner = rule(task.generator, task.latent_dim)
        state = learner.init(task.atoms)
        for n in range(1, AFTER[-1] + 1):
            batch = Batch(task.batch(N)[1].numpy(), None)
            begun = time.process_time()
            learner.step(state, batch)
            spent += time.process_time() - begun
            if n in AFTER:
                z = learner.decode(state.atoms, task.noisy).z
                distance = (task.generator(z) @ state.atoms - task.clean).norm(dim=1)
                reached[f"after {n}"] = float(distance.mean())
        return reached | {"ms a batch": 1000 * spent / AFTER[-1]}

    return [Contender(name, partial(learn, rule), lambda reached: reached) for name, rule in rules.items()]


COMPARISONS = [
    Comparison("latent-poly", "30 latents of (z, z^2, sin z), m = 10", "20x, no larger residual", _poly),
    Comparison("latent-group", "30 latents of ReLU(M z^2), 300 x 784", "5x, no larger residual", _group),
    Comparison("latent-relu", "30 latents of ReLU(W z), 20-400-784", "5x, no larger residual", _relu),
    Comparison("latent-mnist", "10,000 digits through 20-400-784", "under 15 s", _mnist, rounds=1),
    Comparison("latent-learning", "A batch of 30, 20-400-784", "under .1 s", _learning, rounds=3),
    Comparison("generative-ideas", "Blurred digits: loss after n batches of 30", "none", _ideas, rounds=1),
]
