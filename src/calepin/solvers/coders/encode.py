"""Sparse codes of samples, given the atoms: one function for users, one value per method for learners.

    lasso      minimise  0.5 ||x - z D||^2 + alpha ||z||_1        to a certified duality gap
    omp, ols   at most n_nonzero atoms, or until ||x - z D||^2 <= tol, one atom at a time
    iht        z <- H_b(z + step (x - z D) D^T)                   hard threshold b

Arrays and CPU tensors go to compiled kernels (`lasso`, `greedy`), tensors on a GPU to batched torch.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse

from calepin.core.threads import run_blocks
from calepin.solvers.kernels.encoding_checks import (
    check_count,
    check_finite,
    check_mask,
    check_matrix,
    check_positive,
    check_tol,
    common_dtype,
)

__all__ = ["EncodingInfo", "IHTCoder", "LassoCoder", "PursuitCoder", "objective", "sparse_encode"]

METHODS = ("lasso", "omp", "ols")
OUTPUTS = ("dense", "csr")


@dataclass(frozen=True)
class EncodingInfo:
    """What is known of codes.

    Parameters
    ----------
    gap : array of float64, shape (n_samples,), or None
        Certified duality gap, 0.5 ||x - z D||^2 + alpha ||z||_1 exceeds its minimum by at most this
        (lasso only). Computed from the true residual.
    residual : array of float64, shape (n_samples,)
        ||x - z D||^2 over the observed entries.
    n_refined : int
        Samples that were coded again in float64.
    """

    gap: Any
    residual: Any
    n_refined: int


@dataclass(frozen=True)
class LassoCoder:
    """Codes by the lasso.

    Parameters
    ----------
    alpha : float
        Weight of the l1 norm, positive.
    tol : float
        Duality gap to reach, relative to ||x||^2.
    positive : bool
        Only nonnegative codes.
    """

    alpha: float
    tol: float = 1e-6
    positive: bool = False

    def __post_init__(self) -> None:
        check_positive(self.alpha, "alpha")
        check_positive(self.tol, "tol")

    def encode(self, X: Any, atoms: Any, mask: Any = None) -> Any:
        """Return codes: CSR for arrays, a dense tensor for tensors. Gaps are not certified."""
        return _encode(self, X, atoms, mask, certify=False)[0]

    def penalty(self, codes: Any) -> Any:
        """Return alpha ||z||_1 of each code, shape (n_samples,)."""
        return self.alpha * _row_sums(abs(codes))

    def _on_arrays(self, X: np.ndarray, atoms: np.ndarray, mask: np.ndarray | None, certify: bool):
        from calepin.solvers.kernels.encode_lasso import encode_lasso

        return encode_lasso(
            X, atoms, self.alpha, tol=self.tol, positive=self.positive, mask=mask, certify=certify
        )

    def _on_tensors(self, X, atoms, mask):
        from calepin.solvers.kernels.torch_lasso import batched_lasso

        return batched_lasso(X, atoms, self.alpha, tol=self.tol, positive=self.positive, mask=mask)


@dataclass(frozen=True)
class PursuitCoder:
    """Codes by a greedy pursuit.

    Parameters
    ----------
    n_nonzero : int, optional
        Largest number of atoms.
    tol : float or array of shape (n_samples,), optional
        Squared residual norm at which to stop. One of the two is needed.
    positive : bool
        Only nonnegative codes.
    selection : {"omp", "ols"}
        The atom most correlated with the residual, |<d, r>| / ||d||, or the one that lowers the
        residual most.
    """

    n_nonzero: int | None = None
    tol: Any = None
    positive: bool = False
    selection: Literal["omp", "ols"] = "omp"

    def __post_init__(self) -> None:
        if self.selection not in ("omp", "ols"):
            raise ValueError(f'selection: expected "omp" or "ols", got {self.selection!r}')
        if self.n_nonzero is None and self.tol is None:
            raise ValueError("n_nonzero: expected a number of atoms, or tol given, got neither")
        if self.n_nonzero is not None:
            check_count(self.n_nonzero, "n_nonzero")
        if self.tol is not None and np.ndim(self.tol) == 0:
            check_tol(self.tol, None)

    def encode(self, X: Any, atoms: Any, mask: Any = None) -> Any:
        """Return codes: CSR for arrays, a dense tensor for tensors."""
        return _encode(self, X, atoms, mask, certify=False)[0]

    def penalty(self, codes: Any) -> Any:
        """Return zero for each code, shape (n_samples,)."""
        return 0 * _row_sums(abs(codes))

    def _on_arrays(self, X: np.ndarray, atoms: np.ndarray, mask: np.ndarray | None, certify: bool):
        from calepin.solvers.kernels.encode_pursuit import encode_pursuit

        return encode_pursuit(X, atoms, **self._settings(X, atoms), mask=mask, certify=certify)

    def _on_tensors(self, X, atoms, mask):
        from calepin.solvers.kernels.torch_pursuit import batched_pursuit

        return batched_pursuit(X, atoms, **self._settings(X, atoms), mask=mask)

    def _settings(self, X: Any, atoms: Any) -> dict[str, Any]:
        """Return what both implementations take, checked against samples and atoms."""
        if self.n_nonzero is not None:
            check_count(self.n_nonzero, "n_nonzero", len(atoms))
        return {
            "n_nonzero": self.n_nonzero,
            "tol": None if self.tol is None else check_tol(self.tol, len(X)),
            "selection": self.selection,
            "positive": self.positive,
        }


@dataclass(frozen=True)
class IHTCoder:
    """Codes by iterative hard thresholding (Rambhatla, Li and Haupt 2019, Algorithm 1).

    z starts at zero and moves to H_b(z + step_size (x - z D) D^T), where H_b keeps entries of at
    least b in size; b does not depend on the step size. Meant for atoms of unit norm.

    Parameters
    ----------
    threshold : float
        b, positive.
    positive : bool
        Only nonnegative codes.
    step_size : float
    n_iter : int
    """

    threshold: float
    positive: bool = False
    step_size: float = 0.2
    n_iter: int = 50

    def __post_init__(self) -> None:
        check_positive(self.threshold, "threshold")
        check_positive(self.step_size, "step_size")
        check_count(self.n_iter, "n_iter")

    def encode(self, X: Any, atoms: Any, mask: Any = None) -> Any:
        """Return codes: CSR for arrays, a dense tensor for tensors."""
        return _encode(self, X, atoms, mask, certify=False)[0]

    def penalty(self, codes: Any) -> Any:
        """Return zero for each code, shape (n_samples,)."""
        return 0 * _row_sums(abs(codes))

    def _on_arrays(self, X: np.ndarray, atoms: np.ndarray, mask: np.ndarray | None, certify: bool):
        from calepin.solvers.kernels.blocks import Encoded

        def block(start: int, stop: int) -> sparse.csr_array:
            rows = slice(start, stop)
            observed = None if mask is None else mask[rows]
            x = X[rows] if observed is None else np.where(observed, X[rows], X.dtype.type(0))
            return sparse.csr_array(self._iterate(x, atoms, observed))

        return Encoded(sparse.csr_array(sparse.vstack(run_blocks(block, len(X), 256), format="csr")))

    def _on_tensors(self, X, atoms, mask):
        X = X if mask is None else torch.where(mask, X, 0)
        return self._iterate(X, atoms, mask), None, None, 0

    def _iterate(self, X: Any, atoms: Any, mask: Any) -> Any:
        codes = 0 * (X @ atoms.T)
        for _ in range(self.n_iter):
            rest = X - codes @ atoms
            moved = codes + self.step_size * ((rest if mask is None else rest * mask) @ atoms.T)
            codes = moved * ((moved if self.positive else abs(moved)) >= self.threshold)
        return codes


def sparse_encode(
    X: Any,
    atoms: Any,
    *,
    method: Literal["lasso", "omp", "ols"] = "lasso",
    alpha: float | None = None,
    n_nonzero: int | None = None,
    tol: Any = None,
    positive: bool = False,
    mask: Any = None,
    output: Literal["dense", "csr"] = "dense",
    return_info: bool = False,
) -> Any:
    """Return sparse codes of samples, z such that x is close to z D.

    ``"lasso"`` minimises 0.5 ||x - z D||^2 + alpha ||z||_1, by homotopy (Osborne et al. 2000; Efron
    et al. 2004), to a duality gap that is computed for every sample. ``"omp"`` (Pati et al. 1993) and
    ``"ols"`` (Chen et al. 1989) add one atom at a time and fit all coefficients anew, until there are
    n_nonzero or ||x - z D||^2 <= tol. Results don't depend on the number of threads.

    Parameters
    ----------
    X : array or tensor of shape (n_samples, n_features)
        Samples. float32 is kept where atoms are float32 too; all else is computed in float64.
    atoms : array or tensor of shape (n_components, n_features)
        Rows are atoms, of any norm.
    method : {"lasso", "omp", "ols"}
    alpha : float
        Weight of the l1 norm, positive (lasso only).
    n_nonzero : int, optional
        Largest number of atoms for a sample (omp and ols).
    tol : float, or array of shape (n_samples,) for omp and ols
        Lasso: duality gap to reach, relative to ||x||^2, 1e-6 unless given. omp and ols: squared
        residual norm at which to stop.
    positive : bool
        Only nonnegative codes.
    mask : array or tensor of bool, shape of X, optional
        True where an entry is observed; the others take no part, and may be NaN.
    output : {"dense", "csr"}
        csr: a scipy CSR array with sorted indices, for arrays only.
    return_info : bool
        Return an EncodingInfo besides.

    Returns
    -------
    codes : array, csr_array or tensor of shape (n_samples, n_components)
        Tensors for tensors, on the device of X.
    info : EncodingInfo
        Only with `return_info`.

    Raises
    ------
    ValueError
        An argument is not what it must be.

    Warns
    -----
    ConvergenceWarning
        The duality gap of some samples exceeds the goal (lasso).
    """
    coder = _coder(method, alpha, n_nonzero, tol, positive)
    if output not in OUTPUTS:
        raise ValueError(f'output: expected "dense" or "csr", got {output!r}')
    if output == "csr" and isinstance(X, torch.Tensor):
        raise ValueError('output: expected "dense" for tensors, got "csr"')
    certify = return_info or method == "lasso"
    codes, info = _encode(coder, X, atoms, mask, certify=certify)
    if output == "dense" and sparse.issparse(codes):
        codes = codes.toarray()
    return (codes, info) if return_info else codes


def objective(X: Any, codes: Any, atoms: Any, *, coder: Any, mask: Any = None) -> Any:
    """Return 0.5 ||x - z D||^2 over observed entries, plus the coder's penalty, shape (n_samples,)."""
    rest = X - codes @ atoms
    if mask is not None:
        rest = torch.where(mask, rest, 0) if isinstance(rest, torch.Tensor) else np.where(mask, rest, 0)
    return 0.5 * (rest * rest).sum(1) + coder.penalty(codes)


