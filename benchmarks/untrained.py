"""Untrained networks: CPU time to a relative squared error of .02, beside the authors' form.

The image is "art" of the paper's authors at 64 x 64, its measurements are a randomised Hadamard transform,
m = n/4; networks have 64 channels and 5 layers. Every contender is stopped by an oracle, when its
reconstruction's error is .02: time to quality is what is compared, for two seeds, in one process. Networks
and optimisers are compared without the oracle as well.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from benchmarks.runner import Comparison, Contender, peak_growth_mb
from calepin.datasets import data_path
from calepin.networks import DeepDecoder
from calepin.operators import SubsampledHadamard
from calepin.reconstruction import FitProgress, data_consistent, fit_untrained
from calepin.solvers import LBFGS, Adam, GradientDescent, Optimizer
from calepin_papers.untrained_networks.image_pair import load_pair

GOAL = 0.02
SIZE = (64, 64)
STARTS = (0, 1)
LONGEST = 1500


@dataclass(frozen=True)
class Outcome:
    """What the starts of a contender reached."""

    errors: tuple[float, ...]
    iterations: tuple[int, ...]

    def measures(self) -> dict[str, float]:
        """Return medians, and how many starts reached the goal."""
        middle = sorted(range(len(self.errors)), key=lambda i: self.iterations[i])[len(self.errors) // 2]
        return {
            "error": self.errors[middle],
            "iterations": float(self.iterations[middle]),
            "reached": float(sum(error <= GOAL for error in self.errors)),
        }


def prepare() -> list[Contender]:
    """Return calepin's way, the authors', and each idea between them by itself."""
    data_path("cs_images")  # the figures are of the paper's image
    x = load_pair(SIZE[0])[0]["art"][None]
    operator = SubsampledHadamard((1, *SIZE), SIZE[0] * SIZE[1] // 4)
    fits: dict[str, Callable[[int], tuple[float, int]]] = {
        "calepin": partial(_calepin, operator, x, n_starts=4, consistent=True),
        "authors' form: 16 x 16, lr .005": partial(_authors, operator, x, 16, 0.005),
        "compiled kernels, normalisation absorbed": partial(
            _calepin, operator, x, in_size=16, optimizer=Adam(0.005)
        ),
        "+ start 8 x 8, lr .01": partial(_calepin, operator, x),
        "+ average of 4 starts": partial(_calepin, operator, x, n_starts=4),
        "the same by L-BFGS": partial(
            _calepin, operator, x, n_starts=4, optimizer=LBFGS(), consistent=True, longest=100
        ),
    }
    return [
        Contender(name, partial(_all_starts, fit), lambda outcome: outcome.measures())
        for name, fit in fits.items()
    ]


def _all_starts(fit: Callable[[int], tuple[float, int]]) -> Outcome:
    errors, iterations = zip(*(fit(seed) for seed in STARTS), strict=True)
    return Outcome(errors, iterations)


def _calepin(
    operator: SubsampledHadamard,
    x: Tensor,
    seed: int,
    *,
    in_size: int = 8,
    optimizer: Optimizer | None = None,
    n_starts: int = 1,
    consistent: bool = False,
    longest: int = LONGEST,
) -> tuple[float, int]:
    y, reached = operator(x), [float("inf"), 0]

    def stop(progress: FitProgress) -> bool:
        found = progress.x.mean(0, keepdim=True)
        found = data_consistent(operator, found, y, n_iter=1) if consistent else found
        reached[:] = [_error(found, x), progress.n_iter]
        return reached[0] <= GOAL

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the oracle stops
        fit_untrained(
            DeepDecoder(SIZE, channels=64, in_size=in_size),
            operator,
            y,
            optimizer=optimizer or Adam(0.01),
            max_iter=longest,
            tol=0.0,
            patience=None,
            n_starts=n_starts,
            callback=stop,
            generator=torch.Generator().manual_seed(seed),
        )
    return float(reached[0]), int(reached[1])


def _authors(
    operator: SubsampledHadamard, x: Tensor, in_size: int, lr: float, seed: int
) -> tuple[float, int]:
    """Fit the network as its authors write it: library layers, library optimiser."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for size in DeepDecoder(SIZE, channels=64, in_size=in_size).sizes[1:]:
        layers += [
            nn.Conv2d(64, 64, 1, bias=False),
            nn.Upsample(size=size, mode="bilinear", align_corners=False),
            nn.ReLU(),
            nn.BatchNorm2d(64),
        ]
    network = nn.Sequential(*layers, nn.Conv2d(64, 1, 1, bias=False), nn.Sigmoid())
    fixed = 0.1 * torch.rand(1, 64, in_size, in_size)
    optimizer, y = torch.optim.Adam(network.parameters(), lr=lr), operator(x)
    error, n_iter = float("inf"), 0
    while error > GOAL and n_iter < LONGEST:
        optimizer.zero_grad()
        found = network(fixed)
        error = _error(found.detach(), x)
        (operator(found) - y).square().sum().backward()
        optimizer.step()
        n_iter += 1
    return error, n_iter


