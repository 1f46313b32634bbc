"""The rule of convolutional dictionary learning from Gaussian data, by moments of the codes.

    minimise over filters h and codes z   mean over samples of 0.5 ||y - sum_m z_m * h_m||^2 + penalty(z)

A step computes the codes of a batch and adds them to moments, whose past decays; then the filters move to the
minimum of the quadratic function that the moments define. Sources: Mairal, Bach, Ponce and Sapiro, "Online
dictionary learning for sparse coding", 2009; for convolutions Liu, Garcia-Cardona, Wohlberg and Yin, "First-
and second-order methods for online convolutional dictionary learning", 2018, and Dupre la Tour et al.,
"Multivariate convolutional sparse coding for electromagnetic brain signals", 2018, section 3.2.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from calepin.core.checks import check_integer, check_number
from calepin.core.errors import IncompatibleError
from calepin.learning.filters import unit
from calepin.learning.rule import AtomState, require_finite, tensor_of
from calepin.learning.rules import _convolutional_moments as statistics
from calepin.learning.rules._statistics import decay_of_stream
from calepin.learning.rules.convolutional_base import IDLE, Coded, ConvolutionalRule
from calepin.learning.rules.idle import Idle
from calepin.likelihoods import Gaussian

__all__ = ["ConvolutionalOnline", "MomentsState"]


@dataclass
class MomentsState(AtomState):
    """State of online convolutional dictionary learning.

    Attributes
    ----------
    atoms : Tensor, shape (n_components, channels, *kernel)
        The filters.
    idle : Idle
        Usage of the filters, and poorly represented windows.
    S : Tensor of float64, shape (n_components, n_components, *(2 * kernel - 1))
        Decayed sums of products of codes, by the lag between them.
    B : Tensor of float64, shape of atoms
        Decayed sums of codes times windows of the signals.
    n_steps : int
        Number of steps.
    n_samples : int
        Number of signals so far, those of later passes not counted.
    """

    idle: Idle
    S: Tensor
    B: Tensor
    n_steps: int
    n_samples: int


@dataclass(frozen=True)
class ConvolutionalOnline(ConvolutionalRule):
    """Moves unit-norm filters to the minimum of the loss with the codes so far, for Gaussian data.

    Parameters
    ----------
    coder, stride, debias, n_peaks, baseline, centre, replace, stream
        As of `Convolutional`.
    forgetting : float, default 3.0
        Exponent rho of the decay (1 - 1/t)^rho of the past moments at step t. With 0 they do not decay. In a
        stream t is the number of signals so far divided by that of the batch.
    horizon : int, optional
        Upper bound of t in this decay, usually the number of steps of a pass, so that codes from earlier
        passes are forgotten; with 1 they are forgotten at once. Default: no bound, for streams.
    n_updates : int, default 30
        Number of accelerated gradient steps on the filters after each batch.
    """

    name: ClassVar[str] = "convolutional-online"
    state: ClassVar[type[AtomState]] = MomentsState

    forgetting: float = 3.0
    horizon: int | None = None
    n_updates: int = 30

    def __post_init__(self) -> None:
        check_number("forgetting", self.forgetting, least=0)
        check_integer("horizon", self.horizon, optional=True)
        check_integer("n_updates", self.n_updates)
        super().__post_init__()

    def init(self, atoms: Any) -> MomentsState:
        """Return the initial state with these filters and zero moments."""
        filters = tensor_of(atoms)
        return MomentsState(filters, IDLE.init(filters), *statistics.moments(filters), 0, 0)

    @torch.no_grad()
    def move(self, state: MomentsState, coded: Coded) -> None:
        """Add the batch to the moments, then minimise over the filters."""
        n_signals = sum(len(problem.y) for problem, _ in coded)
        decay = self._decay(state, n_signals)
        state.S *= decay
        state.B *= decay
        for problem, codes in coded:
            if not isinstance(problem.likelihood, Gaussian):
                raise IncompatibleError(
                    f"ConvolutionalOnline needs Gaussian data, got {type(problem.likelihood).__name__}; "
                    "Convolutional takes any likelihood"
                )
            statistics.add_moments(state.S, state.B, codes, problem.y - problem.offset, stride=self.stride)
        require_finite("moments of the codes", state.B)
        moved = statistics.descend(state.atoms, state.S, state.B, n_iter=self.n_updates)
        state.atoms.copy_(unit(moved))
        state.n_steps += 1
        if self.horizon is None or state.n_steps <= self.horizon:  # a later pass has no new signals
            state.n_samples += n_signals

    def forget(self, state: MomentsState, j: int) -> None:
        """Set the moments of a filter to zero."""
        state.S[j] = 0
        state.S[:, j] = 0
        state.B[j] = 0

    def _decay(self, state: MomentsState, n_signals: int) -> float:
        if self.stream:
            return decay_of_stream(state.n_samples, n_signals, self.forgetting, self.horizon)
        t = min(state.n_steps + 1, self.horizon or state.n_steps + 1)
        return (1 - 1 / t) ** self.forgetting
