"""Figures 2 to 6: a decoder trained on digits, cut before its last layer, and other digits to denoise.

"Dictionary learning under generative coefficient priors", 2022, section 6 and appendix A.1. The last
layer A is learned anew from batches of 30 noisy digits, as they are or transformed.
"""

from dataclasses import dataclass, field

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.report import save_figure, sheet
from calepin_papers.generative.comparison import (
    Comparison,
    Outcome,
    claims_of,
    compare,
    draw_losses,
    values_of,
)
from calepin_papers.generative.digits import digit_task, load

__all__ = ["GEN_MNIST_DENOISE", "GEN_MNIST_TRANSFER", "Settings"]

_COLUMNS = ("clean", "least_squares", "autodiff", "altmin", "mod_default", "ksvd_default", "mod_omp", "noisy")


@dataclass(frozen=True)
class Settings:
    """What is done to the digits, and the sizes of the comparison on each."""

    sizes: Comparison
    transforms: tuple[str, ...] = field(default=("none",))


def measure_denoise(settings: Settings, run: Run) -> Findings:
    """Figures 3 to 5: digits as they are; the baselines cut to k coefficients and uncut."""
    outcome, figures = _compare("none", settings, run, 0)
    values = values_of(outcome, settings.sizes)
    return Findings(values, claims_of(values), figures)


def measure_transfer(settings: Settings, run: Run) -> Findings:
    """Figures 2 and 6: transformed digits."""
    values: dict[str, float] = {}
    claims: list[Claim] = []
    figures: list[str] = []
    for i, transform in enumerate(settings.transforms):
        outcome, drawn = _compare(transform, settings, run, i)
        values |= values_of(outcome, settings.sizes, f"{transform}_")
        claims += claims_of(values, f"{transform}_", f"{transform}: ")
        figures += drawn
    if "blur" in settings.transforms:
        ratio = values["blur_least_squares"] / values["blur_mod_default"]
        claims.append(Claim("blur: least-squares over mod_default, to be well below", ratio, "<=", 0.75))
        if load().name == "mnist":
            claims.append(Claim("blur: loss of least-squares", values["blur_least_squares"], "<=", 1.2))
    return Findings(values, claims, figures)


def _compare(transform: str, settings: Settings, run: Run, i: int) -> tuple[Outcome, list[str]]:
    digits, n = load(), len(settings.transforms)
    outcome = compare(
        lambda trial: digit_task(digits, transform, run.seed, trial),
        settings.sizes,
        lambda part: run.progress((i + part) / n, f"{digits.name}, transform: {transform}"),
    )
    title = f"Denoising {digits.name}, transform: {transform} (median, range)"
    curve = draw_losses(outcome, settings.sizes, f"losses-{transform}.png", title, run)
    images = f"images-{transform}.png"
    columns = {name: outcome.images[name] for name in _COLUMNS if name in outcome.images}
    shape = (-1, digits.side, digits.side)
    save_figure(sheet({name: found.reshape(shape) for name, found in columns.items()}), run.folder / images)
    return outcome, [curve, images]


def _experiment(name: str, shows: str, figures: str, quick: Settings, paper: Settings, measure) -> Experiment:
    source = f"Dictionary learning under generative coefficient priors 2022, {figures}"
    return Experiment(name, shows, source, quick, paper, measure)


_ALL = ("blur", "recolour", "flip")
GEN_MNIST_DENOISE = _experiment(
    "gen-mnist-denoise",
    "a decoder's coefficients denoise digits better than sparse codes cut to k as in the paper",
    "Figs. 3 to 5",
    Settings(Comparison(2, 20, 1, 2, n_starts=1)),
    Settings(Comparison(4, 20, 4, 20, n_starts=4)),
    measure_denoise,
)
GEN_MNIST_TRANSFER = _experiment(
    "gen-mnist-transfer",
    "a decoder trained on digits transfers to blurred, recoloured and flipped ones",
    "Figs. 2 and 6",
    Settings(Comparison(1, 20, 1, 2, n_starts=1), _ALL),
    Settings(Comparison(4, 20, 4, 20, n_starts=4), _ALL),
    measure_transfer,
)
