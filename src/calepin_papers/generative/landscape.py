"""The landscape of decoding: a descent direction everywhere except near the solution and its mirror.

Theorem 5.3 of "Dictionary learning under generative coefficient priors", 2022. With an expansive
Gaussian ReLU net G and a dictionary A near the true A*, the objective

    f(z) = 0.5 || A G(z) - A* G(z*) ||^2

has at every z outside of two small balls, around z* and around ``-rho z*``, a direction of descent, and
0 is a local maximum. What is measured is the one-sided derivative along minus the gradient, which is
minus its length, divided by ``max(||z||, ||z*||)``; at 0, where G is not differentiable, the derivative
along every direction u, ``-<A G(u), A* G(z*)>``. Weights have the theorem's variance, 1 / width.

Lemma A.9 is exact: if A* has the RRIC constant eps, a dictionary A near it has at most
``eps + 2 |A* - A| |A*| + |A* - A|^2``. All three are estimated from the same samples of the range.

In 100 features A is no near isometry yet (its sampled RRIC constant is .4 to .5). The derivative at 0,
for the worst direction, is -.05 in the median and scatters by .02 between draws, so that one draw in
some fifty is not negative. Its claim is therefore on the median draw; `derivative_at_zero_max` is the worst.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calepin.experiments import Claim, Experiment, Findings, Run
from calepin.generators import ReLUNet, linearise
from calepin.report import curves, save_figure
from calepin_papers._common import band, spread
from calepin_papers._random import torch_generator
from calepin_papers.generative.constants import generator_constants, weight_distribution

__all__ = ["GEN_LANDSCAPE", "Settings"]

CLOSE = 0.1
"""Distance from z* from which the theorem is tested, and within which a descent has reached it."""

PLACES = ("z_star", "mirror", "anywhere")


@dataclass(frozen=True)
class Settings:
    """Sizes of the network and of the search.

    Attributes
    ----------
    widths
        Latent dimension, hidden widths, number of coefficients.
    n_features
        Entries of an observation.
    deltas
        Relative distances ``||A - A*|| / ||A*||`` in the spectral norm.
    radii
        Of the spheres around z*, -rho z* and (beside these) points of any length.
    n_points
        On each sphere.
    n_draws
        Networks, dictionaries and latents z*.
    n_starts, n_iter
        Of plain gradient descent, for the fraction that reaches z*.
    """

    n_points: int
    n_draws: int
    n_starts: int
    n_iter: int
    widths: tuple[int, ...] = (5, 100, 400)
    n_features: int = 100
    deltas: tuple[float, ...] = (0.0, 0.1, 0.3)
    radii: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Scene:
    """One draw: a network, dictionaries near the true one, and the observation of one latent."""

    generator: ReLUNet
    true_atoms: Tensor
    z_star: Tensor

    @property
    def y(self) -> Tensor:
        """The observation, without noise."""
        return self.generator(self.z_star[None]) @ self.true_atoms

    def moved_atoms(self, delta: float, generator: torch.Generator) -> Tensor:
        """Return a dictionary at relative spectral distance `delta` from the true one."""
        noise = torch.randn(self.true_atoms.shape, dtype=torch.float64, generator=generator)
        scale = torch.linalg.matrix_norm(self.true_atoms, 2) / torch.linalg.matrix_norm(noise, 2)
        return self.true_atoms + delta * scale * noise

    def growth(self, atoms: Tensor) -> float:
        """Return ``2 |A* - A| |A*| + |A* - A|^2``, the growth of the RRIC constant in Lemma A.9."""
        apart, true = (
            math.sqrt(lost(self.generator)) * float(torch.linalg.matrix_norm(matrix, 2))
            for matrix in (atoms - self.true_atoms, self.true_atoms)
        )
        return 2 * apart * true + apart**2

    def gradient(self, z: Tensor, atoms: Tensor) -> Tensor:
        """Return the gradient of f at latents (n, k)."""
        g, jacobian = linearise(self.generator, z)
        return torch.einsum("nkp,np->nk", jacobian, (g @ atoms - self.y) @ atoms.mT)


def measure(settings: Settings, run: Run) -> Findings:
    """Search spheres for the weakest descent, and descend from random starts; a piece a draw."""
    found = []
    for draw in range(settings.n_draws):
        run.progress(draw / settings.n_draws, f"draw {draw + 1}")
        found.append(run.piece(f"draw{draw}", lambda i=draw: _search(settings, run.seed, i)))
    slopes = {
        (delta, place): np.array([piece[f"slope_{delta:g}_{place}"] for piece in found])
        for delta in settings.deltas
        for place in PLACES
    }
    values = _values(settings, slopes, found)
    claims = [
        Claim(
            "a descent direction wherever ||z - z*|| >= .1, delta <= .1: worst derivative",
            values["worst_derivative"],
            "<=",
            -0.002,
        ),
        Claim(
            "0 is a local maximum, delta <= .3: largest derivative, median draw",
            values["derivative_at_zero"],
            "<=",
            -0.01,
        ),
        Claim("Lemma A.9: RRIC constant of A near A* over its bound", values["rric_over_bound"], "<=", 1),
    ]
    return Findings(values, claims, [_draw(settings, slopes, run)])


def _search(settings: Settings, seed: int, draw: int) -> dict[str, np.ndarray]:
    """Return the weakest descent on every sphere of one draw, constants, and where descents end."""
    scene, random = _scene(settings, seed, draw)
    lengths = torch_generator(np.random.default_rng([seed, draw]))
    rho = mirror_factor(len(settings.widths) - 1)
    rric = _rric(scene, scene.true_atoms)
    found: dict[str, float | list[float]] = {"rric": rric}
    found["wdc"] = max(
        weight_distribution(weight.mT / math.sqrt(2), n_pairs=200) for weight in scene.generator.weights
    )
    for delta in settings.deltas:
        atoms = scene.moved_atoms(delta, random)
        for place, center in (("z_star", scene.z_star), ("mirror", -rho * scene.z_star)):
            found[f"slope_{delta:g}_{place}"] = [
                _weakest(scene, atoms, center + radius * _sphere(settings, random))
                for radius in settings.radii
            ]
        length = 4 * torch.rand(settings.n_points, 1, generator=lengths)
        found[f"slope_{delta:g}_anywhere"] = [_weakest(scene, atoms, length * _sphere(settings, random))]
        found[f"zero_{delta:g}"] = _largest_at_zero(scene, atoms, _sphere(settings, random))
        found[f"rric_{delta:g}"] = _rric(scene, atoms)
        found[f"bound_{delta:g}"] = rric + scene.growth(atoms)
    found |= {f"share_{name}": share for name, share in _descend(scene, settings, rho, random).items()}
    return {name: np.array(value) for name, value in found.items()}


def mirror_factor(n_layers: int) -> float:
    """Return rho: near -rho z* descent may stop (Hand and Voroninski, 2018, section 2.2)."""
    angles = [math.pi]
    for _ in range(n_layers - 1):
        t = angles[-1]
        angles.append(math.acos(((math.pi - t) * math.cos(t) + math.sin(t)) / math.pi))
    return sum(
        math.sin(t) / math.pi * math.prod((math.pi - later) / math.pi for later in angles[i + 1 :])
        for i, t in enumerate(angles)
    )


def _scene(settings: Settings, seed: int, draw: int) -> tuple[Scene, torch.Generator]:
    """Return one draw, and the generator of what is drawn for it later."""
    words = np.random.SeedSequence(seed).generate_state(2 * settings.n_draws).reshape(-1, 2)
    net_seed, seed_of_rest = (int(word) for word in words[draw])
    random = torch.Generator().manual_seed(seed_of_rest)
    net = ReLUNet(settings.widths, seed=net_seed, dtype=torch.float64)
    scale = (settings.n_features * lost(net)) ** -0.5
    shape = (net.n_coefficients, settings.n_features)
    atoms = scale * torch.randn(shape, dtype=torch.float64, generator=random)
    z = torch.randn(net.latent_dim, dtype=torch.float64, generator=random)
    return Scene(net, atoms, z / torch.linalg.vector_norm(z)), random


def lost(net: ReLUNet) -> int:
    """Return by what the theorem's net makes squared norms smaller, 2 in each layer; calepin's keeps them."""
    return 2 ** len(net.weights)


def _rric(scene: Scene, atoms: Tensor) -> float:
    """Return the sampled constant of the range restricted isometry condition, for the theorem's net."""
    scaled = math.sqrt(lost(scene.generator)) * atoms
    return generator_constants(scaled, scene.generator, n_samples=400).rric


