"""Figures 2 to 6: a decoder trained on digits, cut before its last layer, and other digits to denoise.

"Dictionary learning under generative coefficient priors", 2022, section 6 and appendix A.1. The last
layer A is learned anew from batches of 30 noisy digits, as they are or transformed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.report import save_figure, sheet
from calepin_papers.generative.comparison import (
    SLOW,
    Comparison,
    Order,
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
    """What is done to the digits, and the sizes of the comparison on each.

    Attributes
    ----------
    ordering
        What is claimed about the ratios of losses, for each transform.
    """

    sizes: Comparison
    ordering: Mapping[str, tuple[Order, ...]]


def measure_denoise(settings: Settings, run: Run) -> Findings:
    """Figures 3 to 5: digits as they are; the baselines cut to k coefficients and uncut."""
    outcome, figures = _compare("none", settings.sizes, run)
    values = values_of(outcome)
    return Findings(values, claims_of(values, settings.ordering["none"]), figures)


def measure_transfer(settings: Settings, run: Run) -> Findings:
    """Figures 2 and 6: transformed digits."""
    values: dict[str, float] = {}
    claims: list[Claim] = []
    figures: list[str] = []
    for transform, ordering in settings.ordering.items():
        outcome, drawn = _compare(transform, settings.sizes, run)
        values |= values_of(outcome, f"{transform}_")
        claims += claims_of(values, ordering, f"{transform}_", f"{transform}: ")
        figures += drawn
    if "blur" in settings.ordering:
        ratio = values["blur_least_squares_over_mod_default"]
        claims.append(Claim("blur: least_squares over mod_default, to be well below", ratio, "<=", 0.75))
        if load().name == "mnist":
            claims.append(Claim("blur: loss of least-squares", values["blur_least_squares"], "<=", 1.2))
    return Findings(values, claims, figures)


def _compare(transform: str, sizes: Comparison, run: Run) -> tuple[Outcome, list[str]]:
    digits = load()
    outcome = compare(
        lambda trial: digit_task(digits, transform, run.seed, trial),
        sizes,
        run,
        f"{digits.name}-{transform}",
    )
    title = f"Denoising {digits.name}, transform: {transform} (median, range)"
    curve = draw_losses(outcome, sizes, f"losses-{transform}.png", title, run)
    images = f"images-{transform}.png"
    columns = {name: outcome.images[name] for name in _COLUMNS if name in outcome.images}
    shape = (-1, digits.side, digits.side)
    save_figure(sheet({name: found.reshape(shape) for name, found in columns.items()}), run.folder / images)
    return outcome, [curve, images]


def _experiment(name: str, shows: str, figures: str, quick: Settings, paper: Settings, measure) -> Experiment:
    source = f"Dictionary learning under generative coefficient priors 2022, {figures}"
    return Experiment(name, shows, source, quick, paper, measure)


_CUT: tuple[Order, ...] = (
    ("least_squares_over_mod_default", "<="),
    ("least_squares_over_ksvd_default", "<="),
)
_FITTED: tuple[Order, ...] = (("least_squares_over_mod_omp", ">="),)
_AGAINST: tuple[Order, ...] = (("autodiff_over_mod_default", ">="), ("altmin_over_mod_default", ">="))
_NONE = {"none": (*_CUT, *_FITTED, *_AGAINST)}
_EACH = {"blur": _CUT, "recolour": (*_CUT, *_FITTED), "flip": (*_CUT, *_FITTED)}
_STARTS = (*SLOW, *(f"{method}_uniform" for method in SLOW))
GEN_MNIST_DENOISE = _experiment(
    "gen-mnist-denoise",
    "least squares over a decoder beats sparse codes cut to k, autodiff and altmin do not; fitted codes win",
    "Figs. 3 to 5",
    Settings(Comparison(2, 20, 1, 10, n_starts=1), _NONE),
    Settings(Comparison(4, 20, 4, 20, _STARTS, n_starts=4), _NONE),
    measure_denoise,
)
GEN_MNIST_TRANSFER = _experiment(
    "gen-mnist-transfer",
    "a decoder of digits transfers to blurred, recoloured and flipped ones by least squares",
    "Figs. 2 and 6",
    Settings(Comparison(1, 20, 1, 4, n_starts=1), _EACH),
    Settings(Comparison(4, 20, 4, 20, n_starts=4), _EACH),
    measure_transfer,
)
