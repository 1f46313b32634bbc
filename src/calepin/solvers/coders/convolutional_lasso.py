"""Exact sparse codes of a convolutional dictionary, with a certified duality gap for each sample.

    minimise over z   0.5 ||y - sum_m z_m * d_m||^2 + alpha ||z||_1 + ridge / 2 ||z||^2   (optionally z >= 0)

The sums run over the observed entries, m over the atoms, ``*`` is the convolution of
`calepin.operators.ConvDictionary` at stride one.

Codes are found by compiled coordinate descent (`calepin.solvers.kernels.conv_descent`). The weight of the
penalty is first halved step by step, from the value at which all codes are zero, so that few coefficients
become nonzero that are zero in the solution. Then rounds alternate between a sweep over all coefficients and
sweeps over the nonzeros, until the duality gap is small; the dual point is the scaled residual. A ridge makes
the problem a lasso of y followed by zeros, with ``sqrt(ridge) I`` below D. Large signals are cut into strips.
The even strips are updated in parallel, because they have no patch in common, and then the odd strips.

Atoms of rank one, say, span few dimensions of many channels. The descent then sees signals and atoms in a
basis of this span: what lies outside adds a constant to the objective.
"""

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from calepin.core.arguments import check_arguments, check_fields
from calepin.core.checks import check_boolean, check_integer, check_number
from calepin.core.threads import n_threads, run_blocks
from calepin.penalties import L1, ElasticNet, NonNegativeL1, Penalty
from calepin.problem import Problem
from calepin.solvers.coders.coder import Codes, GradientRule, like_input
from calepin.solvers.coders.convolutional_terms import (
    convolutional_problem,
    convolutional_terms,
    require_gaussian,
)
from calepin.solvers.coders.lasso import require_constants
from calepin.solvers.coders.sparse_codes import SparseCodes
from calepin.solvers.kernels.checks import check_convolutional
from calepin.solvers.kernels.conv_descent import (
    Active,
    Atoms,
    energy_of,
    norms_of,
    peak_correlation,
    subtract_code,
    sweep,
    sweep_all,
)
from calepin.solvers.kernels.conv_layout import Layout, one_path, prepare_atoms

__all__ = ["ConvolutionalLassoCoder", "convolutional_encode"]

T = TypeVar("T")

_STRIPS = 8
_STRIPED = 2**18  # number of coefficients above which a signal is cut into strips
_MANY_CHANNELS = 4  # fewer are coded as they are
_FLOAT32_TOL = 1e-5  # smaller gaps are below the rounding errors of float32


