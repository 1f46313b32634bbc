"""Learning a dictionary whose coefficients a known generator makes: four rules for the one loop.

    minimise over A, z   sum over samples of 0.5 ||y - G(z) A||^2

| rule          | latents             | atoms, the rows of A                                     |
| ------------- | ------------------- | -------------------------------------------------------- |
| algorithm1    | Levenberg-Marquardt | A - eta C^-1 G^T (G A - Y) / n, each in a ball about A_0 |
| altmin        | Adam, 1000 steps    | Adam, 1000 steps with these latents                      |
| autodiff      | Adam, 1000 steps    | the same steps: both move at once                        |
| least-squares | Levenberg-Marquardt | proximal least squares over all batches so far           |

The first three are those of "Dictionary learning under generative coefficient priors, with
applications to compression", 2022 (Algorithm 1 and section 6). altmin is PUDLE's "dec" with a latent
solver for an encoder: the latents are constants when the atoms move. autodiff moves both at once.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from calepin.core.random import randn, torch_generator
from calepin.core.threads import single_threaded_torch
from calepin.generators.base import Generator, latent_dimension
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
    """The layer A, (n_coefficients, n_features), and the number of steps."""

    n_steps: int


@dataclass
class PreconditionedState(GenerativeState):
    """Also the first A and C^{-1}."""

    first: Tensor
    inverse: Tensor


@dataclass
class LeastSquaresState(GenerativeState):
    """Also M, B, and the energy and number of the entries in them."""

    M: Tensor
    B: Tensor
    energy: Tensor


@dataclass(frozen=True)
class GenerativeRule(BaseRule):
    """What the rules share: decoding a batch with the atoms as they are.

    Parameters
    ----------
    generator : callable
        G, with as many coefficients as there are atoms.
    latent_dim : int, optional
        For a generator that does not tell.
    n_starts : int, default 1
        Starts of each decoding, the best of which is kept.
    prior, radius : float
        Precision of a normal prior on the latents, and their largest norm; see `LatentProblem`.
    seed : int, default 0
        Of the starts.
    """

    state: ClassVar[type[AtomState]] = GenerativeState
    solver: ClassVar[LatentSolver] = LevenbergMarquardt()
    learning_tol: ClassVar[float] = 1e-6  # of `decode`, when its latents move the atoms

    generator: Generator
    latent_dim: int | None = None
    n_starts: int = 1
    prior: float = 0.0
    radius: float | None = None
    seed: int = 0

    def init(self, atoms: Any) -> Any:
        """Return the state of a run that begins with this A."""
        return GenerativeState(tensor_of(atoms), 0)

    @single_threaded_torch()
    def step(self, state: Any, batch: Batch) -> np.ndarray:
        """Decode a batch, move the atoms in place, and return each sample's objective before the move."""
        if batch.mask is not None:
            raise ValueError("mask: expected None, these rules learn from whole samples")
        y = torch.as_tensor(batch.X).to(state.atoms)
        starts = torch_generator(np.random.default_rng([self.seed, state.n_steps]))
        with torch.no_grad():
            found = self.learn(state, y, starts)
        state.n_steps += 1
        return found.objective.double().cpu().numpy()

    def learn(self, state: Any, y: Tensor, generator: torch.Generator) -> Decoded:
        """Move the atoms in place, and return the latents they moved by."""
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
        """Return the latents of observations, with the rule's own solver: from `z0`, or from all starts."""
        problem = LatentProblem(
            Problem(Dense(atoms), Gaussian(), y), self.generator, latent_dim=self.latent_dim,
            prior=self.prior, radius=self.radius,
        )  # fmt: skip
        n_starts = self.n_starts if z0 is None else 1
        return decode(problem, solver=self.solver, n_starts=n_starts, z0=z0, tol=tol, generator=generator)

    def move(self, state: Any, coefficients: Tensor, y: Tensor) -> None:
        """Move the atoms in place, the coefficients being constants."""
        raise NotImplementedError(f"{type(self).__name__} does not define move")


