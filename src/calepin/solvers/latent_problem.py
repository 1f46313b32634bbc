"""Observations whose code is made by a generator: what is sought is the latent behind the code.

minimise over z   nll(A G(z) + offset, y) + (prior / 2) ||z||^2      with ||z|| <= radius
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from calepin._samples import inner, norm
from calepin.generators.base import Generator, latent_dimension, linearise, push_forward
from calepin.likelihoods import Gaussian
from calepin.operators import Dense
from calepin.problem import Problem

__all__ = ["LatentProblem", "NormalEquations"]


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """The objective at z and what Gauss-Newton knows of it.

    Attributes
    ----------
    value : Tensor, shape (n,)
    gradient : Tensor, shape (n, k)
    hessian : Tensor, shape (n, k, k)
        ``J^H W J + prior I``: J is the Jacobian of A G, W the second derivative of the nll in eta.
    """

    value: Tensor
    gradient: Tensor
    hessian: Tensor


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
    gram: Tensor | None = field(default=None, kw_only=True, repr=False)

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
        return replace(self, y=self.y[rows], offset=offset)

    def with_gram(self) -> "LatentProblem":
        """Return the same problem, with ``A A^T`` at hand where that shortens `normal_equations`."""
        if not (isinstance(self.operator, Dense) and isinstance(self.likelihood, Gaussian)):
            return self
        atoms = self.operator.atoms
        return replace(self, gram=(atoms @ atoms.mH).real) if atoms.shape[0] < atoms.shape[1] else self

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest latents in the ball."""
        return z if self.radius is None else z * (self.radius / norm(z).clamp_min(self.radius))[:, None]

    def eta(self, z: Tensor) -> Tensor:
        """Return the linear predictor of latents z, shape of y."""
        return self._predict(self.generator(z))

    def objective(self, z: Tensor) -> Tensor:
        """Return nll and prior of latents z, (n,)."""
        value = self.nll(z)
        return value + 0.5 * self.prior * inner(z, z) if self.prior else value

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

    def normal_equations(self, z: Tensor) -> NormalEquations:
        """Return value, gradient and Gauss-Newton matrix of `objective` at z."""
        coefficients, jacobian = linearise(self.generator, z)
        eta = self._predict(coefficients)
        gradient = (jacobian @ self._pull(eta)[:, :, None])[:, :, 0]
        hessian = self._curvature(eta, jacobian)
        value = self.likelihood.nll(eta, self.y)
        if self.prior:
            value = value + 0.5 * self.prior * inner(z, z)
            gradient = gradient + self.prior * z
            hessian = hessian + self.prior * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        return NormalEquations(value, gradient, hessian)

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
        if self.gram is not None:
            return (jacobian @ self.gram) @ jacobian.mT
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
