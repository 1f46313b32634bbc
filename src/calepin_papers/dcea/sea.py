"""Theorems 7.2 and 7.3: gradient descent on the shallow auto-encoder finds the dictionary.

Counts of (almost) infinitely many trials come from s-sparse codes of a dictionary A, orthonormal or
overcomplete and incoherent (two orthonormal bases, p = 2 n, of coherence 1 / sqrt(n)); from
a start W a given distance away, every atom takes the steps ``w <- normalize(w - kappa g)``. The
theorems say

    |w' - a|^2 <= (1 - delta) |w - a|^2 + kappa O(C^6 p s^2 ...)

so that the squared distance falls at a linear rate, to a floor that is due to the sigmoid's curvature
alone and shrinks with the amplitude C of the codes. delta is kappa times nu s / (4 p), nu being the
codes' second moment: the rate does not depend on the amplitude while kappa is chosen by it.

With the rectifier (7.2) codes are not negative and the bias falls with the distance, as assumption
(A14) requires, down to where it still keeps the support (A4): a fixed one shrinks the codes and leaves a
floor of its own, whatever the amplitude (`floor_fixed_bias_small`, `..._large`).

With p > n atoms leak into each other's codes. The distance falls at a linear rate as before, but its floor
is that of the leak and does not shrink with the amplitude (`floor_hard_wide_small`, `..._large`). A
rectifier has to keep a bias above the leak, and so has the floor of a fixed bias too.
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.learning import Batch, NetworkRule
from calepin.report import curves, save_figure
from calepin_papers._common import band, spread
from calepin_papers.dcea.shallow import shallow_autoencoder

__all__ = ["DCEA_SEA", "Settings"]


@dataclass(frozen=True)
class Settings:
    """The generative model and the descent.

    Attributes
    ----------
    small, large
        Largest amplitudes C; the smallest are half of them.
    distance
        Norm of what is added to each atom at the start, before it is normalised.
    delta
        What the theorem's rate is set to, by kappa.
    bias
        First threshold over the smallest amplitude.
    leak
        Last bias of the rectifier over C^3: how much of the others the sigmoid's curvature adds to an atom.
    n_features, n_nonzero, wide_features, wide_nonzero
        n and s of the orthonormal dictionary and of the overcomplete one.
    n_seeds
        Dictionaries, starts and codes; medians and ranges are over them.
    """

    n_samples: int
    n_steps: int
    n_seeds: int
    n_features: int = 64
    n_nonzero: int = 4
    small: float = 0.25
    large: float = 1.0
    distance: float = 0.5
    delta: float = 0.4
    bias: float = 0.5
    leak: float = 0.03
    wide_features: int = 128
    wide_nonzero: int = 2
    trials: int = 1 << 30


@dataclass(frozen=True)
class Kind:
    """A descent: the threshold, whether its bias falls with the distance, and whether p > n."""

    threshold: str
    falling: bool = True
    wide: bool = False


def measure(settings: Settings, run: Run) -> Findings:
    """Follow the mean squared distance of the atoms to the truth."""
    kinds = {
        "hard": Kind("hard"),
        "relu": Kind("relu"),
        "fixed_bias": Kind("relu", falling=False),
        "hard_wide": Kind("hard", wide=True),
        "relu_wide": Kind("relu", wide=True),
    }
    paths: dict[str, list[np.ndarray]] = {}
    jobs = [(name, size, k) for name in kinds for size in ("small", "large") for k in range(settings.n_seeds)]
    for n_job, (name, size, k) in enumerate(jobs):

        def compute(kind: Kind = kinds[name], size: str = size, k: int = k) -> dict[str, np.ndarray]:
            path = _descend(settings, getattr(settings, size), kind, (run.seed, k), run.device)
            return {"path": path}

        path = run.piece(f"{name}-{size}-{k}", compute)["path"]
        paths.setdefault(f"{name}_{size}", []).append(path)
        run.progress((n_job + 1) / len(jobs), f"{name}, {size} codes")
    values: dict[str, float] = {}
    for name, found in paths.items():
        values |= spread(f"rate_{name}", [_rate(path) for path in found])
        values |= spread(f"floor_{name}", [float(path[-1]) for path in found])
    values |= {"rate": values["rate_hard_small"], "floor_small": values["floor_hard_small"]}
    values["floor_large"] = values["floor_hard_large"]
    return Findings(values, _claims(values, settings), [_draw(paths, run)])


def _claims(values: dict[str, float], settings: Settings) -> list[Claim]:
    start = settings.distance**2
    claims = []
    for name, theorem in (("hard", "7.3"), ("relu", "7.2")):
        slowest = max(values[f"rate_{name}_{size}_max"] for size in ("small", "large"))
        claims += [
            Claim(f"{theorem}: the distance falls linearly, factor of a step", slowest, "<=", 0.9),
            Claim(
                f"{theorem}: to a floor far below the start",
                values[f"floor_{name}_large_max"] / start,
                "<=",
                1e-2,
            ),
            Claim(
                f"{theorem}: the floor shrinks with the amplitude, ratio",
                values[f"floor_{name}_small_max"] / values[f"floor_{name}_large_min"],
                "<=",
                (settings.small / settings.large) ** 2,
            ),
        ]
    for name, theorem in (("hard", "7.3"), ("relu", "7.2")):
        slowest = max(values[f"rate_{name}_wide_{size}_max"] for size in ("small", "large"))
        highest = max(values[f"floor_{name}_wide_{size}_max"] for size in ("small", "large"))
        claims += [
            Claim(f"{theorem}, p = 2 n: the distance falls linearly, factor of a step", slowest, "<=", 0.9),
            Claim(f"{theorem}, p = 2 n: to a floor below the start", highest / start, "<=", 5e-2),
        ]
    return claims


def _descend(
    settings: Settings,
    amplitude: float,
    kind: Kind,
    seed: tuple[int, int],
    device: str,
) -> np.ndarray:
    """Return the mean squared distance before each step, and after the last."""
    rng = np.random.default_rng(seed)
    trials, threshold = settings.trials, kind.threshold
    n = settings.wide_features if kind.wide else settings.n_features
    n_nonzero = settings.wide_nonzero if kind.wide else settings.n_nonzero
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    if kind.wide:
        basis = np.concatenate([basis, np.asarray(dct(basis, norm="ortho", axis=0))])
    atoms = torch.from_numpy(basis).to(device)
    moved = torch.from_numpy(rng.standard_normal(basis.shape)).to(device)
    start = atoms + settings.distance * moved / torch.linalg.vector_norm(moved, dim=1, keepdim=True)
    start = start / torch.linalg.vector_norm(start, dim=1, keepdim=True)
    bias = settings.bias * amplitude / 2
    network = shallow_autoencoder(start, trials=trials, bias=bias, threshold=threshold)
    leak = settings.leak * amplitude**3
    if kind.wide:  # the others' share in the code of an atom, which a rectifier has to cut off
        leak += 1.1 * (n_nonzero - 1) * amplitude / math.sqrt(n)
    moment = amplitude**2 * 7 / 12  # of a uniform amplitude in [C / 2, C]
    kappa = settings.delta / (moment * n_nonzero / len(basis) / 4)
    # the rule's loss is per entry and for all trials, the theorem's per sample and for one
    descent = partial(torch.optim.SGD, lr=kappa * n / trials)
    rule = NetworkRule(network, optimizer=descent, target="observed", unit_norm=True)
    state = rule.init()
    path = [_distance(state.network.atoms, atoms)]
    for n_step in range(settings.n_steps):
        if threshold == "relu":
            level = bias * (1 - settings.delta / 2) ** n_step if kind.falling else bias
            state.network.alpha.fill_(max(level, leak) * trials / 4)
        shape = (settings.n_samples, len(basis))
        codes = _codes(shape, n_nonzero, amplitude, rng, signed=threshold == "hard")
        mean = torch.sigmoid(torch.from_numpy(codes).to(device) @ atoms)
        rule.step(state, Batch((trials * mean).round()[:, :, None]))
        path.append(_distance(state.network.atoms, atoms))
    return np.array(path)


def _codes(
    shape: tuple[int, int], n_nonzero: int, amplitude: float, rng: np.random.Generator, *, signed: bool
) -> np.ndarray:
    """Draw codes with a support of s atoms and amplitudes uniform in [C / 2, C]."""
    order = rng.random(shape).argpartition(n_nonzero, axis=1)[:, :n_nonzero]
    values = rng.uniform(amplitude / 2, amplitude, order.shape)
    if signed:
        values *= rng.choice([-1.0, 1.0], order.shape)
    codes = np.zeros(shape)
    np.put_along_axis(codes, order, values, axis=1)
    return codes


def _distance(found: Tensor, atoms: Tensor) -> float:
    return float((found.detach()[:, :, 0] - atoms).square().sum(1).mean())


def _rate(path: np.ndarray) -> float:
    """Return the factor a step of the squared distance, between the start and ten times the floor."""
    last = int(np.argmax(path <= 10 * path[-1]))
    return float((path[last] / path[0]) ** (1 / last)) if last else math.nan


def _draw(paths: dict[str, list[np.ndarray]], run: Run) -> str:
    lines = {}
    for name, found in paths.items():
        runs = np.array(found)
        lines[name.replace("_", " ")] = band(np.arange(runs.shape[1]), runs)
    figure = curves(lines, xlabel="step", ylabel="mean $|w - a|^2$", yscale="log")
    save_figure(figure, run.folder / "descent.png")
    return "descent.png"


DCEA_SEA = Experiment(
    name="dcea-sea",
    shows="descent on the shallow auto-encoder finds the dictionary at a linear rate, up to a floor",
    source="Tolooshams et al. 2020, theorems 7.2 and 7.3",
    quick=Settings(n_samples=1000, n_steps=40, n_seeds=3),
    paper=Settings(n_samples=4000, n_steps=80, n_seeds=10),
    measure=measure,
)