@dataclass(frozen=True)
class Algorithm1(GenerativeRule):
    """The paper's Algorithm 1: a preconditioned gradient step, projected onto balls about the start.

    Theorems 5.1 and 5.2 speak of it: from atoms near the true ones it converges geometrically.

    Parameters
    ----------
    step_size : float, default 1
        eta.
    delta : float, default infinity
        Radius of the ball about each first atom.
    precondition : bool, default True
        Whether C^{-1} is `preconditioner`'s or the identity.
    """

    name: ClassVar[str] = "algorithm1"
    state: ClassVar[type[AtomState]] = PreconditionedState
    step_size: float = 1.0
    delta: float = math.inf
    precondition: bool = True

    def init(self, atoms: Any) -> PreconditionedState:
        """Return the state of a run that begins with this A, with C^{-1}."""
        first = tensor_of(atoms)
        k = latent_dimension(self.generator, self.latent_dim)
        inverse = torch.eye(len(first)).to(first)
        if self.precondition:
            inverse = preconditioner(self.generator, k, like=first, seed=self.seed)
        return PreconditionedState(first, 0, first.clone(), inverse)

    def move(self, state: PreconditionedState, coefficients: Tensor, y: Tensor) -> None:
        """Take `algorithm1_step`."""
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
        Steps on the atoms in a batch.
    learning_rate : float, default 1e-3
        Of these steps.
    """

    name: ClassVar[str] = "altmin"
    solver: ClassVar[LatentSolver] = Adam()
    n_iter: int = 1000
    learning_rate: float = 1e-3

    def move(self, state: GenerativeState, coefficients: Tensor, y: Tensor) -> None:
        """Run Adam on the atoms."""
        atoms = state.atoms
        optimizer = torch.optim.Adam([atoms], lr=self.learning_rate, fused=True)
        for _ in range(self.n_iter):
            atoms.grad = coefficients.mT @ (coefficients @ atoms - y)
            optimizer.step()
        atoms.grad = None


@dataclass(frozen=True)
class Autodiff(GenerativeRule):
    """The paper's "autodiff": Adam on atoms and latents at once, from random latents in each batch.

    Parameters
    ----------
    n_iter : int, default 1000
        Steps in a batch.
    learning_rate, latent_rate : float, default 1e-3, 1e-2
        Of atoms and of latents.
    """

    name: ClassVar[str] = "autodiff"
    solver: ClassVar[LatentSolver] = Adam()
    n_iter: int = 1000
    learning_rate: float = 1e-3
    latent_rate: float = 1e-2

    def learn(self, state: GenerativeState, y: Tensor, generator: torch.Generator) -> Decoded:
        """Run Adam on both; the objective returned is that after the last step."""
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
    """Atoms by least squares over all batches so far, near the atoms of the step before.

        A <- (M + r I)^{-1} (B + r A),   M = sum of G^T G,   B = sum of G^T Y

    Batches count less the older they are, because their latents were found with older atoms.

    Parameters
    ----------
    ridge : float or "evidence", default 1
        r in units of the mean diagonal of M; or the r under which the batches are most probable, if
        the change of every atom's entry is normal (MacKay, "Bayesian interpolation", 1992).
    forgetting : float, default 0.95
        Factor on M and B before a batch is added.
    n_sweeps : int, default 1
        Times that latents and atoms take turns in a batch. One is best for networks, whose atoms more
        of them fit to the noise; generators with few latents gain from dozens.
    """

    name: ClassVar[str] = "least-squares"
    state: ClassVar[type[AtomState]] = LeastSquaresState
    learning_tol: ClassVar[float] = 1e-3  # no worse a dictionary than with 1e-6, in a third of the time
    ridge: float | Literal["evidence"] = 1.0
    forgetting: float = 0.95
    n_sweeps: int = 1

    def init(self, atoms: Any) -> LeastSquaresState:
        """Return the state of a run that begins with this A, with sums of zero."""
        atoms = tensor_of(atoms)
        p, m = atoms.shape
        double = {"dtype": torch.float64, "device": atoms.device}
        sums = torch.zeros((p, p), **double), torch.zeros((p, m), **double)
        return LeastSquaresState(atoms, 0, *sums, torch.zeros(2, **double))

    def learn(self, state: LeastSquaresState, y: Tensor, generator: torch.Generator) -> Decoded:
        """Let latents and atoms take turns; the sums take the batch in as it is in the end."""
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
        """Add the batch to the sums and solve."""
        atoms, M, B, energy = state.atoms, state.M, state.B, state.energy
        M.mul_(self.forgetting).add_(coefficients.mT @ coefficients)
        B.mul_(self.forgetting).add_(coefficients.mT @ y)
        energy.mul_(self.forgetting).add_(energy.new_tensor([float(y.square().sum()), y.numel()]))
        scale = float(M.diagonal().mean())
        if scale == 0:
            return  # all coefficients are zero: nothing is known of the atoms
        before = atoms.to(M)
        if self.ridge == "evidence":
            change = B - M @ before
            residual = energy[0] - ((B + change) * before).sum()
            ridge = _most_probable_ridge(M, change, residual, energy[1])
        else:
            ridge = self.ridge * scale
        damped = M.clone()
        damped.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed:  # without a ridge, and fewer samples than atoms: what they leave open stays
            atoms.add_(torch.linalg.pinv(damped, hermitian=True) @ (B - M @ before))
        else:
            atoms.copy_(torch.cholesky_solve(torch.add(B, before, alpha=ridge), factor))


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
        The columns of the paper's A.
    coefficients : Tensor, shape (n, n_coefficients)
        G(z) at the decoded latents.
    y : Tensor, shape (n, m)
    inverse : Tensor, shape (n_coefficients, n_coefficients)
        C^{-1}; see `preconditioner`.
    step_size : float
        eta.
    first : Tensor, shape of atoms, optional
        Centres of the balls.
    delta : float
        Their radius.
    """
    gradient = coefficients.mT @ (coefficients @ atoms - y) / len(y)
    moved = atoms - step_size * (inverse @ gradient)
    if first is None or delta == math.inf:
        return moved
    away = moved - first
    length = torch.linalg.vector_norm(away, dim=1, keepdim=True)
    return first + away * (delta / length.clamp_min(delta))


