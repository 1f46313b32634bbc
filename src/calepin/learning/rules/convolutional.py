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

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from calepin.learning.atoms import AtomSet, find_idle
from calepin.learning.batches import Batch
from calepin.learning.convolutional_coders import ConvolutionalCoder, fit_baseline, peaks, refit
from calepin.learning.filters import SPHERE, centre_, unit, worst_window
from calepin.learning.gradients import GradientRule, decoder_loss
from calepin.learning.optimizers import OPTIMIZER, Optimizer, along_sphere, describe_optimizer, move
from calepin.learning.signals import Signals
from calepin.learning.train import DivergedError
from calepin.operators.conv import ConvDictionary
from calepin.problem import Problem

__all__ = ["Convolutional", "code_signals"]

_ROUNDS = 4  # of codes and baselines in turn
_POOL = 16  # badly explained windows kept at hand to replace idle filters
_RARE = 0.02  # a filter used less than this share of the mean serves nobody
_COHERENCE = 0.98  # two filters with a larger absolute inner product are one


@dataclass(frozen=True)
class Convolutional:
    """Filters move along the tangent of their sphere, by any optimiser; see the module.

    Parameters
    ----------
    coder : ConvolutionalCoder
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

    coder: ConvolutionalCoder
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
        if self.gradient not in get_args(GradientRule):
            raise ValueError(f"gradient: expected one of {get_args(GradientRule)}, got {self.gradient!r}")
        if self.gradient != "dec" and (self.debias is not None or self.n_updates > 1):
            raise ValueError(
                f"gradient: expected 'dec' with debias or n_updates, whose codes are constants, "
                f"got {self.gradient!r}"
            )
        if self.debias is not None and self.debias < 0:
            raise ValueError(f"debias: expected a number of positions or None, got {self.debias!r}")
        if self.n_updates < 1:
            raise ValueError(f"n_updates: expected at least 1, got {self.n_updates!r}")

    @property
    def replace_every(self) -> int:
        """Return a number that no run reaches: idle filters are looked for at the end of a pass."""
        return 1 << 62

    @property
    def atom_set(self) -> AtomSet:
        """The set of flattened filters: the sphere."""
        return SPHERE

    def init(self, atoms: Any) -> dict[str, Any]:
        """Return the arrays that learning carries from step to step."""
        filters = torch.as_tensor(atoms)
        return {
            "atoms": filters,
            "usage": np.zeros(len(filters), dtype=np.int64),
            "pool": filters.new_zeros(_POOL, *filters.shape[1:]),
            "pool_error": np.full(_POOL, -1.0),
        }

    def step(self, arrays: dict[str, Any], batch: Batch) -> np.ndarray:
        """Move the filters in place and return each sample's objective, nll + penalty, before the move.

        Raises
        ------
        DivergedError
            Filters or a gradient with NaN or infinity.
        """
        atoms = arrays["atoms"] = torch.as_tensor(arrays["atoms"])
        _require_finite("filters", atoms)
        leaf = atoms.detach().clone().requires_grad_()
        with torch.enable_grad():
            coded = [code_signals(self, group, leaf) for group in batch.X]
        values = np.concatenate([objective(self, problem, codes) for problem, codes in coded])
        self._note(arrays, coded)
        coded = [(problem, self.debiased(problem, codes)) for problem, codes in coded]
        for update in range(self.n_updates):
            if update:
                leaf = atoms.detach().clone().requires_grad_()
                coded = [(_with_atoms(problem, leaf), codes) for problem, codes in coded]
            self._move(arrays, atoms, leaf, coded)
        return values

    def debiased(self, problem: Problem, codes: Tensor) -> Tensor:
        """Return codes re-fitted on their peaks, or as they are without `debias`."""
        if self.debias is None:
            return codes
        support = peaks(codes, self.debias, self.n_peaks)
        return refit(problem, codes, support, positive=self.coder.positive)

    def end_pass(self, arrays: dict[str, Any]) -> None:
        """Move filters to the middle of their kernels, where that is wanted."""
        if self.centre:
            for j in centre_(torch.as_tensor(arrays["atoms"])):
                _forget(arrays, j)

    def replace_idle(self, arrays: dict[str, Any]) -> int:
        """Put badly explained windows in the place of filters that serve nobody; return how many."""
        atoms, usage = torch.as_tensor(arrays["atoms"]), arrays["usage"]
        n_replaced = 0
        if self.replace and usage.any():
            flat = atoms.flatten(1).cpu().numpy()
            order = np.argsort(-arrays["pool_error"], kind="stable")
            worst = order[arrays["pool_error"][order] > 0]
            idle = find_idle(flat, usage, rare=_RARE, coherence=_COHERENCE)
            for j, source in zip(idle.tolist(), worst.tolist(), strict=False):
                atoms[j] = unit(torch.as_tensor(arrays["pool"])[[source]])[0].to(atoms)
                _forget(arrays, j)
                n_replaced += 1
        usage[:] = 0
        arrays["pool_error"][:] = -1.0
        return n_replaced

    def settings(self) -> dict[str, Any]:
        """Return the rule as JSON, to recognise a checkpoint of another run."""
        return {
            "rule": "convolutional",
            "coder": {"name": type(self.coder).__name__, **_plain(vars(self.coder))},
            "stride": self.stride,
            "gradient": self.gradient,
            "debias": self.debias,
            "n_peaks": self.n_peaks,
            "baseline": self.baseline,
            "n_updates": self.n_updates,
            "optimizer": describe_optimizer(self.optimizer),
            "tangent": self.tangent,
            "centre": self.centre,
            "replace": self.replace,
        }

    def _move(
        self, arrays: dict[str, Any], atoms: Tensor, leaf: Tensor, coded: Sequence[tuple[Problem, Tensor]]
    ) -> None:
        """Take a step of the optimiser from `atoms`, in place; `leaf` is their copy behind the problems."""
        n_entries = sum(problem.y.numel() for problem, _ in coded)
        with torch.enable_grad():
            losses = [
                decoder_loss(problem, codes, rule=self.gradient, penalty=self.coder.penalty).sum()
                / (problem.likelihood.curvature or 1.0)
                for problem, codes in coded
            ]
            (gradient,) = torch.autograd.grad(torch.stack(losses).sum() / n_entries, leaf)
        _require_finite("gradient", gradient)
        if self.tangent:
            gradient = along_sphere(gradient, atoms)
        move(arrays, atoms, gradient, self.optimizer)
        with torch.no_grad():
            atoms.copy_(unit(atoms))

    @torch.no_grad()
    def _note(self, arrays: dict[str, Any], coded: Sequence[tuple[Problem, Tensor]]) -> None:
        """Count who is used, and keep the window of the batch that is explained worst."""
        used = sum((codes != 0).transpose(0, 1).flatten(1).sum(1).cpu().numpy() for _, codes in coded)
        if not np.any(used):
            warnings.warn(
                "all codes of a batch are zero, from which nothing is learned: alpha is too large for X",
                RuntimeWarning,
                stacklevel=3,
            )
        arrays["usage"] += used
        if not self.replace:
            return
        kernel = arrays["atoms"].shape[2:]
        windows = [worst_window(problem, codes, kernel) for problem, codes in coded]
        window, error = max(windows, key=lambda found: found[1])
        weakest = int(arrays["pool_error"].argmin())
        if error > arrays["pool_error"][weakest]:
            arrays["pool"] = torch.as_tensor(arrays["pool"])
            arrays["pool"][weakest] = window
            arrays["pool_error"][weakest] = error


def code_signals(rule: Convolutional, signals: Signals, atoms: Tensor) -> tuple[Problem, Tensor]:
    """Return the problem of some signals, with their baselines if those are fitted, and their codes."""
    operator = ConvDictionary(atoms, signal_shape=tuple(signals.y.shape[2:]), stride=rule.stride)
    problem = signals.problem(operator)
    if not rule.baseline:
        return problem, rule.coder.codes(problem, rule=rule.gradient)
    problem, codes = replace(problem, offset=fit_baseline(problem)), None
    coder = rule.coder.shortened(_ROUNDS)
    for _ in range(_ROUNDS - 1):
        codes = coder.codes(problem, z0=codes)
        problem = replace(problem, offset=fit_baseline(problem, codes))
    return problem, coder.codes(problem, rule=rule.gradient, z0=codes)


@torch.no_grad()
def objective(rule: Convolutional, problem: Problem, codes: Tensor) -> np.ndarray:
    """Return nll + penalty of each sample; the nll alone where codes are limited by their number."""
    value = problem.nll(codes)
    if rule.coder.penalty is not None:
        value = value + rule.coder.penalty.value(codes)
    return value.double().cpu().numpy()


def _forget(arrays: dict[str, Any], j: int) -> None:
    """Clear what the optimiser remembers of a filter."""
    for name, value in arrays.items():
        if name.startswith(OPTIMIZER) and value.shape == arrays["atoms"].shape:
            value[j] = 0


def _with_atoms(problem: Problem, atoms: Tensor) -> Problem:
    before = problem.operator
    assert isinstance(before, ConvDictionary)
    operator = ConvDictionary(atoms, signal_shape=before.out_shape[1:], stride=before.stride)
    return replace(problem, operator=operator)


def _require_finite(name: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise DivergedError(
            f"the {name} became NaN or infinite: check the scale of X, the step size and the learning rate"
        )


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return a coder's settings as JSON: a penalty by its name and weight."""
    return {
        name: value if isinstance(value, str | int | float | None) else {type(value).__name__: vars(value)}
        for name, value in values.items()
    }