@dataclass(frozen=True)
class ConvolutionalLassoCoder:
    """Convolutional lasso or elastic net to a certified duality gap: Gaussian data, stride 1, on the CPU.

    Parameters
    ----------
    alpha : float
        Weight of the l1 norm, positive.
    tol : float, default 1e-4
        Duality gap to reach, relative to ||y||^2.
    nonnegative : bool, default False
        Whether codes are nonnegative.
    max_iter : int, default 200
        Largest number of rounds of coordinate descent per sample.
    ridge : float, default 0
        Weight of half the squared norm of a code.
    """

    alpha: float
    tol: float = 1e-4
    nonnegative: bool = False
    max_iter: int = 200
    ridge: float = 0.0

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, above=0)
        check_number("tol", self.tol, above=0)
        check_boolean("nonnegative", self.nonnegative)
        check_integer("max_iter", self.max_iter)
        check_number("ridge", self.ridge, least=0)
        check_fields(self)

    @property
    def penalty(self) -> Penalty:
        """The l1 norm times alpha, with a ridge the elastic net."""
        if self.ridge > 0:
            return ElasticNet(float(self.alpha), float(self.ridge), self.nonnegative)
        return (NonNegativeL1 if self.nonnegative else L1)(float(self.alpha))

    def encode(
        self, problem: Problem, *, z0: Tensor | None = None, gradient: GradientRule | None = None
    ) -> Codes:
        """Return codes with their gaps and residuals.

        Warns
        -----
        ConvergenceWarning
            The duality gap of some samples exceeds the tolerance after `max_iter` rounds.
        """
        check_arguments(ConvolutionalLassoCoder.encode, locals())
        require_constants("ConvolutionalLassoCoder", gradient)
        codes, _ = self.encode_sparse(problem, z0=None if z0 is None else SparseCodes.from_dense(z0))
        self.warn_of(codes.converged)
        return replace(codes, values=codes.values.dense().to(problem.y.device))

    def encode_sparse(self, problem: Problem, *, z0: SparseCodes | None = None) -> tuple[Codes, Tensor]:
        """Return codes whose values are `SparseCodes`, and the residual ``y - offset - D z``, shape of y.

        Missing entries of the residual are zero. The descent starts from `z0`, by default from zero. It does
        not warn of codes that have not converged.
        """
        require_gaussian("ConvolutionalLassoCoder", problem)
        dictionary, mask = convolutional_terms(problem, "ConvolutionalLassoCoder")
        y = problem.y - problem.offset
        values, rows, observed = check_convolutional(y, dictionary.atoms, mask)
        dtype = values.dtype
        if self.tol < _FLOAT32_TOL:
            values, rows = values.astype(np.float64), rows.astype(np.float64)
        basis = None if observed is not None else _basis_of_channels(rows)
        if basis is None:
            nonzeros, gap, squares, residuals = self._descend(values, rows, observed, dictionary.boundary, z0)
        else:
            seen = _mixed(basis.T, values)
            nonzeros, gap, _, within = self._descend(
                seen, _mixed(basis.T, rows), None, dictionary.boundary, z0
            )
            residuals = values - _mixed(basis, seen - within)
            squares = _energy(residuals)
        energy = _energy(values if observed is None else np.where(observed, values, 0))
        nonzeros = [(atom, place, value.astype(dtype, copy=False)) for atom, place, value in nonzeros]
        codes = SparseCodes.of_samples((len(values), *problem.operator.in_shape), nonzeros)
        found = Codes(codes, problem.offset, gap, squares, gap <= self.tol * energy)
        return found, torch.from_numpy(residuals.astype(dtype, copy=False)).to(problem.y.device)

    def _descend(
        self, values: np.ndarray, rows: np.ndarray, observed: Any, boundary: Any, z0: SparseCodes | None
    ) -> tuple[list[Any], Tensor, Tensor, np.ndarray]:
        """Return nonzeros, duality gaps, squared norms of the residuals, and residuals of all samples."""
        n_axes, shape = values.ndim - 2, values.shape
        values, rows, observed = one_path(values, rows, observed)
        prepared = prepare_atoms(rows)
        layout = Layout(values.shape[1:], rows.shape[2:], boundary, masked=observed is not None)
        residuals = np.empty(values.shape, values.dtype)
        alone = len(values) == 1
        parallel = alone and n_threads() > 1

        def encode_one(start: int, stop: int) -> tuple[Any, float, float]:
            mask = None if observed is None else observed[start]
            sample = _Sample(values[start], layout, prepared, mask, self, parallel)
            gap, squares = sample.encode(None if z0 is None else sample.listed(z0, start))
            residuals[start] = layout.signal(sample.residual)
            return sample.nonzeros(values.dtype, n_axes), gap, squares

        found = [encode_one(0, 1)] if alone else run_blocks(encode_one, len(values), 1)
        nonzeros, *columns = zip(*found, strict=True)
        gap, squares = (torch.tensor(column, dtype=torch.float64) for column in columns)
        return list(nonzeros), gap, squares, residuals.reshape(shape)

    def shortened(self, n_rounds: int) -> Self:
        """Return the coder itself: it stops when the duality gap is small."""
        check_integer("n_rounds", n_rounds)
        return self

    def warn_of(self, converged: Tensor) -> None:
        """Warn if codes have not converged."""
        missed = (~converged).nonzero().flatten()
        if len(missed):
            from sklearn.exceptions import ConvergenceWarning

            warnings.warn(
                f"the duality gap of {len(missed)} of {len(converged)} samples exceeds tol = {self.tol:g} "
                f"times ||y||^2 (the first is sample {int(missed[0])}): more than max_iter = "
                f"{self.max_iter} rounds are needed",
                ConvergenceWarning,
                stacklevel=4,
            )


