"""Convolutional codes of counts by a greedy pursuit, and the fit on a given support.

    minimise over z   nll(offset + sum_m z_m * d_m, y)     with few nonzeros      (z >= 0 on request)

for Gaussian, binomial and Poisson observations. One event at a time: the atom and the position that correlate
best with the working observation ``y - mean(eta)`` join the support, on which all amplitudes are then fitted
anew (BCOMP: Tolooshams et al., "Convolutional dictionary learning based auto-encoders for natural
exponential-family distributions", 2020, Algorithm 2; it joins Mailhé et al., "A low complexity orthogonal
matching pursuit for sparse signal approximation with shift-invariant dictionaries", 2009, and Lozano et al.,
"Group orthogonal matching pursuit for logistic regression", 2011).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

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

__all__ = ["ConvolutionalPursuitCoder", "convolutional_pursuit", "refit_codes"]

_FAMILIES = {Gaussian: GAUSSIAN, Binomial: BINOMIAL, Poisson: POISSON}
_BLOCK = 8  # samples
_REFIT_TOL = 1e-6
_REFIT_ITER = 100


@dataclass(frozen=True)
class ConvolutionalPursuitCoder:
    """A number of events for each signal, found one by one (BCOMP): every family here, stride 1, on the CPU.

    Parameters
    ----------
    n_nonzero : int
        Most events of a sample.
    tol : float, default 0
        Largest correlation of an atom of unit norm with the working observation at which to stop.
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

    @property
    def penalty(self) -> None:
        """None: codes cost nothing, their number is limited."""
        return None

    def encode(
        self, problem: Problem, *, z0: Tensor | None = None, gradient: GradientRule | None = None
    ) -> Codes:
        """Return codes, found from zero."""
        require_constants("ConvolutionalPursuitCoder", gradient)
        counts = _Counts(problem, "ConvolutionalPursuitCoder")
        limit = min(self.n_nonzero, int(np.prod(counts.code_shape)))

        def encode_one(planes: Planes, out: np.ndarray, _: int) -> None:
            found = pursue(
                planes,
                counts.atoms,
                counts.family,
                limit,
                # what rounding leaves of a correlation is none
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
        """Return the coder itself: fewer events would be another code."""
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
) -> Any:
    """Return sparse codes of signals or images of counts, one event at a time.

    Results don't depend on the number of threads.

    Parameters
    ----------
    y : array or tensor of shape (n, channels, *spatial)
        One or two spatial axes. Computed in float64 on the CPU.
    atoms : array or tensor of shape (n_components, channels, *kernel)
        Of any norm.
    n_nonzero : int
        Most events of a sample.
    likelihood : Gaussian, Binomial or Poisson, optional
        Gaussian by default.
    offset : float, array or tensor, default 0
        Known part of the linear predictor (a baseline); broadcasts against y.
    tol : float, default 0
        Largest correlation of an atom of unit norm with the working observation at which to stop.
    nonnegative : bool, default True
        Only nonnegative codes.
    boundary : {"zero", "circular"}, default "zero"
        Whether an atom lies inside the signal as a whole, or the signal is periodic.

    Returns
    -------
    codes : array or tensor of shape (n, n_components, *positions)

    Raises
    ------
    ValueError
        An argument is not what it must be.
    IncompatibleError
        The likelihood is none of the three.
    """
    coder = ConvolutionalPursuitCoder(n_nonzero, tol, nonnegative)
    codes = coder.encode(_problem(y, atoms, likelihood, offset, boundary, "convolutional_pursuit")).values
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
    tol: float = 1e-6,
    max_iter: int = 100,
) -> Any:
    """Return the codes of smallest nll among those with a given support: codes without their shrinkage.

    Newton's method, for each group of events that overlap on its own.

    Parameters
    ----------
    y, atoms
        As in `convolutional_pursuit`.
    support : array or tensor of shape (n, n_components, *positions)
        Where codes may differ from zero: bool, or numbers, from which the fit starts (negative ones
        start from zero where codes are nonnegative).
    likelihood, offset, nonnegative, boundary
        As in `convolutional_pursuit`.
    tol : float, default 1e-6
        Stop where no coefficient alone could lower the nll by more than ``tol**2 / 2``.
    max_iter : int, default 100
        Most Newton steps.

    Returns
    -------
    codes : array or tensor, shape of `support`

    Raises
    ------
    ValueError
        An argument is not what it must be.
    IncompatibleError
        The likelihood is none of the three.

    Warns
    -----
    ConvergenceWarning
        Some samples are not there after `max_iter` steps. A likelihood that falls for ever has no
        fit (all trials of an event succeed).
    """
    check_boolean("nonnegative", nonnegative)
    check_integer("max_iter", max_iter)
    counts = _Counts(_problem(y, atoms, likelihood, offset, boundary, "refit_codes"), "refit_codes")
    start = array_of(support)
    expected = (counts.n_samples, *counts.code_shape)
    if start.shape != expected or start.dtype.kind not in "fiub" or not np.isfinite(start).all():
        raise ValueError(
            f"support: expected finite numbers or bool of shape {expected}, "
            f"got {start.dtype} of shape {start.shape}"
        )
    start = one_path(start)[0].astype(np.float64) * (start.dtype != bool)
    marked = one_path(array_of(support) != 0)[0]
    missed = np.zeros(len(start), dtype=bool)

    def fit_one(planes: Planes, out: np.ndarray, sample: int) -> None:
        which, row, col = np.nonzero(marked[sample])
        value = start[sample][which, row, col]
        events = Support(row, col, which, np.maximum(value, 0.0) if nonnegative else value)
        add_events(planes, counts.atoms, events, counts.layout.grid)
        missed[sample] = not refit_clusters(
            planes, counts.atoms, events, counts.family, nonnegative, counts.layout.grid, tol, max_iter
        )
        out[which, row, col] = events.value

    found = counts.encode(fit_one)
    codes = found if isinstance(y, Tensor) else found.numpy()
    if missed.any():
        from sklearn.exceptions import ConvergenceWarning

        warnings.warn(
            f"the fit of {missed.sum()} of {len(missed)} samples is not within tol = {tol:g} after "
            f"max_iter = {max_iter} steps (the first is sample {missed.argmax()})",
            ConvergenceWarning,
            stacklevel=2,
        )
    return codes


