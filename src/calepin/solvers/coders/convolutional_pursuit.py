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
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from calepin.core.errors import IncompatibleError
from calepin.core.threads import run_blocks
from calepin.likelihoods import Binomial, Gaussian, Likelihood, Poisson
from calepin.solvers.kernels.conv_checks import array_of, check_boundary, check_convolutional
from calepin.solvers.kernels.conv_layout import Layout, code_shape, one_path, prepare_atoms
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
from calepin.solvers.kernels.encoding_checks import check_count

__all__ = ["ConvolutionalPursuitCoder", "convolutional_pursuit", "refit_codes"]

_FAMILIES = {Gaussian: GAUSSIAN, Binomial: BINOMIAL, Poisson: POISSON}
_BLOCK = 8  # samples
_REFIT_TOL = 1e-6
_REFIT_ITER = 100


@dataclass(frozen=True)
class ConvolutionalPursuitCoder:
    """Settings of `convolutional_pursuit`, for learners.

    Parameters
    ----------
    n_nonzero : int
        Most events of a sample.
    tol : float
        Largest correlation of an atom of unit norm with the working observation at which to stop.
    positive : bool
        Only nonnegative codes.
    boundary : {"zero", "circular"}
    """

    n_nonzero: int
    tol: float = 0.0
    positive: bool = True
    boundary: Literal["zero", "circular"] = "zero"

    def __post_init__(self) -> None:
        check_count(self.n_nonzero, "n_nonzero")
        if not 0 <= self.tol < float("inf"):
            raise ValueError(f"tol: expected a finite number of at least 0, got {self.tol!r}")
        check_boundary(self.positive, self.boundary)

    def encode(self, y: Any, atoms: Any, *, likelihood: Likelihood | None = None, offset: Any = 0.0) -> Any:
        """Return codes (n, n_atoms, *positions) of y (n, channels, *spatial)."""
        counts = _Counts(y, atoms, likelihood or Gaussian(), offset, self.boundary)
        limit = min(self.n_nonzero, int(np.prod(counts.code_shape)))

        def encode_one(planes: Planes, out: np.ndarray, _: int) -> None:
            found = pursue(
                planes,
                counts.atoms,
                counts.family,
                limit,
                # what rounding leaves of a correlation is none
                max(self.tol, 1e-10 * float(np.abs(planes.y).max())),
                self.positive,
                *counts.layout.positions,
                counts.layout.grid,
                _REFIT_TOL,
                _REFIT_ITER,
            )
            out[found.atom, found.row, found.col] = found.value

        return counts.encode(encode_one)


def convolutional_pursuit(
    y: Any,
    atoms: Any,
    *,
    n_nonzero: int,
    likelihood: Likelihood | None = None,
    offset: Any = 0.0,
    tol: float = 0.0,
    positive: bool = True,
    boundary: Literal["zero", "circular"] = "zero",
) -> Any:
    """Return sparse codes of signals or images of counts, one event at a time.

    Results don't depend on the number of threads.

    Parameters
    ----------
    y : array or tensor of shape (n, channels, *spatial)
        One or two spatial axes. Computed in float64 on the CPU.
    atoms : array or tensor of shape (n_atoms, channels, *kernel)
        Of any norm.
    n_nonzero : int
        Most events of a sample.
    likelihood : Gaussian, Binomial or Poisson, optional
        Gaussian by default.
    offset : float, array or tensor
        Known part of the linear predictor (a baseline); broadcasts against y.
    tol : float
        Largest correlation of an atom of unit norm with the working observation at which to stop.
    positive : bool
        Only nonnegative codes.
    boundary : {"zero", "circular"}
        Whether an atom lies inside the signal as a whole, or the signal is periodic.

    Returns
    -------
    codes : array or tensor of shape (n, n_atoms, *positions)

    Raises
    ------
    ValueError
        An argument is not what it must be.
    IncompatibleError
        The likelihood is none of the three.
    """
    coder = ConvolutionalPursuitCoder(n_nonzero, tol, positive, boundary)
    return coder.encode(y, atoms, likelihood=likelihood, offset=offset)


