"""Point-process regression: spikes driven by a stimulus and by their own history.

    y[m, n] ~ family( mean = f^{-1}(eta[m, n]) )
    eta[m, n] = a + sum_j b_j s_j[n] + sum_{l=1}^{L} h_l y[m, n - l]

for trial m and bin n, with a stimulus that is the same in all trials (Truccolo et al., "A point process
framework for relating neural spiking activity to spiking history, neural ensemble, and extrinsic
covariate effects", 2005, eq. 7; Tolooshams et al., "Convolutional dictionary learning based auto-encoders
for natural exponential-family distributions", 2020, eq. 107). Before a trial there are no spikes.

A refractory neuron never fires twice within a few bins: the likelihood then has no maximum in the first
h_l. Therefore the history has a small ridge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes._kernels import add_history, history_products
from calepin.spikes.glm import GLMFit, fit_design
from calepin.spikes.goodness import check_counts
from calepin.spikes.stimulus import check_stimulus

__all__ = [
    "ORDERS",
    "SpikeGLM",
    "check_trials",
    "fit_spike_glm",
    "history_predictor",
    "observed_counts",
    "select_order",
]

Floats = NDArray[np.float64]

ORDERS = tuple(range(5, 41))
"""Orders of history that `select_order` tries. For many units AIC would select 100 and more."""

HISTORY_RIDGE = 0.1
"""Default ridge of history: a prior of standard deviation 3 for the logarithm of a change in rate."""


@dataclass(frozen=True)
class SpikeGLM:
    """A fitted regression of spikes.

    Attributes
    ----------
    baseline
        Predictor a without stimulus and history.
    stimulus
        Coefficients b of the stimulus covariates, (p,).
    history
        Coefficients h of the history, latest bin first, (L,).
    fit
        All coefficients as one `GLMFit`, with standard errors, log-likelihood, deviance and AIC.
    likelihood
        The family.
    """

    baseline: float
    stimulus: Floats
    history: Floats
    fit: GLMFit
    likelihood: Binomial | Poisson

    def predictor(self, counts: ArrayLike, stimulus: Any = None) -> Floats:
        """Return the predictor eta (n_trials, n_bins) given the spikes before each bin."""
        counts = check_trials(counts)
        eta = self.baseline + history_predictor(counts, self.history)
        S, _ = check_stimulus(stimulus, None, counts.shape)
        if S.shape[1] != len(self.stimulus):
            raise ValueError(f"stimulus: expected {len(self.stimulus)} covariates, got {S.shape[1]}")
        return eta + S @ self.stimulus

    def mean(self, counts: ArrayLike, stimulus: Any = None) -> Floats:
        """Return the expected count of each bin given the spikes before it."""
        return self.likelihood.mean(torch.from_numpy(self.predictor(counts, stimulus))).numpy()


def fit_spike_glm(
    counts: ArrayLike,
    stimulus: Any = None,
    *,
    order: int = 0,
    likelihood: Binomial | Poisson | None = None,
    ridge: float = 0.0,
    history_ridge: float = HISTORY_RIDGE,
    start: "SpikeGLM | None" = None,
    names: Sequence[str] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> SpikeGLM:
    """Return baseline, stimulus filter and history, fitted jointly to all trials.

    Parameters
    ----------
    counts : array of shape (n_trials, n_bins)
        Spikes in each bin; (1, n_bins) for one train.
    stimulus : DataFrame or array of shape (n_bins, p), optional
        Covariates, the same in each trial; (n_bins,) for one covariate. A DataFrame keeps its names.
    order : int, default 0
        Bins L of history.
    likelihood : Binomial or Poisson, optional
        ``Binomial()`` by default: at most one spike in a bin.
    ridge, history_ridge : float
        Penalties ``0.5 * ridge * b^2`` and ``0.5 * history_ridge * h^2``. Zeros give maximum likelihood,
        whose maximum does not exist for a refractory neuron.
    start : SpikeGLM, optional
        A similar fit to start from.
    names : sequence of str, optional
        Names of the covariates, for messages; a DataFrame has its own.
    mask : bool array of shape (n_trials, n_bins), optional
        True where a bin was observed; by default all. Other bins do not count, and are without spikes in the
        history of later ones.

    Raises
    ------
    ValueError
        See `calepin.spikes.fit_glm`; an order that leaves no bin without history.
    """
    check_arguments(fit_spike_glm, locals())
    likelihood = Binomial() if likelihood is None else likelihood
    y = observed_counts(counts, mask)
    S, labels = check_stimulus(stimulus, names, y.shape)
    check_integer("order", order, least=0, most=y.shape[1] - 1)
    check_number("ridge", ridge, least=0)
    check_number("history_ridge", history_ridge, least=0)
    check_counts(y, likelihood=likelihood, name="counts")
    design = TrialDesign(
        y, S, order, ("baseline", *labels, *(f"history {lag}" for lag in range(1, order + 1)))
    )
    ridges = np.concatenate([[0.0], np.full(S.shape[1], ridge), np.full(order, history_ridge)])
    fit = fit_design(
        design,
        y,
        likelihood=likelihood,
        ridge=ridges,
        start=_start(start, S.shape[1], order),
        mask=mask,
    )
    a, b, h = np.split(fit.coefficients, [1, 1 + S.shape[1]])
    return SpikeGLM(float(a[0]), b, h, fit, likelihood)


def select_order(
    counts: ArrayLike,
    stimulus: Any = None,
    *,
    orders: Sequence[int] = ORDERS,
    likelihood: Binomial | Poisson | None = None,
    ridge: float = 0.0,
    history_ridge: float = HISTORY_RIDGE,
    names: Sequence[str] | None = None,
    mask: NDArray[np.bool_] | None = None,
    callback: Callable[[int], None] | None = None,
) -> SpikeGLM:
    """Return the fit with the order of history that has the smallest AIC.

    Parameters are those of `fit_spike_glm`; orders longer than a trial are left out. `callback` is
    called with the number of finished fits.
    """
    check_arguments(select_order, locals())
    y = check_trials(counts)
    for order in orders:
        check_integer("orders", order, least=0)
    orders = [order for order in orders if order < y.shape[1]]
    if not orders:
        raise ValueError(f"orders: expected one below the {y.shape[1]} bins of a trial, got none")
    best = last = None
    for done, order in enumerate(orders, start=1):
        last = fit_spike_glm(
            y,
            stimulus,
            order=order,
            likelihood=likelihood,
            ridge=ridge,
            history_ridge=history_ridge,
            start=last,
            names=names,
            mask=mask,
        )
        if callback is not None:
            callback(done)
        if best is None or last.fit.aic < best.fit.aic:
            best = last
    assert best is not None
    return best


def history_predictor(counts: Floats, history: Floats) -> Floats:
    """Return ``sum_l history[l - 1] * counts[m, n - l]`` for all trials and bins."""
    eta = np.zeros(counts.shape)
    add_history(counts, history, eta)
    return eta


@dataclass(frozen=True)
class TrialDesign:
    """Design matrix of baseline, stimulus (n_bins, p) and history, with a row for each bin of each trial."""

    counts: Floats
    stimulus: Floats
    order: int
    names: tuple[str, ...]

    def predict(self, coefficients: Floats) -> Floats:
        """Return ``X beta``, (n_trials, n_bins)."""
        p = self.stimulus.shape[1]
        eta = np.empty(self.counts.shape)
        eta[:] = coefficients[0] + self.stimulus @ coefficients[1 : 1 + p]
        add_history(self.counts, coefficients[1 + p :], eta)
        return eta

    def products(self, residual: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Return ``X' r`` and ``X' diag(w) X``; covariates common to all trials use sums over trials."""
        shared = np.column_stack([np.ones(len(self.stimulus)), self.stimulus])
        past, past_gram, cross = history_products(self.counts, residual, weight, self.order)
        gram = (shared.T * weight.sum(0)) @ shared
        mixed = shared.T @ cross
        gradient = np.concatenate([shared.T @ residual.sum(0), past])
        return gradient, np.block([[gram, mixed], [mixed.T, past_gram]])


