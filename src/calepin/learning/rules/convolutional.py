"""The rule of convolutional dictionary learning from signals, images or counts, by an optimiser.

A step computes the codes of a batch, then updates the filters with the gradient of the loss. With "dec" the
codes are constants (alternating minimisation). With "ae-lasso" and "ae-ls" the gradient also passes through
the unfolded encoder, as in `calepin.learning.dictionary_gradient`. Source: Tolooshams, Song, Temereanca and
Ba, "Convolutional dictionary learning based auto-encoders for natural exponential-family distributions",
2020 (DCEA).

The gradient is projected onto the tangent space of the sphere of each filter. Its component along the filter
would only change the amplitude, which the codes determine and the normalisation removes.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from calepin.core.checks import check_integer, check_one_of
from calepin.learning.filters import dictionary_of, observed_of, unit
from calepin.learning.gradients import decoder_loss
from calepin.learning.optimizers import Optimizer, along_sphere, move
from calepin.learning.rule import AtomState, require_finite, tensor_of
from calepin.learning.rules.convolutional_base import IDLE, Coded, ConvolutionalRule
from calepin.learning.rules.idle import Idle
from calepin.operators.conv import ConvDictionary
from calepin.operators.mask import Mask
from calepin.problem import Problem
from calepin.solvers.coders.coder import GradientRule

__all__ = ["Convolutional", "ConvolutionalState"]


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
class Convolutional(ConvolutionalRule):
    """Updates unit-norm filters with any torch optimiser, tangentially to the sphere.

    Parameters
    ----------
    coder : Coder
        Computes the codes of a batch. "ae-lasso" and "ae-ls" need one whose iterations are differentiable.
    stride : int, default 1
        Distance between neighbouring positions of a filter, in samples.
    debias : int, optional
        Radius of the peaks, in positions. If given, the filters are updated with codes that are re-fitted
        without the penalty on the peaks of the codes: entries that are the largest within this radius along
        every axis. With "dec" only.
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
    gradient : {"dec", "ae-lasso", "ae-ls"}, default "dec"
        The gradient with respect to the filters, see `calepin.learning.dictionary_gradient`.
    n_updates : int, default 1
        Number of updates of the filters with the same codes. Many updates, with all samples as one batch,
        give the full alternation of algorithm 2 in the paper's appendix. With "dec" only.
    optimizer : callable, optional
        A function from a list of parameters to a torch optimiser; Adam by default. The loss is divided by
        the number of observed entries and by the bound on the curvature of the likelihood, if there is one.
        The same learning rate therefore suits all data.
    tangent : bool, default True
        Whether the gradient is projected onto the tangent space of the sphere, if filters have unit norm.
    """

    name: ClassVar[str] = "convolutional"
    state: ClassVar[type[AtomState]] = ConvolutionalState

    gradient: GradientRule = "dec"
    n_updates: int = 1
    optimizer: Optimizer = field(default=partial(torch.optim.Adam, lr=0.02, eps=1e-3))
    tangent: bool = True

    def __post_init__(self) -> None:
        check_one_of("gradient", self.gradient, get_args(GradientRule))
        check_integer("n_updates", self.n_updates)
        super().__post_init__()
        if self.gradient != "dec" and (self.debias is not None or self.n_updates > 1):
            raise ValueError(
                f"gradient: expected 'dec' with debias or n_updates, which hold the codes constant, "
                f"got {self.gradient!r}"
            )

    @property
    def code_gradient(self) -> GradientRule:
        """The gradient for which codes are computed."""
        return self.gradient

    def init(self, atoms: Any) -> ConvolutionalState:
        """Return the initial state with these filters."""
        filters = self.admissible(tensor_of(atoms))
        return ConvolutionalState(filters, IDLE.init(filters), {})

    def move(self, state: ConvolutionalState, coded: Coded) -> None:
        """Take `n_updates` steps of the optimiser."""
        for update in range(self.n_updates):
            if update or self.gradient == "dec":
                leaf = state.atoms.detach().clone().requires_grad_()
                coded = [(_with_atoms(problem, leaf), codes) for problem, codes in coded]
            self._descend(state, coded)

    def forget(self, state: ConvolutionalState, j: int) -> None:
        """Set the optimiser's memory of a filter to zero."""
        for value in state.memory.values():
            if value.shape == state.atoms.shape:
                value[j] = 0

    def _descend(self, state: ConvolutionalState, coded: Coded) -> None:
        """Take a step of the optimiser, in place, with the gradient at the filters in the problems."""
        atoms = state.atoms
        n_entries = sum(problem.y.numel() for problem, _ in coded)
        leaf: Any = dictionary_of(coded[0][0]).atoms
        with torch.enable_grad():
            losses = [
                decoder_loss(problem, codes, gradient=self.gradient, penalty=self.coder.penalty).sum()
                / (problem.likelihood.curvature or 1.0)
                for problem, codes in coded
            ]
            (gradient,) = torch.autograd.grad(torch.stack(losses).sum() / n_entries, leaf)
        require_finite("gradient", gradient)
        if self.tangent and not self.in_ball:
            gradient = along_sphere(gradient, atoms)
        move(state.memory, atoms, gradient, self.optimizer)
        with torch.no_grad():
            atoms.copy_(unit(atoms) if self.filters is None else self.admissible(atoms))


def _with_atoms(problem: Problem, atoms: Tensor) -> Problem:
    before = dictionary_of(problem)
    operator = ConvDictionary(atoms, signal_shape=before.out_shape[1:], stride=before.stride)
    seen = observed_of(problem)
    return replace(problem, operator=operator if seen is None else Mask(seen, per_sample=True) @ operator)
