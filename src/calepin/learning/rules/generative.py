"""Four rules of dictionary learning with coefficients from a known generator G.

    minimise over A, z   sum over samples of 0.5 ||y - G(z) A||^2

| rule          | latents             | atoms, the rows of A                                        |
| ------------- | ------------------- | ----------------------------------------------------------- |
| algorithm1    | Levenberg-Marquardt | A - eta C^-1 G^T (G A - Y) / n, projected onto balls at A_0 |
| altmin        | Adam, 1000 steps    | Adam, 1000 steps with constant latents                      |
| autodiff      | Adam, 1000 steps    | in the same steps as the latents                            |
| least-squares | Levenberg-Marquardt | proximal least squares over all batches so far              |

The first three are from "Dictionary learning under generative coefficient priors, with applications to
compression", 2022 (Algorithm 1 and section 6). altmin corresponds to the gradient "dec", with a solver of the
latents as the encoder: latents are constants while the atoms are updated. autodiff updates both together.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields, takes_tensors
from calepin.core.checks import check_floating, check_integer, check_tensor
from calepin.core.random import randn, torch_generator
from calepin.core.threads import single_threaded_torch
from calepin.generators.base import Generator, latent_dimension, like_generator
from calepin.generators.latent_problem import LatentProblem
from calepin.learning.batches import Batch
from calepin.learning.rule import AtomState, BaseRule, tensor_of
from calepin.likelihoods import Gaussian
from calepin.operators.dense import Dense
from calepin.problem import Problem
from calepin.solvers.decode import Decoded, LatentSolver, decode
from calepin.solvers.first_order import Adam
from calepin.solvers.levenberg_marquardt import LevenbergMarquardt

__all__ = [
    "Algorithm1",
    "AltMin",
    "Autodiff",
    "GenerativeRule",
    "LeastSquares",
    "algorithm1_step",
    "preconditioner",
]


@dataclass
class GenerativeState(AtomState):
    """State of a rule of generative dictionary learning.

    Attributes
    ----------
    atoms : Tensor, shape (n_coefficients, n_features)
        The linear layer A.
    n_steps : int
        Number of batches so far.
    """

    n_steps: int


@dataclass
class PreconditionedState(GenerativeState):
    """State of `Algorithm1`.

    Attributes
    ----------
    first : Tensor, shape (n_coefficients, n_features)
        The initial A: the centres of the balls.
    inverse : Tensor, shape (n_coefficients, n_coefficients)
        The preconditioner C^{-1}.
    """

    first: Tensor
    inverse: Tensor


@dataclass
class LeastSquaresState(GenerativeState):
    """State of `LeastSquares`.

    Attributes
    ----------
    M, B : Tensor, shape (p, p) and (p, m)
        Decayed sums of G^T G and of G^T Y, in float64.
    energy : Tensor, shape (2,)
        Decayed sums of the squared entries of Y and of their number.
    """

    M: Tensor
    B: Tensor
    energy: Tensor


@dataclass(frozen=True)
class GenerativeRule(BaseRule):
    """Base class of the rules: estimation of the latents of a batch with the current atoms.

    Parameters
    ----------
    generator : callable
        G, from latents (n, k) to coefficients (n, n_coefficients); one coefficient for each atom.
    latent_dim : int, optional
        Number k of latents. Needed if the generator has neither such an attribute nor a first linear layer.
    n_starts : int, default 1
        Number of random starts of the decoder. For each sample the best result is kept.
    prior : float, default 0.0
        Precision of the normal prior on the latents; see `LatentProblem`.
    radius : float, optional
        Upper bound on the norm of the latents; see `LatentProblem`. Default: no bound.
    seed : int, default 0
        Seed of the random starts.
    """

    state: ClassVar[type[AtomState]] = GenerativeState
    solver: ClassVar[LatentSolver] = LevenbergMarquardt()
    learning_tol: ClassVar[float] = 1e-6  # tolerance of `decode` in `learn`

    generator: Generator
    latent_dim: int | None = None
    n_starts: int = 1
    prior: float = 0.0
    radius: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.generator, type):
            raise TypeError(f"generator: expected a function, got the class {self.generator.__name__}")

    def init(self, atoms: Any) -> Any:
        """Return the initial state with this A."""
        return GenerativeState(tensor_of(atoms), 0)

    @single_threaded_torch()
    def step(self, state: Any, batch: Batch) -> np.ndarray:
        """Decode a batch, update the atoms in place, and return the objective of each sample."""
        if batch.mask is not None:
            raise ValueError("mask: expected None, generative rules do not support missing entries")
        y = torch.as_tensor(batch.X).to(state.atoms)
        starts = torch_generator(np.random.default_rng([self.seed, state.n_steps]))
        with torch.no_grad():
            found = self.learn(state, y, starts)
        state.n_steps += 1
        return found.objective.double().cpu().numpy()

    def learn(self, state: Any, y: Tensor, generator: torch.Generator) -> Decoded:
        """Update the atoms in place, and return the decoded latents that were used."""
        found = self.decode(state.atoms, y, generator=generator, tol=self.learning_tol)
        self.move(state, self.generator(found.z), y)
        return found

    def decode(
        self,
        atoms: Tensor,
        y: Tensor,
        *,
        z0: Tensor | None = None,
        generator: torch.Generator | None = None,
        tol: float = 1e-6,
    ) -> Decoded:
        """Return the latents of observations from the rule's solver, started at `z0` or at random."""
        problem = LatentProblem(
            Problem(Dense(atoms), Gaussian(), y), self.generator, latent_dim=self.latent_dim,
            prior=self.prior, radius=self.radius,
        )  # fmt: skip
        n_starts = self.n_starts if z0 is None else 1
        return decode(problem, solver=self.solver, n_starts=n_starts, z0=z0, tol=tol, generator=generator)

    def move(self, state: Any, coefficients: Tensor, y: Tensor) -> None:
        """Update the atoms in place, with constant coefficients."""
        raise NotImplementedError(f"{type(self).__name__} does not define move")