def observed_counts(counts: ArrayLike, mask: NDArray[np.bool_] | None) -> Floats:
    """Return counts as float64 (n_trials, n_bins), zero where the mask is False."""
    y = check_trials(counts)
    if mask is None:
        return y
    if mask.dtype != bool or mask.shape != y.shape or not mask.any():
        raise ValueError(f"mask: expected bool {y.shape}, True somewhere, got {mask.dtype} {mask.shape}")
    return np.where(mask, y, 0.0)


def check_trials(counts: ArrayLike) -> Floats:
    """Return counts as float64 (n_trials, n_bins); raise ValueError for another shape."""
    y = np.ascontiguousarray(check_array("counts", counts, empty=True))
    if y.ndim != 2 or 0 in y.shape:
        raise ValueError(f"counts: expected shape (n_trials, n_bins), neither of them 0, got {y.shape}")
    return y


def _start(start: SpikeGLM | None, p: int, order: int) -> Floats | None:
    """Return the coefficients of a similar fit, zeros where it has none."""
    if start is None:
        return None
    beta = np.zeros(1 + p + order)
    beta[0] = start.baseline
    if len(start.stimulus) == p:
        beta[1 : 1 + p] = start.stimulus
    known = min(order, len(start.history))
    beta[1 + p : 1 + p + known] = start.history[:known]
    return beta
