"""Simulated spike trains."""

import numpy as np
import torch
from numpy.typing import ArrayLike

from calepin.core.arguments import check_arguments
from calepin.core.checks import check_array, check_integer, check_number
from calepin.core.random import RandomState, numpy_generator
from calepin.likelihoods import Binomial, Poisson
from calepin.spikes.trains import SpikeTrains

__all__ = ["simulate_spikes"]

_RUN_AWAY = 1e6  # counts in a bin, above which the simulation has diverged


def simulate_spikes(
    n_trials: int,
    n_bins: int,
    *,
    drive: ArrayLike = 0.0,
    baseline: float = -4.0,
    history: ArrayLike = (),
    likelihood: Binomial | Poisson | None = None,
    random_state: RandomState = 0,
) -> SpikeTrains:
    """Return random spike trains that depend on a drive and on their own history.

        eta[m, n] = baseline + drive[n] + sum_l history[l - 1] y[m, n - l]

    Parameters
    ----------
    n_trials, n_bins : int
    drive : float or array of shape (n_bins,), default 0
        Contribution of a stimulus or of events, the same in all trials.
    baseline : float, default -4
        With the logit link, -4 gives about 18 spikes in 1000 bins.
    history : array of shape (order,)
        Weights of past bins, latest first; negative first entries make a refractory neuron.
    likelihood : Binomial or Poisson, optional
        ``Binomial()`` by default.
    random_state : default 0

    Raises
    ------
    ValueError
        A size below 1, a drive of another shape, or Poisson counts that diverge because of their history.
    """
    check_arguments(simulate_spikes, locals())
    check_integer("n_trials", n_trials)
    check_integer("n_bins", n_bins)
    check_number("baseline", baseline)
    shared = check_array("drive", drive)
    if shared.shape not in ((), (n_bins,)):
        raise ValueError(f"drive: expected a number or shape ({n_bins},), got {shared.shape}")
    likelihood = Binomial() if likelihood is None else likelihood
    if not isinstance(likelihood, Poisson | Binomial):
        raise ValueError(f"likelihood: expected Binomial or Poisson, got {likelihood!r}")
    # a separate random stream: a test of these spikes may use the same seed
    stream = numpy_generator(random_state).spawn(1)[0]
    past = check_array("history", history, ndim=1)[::-1] if np.size(history) else np.zeros(0)
    order = len(past)
    counts = np.zeros((n_trials, order + n_bins))  # no spikes before a trial
    fixed = np.broadcast_to(baseline + shared, n_bins)
    for n in range(n_bins):
        eta = torch.from_numpy(fixed[n] + counts[:, n : n + order] @ past)
        mean = likelihood.mean(eta).numpy()
        if mean.max() > _RUN_AWAY:
            raise ValueError(
                f"history: expected weights that keep counts bounded, got {mean.max():.3g} in bin {n}"
            )
        if isinstance(likelihood, Poisson):
            counts[:, order + n] = stream.poisson(mean)
        else:
            trials = np.asarray(likelihood.trials)
            counts[:, order + n] = stream.binomial(trials, mean / trials)
    return SpikeTrains(counts[:, order:])