def refit_codes(
    y: Any,
    atoms: Any,
    support: Any,
    *,
    likelihood: Likelihood | None = None,
    offset: Any = 0.0,
    positive: bool = True,
    boundary: Literal["zero", "circular"] = "zero",
    tol: float = 1e-6,
    max_iter: int = 100,
) -> Any:
    """Return the codes of smallest nll among those with a given support: codes without their shrinkage.

    Newton's method, for each group of events that overlap on its own.

    Parameters
    ----------
    y, atoms, likelihood, offset, positive, boundary
        As in `convolutional_pursuit`.
    support : array or tensor of shape (n, n_atoms, *positions)
        Where codes may differ from zero: bool, or numbers, from which the fit starts (negative ones
        start from zero where codes are nonnegative).
    tol : float
        Stop where no coefficient alone could lower the nll by more than ``tol**2 / 2``.
    max_iter : int
        Most Newton steps.

    Returns
    -------
    codes : array or tensor, shape of `support`

    Warns
    -----
    ConvergenceWarning
        Some samples are not there after `max_iter` steps. A likelihood that falls for ever has no
        fit (all trials of an event succeed).
    """
    check_boundary(positive, boundary)
    check_count(max_iter, "max_iter")
    counts = _Counts(y, atoms, likelihood or Gaussian(), offset, boundary)
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
        events = Support(row, col, which, np.maximum(value, 0.0) if positive else value)
        add_events(planes, counts.atoms, events, counts.layout.grid)
        missed[sample] = not refit_clusters(
            planes, counts.atoms, events, counts.family, positive, counts.layout.grid, tol, max_iter
        )
        out[which, row, col] = events.value

    codes = counts.encode(fit_one)
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
    """Checked observations of one family, laid out for the kernels."""

    def __init__(self, y: Any, atoms: Any, likelihood: Likelihood, offset: Any, boundary: str) -> None:
        self.family = _family_of(likelihood)
        values, rows, _ = check_convolutional(y, atoms, None)
        likelihood.check(torch.from_numpy(values))
        trials = likelihood.trials if isinstance(likelihood, Binomial) else 1
        planes = (
            values,
            _broadcast(offset, values.shape, "offset"),
            _broadcast(trials, values.shape, "trials"),
        )
        self.given, self.n_samples = y, len(values)
        self.dtype = values.dtype
        self.code_shape = code_shape(values, rows, boundary)
        self.y, self.offset, self.trials, rows = one_path(*planes, rows.astype(np.float64))
        self.atoms = prepare_atoms(rows)
        self.layout = Layout(self.y.shape[1:], rows.shape[2:], boundary)

    def encode(self, function: Callable[[Planes, np.ndarray, int], None]) -> Any:
        """Call function(planes, code to write to, sample) for every sample; return all codes."""
        positions = self.layout.positions
        codes = np.zeros((self.n_samples, self.code_shape[0], *positions), self.dtype)

        def block(start: int, stop: int) -> None:
            for sample in range(start, stop):
                function(self._planes(sample), codes[sample], sample)

        run_blocks(block, self.n_samples, _BLOCK)
        codes = codes.reshape(self.n_samples, *self.code_shape)
        if isinstance(self.given, torch.Tensor):
            return torch.from_numpy(codes).to(self.given.device)
        return codes

    def _planes(self, sample: int) -> Planes:
        y, offset, trials = (
            self.layout.plane(x[sample].astype(np.float64)) for x in (self.y, self.offset, self.trials)
        )
        return Planes(y, trials, offset, *(np.zeros_like(y) for _ in range(4)))


def _family_of(likelihood: Likelihood) -> int:
    if type(likelihood) not in _FAMILIES:
        raise IncompatibleError(
            "convolutional pursuits and re-fits need likelihood to be Gaussian, Binomial or Poisson, "
            f"got {type(likelihood).__name__}"
        )
    return _FAMILIES[type(likelihood)]


def _broadcast(value: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    array = array_of(value)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {value!r}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name}: expected a shape that broadcasts to that of y, {shape}, got {array.shape}"
        ) from None
