"""The time-rescaling theorem: spikes of the true model are a Poisson process of rate one in rescaled time.

    tau(t) = integral of the conditional intensity from 0 to t

The intervals between spikes, measured by tau, are exponential with mean one, and
``u = 1 - exp(-interval)`` uniform: their distance to uniform is that of Kolmogorov and Smirnov (Brown et al.,
"The time-rescaling theorem and its application to neural spike train data analysis", 2002).

A bin of a discrete model has a probability p of a spike, not an intensity. The correction of Haslinger,
Pipa and Brown ("Discrete time rescaling theorem: determining goodness of fit for discrete time
statistical models of neural spiking", 2010, section 2.3) takes ``q = -log(1 - p)`` as the integral over a
bin, and ``-log(1 - r p)`` with r uniform as the place of the spike in its bin; without it large p look
like a misfit. Spikes of a Poisson count lie anywhere in their bin, independently.

Rescaled trials are joined end to end, so that no interval is cut off at the end of a trial but the last.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from calepin.core.random import RandomState, numpy_generator
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.goodness import check_counts

__all__ = ["KSTest", "ks_test", "rescaled_intervals"]

Floats = NDArray[np.float64]

_QUANTILE = 1.3581  # 95 % of Kolmogorov's distribution


@dataclass(frozen=True)
class KSTest:
    """The distance of rescaled intervals to what they should be.

    Attributes
    ----------
    quantiles
        ``u = 1 - exp(-interval)`` in ascending order; uniform if the model is true.
    statistic
        Largest distance of their distribution function to the diagonal.
    band
        The statistic stays below in 95 of 100 repetitions if the model is true: ``1.358 / sqrt(n)``.
    """

    quantiles: Floats
    statistic: float
    band: float

    @property
    def inside(self) -> bool:
        """Whether the test does not reject the model at 5 %."""
        return self.statistic <= self.band

    @property
    def expected(self) -> Floats:
        """Quantiles of the uniform distribution to plot `quantiles` against."""
        return (np.arange(len(self.quantiles)) + 0.5) / len(self.quantiles)


def ks_test(
    eta: ArrayLike,
    counts: ArrayLike,
    *,
    likelihood: Binomial | Poisson | None = None,
    random_state: RandomState = 0,
) -> KSTest:
    """Test a model of spikes by the time-rescaling theorem.

    The parameters and errors are those of `rescaled_intervals`; with fewer than two spikes there is no
    interval and a ValueError.
    """
    intervals = rescaled_intervals(eta, counts, likelihood=likelihood, random_state=random_state)
    if not len(intervals):
        raise ValueError("counts: expected at least two spikes, which is one interval, got one")
    u = np.sort(-np.expm1(-intervals))
    n = len(u)
    steps = np.arange(n + 1) / n
    statistic = float(max((steps[1:] - u).max(), (u - steps[:-1]).max()))
    return KSTest(u, statistic, _QUANTILE / n**0.5)


def rescaled_intervals(
    eta: ArrayLike,
    counts: ArrayLike,
    *,
    likelihood: Binomial | Poisson | None = None,
    random_state: RandomState = 0,
) -> Floats:
    """Return the intervals between successive spikes in rescaled time.

    Parameters
    ----------
    eta : array of shape (n_trials, n_bins)
        Predictor of each bin given the spikes before it.
    counts : array of shape (n_trials, n_bins)
        Spikes of one neuron; at most one a bin with `Binomial`.
    likelihood : Binomial or Poisson, optional
        ``Binomial()`` by default. Trials above one are several trains at once, which have no intervals.
    random_state : default 0
        Of the places of spikes in their bins.

    Returns
    -------
    array of shape (n_spikes - 1,)

    Raises
    ------
    ValueError
        Shapes that differ, no counts, no spike, or a binomial with trials.
    """
    likelihood = Binomial() if likelihood is None else likelihood
    eta, y = np.asarray(eta, np.float64), np.asarray(counts, np.float64)
    if eta.shape != y.shape:
        raise ValueError(f"eta: expected the shape of counts, {y.shape}, got {eta.shape}")
    check_counts(y, likelihood=likelihood)
    if isinstance(likelihood, Binomial) and np.any(np.asarray(likelihood.trials) != 1):
        raise ValueError("likelihood: expected trials of 1, for several trains at once have no intervals")
    bins = np.repeat(np.arange(y.size), y.ravel().astype(np.intp))
    r = numpy_generator(random_state).random(len(bins))
    if isinstance(likelihood, Poisson):
        spent = likelihood.mean(torch.tensor(eta)).numpy().ravel()
        return np.diff(np.sort((np.cumsum(spent) - spent)[bins] + r * spent[bins]))
    spent = np.logaddexp(0, eta).ravel()
    end = np.cumsum(spent)
    within = -np.log1p(r * np.expm1(-spent[bins]))
    # at most one spike a bin: waiting for the next begins with the next bin
    return (end - spent)[bins[1:]] + within[1:] - end[bins[:-1]]
