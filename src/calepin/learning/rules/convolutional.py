"""Learning a convolutional dictionary from signals, images or counts: a rule of the one training loop.

    y ~ family( f^{-1}(eta) ),   eta = sum_m z_m * h_m + offset,   ||h_m|| = 1

    minimise over filters h and codes z   mean over samples of nll(eta, y) + penalty(z)

A step codes a batch, then moves the filters along the gradient of the likelihood. Codes are constants of
that gradient ("dec": alternating minimisation) or the result of an unfolded encoder, through which it runs
("ae-lasso", "ae-ls"), by the same path as `calepin.learning.dictionary_gradient`. Tolooshams, Song,
Temereanca and Ba, "Convolutional dictionary learning based auto-encoders for natural exponential-family
distributions", 2020 (DCEA).

The gradient is projected on the tangent space of each filter's sphere: along the filter itself the
likelihood only asks for larger amplitudes, which the codes can supply and the sphere takes back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from calepin.core.checks import check_integer, check_one_of
from calepin.learning.atoms import AtomSet
from calepin.learning.batches import Batch
from calepin.learning.filters import SPHERE, centre_, unit, worst_window
from calepin.learning.gradients import decoder_loss
from calepin.learning.optimizers import Optimizer, along_sphere, move
from calepin.learning.rule import AtomState, BaseRule, require_finite, tensor_of, warn_if_vanished
from calepin.learning.rules.idle import Idle, IdleReplacement
from calepin.learning.signals import Signals
from calepin.likelihoods import Gaussian
from calepin.operators.conv import ConvDictionary
from calepin.problem import Problem
from calepin.solvers.coders.coder import Coder, Codes, GradientRule, objective
from calepin.solvers.support import peaks, refit

__all__ = ["Convolutional", "ConvolutionalState", "code_signals", "fit_baseline"]

IDLE = IdleReplacement(pool=16, rare=0.02, coherence=0.98)
_ROUNDS = 4  # of codes and baselines in turn
_NEWTON_STEPS = 30
_LONGEST_STEP = 2.0


@dataclass
class ConvolutionalState(AtomState):
    """Filters (n_components, channels, *kernel), use of them, and what the optimiser remembers."""

    idle: Idle
    memory: dict[str, Tensor]


@dataclass(frozen=True)
class Convolutional(BaseRule):
    """Filters move along the tangent of their sphere, by any optimiser; see the module.

    Parameters
    ----------
    coder : Coder
        Finds the codes of a batch.
    stride : int
        Distance of neighbouring positions of a filter.
    gradient : {"dec", "ae-lasso", "ae-ls"}
        What is differentiated; the two last need a coder whose iterations can be.
    debias : int, optional
        Move the filters by codes that are re-fitted, without the penalty, on the peaks of the coder's:
        entries that are largest within that many positions along every axis. With "dec" only.
    n_peaks : int, optional
        Most peaks of a sample that `debias` keeps, the highest.
    baseline : bool
        Fit a baseline to each channel of each sample, beside its code, instead of the given offset.
    n_updates : int
        Moves of the filters for the same codes; many of them, with all samples as one batch, make the
        full alternation of algorithm 2 in the paper's appendix. With "dec" only.
    optimizer : callable
        Makes a torch optimiser of a list of parameters. The loss is divided by the number of observed
        entries and by the curvature of the likelihood, where it has a bound: one scale for all data.
    tangent : bool
        Whether the gradient is projected on the sphere's tangent space.
    centre : bool
        Whether a filter whose energy lies to one side of its kernel is moved to the middle at the end of a
        pass: only the codes know its place, and the kernel's edge cuts off what it could still learn.
    replace : bool
        Whether filters that hardly any event uses, or that equal another one, give way, at the end of a
        pass, to windows of what is badly explained.
    """

    name: ClassVar[str] = "convolutional"
    state: ClassVar[type[AtomState]] = ConvolutionalState

    coder: Coder
    stride: int = 1
    gradient: GradientRule = "dec"
    debias: int | None = None
    n_peaks: int | None = None
    baseline: bool = False
    n_updates: int = 1
    optimizer: Optimizer = field(default=partial(torch.optim.Adam, lr=0.02, eps=1e-3))
    tangent: bool = True
    centre: bool = False
    replace: bool = True

    def __post_init__(self) -> None:
        check_one_of("gradient", self.gradient, get_args(GradientRule))
        check_integer("debias", self.debias, least=0, optional=True)
        check_integer("n_peaks", self.n_peaks, optional=True)
        check_integer("n_updates", self.n_updates)
        if self.gradient != "dec" and (self.debias is not None or self.n_updates > 1):
            raise ValueError(
                f"gradient: expected 'dec' with debias or n_updates, whose codes are constants, "
                f"got {self.gradient!r}"
            )

    @property
    def atom_set(self) -> AtomSet:
        """The set of flattened filters: the sphere."""
        return SPHERE

    def init(self, atoms: Any) -> ConvolutionalState:
        """Return the state of a run that begins with these filters."""
        filters = tensor_of(atoms)
        return ConvolutionalState(filters, IDLE.init(filters), {})

    def step(self, state: ConvolutionalState, batch: Batch) -> np.ndarray:
        """Move the filters in place and return each sample's objective, nll + penalty, before the move.

        Raises
        ------
        DivergedError
            Filters or a gradient with NaN or infinity.
        """
        atoms = state.atoms
        require_finite("filters", atoms)
        leaf = atoms.detach().clone().requires_grad_()
        with torch.enable_grad():
            coded = [code_signals(self, group, leaf) for group in batch.X]
        values = np.concatenate(
            [objective(problem, Codes(z, problem.offset), self.coder.penalty) for problem, z in coded]
        )
        self._note(state, coded)
        coded = [(problem, self.debiased(problem, codes)) for problem, codes in coded]
        for update in range(self.n_updates):
            if update:
                leaf = atoms.detach().clone().requires_grad_()
                coded = [(_with_atoms(problem, leaf), codes) for problem, codes in coded]
            self._move(state, leaf, coded)
        return values

    def debiased(self, problem: Problem, codes: Tensor) -> Tensor:
        """Return codes re-fitted on their peaks, or as they are without `debias`."""
        if self.debias is None:
            return codes
        support = peaks(codes, self.debias, self.n_peaks)
        return refit(problem, codes, support, nonnegative=self.coder.nonnegative)

    def end_pass(self, state: ConvolutionalState) -> dict[str, float]:
        """Move filters to the middle of their kernels and replace idle ones, where that is wanted."""
        if self.centre:
            for j in centre_(state.atoms):
                _forget(state, j)
        if self.replace and state.idle.usage.any():
            for j in IDLE.replace(state.idle, state.atoms, unit):
                _forget(state, j)
        state.idle.usage[:] = 0
        state.idle.pool_error[:] = -1.0
        n_replaced, state.idle.n_replaced = state.idle.n_replaced, 0
        return {"n_replaced": n_replaced}

    def _move(self, state: ConvolutionalState, leaf: Tensor, coded: Sequence[tuple[Problem, Tensor]]) -> None:
        """Take a step of the optimiser, in place; `leaf` is the copy of the filters behind the problems."""
        atoms = state.atoms
        n_entries = sum(problem.y.numel() for problem, _ in coded)
        with torch.enable_grad():
            losses = [
                decoder_loss(problem, codes, gradient=self.gradient, penalty=self.coder.penalty).sum()
                / (problem.likelihood.curvature or 1.0)
                for problem, codes in coded
            ]
            (gradient,) = torch.autograd.grad(torch.stack(losses).sum() / n_entries, leaf)
        require_finite("gradient", gradient)
        if self.tangent:
            gradient = along_sphere(gradient, atoms)
        move(state.memory, atoms, gradient, self.optimizer)
        with torch.no_grad():
            atoms.copy_(unit(atoms))

    @torch.no_grad()
    def _note(self, state: ConvolutionalState, coded: Sequence[tuple[Problem, Tensor]]) -> None:
        """Count the use of filters, and keep the window of the batch that is explained worst."""
        used = sum((codes != 0).transpose(0, 1).flatten(1).sum(1).cpu().numpy() for _, codes in coded)
        warn_if_vanished(bool(np.any(used)))
        state.idle.usage += used
        if not self.replace:
            return
        kernel = state.atoms.shape[2:]
        windows = [worst_window(problem, codes, kernel) for problem, codes in coded]
        IDLE.keep(state.idle, *max(windows, key=lambda found: found[1]))


def code_signals(rule: Convolutional, signals: Signals, atoms: Tensor) -> tuple[Problem, Tensor]:
    """Return the problem of some signals, with their baselines if those are fitted, and their codes."""
    operator = ConvDictionary(atoms, signal_shape=tuple(signals.y.shape[2:]), stride=rule.stride)
    problem = signals.problem(operator)
    if not rule.baseline:
        return problem, rule.coder.encode(problem, gradient=rule.gradient).dense()
    problem, codes = replace(problem, offset=fit_baseline(problem)), None
    coder = rule.coder.shortened(_ROUNDS)
    for _ in range(_ROUNDS - 1):
        codes = coder.encode(problem, z0=codes).dense()
        problem = replace(problem, offset=fit_baseline(problem, codes))
    return problem, coder.encode(problem, gradient=rule.gradient, z0=codes).dense()


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


def _forget(state: ConvolutionalState, j: int) -> None:
    """Clear what the optimiser remembers of a filter."""
    for value in state.memory.values():
        if value.shape == state.atoms.shape:
            value[j] = 0


def _with_atoms(problem: Problem, atoms: Tensor) -> Problem:
    before = problem.operator
    assert isinstance(before, ConvDictionary)
    operator = ConvDictionary(atoms, signal_shape=before.out_shape[1:], stride=before.stride)
    return replace(problem, operator=operator)