@dataclass(frozen=True)
class Algorithm1(GenerativeRule):
    """The paper's Algorithm 1: a preconditioned gradient step, projected onto balls at the initial atoms.

    By Theorems 5.1 and 5.2 of the paper it converges linearly if the initial atoms are near the true ones.

    Parameters
    ----------
    step_size : float, default 1
        Step size eta.
    delta : float, default infinity
        Radius of the ball around each initial atom.
    precondition : bool, default True
        Whether C^{-1} is the estimate of `preconditioner` (True) or the identity (False).
    """

    name: ClassVar[str] = "algorithm1"
    state: ClassVar[type[AtomState]] = PreconditionedState
    step_size: float = 1.0
    delta: float = math.inf
    precondition: bool = True

    def init(self, atoms: Any) -> PreconditionedState:
        """Return the initial state with this A and C^{-1}."""
        first = tensor_of(atoms)
        k = latent_dimension(self.generator, self.latent_dim)
        inverse = torch.eye(len(first)).to(first)
        if self.precondition:
            inverse = preconditioner(self.generator, k, like=first, seed=self.seed)
        return PreconditionedState(first, 0, first.clone(), inverse)

    def move(self, state: PreconditionedState, coefficients: Tensor, y: Tensor) -> None:
        """Update the atoms by `algorithm1_step`."""
        moved = algorithm1_step(
            state.atoms, coefficients, y, state.inverse, step_size=self.step_size, first=state.first,
            delta=self.delta,
        )  # fmt: skip
        state.atoms.copy_(moved)


@dataclass(frozen=True)
class AltMin(GenerativeRule):
    """The paper's "altmin": Adam on the latents, then Adam on the atoms.

    Parameters
    ----------
    n_iter : int, default 1000
        Number of updates of the atoms for each batch.
    learning_rate : float, default 1e-3
        Learning rate of these updates.
    """

    name: ClassVar[str] = "altmin"
    solver: ClassVar[LatentSolver] = Adam()
    n_iter: int = 1000
    learning_rate: float = 1e-3

    def move(self, state: GenerativeState, coefficients: Tensor, y: Tensor) -> None:
        """Update the atoms by `n_iter` steps of Adam."""
        atoms = state.atoms
        optimizer = torch.optim.Adam([atoms], lr=self.learning_rate, fused=True)
        for _ in range(self.n_iter):
            atoms.grad = coefficients.mT @ (coefficients @ atoms - y)
            optimizer.step()
        atoms.grad = None


