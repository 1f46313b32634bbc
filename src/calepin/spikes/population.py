"""Regression of the spikes of a population: each unit on covariates and on the past spikes of all units.

    y_i[m, n] ~ family( mean = f^{-1}(eta_i[m, n]) )
    eta_i[m, n] = a_i + sum_k b_ik x_k[m, n] + sum_j sum_l k_ij[l] y_j[m, n - l],      k_ij = sum_b w_ijb B_b

for unit i, trial m and bin n (Pillow et al., "Spatio-temporal correlations and visual signalling in a
complete neuronal population", 2008). The filters k_ij of coupling, and k_ii of history, are sums of basis
functions B_b. Before a trial there are no spikes. All units share one design. A large one is made in blocks
of bins and never in memory as a whole, and neither are counts as floats: they may lie on disk
(``numpy.load(path, mmap_mode="r")``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number
from calepin.likelihoods import Binomial, Poisson
from calepin.penalties import L1, GroupL1
from calepin.spikes.families import Family, NegativeBinomial, fitted_shape, link_of, mean_weight
from calepin.spikes.population_design import PopulationDesign
from calepin.spikes.population_solver import Metric, solve_penalized, solve_smooth

__all__ = ["PopulationGLM", "fit_population", "select_population_alpha"]

Floats = NDArray[np.float64]

_SHAPE_ROUNDS = 4  # alternations of weights and shapes of the negative binomial


@dataclass(frozen=True)
class PopulationGLM:
    """A fitted regression of a population.

    Attributes
    ----------
    baseline
        Predictor a_i of each unit without covariates and spikes, (n_units,).
    covariates
        Weights b of the covariates, (n_units, n_covariates).
    coupling
        Weights w of the basis functions, from unit j to unit i, (n_units i, n_units j, n_basis).
    basis
        (n_lags, n_basis).
    names
        Names of the covariates.
    likelihood
        The family.
    shapes
        Shapes of the negative binomial, (n_units,); None for other families.
    log_likelihood
        Log-likelihood of each unit with all constants, (n_units,).
    converged
        Whether the weights of each unit have converged, (n_units,).
    alpha
        Weight of the penalty; None without one.
    """

    baseline: Floats
    covariates: Floats
    coupling: Floats
    basis: Floats
    names: tuple[str, ...]
    likelihood: Family
    shapes: Floats | None
    log_likelihood: Floats
    converged: NDArray[np.bool_]
    alpha: float | None = None

    @property
    def filters(self) -> Floats:
        """Effect of a spike of unit j on the predictor of unit i, (n_units i, n_units j, n_lags)."""
        return self.coupling @ self.basis.T

    @property
    def _weights(self) -> Floats:
        flat = self.coupling.reshape(len(self.baseline), -1)
        return np.ascontiguousarray(np.column_stack([self.baseline, self.covariates, flat]).T)

    def predictor(self, counts: ArrayLike, covariates: Any = None) -> Floats:
        """Return the predictor of each bin given the spikes before it, in the shape of counts.

        Counts and covariates are those of any trials, as for `fit_population`.
        """
        design = self._design_of(counts, covariates)
        return design.predictor(self._weights).reshape(np.shape(counts))

    def score(self, counts: ArrayLike, covariates: Any = None) -> Floats:
        """Return the log-likelihood of each unit with all constants, (n_units,), of any trials."""
        design = self._design_of(counts, covariates)
        return design.log_likelihood(self._weights, self.likelihood, self.shapes)

    def _design_of(self, counts: ArrayLike, covariates: Any) -> PopulationDesign:
        """Return the design of counts of any trials, after checks."""
        design, _ = _design(_numbers_of(counts), self.basis, covariates, None)
        if design.n_units != len(self.baseline):
            raise ValueError(f"counts: expected {len(self.baseline)} units, got {design.n_units}")
        if design.n_shared - 1 != len(self.names):
            raise ValueError(f"covariates: expected {len(self.names)}, got {design.n_shared - 1}")
        for unit in range(design.n_units):
            _counts_of(design, unit, self.likelihood)
        return design


def _numbers_of(counts: ArrayLike) -> Any:
    """Return counts as an array; those of a memory map stay where they are."""
    try:
        array = np.asanyarray(counts)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"counts: expected numbers, got {counts!r:.60}")
    return array


def fit_population(
    counts: ArrayLike,
    *,
    basis: ArrayLike | None = None,
    covariates: Any = None,
    names: Sequence[str] | None = None,
    likelihood: Family | None = None,
    penalty: L1 | GroupL1 | None = None,
    ridge: float = 0.0,
    start: PopulationGLM | None = None,
    max_iter: int = 500,
    tol: float = 1e-6,
) -> PopulationGLM:
    """Return the regression of each unit on covariates and on the past spikes of all units.

    Parameters
    ----------
    counts : array of shape (n_units, n_trials, n_bins) or (n_units, n_bins)
        Spikes of any dtype; uint8 needs an eighth of the memory of float64.
    basis : array of shape (n_lags, n_basis), optional
        Basis functions of the time since a spike; see `raised_cosine_basis`, `bspline_basis`. Default: no
        history and no coupling.
    covariates : DataFrame or array, optional
        Shape (n_bins, p), the same in all trials, or (n_trials, n_bins, p). A DataFrame keeps its names; with
        n_trials * n_bins rows it holds the trials one after another.
    names : sequence of str, optional
        Names of the covariates of an array.
    likelihood : Poisson, Binomial or NegativeBinomial, optional
        ``Poisson()`` by default; ``Binomial()`` for at most one spike in a bin.
    penalty : L1 or GroupL1, optional
        Penalty on the weights of coupling and history; ``GroupL1(alpha, n_basis)`` keeps or drops whole
        filters.
    ridge : float, default 0
        Weight of ``0.5 * ridge * w^2`` for all weights but the baseline. A refractory unit needs one, or a
        penalty: its likelihood has no maximum.
    start : PopulationGLM, optional
        A similar fit to start from.
    max_iter : int, default 500
    tol : float, default 1e-6
        Stop when the log-likelihood of a unit is expected to rise by less in the next step.

    Raises
    ------
    ValueError
        Shapes that differ, units without spikes (the message names them), fewer spikes than parameters and
        neither penalty nor ridge, linearly dependent columns, or counts that the family cannot produce.

    Warns
    -----
    ConvergenceWarning
        Units that have not converged in `max_iter` iterations.

    Examples
    --------
    >>> import numpy as np
    >>> from calepin.spikes import fit_population, raised_cosine_basis
    >>> counts = np.random.default_rng(0).poisson(0.1, (3, 2000))
    >>> fit = fit_population(counts, basis=raised_cosine_basis(10, 3))
    >>> fit.filters.shape
    (3, 3, 10)
    """
    check_arguments(fit_population, locals())
    check_number("ridge", ridge, least=0)
    check_number("tol", tol, above=0)
    check_integer("max_iter", max_iter)
    design, labels = _design(counts, basis, covariates, names)
    family = Poisson() if likelihood is None else likelihood
    _check_penalty(penalty, design)
    rates = _rates(design, family)
    if penalty is None and ridge == 0:
        _check_enough(design)
    return _fit(design, labels, family, penalty, ridge, rates, start, max_iter, tol)


def _fit(
    design: PopulationDesign,
    names: tuple[str, ...],
    family: Family,
    penalty: L1 | GroupL1 | None,
    ridge: float,
    rates: Floats,
    start: PopulationGLM | None,
    max_iter: int,
    tol: float,
) -> PopulationGLM:
    weights = np.zeros((design.n_columns, design.n_units))
    weights[0] = link_of(rates, family)
    if start is not None:
        weights = start._weights
    gram = design.metric()
    shapes, rounds = None, 1
    if isinstance(family, NegativeBinomial):
        shapes = np.full(design.n_units, family.shape or 1.0)
        rounds = 1 if family.shape is not None else _SHAPE_ROUNDS
    solution = None
    for _ in range(rounds):

        def evaluate(
            w: Floats, units: NDArray[np.intp], shapes: Floats | None = shapes
        ) -> tuple[Floats, Floats]:
            value, gradient = design.evaluate(w, units, family, shapes)
            return value + 0.5 * ridge * (w[1:] ** 2).sum(0), gradient + ridge * _without_baseline(w)

        metric = Metric(gram, mean_weight(rates, family, shapes), ridge)
        if penalty is None:
            solution = solve_smooth(evaluate, weights, metric, max_iter=max_iter, tol=tol)
        else:
            solution = solve_penalized(
                evaluate,
                weights,
                metric,
                penalty=penalty,
                n_free=design.n_shared,
                max_iter=max_iter,
                tol=tol,
            )
        weights = solution.weights
        if rounds > 1:
            shapes = _shapes(design, weights)
    assert solution is not None
    n = design.n_shared
    return PopulationGLM(
        weights[0].copy(),
        weights[1:n].T.copy(),
        weights[n:].T.reshape(design.n_units, design.n_units, design.basis.shape[1]).copy(),
        design.basis,
        names,
        family,
        shapes,
        design.log_likelihood(weights, family, shapes),
        solution.converged,
        None if penalty is None else float(penalty.alpha),
    )


def _without_baseline(w: Floats) -> Floats:
    return np.concatenate([np.zeros((1, w.shape[1])), w[1:]])


def _shapes(design: PopulationDesign, weights: Floats) -> Floats:
    """Return the shape of the negative binomial of each unit with the largest likelihood."""
    eta = design.predictor(weights)
    y = design.counts[:, design.trials].reshape(design.n_units, -1)
    return np.array([fitted_shape(e, one.astype(np.float64)) for e, one in zip(eta, y, strict=True)])


def select_population_alpha(
    counts: ArrayLike,
    alphas: Sequence[float],
    *,
    basis: ArrayLike,
    covariates: Any = None,
    names: Sequence[str] | None = None,
    likelihood: Family | None = None,
    groups: bool = False,
    n_folds: int = 3,
    max_iter: int = 500,
    tol: float = 1e-4,
) -> PopulationGLM:
    """Return the fit with the weight of the penalty that predicts held-out trials best.

    Parameters
    ----------
    counts : array of shape (n_units, n_trials, n_bins)
        At least `n_folds` trials; cut a recording into pieces for trials.
    alphas : sequence of float
        Weights to try, positive. All units share one.
    basis, covariates, names, likelihood
        See `fit_population`.
    groups : bool, default False
        Whether whole filters are kept or dropped (`GroupL1`), instead of single weights (`L1`).
    n_folds : int, default 3
        Every n_folds-th trial is held out in turn.
    max_iter : int, default 500
    tol : float, default 1e-4
        See `fit_population`.

    Raises
    ------
    ValueError
        Fewer trials than folds, or no weights; also what `fit_population` raises.
    """
    check_arguments(select_population_alpha, locals())
    check_integer("n_folds", n_folds, least=2)
    design, labels = _design(counts, basis, covariates, names)
    family = Poisson() if likelihood is None else likelihood
    n_trials = design.counts.shape[1]
    if n_trials < n_folds:
        raise ValueError(f"counts: expected at least {n_folds} trials, one a fold, got {n_trials}")
    if not len(alphas):
        raise ValueError("alphas: expected at least one weight, got none")
    ordered = sorted((float(alpha) for alpha in alphas), reverse=True)
    for alpha in ordered:
        check_number("alphas", alpha, above=0)
    scores = np.zeros(len(ordered))
    for fold in range(n_folds):
        held_out = np.arange(n_trials) % n_folds == fold
        train = replace(design, trials=np.flatnonzero(~held_out), _kept=[])
        test = replace(design, trials=np.flatnonzero(held_out), _kept=[])
        fit, rates = None, _rates(train, family)
        for i, alpha in enumerate(ordered):
            fit = _fit(train, labels, family, _penalty(alpha, groups, design), 0.0, rates, fit, max_iter, tol)
            scores[i] += test.log_likelihood(fit._weights, family, fit.shapes).sum()
    best = ordered[int(scores.argmax())]
    return _fit(
        design,
        labels,
        family,
        _penalty(best, groups, design),
        0.0,
        _rates(design, family),
        None,
        max_iter,
        tol,
    )


def _penalty(alpha: float, groups: bool, design: PopulationDesign) -> L1 | GroupL1:
    return GroupL1(alpha, design.basis.shape[1]) if groups else L1(alpha)


def _design(
    counts: ArrayLike, basis: ArrayLike | None, covariates: Any, names: Sequence[str] | None
) -> tuple[PopulationDesign, tuple[str, ...]]:
    y = np.asanyarray(counts)  # a memory map stays one
    if y.ndim == 2:
        y = y[:, None]
    if y.ndim != 3 or 0 in y.shape or y.dtype.kind not in "biuf":
        raise ValueError(
            f"counts: expected shape (n_units, n_trials, n_bins), got {y.dtype} {np.shape(counts)}"
        )
    functions = np.zeros((0, 0)) if basis is None else check_array("basis", basis, ndim=2, empty=True)
    values, labels = _covariates(covariates, names, y.shape[1], y.shape[2])
    design = PopulationDesign(y, np.ascontiguousarray(functions), values, np.arange(y.shape[1]))
    return design, labels


def _covariates(
    covariates: Any, names: Sequence[str] | None, n_trials: int, n_bins: int
) -> tuple[Floats, tuple[str, ...]]:
    if covariates is None:
        return np.zeros((1, n_bins, 0)), ()
    labels = [str(name) for name in getattr(covariates, "columns", ())] or names
    values = check_array("covariates", covariates)
    if values.ndim == 2 and len(values) == n_trials * n_bins and n_trials > 1:
        values = values.reshape(n_trials, n_bins, -1)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.shape[0] not in (1, n_trials) or values.shape[1] != n_bins:
        raise ValueError(
            f"covariates: expected shape (n_bins={n_bins}, p) or (n_trials={n_trials}, n_bins, p), "
            f"got {np.shape(covariates)}"
        )
    labels = tuple(labels) if labels is not None else tuple(f"covariate {k}" for k in range(values.shape[2]))
    if len(labels) != values.shape[2]:
        raise ValueError(f"names: expected one for each of {values.shape[2]} covariates, got {len(labels)}")
    return np.ascontiguousarray(values), labels


def _check_penalty(penalty: L1 | GroupL1 | None, design: PopulationDesign) -> None:
    if penalty is None:
        return
    n_basis = design.basis.shape[1]
    if not n_basis:
        raise ValueError("penalty: expected a basis, whose weights it is on, got none")
    if np.ndim(penalty.alpha) or not penalty.alpha > 0:
        raise ValueError(f"penalty: expected one positive weight alpha, got {penalty.alpha!r:.60}")
    if isinstance(penalty, GroupL1) and penalty.group_size != n_basis:
        raise ValueError(
            f"penalty: expected groups of the {n_basis} functions of the basis, got {penalty.group_size}"
        )


def _rates(design: PopulationDesign, family: Family) -> Floats:
    """Return the mean count of each unit, after checks of the counts unit by unit."""
    rates = np.zeros(design.n_units)
    for unit in range(design.n_units):
        rates[unit] = _counts_of(design, unit, family).mean()
    silent = np.flatnonzero(rates == 0).tolist()
    if silent:
        raise ValueError(
            f"counts: expected spikes of every unit, got none of {', '.join(map(str, silent[:20]))}"
        )
    return rates


def _counts_of(design: PopulationDesign, unit: int, family: Family) -> Floats:
    """Return the counts of a unit; raise ValueError unless the family can produce them."""
    y = np.asarray(design.counts[unit, design.trials], np.float64)
    if not np.isfinite(y).all() or (y < 0).any() or (y != np.round(y)).any():
        raise ValueError(f"counts: expected whole numbers of at least 0, got others in unit {unit}")
    if isinstance(family, Binomial) and (y.max() > 1 or family != Binomial()):
        raise ValueError(
            f"counts: expected at most one spike in a bin for Binomial(), got {y.max():g} in unit {unit}"
        )
    return y


def _check_enough(design: PopulationDesign) -> None:
    spikes = np.array(
        [np.sum(design.counts[unit, design.trials], dtype=np.float64) for unit in range(design.n_units)]
    )
    few = np.flatnonzero(spikes < design.n_columns).tolist()
    if few:
        raise ValueError(
            f"counts: expected at least as many spikes as parameters ({design.n_columns}), got fewer of unit "
            f"{', '.join(map(str, few[:20]))}: use a penalty or a ridge"
        )
