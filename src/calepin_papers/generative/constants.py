"""The constants in the theory of generative coefficient priors, estimated by sampling.

"Dictionary learning under generative coefficient priors", 2022, sections 3 and 5. A condition "for
all latents" can only be refuted by samples: each estimate is a bound from one side, which its
documentation names; more pairs make it tighter.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from calepin.generators import Generator, latent_dimension

__all__ = ["Assumption6", "GeneratorConstants", "generator_constants", "weight_distribution"]


@dataclass(frozen=True)
class Assumption6:
    """The paper's interplay of parameters, ``nu ||C|| + 10 n ||C^-1|| R^2 / gamma <= 1/4``.

    Attributes
    ----------
    value : float
        The left side; infinite if C is singular or gamma is 0.
    bound : float
        1/4.
    least_value : float
        What the second term cannot fall below whatever the generator: ``||C^-1|| R^2 >= n`` since the
        trace of C is at most R^2, and ``gamma <= ||D||``, hence ``10 n^2 / ||D||``. Above 1/4 the
        assumption cannot be satisfied with this dictionary.
    """

    value: float
    bound: float
    least_value: float

    @property
    def holds(self) -> bool:
        """Whether the left side is small enough."""
        return self.value <= self.bound


@dataclass(frozen=True)
class GeneratorConstants:
    """Sampled constants of a generator G and a dictionary D.

    Attributes
    ----------
    gamma : float
        S-REC (assumption 2): the least ``(|D(g - g')| + delta) / |g - g'|`` of the pairs. The true one is
        not larger.
    rric : float
        Range restricted isometry condition (section 5): the largest
        ``|<D(g1 - g2), D(g3 - g4)> - <g1 - g2, g3 - g4>| / (|g1 - g2| |g3 - g4|)``. The true one is not
        smaller.
    radius : float
        R, the largest ``|G(z)|`` (assumption 1). The true one is not smaller.
    lipschitz : float
        The largest ``|G(z) - G(z')| / |z - z'|``. The true one is not smaller.
    condition : float
        Condition number of ``C = E[G G^T]``; infinite if some combination of coefficients never varies.
    assumption_6 : Assumption6
    """

    gamma: float
    rric: float
    radius: float
    lipschitz: float
    condition: float
    assumption_6: Assumption6


@torch.no_grad()
def generator_constants(
    atoms: ArrayLike,
    generator: Generator,
    *,
    delta: float = 0.0,
    nu: float = 0.0,
    latent_dim: int | None = None,
    latents: ArrayLike | None = None,
    n_samples: int = 2000,
    seed: int = 0,
) -> GeneratorConstants:
    """Estimate the constants of the theory from samples of the prior.

    Parameters
    ----------
    atoms : array of shape (n_coefficients, n_features)
        The dictionary D, a row for each coefficient.
    generator : callable
        G: latents (n, k) to coefficients (n, n_coefficients).
    delta : float, default 0
        Offset of the S-REC.
    nu : float, default 0
        Error of the estimate of ``C^{-1}`` (assumption 5).
    latent_dim, latents, n_samples, seed
        Draws of the prior: standard normal ones, or the latents given, (n, k), at least four.

    Raises
    ------
    ValueError
        Atoms that do not fit the coefficients, fewer than four latents, or a generator that maps all of
        them to one point.
    """
    rows = torch.as_tensor(np.asarray(atoms), dtype=torch.float64)
    z = _draw(generator, latent_dim, latents, n_samples, seed)
    g = generator(z).double()
    if rows.ndim != 2 or g.ndim != 2 or g.shape[1] != len(rows):
        raise ValueError(
            f"atoms: expected shape ({tuple(g.shape)[-1]}, n_features), one row for each coefficient, "
            f"got {tuple(rows.shape)}"
        )
    z, half = z.double(), len(g) // 2
    d = g[:half] - g[half : 2 * half]
    apart = torch.linalg.vector_norm(d, dim=1)
    differ = apart > 1e-12 * torch.linalg.vector_norm(g, dim=1).max()
    if not differ.any():
        raise ValueError("generator: expected coefficients that vary with the latents, got the same for all")
    d, apart = d[differ], apart[differ]
    image = d @ rows
    stretch = (torch.linalg.vector_norm(image, dim=1) + delta) / apart
    units, seen = d / apart[:, None], image / apart[:, None]
    moved = torch.linalg.vector_norm(z[:half] - z[half : 2 * half], dim=1)[differ]
    gram = g.mT @ g / len(g)
    values = torch.linalg.eigvalsh(gram)
    gamma, radius = float(stretch.min()), float(torch.linalg.vector_norm(g, dim=1).max())
    singular = float(values[0]) <= 1e-10 * float(values[-1])
    return GeneratorConstants(
        gamma=gamma,
        rric=float((seen @ seen.mT - units @ units.mT).abs().max()),
        radius=radius,
        lipschitz=float((apart / moved).max()),
        condition=math.inf if singular else float(values[-1] / values[0]),
        assumption_6=_assumption_6(rows, values, singular, gamma, radius, nu),
    )


@torch.no_grad()
def weight_distribution(weights: ArrayLike, *, n_pairs: int = 2000, seed: int = 0) -> float:
    """Return a lower estimate of the constant of the weight distribution condition of a ReLU layer.

        max over x, y of || sum_i 1[w_i x > 0] 1[w_i y > 0] w_i w_i^T - Q(x, y) ||,
        Q(x, y) = (pi - theta) / (2 pi) I + sin(theta) / (2 pi) M(x, y)

    theta is the angle of x and y; M swaps their directions and is zero across them (Hand and Voroninski,
    "Global guarantees for enforcing deep generative priors by empirical risk", 2018, definition 2).
    Entries of variance ``1 / n_out`` satisfy it with a small constant in wide layers.

    Parameters
    ----------
    weights : array of shape (n_out, n_in)
        W of ``ReLU(W z)``, n_in at least 2.
    n_pairs : int, default 2000
        Random pairs (x, y) to try, among them x = y.
    seed : int
    """
    W = torch.as_tensor(np.asarray(weights), dtype=torch.float64)
    if W.ndim != 2 or W.shape[1] < 2 or not torch.isfinite(W).all():
        raise ValueError(
            f"weights: expected finite numbers of shape (n_out, n_in >= 2), got shape {tuple(W.shape)}"
        )
    k = W.shape[1]
    draw = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n_pairs, k, generator=draw, dtype=torch.float64) for _ in range(2))
    # from the same direction to opposite ones: independent directions alone would be near a right angle
    blend = torch.linspace(0, 1, n_pairs, dtype=torch.float64)[:, None]
    x = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
    y = torch.lerp(x * torch.where(torch.arange(n_pairs) % 2 == 0, 1.0, -1.0)[:, None], y, blend)
    y = y / torch.linalg.vector_norm(y, dim=1, keepdim=True)
    worst = 0.0
    for a, b in zip(x.split(256), y.split(256), strict=True):
        active = ((a @ W.mT > 0) & (b @ W.mT > 0)).double()
        found = torch.einsum("ni,ij,ik->njk", active, W, W)
        worst = max(worst, float(torch.linalg.matrix_norm(found - _expected(a, b), 2).max()))
    return worst


def _expected(x: Tensor, y: Tensor) -> Tensor:
    """Return Q(x, y) of unit vectors, (n, k, k)."""
    cosine = (x * y).sum(1).clamp(-1, 1)
    theta, sine = cosine.arccos(), (1 - cosine**2).clamp_min(0).sqrt()
    # M in the orthonormal basis x, u of the plane: it maps x to y and y to x, a reflection
    u = (y - cosine[:, None] * x) / sine.clamp_min(1e-12)[:, None]
    outer = lambda a, b: a[:, :, None] * b[:, None, :]  # noqa: E731
    c, s = cosine[:, None, None], sine[:, None, None]
    swap = c * (outer(x, x) - outer(u, u)) + s * (outer(x, u) + outer(u, x))
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    return ((math.pi - theta) / (2 * math.pi))[:, None, None] * eye + s / (2 * math.pi) * swap


def _draw(
    generator: Generator, latent_dim: int | None, latents: ArrayLike | None, n_samples: int, seed: int
) -> Tensor:
    like = _like(generator)
    if latents is not None:
        z = torch.as_tensor(np.asarray(latents), dtype=like.dtype, device=like.device)
    else:
        k = latent_dimension(generator, latent_dim)
        z = torch.randn(n_samples, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if z.ndim != 2 or len(z) < 4:
        raise ValueError(f"latents: expected at least four, of shape (n, k), got {tuple(z.shape)}")
    return z.to(like)


def _like(generator: Generator) -> Tensor:
    """Return an empty tensor with the dtype and device of the generator's weights, float64 without any."""
    if isinstance(generator, torch.nn.Module):
        for tensor in (*generator.parameters(), *generator.buffers()):
            if tensor.is_floating_point():
                return tensor.detach().new_empty(0)
    return torch.empty(0, dtype=torch.float64)


def _assumption_6(
    rows: Tensor, values: Tensor, singular: bool, gamma: float, radius: float, nu: float
) -> Assumption6:
    n = len(rows)
    possible = gamma > 0 and not singular
    second = 10 * n / float(values[0]) * radius**2 / gamma if possible else math.inf
    least = 10 * n**2 / float(torch.linalg.matrix_norm(rows, 2))
    return Assumption6(nu * float(values[-1]) + second, 0.25, least)
