"""Observations whose code is made by a generator: what is sought is the latent behind the code.

minimise over z   nll(A G(z) + offset, y) + (prior / 2) ||z||^2      with ||z|| <= radius
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from calepin.core.samples import inner, norm
from calepin.generators.base import Generator, latent_dimension, linearise, push_forward
from calepin.likelihoods import Gaussian
from calepin.operators.dense import Dense
from calepin.problem import Problem

__all__ = ["Gram", "LatentProblem", "Point", "Rows"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Tensors with one row for each sample."""

    def take(self, rows: Tensor) -> Self:
        """Return those of some samples."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass(frozen=True, eq=False)
class Point(Rows):
    """Latents and what was computed on the way to their objective.

    Attributes
    ----------
    z : Tensor, shape (n, k)
    value : Tensor, shape (n,)
        The objective.
    coefficients : Tensor, shape (n, n_coefficients)
        G(z).
    image : Tensor
        The linear predictor, shape of y; with a Gram matrix the derivative of the nll in the coefficients,
        (n, n_coefficients).
    """

    z: Tensor
    value: Tensor
    coefficients: Tensor
    image: Tensor


@dataclass(frozen=True, eq=False)
class Gram:
    """What a Gaussian nll depends on, apart from a constant, when there are fewer coefficients than data.

    Attributes
    ----------
    matrix : Tensor, shape (n_coefficients, n_coefficients)
        ``A A^T``.
    target : Tensor, shape (n, n_coefficients)
        ``(y - offset) A^T``.
    """

    matrix: Tensor
    target: Tensor


@dataclass(frozen=True, eq=False)
class LatentProblem(Problem):
    """A `Problem` whose codes are G(z); `decode` finds z, and `solve` runs a latent solver on it.

    With a known operator A it is compressed sensing with generative models (Bora et al. 2017).

    Parameters
    ----------
    operator, likelihood, y, offset
        As in `Problem`.
    generator : callable
        Maps latents (n, k) to coefficients (n, n_coefficients): as many as a sample of
        ``operator.in_shape`` has entries.
    latent_dim : int, optional
        k, for a generator that does not tell.
    prior : float, default 0
        Precision of a normal prior on z, in the units of the nll: sigma^2 for Gaussian noise of
        standard deviation sigma and latents of unit variance.
    radius : float, optional
        R, the largest norm of a latent.
    """

    generator: Generator = field(kw_only=True)
    latent_dim: int | None = field(default=None, kw_only=True)
    prior: float = field(default=0.0, kw_only=True)
    radius: float | None = field(default=None, kw_only=True)
    gram: Gram | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "latent_dim", latent_dimension(self.generator, self.latent_dim))
        if not 0 <= self.prior < math.inf:
            raise ValueError(f"prior: expected a finite number of at least 0, got {self.prior!r}")
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise ValueError(f"radius: expected a finite number above 0 or None, got {self.radius!r}")

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of the latents, (n, k)."""
        return (self.y.shape[0], self.latent_dim or 0)

    @property
    def separable(self) -> bool:
        """Whether some of the samples can be worked on without the others."""
        return self.operator.n_samples is None

    def zeros(self) -> Tensor:
        """Return latents that are zero everywhere, real also where y is complex."""
        return self.y.real.new_zeros(self.code_shape)

    def take(self, rows: Tensor) -> "LatentProblem":
        """Return the problem of some of the samples, possibly repeated."""
        offset = self.offset
        if isinstance(offset, Tensor) and offset.ndim == self.y.ndim and len(offset) > 1:
            offset = offset[rows]
        gram = None if self.gram is None else replace(self.gram, target=self.gram.target[rows])
        return replace(self, y=self.y[rows], offset=offset, gram=gram)

    def with_gram(self) -> "LatentProblem":
        """Return the same problem, with its `Gram` at hand where that shortens the work."""
        if not (isinstance(self.operator, Dense) and isinstance(self.likelihood, Gaussian)):
            return self
        atoms = self.operator.atoms
        if atoms.shape[0] >= atoms.shape[1]:
            return self
        target = self.operator.adjoint(self.y - self.offset).real
        return replace(self, gram=Gram((atoms @ atoms.mH).real, target))

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest latents in the ball."""
        return z if self.radius is None else z * (self.radius / norm(z).clamp_min(self.radius))[:, None]

    def eta(self, z: Tensor) -> Tensor:
        """Return the linear predictor of latents z, shape of y."""
        return self._predict(self.generator(z))

    def objective(self, z: Tensor) -> Tensor:
        """Return nll and prior of latents z, (n,)."""
        return self._with_prior(self.nll(z), z)

    def gradient(self, z: Tensor) -> Tensor:
        """Return the gradient of `objective` in z, (n, k)."""
        return self.objective_and_gradient(z)[1]

    def objective_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return both at the price of one; by the reverse mode of the generator."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            coefficients = self.generator(leaf)
        with torch.no_grad():
            eta = self._predict(coefficients.detach())
            value, pull = self.likelihood.nll(eta, self.y), self._pull(eta)
        (gradient,) = torch.autograd.grad(coefficients, leaf, pull)
        if self.prior:
            value, gradient = value + 0.5 * self.prior * inner(z, z), gradient + self.prior * z
        return value, gradient

    def at(self, z: Tensor) -> Point:
        """Return the point of latents z."""
        coefficients = self.generator(z)
        eta = self._predict(coefficients)
        value = self._with_prior(self.likelihood.nll(eta, self.y), z)
        return Point(z, value, coefficients, eta if self.gram is None else self._pull(eta))

    def move(self, point: Point, z: Tensor) -> tuple[Point, Tensor]:
        """Return the point of latents z, and how far its objective is below that of `point`, (n,).

        With a Gram matrix the decrease is free of the cancellation of two values: the nll is quadratic in
        the coefficients, so that it falls by minus the move times the mean of both its derivatives.
        """
        if self.gram is None:
            moved = self.at(z)
            return moved, point.value - moved.value
        coefficients = self.generator(z)
        pull = torch.addmm(self.gram.target, coefficients, self.gram.matrix, beta=-1)
        decrease = -0.5 * ((coefficients - point.coefficients) * (pull + point.image)).sum(1)
        if self.prior:
            decrease = decrease - 0.5 * self.prior * ((z - point.z) * (z + point.z)).sum(1)
        return Point(z, (point.value - decrease).clamp_min(0), coefficients, pull), decrease

    def normal_equations(self, point: Point) -> tuple[Tensor, Tensor]:
        """Return gradient (n, k) and Gauss-Newton matrix (n, k, k) of `objective` at a point.

        The latter is ``J^H W J + prior I``: J is the Jacobian of A G, W the second derivative of the nll.
        """
        z = point.z
        jacobian = linearise(self.generator, z)[1]
        if self.gram is None:
            pull, hessian = self._pull(point.image), self._curvature(point.image, jacobian)
        else:
            pull, hessian = point.image, (jacobian @ self.gram.matrix) @ jacobian.mT
        gradient = (jacobian @ pull[:, :, None])[:, :, 0]
        if self.prior:
            gradient = gradient + self.prior * z
            hessian = hessian + self.prior * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return gradient, hessian

    def _with_prior(self, value: Tensor, z: Tensor) -> Tensor:
        return value + 0.5 * self.prior * inner(z, z) if self.prior else value

    def _predict(self, coefficients: Tensor) -> Tensor:
        return self.operator(self._shaped(coefficients)) + self.offset

    def _shaped(self, coefficients: Tensor) -> Tensor:
        size = math.prod(self.operator.in_shape)
        if coefficients.shape[-1] != size:
            raise ValueError(
                f"generator: expected {size} coefficients, what the operator takes, "
                f"got {coefficients.shape[-1]}"
            )
        return coefficients.to(self.y.dtype).view(len(coefficients), *self.operator.in_shape)

    def _pull(self, eta: Tensor) -> Tensor:
        """Return the derivative of the nll in the coefficients, (n, n_coefficients)."""
        back = -self.operator.adjoint(self.likelihood.score(eta, self.y))
        return back.real.flatten(1)

    def _curvature(self, eta: Tensor, jacobian: Tensor) -> Tensor:
        images = self._images(jacobian)
        if isinstance(self.likelihood, Gaussian):
            return (images @ images.mH).real
        # of a canonical family the second derivative of the nll is that of the mean, entry by entry
        weights = push_forward(self.likelihood.mean, eta, torch.ones_like(eta))[1].flatten(1)
        return (images * weights[:, None]) @ images.mT

    def _images(self, jacobian: Tensor) -> Tensor:
        """Return A J, (n, k, entries of an observation)."""
        n, k, _ = jacobian.shape
        if self.separable:
            return self.operator(self._shaped(jacobian.flatten(0, 1))).view(n, k, -1)
        columns = [self.operator(self._shaped(jacobian[:, i])).flatten(1) for i in range(k)]
        return torch.stack(columns, 1)
