"""Proximal gradient methods: ISTA, FISTA with adaptive restart, iterative hard thresholding.

All minimise, for each sample on its own,

    F(z) = nll(z) + g(z)

with a smooth `nll` (the problem's) and a penalty g that has a proximal map (the solver's), by

    z  <-  prox( v - s * gradient(v), s ),        s = step size

where v is the code itself (ISTA, IHT) or extrapolated from the last two (FISTA).

The step size is ``1 / L`` by default, where L = curvature * norm_squared is a Lipschitz constant of the
gradient. It can be a number, valid below ``2 / L`` (FISTA: up to ``1 / L``), or be found by backtracking,
separately for each sample. Backtracking needs no curvature and therefore works for Poisson counts too.

With a `decay` beta below one, the penalty decreases from layer to layer: iteration k = 0, 1, ... uses
``prox(., s * beta^k)``, for L1 the weight ``alpha * beta^k``. This removes the bias of the amplitudes once
the support is found (Tolooshams and Ba, "Stable and interpretable unrolled dictionary learning",
2022, section 4).
"""

import numbers
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.errors import IncompatibleError
from calepin.core.samples import expand, inner, norm
from calepin.penalties import HardThreshold, Penalty
from calepin.problem import Problem

__all__ = ["FISTA", "IHT", "ISTA", "FISTAState", "ISTAState", "StepSize"]

StepSize = float | Tensor | Literal["backtracking"] | None
"""None for 1 / L, a positive number (gradients flow through a scalar tensor), or "backtracking"."""

GROWTH = 1.2
MAX_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class ISTAState:
    """Code, step size and penalty weight for the next iteration.

    The step size is a number, or a tensor (n, 1, ...) with backtracking.
    """

    z: Tensor
    step_size: float | Tensor
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class FISTAState:
    """Code, extrapolated point v, momentum t (n, 1, ...), step size and penalty weight."""

    z: Tensor
    v: Tensor
    t: Tensor
    step_size: float | Tensor
    weight: float = 1.0


class _ProximalGradient:
    """The step sizes of all methods here: requirements, initial value and largest valid value."""

    penalty: Penalty
    step_size: StepSize
    decay: float = 1.0

    def __post_init__(self) -> None:
        if not _is_positive_number(self.decay) or self.decay > 1:
            raise ValueError(f"decay: expected a number in (0, 1], got {self.decay!r}")
        if self.decay < 1 and isinstance(self.penalty, HardThreshold):
            raise IncompatibleError(
                f"{type(self).__name__} with decay needs a penalty.prox that depends on its step, which "
                "HardThreshold does not have"
            )
        s = self.step_size
        if not (s is None or (isinstance(s, str) and s == "backtracking") or _is_positive_number(s)):
            raise ValueError(
                f"step_size: expected None, 'backtracking' or a finite positive number, got {s!r}"
            )
        check_fields(self)

    @property
    def requires(self) -> Mapping[str, str]:
        """Required attributes of the terms: see `calepin.solvers.Solver`."""
        needs = {"operator.adjoint": "", "likelihood.score": "", "penalty.prox": ""}
        if self.step_size is None:
            advice = "give step_size='backtracking', or a number"
            needs |= {"likelihood.curvature": advice, "operator.norm_squared": advice}
        elif self.step_size == "backtracking":
            needs |= {"likelihood.nll": "", "operator.norm_squared": "give step_size a number"}
        return needs

    def check(self, problem: Problem) -> None:
        """Warn if a fixed step size is above 1 / L, and raise ValueError if it is at least 2 / L."""
        step_size = self.step_size
        if step_size is None or isinstance(step_size, str) or problem.likelihood.curvature is None:
            return
        longest = 2 / problem.lipschitz()
        if isinstance(step_size, Tensor):
            step_size = step_size.item()
        if step_size >= longest:
            raise ValueError(
                f"step_size: expected less than 2 / L = {longest:.4g}, beyond which codes grow "
                f"without bound, got {step_size:.4g}"
            )
        if step_size > longest / 2:
            warnings.warn(
                f"step_size = {step_size:.4g} is above 1 / L = {longest / 2:.4g}: "
                "descent is not guaranteed in every iteration",
                RuntimeWarning,
                stacklevel=2,
            )

    def first_step(self, problem: Problem, z0: Tensor) -> float | Tensor:
        """Return the step size of the first iteration: the given one, or 1 / L."""
        if self.step_size is not None and not isinstance(self.step_size, str):
            return self.step_size
        curvature = problem.likelihood.curvature
        # without a curvature the first guess may be wrong by orders of magnitude: backtracking corrects it
        lipschitz = (1.0 if curvature is None else curvature) * problem.operator.norm_squared()
        # an operator of zeros has a constant nll: any step size is valid
        step = 1 / lipschitz if lipschitz > 0 else 1.0
        if self.step_size is None:
            return step
        return expand(torch.full_like(z0.detach().flatten(1)[:, 0].real, step), like=z0)

    def _move(
        self, problem: Problem, v: Tensor, state: "ISTAState | FISTAState"
    ) -> tuple[Tensor, float | Tensor]:
        """Return ``prox(v - s gradient(v), s * weight)`` and the s that was used."""
        step, weight = state.step_size, state.weight
        if self.step_size == "backtracking":
            assert isinstance(step, Tensor)
            return _backtrack(problem, self.penalty, v, step, weight)
        return self.penalty.prox(v - step * problem.gradient(v), weight * step), step

    def _longer(self, step: float | Tensor, v: Tensor, z: Tensor) -> float | Tensor:
        """Return a slightly larger step size for the next search; a fixed step size is not changed."""
        if self.step_size != "backtracking":
            return step
        # a converged sample accepts any step size, which would grow to infinity
        return torch.where(expand(_at_rest(v, z), like=z), step, GROWTH * step)