def _coder(method: str, alpha, n_nonzero, tol, positive) -> "LassoCoder | PursuitCoder":
    if method not in METHODS:
        raise ValueError(f'method: expected "lasso", "omp" or "ols", got {method!r}')
    if not isinstance(positive, bool | np.bool_):
        raise ValueError(f"positive: expected True or False, got {positive!r}")
    if method == "lasso":
        if alpha is None:
            raise ValueError('alpha: expected a positive number for method "lasso", got None')
        if n_nonzero is not None:
            raise ValueError(f'n_nonzero: expected None for method "lasso", got {n_nonzero!r}')
        return LassoCoder(alpha, 1e-6 if tol is None else tol, bool(positive))
    if alpha is not None:
        raise ValueError(f'alpha: expected None for method "{method}", got {alpha!r}')
    return PursuitCoder(n_nonzero, tol, bool(positive), "omp" if method == "omp" else "ols")


def _encode(coder, X: Any, atoms: Any, mask: Any, *, certify: bool) -> tuple[Any, EncodingInfo]:
    if isinstance(X, torch.Tensor) and X.is_cuda:
        return _encode_on_device(coder, X, atoms, mask)
    values = check_matrix(X, "X", "(n_samples, n_features)")
    rows = check_matrix(atoms, "atoms", "(n_components, n_features)")
    _check_features(values, rows)
    observed = check_mask(mask, values.shape)
    check_finite(values, "X", observed)
    check_finite(rows, "atoms")
    dtype = common_dtype(values, rows)
    values = np.ascontiguousarray(values, dtype)
    rows = np.ascontiguousarray(rows, dtype)
    found = coder._on_arrays(values, rows, observed, certify)
    if not isinstance(X, torch.Tensor):
        return found.codes, EncodingInfo(found.gap, found.residual, found.n_refined)
    gap, residual = (None if v is None else torch.from_numpy(v) for v in (found.gap, found.residual))
    return torch.from_numpy(found.codes.toarray()), EncodingInfo(gap, residual, found.n_refined)