class _Counts:
    """A problem of counts of one family, laid out for the kernels."""

    def __init__(self, problem: Problem, coder: str) -> None:
        self.family = _family_of(problem.likelihood, coder)
        dictionary, mask = convolutional_terms(problem, coder)
        if mask is not None and not bool(mask.all()):
            raise IncompatibleError(f"{coder} needs whole observations, got a mask; ProximalCoder takes one")
        likelihood = problem.likelihood
        trials = likelihood.trials if isinstance(likelihood, Binomial) else 1
        values, rows, _ = check_convolutional(problem.y, dictionary.atoms, None)
        planes = (values, _expanded(problem.offset, values.shape), _expanded(trials, values.shape))
        self.device, self.n_samples, self.dtype = problem.y.device, len(values), values.dtype
        self.code_shape = problem.operator.in_shape
        self.y, self.offset, self.trials, rows = one_path(*planes, rows.astype(np.float64))
        self.atoms = prepare_atoms(rows)
        self.layout = Layout(self.y.shape[1:], rows.shape[2:], dictionary.boundary)

    def encode(self, function: Callable[[Planes, np.ndarray, int], None]) -> Tensor:
        """Call function(planes, code to write to, sample) for every sample; return all codes."""
        positions = self.layout.positions
        codes = np.zeros((self.n_samples, self.code_shape[0], *positions), self.dtype)

        def block(start: int, stop: int) -> None:
            for sample in range(start, stop):
                function(self._planes(sample), codes[sample], sample)

        run_blocks(block, self.n_samples, _BLOCK)
        return torch.from_numpy(codes.reshape(self.n_samples, *self.code_shape)).to(self.device)

    def _planes(self, sample: int) -> Planes:
        y, offset, trials = (
            self.layout.plane(x[sample].astype(np.float64)) for x in (self.y, self.offset, self.trials)
        )
        return Planes(y, trials, offset, *(np.zeros_like(y) for _ in range(4)))


def _problem(
    y: Any, atoms: Any, likelihood: Likelihood | None, offset: Any, boundary: str, needed_by: str
) -> Problem:
    """Return the problem of arrays or tensors, its offset a tensor that fits them."""
    if likelihood is not None:
        _family_of(likelihood, needed_by)
    array = array_of(offset)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(f"offset: expected finite numbers, got {offset!r}")
    plain = convolutional_problem(y, atoms, likelihood=likelihood, boundary=boundary)
    return replace(plain, offset=torch.from_numpy(np.array(array)).to(plain.y))


def _family_of(likelihood: Likelihood, coder: str) -> int:
    if type(likelihood) not in _FAMILIES:
        raise IncompatibleError(
            f"{coder} needs likelihood to be Gaussian, Binomial or Poisson, got {type(likelihood).__name__}; "
            "ProximalCoder takes any likelihood"
        )
    return _FAMILIES[type(likelihood)]


def _expanded(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(array_of(value), shape)
