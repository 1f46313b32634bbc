"""The rule of convolutional dictionary learning from signals, images or counts.

    y ~ family( f^{-1}(eta) ),   eta = sum_m z_m * h_m + offset,   ||h_m|| = 1

    minimise over filters h and codes z   mean over samples of nll(eta, y) + penalty(z)

A step computes the codes of a batch, then updates the filters with the gradient of the loss. With "dec" the
codes are constants (alternating minimisation). With "ae-lasso" and "ae-ls" the gradient also passes through
the unfolded encoder, as in `calepin.learning.dictionary_gradient`. Source: Tolooshams, Song, Temereanca and
Ba, "Convolutional dictionary learning based auto-encoders for natural exponential-family distributions",
2020 (DCEA).

The gradient is projected onto the tangent space of the sphere of each filter. Its component along the filter
would only change the amplitude, which the codes determine and the normalisation removes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_fields
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
_ROUNDS = 4  # alternations between codes and baselines
_NEWTON_STEPS = 30
_LONGEST_STEP = 2.0


@dataclass
class ConvolutionalState(AtomState):
    """State of convolutional dictionary learning.

    Attributes
    ----------
    atoms : Tensor, shape (n_components, channels, *kernel)
        The filters.
    idle : Idle
        Usage of the filters, and poorly represented windows.
    memory : dict of tensors
        Memory of the optimiser.
    """

    idle: Idle
    memory: dict[str, Tensor]


@dataclass(frozen=True)
class Convolutional(BaseRule):
    """Updates unit-norm filters with any torch optimiser, tangentially to the sphere.

    Parameters
    ----------
    coder : Coder
        Computes the codes of a batch.
    stride : int, default 1
        Distance between neighbouring positions of a filter, in samples.
    gradient : {"dec", "ae-lasso", "ae-ls"}, default "dec"
        The gradient with respect to the filters, see `calepin.learning.dictionary_gradient`. "ae-lasso" and
        "ae-ls" need a coder whose iterations are differentiable.
    debias : int, optional
        Radius of the peaks, in positions. If given, the filters are updated with codes that are re-fitted
        without the penalty on the peaks of the codes: entries that are the largest within this radius along
        every axis. With "dec" only.
    n_peaks : int, optional
        Maximal number of peaks of a sample for `debias`; the highest peaks are kept. Default: no bound.
    baseline : bool, default False
        Whether a baseline of each channel of each sample is estimated together with the codes. It replaces
        the given offset.
    n_updates : int, default 1
        Number of updates of the filters with the same codes. Many updates, with all samples as one batch,
        give the full alternation of algorithm 2 in the paper's appendix. With "dec" only.
    optimizer : callable, optional
        A function from a list of parameters to a torch optimiser; Adam by default. The loss is divided by
        the number of observed entries and by the bound on the curvature of the likelihood, if there is one.
        The same learning rate therefore suits all data.
    tangent : bool, default True
        Whether the gradient is projected onto the tangent space of the sphere.
    centre : bool, default False
        Whether filters are centred in their kernel at the end of a pass. The objective does not determine
        the position of a filter, and a filter at the edge of its kernel is truncated.
    replace : bool, default True
        Whether filters that are rarely used, or nearly equal to another one, are replaced at the end of a
        pass by windows with large residuals.
    stream : bool, default False
        Whether a pass is a part of a stream, such as a call of `partial_fit`, and not a pass over all data.
        Use is then counted over several passes if these have few events.
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
    stream: bool = False

    def __post_init__(self) -> None:
        check_one_of("gradient", self.gradient, get_args(GradientRule))
        check_integer("debias", self.debias, least=0, optional=True)
        check_integer("n_peaks", self.n_peaks, optional=True)
        check_integer("n_updates", self.n_updates)
        check_fields(self)
        if self.gradient != "dec" and (self.debias is not None or self.n_updates > 1):
            raise ValueError(
                f"gradient: expected 'dec' with debias or n_updates, which hold the codes constant, "
                f"got {self.gradient!r}"
            )

    @property
    def atom_set(self) -> AtomSet:
        """The set of flattened filters: the sphere."""
        return SPHERE

    def init(self, atoms: Any) -> ConvolutionalState:
        """Return the initial state with these filters."""
        filters = tensor_of(atoms)
        return ConvolutionalState(filters, IDLE.init(filters), {})

    def step(self, state: ConvolutionalState, batch: Batch) -> np.ndarray:
        """Update the filters in place; return the objective (nll + penalty) of each sample before the update.

        Raises
        ------
        DivergedError
            If the filters or the gradient contain NaN or infinity.
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
        """Return codes that are re-fitted on their peaks, or unchanged codes if `debias` is None."""
        if self.debias is None:
            return codes
        support = peaks(codes, self.debias, self.n_peaks)
        return refit(problem, codes, support, nonnegative=self.coder.nonnegative)

    def end_pass(self, state: ConvolutionalState) -> dict[str, float]:
        """Centre the filters if `centre` is True, and replace idle ones if `replace` is True."""
        require_finite("filters", state.atoms)
        if self.centre:
            for j in centre_(state.atoms):
                _forget(state, j)
        if self.replace and state.idle.usage.any():
            for j in IDLE.end_pass(state.idle, state.atoms, unit, stream=self.stream):
                _forget(state, j)
        if not self.stream:
            state.idle.usage[:] = 0
            state.idle.pool_error[:] = -1.0
        n_replaced, state.idle.n_replaced = state.idle.n_replaced, 0
        return {"n_replaced": n_replaced}

    def _move(self, state: ConvolutionalState, leaf: Tensor, coded: Sequence[tuple[Problem, Tensor]]) -> None:
        """Take a step of the optimiser, in place; `leaf` is the copy of the filters in the problems."""
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
        """Update the usage of the filters, and keep the window of the batch with the largest residual."""
        used = sum((codes != 0).transpose(0, 1).flatten(1).sum(1).cpu().numpy() for _, codes in coded)
        warn_if_vanished(bool(np.any(used)))
        state.idle.usage += used
        if not self.replace:
            return
        kernel = state.atoms.shape[2:]
        windows = [worst_window(problem, codes, kernel) for problem, codes in coded]
        IDLE.keep(state.idle, *max(windows, key=lambda found: found[1]))


def code_signals(rule: Convolutional, signals: Signals, atoms: Tensor) -> tuple[Problem, Tensor]:
    """Return the coding problem of signals, with estimated baselines if `rule.baseline`, and the codes."""
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
    """Return the maximum-likelihood baseline of each channel of each sample, given codes (zero by default).

    The baselines b, (n, channels, 1, ...), solve ``sum mean(b + D z) = sum y`` by Newton's method with
    bounded steps.
    """
    predictor = torch.zeros_like(problem.y) if codes is None else problem.operator(codes)
    axes = tuple(range(2, problem.y.ndim))
    b = problem.y.new_zeros(*problem.y.shape[:2], *[1] * len(axes))
    likelihood = problem.likelihood
    for _ in range(1 if isinstance(likelihood, Gaussian) else _NEWTON_STEPS):
        eta = predictor + b
        # links are canonical, so the derivative of the mean is the variance
        variance = _derivative(likelihood.mean, eta)
        slope = likelihood.score(eta, problem.y).sum(axes, keepdim=True)
        step = slope / variance.sum(axes, keepdim=True).clamp_min(torch.finfo(b.dtype).tiny)
        b = b + (step if isinstance(likelihood, Gaussian) else step.clamp(-_LONGEST_STEP, _LONGEST_STEP))
    return b


def _derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the derivative of an elementwise function at x."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def _forget(state: ConvolutionalState, j: int) -> None:
    """Set the optimiser's memory of a filter to zero."""
    for value in state.memory.values():
        if value.shape == state.atoms.shape:
            value[j] = 0


def _with_atoms(problem: Problem, atoms: Tensor) -> Problem:
    before = problem.operator
    assert isinstance(before, ConvDictionary)
    operator = ConvDictionary(atoms, signal_shape=before.out_shape[1:], stride=before.stride)
    return replace(problem, operator=operator)