@torch.no_grad()
def preconditioner(
    generator: Generator, latent_dim: int | None = None, *, like: Tensor, n: int = 20_000, seed: int = 0
) -> Tensor:
    """Return the estimate C^{-1} of ``E[G(z) G(z)^T]^{-1}`` for normal latents, from `n` draws.

    Directions that G never takes have no inverse and stay zero.
    """
    k = latent_dimension(generator, latent_dim)
    coefficients = generator(randn((n, k), like=like, generator=torch_generator(seed)))
    moment = (coefficients.mT @ coefficients).double() / n
    return torch.linalg.pinv(moment, hermitian=True, rtol=1e-6).to(like)


def _most_probable_ridge(M: Tensor, change: Tensor, residual: Tensor, count: Tensor) -> float:
    """Return the ridge with the largest marginal likelihood, the noise's variance being free.

    With eigenvalues l_i of M and change rotated to their vectors, c_i, minus twice the log evidence is
    ``m sum log(1 + l_i / r) + count log(residual - sum ||c_i||^2 / (l_i + r))`` but for a constant.
    """
    values, vectors = torch.linalg.eigh(M)
    values = values.clamp_min(0)
    gains = (vectors.mT @ change).square().sum(1)
    ridges = float(M.diagonal().mean()) * torch.logspace(-6, 4, 101).to(M)
    left = residual - (gains / (values + ridges[:, None])).sum(1)
    smallest = torch.finfo(M.dtype).eps * residual.abs()
    complexity = change.shape[1] * torch.log1p(values / ridges[:, None]).sum(1)
    return float(ridges[(complexity + count * left.clamp_min(smallest).log()).argmin()])