def prepare_ideas() -> list[Contender]:
    """Return networks and optimisers, each fitted from four starts that no oracle stops."""
    data_path("cs_images")
    x = load_pair(SIZE[0])[0]["art"][None]
    operator = SubsampledHadamard((1, *SIZE), SIZE[0] * SIZE[1] // 4)
    fits = {
        "8x8 start, Adam .01": partial(_starts, operator, x),
        "16x16 start, Adam .03": partial(_starts, operator, x, in_size=16, optimizer=Adam(0.03)),
        "8x8, Adam .03": partial(_starts, operator, x, optimizer=Adam(0.03)),
        "8x8, Adam .1": partial(_starts, operator, x, optimizer=Adam(0.1)),
        "8x8, Adam .03, second beta .99": partial(
            _starts, operator, x, optimizer=Adam(0.03, betas=(0.9, 0.99))
        ),
        "4x4, Adam .03": partial(_starts, operator, x, in_size=4, optimizer=Adam(0.03)),
        "8x8, 3 layers, Adam .03": partial(_starts, operator, x, depth=3, optimizer=Adam(0.03)),
        "8x8, 32 channels, Adam .03": partial(_starts, operator, x, channels=32, optimizer=Adam(0.03)),
        "8x8, 128 channels, Adam .03": partial(_starts, operator, x, channels=128, optimizer=Adam(0.03)),
        "8x8, gradient descent, momentum .9": partial(
            _starts, operator, x, optimizer=GradientDescent(momentum=0.9)
        ),
        "8x8, L-BFGS": partial(_starts, operator, x, optimizer=LBFGS(), max_iter=100),
    }
    return [Contender(name, fit, lambda reached: reached) for name, fit in fits.items()]


def _starts(
    operator: SubsampledHadamard,
    x: Tensor,
    *,
    optimizer: Optimizer | None = None,
    max_iter: int = 400,
    channels: int = 64,
    depth: int = 5,
    in_size: int = 8,
) -> dict[str, float]:
    """Return the mean error of four starts and the error of their mean, after 100 iterations and all."""
    reached: dict[str, float] = {}

    def note(progress: FitProgress) -> bool:
        if progress.n_iter in (100, max_iter):
            errors = [_error(found, x) for found in progress.x]
            reached[f"{progress.n_iter}: mean"] = sum(errors) / len(errors)
            reached[f"{progress.n_iter}: average"] = _error(progress.x.mean(0), x)
        return False

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of iterations
        begun = time.process_time()
        fit_untrained(
            DeepDecoder(SIZE, channels=channels, depth=depth, in_size=in_size),
            operator,
            operator(x),
            optimizer=optimizer or Adam(0.01),
            max_iter=max_iter,
            tol=0.0,
            patience=None,
            n_starts=4,
            callback=note,
            generator=torch.Generator().manual_seed(0),
        )
    return {"ms": 1000 * (time.process_time() - begun) / (4 * max_iter), **reached}


def _error(found: Tensor, x: Tensor) -> float:
    return float((found - x).square().sum() / x.square().sum())


_SCALE = """
import warnings
import torch
from calepin.networks import ComplexPair, DeepDecoder
from calepin.operators import GaussianSketch, MultiCoilMRI, SubsampledHadamard
from calepin.reconstruction import fit_untrained
from calepin.solvers import Adam
warnings.simplefilter("ignore")

def scanner(side, n_coils, channels, n_starts, max_iter):
    operator = MultiCoilMRI(torch.rand(side, side, generator=draw) < 1 / 8, n_coils=n_coils)
    decoder = DeepDecoder((side, side), out_channels=2 * n_coils, channels=channels, output="none")
    fit(ComplexPair(decoder), operator, n_starts, max_iter)

def hadamard(side, channels, max_iter):
    operator = SubsampledHadamard((1, side, side), side**2 // 4)
    fit(DeepDecoder((side, side), channels=channels, in_size=32), operator, 1, max_iter)

def sketch(m, n):
    operator = GaussianSketch((n,), m)
    operator.adjoint(operator(torch.randn(1, n, generator=draw)))

def fit(network, operator, n_starts, max_iter):
    dtype = torch.complex64 if isinstance(network, ComplexPair) else torch.float32
    y = operator(torch.randn((1, *operator.in_shape), dtype=dtype, generator=draw))
    fit_untrained(network, operator, y, optimizer=Adam(0.03), max_iter=max_iter, n_starts=n_starts)

draw = torch.Generator().manual_seed(0)
scanner(64, 2, 8, 1, 1)
hadamard(64, 8, 1)
sketch(8, 64)
def main(): {}
"""


def prepare_scale() -> list[Contender]:
    """Return large problems; each runs in a process of its own, whose growth counts."""
    problems = {
        "k-space 320x320, 8 coils, 128 channels, 2 starts": "scanner(320, 8, 128, 2, 5)",
        "k-space 320x320, 8 coils, 64 channels, 1 start": "scanner(320, 8, 64, 1, 5)",
        "512x512, Hadamard, m = n/4, 64 channels": "hadamard(512, 64, 5)",
        "GaussianSketch 16384 x 65536, both products": "sketch(16384, 65536)",
    }

    def contender(name: str, problem: str) -> Contender:
        code = _SCALE.replace("{}", problem)
        return Contender(name, lambda: peak_growth_mb(code), lambda grown: {"MB": grown})

    return [contender(name, problem) for name, problem in problems.items()]


COMPARISONS = (
    Comparison(
        "untrained-time",
        "Untrained network, 64 x 64, m = n/4: CPU time to squared error .02, two seeds",
        "a third of the authors' form",
        prepare,
        rounds=1,
    ),
    Comparison(
        "untrained-ideas",
        "Untrained networks, the same problem: squared errors, CPU ms an iteration and start",
        "none",
        prepare_ideas,
        rounds=1,
    ),
    Comparison(
        "untrained-scale",
        "Large problems, 5 iterations each: growth of the process's memory",
        "k-space 8 GB, 512x512 4 GB",
        prepare_scale,
        rounds=1,
    ),
)
