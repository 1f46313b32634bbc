"""How signals are coded while a convolutional dictionary is learned: from a problem to its codes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from calepin.core.errors import IncompatibleError
from calepin.learning.gradients import Differentiate, GradientRule, UnfoldedSolver, unfolded_codes
from calepin.likelihoods import Gaussian, Likelihood
from calepin.operators.conv import ConvDictionary
from calepin.penalties import L1, NonNegativeL1, Penalty
from calepin.problem import Problem
from calepin.solvers.coders.convolutional_lasso import ConvolutionalLassoCoder
from calepin.solvers.coders.convolutional_pursuit import ConvolutionalPursuitCoder
from calepin.solvers.proximal import FISTA, ISTA
from calepin.solvers.solve import solve

__all__ = [
    "ConvolutionalCoder",
    "ExactCoder",
    "ProximalCoder",
    "PursuitCoder",
    "fit_baseline",
    "peaks",
    "refit",
]

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_NEWTON_STEPS = 30
_LONGEST_STEP = 2.0


class ConvolutionalCoder(Protocol):
    """Finds the codes of a problem whose operator is a `ConvDictionary`; a frozen dataclass."""

    @property
    def penalty(self) -> Penalty | None:
        """What codes cost, None where their number is what is limited."""
        ...

    @property
    def positive(self) -> bool:
        """Whether codes are nonnegative."""
        ...

    def codes(self, problem: Problem, *, rule: GradientRule = "dec", z0: Tensor | None = None) -> Tensor:
        """Return codes (n, n_atoms, *positions), differentiable where the rule asks for it.

        The search may begin at z0.
        """
        ...

    def shortened(self, share: int) -> Self:
        """Return a coder with `share` times fewer iterations, for the first of several rounds."""
        ...


@dataclass(frozen=True)
class ProximalCoder:
    """Unfolded proximal gradient descent on ``nll + penalty``, for every family and stride.

    Parameters
    ----------
    penalty : Penalty
    n_iter : int
        Iterations: the layers T.
    step_size : float, "backtracking" or None
        None takes 1 / L where the family has a bound of its curvature, backtracking for Poisson counts.
    solver : {"fista", "ista"}
    positive : bool
        Whether the penalty keeps codes nonnegative; only a re-fit has to know.
    differentiate : {"unroll", "last-k"}
        How the encoder is differentiated by the gradient rules that do.
    last_k, checkpoint_every : int, optional
        See `calepin.solve`.
    """

    penalty: Penalty
    n_iter: int = 100
    step_size: float | Literal["backtracking"] | None = None
    solver: UnfoldedSolver = "fista"
    positive: bool = False
    differentiate: Differentiate = "unroll"
    last_k: int | None = None
    checkpoint_every: int | None = None

    def codes(self, problem: Problem, *, rule: GradientRule = "dec", z0: Tensor | None = None) -> Tensor:
        """Return codes, differentiable unless the rule is "dec"."""
        return unfolded_codes(
            problem,
            self._solver(problem.likelihood, rule),
            n_iter=self.n_iter,
            z0=z0,
            rule=rule,
            differentiate=self.differentiate,
            last_k=self.last_k,
            checkpoint_every=self.checkpoint_every,
        )

    def shortened(self, share: int) -> Self:
        """Return a coder with fewer iterations."""
        return replace(self, n_iter=-(-self.n_iter // share))

    def _solver(self, likelihood: Likelihood, rule: GradientRule) -> Any:
        step = self.step_size
        if step is None and likelihood.curvature is None:
            step = "backtracking"
        if self.solver == "ista":
            return ISTA(self.penalty, step)
        # restarts are decisions, which have no gradient
        return FISTA(self.penalty, step, restart=rule == "dec")


def peaks(codes: Tensor, radius: int, n_peaks: int | None = None) -> Tensor:
    """Return where codes (n, n_atoms, *positions) peak: nonzero, and largest within `radius` positions.

    With `n_peaks` only that many, the highest of each sample. A code of l1-penalised descent clusters
    around an event, since a filter resembles its neighbours; the largest entry of the cluster is the
    event (Tolooshams et al., 2020, appendix 9).
    """
    size = codes.abs()
    d = size.ndim - 2
    largest = _MAX_POOL[d](size, 2 * radius + 1, stride=1, padding=radius)
    found = (size > 0) & (size == largest)
    if n_peaks is None or n_peaks >= size[0].numel():
        return found
    heights = (size * found).flatten(1)
    highest = torch.zeros_like(found.flatten(1)).scatter(1, heights.topk(n_peaks, dim=1).indices, True)
    return found & highest.view_as(found)


@torch.no_grad()
def refit(problem: Problem, codes: Tensor, support: Tensor, *, positive: bool, n_iter: int = 60) -> Tensor:
    """Return the codes on a support that maximise the likelihood, found from `codes`: no penalty, no bias."""
    step = "backtracking" if problem.likelihood.curvature is None else None
    solver = FISTA(_Restricted(support, positive), step)
    return solve(problem, solver, n_iter=n_iter, z0=codes * support, tol=1e-5).z


@dataclass(frozen=True, eq=False)
class _Restricted:
    """The indicator of codes on a support, nonnegative ones if `positive`."""

    support: Tensor
    positive: bool

    def value(self, z: Tensor) -> Tensor:
        outside = (z != 0) & ~self.support | (z < 0) & self.positive
        return torch.zeros_like(z.flatten(1)[:, 0]).masked_fill(outside.flatten(1).any(1), float("inf"))

    def prox(self, v: Tensor, step_size: float | Tensor) -> Tensor:
        return (v.relu() if self.positive else v) * self.support


@torch.no_grad()
def fit_baseline(problem: Problem, codes: Tensor | None = None) -> Tensor:
    """Return the most likely baseline of each channel of each sample, given codes (zero by default).

    One number b for each, (n, channels, 1, ...): by Newton's method on ``sum mean(b + D z) = sum y``, with
    steps that cannot overshoot far.
    """
    predictor = torch.zeros_like(problem.y) if codes is None else problem.operator(codes)
    axes = tuple(range(2, problem.y.ndim))
    b = problem.y.new_zeros(*problem.y.shape[:2], *[1] * len(axes))
    likelihood = problem.likelihood
    for _ in range(1 if isinstance(likelihood, Gaussian) else _NEWTON_STEPS):
        eta = predictor + b
        # the derivative of the mean is the variance: links are canonical
        variance = _derivative(likelihood.mean, eta)
        slope = likelihood.score(eta, problem.y).sum(axes, keepdim=True)
        step = slope / variance.sum(axes, keepdim=True).clamp_min(torch.finfo(b.dtype).tiny)
        b = b + (step if isinstance(likelihood, Gaussian) else step.clamp(-_LONGEST_STEP, _LONGEST_STEP))
    return b


def _derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the derivative of a function of each entry."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(function(leaf).sum(), leaf)[0]


@dataclass(frozen=True)
class ExactCoder:
    """The lasso to a certified duality gap, Gaussian, stride 1.

    Parameters
    ----------
    alpha : float
    positive : bool
    tol : float
        Duality gap relative to ||y||^2.
    """

    alpha: float
    positive: bool = False
    tol: float = 1e-4

    @property
    def penalty(self) -> Penalty:
        """What codes cost."""
        return NonNegativeL1(self.alpha) if self.positive else L1(self.alpha)

    def codes(self, problem: Problem, *, rule: GradientRule = "dec", z0: Tensor | None = None) -> Tensor:
        """Return exact codes; "dec" alone, and no start is of use."""
        atoms = _atoms_for("exact", problem, rule)
        if not isinstance(problem.likelihood, Gaussian):
            raise IncompatibleError(
                "coder 'exact' needs a Gaussian likelihood, which "
                f"{type(problem.likelihood).__name__} is not: use 'fista' or 'bcomp'"
            )
        coder = ConvolutionalLassoCoder(self.alpha, self.tol, self.positive)
        return coder.encode(problem.y - problem.offset, atoms)

    def shortened(self, share: int) -> Self:
        """Return the coder itself, which ends when its gap is small."""
        return self


@dataclass(frozen=True)
class PursuitCoder:
    """A number of events for each signal, found one by one: `calepin.solvers.coders.convolutional_pursuit`.

    BCOMP of Tolooshams et al. (2020, appendix, algorithm 2), for every family; stride 1.

    Parameters
    ----------
    n_nonzero : int
    positive : bool
    """

    n_nonzero: int
    positive: bool = True

    @property
    def penalty(self) -> None:
        """Return None: codes cost nothing, their number is limited."""
        return None

    def codes(self, problem: Problem, *, rule: GradientRule = "dec", z0: Tensor | None = None) -> Tensor:
        """Return codes, found from zero; "dec" alone."""
        atoms = _atoms_for("bcomp", problem, rule)
        coder = ConvolutionalPursuitCoder(self.n_nonzero, positive=self.positive)
        found = coder.encode(problem.y, atoms, likelihood=problem.likelihood, offset=problem.offset)
        return torch.as_tensor(found).to(problem.y)

    def shortened(self, share: int) -> Self:
        """Return the coder itself: fewer events would be another code."""
        return self


def _atoms_for(name: str, problem: Problem, rule: GradientRule) -> Tensor:
    """Return a problem's filters for a compiled coder, or say why it has no use for the problem."""
    if rule != "dec":
        raise IncompatibleError(f"coder {name!r} needs rule 'dec': it has no gradient for {rule!r}")
    dictionary = problem.operator
    if not isinstance(dictionary, ConvDictionary) or dictionary.stride != 1:
        raise IncompatibleError(f"coder {name!r} needs a ConvDictionary of stride 1: use 'fista' or 'ista'")
    return dictionary.atoms.detach()