def convolutional_encode(
    y: Any,
    atoms: Any,
    *,
    alpha: float,
    ridge: float = 0.0,
    nonnegative: bool = False,
    boundary: Literal["zero", "circular"] = "zero",
    mask: Any = None,
    tol: float = 1e-4,
    max_iter: int = 200,
    return_info: bool = False,
) -> Any:
    """Return the sparse codes of signals or images under a convolutional dictionary.

    Minimises ``0.5 ||y - D z||^2 + alpha ||z||_1 + ridge / 2 ||z||^2`` for each sample, D being
    `calepin.operators.ConvDictionary` with stride one, to a duality gap that is computed for every sample.
    Results do not depend on the number of threads.

    Parameters
    ----------
    y : array or tensor of shape (n, channels, *spatial)
        Signals or images, with one or two spatial axes. Codes are float32 if y and atoms are float32, and
        float64 otherwise. Tensors on another device are coded on the CPU.
    atoms : array or tensor of shape (n_components, channels, *kernel)
        Atoms of any norm.
    alpha : float
        Weight of the l1 norm, positive.
    ridge : float, default 0
        Weight of half the squared norm.
    nonnegative : bool, default False
        Whether codes are nonnegative.
    boundary : {"zero", "circular"}, default "zero"
        Whether atoms lie entirely inside the signal ("zero"), or the signal is periodic ("circular").
    mask : array or tensor of bool, shape of y, optional
        True where an entry is observed; other entries are ignored and may be NaN.
    tol : float, default 1e-4
        Duality gap to reach, relative to ||y||^2 over the observed entries.
    max_iter : int, default 200
        Largest number of rounds of coordinate descent per sample.
    return_info : bool, default False
        Whether to return also the `Codes`, with gaps, residuals and convergence of each sample.

    Returns
    -------
    codes : array or tensor of shape (n, n_components, *positions)
        ``spatial - kernel + 1`` positions along an axis, or ``spatial`` with a circular boundary.
    info : Codes
        Only with `return_info`.

    Raises
    ------
    ValueError
        If an argument has an invalid value, shape or dtype.

    Warns
    -----
    ConvergenceWarning
        The duality gap of some samples exceeds the tolerance after `max_iter` rounds.
    """
    coder = ConvolutionalLassoCoder(alpha, tol, nonnegative, max_iter, ridge)
    check_arguments(convolutional_encode, locals())
    found = coder.encode(convolutional_problem(y, atoms, boundary=boundary, mask=mask))
    codes = found.values if isinstance(y, Tensor) else found.values.numpy()
    return (codes, like_input(found, codes)) if return_info else codes


def _basis_of_channels(rows: np.ndarray) -> np.ndarray | None:
    """Return an orthonormal basis (channels, dimensions) of the span of atoms, or None if it saves little."""
    if rows.shape[1] < _MANY_CHANNELS:
        return None
    u, s, _ = np.linalg.svd(rows.swapaxes(0, 1).reshape(rows.shape[1], -1), full_matrices=False)
    rank = int(np.count_nonzero(s > s[0] * len(s) * np.finfo(rows.dtype).eps))
    return np.ascontiguousarray(u[:, :rank]) if 0 < 2 * rank <= len(u) else None


