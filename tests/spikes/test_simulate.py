"""Simulated spike trains have the rate of their drive and remember their own history."""

import numpy as np
import pytest

from calepin.likelihoods import Binomial, Poisson
from calepin.spikes import simulate_spikes


@pytest.mark.parametrize("likelihood", [Binomial(), Binomial(4), Poisson()])
def test_simulated_spikes_have_the_rate_of_their_drive(likelihood):
    drive = np.sin(np.arange(100) / 10)
    counts = simulate_spikes(2000, 100, drive=drive, baseline=-2, likelihood=likelihood).counts
    trials = getattr(likelihood, "trials", None)
    eta = drive - 2
    mean = np.exp(eta) if trials is None else trials / (1 + np.exp(-eta))
    assert np.abs(counts.mean(0) - mean).max() < 5 * np.sqrt(mean.max() / 2000)


def test_simulated_spikes_remember_and_follow_the_seed():
    counts = simulate_spikes(10, 500, baseline=0, history=[-50, -50]).counts
    assert counts.sum() > 300
    assert not (counts[:, 1:] * counts[:, :-1]).any()
    assert not (counts[:, 2:] * counts[:, :-2]).any()
    np.testing.assert_array_equal(counts, simulate_spikes(10, 500, baseline=0, history=[-50, -50]).counts)
    with pytest.raises(ValueError, match="history: expected weights that keep counts bounded"):
        simulate_spikes(10, 500, baseline=0, history=[2.0], likelihood=Poisson())
    with pytest.raises(ValueError, match=r"drive: expected a number or shape \(5,\), got \(4,\)"):
        simulate_spikes(1, 5, drive=np.zeros(4))
    with pytest.raises(ValueError, match="n_bins: expected a positive integer, got 0"):
        simulate_spikes(1, 0)
