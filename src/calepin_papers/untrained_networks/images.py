"""Figure 1: art and grass from a quarter of their measurements, run to convergence.

Both images, with several random starts each, are one batch: independent problems in one fit. A
reconstruction is the average over its starts, whose errors partly cancel; those of single
starts are reported too.
"""

from collections.abc import Callable
from dataclasses import dataclass

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


def measure(settings: Settings, run: Run) -> Findings:
    """Fit both networks to both sketches and follow both losses of Fig. 1."""
    images, _ = load_pair(settings.size)
    shape, m = sketch_shape(settings.size, settings.fraction)
    generator = torch_generator(run.seed)
    size = (settings.size, settings.size)
    decoder = DeepDecoder(size, channels=settings.channels, depth=settings.depth, in_size=settings.in_size)
    prior = DeepImagePrior(size, channels=settings.prior_channels, depth=settings.prior_depth)
    hadamard = SubsampledHadamard(shape, m, generator=generator)
    gaussian = GaussianSketch(shape, m, generator=generator)
    plan: dict[str, tuple[UntrainedNetwork, LinearOperator, int, int, float]] = {
        "": (decoder, hadamard, settings.n_starts, settings.max_iter, settings.learning_rate),
        "_gaussian": (decoder, gaussian, 1, settings.max_iter, settings.learning_rate),
        "_prior": (prior, hadamard, 1, settings.max_iter_prior, settings.learning_rate_prior),
    }
    values: dict[str, float] = {}
    lines: dict[str, dict[str, Curve]] = {"training": {}, "signal": {}}
    shown = {}
    for done, (suffix, (network, operator, starts, max_iter, learning_rate)) in enumerate(plan.items()):
        fraction = done / len(plan)
        run.progress(fraction, f"{type(network).__name__}, {type(operator).__name__}")
        x = torch.stack(list(images.values())).to(run.device)
        operator, network = operator.to(run.device), network.to(run.device)

        def report(part: float, fraction: float = fraction, network: UntrainedNetwork = network) -> None:
            run.progress(fraction + part / len(plan), type(network).__name__)

        found, errors = _fit(network, operator, x, max_iter, learning_rate, starts, generator, report)
        final = _relative_error(found.x, x)
        single = _relative_error(network(found.weights), x.repeat_interleave(starts, 0)).reshape(-1, starts)
        for i, name in enumerate(images):
            values[name + suffix] = float(final[i])
            values[f"final_over_best_{name}{suffix}"] = float(final[i] / errors[:, i].min())
            if starts > 1:
                values |= spread(f"{name}{suffix}_single", single[i])
            if suffix in ("", "_prior"):
                label = name if not suffix else f"{name}, image prior"
                steps = np.arange(1, len(errors) + 1)
                loss = found.history["loss"][1:, i * starts : (i + 1) * starts].mean(1)
                lines["training"][label] = Curve(steps, loss)
                lines["signal"][label] = Curve(steps, errors[:, i])
            if not suffix:
                shown[name] = found.x[i, 0].cpu().numpy()
    values["grass_over_art"] = values["grass"] / values["art"]
    claims = [
        Claim("a smooth image is recovered from n/4: squared error of art", values["art"], "<=", 0.025),
        Claim("grass is harder: its error over that of art", values["grass_over_art"], ">=", 4.0),
        Claim("no early stop is needed: final over best", values["final_over_best_art"], "<=", 1.15),
    ]
    return Findings(values, claims, _figures(images, shown, lines, run))


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
        errors.append(_relative_error(average, x))
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


def _figures(
    images: dict[str, torch.Tensor],
    shown: dict[str, np.ndarray],
    lines: dict[str, dict[str, Curve]],
    run: Run,
) -> list[str]:
    names = []
    labels = {"training": "0.5 ||A G(C) - y||^2", "signal": "||G(C) - x||^2 / ||x||^2"}
    for which, ylabel in labels.items():
        figure = curves(
            lines[which],
            xlabel="iteration",
            ylabel=ylabel,
            xscale="log",
            yscale="log",
            title=f"Fig. 1, {which}",
        )
        names.append(f"{which}.png")
        save_figure(figure, run.folder / names[-1])
    side_by_side = {}
    for name, image in images.items():
        side_by_side |= {f"{name}, reconstructed": shown[name], name: image[0].numpy()}
    names.append("images.png")
    save_figure(before_after(side_by_side), run.folder / names[-1])
    return names


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
