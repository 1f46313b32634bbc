"""The introduction's problems: which of them need early stopping.

One image, one deep decoder with more weights than pixels, one start, fitted until the loss
hardly falls any more:

    denoising           y = x + noise: the noise is fitted in the end
    super-resolution    y = means of blocks of pixels
    inpainting          y = pixels that are left
    compressive         y = A x, a randomised Hadamard transform

An oracle knows the best iterate. Denoising is also stopped without it, where a tenth of the pixels, held
out of the fit, are predicted best.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from calepin.datasets import GaussianNoise, add_noise
from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.metrics import psnr
from calepin.networks import DeepDecoder
from calepin.operators import Identity, LinearOperator, Mask, SubsampledHadamard
from calepin.reconstruction import FitProgress, UntrainedSolution, fit_untrained
from calepin.report import Curve, before_after, curves, save_figure
from calepin.solvers import Adam
from calepin_papers._common import fixed_iterations
from calepin_papers._random import torch_generator
from calepin_papers.untrained_networks.image_pair import load_pair, sketch_shape

__all__ = ["CS_EARLY_STOPPING", "BlockMeans", "Settings"]

_LAST = 50  # iterates at the end whose errors are averaged: those of Adam fluctuate

PROBLEMS = ("denoising", "superresolution", "inpainting", "compressive")


@dataclass(frozen=True)
class Settings:
    """Sizes of image and network, and how the image is measured.

    Attributes
    ----------
    sigma
        Standard deviation of the noise, pixels from 0 to 1.
    block
        Side of the blocks of pixels whose means super-resolution is given.
    missing
        Fraction of pixels that are missing at random.
    fraction
        Compressive measurements over pixels.
    held_out
        Fraction of pixels that decides where denoising stops.
    """

    size: int
    channels: int
    max_iter: int
    depth: int = 5
    in_size: int = 8
    learning_rate: float = 0.01
    sigma: float = 25 / 255
    block: int = 2
    missing: float = 0.5
    fraction: float = 0.25
    held_out: float = 0.1


class BlockMeans(LinearOperator):
    """The means of blocks of pixels, (1, h, w) to (1, h / block, w / block)."""

    def __init__(self, in_shape: tuple[int, int, int], block: int) -> None:
        channels, height, width = in_shape
        super().__init__(in_shape, (channels, height // block, width // block))
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return the means of the blocks of images (n, 1, h, w)."""
        return avg_pool2d(x, self.block)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return the images in which each mean is spread evenly over its block."""
        return interpolate(y, scale_factor=self.block, mode="nearest") / self.block**2


def measure(settings: Settings, run: Run) -> Findings:
    """Fit every problem to the end, and compare the last iterate with the best one."""
    image = load_pair(settings.size)[0]["art"]
    plain = image[0].double().numpy()
    found = {}
    for done, problem in enumerate(PROBLEMS):
        run.progress(done / len(PROBLEMS), problem)
        found[problem] = run.piece(problem, partial(_fit, settings, image, problem, run.seed))
    values = {}
    for problem, one in found.items():
        best = one["errors"].min()
        values |= {
            f"psnr_best_{problem}": float(-10 * np.log10(best)),
            f"psnr_final_{problem}": psnr(one["final"], plain),
            f"psnr_given_{problem}": psnr(one["given"], plain),
            f"best_iteration_{problem}": float(1 + one["errors"].argmin()),
            f"final_over_best_{problem}": float(one["errors"][-_LAST:].mean() / best),
            f"residual_{problem}": float(one["residual"]),
        }
    values["psnr_held_out_denoising"] = psnr(found["denoising"]["stopped"], plain)
    gain = values["psnr_best_denoising"] - values["psnr_given_denoising"]
    claims = [
        Claim(
            "denoising needs an early stop: final over best error",
            values["final_over_best_denoising"],
            ">=",
            1.5,
        ),
        Claim("stopped early, it removes noise: dB over the noisy image", gain, ">=", 2.5),
        Claim(
            "held-out pixels find a better stop than the last iteration: dB",
            values["psnr_held_out_denoising"] - values["psnr_final_denoising"],
            ">=",
            0.5,
        ),
        *(
            Claim(
                f"{what} needs none: final over best error", values[f"final_over_best_{problem}"], "<=", 1.15
            )
            for problem, what in (
                ("superresolution", "super-resolution without noise"),
                ("inpainting", "inpainting"),
                ("compressive", "compressive sensing"),
            )
        ),
    ]
    return Findings(values, claims, _figures(plain, found, run))


def _fit(settings: Settings, image: Tensor, problem: str, seed: int) -> dict[str, NDArray | float]:
    """Return the squared error of every iterate, and images: the one given, the last and the stopped one."""
    rng = np.random.default_rng([seed, PROBLEMS.index(problem)])
    generator = torch_generator(rng)
    operator = _operator(settings, problem, generator)
    x = image[None]
    y = operator(x)
    if problem == "denoising":
        noise = GaussianNoise(settings.sigma)
        y = torch.from_numpy(add_noise(image.numpy(), noise, random_state=rng)).float()[None]
    given = operator.adjoint(y)
    if problem == "superresolution":
        given = interpolate(y, size=image.shape[1:], mode="bicubic")
    network = DeepDecoder(
        tuple(image.shape[1:]), channels=settings.channels, depth=settings.depth, in_size=settings.in_size
    )
    errors = []

    def fit(held_out: float, watch: Callable[[FitProgress], None] | None) -> UntrainedSolution:
        with fixed_iterations():
            return fit_untrained(
                network,
                operator,
                y,
                optimizer=Adam(settings.learning_rate),
                max_iter=settings.max_iter,
                tol=0.0,
                patience=None,
                held_out=held_out,
                generator=generator,
                callback=watch,
            )

    found = fit(0.0, lambda progress: errors.append(float((progress.x - x).square().mean())))
    arrays = {
        "errors": np.array(errors),
        "residual": float(found.residual),
        "given": given[0, 0].double().numpy(),
        "final": found.x[0, 0].double().numpy(),
    }
    if problem == "denoising":
        arrays["stopped"] = fit(settings.held_out, None).x[0, 0].double().numpy()
    return arrays


def _operator(settings: Settings, problem: str, generator: torch.Generator) -> LinearOperator:
    shape, m = sketch_shape(settings.size, settings.fraction)
    match problem:
        case "denoising":
            return Identity(shape)
        case "superresolution":
            return BlockMeans(shape, settings.block)
        case "inpainting":
            return Mask(torch.rand(shape, generator=generator) >= settings.missing)
        case _:
            return SubsampledHadamard(shape, m, generator=generator)


def _figures(plain: NDArray, found: dict[str, dict[str, NDArray]], run: Run) -> list[str]:
    lines = {
        problem: Curve(np.arange(1, len(one["errors"]) + 1), one["errors"] / np.square(plain).mean())
        for problem, one in found.items()
    }
    figure = curves(
        lines,
        xlabel="iteration",
        ylabel="||G(C) - x||^2 / ||x||^2",
        xscale="log",
        yscale="log",
        title="Error on the way",
    )
    save_figure(figure, run.folder / "errors.png")
    denoised = found["denoising"]
    shown = {
        "noisy": denoised["given"],
        "stopped by held-out pixels": denoised["stopped"],
        "fitted to the end": denoised["final"],
        "bicubic": found["superresolution"]["given"],
        "super-resolution": found["superresolution"]["final"],
        "image": plain,
    }
    images = {name: image.clip(0, 1) for name, image in shown.items()}
    save_figure(before_after(images), run.folder / "images.png")
    return ["errors.png", "images.png"]


CS_EARLY_STOPPING = Experiment(
    name="cs-early-stopping",
    shows="denoising needs an early stop; inpainting, super-resolution and compressive sensing do not",
    source="Heckel and Soltanolkotabi 2020, section 1",
    quick=Settings(size=64, channels=64, max_iter=1500),
    paper=Settings(size=256, channels=256, max_iter=20_000, in_size=16, learning_rate=0.005),
    measure=measure,
)