class _Plain(_ProximalGradient):
    """The iteration without momentum."""

    def init(self, problem: Problem, z0: Tensor) -> ISTAState:
        """Return the state before the first iteration."""
        return ISTAState(z0, self.first_step(problem, z0))

    def step(self, problem: Problem, state: ISTAState) -> ISTAState:
        """Return the state one iteration later."""
        z, step = self._move(problem, state.z, state)
        return ISTAState(z, self._longer(step, state.z, z), self.decay * state.weight)


@dataclass(frozen=True)
class ISTA(_Plain):
    """Iterative soft thresholding: the proximal gradient method.

        z_{k+1} = prox( z_k - s * gradient(z_k), s )

    F decreases in every iteration for s <= 1 / L, and F(z_k) - F* <= ||z_0 - z*||^2 / (2 s k) for a convex
    penalty. Daubechies, Defrise and De Mol, "An iterative thresholding algorithm for linear inverse
    problems with a sparsity constraint", 2004; Beck and Teboulle, 2009, theorem 3.1.

    Parameters
    ----------
    penalty : Penalty
        Penalty, for example ``L1(0.1)``.
    step_size : float, "backtracking" or None, default None
        Step size; None means 1 / L.
    decay : float, default 1.0
        Factor beta in (0, 1] of the penalty per iteration; the first iteration has the full penalty.
    """

    penalty: Penalty
    step_size: StepSize = None
    decay: float = 1.0


@dataclass(frozen=True)
class FISTA(_ProximalGradient):
    """Accelerated proximal gradient method with adaptive restart.

        z_{k+1} = prox( v_k - s * gradient(v_k), s )
        t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2
        v_{k+1} = z_{k+1} + (t_k - 1) / t_{k+1} * (z_{k+1} - z_k)

    Without restart F(z_k) - F* <= 2 ||z_0 - z*||^2 / (s (k + 1)^2) for s <= 1 / L and a convex penalty
    (Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse
    problems", 2009, theorem 4.4). With restart, a sample drops its momentum (t = 1) whenever it
    points uphill, ``<v_k - z_{k+1}, z_{k+1} - z_k> > 0``, which makes the convergence linear where F is
    locally strongly convex (O'Donoghue and Candes, "Adaptive restart for accelerated gradient
    schemes", 2015, section 3.2).

    Parameters
    ----------
    penalty : Penalty
        Penalty; it must be convex for the bound above.
    step_size : float, "backtracking" or None, default None
        Step size; None means 1 / L.
    restart : bool, default True
        Whether momentum is dropped when it points uphill.
    decay : float, default 1.0
        Factor beta in (0, 1] of the penalty per iteration; the first iteration has the full penalty.
    """

    penalty: Penalty
    step_size: StepSize = None
    restart: bool = True
    decay: float = 1.0

    def init(self, problem: Problem, z0: Tensor) -> FISTAState:
        """Return the state before the first iteration, without momentum."""
        t = expand(torch.ones_like(z0.detach().flatten(1)[:, 0].real), like=z0)
        return FISTAState(z0, z0, t, self.first_step(problem, z0))

    def step(self, problem: Problem, state: FISTAState) -> FISTAState:
        """Return the state one iteration later."""
        z, step = self._move(problem, state.v, state)
        t = state.t
        if self.restart:
            uphill = expand(inner(state.v - z, z - state.z) > 0, like=z)
            t = torch.where(uphill, 1.0, t)
            if self.step_size == "backtracking":
                # with momentum, step sizes must not grow, except at a restart
                step = torch.where(uphill, self._longer(step, state.v, z), step)
        t_next = (1 + (1 + 4 * t**2).sqrt()) / 2
        v = z + (t - 1) / t_next * (z - state.z)
        return FISTAState(z, v, t_next, step, self.decay * state.weight)