def _encode_on_device(coder, X: torch.Tensor, atoms: Any, mask: Any) -> tuple[Any, EncodingInfo]:
    atoms = torch.as_tensor(atoms, device=X.device)
    for name, values, shape in (
        ("X", X, "(n_samples, n_features)"),
        ("atoms", atoms, "(n_components, n_features)"),
    ):
        check_matrix(np.broadcast_to(np.zeros((), _numpy_dtype(values)), values.shape), name, shape)
    _check_features(X, atoms)
    if mask is not None:
        mask = torch.as_tensor(mask, device=X.device)
        check_mask(np.broadcast_to(np.zeros((), _numpy_dtype(mask)), mask.shape), tuple(X.shape))
    dtype = torch.float32 if X.dtype == atoms.dtype == torch.float32 else torch.float64
    X, atoms = X.detach().to(dtype), atoms.detach().to(dtype)
    known = X if mask is None else torch.where(mask, X, 0)
    for name, values in (("X", known), ("atoms", atoms)):
        if not values.isfinite().all():
            raise ValueError(f"{name}: expected finite values, it holds NaN or infinity")
    codes, gap, residual, n_refined = coder._on_tensors(known, atoms, mask)
    return codes, EncodingInfo(gap, residual, n_refined)


def _check_features(X: Any, atoms: Any) -> None:
    if X.shape[1] != atoms.shape[1]:
        raise ValueError(
            f"atoms: expected as many features as X, {X.shape[1]}, got shape {tuple(atoms.shape)}"
        )


def _numpy_dtype(values: torch.Tensor) -> np.dtype:
    return torch.empty(0, dtype=values.dtype).numpy().dtype


def _row_sums(codes: Any) -> Any:
    return codes.sum(1)
