"""Compiled loops over bins: logistic likelihoods, and sums over past spikes.

The cost of the sums is proportional to the number of spikes, not to bins times lags.
"""

import math

import numpy as np

from calepin.core.compiled import njit

__all__ = ["add_history", "add_lagged", "history_products", "logistic"]


@njit(nogil=True, cache=True)
def logistic(eta, y, trials, mean, weight):
    """Write mean and variance of flat binomial counts; return ``sum y eta - trials log(1 + exp(eta))``."""
    total = 0.0
    for i in range(len(eta)):
        small = math.exp(-abs(eta[i]))
        p = 1 / (1 + small) if eta[i] >= 0 else small / (1 + small)
        mean[i] = trials[i] * p
        weight[i] = trials[i] * small / (1 + small) ** 2
        total += y[i] * eta[i] - trials[i] * (max(eta[i], 0.0) + math.log1p(small))
    return total


@njit(nogil=True, cache=True)
def add_history(counts, coefficients, eta):
    """Add ``sum_l coefficients[l - 1] * counts[m, n - l]`` to every eta[m, n]."""
    n_trials, n_bins = counts.shape
    for m in range(n_trials):
        for spike in range(n_bins):
            if counts[m, spike] != 0:
                for lag in range(1, min(len(coefficients), n_bins - 1 - spike) + 1):
                    eta[m, spike + lag] += coefficients[lag - 1] * counts[m, spike]


@njit(nogil=True, cache=True)
def history_products(counts, residual, weight, order):
    """Return the sums of the normal equations for the covariates ``Y[m, n, l - 1] = counts[m, n - l]``.

    These are ``Y' r`` (order,), ``Y' diag(w) Y`` (order, order), and for each bin, summed over trials,
    ``w Y`` (n_bins, order).
    """
    n_trials, n_bins = counts.shape
    gradient = np.zeros(order)
    gram = np.zeros((order, order))
    cross = np.zeros((n_bins, order))
    recent = np.empty(order, np.intp)
    for m in range(n_trials):
        n_recent = 0
        for n in range(n_bins):
            kept = 0
            for i in range(n_recent):
                if n - recent[i] <= order:
                    recent[kept] = recent[i]
                    kept += 1
            n_recent = kept
            for i in range(n_recent):
                row = n - recent[i] - 1
                value = counts[m, recent[i]]
                gradient[row] += residual[m, n] * value
                weighted = weight[m, n] * value
                cross[n, row] += weighted
                for j in range(n_recent):
                    gram[row, n - recent[j] - 1] += weighted * counts[m, recent[j]]
            if counts[m, n] != 0 and order > 0:
                # the oldest spike has been removed by now: there are at most as many spikes as lags
                if n_recent == order:
                    n_recent -= 1
                    for i in range(n_recent):
                        recent[i] = recent[i + 1]
                recent[n_recent] = n
                n_recent += 1
    return gradient, gram, cross


@njit(nogil=True, cache=True)
def add_lagged(counts, basis, skipped, out):
    """Add the features of past spikes to every row of a block, ``out[n, j * n_basis + b]``.

    counts is (n_units, skipped + n_rows): the block, and the bins before it. basis is (n_lags, n_basis), its
    first row is that of the bin after a spike.
    """
    n_lags, n_basis = basis.shape
    n_rows = out.shape[0]
    for unit in range(counts.shape[0]):
        for spike in range(counts.shape[1]):
            count = counts[unit, spike]
            if count != 0:
                for lag in range(max(1, skipped - spike), min(n_lags, n_rows + skipped - 1 - spike) + 1):
                    row = spike + lag - skipped
                    for b in range(n_basis):
                        out[row, unit * n_basis + b] += count * basis[lag - 1, b]
