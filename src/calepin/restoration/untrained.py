"""An untrained network as the prior of an image."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from calepin.core.random import RandomState, torch_generator
from calepin.operators.base import LinearOperator
from calepin.reconstruction.fit import MAX_ITER, FitProgress, fit_untrained
from calepin.reconstruction.reconstructor import default_network, with_precision

__all__ = ["fit_network"]

_LEAST_RESIDUAL = 1e-3  # relative to the measurements, where they have hardly any noise
# The first image, whose largest value is the limit of the network's, may be smooth. A fit whose residual is
# so many times that of the noise, and of which so many pixels are at the limit, is made again with twice it.
_POOR, _LIMITED, _DOUBLINGS = 2.0, 0.01, 3
_AT_LIMIT = 0.99


@dataclass(frozen=True)
class Fitted:
    """Image, iterations, and whether the residual reached that of the noise or a plateau."""

    image: Tensor
    n_iter: int
    converged: bool
    history: list[dict[str, float]]


class _Scaled(LinearOperator):
    """A of images with a channel axis, whose values are the network's times a scale."""

    def __init__(self, operator: LinearOperator, scale: float) -> None:
        shape = operator.in_shape
        super().__init__(shape if len(shape) == 3 else (1, *shape), operator.out_shape)
        self.operator = operator
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to measurements."""
        self.check_input(x)
        return self.operator(self.scale * x.reshape(-1, *self.operator.in_shape))

    def adjoint(self, y: Tensor) -> Tensor:
        """Map measurements to images (n, channels, height, width)."""
        self.check_output(y)
        return self.scale * self.operator.adjoint(y).reshape(-1, *self.in_shape)


def fit_network(
    operator: LinearOperator,
    y: Tensor,
    sigma: float,
    start: Tensor,
    *,
    max_iter: int | None,
    random_state: RandomState,
    report: Callable[[str, float], object],
) -> Fitted:
    """Fit a deep decoder to measurements (1, *out_shape), until the residual is that of the noise.

    `max_iter` is the number of iterations of all fits, None for the default of each. `report` is called after
    each iteration; most runs are one fit.
    """
    norm = float(torch.linalg.vector_norm(y))
    parts = 2 if y.is_complex() else 1
    expected = sigma * math.sqrt(parts * y.numel()) / norm if norm else 1.0
    tol = min(max(expected, _LEAST_RESIDUAL), 1.0)
    generator = torch_generator(random_state)
    scale, n_iter = float(start.abs().max()) or 1.0, 0
    highest = 2**_DOUBLINGS * scale
    unit = norm / math.sqrt(y.numel()) or 1.0  # of measurements: optimisers have constants near 1
    most = MAX_ITER if max_iter is None else max_iter
    while True:

        def heard(progress: FitProgress, before: int = n_iter) -> None:
            done = before + progress.n_iter
            report(f"iteration {done}", min(done / most, 1.0))

        scaled = with_precision(_Scaled(operator, scale / unit), y)
        found = fit_untrained(
            default_network(scaled, y),
            scaled,
            y / unit,
            max_iter=MAX_ITER if max_iter is None else max_iter - n_iter,
            tol=tol,
            callback=heard,
            generator=generator,
        )
        n_iter += found.n_iter
        limited = not y.is_complex() and float((found.x > _AT_LIMIT).float().mean()) > _LIMITED
        if float(found.residual[0]) <= _POOR * tol or not limited or scale >= highest or n_iter == max_iter:
            break
        scale *= 2
    image = (scale * found.x[0]).reshape(operator.in_shape)
    residual = float((y - operator(image[None])).abs().square().mean().sqrt())
    best = {"loss": float(found.loss[0]), "residual": residual}
    return Fitted(image, n_iter, bool(found.converged.all()), [best])