@dataclass(frozen=True)
class IHT(_Plain):
    """Iterative hard thresholding, with a threshold or with a number of nonzeros.

        z_{k+1} = H( z_k - s * gradient(z_k) )

    With `threshold` b, H keeps entries of magnitude above b at any step size
    (`calepin.penalties.HardThreshold`), and ``nll(z) + b^2 / (2 s) ||z||_0`` decreases in every iteration for
    s <= 1 / L. With `n_nonzero`, H keeps the largest entries of each sample in magnitude, and `nll`
    decreases. Both find local minima. Blumensath and Davies, "Iterative thresholding for sparse
    approximations", 2008, eq. 2.2 and 3.1; as the coder in dictionary learning: Rambhatla, Li and Haupt,
    "NOODL", 2019.

    Parameters
    ----------
    threshold : float or Tensor, optional
        Threshold b.
    n_nonzero : int, optional
        Number of nonzeros of a code. Exactly one of `threshold` and `n_nonzero` must be given.
    step_size : float, "backtracking" or None, default None
        Step size; None means 1 / L.
    nonnegative : bool, default False
        Whether negative entries are set to zero too; only with `threshold`.
    """

    threshold: float | Tensor | None = None
    n_nonzero: int | None = None
    step_size: StepSize = None
    nonnegative: bool = False
    penalty: Penalty = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()
        if self.nonnegative and self.threshold is None:
            raise ValueError("nonnegative: expected False without a threshold, got True")
        if self.threshold is not None and self.n_nonzero is None:
            penalty: Penalty = HardThreshold(self.threshold, self.nonnegative)
        elif self.n_nonzero is not None and self.threshold is None:
            penalty = _Sparsest(self.n_nonzero)
        else:
            raise ValueError(
                "threshold: expected either threshold or n_nonzero, got "
                f"threshold={self.threshold!r} and n_nonzero={self.n_nonzero!r}"
            )
        object.__setattr__(self, "penalty", penalty)


@dataclass(frozen=True)
class _Sparsest:
    """Indicator of codes with at most `n_nonzero` nonzeros; its proximal map keeps the largest entries."""

    n_nonzero: int

    def __post_init__(self) -> None:
        if not isinstance(self.n_nonzero, numbers.Integral) or self.n_nonzero < 1:
            raise ValueError(f"n_nonzero: expected a positive integer, got {self.n_nonzero!r}")

    def value(self, z: Tensor) -> Tensor:
        too_many = (z != 0).flatten(1).sum(1) > self.n_nonzero
        return torch.zeros_like(z.flatten(1)[:, 0].real).masked_fill(too_many, float("inf"))

    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        flat = v.flatten(1)
        if self.n_nonzero > flat.shape[1]:
            raise ValueError(
                f"n_nonzero: expected at most the {flat.shape[1]} entries of a code, got {self.n_nonzero}"
            )
        largest = flat.abs().topk(self.n_nonzero, dim=1, sorted=False).indices
        kept = torch.zeros_like(flat, dtype=torch.bool).scatter(1, largest, True)
        return v.masked_fill(~kept.view(v.shape), 0)


def _is_positive_number(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and value.is_floating_point() and 0 < value.item() < float("inf")
    return isinstance(value, numbers.Real) and 0 < float(value) < float("inf")


@torch.no_grad()
def _at_rest(v: Tensor, z: Tensor) -> Tensor:
    """Return which samples changed by no more than rounding errors, (n,)."""
    return norm(z - v) <= 100 * torch.finfo(z.dtype).eps * norm(z)


def _backtrack(
    problem: Problem, penalty: Penalty, v: Tensor, step: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Halve the step size of each sample until its quadratic bound holds (Beck and Teboulle, 2009, sec. 3).

        nll(z) <= nll(v) + <gradient(v), z - v> + ||z - v||^2 / (2 s)

    The bound implies F(z) <= F(v) for any curvature. The search is not differentiated.
    """
    eta = problem.eta(v)
    score = problem.likelihood.score(eta, problem.y)
    gradient = -problem.operator.adjoint(score)
    z = v
    for _ in range(MAX_HALVINGS):
        z = penalty.prox(v - step * gradient, weight * step)
        with torch.no_grad():
            move = inner(z - v, z - v)
            holds = _bregman(problem, eta, score, problem.eta(z)) <= move / (2 * step.flatten())
            holds |= _at_rest(v, z)
        if holds.all():
            break
        step = torch.where(expand(holds, like=z), step, step / 2)
    return z, step


def _bregman(problem: Problem, eta: Tensor, score: Tensor, eta_new: Tensor) -> Tensor:
    """Return ``nll(new) - nll(old) - <gradient(old), new - old>`` of each sample, at least zero.

    The difference of two likelihoods is lost in rounding errors when the iterates hardly change. It is then
    replaced by its second-order value, half the product of the changes of predictor and score.
    """
    nll, nll_new = (problem.likelihood.nll(e, problem.y) for e in (eta, eta_new))
    change = eta_new - eta
    exact = nll_new - nll + inner(score, change)
    second_order = 0.5 * inner(score - problem.likelihood.score(eta_new, problem.y), change)
    noise = 100 * torch.finfo(nll.dtype).eps * (nll.abs() + nll_new.abs())
    return torch.where(exact.abs() <= noise, second_order, exact)