@dataclass(frozen=True)
class Autodiff(GenerativeRule):
    """The paper's "autodiff": Adam on atoms and latents together, from random latents for each batch.

    Parameters
    ----------
    n_iter : int, default 1000
        Number of updates for each batch.
    learning_rate, latent_rate : float, default 1e-3, 1e-2
        Learning rates of the atoms and of the latents.
    """

    name: ClassVar[str] = "autodiff"
    solver: ClassVar[LatentSolver] = Adam()
    n_iter: int = 1000
    learning_rate: float = 1e-3
    latent_rate: float = 1e-2

    def learn(self, state: GenerativeState, y: Tensor, generator: torch.Generator) -> Decoded:
        """Update atoms and latents by `n_iter` steps of Adam; return the objective after the last step."""
        atoms = state.atoms
        k = latent_dimension(self.generator, self.latent_dim)
        z = randn((len(y), k), like=y, generator=generator)
        groups = [{"params": [atoms], "lr": self.learning_rate}, {"params": [z], "lr": self.latent_rate}]
        optimizer = torch.optim.Adam(groups, fused=True)
        for _ in range(self.n_iter):
            with torch.enable_grad():
                leaf = z.detach().requires_grad_()
                coefficients = self.generator(leaf)
            residual = coefficients.detach() @ atoms - y
            atoms.grad = coefficients.detach().mT @ residual
            (z.grad,) = torch.autograd.grad(coefficients, leaf, residual @ atoms.mT)
            optimizer.step()
        atoms.grad = None
        objective = 0.5 * (self.generator(z) @ atoms - y).square().sum(1)
        return Decoded(z, objective, self.n_iter, torch.zeros(len(y), dtype=torch.bool))


@dataclass(frozen=True)
class LeastSquares(GenerativeRule):
    """Proximal least squares over all batches so far, with the current atoms as the centre.

        A <- (M + r I)^{-1} (B + r A),   M = sum of G^T G,   B = sum of G^T Y

    Older batches have smaller weights, because their latents were decoded with older atoms.

    Parameters
    ----------
    ridge : float or "evidence", default 1
        Regularisation r, in units of the mean diagonal of M. "evidence": the r that maximises the marginal
        likelihood of the batches under a normal prior on the change of the atoms (MacKay, "Bayesian
        interpolation", 1992).
    forgetting : float, default 0.95
        Decay factor of M and B, applied before a batch is added.
    n_sweeps : int, default 1
        Number of alternations between latents and atoms for each batch. 1 is best for networks, where
        more alternations fit the atoms to the noise. Generators with few latents benefit from dozens.
    """

    name: ClassVar[str] = "least-squares"
    state: ClassVar[type[AtomState]] = LeastSquaresState
    learning_tol: ClassVar[float] = 1e-3  # dictionaries as good as with 1e-6, in a third of the time
    ridge: float | Literal["evidence"] = 1.0
    forgetting: float = 0.95
    n_sweeps: int = 1

    def init(self, atoms: Any) -> LeastSquaresState:
        """Return the initial state with this A and sums of zero."""
        atoms = tensor_of(atoms)
        p, m = atoms.shape
        double = {"dtype": torch.float64, "device": atoms.device}
        sums = torch.zeros((p, p), **double), torch.zeros((p, m), **double)
        return LeastSquaresState(atoms, 0, *sums, torch.zeros(2, **double))

    def learn(self, state: LeastSquaresState, y: Tensor, generator: torch.Generator) -> Decoded:
        """Alternate between latents and atoms; only the final latents of the batch enter the sums."""
        before = state.M, state.B, state.energy
        found = None
        for _ in range(self.n_sweeps):
            state.M, state.B, state.energy = (total.clone() for total in before)
            if found is None:
                found = super().learn(state, y, generator)
            else:
                found = self.decode(state.atoms, y, z0=found.z, tol=self.learning_tol)
                self.move(state, self.generator(found.z), y)
        assert found is not None
        return found

    def move(self, state: LeastSquaresState, coefficients: Tensor, y: Tensor) -> None:
        """Add the batch to the sums and solve for the atoms."""
        atoms, M, B, energy = state.atoms, state.M, state.B, state.energy
        M.mul_(self.forgetting).add_(coefficients.mT @ coefficients)
        B.mul_(self.forgetting).add_(coefficients.mT @ y)
        energy.mul_(self.forgetting).add_(energy.new_tensor([float(y.square().sum()), y.numel()]))
        scale = float(M.diagonal().mean())
        if scale == 0:
            return  # all coefficients are zero: the batches say nothing about the atoms
        before = atoms.to(M)
        if isinstance(self.ridge, str):
            change = B - M @ before
            residual = energy[0] - ((B + change) * before).sum()
            ridge = _most_probable_ridge(M, change, residual, energy[1])
        else:
            ridge = self.ridge * scale
        damped = M.clone()
        damped.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed:  # no ridge, fewer samples than atoms: undetermined directions do not change
            atoms.add_(torch.linalg.pinv(damped, hermitian=True) @ (B - M @ before))
        else:
            atoms.copy_(torch.cholesky_solve(torch.add(B, before, alpha=ridge), factor))


