"""The rule of convolutional dictionary learning from Gaussian data, by moments of the codes.

    minimise over filters h and codes z   mean over samples of 0.5 ||y - sum_m z_m * h_m||^2 + penalty(z)

A step computes the codes of a batch and adds them to moments, whose past decays; then the filters move to the
minimum of the quadratic function that the moments define. Sources: Mairal, Bach, Ponce and Sapiro, "Online
dictionary learning for sparse coding", 2009; for convolutions Liu, Garcia-Cardona, Wohlberg and Yin, "First-
and second-order methods for online convolutional dictionary learning", 2018, and Dupre la Tour et al.,
"Multivariate convolutional sparse coding for electromagnetic brain signals", 2018, section 3.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from calepin.core.checks import check_integer, check_number
from calepin.core.errors import IncompatibleError
from calepin.learning.batches import Batch
from calepin.learning.filters import residual_of, worst_window
from calepin.learning.rule import AtomState, require_finite, tensor_of, warn_if_vanished
from calepin.learning.rules import _convolutional_moments as statistics
from calepin.learning.rules._statistics import decay_of_stream
from calepin.learning.rules._trimming import Losses, covered, limit_of, losses_of
from calepin.learning.rules.convolutional_base import (
    IDLE,
    ConvolutionalRule,
    code_signals,
    coding_problem,
)
from calepin.learning.rules.idle import Idle
from calepin.learning.signals import Signals
from calepin.likelihoods import Gaussian
from calepin.penalties import L1, ElasticNet, NonNegativeL1, Penalty
from calepin.solvers.coders.coder import penalty_of
from calepin.solvers.coders.convolutional_lasso import ConvolutionalLassoCoder
from calepin.solvers.coders.sparse_codes import SparseCodes

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
    before : Tensor, shape of atoms
        The filters at the end of the pass before.
    n_trimmed : int
        Number of places of signals that were left out as artefacts in the current pass.
    """

    idle: Idle
    S: Tensor
    B: Tensor
    n_steps: int
    n_samples: int
    before: Tensor
    n_trimmed: int = 0


@dataclass(frozen=True, eq=False)
class Coded:
    """Codes of signals of one size, their residual, which is zero where it is missing, and each penalty.

    `converged` says which of the codes have converged, where the coder knows.
    """

    codes: SparseCodes
    residual: Tensor
    penalties: np.ndarray
    converged: Tensor | None = None

    @property
    def objective(self) -> np.ndarray:
        """The objective of each signal."""
        squares = self.residual.double().square().flatten(1).sum(1).cpu().numpy()
        return 0.5 * squares + np.bincount(self.codes.sample, self.penalties, len(squares))

    def replaced(self, rows: Tensor, other: "Coded") -> "Coded":
        """Return the codes of all signals, those of some rows from another coding."""
        at = rows.cpu().numpy()
        mine = ~np.isin(self.codes.sample, at)
        theirs = replace(other.codes, sample=at[other.codes.sample])
        codes, order = self.codes.where(mine).merged(theirs)
        penalties = np.concatenate([self.penalties[mine], other.penalties])[order]
        residual, converged = self.residual.index_copy(0, rows, other.residual), self.converged
        if converged is not None and other.converged is not None:
            converged = converged.index_copy(0, rows.cpu(), other.converged)
        return Coded(codes, residual, penalties, converged)