def _mixed(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values (n, channels, *spatial) with other channels, by a matrix (channels after, before)."""
    n, channels, *spatial = values.shape
    return np.matmul(matrix, values.reshape(n, channels, -1)).reshape(n, len(matrix), *spatial)


def _energy(values: np.ndarray) -> Tensor:
    """Return the squared norm of each sample."""
    return torch.from_numpy(np.square(values.reshape(len(values), -1), dtype=np.float64).sum(1))


class _Sample:
    """Coordinate descent for one sample: its residual, and its nonzeros sorted by strips."""

    def __init__(self, y, layout: Layout, atoms: Atoms, mask, coder: ConvolutionalLassoCoder, parallel: bool):
        self.grid = layout.grid
        self.y = layout.plane(y if mask is None else np.where(mask, y, y.dtype.type(0)))
        self.mask = self.y[:1] if mask is None else layout.plane(mask.astype(y.dtype))
        self.residual = self.y.copy()
        self.atoms, self.coder, self.parallel = atoms, coder, parallel
        self.alpha, self.ridge = y.dtype.type(coder.alpha), y.dtype.type(coder.ridge)
        self.strips = _strips(layout, len(atoms.rows))
        self.along_rows = layout.positions[0] > 1
        nothing = np.zeros(0, np.int32), np.zeros(0, y.dtype)
        self.active = Active(*(nothing[k] for k in (0, 0, 0, 1, 1)))
        self.borders = [0] * (len(self.strips) + 1)
        # cost of a sweep over all coefficients, relative to one nonzero, whose products are 4 times slower
        n_positions = layout.positions[0] * layout.positions[1]
        self.scan_cost = n_positions * atoms.columns.size / (8 * atoms.rows.shape[1])

    def encode(self, start: Active | None = None) -> tuple[float, float]:
        """Find the code, from listed coefficients or from zero; return gap and squared residual norm."""
        gap, residual, peak = self.certify()
        goal = self.coder.tol * residual  # the residual is still y
        alpha = peak
        if start is not None and len(start.value):
            self.active, self.borders = start, self._borders(start)
            gap, residual, _ = self.certify()
            alpha = self.alpha
        while alpha > self.alpha:
            alpha = max(alpha / 2, self.alpha)
            self.sweep_all(alpha)
            for _ in range(2):
                self.sweep(alpha)
        n_iter = 0
        while gap > goal and n_iter < self.coder.max_iter:
            n_iter += 1
            self.descend()
            gap, residual, _ = self.certify()
        return gap, residual

    def nonzeros(self, dtype: Any, n_axes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return atom, place (n_nonzero, n_axes) and value of the nonzeros, by position."""
        kept = self.active.value != 0
        place = np.stack([self.active.row[kept], self.active.col[kept]], axis=1)[:, 2 - n_axes :]
        atom = self.active.atom[kept].astype(np.int64)
        return atom, place.astype(np.int64), self.active.value[kept].astype(dtype)

    def listed(self, codes: SparseCodes, sample: int) -> Active:
        """Return the nonzeros of a sample of codes as a list to start from."""
        of = codes.at_sample(sample)
        row, col = np.pad(codes.place[of], ((0, 0), (2 - codes.place.shape[1], 0))).T.astype(np.int32)
        atom, value = codes.atom[of].astype(np.int32), codes.value[of].astype(self.y.dtype)
        norms = norms_of(self.mask, self.atoms, row, col, atom, self.grid)
        known = norms > 0  # an atom all of whose entries are missing has no code
        return Active(*(column[known] for column in (row, col, atom, norms, value)))

    def _borders(self, active: Active) -> list[int]:
        """Return where the nonzeros of each strip begin, and their number."""
        at, ends = (active.row, 1) if self.along_rows else (active.col, 3)
        return [0, *np.searchsorted(at, [strip[ends] for strip in self.strips]).tolist()]

    def descend(self) -> None:
        """Sweep over all coefficients, then over the nonzeros for about as long."""
        worst = self.sweep_all(self.alpha)
        n_sweeps = int(self.scan_cost / max(len(self.active.value), 1))
        for _ in range(min(max(n_sweeps, 30), 200)):
            if self.sweep(self.alpha) <= 0.01 * worst:
                break

    def sweep_all(self, alpha) -> float:
        """Minimise over every coefficient once and list the nonzeros again; return the worst violation."""
        found = self._even_then_odd(
            lambda k: sweep_all(
                self.residual,
                self.mask,
                self.atoms,
                self.active,
                *self._listed(k),
                self.strips[k],
                alpha,
                self.ridge,
                self.coder.nonnegative,
                self.grid,
            )
        )
        self.active = Active(*(np.concatenate(f) for f in zip(*(part for part, _ in found), strict=True)))
        self.borders = [0, *itertools.accumulate(len(part.value) for part, _ in found)]
        return max(worst for _, worst in found)

    def sweep(self, alpha) -> float:
        """Minimise over each listed coefficient once; return the worst violation."""
        return max(
            self._even_then_odd(
                lambda k: sweep(
                    self.residual,
                    self.mask,
                    self.atoms,
                    self.active,
                    *self._listed(k),
                    alpha,
                    self.ridge,
                    self.coder.nonnegative,
                    self.grid,
                )
            )
        )

    def certify(self) -> tuple[float, float, np.floating]:
        """Recompute the residual; return duality gap, squared residual norm and largest correlation."""
        self.residual[:] = self.y
        self._even_then_odd(
            lambda k: subtract_code(
                self.residual, self.mask, self.atoms, self.active, *self._listed(k), self.grid
            )
        )
        rr, ry = energy_of(self.residual, self.y, self.grid)
        peak = max(
            self._even_then_odd(
                lambda k: peak_correlation(
                    self.residual,
                    self.atoms,
                    self.active,
                    *self._listed(k),
                    self.strips[k],
                    self.ridge,
                    self.coder.nonnegative,
                    self.grid,
                )
            )
        )
        size = np.abs(self.active.value).sum(dtype=np.float64)
        # squared residual of the lasso that has the ridge in its rows
        whole = rr + self.coder.ridge * np.square(self.active.value, dtype=np.float64).sum()
        scale = ry / whole if whole > 0 else 1.0
        if peak * scale > self.alpha:
            scale = float(self.alpha) / float(peak)
        gap = 0.5 * whole + float(self.alpha) * size - scale * ry + 0.5 * scale**2 * whole
        return max(gap, 0.0), rr, peak

    def _listed(self, strip: int) -> tuple[int, int]:
        """Return where the nonzeros of a strip begin and end."""
        return self.borders[strip], self.borders[strip + 1]

    def _even_then_odd(self, function: Callable[[int], T]) -> list[T]:
        """Call function(strip) on all strips; even strips have no patch in common, nor have odd ones."""
        found: list[Any] = [None] * len(self.strips)
        for kind in range(min(2, len(self.strips))):
            strips = range(kind, len(self.strips), 2)
            if self.parallel:
                found[kind::2] = run_blocks(lambda k, _, s=strips: function(s[k]), len(strips), 1)
            else:
                found[kind::2] = [function(k) for k in strips]
        return found


def _strips(layout: Layout, n_components: int) -> list[tuple[int, int, int, int]]:
    """Cut the positions into strips along the first axis (the only one of a signal) if there are many."""
    positions, grid = layout.positions, layout.grid
    axis = 0 if positions[0] > 1 else 1
    count = _STRIPS if n_components * positions[0] * positions[1] > _STRIPED else 1
    # a strip must be wide enough to separate the patches of its neighbours
    least = grid.kernel_rows if axis == 0 else layout.lanes
    count = max(min(count, positions[axis] // least), 1)
    if grid.circular and count > 1:
        count -= count % 2  # the last strip is next to the first
    cuts = [positions[axis] * k // count for k in range(count + 1)]
    return [(*cut, 0, positions[1]) if axis == 0 else (0, 1, *cut) for cut in itertools.pairwise(cuts)]
