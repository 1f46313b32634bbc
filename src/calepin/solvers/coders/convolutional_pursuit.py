"""Convolutional codes of counts by a greedy pursuit, and the refit on a given support.

    minimise over z   nll(offset + sum_m z_m * d_m, y)     with few nonzeros      (optionally z >= 0)

for Gaussian, binomial and Poisson observations, over the observed entries. Events are added one at a time:
the atom and the position of largest correlation with the working observation ``y - mean(eta)`` join the
support, on which all amplitudes are then refitted; correlations are relative to the norm of what is observed
of an atom (BCOMP: Tolooshams et al., "Convolutional dictionary learning based auto-encoders for
natural exponential-family distributions", 2020, Algorithm 2; it combines Mailhé et al., "A low complexity
orthogonal matching pursuit for sparse signal approximation with shift-invariant dictionaries", 2009, and
Lozano et al., "Group orthogonal matching pursuit for logistic regression", 2011).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_boolean, check_integer, check_number
from calepin.core.errors import IncompatibleError
from calepin.core.threads import run_blocks
from calepin.likelihoods import Binomial, Gaussian, Likelihood, Poisson
from calepin.problem import Problem
from calepin.solvers.coders.coder import Codes, GradientRule
from calepin.solvers.coders.convolutional_terms import convolutional_problem, convolutional_terms
from calepin.solvers.coders.lasso import require_constants
from calepin.solvers.kernels.checks import array_of, check_convolutional
from calepin.solvers.kernels.conv_layout import Layout, one_path, prepare_atoms
from calepin.solvers.kernels.conv_pursuit import (
    BINOMIAL,
    GAUSSIAN,
    POISSON,
    Planes,
    Support,
    add_events,
    pursue,
    refit_clusters,
)

__all__ = ["ConvolutionalPursuitCoder", "convolutional_pursuit", "refit_codes", "refit_problem"]

_FAMILIES = {Gaussian: GAUSSIAN, Binomial: BINOMIAL, Poisson: POISSON}
_BLOCK = 8  # samples
_REFIT_TOL = 1e-6
_REFIT_ITER = 100


@dataclass(frozen=True)
class ConvolutionalPursuitCoder:
    """Greedy pursuit of a limited number of events (BCOMP), for all families, stride 1, on the CPU.

    Missing entries count for nothing. An event is only placed where a tenth of the energy of its atom is
    observed.

    Parameters
    ----------
    n_nonzero : int
        Largest number of events of a sample.
    tol : float, default 0
        Stop when no atom, scaled to unit norm, has a larger correlation with the working observation.
    nonnegative : bool, default True
        Whether codes are nonnegative.
    """

    n_nonzero: int
    tol: float = 0.0
    nonnegative: bool = True

    def __post_init__(self) -> None:
        check_integer("n_nonzero", self.n_nonzero)
        check_number("tol", self.tol, least=0)
        check_boolean("nonnegative", self.nonnegative)
        check_fields(self)

    @property
    def penalty(self) -> None:
        """None: the number of events is limited instead."""
        return None

    def encode(
        self, problem: Problem, *, z0: Tensor | None = None, gradient: GradientRule | None = None
    ) -> Codes:
        """Return codes; the search starts from zero."""
        check_arguments(ConvolutionalPursuitCoder.encode, locals())
        require_constants("ConvolutionalPursuitCoder", gradient)
        counts = _Counts(problem, "ConvolutionalPursuitCoder")
        limit = min(self.n_nonzero, int(np.prod(counts.code_shape)))

        def encode_one(planes: Planes, out: np.ndarray, _: int) -> None:
            found = pursue(
                planes,
                counts.atoms,
                counts.family,
                limit,
                # correlations of the size of rounding errors count as zero
                max(self.tol, 1e-10 * float(np.abs(planes.y).max())),
                self.nonnegative,
                *counts.layout.positions,
                counts.layout.grid,
                _REFIT_TOL,
                _REFIT_ITER,
            )
            out[found.atom, found.row, found.col] = found.value

        return Codes(counts.encode(encode_one), problem.offset)

    def shortened(self, n_rounds: int) -> Self:
        """Return the coder itself: fewer events would give other codes."""
        check_integer("n_rounds", n_rounds)
        return self


def convolutional_pursuit(
    y: Any,
    atoms: Any,
    *,
    n_nonzero: int,
    likelihood: Likelihood | None = None,
    offset: Any = 0.0,
    tol: float = 0.0,
    nonnegative: bool = True,
    boundary: Literal["zero", "circular"] = "zero",
    mask: Any = None,
) -> Any:
    """Return sparse codes of signals or images of counts, found one event at a time.

    Results do not depend on the number of threads.

    Parameters
    ----------
    y : array or tensor of shape (n, channels, *spatial)
        Signals or images, with one or two spatial axes. Computed in float64 on the CPU.
    atoms : array or tensor of shape (n_components, channels, *kernel)
        Atoms of any norm.
    n_nonzero : int
        Largest number of events of a sample.
    likelihood : Gaussian, Binomial or Poisson, optional
        Family of the observations, Gaussian by default.
    offset : float, array or tensor, default 0
        Known part of the linear predictor (a baseline); broadcasts against y.
    tol : float, default 0
        Stop when no atom, its observed part scaled to unit norm, has a larger correlation with the working
        observation.
    nonnegative : bool, default True
        Whether codes are nonnegative.
    boundary : {"zero", "circular"}, default "zero"
        Whether atoms lie entirely inside the signal ("zero"), or the signal is periodic ("circular").
    mask : array or tensor of bool, shape of y, optional
        True where an entry is observed; other entries are ignored and may be NaN. Events are only placed
        where a tenth of the energy of their atom is observed.

    Returns
    -------
    codes : array or tensor of shape (n, n_components, *positions)

    Raises
    ------
    ValueError
        If an argument has an invalid value, shape or dtype.
    IncompatibleError
        If the likelihood is none of the three.
    """
    coder = ConvolutionalPursuitCoder(n_nonzero, tol, nonnegative)
    problem = _problem(y, atoms, likelihood, offset, boundary, mask, "convolutional_pursuit")
    check_arguments(convolutional_pursuit, locals())
    codes = coder.encode(problem).values
    return codes if isinstance(y, Tensor) else codes.numpy()


def refit_codes(
    y: Any,
    atoms: Any,
    support: Any,
    *,
    likelihood: Likelihood | None = None,
    offset: Any = 0.0,
    nonnegative: bool = True,
    boundary: Literal["zero", "circular"] = "zero",
    mask: Any = None,
    tol: float = 1e-6,
    max_iter: int = 100,
) -> Any:
    """Return the codes of smallest nll on a given support, which removes the shrinkage of a penalty.

    Newton's method, separately for each group of overlapping events.

    Parameters
    ----------
    y, atoms
        As in `convolutional_pursuit`.
    support : array or tensor of shape (n, n_components, *positions)
        Entries that may be nonzero: bool, or numbers from which the fit starts (from zero for negative
        numbers if codes are nonnegative).
    likelihood, offset, nonnegative, boundary, mask
        As in `convolutional_pursuit`. Entries of which nothing is observed keep the number from which the fit
        starts.
    tol : float, default 1e-6
        Stop when no single coefficient could lower the nll by more than ``tol**2 / 2``.
    max_iter : int, default 100
        Largest number of Newton steps.

    Returns
    -------
    codes : array or tensor, shape of `support`

    Raises
    ------
    ValueError
        If an argument has an invalid value, shape or dtype.
    IncompatibleError
        If the likelihood is none of the three.

    Warns
    -----
    ConvergenceWarning
        Some samples have not converged after `max_iter` steps. If all trials of an event succeed, the nll has
        no minimum and the fit cannot converge.
    """
    check_arguments(refit_codes, locals())
    check_boolean("nonnegative", nonnegative)
    check_integer("max_iter", max_iter)
    problem = _problem(y, atoms, likelihood, offset, boundary, mask, "refit_codes")
    counts = _Counts(problem, "refit_codes")
    start = array_of("support", support)
    expected = (counts.n_samples, *counts.code_shape)
    if start.shape != expected or start.dtype.kind not in "fiub" or not np.isfinite(start).all():
        raise ValueError(
            f"support: expected finite numbers or bool of shape {expected}, "
            f"got {start.dtype} of shape {start.shape}"
        )
    codes, missed = counts.refit(start, nonnegative, tol, max_iter)
    _warn_of(missed, tol, max_iter)
    return codes if isinstance(y, Tensor) else codes.numpy()


def refit_problem(problem: Problem, start: Tensor, *, nonnegative: bool) -> Tensor:
    """Return what `refit_codes` does, for a problem, on the nonzeros of `start`."""
    counts = _Counts(problem, "refit_problem")
    codes, missed = counts.refit(start.detach().cpu().numpy(), nonnegative, _REFIT_TOL, _REFIT_ITER)
    _warn_of(missed, _REFIT_TOL, _REFIT_ITER)
    return codes


def _warn_of(missed: np.ndarray, tol: float, max_iter: int) -> None:
    """Warn if fits have not converged."""
    if missed.any():
        from sklearn.exceptions import ConvergenceWarning

        warnings.warn(
            f"the fit of {missed.sum()} of {len(missed)} samples is not within tol = {tol:g} after "
            f"max_iter = {max_iter} steps (the first is sample {missed.argmax()})",
            ConvergenceWarning,
            stacklevel=3,
        )


class _Counts:
    """A problem of counts of one family, in the memory layout of the kernels."""

    def __init__(self, problem: Problem, coder: str) -> None:
        self.family = _family_of(problem.likelihood, coder)
        dictionary, mask = convolutional_terms(problem, coder)
        likelihood = problem.likelihood
        trials = likelihood.trials if isinstance(likelihood, Binomial) else 1
        values, rows, observed = check_convolutional(problem.y, dictionary.atoms, mask)
        others = {"offset": problem.offset, "trials": trials}
        planes = (values, *(np.broadcast_to(array_of(*one), values.shape) for one in others.items()))
        self.device, self.n_samples, self.dtype = problem.y.device, len(values), values.dtype
        self.code_shape = problem.operator.in_shape
        self.y, self.offset, self.trials, self.observed, rows = one_path(
            *planes, observed, rows.astype(np.float64)
        )
        self.atoms = prepare_atoms(rows)
        masked = observed is not None
        self.layout = Layout(self.y.shape[1:], rows.shape[2:], dictionary.boundary, masked=masked)

    def encode(self, function: Callable[[Planes, np.ndarray, int], None]) -> Tensor:
        """Call function(planes, code to write, sample) for every sample; return all codes."""
        positions = self.layout.positions
        codes = np.zeros((self.n_samples, self.code_shape[0], *positions), self.dtype)

        def block(start: int, stop: int) -> None:
            for sample in range(start, stop):
                function(self._planes(sample), codes[sample], sample)

        run_blocks(block, self.n_samples, _BLOCK)
        return torch.from_numpy(codes.reshape(self.n_samples, *self.code_shape)).to(self.device)

    def refit(
        self, start: np.ndarray, nonnegative: bool, tol: float, max_iter: int
    ) -> tuple[Tensor, np.ndarray]:
        """Return the codes of smallest nll on the nonzeros of `start`, and which have not converged."""
        marked = one_path(start != 0)[0]
        values = one_path(start)[0].astype(np.float64) * (start.dtype != bool)
        missed = np.zeros(len(start), dtype=bool)

        def fit_one(planes: Planes, out: np.ndarray, sample: int) -> None:
            which, row, col = np.nonzero(marked[sample])
            value = values[sample][which, row, col]
            events = Support(row, col, which, np.maximum(value, 0.0) if nonnegative else value)
            add_events(planes, self.atoms, events, self.layout.grid)
            missed[sample] = not refit_clusters(
                planes, self.atoms, events, self.family, nonnegative, self.layout.grid, tol, max_iter
            )
            out[which, row, col] = events.value

        return self.encode(fit_one), missed

    def _planes(self, sample: int) -> Planes:
        seen: Any = True if self.observed is None else self.observed[sample]
        y, offset, trials = (
            self.layout.plane(np.where(seen, x[sample].astype(np.float64), 0.0))
            for x in (self.y, self.offset, self.trials)
        )
        weights = y if self.observed is None else self.layout.plane(seen.astype(np.float64))
        return Planes(y, trials, weights, offset, *(np.zeros_like(y) for _ in range(4)))


def _problem(
    y: Any, atoms: Any, likelihood: Likelihood | None, offset: Any, boundary: str, mask: Any, needed_by: str
) -> Problem:
    """Return the problem of arrays or tensors, with its offset as a tensor."""
    if likelihood is not None:
        _family_of(likelihood, needed_by)
    array = array_of("offset", offset)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(f"offset: expected finite numbers, got {offset!r}")
    plain = convolutional_problem(y, atoms, likelihood=likelihood, boundary=boundary, mask=mask)
    return replace(plain, offset=torch.from_numpy(np.array(array)).to(plain.y))


def _family_of(likelihood: Likelihood, coder: str) -> int:
    if type(likelihood) not in _FAMILIES:
        raise IncompatibleError(
            f"{coder} needs likelihood to be Gaussian, Binomial or Poisson, got {type(likelihood).__name__}; "
            "ProximalCoder takes any likelihood"
        )
    return _FAMILIES[type(likelihood)]
