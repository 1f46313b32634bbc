"""The design of a population, which all its units share: made in blocks of bins if it is large.

Columns are the intercept, the covariates, and for each unit its past spikes weighted by each basis function.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calepin.core.threads import run_blocks, single_threaded_blas
from calepin.spikes._kernels import add_lagged
from calepin.spikes.families import Family, constants, evaluate

__all__ = ["Block", "PopulationDesign"]

Floats = NDArray[np.float64]

_BLOCK_BYTES = 2**26  # of the design of a block
_KEPT_BYTES = 2**28  # a design of at most this size is kept
_UNITS = 64  # columns of a product that one thread computes
_FOR_METRIC = 10  # times as many bins as columns are enough for the metric


@dataclass(frozen=True)
class Block:
    """Rows of the design (n_rows, n_columns), and the counts (n_rows, n_units)."""

    X: Floats
    y: Floats


@dataclass(frozen=True)
class PopulationDesign:
    """Counts (n_units, n_trials, n_bins) of any dtype, a basis (n_lags, n_basis) and covariates.

    Covariates have the shape (n_trials or 1, n_bins, p); `trials` are those that are used.
    """

    counts: NDArray[Any]
    basis: Floats
    covariates: Floats
    trials: NDArray[np.intp]
    _kept: list[Block] = field(default_factory=list, compare=False, repr=False)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.counts.shape[0]

    @property
    def n_shared(self) -> int:
        """Number of columns before those of past spikes: the intercept and the covariates."""
        return 1 + self.covariates.shape[2]

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.n_shared + self.n_units * self.basis.shape[1]

    @property
    def n_rows(self) -> int:
        """Number of bins in all trials."""
        return len(self.trials) * self.counts.shape[2]

    def blocks(self) -> Iterator[Block]:
        """Yield all rows, block by block."""
        if 8 * self.n_rows * (self.n_columns + self.n_units) > _KEPT_BYTES:
            yield from self._made()
            return
        if not self._kept:
            self._kept.extend(self._made())
        yield from self._kept

    def _made(self) -> Iterator[Block]:
        n_bins = self.counts.shape[2]
        rows = max(1, min(n_bins, _BLOCK_BYTES // (8 * self.n_columns)))
        for trial in self.trials:
            for first in range(0, n_bins, rows):
                yield self._block(int(trial), first, min(n_bins, first + rows))

    def _block(self, trial: int, first: int, stop: int) -> Block:
        skipped = min(first, len(self.basis))
        counts = np.ascontiguousarray(self.counts[:, trial, first - skipped : stop], np.float64)
        X = np.zeros((stop - first, self.n_columns))
        X[:, 0] = 1
        X[:, 1 : self.n_shared] = self.covariates[trial % len(self.covariates), first:stop]
        add_lagged(counts, self.basis, skipped, X[:, self.n_shared :])
        return Block(X, np.ascontiguousarray(counts[:, skipped:].T))

    def metric(self) -> Floats:
        """Return ``X' X`` (n_columns, n_columns), estimated from some of the blocks of a long recording."""
        blocks = max(1, -(-self.n_rows * 8 * self.n_columns // _BLOCK_BYTES))
        every = max(1, min(blocks, self.n_rows // (_FOR_METRIC * self.n_columns)))
        gram, seen = np.zeros((self.n_columns, self.n_columns)), 0
        with single_threaded_blas():
            for i, block in enumerate(self.blocks()):
                if i % every == 0:
                    gram += block.X.T @ block.X
                    seen += len(block.X)
        return gram * (self.n_rows / seen)

    def evaluate(
        self, weights: Floats, units: NDArray[np.intp], family: Family, shapes: Floats | None
    ) -> tuple[Floats, Floats]:
        """Return the negative log-likelihood (n,) of some units without constants, and its gradient.

        The weights and the gradient have the shape (n_columns, n).
        """
        value, gradient = np.zeros(len(units)), np.zeros(weights.shape)
        for block in self.blocks():

            def one(start: int, stop: int, block: Block = block) -> None:
                part = units[start:stop]
                shape = None if shapes is None else shapes[part]
                eta = block.X @ weights[:, start:stop]
                values, residual = evaluate(eta, block.y[:, part], family, shape)
                value[start:stop] += values
                gradient[:, start:stop] -= block.X.T @ residual

            run_blocks(one, len(units), _UNITS)
        return value, gradient

    def log_likelihood(self, weights: Floats, family: Family, shapes: Floats | None) -> Floats:
        """Return the log-likelihood of each unit with all constants, (n_units,)."""
        total = np.zeros(self.n_units)
        with single_threaded_blas():
            for block in self.blocks():
                value, _ = evaluate(block.X @ weights, block.y, family, shapes)
                total += constants(block.y, family, shapes) - value
        return total

    def predictor(self, weights: Floats) -> Floats:
        """Return the predictor of each bin, (n_units, n_rows)."""
        with single_threaded_blas():
            return np.concatenate([(block.X @ weights).T for block in self.blocks()], axis=1)
