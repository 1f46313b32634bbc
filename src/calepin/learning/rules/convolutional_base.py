"""What the rules of convolutional dictionary learning share: codes of signals, use of filters, baselines.

y ~ family( f^{-1}(eta) ),   eta = sum_m z_m * h_m + offset,   ||h_m|| = 1

minimise over filters h and codes z   mean over samples of nll(eta, y) + penalty(z)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_fields
from calepin.core.checks import check_integer
from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batch
from calepin.learning.filter_set import FilterSet
from calepin.learning.filters import SPHERE, centre_, observed_of, residual_of, unit, worst_window
from calepin.learning.rule import BaseRule, require_finite, warn_if_vanished
from calepin.learning.rules.idle import IdleReplacement
from calepin.learning.signals import Signals
from calepin.likelihoods import Gaussian
from calepin.operators.conv import ConvDictionary
from calepin.problem import Problem
from calepin.solvers.coders.coder import Coder, Codes, GradientRule, objective
from calepin.solvers.coders.convolutional_lasso import ConvolutionalLassoCoder
from calepin.solvers.coders.convolutional_pursuit import refit_problem
from calepin.solvers.support import peaks, refit

__all__ = ["IDLE", "Coded", "ConvolutionalRule", "code_signals", "fit_baseline"]

IDLE = IdleReplacement(pool=16, rare=0.02, coherence=0.98)
BALL = AtomSet("ball")
_ROUNDS = 4  # alternations between codes and baselines
_NEWTON_STEPS = 30
_LONGEST_STEP = 2.0

Coded = Sequence[tuple[Problem, Tensor]]
"""The coding problem and the codes of each group of signals of one size."""


@dataclass(frozen=True)
class ConvolutionalRule(BaseRule):
    """Base class of rules that compute codes of signals, then move unit-norm filters.

    Parameters
    ----------
    coder : Coder
        Computes the codes of a batch.
    stride : int, default 1
        Distance between neighbouring positions of a filter, in samples.
    debias : int, optional
        Radius of the peaks, in positions. If given, the filters are updated with codes that are re-fitted
        without the penalty on the peaks of the codes: entries that are the largest within this radius along
        every axis.
    n_peaks : int, optional
        Maximal number of peaks of a sample for `debias`; the highest peaks are kept. Default: no bound.
    baseline : bool, default False
        Whether a baseline of each channel of each sample is estimated together with the codes. It replaces
        the given offset.
    centre : bool, default False
        Whether filters are centred in their kernel at the end of a pass. The objective does not determine
        the position of a filter, and a filter at the edge of its kernel is truncated.
    replace : bool, default True
        Whether filters that are rarely used, or nearly equal to another one, are replaced at the end of a
        pass by windows with large residuals.
    stream : bool, default False
        Whether a pass is a part of a stream, such as a call of `partial_fit`, and not a pass over all data.
        Use is then counted over several passes if these have few events.
    filters : FilterSet, optional
        What filters are like. Default: any.
    """

    coder: Coder
    stride: int = 1
    debias: int | None = None
    n_peaks: int | None = None
    baseline: bool = False
    centre: bool = False
    replace: bool = True
    stream: bool = False
    filters: FilterSet | None = None

    def __post_init__(self) -> None:
        check_integer("debias", self.debias, least=0, optional=True)
        check_integer("n_peaks", self.n_peaks, optional=True)
        check_fields(self)

    @property
    def atom_set(self) -> AtomSet:
        """The set of flattened filters: the sphere."""
        return SPHERE

    @property
    def code_gradient(self) -> GradientRule:
        """The gradient for which codes are computed: constants, or with the graph of their computation."""
        return "dec"

    def step(self, state: Any, batch: Batch) -> np.ndarray:
        """Update the filters in place; return the objective (nll + penalty) of each sample before the update.

        Raises
        ------
        DivergedError
            If the filters, the gradient or the moments contain NaN or infinity.
        """
        require_finite("filters", state.atoms)
        through = self.code_gradient != "dec"
        leaf = state.atoms.detach().clone().requires_grad_(through)
        with torch.set_grad_enabled(through):
            coded = [code_signals(self, group, leaf) for group in batch.X]
        values = np.concatenate(
            [objective(problem, Codes(z, problem.offset), self.coder.penalty) for problem, z in coded]
        )
        self._note(state, coded)
        self.move(state, [(problem, self.debiased(problem, codes)) for problem, codes in coded])
        return values

    def move(self, state: Any, coded: Coded) -> None:
        """Move the filters, in place, given the problems and the codes of a batch."""
        raise NotImplementedError

    def forget(self, state: Any, j: int) -> None:
        """Forget the past of a filter, which was replaced or shifted."""
        raise NotImplementedError

    def debiased(self, problem: Problem, codes: Tensor) -> Tensor:
        """Return codes that are re-fitted on their peaks, or unchanged codes if `debias` is None."""
        if self.debias is None:
            return codes
        support = peaks(codes, self.debias, self.n_peaks)
        if isinstance(self.coder, ConvolutionalLassoCoder):
            return refit_problem(problem, codes * support, nonnegative=self.coder.nonnegative)
        return refit(problem, codes, support, nonnegative=self.coder.nonnegative)

    def admissible(self, atoms: Tensor) -> Tensor:
        """Return filters of the set `filters`, of its norm; unchanged ones if there is no such set."""
        return atoms if self.filters is None else self.scaled(self.filters.project(atoms))

    @property
    def in_ball(self) -> bool:
        """Whether filters have at most unit norm, not exactly."""
        return self.filters is not None and self.filters.norm == "ball"

    def scaled(self, atoms: Tensor) -> Tensor:
        """Return filters of unit norm, or the nearest of at most unit norm if `filters` asks for these."""
        return BALL.project(atoms.flatten(1)).view_as(atoms) if self.in_ball else unit(atoms)

    def end_pass(self, state: Any) -> dict[str, float]:
        """Centre the filters if `centre` is True, and replace idle ones if `replace` is True."""
        require_finite("filters", state.atoms)
        if self.centre:
            for j in centre_(state.atoms):
                self.forget(state, j)
        if self.replace and state.idle.usage.any():
            for j in IDLE.end_pass(state.idle, state.atoms, unit, stream=self.stream):
                self.forget(state, j)
        state.atoms.copy_(self.admissible(state.atoms))  # new and shifted ones
        if not self.stream:
            state.idle.usage[:] = 0
            state.idle.pool_error[:] = -1.0
        n_replaced, state.idle.n_replaced = state.idle.n_replaced, 0
        return {"n_replaced": n_replaced}

    @torch.no_grad()
    def _note(self, state: Any, coded: Coded) -> None:
        """Update the usage of the filters, and keep the window of the batch with the largest residual."""
        used = sum((codes != 0).transpose(0, 1).flatten(1).sum(1).cpu().numpy() for _, codes in coded)
        warn_if_vanished(bool(np.any(used)))
        state.idle.usage += used
        if not self.replace:
            return
        kernel = state.atoms.shape[2:]
        windows = [worst_window(residual_of(problem, codes), kernel) for problem, codes in coded]
        IDLE.keep(state.idle, *max(windows, key=lambda found: found[1]))


def coding_problem(rule: ConvolutionalRule, signals: Signals, atoms: Tensor) -> Problem:
    """Return the problem of coding signals by filters."""
    return signals.problem(ConvDictionary(atoms, signal_shape=tuple(signals.y.shape[2:]), stride=rule.stride))


def code_signals(rule: ConvolutionalRule, signals: Signals, atoms: Tensor) -> tuple[Problem, Tensor]:
    """Return the coding problem of signals, with estimated baselines if `rule.baseline`, and the codes."""
    problem = coding_problem(rule, signals, atoms)
    if not rule.baseline:
        return problem, rule.coder.encode(problem, gradient=rule.code_gradient).dense()
    problem, codes = replace(problem, offset=fit_baseline(problem)), None
    coder = rule.coder.shortened(_ROUNDS)
    for _ in range(_ROUNDS - 1):
        codes = coder.encode(problem, z0=codes).dense()
        problem = replace(problem, offset=fit_baseline(problem, codes))
    return problem, coder.encode(problem, gradient=rule.code_gradient, z0=codes).dense()


@torch.no_grad()
def fit_baseline(problem: Problem, codes: Tensor | None = None) -> Tensor:
    """Return the maximum-likelihood baseline of each channel of each sample, given codes (zero by default).

    The baselines b, (n, channels, 1, ...), solve ``sum mean(b + D z) = sum y`` by Newton's method with
    bounded steps.
    """
    predictor = torch.zeros_like(problem.y) if codes is None else problem.operator(codes)
    seen = observed_of(problem)
    axes = tuple(range(2, problem.y.ndim))
    b = problem.y.new_zeros(*problem.y.shape[:2], *[1] * len(axes))
    likelihood = problem.likelihood
    for _ in range(1 if isinstance(likelihood, Gaussian) else _NEWTON_STEPS):
        eta = predictor + b
        # links are canonical, so the derivative of the mean is the variance
        variance = _derivative(likelihood.mean, eta)
        score = likelihood.score(eta, problem.y)
        if seen is not None:
            variance, score = variance * seen, score * seen
        slope = score.sum(axes, keepdim=True)
        step = slope / variance.sum(axes, keepdim=True).clamp_min(torch.finfo(b.dtype).tiny)
        b = b + (step if isinstance(likelihood, Gaussian) else step.clamp(-_LONGEST_STEP, _LONGEST_STEP))
    return b


def _derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the derivative of an elementwise function at x."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(function(leaf).sum(), leaf)[0]
