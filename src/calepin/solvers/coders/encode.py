"""Sparse codes of samples for given atoms.

lasso      minimise  0.5 ||x - z D||^2 + alpha ||z||_1        to a certified duality gap
omp, ols   at most n_nonzero atoms, or until ||x - z D||^2 <= tol, one atom at a time
a coder    its own objective and likelihood
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from calepin.core.arguments import check_arguments
from calepin.core.arrays import as_array, is_stored, unmasked
from calepin.core.checks import all_finite, check_boolean, check_methods, check_one_of, check_tensor
from calepin.likelihoods import Gaussian, Likelihood
from calepin.operators.base import LinearOperator
from calepin.operators.dense import Dense
from calepin.operators.mask import Mask
from calepin.penalties import Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import Coder, Codes, like_input
from calepin.solvers.coders.lasso import LassoCoder
from calepin.solvers.coders.proximal import ProximalCoder
from calepin.solvers.coders.pursuit import PursuitCoder
from calepin.solvers.kernels.checks import array_of, check_finite, check_mask, check_matrix

__all__ = ["codes_as", "dense_problem", "sparse_encode"]

METHODS = ("lasso", "omp", "ols")
OUTPUTS = ("dense", "csr")
_MAX_ITER, _TOL = 10_000, 1e-6  # of FISTA
_BLOCK = 4096  # rows of a sparse matrix or of a file that become dense together


def sparse_encode(
    X: Any,
    atoms: Any,
    *,
    method: Literal["lasso", "omp", "ols"] | Coder = "lasso",
    alpha: float | None = None,
    n_nonzero: int | None = None,
    tol: Any = None,
    nonnegative: bool = False,
    penalty: Penalty | None = None,
    likelihood: Likelihood | None = None,
    mask: Any = None,
    output: Literal["dense", "csr"] = "dense",
    return_info: bool = False,
) -> Any:
    """Return sparse codes z of samples x, such that x is close to z D.

    ``"lasso"`` minimises 0.5 ||x - z D||^2 + alpha ||z||_1, by homotopy (Osborne et al. 2000; Efron
    et al. 2004), to a duality gap that is computed for every sample. ``"omp"`` (Pati et al. 1993) and
    ``"ols"`` (Chen et al. 1989) add one atom at a time and refit all coefficients, until there are
    n_nonzero atoms or ||x - z D||^2 <= tol. With a `penalty`, or a `likelihood` that is not Gaussian,
    ``nll(z D, x) + penalty(z)`` is minimised by FISTA instead. Results do not depend on the number of
    threads.

    Parameters
    ----------
    X : array, tensor or sparse matrix of shape (n_samples, n_features)
        Samples. A sparse matrix, or a dataset of h5py or zarr, becomes dense block by block. Codes are
        float32 if X and atoms are float32 or half precision, and float64 otherwise.
    atoms : array, tensor or sparse matrix of shape (n_components, n_features), or LinearOperator
        Rows are atoms, of any norm; an operator maps codes to samples.
    method : {"lasso", "omp", "ols"} or Coder, default "lasso"
        Method by name, or a coder with its own settings.
    alpha : float, optional
        Weight of the l1 norm, positive (lasso only).
    n_nonzero : int, optional
        Largest number of atoms of a sample (omp and ols).
    tol : float, or array of shape (n_samples,) for omp and ols, optional
        Lasso: duality gap to reach, relative to ||x||^2, by default 1e-6. FISTA: relative change of a code
        in one iteration, by default 1e-6. omp and ols: squared residual norm at which to stop.
    nonnegative : bool, default False
        Whether codes are nonnegative.
    penalty : Penalty, optional
        Penalty that replaces alpha ||z||_1.
    likelihood : Likelihood, optional
        Family of the samples, Gaussian by default.
    mask : array or tensor of bool, shape of X, optional
        True where an entry is observed; other entries are ignored and may be NaN.
    output : {"dense", "csr"}, default "dense"
        "csr" gives a SciPy CSR array with sorted indices; not for tensors.
    return_info : bool, default False
        Whether to return also the `Codes`, with gaps, residuals and convergence of each sample.

    Returns
    -------
    codes : array, csr_array or tensor of shape (n_samples, n_components)
        A tensor, on the device of X, if X is a tensor.
    info : Codes
        Only with `return_info`.

    Raises
    ------
    ValueError
        If an argument has an invalid value, shape or dtype.
    IncompatibleError
        If the coder does not support the likelihood or the operator.

    Warns
    -----
    ConvergenceWarning
        Some samples have not converged: their duality gap (lasso) or last change (FISTA) exceeds `tol`.
    """
    coder = _coder(method, alpha, n_nonzero, tol, nonnegative, penalty, likelihood, certify=return_info)
    check_one_of("output", output, OUTPUTS)
    if likelihood is not None:
        check_methods("likelihood", likelihood, "nll", "score", "mean")
    check_arguments(sparse_encode, locals())
    if output == "csr" and isinstance(X, Tensor):
        raise ValueError("output: expected 'dense' for tensors, got 'csr'")
    X = _single_precision("X", X)
    if isinstance(X, np.ma.MaskedArray):
        X, mask = unmasked(X, None if mask is None else check_mask(mask, X.shape))
    if not isinstance(atoms, LinearOperator):
        atoms = _single_precision("atoms", as_array(atoms) if sparse.issparse(atoms) else atoms)
    # settings of each sample belong to all samples at once
    own: Any = getattr(coder, "tol", None)
    whole = np.ndim(own) > 0 or hasattr(likelihood, "take")
    with _names_samples():
        found = _joined(
            [
                coder.encode(_problem(rows, atoms, likelihood or Gaussian(), known))
                for rows, known in _blocks(X, mask, whole=whole)
            ]
        )
    values = found.dense() if isinstance(X, Tensor) else codes_as(output, found.values)
    return (values, like_input(found, values)) if return_info else values


def codes_as(output: str, values: Any) -> Any:
    """Return the values of `Codes` as an array ("dense") or as a CSR array ("csr")."""
    if output == "dense":
        return values.toarray() if sparse.issparse(values) else values.detach().cpu().numpy()
    return values if sparse.issparse(values) else sparse.csr_array(values.detach().cpu().numpy())


def dense_problem(y: Tensor, atoms: Tensor, observed: Tensor | None = None) -> Problem:
    """Return the Gaussian problem of coding samples y (n, m) by atoms (p, m).

    Where `observed` is False, y is ignored and may be NaN.
    """
    check_arguments(dense_problem, locals())
    if not all_finite(atoms):
        raise ValueError("atoms: expected finite values, got NaN or infinity")
    if observed is not None and observed.shape != y.shape:
        raise ValueError(f"observed: expected the shape of y, {tuple(y.shape)}, got {tuple(observed.shape)}")
    if observed is None:
        return Problem(Dense(atoms), Gaussian(), y)
    check_tensor("y", y)
    operator = Mask(observed, per_sample=True) @ Dense(atoms)
    return Problem(operator, Gaussian(), torch.where(observed, y, 0))


def _single_precision(name: str, values: Any) -> Any:
    """Return half precision as float32, lists as arrays, and anything else unchanged."""
    if isinstance(values, Tensor):
        values = values if values.layout == torch.strided else values.to_dense()
        return values.float() if values.is_floating_point() and values.element_size() < 4 else values
    half = isinstance(values, np.ndarray) and values.dtype == np.float16
    return array_of(name, values) if half or isinstance(values, list | tuple) else values


def _blocks(X: Any, mask: Any, *, whole: bool) -> Iterator[tuple[Any, Any]]:
    """Yield samples and their masks, sparse and stored ones as dense blocks unless the `whole` is needed."""
    if not sparse.issparse(X) and not is_stored(X):
        yield X, mask
        return
    shape = tuple(X.shape)
    if len(shape) != 2:
        raise ValueError(f"X: expected shape (n_samples, n_features), got {shape}")
    X = X.tocsr() if sparse.issparse(X) else X
    mask = None if mask is None else check_mask(as_array(mask), shape)
    size = max(1, shape[0] if whole else _BLOCK)
    for start in range(0, max(1, shape[0]), size):
        rows = slice(start, start + size)
        yield as_array(X[rows]), None if mask is None else mask[rows]


def _joined(parts: list[Codes]) -> Codes:
    """Return the codes of blocks as those of all samples."""
    if len(parts) == 1:
        return parts[0]
    values = [part.values for part in parts]
    dense = not sparse.issparse(values[0])
    known = {
        name: None if getattr(parts[0], name) is None else torch.cat([getattr(part, name) for part in parts])
        for name in ("gap", "residual", "converged")
    }
    return replace(
        parts[0], values=torch.cat(values) if dense else sparse.csr_array(sparse.vstack(values)), **known
    )


def _coder(
    method: Any,
    alpha: float | None,
    n_nonzero: int | None,
    tol: Any,
    nonnegative: bool,
    penalty: Penalty | None,
    likelihood: Likelihood | None,
    *,
    certify: bool,
) -> Coder:
    given = {"alpha": alpha, "n_nonzero": n_nonzero, "tol": tol, "penalty": penalty}
    if not isinstance(method, str):
        check_methods("method", method, "encode")
        _refuse(given, "a coder as method, which has its own")
        if nonnegative:
            raise ValueError(
                "nonnegative: expected False with a coder as method, which has its own, got True"
            )
        return method
    check_one_of("method", method, METHODS)
    check_boolean("nonnegative", nonnegative)
    if method != "lasso":
        _refuse({"alpha": alpha, "penalty": penalty, "likelihood": likelihood}, f"method {method!r}")
        return PursuitCoder(n_nonzero, tol, bool(nonnegative), "omp" if method == "omp" else "ols", certify)
    _refuse({"n_nonzero": n_nonzero}, "method 'lasso'")
    if penalty is not None:
        check_methods("penalty", penalty, "value", "prox")
        _refuse({"alpha": alpha}, "a penalty, which has its own")
        if nonnegative:
            raise ValueError("nonnegative: expected False with a penalty, which has its own, got True")
        return ProximalCoder(penalty, _MAX_ITER, tol=_TOL if tol is None else tol)
    if alpha is None:
        raise ValueError("alpha: expected a positive number for method 'lasso', got None")
    exact = LassoCoder(alpha, 1e-6 if tol is None else tol, bool(nonnegative))
    if likelihood is None or isinstance(likelihood, Gaussian):
        return exact
    return ProximalCoder(
        exact.penalty, _MAX_ITER, nonnegative=exact.nonnegative, tol=_TOL if tol is None else tol
    )


def _refuse(given: dict[str, Any], what: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name}: expected None with {what}, got {value!r}")


def _problem(X: Any, atoms: Any, likelihood: Likelihood, mask: Any) -> Problem:
    """Check samples and atoms, and return their problem in one precision, on the device of X."""
    device = X.device if isinstance(X, Tensor) else None
    _check_matrix(X, "X", "(n_samples, n_features)")
    observed = _mask(mask, tuple(np.shape(X)), device)
    given = isinstance(atoms, LinearOperator)
    if given:
        dtype = _dtype_of(atoms) or _dtype(X)
    else:
        _check_matrix(atoms, "atoms", "(n_components, n_features)")
        if np.shape(X)[1] != np.shape(atoms)[1]:
            raise ValueError(
                f"atoms: expected as many features as X, {np.shape(X)[1]}, got shape {tuple(np.shape(atoms))}"
            )
        single = _dtype(X) == _dtype(atoms) == torch.float32
        dtype = torch.float32 if single else torch.float64
    y = _tensor(X, dtype, device)
    if given:
        operator = atoms
    else:
        rows = _tensor(atoms, dtype, device)
        _check_finite(rows, "atoms")
        operator = Dense(rows)
    if observed is None:
        return Problem(operator, likelihood, y)
    return Problem(Mask(observed, per_sample=True) @ operator, likelihood, torch.where(observed, y, 0))


@contextmanager
def _names_samples() -> Iterator[None]:
    """Let errors about y, the name of samples in a `Problem`, say X."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("y: "):
            raise
        raise ValueError(f"X{str(error)[1:]}") from None