@dataclass(frozen=True)
class ConvolutionalOnline(ConvolutionalRule):
    """Moves unit-norm filters to the minimum of the loss with the codes so far, for Gaussian data.

    Parameters
    ----------
    coder, stride, debias, n_peaks, baseline, centre, replace, stream, filters
        As of `Convolutional`.
    forgetting : float, default 3.0
        Exponent rho of the decay (1 - 1/t)^rho of the past moments at step t. With 0 they do not decay. In a
        stream t is the number of signals so far divided by that of the batch.
    horizon : int, optional
        Upper bound of t in this decay, usually the number of steps of a pass, so that codes from earlier
        passes are forgotten; with 1 they are forgotten at once. Default: no bound, for streams.
    n_updates : int, default 30
        Number of accelerated gradient steps on the filters after each batch.
    robust : float or None, default 8.0
        Artefacts count as missing: windows whose loss is above the median over events of the batch by this
        many deviations, in logarithms. None, or a coder without a penalty: nothing does.
    """

    name: ClassVar[str] = "convolutional-online"
    state: ClassVar[type[AtomState]] = MomentsState

    forgetting: float = 3.0
    horizon: int | None = None
    n_updates: int = 30
    robust: float | None = 8.0

    def __post_init__(self) -> None:
        check_number("forgetting", self.forgetting, least=0)
        check_integer("horizon", self.horizon, optional=True)
        check_integer("n_updates", self.n_updates)
        check_number("robust", self.robust, above=0, optional=True)
        super().__post_init__()

    def init(self, atoms: Any) -> MomentsState:
        """Return the initial state with these filters and zero moments."""
        filters = self.admissible(tensor_of(atoms))
        return MomentsState(filters, IDLE.init(filters), *statistics.moments(filters), 0, 0, filters.clone())

    @torch.no_grad()
    def step(self, state: MomentsState, batch: Batch) -> np.ndarray:
        """Update the filters in place; return the objective of each sample before the update.

        With `robust`, artefacts count as missing entries.

        Raises
        ------
        DivergedError
            If the filters or the moments contain NaN or infinity.
        """
        require_finite("filters", state.atoms)
        kernel = tuple(state.atoms.shape[2:])
        coded = [self._code(signals, state.atoms) for signals in batch.X]
        if self.robust is not None and self.coder.penalty is not None:
            coded = self._without_artefacts(batch.X, coded, state)
        warn_if_vanished(any(len(c.codes.value) for c in coded))
        for c in coded:
            if isinstance(self.coder, ConvolutionalLassoCoder) and c.converged is not None:
                self.coder.warn_of(c.converged)
            state.idle.usage += np.bincount(c.codes.atom, minlength=len(state.atoms))
        if self.replace:
            windows = [worst_window(c.residual, kernel) for c in coded]
            IDLE.keep(state.idle, *max(windows, key=lambda found: found[1]))
        self._move(state, coded)
        return np.concatenate([c.objective for c in coded])

    @torch.no_grad()
    def losses(self, signals: Signals, atoms: Tensor) -> list[Losses]:
        """Return the losses of the windows of each signal, and of its events."""
        kernel = tuple(atoms.shape[2:])
        each = [signals.take(torch.tensor([row])) for row in range(len(signals.y))]
        coded = [self._code(signal, atoms) for signal in each]
        return [losses_of(c.codes, c.residual, c.penalties, kernel, self.stride) for c in coded]

    def _code(self, signals: Signals, atoms: Tensor) -> Coded:
        """Return the codes of signals by their nonzeros, and what these leave of the signals."""
        if not isinstance(signals.likelihood, Gaussian):
            raise IncompatibleError(
                f"ConvolutionalOnline needs Gaussian data, got {type(signals.likelihood).__name__}; "
                "Convolutional takes any likelihood"
            )
        if isinstance(self.coder, ConvolutionalLassoCoder) and not self.baseline and self.debias is None:
            found, residual = self.coder.encode_sparse(coding_problem(self, signals, atoms))
            size = np.abs(found.values.value)
            penalties = self.coder.alpha * size + 0.5 * self.coder.ridge * size**2
            return Coded(found.values, residual, penalties, found.converged)
        problem, codes = code_signals(self, signals, atoms)
        codes = self.debiased(problem, codes)
        nonzeros = SparseCodes.from_dense(codes)
        return Coded(nonzeros, residual_of(problem, codes), _penalties(self.coder.penalty, codes, nonzeros))

    def _without_artefacts(
        self, groups: Sequence[Signals], coded: Sequence[Coded], state: MomentsState
    ) -> list[Coded]:
        """Code signals with artefacts again, as if these were missing."""
        kernel = tuple(state.atoms.shape[2:])
        losses = [losses_of(c.codes, c.residual, c.penalties, kernel, self.stride) for c in coded]
        limit = limit_of(losses, self.robust or np.inf)
        result = []
        for signals, c, of in zip(groups, coded, losses, strict=True):
            bad = of.windows > limit
            rows = bad.flatten(1).any(1).nonzero().flatten()
            if len(rows):
                entries = covered(bad[rows], kernel)
                state.n_trimmed += int(entries.sum())
                again = self._code(signals.take(rows).without(entries[:, None]), state.atoms)
                c = c.replaced(rows, again)
            result.append(c)
        return result

    def _move(self, state: MomentsState, coded: Sequence[Coded]) -> None:
        """Add codes and residuals of a batch to the moments, then minimise over the filters.

        The right-hand side is that of the residual, plus ``S * h``. Missing entries, whose residual is zero,
        are thereby filled by what the present filters say.
        """
        n_signals = sum(len(c.residual) for c in coded)
        S, B = statistics.moments(state.atoms)
        for c in coded:
            statistics.add_moments(S, B, c.codes, c.residual, stride=self.stride)
        B += statistics.applied(S, state.atoms)
        require_finite("moments of the codes", B)
        decay = self._decay(state, n_signals)
        state.S.mul_(decay).add_(S)
        state.B.mul_(decay).add_(B)
        moved = statistics.descend(state.atoms, state.S, state.B, n_iter=self.n_updates, filters=self.filters)
        state.atoms.copy_(self.scaled(moved))
        state.n_steps += 1
        if self.horizon is None or state.n_steps <= self.horizon:  # a later pass has no new signals
            state.n_samples += n_signals

    def end_pass(self, state: MomentsState) -> dict[str, float]:
        """Centre and replace filters as other rules do; report what was left out, and how far they moved."""
        report = super().end_pass(state)
        moved = torch.linalg.vector_norm((state.atoms - state.before).flatten(1), dim=1)
        state.before.copy_(state.atoms)
        n_trimmed, state.n_trimmed = state.n_trimmed, 0
        return {**report, "n_trimmed": n_trimmed, "change": float(moved.max())}

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


def _penalties(penalty: Penalty | None, codes: Tensor, nonzeros: SparseCodes) -> np.ndarray:
    """Return the penalty of each nonzero, which add up to those of the codes.

    The penalty of a place, such as the norm of a group of atoms, is shared by its nonzeros.
    """
    if isinstance(penalty, L1 | NonNegativeL1 | ElasticNet) and not isinstance(penalty.alpha, Tensor):
        return penalty_of(penalty, torch.from_numpy(nonzeros.value)[:, None])
    at, place, count = np.unique(
        np.column_stack([nonzeros.sample, nonzeros.place]), axis=0, return_inverse=True, return_counts=True
    )
    sample, *position = torch.from_numpy(at.T).to(codes.device)
    # the codes of each place as those of a sample with one position
    single = codes.detach().movedim(1, -1)[(sample, *position)].unflatten(1, (-1, *[1] * len(position)))
    shares = (penalty_of(penalty, single) / count)[place.ravel()]
    n_signals = len(codes)
    total, found = penalty_of(penalty, codes), np.bincount(nonzeros.sample, shares, n_signals)
    return shares * np.divide(total, found, out=np.zeros(n_signals), where=found > 0)[nonzeros.sample]
