"""Observations whose codes are made by a generator: the unknowns are the latents.

minimise over z   nll(A G(z) + offset, y) + (prior / 2) ||z||^2      with ||z|| <= radius
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from calepin.core.arguments import check_fields, takes_tensors
from calepin.core.checks import check_number, check_tensor
from calepin.core.errors import IncompatibleError
from calepin.core.samples import Rows, inner, norm, with_fields
from calepin.generators.base import Generator, latent_dimension, linearise, push_forward
from calepin.likelihoods import Gaussian
from calepin.operators.dense import Dense
from calepin.problem import Problem

__all__ = ["Evaluation", "Gram", "LatentProblem", "Point", "require_latent_problem"]


@dataclass(frozen=True, eq=False)
class Point(Rows):
    """Latents, their objective, and intermediate results of its computation.

    Attributes
    ----------
    z : Tensor, shape (n, k)
        Latents.
    value : Tensor, shape (n,)
        The objective.
    coefficients : Tensor, shape (n, n_coefficients)
        G(z).
    image : Tensor
        The linear predictor, shape of y. With a Gram matrix, the derivative of the nll in the coefficients,
        (n, n_coefficients).
    """

    z: Tensor
    value: Tensor
    coefficients: Tensor
    image: Tensor


@dataclass(frozen=True, eq=False)
class Evaluation(Rows):
    """Latents z (n, k), their objective (n,) and its gradient (n, k)."""

    z: Tensor
    value: Tensor
    gradient: Tensor


@dataclass(frozen=True, eq=False)
class Gram:
    """Sufficient statistics of a Gaussian nll, used if there are fewer coefficients than features.

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
class LatentProblem:
    """A `Problem` whose codes are G(z), solved for z by `decode`, or by `solve` with a latent solver.

    It is not a subclass of `Problem`, since results for linear codes, such as the step size ``1 / L``, do not
    apply. With a known operator A it is compressed sensing with generative models (Bora et al. 2017).

    Parameters
    ----------
    problem : Problem
        Operator, likelihood, observations and offset.
    generator : callable
        Maps latents (n, k) to coefficients (n, n_coefficients), where n_coefficients is the number of
        entries of ``problem.operator.in_shape``.
    latent_dim : int, optional
        Latent dimension k, for a generator without this attribute or a first linear layer.
    prior : float, default 0
        Precision of a normal prior on z, in the units of the nll: sigma^2 for Gaussian noise of
        standard deviation sigma and latents of unit variance.
    radius : float, optional
        Largest norm of a latent; unbounded by default.
    gram : Gram, optional
        Precomputed products that speed up Gaussian problems; see `with_gram`.

    Raises
    ------
    IncompatibleError
        If `problem` is not a `Problem`.
    ValueError
        If `latent_dim`, `prior` or `radius` is out of range, or `latent_dim` is unknown.
    """

    problem: Problem
    generator: Generator
    latent_dim: int | None = field(default=None, kw_only=True)
    prior: float = field(default=0.0, kw_only=True)
    radius: float | None = field(default=None, kw_only=True)
    gram: Gram | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.problem, Problem):
            raise IncompatibleError(
                f"LatentProblem needs a Problem(operator, likelihood, y), got {type(self.problem).__name__}"
            )
        check_fields(self)
        object.__setattr__(self, "latent_dim", latent_dimension(self.generator, self.latent_dim))
        check_number("prior", self.prior, least=0)
        check_number("radius", self.radius, above=0, optional=True)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of the latents, (n, k)."""
        return (self.problem.y.shape[0], self.latent_dim or 0)

    @property
    def code_dtype(self) -> torch.dtype:
        """Dtype of the latents, real even if y is complex."""
        return self.problem.y.dtype.to_real()

    @property
    def separable(self) -> bool:
        """Whether some of the samples form a problem too."""
        return self.problem.separable

    def zeros(self) -> Tensor:
        """Return latents that are all zero, real even if y is complex."""
        return self.problem.y.real.new_zeros(self.code_shape)

    def take(self, rows: Tensor) -> "LatentProblem":
        """Return the problem of some of the samples, which may be repeated."""
        gram = None if self.gram is None else replace(self.gram, target=self.gram.target[rows])
        return with_fields(self, problem=self.problem.take(rows), gram=gram)

    def prepared(self) -> "LatentProblem":
        """Return the same problem with a prepared operator (`LinearOperator.prepared`)."""
        problem = self.problem.prepared()
        return self if problem is self.problem else replace(self, problem=problem)

    def with_gram(self) -> "LatentProblem":
        """Return the same problem with its `Gram` matrix, if that reduces the cost of an iteration."""
        operator = self.problem.operator
        if not (isinstance(operator, Dense) and isinstance(self.problem.likelihood, Gaussian)):
            return self
        atoms = operator.atoms
        if atoms.shape[0] >= atoms.shape[1]:
            return self
        target = operator.adjoint(self.problem.y - self.problem.offset).real
        return replace(self, gram=Gram((atoms @ atoms.mH).real, target))

    def project(self, z: Tensor) -> Tensor:
        """Return the projection of latents onto the ball ``||z|| <= radius``."""
        check_tensor("z", z)
        return z if self.radius is None else z * (self.radius / norm(z).clamp_min(self.radius))[:, None]

    @takes_tensors
    def eta(self, z: Tensor) -> Tensor:
        """Return the linear predictor of latents z, shape of y."""
        return self._predict(self.generator(check_tensor("z", z)))

    @takes_tensors
    def objective(self, z: Tensor) -> Tensor:
        """Return the sum of nll and prior of latents z, (n,)."""
        return self._with_prior(self._nll(self.eta(z)), z)

    @takes_tensors
    def gradient(self, z: Tensor) -> Tensor:
        """Return the gradient of `objective` in z, (n, k)."""
        return self._objective_and_gradient(z)[1]

    @takes_tensors
    def evaluate(self, z: Tensor) -> Evaluation:
        """Return objective and gradient at the projection of z onto the ball, without a graph."""
        z = self.project(check_tensor("z", z).detach())
        return Evaluation(z, *self._objective_and_gradient(z))

    @takes_tensors
    def at(self, z: Tensor) -> Point:
        """Return the `Point` of latents z."""
        coefficients = self.generator(check_tensor("z", z))
        eta = self._predict(coefficients)
        value = self._with_prior(self._nll(eta), z)
        return Point(z, value, coefficients, eta if self.gram is None else self._pull(eta))

    def move(self, point: Point, z: Tensor) -> tuple[Point, Tensor]:
        """Return the `Point` of latents z, and the decrease of the objective from `point` to it, (n,).

        With a Gram matrix, the decrease is computed without cancellation between two values. The nll is
        quadratic in the coefficients, so its change is the change of the coefficients times the mean of the
        derivatives at both points.
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

        The matrix is ``J^H W J + prior I``, J the Jacobian of A G, W the second derivative of the nll.
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

    def _objective_and_gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return objective and gradient, by one reverse-mode pass through the generator."""
        check_tensor("z", z)
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            coefficients = self.generator(leaf)
        with torch.no_grad():
            eta = self._predict(coefficients.detach())
            value, pull = self._nll(eta), self._pull(eta)
        (gradient,) = torch.autograd.grad(coefficients, leaf, pull)
        if self.prior:
            value, gradient = value + 0.5 * self.prior * inner(z, z), gradient + self.prior * z
        return value, gradient

    def _with_prior(self, value: Tensor, z: Tensor) -> Tensor:
        return value + 0.5 * self.prior * inner(z, z) if self.prior else value

    def _nll(self, eta: Tensor) -> Tensor:
        return self.problem.likelihood.nll(eta, self.problem.y)

    def _predict(self, coefficients: Tensor) -> Tensor:
        return self.problem.eta(self._shaped(coefficients))

    def _shaped(self, coefficients: Tensor) -> Tensor:
        in_shape = self.problem.operator.in_shape
        size = math.prod(in_shape)
        if coefficients.shape[-1] != size:
            raise ValueError(
                f"generator: expected {size} coefficients, as many as the operator takes, "
                f"got {coefficients.shape[-1]}"
            )
        return coefficients.to(self.problem.y.dtype).view(len(coefficients), *in_shape)

    def _pull(self, eta: Tensor) -> Tensor:
        """Return the derivative of the nll in the coefficients, (n, n_coefficients)."""
        back = -self.problem.operator.adjoint(self.problem.likelihood.score(eta, self.problem.y))
        return back.real.flatten(1)

    def _curvature(self, eta: Tensor, jacobian: Tensor) -> Tensor:
        images = self._images(jacobian)
        likelihood = self.problem.likelihood
        if isinstance(likelihood, Gaussian):
            return (images @ images.mH).real
        # with a canonical link the second derivative of the nll is the derivative of the mean, per entry
        weights = push_forward(likelihood.mean, eta, torch.ones_like(eta))[1].flatten(1)
        return (images * weights[:, None]) @ images.mT

    def _images(self, jacobian: Tensor) -> Tensor:
        """Return A J, (n, k, entries of an observation)."""
        n, k, _ = jacobian.shape
        operator = self.problem.operator
        if self.separable:
            return operator(self._shaped(jacobian.flatten(0, 1))).view(n, k, -1)
        columns = [operator(self._shaped(jacobian[:, i])).flatten(1) for i in range(k)]
        return torch.stack(columns, 1)


def require_latent_problem(who: str, problem: Any) -> LatentProblem:
    """Return the problem if it is a `LatentProblem`; raise IncompatibleError otherwise."""
    if not isinstance(problem, LatentProblem):
        raise IncompatibleError(
            f"{who} needs problem.generator, which {type(problem).__name__} does not have; "
            "give LatentProblem(problem, generator)"
        )
    return problem