def _sphere(settings: Settings, random: torch.Generator) -> Tensor:
    u = torch.randn(settings.n_points, settings.widths[0], dtype=torch.float64, generator=random)
    return u / torch.linalg.vector_norm(u, dim=1, keepdim=True)


def _weakest(scene: Scene, atoms: Tensor, z: Tensor) -> float:
    """Return the derivative along minus the gradient, where descent is weakest, over ``max(|z|, 1)``."""
    length = torch.linalg.vector_norm(scene.gradient(z, atoms), dim=1)
    return -float((length / torch.linalg.vector_norm(z, dim=1).clamp_min(1)).min())


def _largest_at_zero(scene: Scene, atoms: Tensor, directions: Tensor) -> float:
    """Return the largest derivative at 0: G is positively homogeneous, its own derivative there."""
    return -float(((scene.generator(directions) @ atoms) * scene.y).sum(1).min())


def _descend(scene: Scene, settings: Settings, rho: float, random: torch.Generator) -> dict[str, float]:
    """Return the fractions of random starts from which plain descent ends at z* and near -rho z*."""
    z = torch.randn(settings.n_starts, settings.widths[0], dtype=torch.float64, generator=random)
    jacobian = linearise(scene.generator, scene.z_star[None])[1][0] @ scene.true_atoms
    # half of the reciprocal curvature at z*, as much as it varies between regions of activity
    step = 0.5 / float(torch.linalg.matrix_norm(jacobian, 2) ** 2)
    for _ in range(settings.n_iter):
        z = z - step * scene.gradient(z, scene.true_atoms)

    def reaching(center: Tensor, radius: float) -> float:
        return float((torch.linalg.vector_norm(z - center, dim=1) <= radius).double().mean())

    return {"z_star": reaching(scene.z_star, CLOSE), "mirror": reaching(-rho * scene.z_star, 0.5 * rho)}