def _check_matrix(values: Any, name: str, shape: str) -> None:
    """Check dtype and shape, without copying from another device."""
    if isinstance(values, Tensor):
        values = np.broadcast_to(torch.empty((), dtype=values.dtype).numpy(), tuple(values.shape))
    check_matrix(values, name, shape)


def _mask(mask: Any, shape: tuple[int, ...], device: torch.device | None) -> Tensor | None:
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        checked = check_mask(mask, shape)
        return None if checked is None else torch.from_numpy(np.require(checked, None, "W")).to(device)
    check_mask(
        np.broadcast_to(np.zeros((), str(mask.dtype).removeprefix("torch.")), tuple(mask.shape)), shape
    )
    return None if bool(mask.all()) else mask.to(device)


def _check_finite(values: Tensor, name: str) -> None:
    if not values.is_cuda:
        check_finite(values.numpy(), name)
    elif not all_finite(values):
        raise ValueError(f"{name}: expected finite values, it contains NaN or infinity")


def _dtype(values: Any) -> torch.dtype | None:
    """Return the dtype of values if it is float32 or float64, otherwise None."""
    dtype = values.dtype if isinstance(values, Tensor) else np.asarray(values).dtype
    known = {"float32": torch.float32, "float64": torch.float64}
    return known.get(str(dtype).removeprefix("torch."))


def _dtype_of(operator: LinearOperator) -> torch.dtype | None:
    tensors = (*operator.parameters(), *operator.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)


def _tensor(values: Any, dtype: torch.dtype | None, device: torch.device | None) -> Tensor:
    """Return values as a detached tensor; an array is copied only if necessary."""
    dtype = dtype or torch.float64
    if isinstance(values, Tensor):
        return values.detach().to(device, dtype)
    kind = str(dtype).removeprefix("torch.")
    # torch warns of read-only arrays
    return torch.from_numpy(np.require(values, kind, ["C", "W"])).to(device)