@takes_tensors
def algorithm1_step(
    atoms: Tensor,
    coefficients: Tensor,
    y: Tensor,
    inverse: Tensor,
    *,
    step_size: float = 1.0,
    first: Tensor | None = None,
    delta: float = math.inf,
) -> Tensor:
    """Return the atoms after one step of Algorithm 1, given the coefficients of a batch.

    Parameters
    ----------
    atoms : Tensor, shape (n_coefficients, m)
        The atoms: the columns of the paper's A.
    coefficients : Tensor, shape (n, n_coefficients)
        G(z) at the decoded latents.
    y : Tensor, shape (n, m)
        The samples.
    inverse : Tensor, shape (n_coefficients, n_coefficients)
        The preconditioner C^{-1}; see `preconditioner`.
    step_size : float, default 1.0
        Step size eta.
    first : Tensor, shape of atoms, optional
        Centres of the balls. Default: no projection.
    delta : float, default infinity
        Radius of the balls.
    """
    for name, values in (("atoms", atoms), ("coefficients", coefficients), ("y", y), ("inverse", inverse)):
        check_floating(name, values)
    check_arguments(algorithm1_step, locals())
    gradient = coefficients.mT @ (coefficients @ atoms - y) / len(y)
    moved = atoms - step_size * (inverse.mT @ gradient)  # the paper's A and gradient are transposed
    if first is None or delta == math.inf:
        return moved
    away = moved - first
    length = torch.linalg.vector_norm(away, dim=1, keepdim=True)
    return first + away * (delta / length.clamp_min(delta))


@torch.no_grad()
def preconditioner(
    generator: Generator, latent_dim: int | None = None, *, like: Tensor, n: int = 20_000, seed: int = 0
) -> Tensor:
    """Return the estimate C^{-1} of ``E[G(z) G(z)^T]^{-1}`` for standard normal latents, from `n` draws.

    It is a pseudo-inverse: zero on directions that G does not reach.
    """
    check_arguments(preconditioner, locals())
    check_floating("like", like)
    own = like_generator(generator, like.dtype)
    if like.dtype != own.dtype:
        raise ValueError(f"like: expected the dtype of the generator, {own.dtype}, got {like.dtype}")
    check_integer("n", n)
    k = latent_dimension(generator, latent_dim)
    check_tensor("like", like)
    coefficients = generator(randn((n, k), like=like, generator=torch_generator(seed)))
    moment = (coefficients.mT @ coefficients).double() / n
    return torch.linalg.pinv(moment, hermitian=True, rtol=1e-6).to(like)


def _most_probable_ridge(M: Tensor, change: Tensor, residual: Tensor, count: Tensor) -> float:
    """Return the ridge r with the largest marginal likelihood, maximised over the noise variance too.

    Let l_i be the eigenvalues of M and c_i the rows of `change` in the basis of the eigenvectors. Up to a
    constant, minus twice the log evidence is
    ``m sum log(1 + l_i / r) + count log(residual - sum ||c_i||^2 / (l_i + r))``.
    """
    values, vectors = torch.linalg.eigh(M)
    values = values.clamp_min(0)
    gains = (vectors.mT @ change).square().sum(1)
    ridges = float(M.diagonal().mean()) * torch.logspace(-6, 4, 101).to(M)
    left = residual - (gains / (values + ridges[:, None])).sum(1)
    smallest = torch.finfo(M.dtype).eps * residual.abs()
    complexity = change.shape[1] * torch.log1p(values / ridges[:, None]).sum(1)
    return float(ridges[(complexity + count * left.clamp_min(smallest).log()).argmin()])