def _values(
    settings: Settings, slopes: dict[tuple[float, str], np.ndarray], found: list[dict[str, np.ndarray]]
) -> dict[str, float]:
    at_zero = {delta: [float(piece[f"zero_{delta:g}"]) for piece in found] for delta in settings.deltas}
    values = {
        "worst_derivative": max(float(rows.max()) for (delta, _), rows in slopes.items() if delta <= 0.1),
        "derivative_at_zero": max(float(np.median(rows)) for rows in at_zero.values()),
        "derivative_at_zero_max": max(max(rows) for rows in at_zero.values()),
    }
    for (delta, place), rows in slopes.items():
        values[f"worst_derivative_{place}_delta_{delta:g}"] = float(rows.max())
    for delta, rows in at_zero.items():
        values |= spread(f"derivative_at_zero_delta_{delta:g}", rows)
    for name in ("z_star", "mirror"):
        values |= spread(f"share_reaching_{name}", [piece[f"share_{name}"] for piece in found], np.mean)
    for name in ("wdc", "rric"):
        values |= spread(name, [piece[name] for piece in found])
    for delta in settings.deltas:
        for name in ("rric", "bound"):
            values[f"{name}_delta_{delta:g}"] = float(np.median([p[f"{name}_{delta:g}"] for p in found]))
    values["rric_over_bound"] = max(
        float(piece[f"rric_{delta:g}"] / piece[f"bound_{delta:g}"])
        for piece in found
        for delta in settings.deltas
        if delta > 0
    )
    return values


def _draw(settings: Settings, slopes: dict[tuple[float, str], np.ndarray], run: Run) -> str:
    names = {"z_star": "z*", "mirror": "-rho z*"}
    lines = {
        f"around {names[place]}, delta {delta:g}": band(settings.radii, -rows)
        for (delta, place), rows in slopes.items()
        if place in names
    }
    figure = curves(
        lines,
        xlabel="distance from the centre of the sphere",
        ylabel="weakest descent on the sphere",
        yscale="log",
        title="Decoding always has a direction of descent (median and range over draws)",
    )
    save_figure(figure, run.folder / "landscape.png")
    return "landscape.png"


GEN_LANDSCAPE = Experiment(
    name="gen-landscape",
    shows="decoding has a descent direction everywhere but near z* and -rho z*, and 0 is a local maximum",
    source="Dictionary learning under generative coefficient priors 2022, Thm. 5.3, Lemma A.9",
    quick=Settings(n_points=400, n_draws=6, n_starts=50, n_iter=800),
    paper=Settings(n_points=4000, n_draws=50, n_starts=200, n_iter=5000),
    measure=measure,
)
