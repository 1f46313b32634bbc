r"""
Spikes and goodness of fit
==========================

You recorded the spikes of a neuron in repeated trials and ask which events it responds to, when,
and how. This tutorial fits a model with unknown events to simulated trials, whose truth is known,
and tests on held-out trials whether the model describes the spikes.

The model, for bin n of trial m: the spikes are Bernoulli with the predictor

.. math:: \eta_{m,n} = a + \sum_k x_k h_{n - t_k} + \sum_l g_l y_{m, n - l} ,

a baseline a, a filter h at unknown onsets t_k with amplitudes x_k, common to all trials, and
weights g of the spikes before the bin in the same trial, its history.
"""

# %%
# Trials
# ------
# Spikes are counts of the shape (n_trials, n_bins), here 80 trials of 1000 bins of 1 ms. Five
# events evoke a response of about 60 ms; after a spike the neuron is refractory for some
# milliseconds.

import matplotlib.pyplot as plt
import numpy as np

from calepin.likelihoods import Binomial
from calepin.spikes import (
    bits_per_spike,
    fit_event_model,
    fit_spike_glm,
    ks_plot,
    ks_test,
    log_likelihood,
    simulate_spikes,
)

BLUE, ORANGE = "#0072B2", "#D55E00"
time = np.arange(80)
response = (time / 12) ** 2 * np.exp(-time / 12)
response /= np.linalg.norm(response)
onsets = np.array([100, 270, 430, 650, 820])
amplitudes = np.array([20.0, 14.0, 22.0, 16.0, 19.0])
drive = np.zeros(1000)
for onset, amplitude in zip(onsets, amplitudes, strict=True):
    drive[onset : onset + 80] += amplitude * response
history = -5 * np.exp(-np.arange(8) / 3)
trials = simulate_spikes(80, 1000, drive=drive, baseline=-4.5, history=history, random_state=0)
counts = trials.counts

figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(9, 5.2), sharex=True, height_ratios=[2, 1], layout="constrained"
)
trial, bins = np.nonzero(counts)
top.plot(bins, trial + 1, "|", color="0.15", markersize=3)
rate = 1000 * np.convolve(counts.mean(0), np.full(10, 0.1), mode="same")
bottom.plot(rate, color=BLUE)
for axes in (top, bottom):
    for onset in onsets:
        axes.axvline(onset, color=ORANGE, linestyle=":", zorder=0)
top.set(ylabel="trial", title=f"{int(counts.sum())} spikes; dotted: true onsets")
bottom.set(xlabel="time (ms)", ylabel="spikes per second", ylim=(0, None))
plt.show()

# %%
# Fit events
# ----------
# Some trials are for training, the others for testing. The length of the filter and an upper bound
# of the number of events are yours to choose.

train, test = counts[:50], counts[50:]
bump = np.sin(np.pi * np.arange(80) / 80)  # the first guess of the filter
model = fit_event_model(train, bump, n_events=5, order=10)
print("onsets found:", model.onsets)
print("true onsets: ", onsets)
print("difference:  ", model.onsets - onsets)

# %%
# The onsets differ from the true ones by nearly the same number of bins. The times of a filter are
# determined only up to one shift; the filter is shifted by as much in the other direction. Shifted
# back, filter and history are close to the truth:

shift = int(np.round(np.median(model.onsets - onsets)))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(time, response, color=ORANGE, linewidth=2.5, label="true")
left.plot(time + shift, model.filter, color=BLUE, linewidth=1.2, label="learned")
left.set(xlabel="time after the true onset (ms)", ylabel="filter, unit norm", title="response to an event")
lags = np.arange(1, 11)
right.plot(lags[:8], history, "s-", color=ORANGE, markersize=9, fillstyle="none", label="true")
right.plot(lags, model.history, "o-", color=BLUE, label="learned")
right.set(xlabel="lag (ms)", ylabel="weight of a past spike", title="history")
for axes in (left, right):
    axes.axhline(0, color="0.8", zorder=0)
    axes.legend(frameon=False)
plt.show()

# %%
# Is the model good?
# ------------------
# The time-rescaling theorem turns the spikes of any model that is true into uniform numbers. Their
# quantiles lie on the diagonal of a Kolmogorov-Smirnov (KS) plot. Outside of the dotted 95 % bounds
# the model is rejected. Always test on trials that were not used for the fit.

glm = fit_spike_glm(train, order=10)  # history, no events
constant = np.full(test.shape, np.log(train.mean() / (1 - train.mean())))
tests = {
    "constant rate": ks_test(constant, test),
    "history alone": ks_test(glm.predictor(test), test),
    "events and history": ks_test(model.predictor(test), test),
}
for name, found in tests.items():
    print(f"{name}: KS {found.statistic:.3f}, bound {found.band:.3f}, {'not ' * found.inside}rejected")
plt.figure(ks_plot(tests))
plt.show()

# %%
# A KS plot is necessary, not sufficient: a model can pass it although another one predicts better.
# Therefore compare the likelihood of held-out spikes too, in bits per spike:

base = log_likelihood(constant, test, likelihood=Binomial())
for name, eta in (("history alone", glm.predictor(test)), ("events and history", model.predictor(test))):
    gain = bits_per_spike(log_likelihood(eta, test, likelihood=Binomial()), base, test.sum())
    print(f"{name}: {gain:.3f} bits per spike over a constant rate")

# %%
# What goes wrong, and how calepin reports it
# -------------------------------------------
# - **Too many events**: surplus events get small or negative amplitudes; negative ones are dropped.
#   Without ``n_events`` the number with the smallest BIC is taken.
# - **No history in the model**: the KS curve bends at small quantiles, because intervals shorter
#   than the refractory period never occur.
# - **Bins that are too wide**: more than one spike in a bin is an error for the Bernoulli model;
#   :func:`calepin.spikes.analyse_spikes` then takes a Poisson model.
# - **A neuron that never fires in two consecutive bins** has no finite weight of the first lag; a
#   small ridge keeps it finite.
# - **A trial without any spike** is fine; data without any spike are an error:

try:
    fit_event_model(np.zeros((10, 500)), bump, n_events=3)
except ValueError as error:
    print(f"{type(error).__name__}: {error}")

# %%
# Real recordings
# ---------------
# ``calepin spikes neuron.mat -o neuron.safetensors --figure neuron.png`` does all of this for a
# file; in Python, :func:`calepin.spikes.read_spikes` and :func:`~calepin.spikes.analyse_spikes`.
# Public recordings that calepin was tested with: the whisker data of nSTAT (``iahncajigas/nSTAT``,
# folder ``data/Explicit Stimulus``) and the trials of ``Mark-Kramer/Case-Studies-Python``. NWB
# files, as in the DANDI archive, are read with ``pip install 'calepin[neuro]'``.
#
# What was learned
# ----------------
# - One filter at unknown onsets is learned from spikes alone; times are determined up to one shift.
# - History belongs into the model, and the test belongs on held-out trials.
# - Use the KS plot to reject models, and bits per spike to compare them.
#
# Next: :doc:`/how-to/spikes-from-files` and :doc:`/background/spikes`.
