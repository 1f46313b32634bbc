"""Figure 1: art and grass from a quarter of their measurements, run to convergence.

Both images, with several random starts each, are one batch: independent problems in one fit. A
reconstruction is the average over its starts, whose errors partly cancel; those of single
starts are reported too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.networks import DeepDecoder, DeepImagePrior, UntrainedNetwork
from calepin.operators import GaussianSketch, LinearOperator, SubsampledHadamard
from calepin.reconstruction import FitProgress, UntrainedSolution, fit_untrained
from calepin.report import Curve, before_after, curves, save_figure
from calepin.solvers import Adam
from calepin_papers._common import fixed_iterations, spread
from calepin_papers._random import torch_generator
from calepin_papers.untrained_networks.image_pair import load_pair, sketch_shape

__all__ = ["CS_IMAGES", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Sizes of images and networks.

    Attributes
    ----------
    n_starts
        Random starts of the deep decoder that are averaged; the other fits have one.
    max_iter, max_iter_prior
        Iterations of the decoder and of the deep image prior.
    """

    size: int
    n_starts: int
    max_iter: int
    max_iter_prior: int
    fraction: float = 0.25
    channels: int = 64
    depth: int = 5
    in_size: int = 8
    learning_rate: float = 0.01
    prior_channels: int = 32
    prior_depth: int = 3
    learning_rate_prior: float = 0.01


@dataclass(frozen=True)
class _Plan:
    """One fit of both images: which network, by which measurements, and its iterations."""

    prior: bool
    gaussian: bool
    n_starts: int
    max_iter: int


def measure(settings: Settings, run: Run) -> Findings:
    """Fit decoder and image prior, and follow both losses of Fig. 1."""
    images, _ = load_pair(settings.size)
    plans = {
        "": _Plan(prior=False, gaussian=False, n_starts=settings.n_starts, max_iter=settings.max_iter),
        "_gaussian": _Plan(prior=False, gaussian=True, n_starts=1, max_iter=settings.max_iter),
        "_prior": _Plan(prior=True, gaussian=False, n_starts=1, max_iter=settings.max_iter_prior),
    }
    values: dict[str, float] = {}
    found = {}
    for done, (suffix, plan) in enumerate(plans.items()):

        def report(part: float, done: int = done, name: str = suffix[1:] or "hadamard") -> None:
            run.progress((done + part) / len(plans), name)

        report(0.0)
        compute = partial(_reconstruct, settings, plan, run, [run.seed, done], report)
        one = found[suffix] = run.piece(suffix[1:] or "hadamard", compute)
        for i, name in enumerate(images):
            values[name + suffix] = float(one["final"][i])
            values[f"final_over_best_{name}{suffix}"] = float(one["final"][i] / one["errors"][:, i].min())
            if plan.n_starts > 1:
                values |= spread(f"{name}{suffix}_single", one["single"][i])
        values[f"grass_over_art{suffix}"] = values[f"grass{suffix}"] / values[f"art{suffix}"]
    claims = [
        Claim("a smooth image is recovered from n/4: squared error of art", values["art"], "<=", 0.025),
        Claim("grass is harder: its error over that of art", values["grass_over_art"], ">=", 4.0),
        Claim("no early stop is needed: final over best", values["final_over_best_art"], "<=", 1.15),
        Claim("Gaussian A, one start: squared error of art", values["art_gaussian"], "<=", 0.03),
        Claim("Gaussian A, one start: error of grass over art", values["grass_over_art_gaussian"], ">=", 4.0),
        Claim(
            "Gaussian A, one start: final over best, art", values["final_over_best_art_gaussian"], "<=", 1.15
        ),
        Claim("deep image prior: error of grass over art", values["grass_over_art_prior"], ">=", 2.0),
        Claim("deep image prior: final over best, art", values["final_over_best_art_prior"], "<=", 1.15),
    ]
    return Findings(values, claims, _figures(images, found, run))


