"""The exact lasso on the CPU: homotopy, a certificate for each sample, and a fallback.

    minimise over z   0.5 ||x - z D||^2 + alpha ||z||_1      (optionally z >= 0)

The homotopy runs on blocks of samples, in the precision of the samples. The duality gap is then computed
from the true residual. A sample whose gap is too large is coded again in float64, and if the homotopy fails
(duplicate atoms, ties), by coordinate descent.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from calepin.core.compiled import bits_of
from calepin.core.threads import run_blocks
from calepin.solvers.kernels.blocks import (
    Codes,
    Encoded,
    PreparedAtoms,
    block_size,
    codes_of,
    join_codes,
    observed_block,
    replace_rows,
)
from calepin.solvers.kernels.certificate import duality_gaps, residuals
from calepin.solvers.kernels.descent import descend
from calepin.solvers.kernels.homotopy import homotopy

__all__ = ["encode_lasso"]

MAX_SWEEPS = 4000


def encode_lasso(
    X: np.ndarray,
    atoms: np.ndarray,
    alpha: float,
    *,
    tol: float = 1e-6,
    nonnegative: bool = False,
    mask: np.ndarray | None = None,
    certify: bool = True,
) -> Encoded:
    """Return lasso codes of checked samples.

    Parameters
    ----------
    X : ndarray of float32 or float64, shape (n_samples, n_features)
        Samples.
    atoms : ndarray, same dtype, shape (n_components, n_features)
        Atoms.
    alpha : float
        Weight of the l1 norm, positive.
    tol : float, default 1e-6
        Duality gap to reach, relative to ||x||^2.
    nonnegative : bool, default False
        Whether codes are nonnegative.
    mask : ndarray of bool, shape of X, optional
        True where an entry is observed.
    certify : bool, default True
        Whether to compute gaps and residuals. If not, only samples whose homotopy failed are coded again.

    Warns
    -----
    ConvergenceWarning
        The gap of some samples exceeds the tolerance even after coordinate descent.
    """
    job = _Job(X, PreparedAtoms.of(atoms, X.dtype), alpha, tol, nonnegative, mask, X.dtype)
    encoded, failed = job.solve(certify)
    if len(failed):
        encoded = _refine(encoded, failed, job)
    codes = encoded.codes
    codes.data /= X.dtype.type(job.atoms.scale)
    return encoded


class _Job:
    """Samples to code with one dictionary, in one precision; codes are rounded to `dtype`."""

    def __init__(self, X, atoms: PreparedAtoms, alpha, tol, nonnegative, mask, dtype):
        self.X, self.atoms, self.mask, self.dtype = X, atoms, mask, dtype
        self.tol, self.nonnegative = tol, nonnegative
        self.given_alpha = alpha
        self.alpha = alpha / atoms.scale
        self.largest = min(X.shape[1], atoms.n_components)
        self.tie = X.dtype.type(1e-5 if X.dtype == np.float32 else 1e-10)

    def subset(self, rows: np.ndarray, dtype: type) -> "_Job":
        """Return the job of some of the samples, in another precision."""
        atoms = self.atoms
        if self.X.dtype != dtype:
            atoms = replace(atoms, atoms=atoms.atoms.astype(dtype))
        mask = None if self.mask is None else self.mask[rows]
        X = self.X[rows].astype(dtype)
        return _Job(X, atoms, self.given_alpha, self.tol, self.nonnegative, mask, self.dtype)

    def solve(self, certify: bool) -> tuple[Encoded, np.ndarray]:
        """Run the homotopy; return codes and the samples that failed."""
        if self.mask is None:
            _ = self.atoms.gram  # computed before threads need it
        blocks = self._run(lambda start, stop: self._path_block(start, stop, certify))
        return self._collect(blocks, certify)

    def descend(self, codes: Any) -> tuple[Encoded, np.ndarray]:
        """Improve codes by coordinate descent; return them and the samples that failed."""
        if self.mask is None:
            _ = self.atoms.gram
        blocks = self._run(lambda start, stop: self._descent_block(codes, start, stop))
        return self._collect(blocks, True)

    def _run(self, function):
        n = len(self.X)
        return run_blocks(function, n, block_size(n))

    def _collect(self, blocks, certify: bool) -> tuple[Encoded, np.ndarray]:
        codes = join_codes([block[0] for block in blocks], self.atoms.n_components, self.dtype)
        well = np.concatenate([block[1] for block in blocks])
        if not certify:
            return Encoded(codes), np.flatnonzero(~well)
        residual, gap, energy = (np.concatenate([block[k] for block in blocks]) for k in (2, 3, 4))
        failed = np.flatnonzero(~(gap <= self.tol * energy))
        return Encoded(codes, residual, gap), failed

    def _path_block(self, start: int, stop: int, certify: bool):
        X, mask = observed_block(self.X, self.mask, start, stop, self.X.dtype)
        D = self.atoms.atoms
        B = X @ D.T
        gram, filled = self.atoms.gram_rows(self.mask is not None)
        counts, columns, values, well = homotopy(
            B, gram, filled, D, mask, B.dtype.type(self.alpha), self.nonnegative, self.largest,
            self.tie, bits_of(B.dtype),
        )  # fmt: skip
        codes = counts, columns, values
        if not certify:
            return codes, well
        return self._rounded(codes), well, *self._certify(X, mask, codes, well, B)

    def _descent_block(self, codes: Any, start: int, stop: int):
        X, mask = observed_block(self.X, self.mask, start, stop, self.X.dtype)
        D = self.atoms.atoms
        B = X @ D.T
        gram, filled = self.atoms.gram_rows(self.mask is not None)
        Z = np.zeros_like(B)
        Z[:, : codes.shape[1]] = codes[start:stop].toarray()
        energies = np.square(X).sum(1)
        descend(
            Z, B, gram, filled, D, mask, self.atoms.energies(mask), energies, self.alpha,
            self.nonnegative, 0.25 * self.tol * energies, MAX_SWEEPS, self.largest,
        )  # fmt: skip
        found = codes_of(Z)
        well = np.zeros(len(X), dtype=bool)
        return self._rounded(found), well, *self._certify(X, mask, found, well, B)

    def _rounded(self, codes: Codes) -> Codes:
        counts, columns, values = codes
        return counts, columns, values.astype(self.dtype, copy=False)

    def _certify(self, X, mask, codes: Codes, well, work):
        """Return squared residual norms, duality gaps and squared norms of a block."""
        skip = well & (codes[0] == 0)  # no correlation exceeds alpha: zero is optimal
        R, gaps = np.empty((len(X) + 1, X.shape[1]), X.dtype), np.empty(len(X))
        dual_energy = np.empty((len(X), 4))
        D = self.atoms.atoms
        rows = residuals(X, D, mask, *codes, skip, R, dual_energy)
        C = np.matmul(R[:rows], D.T, out=work[:rows])
        energy = dual_energy
        if self.dtype != X.dtype:
            energy = np.empty_like(dual_energy)
            counts, columns, values = self._rounded(codes)
            residuals(X, D, mask, counts, columns, values.astype(X.dtype), skip, R, energy)
        duality_gaps(
            C, C.view(bits_of(C.dtype)), energy, dual_energy, skip, self.alpha, self.nonnegative, gaps
        )
        return energy[:, 0].copy(), gaps, energy[:, 2].copy()


def _refine(encoded: Encoded, failed: np.ndarray, job: _Job) -> Encoded:
    """Code failed samples again in float64, then by coordinate descent; warn if some still fail."""
    rows = failed
    if job.dtype != np.float64:
        encoded, rows = _keep(encoded, rows, *job.subset(rows, np.float64).solve(True))
    if len(rows):
        codes: Any = encoded.codes
        start = codes[rows].astype(np.float64)
        encoded, rows = _keep(encoded, rows, *job.subset(rows, np.float64).descend(start))
    if len(rows):
        _warn(rows, len(job.X), job)
    return replace(encoded, n_refined=len(failed))


def _keep(encoded: Encoded, rows: np.ndarray, new: Encoded, failed: np.ndarray):
    """Replace the codes of some samples; return all codes and the samples that failed."""
    codes = replace_rows(encoded.codes, rows, new.codes)
    residual, gap = encoded.residual, encoded.gap
    if residual is not None and gap is not None:
        residual[rows], gap[rows] = new.residual, new.gap
    return Encoded(codes, residual, gap), rows[failed]


def _warn(rows: np.ndarray, n_samples: int, job: _Job) -> None:
    from sklearn.exceptions import ConvergenceWarning

    warnings.warn(
        f"the duality gap of {len(rows)} of {n_samples} samples exceeds tol = {job.tol:g} times "
        f"||x||^2 (the first is sample {rows[0]})",
        ConvergenceWarning,
        stacklevel=4,
    )
