"""What figures 1 to 6 have in common: methods see one batch after another and are tested after each.

A batch is of 30 fresh samples. Every method is tested on the same noisy samples; its loss is the mean
distance of its reconstructions from the clean ones, for the synthetic figures relative to their norm.
Codes and latents are rounded to 4 digits. Latents of all methods with a generator are found by
Levenberg-Marquardt in the test, from several starts: at least as good as the Adam that altmin and
autodiff learn with.

The methods that run Adam are slow: they see the first batches only, of the first draws.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from calepin.experiments import Claim, Run
from calepin.generators import Generator
from calepin.learning import AltMin, Autodiff, Batch, GenerativeRule, LeastSquares
from calepin.report import curves, save_figure
from calepin_papers._common import band, spread
from calepin_papers.generative.baselines import KSVDBaseline, MODBaseline, reconstruct, rounded

__all__ = ["Comparison", "Outcome", "Task", "claims_of", "compare", "draw_losses", "values_of"]

SLOW = ("autodiff", "altmin")
SPARSE = ("mod", "ksvd")
DEFAULTS = ("mod_default", "ksvd_default")


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


@dataclass(frozen=True)
class Comparison:
    """How long methods learn, and how often.

    Attributes
    ----------
    n_trials, n_batches
        Draws, and batches in each, for all but the slow methods.
    slow_trials, slow_batches
        The same for autodiff and altmin.
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
    n_starts: int = 4
    batch_size: int = 30
    ridge: float = 1.0
    n_sweeps: int = 1
    relative: bool = False


@dataclass
class Outcome:
    """Losses (trials, batches) and seconds a batch by method, and reconstructions of the last trial."""

    losses: dict[str, list[list[float]]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    images: dict[str, NDArray] = field(default_factory=dict)

    def at(self, method: str, batch: int) -> NDArray[np.float64]:
        """Return the losses of all trials after a number of batches."""
        return np.array([trial[batch - 1] for trial in self.losses[method]])

    def last(self, method: str) -> NDArray[np.float64]:
        """Return the losses of all trials after the last batch."""
        return np.array([trial[-1] for trial in self.losses[method]])


def compare(task_of: Callable[[int], Task], sizes: Comparison, progress: Callable[[float], None]) -> Outcome:
    """Let all methods learn in every trial; `task_of(trial)` gives the draw."""
    outcome = Outcome()
    for trial in range(sizes.n_trials):
        task = task_of(trial)
        outcome.images |= {"clean": task.clean.numpy(), "noisy": task.noisy.numpy()}
        slow = SLOW if trial < sizes.slow_trials else ()
        methods = ("least_squares", *SPARSE, *slow)
        for i, method in enumerate(methods):  # each with a draw of its own: all see the same batches
            n_batches = sizes.slow_batches if method in SLOW else sizes.n_batches
            for name, losses, seconds in _learn(
                method, task_of(trial), sizes, n_batches, trial, outcome.images
            ):
                outcome.losses.setdefault(name, []).append(losses)
                outcome.seconds.setdefault(name, []).append(seconds)
            progress((trial + (i + 1) / len(methods)) / sizes.n_trials)
    return outcome


def _learn(
    method: str, task: Task, sizes: Comparison, n_batches: int, seed: int, images: dict[str, NDArray]
) -> Iterator[tuple[str, list[float], float]]:
    """Learn from batches and yield losses for each way of evaluating the method."""
    if method in SPARSE:
        kind = MODBaseline if method == "mod" else KSVDBaseline
        learner = kind(len(task.atoms), seed)
        clean, noisy = task.clean.double().numpy(), task.noisy.double().numpy()
        steps = (learner.learn for _ in range(n_batches))
        make = lambda: reconstruct(noisy, learner.atoms, task.latent_dim)  # noqa: E731
    else:
        rule = _rule(method, task, sizes, seed)
        state = rule.init(task.atoms)
        clean = task.clean.numpy()
        steps = ((lambda y: rule.step(state, Batch(y, None))) for _ in range(n_batches))
        make = lambda: {"": _decoded(task, state.atoms, sizes)}  # noqa: E731
    losses: dict[str, list[float]] = {}
    spent, made = 0.0, {}
    for step in steps:
        noisy_batch = task.batch(sizes.batch_size)[1]
        batch = noisy_batch.double().numpy() if method in SPARSE else noisy_batch.numpy()
        begun = time.perf_counter()
        step(batch)
        spent += time.perf_counter() - begun
        made = make()
        for way, reconstruction in made.items():
            losses.setdefault(way, []).append(_loss(reconstruction, clean, sizes.relative))
    for way, values in losses.items():
        name = f"{method}_{way}" if way else method
        images[name] = made[way]
        yield name, values, spent / n_batches


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


def values_of(outcome: Outcome, sizes: Comparison, prefix: str = "") -> dict[str, float]:
    """Return the median and range of every method's last loss, and the seconds that a batch takes.

    Where the slow methods saw fewer batches, ``least_squares_early`` is the loss after as many.
    """
    named = {method: outcome.last(method) for method in outcome.losses}
    named["least_squares_early"] = outcome.at("least_squares", sizes.slow_batches)
    values: dict[str, float] = {}
    for method, losses in named.items():
        values |= spread(f"{prefix}{method}", losses)
    for method in ("least_squares", *SLOW):
        values[f"{prefix}seconds_{method}"] = float(np.median(outcome.seconds[method]))
    return values


def claims_of(values: dict[str, float], prefix: str = "", what: str = "") -> list[Claim]:
    """Return the claims that all figures share; the paper's evaluation of the baselines is "default"."""
    of = lambda name: values[prefix + name]  # noqa: E731
    best = of("least_squares")
    claims = [Claim(f"{what}least-squares over {name}", best / of(name), "<=", 1.0) for name in DEFAULTS]
    for name in SLOW:
        ratio = of("least_squares_early") / of(name)
        claims.append(Claim(f"{what}least-squares over {name}, after as many batches", ratio, "<=", 1.0))
        speed = of(f"seconds_{name}") / of("seconds_least_squares")
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
