"""Half-quadratic splitting: a denoiser as the prior of an image that was measured.

    z_k = argmin_z ||A z - y||^2 + mu_k ||z - x_{k-1}||^2,     mu_k = weight sigma^2 / s_k^2
    x_k = denoise(z_k, s_k)

s_k falls geometrically from coarse to fine, to sigma over the gain of A: the level of the noise in what A
tells of the image. Zoran and Weiss, "From learning models of natural image patches to whole image
restoration", 2011; Zhang et al., "Plug-and-play image restoration with deep denoiser prior", 2021, whose
weight and first level these are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calepin.core.random import RandomState, torch_generator
from calepin.core.samples import inner
from calepin.datasets.noise import GaussianNoise
from calepin.imaging.denoising import Denoiser
from calepin.operators.base import LinearOperator
from calepin.operators.least_squares import regularised_least_squares
from calepin.restoration.first_estimate import value_range

__all__ = ["FIRST_LEVEL", "Splitting", "split"]

WEIGHT = 0.23
FIRST_LEVEL = 49 / 255  # of the range of the image
FINEST_LEVEL = 1 / 255  # of the range of the image, for measurements with hardly any noise
CG_ITERATIONS, CG_TOL = 200, 1e-3
PROBES = 4  # random images for the gain
CG_ERROR = 0.1  # of an image by conjugate gradients, relative to the level of noise that is removed next
PIXELS = 3  # channels of a colour image


@dataclass
class Splitting:
    """Result of `split`: the image (1, *in_shape), whether it has converged, and a record of each step.

    `inexact` counts the data steps whose conjugate gradients did not converge.
    """

    x: Tensor
    converged: bool
    history: list[dict[str, float]]
    inexact: int


def split(
    operator: LinearOperator,
    y: Tensor,
    sigma: float,
    prior: Denoiser,
    start: Tensor,
    *,
    n_levels: int,
    max_iter: int,
    tol: float,
    first_level: float = FIRST_LEVEL,
    random_state: RandomState = 0,
    report: Callable[[int], object] = lambda step: None,
) -> Splitting:
    """Lower the level from step to step; at the last level, go on until the image hardly changes.

    Parameters
    ----------
    operator, y, start
        A, measurements (1, *out_shape) and the first image (1, *in_shape).
    sigma : float
        Standard deviation of the noise of y.
    prior : Denoiser
    n_levels, max_iter, tol
        Steps until the last level; steps in all; relative change of the image that ends the run.
    first_level : float
        Level of the first step, as a fraction of the range of the image; low for a good first image.
    random_state : int, Generator, RandomState or None
        Passed to the denoiser in each step.
    report : callable
        Called with the number of steps done.
    """
    scale = max(gain(operator, start), torch.finfo(torch.float32).tiny)
    span = value_range(start) or 1.0
    last = max(sigma / scale, FINEST_LEVEL * span)
    first = max(first_level * span, last)
    x, history, inexact, converged = start, [], 0, False
    for k in range(max_iter):
        level = float(first * (last / first) ** (min(k, n_levels - 1) / max(n_levels - 1, 1)))
        weight = WEIGHT * (scale * last / level) ** 2
        z, exact = regularised_least_squares(
            operator,
            x,
            y,
            weight=weight,
            n_iter=CG_ITERATIONS,
            tol=CG_TOL,
            gap=weight * (CG_ERROR * level) ** 2 * x.numel(),
        )
        before, x = x, denoised(z, level, prior, random_state)
        inexact += not exact
        norm = torch.linalg.vector_norm(x)
        change = float(torch.linalg.vector_norm(x - before) / norm.clamp_min(torch.finfo(norm.dtype).tiny))
        residual = float((y - operator(x)).abs().square().mean().sqrt())
        history.append({"level": level, "change": change, "residual": residual})
        report(k + 1)
        converged = k >= n_levels - 1 and change <= tol
        if converged:
            break
    return Splitting(x, converged, history, inexact)


@torch.no_grad()
def gain(operator: LinearOperator, like: Tensor) -> float:
    """Return the root of tr((A^H A)^2) / tr(A^H A), from random probes of the dtype and device of `like`.

    It is the norm of A if its singular values are equal or zero, as those of a mask. Where few are far above
    the others, as those of low frequencies in projections, it is below the norm, which says little then.
    """
    generator = torch_generator(0)
    signs = torch.randint(2, (PROBES, *operator.in_shape), generator=generator).to(like) * 2 - 1
    passed = operator(signs)
    energy = float(inner(passed, passed).sum())
    back = operator.adjoint(passed)
    return (float(inner(back, back).sum()) / energy) ** 0.5 if energy > 0 else 0.0


def denoised(x: Tensor, level: float, prior: Denoiser, random_state: RandomState) -> Tensor:
    """Return an image (1, *shape) denoised; three real channels are colours, others are separate images."""
    if x.is_complex():
        parts = [denoised(part, level, prior, random_state) for part in (x.real, x.imag)]
        return torch.complex(parts[0], parts[1])
    sample = np.ascontiguousarray(x[0].detach().cpu().numpy())

    def clean(image: np.ndarray) -> np.ndarray:
        noise = GaussianNoise(level)
        return np.asarray(prior.denoise(image, noise, random_state=random_state, callback=None).image)

    if sample.ndim == 2:
        out = clean(sample)
    elif len(sample) == PIXELS:
        out = np.moveaxis(clean(np.ascontiguousarray(np.moveaxis(sample, 0, -1))), -1, 0)
    else:
        out = np.stack([clean(plane) for plane in sample])
    return torch.from_numpy(np.ascontiguousarray(out)).to(x)[None]