def _reconstruct(
    settings: Settings, plan: _Plan, run: Run, seed: list[int], report: Callable[[float], None]
) -> dict[str, np.ndarray]:
    """Return reconstructions, their errors and those of single starts, and losses and errors on the way."""
    images = load_pair(settings.size)[0]
    shape, m = sketch_shape(settings.size, settings.fraction)
    generator = torch_generator(np.random.default_rng(seed))
    operator = (GaussianSketch if plan.gaussian else SubsampledHadamard)(shape, m, generator=generator)
    network = (_prior if plan.prior else _decoder)(settings)
    x = torch.stack(list(images.values())).to(run.device)
    operator, network = operator.to(run.device), network.to(run.device)
    rate = settings.learning_rate_prior if plan.prior else settings.learning_rate
    fit, errors = _fit(network, operator, x, plan.max_iter, rate, plan.n_starts, generator, report)
    single = _relative_error(network(fit.weights), x.repeat_interleave(plan.n_starts, 0))
    loss = fit.history["loss"][1:].reshape(-1, len(x), plan.n_starts).mean(2)
    return {
        "x": fit.x[:, 0].cpu().numpy(),
        "final": _relative_error(fit.x, x),
        "single": single.reshape(-1, plan.n_starts),
        "errors": errors,
        "loss": loss,
    }


def _decoder(settings: Settings) -> UntrainedNetwork:
    return DeepDecoder(
        (settings.size, settings.size),
        channels=settings.channels,
        depth=settings.depth,
        in_size=settings.in_size,
    )


def _prior(settings: Settings) -> UntrainedNetwork:
    size = (settings.size, settings.size)
    return DeepImagePrior(size, channels=settings.prior_channels, depth=settings.prior_depth)


def _fit(
    network: UntrainedNetwork,
    operator: LinearOperator,
    x: torch.Tensor,
    max_iter: int,
    learning_rate: float,
    n_starts: int,
    generator: torch.Generator,
    report: Callable[[float], None],
) -> tuple[UntrainedSolution, np.ndarray]:
    """Return the solution and the error of every iterate's average over starts, (iterations, images)."""
    errors = []

    def watch(progress: FitProgress) -> None:
        average = progress.x.view(len(x), n_starts, *x.shape[1:]).mean(1)
        errors.append(_relative_error(average, x).tolist())  # small arrays would scatter the memory
        if progress.n_iter % 50 == 0:
            report(progress.n_iter / max_iter)

    with fixed_iterations():
        found = fit_untrained(
            network,
            operator,
            operator(x),
            optimizer=Adam(learning_rate),
            max_iter=max_iter,
            tol=0.0,
            patience=None,
            n_starts=n_starts,
            generator=generator,
            callback=watch,
        )
    return found, np.array(errors)


def _relative_error(found: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    """Return the squared error over the squared norm of each image."""
    return ((found - x).flatten(1).square().sum(1) / x.flatten(1).square().sum(1)).detach().cpu().numpy()


def _figures(images: dict[str, torch.Tensor], found: dict[str, dict[str, np.ndarray]], run: Run) -> list[str]:
    labels = {"": "", "_gaussian": ", Gaussian A, one start", "_prior": ", image prior"}
    axes = {"loss": "0.5 ||A G(C) - y||^2", "errors": "||G(C) - x||^2 / ||x||^2"}
    files = {"loss": "training.png", "errors": "signal.png"}
    for what, ylabel in axes.items():
        lines = {
            name + label: Curve(np.arange(1, len(found[suffix][what]) + 1), found[suffix][what][:, i])
            for suffix, label in labels.items()
            for i, name in enumerate(images)
        }
        title = f"Fig. 1, {files[what].removesuffix('.png')}"
        figure = curves(lines, xlabel="iteration", ylabel=ylabel, xscale="log", yscale="log", title=title)
        save_figure(figure, run.folder / files[what])
    side_by_side = {}
    for i, (name, image) in enumerate(images.items()):
        side_by_side |= {f"{name}, reconstructed": found[""]["x"][i], name: image[0].numpy()}
    save_figure(before_after(side_by_side), run.folder / "images.png")
    return [*files.values(), "images.png"]


CS_IMAGES = Experiment(
    name="cs-images",
    shows="an untrained network recovers a smooth image from n/4 measurements, grass less well",
    source="Heckel and Soltanolkotabi 2020, Fig. 1",
    quick=Settings(size=64, n_starts=3, max_iter=400, max_iter_prior=200),
    paper=Settings(
        size=256,
        n_starts=5,
        max_iter=20_000,
        max_iter_prior=5000,
        channels=256,
        in_size=16,
        learning_rate=0.005,
        prior_channels=128,
        prior_depth=5,
    ),
    measure=measure,
)
