"""The time-rescaling theorem: under the true model, spikes in rescaled time are a Poisson process of rate 1.

    tau(t) = integral of the conditional intensity from 0 to t

In rescaled time, the intervals between spikes are exponential with mean one, and
``u = 1 - exp(-interval)`` is uniform, which a Kolmogorov-Smirnov test checks (Brown et al., "The
time-rescaling theorem and its application to neural spike train data analysis", 2002).

In discrete time, a bin has a probability p of a spike instead of an intensity. The correction of Haslinger,
Pipa and Brown ("Discrete time rescaling theorem: determining goodness of fit for discrete time
statistical models of neural spiking", 2010, section 2.3) takes ``q = -log(1 - p)`` as the integral over a
bin, and ``-log(1 - r p)`` with r uniform as the time of the spike within its bin. Without the correction,
large p appear as a misfit. The spikes of a Poisson count have independent uniform times in their bin.

Rescaled trials are concatenated, so that an interval is cut off only at the end of the last trial.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array
from calepin.core.random import RandomState, numpy_generator
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.goodness import check_counts

__all__ = ["KSTest", "ks_test", "rescaled_intervals"]

Floats = NDArray[np.float64]

_QUANTILE = 1.3581  # 95 % of Kolmogorov's distribution


@dataclass(frozen=True)
class KSTest:
    """Kolmogorov-Smirnov test of rescaled intervals.

    Attributes
    ----------
    quantiles
        ``u = 1 - exp(-interval)`` in ascending order; uniform if the model is true.
    statistic
        Largest distance of their empirical distribution function from the uniform one.
    band
        95 % bound of the statistic if the model is true: ``1.358 / sqrt(n)``.
    """

    quantiles: Floats
    statistic: float
    band: float

    @property
    def inside(self) -> bool:
        """Whether the test does not reject the model at the 5 % level."""
        return self.statistic <= self.band

    @property
    def expected(self) -> Floats:
        """Expected quantiles of the uniform distribution, to plot against `quantiles`."""
        return (np.arange(len(self.quantiles)) + 0.5) / len(self.quantiles)


def ks_test(
    eta: ArrayLike,
    counts: ArrayLike,
    *,
    likelihood: Binomial | Poisson | None = None,
    random_state: RandomState = 0,
    mask: NDArray[np.bool_] | None = None,
) -> KSTest:
    """Test a model of spikes by the time-rescaling theorem.

    Parameters and errors are those of `rescaled_intervals`; also a ValueError with fewer than two spikes,
    since there is no interval.
    """
    check_arguments(ks_test, locals())
    intervals = rescaled_intervals(eta, counts, likelihood=likelihood, random_state=random_state, mask=mask)
    if not len(intervals):
        raise ValueError("counts: expected at least two spikes, for one interval, got one")
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
    mask: NDArray[np.bool_] | None = None,
) -> Floats:
    """Return the intervals between successive spikes in rescaled time.

    Parameters
    ----------
    eta : array of shape (n_trials, n_bins)
        Predictor of each bin given the spikes before it.
    counts : array of shape (n_trials, n_bins)
        Spikes of one neuron; at most one per bin with `Binomial`.
    likelihood : Binomial or Poisson, optional
        ``Binomial()`` by default. It must have one trial: the sum of several trains has no intervals.
    random_state : default 0
        Seed of the times of spikes within their bins.
    mask : bool array of shape (n_trials, n_bins), optional
        True where a bin was observed; by default all. Rescaled time stands still in the others.

    Returns
    -------
    array of shape (n_spikes - 1,)

    Raises
    ------
    ValueError
        Shapes that differ, entries that are not counts, no spike, or a binomial with more than one trial.
    """
    check_arguments(rescaled_intervals, locals())
    likelihood = Binomial() if likelihood is None else likelihood
    eta, y = check_array("eta", eta), check_array("counts", counts)
    if eta.shape != y.shape:
        raise ValueError(f"eta: expected the shape of counts, {y.shape}, got {eta.shape}")
    if mask is not None:
        if mask.dtype != bool or mask.shape != y.shape:
            raise ValueError(f"mask: expected bool {y.shape}, got {mask.dtype} {mask.shape}")
        eta, y = eta[mask], y[mask]  # intervals go on after a gap as after the end of a trial
    check_counts(y, likelihood=likelihood, name="counts")
    if isinstance(likelihood, Binomial) and np.any(np.asarray(likelihood.trials) != 1):
        raise ValueError("likelihood: expected trials of 1, since the sum of several trains has no intervals")
    bins = np.repeat(np.arange(y.size), y.ravel().astype(np.intp))
    r = numpy_generator(random_state).random(len(bins))
    if isinstance(likelihood, Poisson):
        spent = likelihood.mean(torch.tensor(eta)).numpy().ravel()
        return np.diff(np.sort((np.cumsum(spent) - spent)[bins] + r * spent[bins]))
    spent = np.logaddexp(0, eta).ravel()
    end = np.cumsum(spent)
    within = -np.log1p(r * np.expm1(-spent[bins]))
    # at most one spike per bin: the next interval begins with the next bin
    return (end - spent)[bins[1:]] + within[1:] - end[bins[:-1]]
