"""Untrained networks: CPU time to a relative squared error of .02, beside the authors' form.

The picture is "art" of the paper's authors at 64 x 64, its measurements are a randomised Hadamard transform,
m = n/4; networks have 64 channels and 5 layers. Every contender is stopped by an oracle, when its
reconstruction's error is .02: time to quality is what is compared, for two seeds, in one process.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from benchmarks.runner import Comparison, Contender
from calepin.datasets import data_path
from calepin.experiments.untrained.pictures import load_pair
from calepin.networks.deep_decoder import DeepDecoder, layer_sizes
from calepin.operators import SubsampledHadamard
from calepin.untrained import LBFGS, Adam, FitProgress, Optimizer, data_consistent, fit_untrained

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
    data_path("cs_images")  # the figures are of the paper's picture
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
    for size in layer_sizes((in_size, in_size), SIZE, 5)[1:]:
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


def _error(found: Tensor, x: Tensor) -> float:
    return float((found - x).square().sum() / x.square().sum())


COMPARISONS = (
    Comparison(
        "untrained-time",
        "Untrained network, 64 x 64, m = n/4: CPU time to squared error .02, two seeds",
        "a third of the authors' form",
        prepare,
        rounds=1,
    ),
)
