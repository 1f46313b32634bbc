"""Greedy pursuits on the CPU: OMP and OLS, by number of atoms or by error.

    minimise over z   ||x - z D||^2     with at most n_nonzero nonzeros, or
    minimise over z   ||z||_0           with ||x - z D||^2 <= tol,

both one atom at a time, with all coefficients refitted in each step (optionally z >= 0). With a tolerance,
the true residual is checked, and a sample that misses it by rounding errors is coded again in float64.
"""

from dataclasses import replace

import numpy as np

from calepin.core.compiled import bits_of
from calepin.core.threads import run_blocks
from calepin.solvers.kernels.blocks import (
    Encoded,
    PreparedAtoms,
    block_size,
    join_codes,
    observed_block,
    replace_rows,
)
from calepin.solvers.kernels.certificate import residuals
from calepin.solvers.kernels.nonnegative_pursuit import nonnegative_pursuit
from calepin.solvers.kernels.pursuit import pursuit

__all__ = ["encode_pursuit"]


def encode_pursuit(
    X: np.ndarray,
    atoms: np.ndarray,
    *,
    n_nonzero: int | None = None,
    tol: np.ndarray | None = None,
    selection: str = "omp",
    nonnegative: bool = False,
    mask: np.ndarray | None = None,
    certify: bool = True,
) -> Encoded:
    """Return greedy codes of checked samples.

    Parameters
    ----------
    X : ndarray of float32 or float64, shape (n_samples, n_features)
        Samples.
    atoms : ndarray, same dtype, shape (n_components, n_features)
        Atoms.
    n_nonzero : int, optional
        Largest number of atoms.
    tol : ndarray of float64, shape (n_samples,), optional
        Squared residual norm at which to stop.
    selection : {"omp", "ols"}, default "omp"
        Rule that selects the next atom.
    nonnegative : bool, default False
        Whether codes are nonnegative.
    mask : ndarray of bool, shape of X, optional
        True where an entry is observed.
    certify : bool, default True
        Whether to compute residuals even without a `tol`.
    """
    prepared = PreparedAtoms.of(atoms, X.dtype)
    limit = min(X.shape[1], prepared.n_components, n_nonzero or len(prepared.atoms))
    goals = np.full(len(X), -1.0) if tol is None else tol
    certify = certify or tol is not None
    run = _Run(prepared, limit, selection == "ols", nonnegative, X.dtype)
    encoded = run(X, goals, mask, certify)
    if tol is not None and encoded.residual is not None:
        short = (encoded.residual > tol) & (np.diff(encoded.codes.indptr) < (n_nonzero or np.inf))
        # An error of zero cannot be reached in any precision: do not try again.
        rows = np.flatnonzero(short & (tol > 0)) if X.dtype != np.float64 else []
        if len(rows):
            encoded = _refine(encoded, rows, run, X, goals, mask)
    encoded.codes.data /= X.dtype.type(prepared.scale)
    return encoded


class _Run:
    """A pursuit with one dictionary, one selection rule and one precision; codes are rounded to `dtype`."""

    def __init__(self, atoms: PreparedAtoms, limit: int, orthogonal: bool, nonnegative: bool, dtype):
        self.atoms, self.limit, self.dtype = atoms, limit, dtype
        self.orthogonal, self.nonnegative = orthogonal, nonnegative

    def __call__(self, X, goals, mask, certify: bool) -> Encoded:
        if mask is None:
            _ = self.atoms.gram  # computed before threads need it
        blocks = run_blocks(
            lambda start, stop: self._block(X, goals, mask, start, stop, certify),
            len(X),
            block_size(len(X)),
        )
        codes = join_codes([block[0] for block in blocks], self.atoms.n_components, self.dtype)
        residual = np.concatenate([block[1] for block in blocks]) if certify else None
        return Encoded(codes, residual)

    def _block(self, X, goals, mask, start: int, stop: int, certify: bool):
        D = self.atoms.atoms
        X, observed = observed_block(X, mask, start, stop, D.dtype)
        B = X @ D.T
        eps = np.finfo(D.dtype).eps
        energies = np.einsum("ij,ij->i", X, X, dtype=np.float64)
        norms = self.atoms.energies(observed)
        # Goals are lowered by the rounding errors of sums of squares, so that no pursuit stops early.
        slack = (eps if D.dtype == self.dtype else 1e-13) * energies
        kernel = nonnegative_pursuit if self.nonnegative else pursuit
        codes = kernel(
            B, *self.atoms.gram_rows(mask is not None), D, observed, norms, energies,
            np.maximum(goals[start:stop] - slack, -1.0), self.limit, self.orthogonal,
            D.dtype.type(64 * eps), bits_of(D.dtype),
        )  # fmt: skip
        if not certify:
            return codes, np.empty(0)
        counts, columns, values = codes
        values = values.astype(self.dtype, copy=False).astype(D.dtype, copy=False)
        energy = np.empty((len(X), 4))
        skip = np.ones(len(X), dtype=bool)
        residuals(X, D, observed, counts, columns, values, skip, np.empty_like(X[:1]), energy)
        return codes, energy[:, 0].copy()


def _refine(encoded: Encoded, rows, run: _Run, X, goals, mask) -> Encoded:
    """Code some samples again in float64."""
    atoms = replace(run.atoms, atoms=run.atoms.atoms.astype(np.float64))
    double = _Run(atoms, run.limit, run.orthogonal, run.nonnegative, run.dtype)
    new = double(X[rows].astype(np.float64), goals[rows], None if mask is None else mask[rows], True)
    codes = replace_rows(encoded.codes, rows, new.codes)
    residual = encoded.residual
    if residual is not None:
        residual[rows] = new.residual
    return Encoded(codes, residual, n_refined=len(rows))
