"""What figures 1 to 6 have in common: methods see one batch after another and are tested after each.

A batch is of 30 fresh samples. Every method is tested on the same noisy samples; its loss is the mean
distance of its reconstructions from the clean ones, for the synthetic figures relative to their norm.
Codes and latents are rounded to 4 digits.

What is the paper's: autodiff and altmin, 1000 steps of Adam a batch (altmin 1000 for the latents and 1000
for the atoms) with its learning rates, and the evaluation of sparse codes ("default", see `baselines`).
What is ours: `least_squares`; and the latents in the test, which are found by Levenberg-Marquardt for all
methods with a generator, at least as well as by Adam.

At quick scale autodiff and altmin see fewer draws, and for some figures fewer batches (`slow_trials`,
`slow_batches`). A ratio compares two methods after as many batches, in the draws that both have.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from calepin.experiments import Claim, Run
from calepin.generators import Generator
from calepin.learning import AltMin, Autodiff, Batch, GenerativeRule, LeastSquares
from calepin.report import curves, save_figure
from calepin_papers._common import band, spread
from calepin_papers.generative.baselines import WAYS, KSVDBaseline, MODBaseline, reconstruct, rounded

__all__ = ["Comparison", "Order", "Outcome", "Task", "claims_of", "compare", "draw_losses", "values_of"]

SLOW = ("autodiff", "altmin")
SPARSE = ("mod", "ksvd")
SHOWN = 6  # reconstructions that are kept for the figure
EVALUATED = tuple(f"{method}_{way}" for method in SPARSE for way in WAYS)

Order = tuple[str, Literal["<=", ">="]]
"""A ratio of losses by its name in the values, and on which side of 1 it is claimed to be."""


@dataclass(frozen=True)
class Task:
    """One draw of a problem.

    Attributes
    ----------
    generator
        The coefficient prior, known to the methods that use one.
    latent_dim
        k, also the nonzeros of a sparse code.
    atoms
        The start of the methods with a generator, (n_coefficients, m).
    uniform
        Another start, with entries uniform in [0, 1], for the methods ``*_uniform``.
    batch
        Returns clean and noisy samples (n, m) of the training set, fresh ones at each call.
    clean, noisy
        The test.
    """

    generator: Generator
    latent_dim: int
    atoms: Tensor
    batch: Callable[[int], tuple[Tensor, Tensor]]
    clean: Tensor
    noisy: Tensor
    uniform: Tensor | None = None


@dataclass(frozen=True)
class Comparison:
    """How long methods learn, and how often.

    Attributes
    ----------
    n_trials, n_batches
        Draws, and batches in each, for all but the slow methods.
    slow_trials, slow_batches
        The same for the slow methods.
    slow
        Autodiff and altmin, also from the uniform start: ``autodiff_uniform``.
    n_starts
        Of a decoding by Levenberg-Marquardt.
    ridge, n_sweeps
        Of the least-squares rule.
    relative
        Whether losses are relative to the norm of the clean samples.
    """

    n_trials: int
    n_batches: int
    slow_trials: int
    slow_batches: int
    slow: tuple[str, ...] = SLOW
    n_starts: int = 4
    batch_size: int = 30
    ridge: float = 1.0
    n_sweeps: int = 1
    relative: bool = False


@dataclass
class Outcome:
    """Losses (trials, batches) and CPU seconds a batch by method, and reconstructions of the last trial."""

    losses: dict[str, list[NDArray]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    images: dict[str, NDArray] = field(default_factory=dict)

    def last(self, method: str) -> NDArray[np.float64]:
        """Return the losses of all trials after the last batch."""
        return np.array([trial[-1] for trial in self.losses[method]])

    def ratio(self, method: str, other: str) -> float:
        """Return the loss of a method over that of another, median over the trials that both have.

        Both have seen as many batches.
        """
        pairs = list(zip(self.losses[method], self.losses[other], strict=False))
        last = min(len(losses) for losses in pairs[0]) - 1
        return float(np.median([mine[last] / its[last] for mine, its in pairs]))


def compare(task_of: Callable[[int], Task], sizes: Comparison, run: Run, name: str) -> Outcome:
    """Let all methods learn in every trial, each a piece of the run; `task_of(trial)` gives the draw."""
    outcome = Outcome()
    jobs = [
        (trial, method)
        for trial in range(sizes.n_trials)
        for method in ("least_squares", *SPARSE, *(sizes.slow if trial < sizes.slow_trials else ()))
    ]
    for i, (trial, method) in enumerate(jobs):
        run.progress(i / len(jobs), f"{name}: draw {trial + 1}, {method}")
        # each method has a draw of its own: all see the same batches
        found = run.piece(
            f"{name}-{trial}-{method}", lambda t=trial, m=method: _learn(m, task_of(t), sizes, t)
        )
        for way in ("", *WAYS):
            if f"losses_{way}" in found:
                key = f"{method}_{way}" if way else method
                outcome.losses.setdefault(key, []).append(found[f"losses_{way}"])
                outcome.seconds.setdefault(key, []).append(float(found["seconds"]))
                outcome.images[key] = found[f"images_{way}"]
    task = task_of(sizes.n_trials - 1)
    outcome.images |= {"clean": task.clean[:SHOWN].numpy(), "noisy": task.noisy[:SHOWN].numpy()}
    return outcome


def _learn(method: str, task: Task, sizes: Comparison, seed: int) -> dict[str, NDArray]:
    """Learn from batches; return losses and images for each way of evaluating the method, and seconds."""
    n_batches = sizes.slow_batches if method in sizes.slow else sizes.n_batches
    step, reconstructions = (_sparse if method in SPARSE else _generative)(method, task, sizes, seed)
    clean = task.clean.double().numpy()
    losses: dict[str, list[float]] = {}
    spent, made = 0.0, {}
    for _ in range(n_batches):
        batch = task.batch(sizes.batch_size)[1]
        begun = time.process_time()
        step(batch)
        spent += time.process_time() - begun
        made = reconstructions()
        for way, reconstruction in made.items():
            losses.setdefault(way, []).append(_loss(reconstruction, clean, sizes.relative))
    found = {f"losses_{way}": np.array(values) for way, values in losses.items()}
    found |= {f"images_{way}": images[:SHOWN] for way, images in made.items()}
    return found | {"seconds": np.array(spent / n_batches)}


def _sparse(method: str, task: Task, sizes: Comparison, seed: int):
    """Return what a baseline does with a batch, and what gives its reconstructions of the test."""
    learner = (MODBaseline if method == "mod" else KSVDBaseline)(len(task.atoms), seed)
    noisy = task.noisy.double().numpy()
    return (
        lambda batch: learner.learn(batch.double().numpy()),
        lambda: reconstruct(noisy, learner.atoms, task.latent_dim),
    )


def _generative(method: str, task: Task, sizes: Comparison, seed: int):
    """Return what a method with a generator does with a batch, and what gives its reconstructions."""
    kind, *_ = method.partition("_uniform")
    rule = _rule(kind, task, sizes, seed)
    state = rule.init(task.atoms if method == kind else task.uniform)
    return (
        lambda batch: rule.step(state, Batch(batch.numpy(), None)),
        lambda: {"": _decoded(task, state.atoms, sizes)},
    )


def _rule(method: str, task: Task, sizes: Comparison, seed: int) -> GenerativeRule:
    if method == "least_squares":
        return LeastSquares(
            task.generator, task.latent_dim, n_starts=sizes.n_starts, seed=seed, ridge=sizes.ridge,
            n_sweeps=sizes.n_sweeps,
        )  # fmt: skip
    return {"altmin": AltMin, "autodiff": Autodiff}[method](task.generator, task.latent_dim, seed=seed)


def _decoded(task: Task, atoms: Tensor, sizes: Comparison) -> NDArray:
    rule = LeastSquares(task.generator, task.latent_dim, n_starts=sizes.n_starts)
    z = rounded(rule.decode(atoms, task.noisy, tol=1e-4).z)  # a finer one changes no reported digit
    return (task.generator(z) @ atoms).numpy()


def _loss(reconstruction: NDArray, clean: NDArray, relative: bool) -> float:
    distances = np.linalg.norm(reconstruction - clean, axis=1)
    return float(np.mean(distances / np.linalg.norm(clean, axis=1) if relative else distances))


def values_of(outcome: Outcome, prefix: str = "") -> dict[str, float]:
    """Return the median and range of every last loss, ratios of losses, and CPU seconds of a batch.

    ``autodiff_over_mod_default`` is `Outcome.ratio`; there is one for each method with a generator and each
    evaluation of a baseline, and for autodiff and altmin over least squares.
    """
    values: dict[str, float] = {}
    for method in outcome.losses:
        values |= spread(f"{prefix}{method}", outcome.last(method))
    generative = [method for method in outcome.losses if method not in EVALUATED]
    for method in generative:
        others = EVALUATED if method == "least_squares" else (*EVALUATED, "least_squares")
        for other in others:
            values[f"{prefix}{method}_over_{other}"] = outcome.ratio(method, other)
        values[f"seconds_{prefix}{method}"] = float(np.median(outcome.seconds[method]))
    return values


def claims_of(
    values: dict[str, float], ordering: Sequence[Order], prefix: str = "", what: str = ""
) -> list[Claim]:
    """Return the claims about ratios, and that a batch of least squares takes less time than others."""
    claims = [
        Claim(f"{what}{ratio.replace('_over_', ' over ')}", values[prefix + ratio], relation, 1.0)
        for ratio, relation in ordering
    ]
    for name in SLOW:
        if f"seconds_{prefix}{name}" not in values:
            continue  # a run without it
        speed = values[f"seconds_{prefix}{name}"] / values[f"seconds_{prefix}least_squares"]
        claims.append(Claim(f"{what}times that a batch of {name} takes", speed, ">=", 1.0))
    return claims


def draw_losses(outcome: Outcome, sizes: Comparison, name: str, title: str, run: Run) -> str:
    """Draw loss over batches, median and range, and return the file's name."""
    lines = {}
    for method, trials in outcome.losses.items():
        y = np.array(trials)
        lines[method.replace("_", " ")] = band(np.arange(1, y.shape[1] + 1), y)
    figure = curves(
        lines,
        xlabel=f"batches of {sizes.batch_size} samples",
        ylabel="relative loss" if sizes.relative else "loss",
        yscale="log",
        title=title,
    )
    save_figure(figure, run.folder / name)
    return name
