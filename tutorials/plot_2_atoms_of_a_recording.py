"""
Convolutional atoms of a recording
==================================

You have a recording in which the same short shapes come back at unknown times: heart beats, spikes
of a neuron, sleep spindles, defects of a machine. This tutorial finds the shapes and their times in
an electrocardiogram (ECG).

The model: the recording is a sum of a few short filters, each shifted to a few positions, ``x =
sum_m z_m * h_m``. The filters h are learned, and the codes z are zero except at the events.
"""

# %%
# The recording
# -------------
# PyWavelets ships 1024 samples of an ECG with three heart beats. Each beat is a small bump (the P
# wave), a sharp peak (QRS) and a broad bump (the T wave).

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pywt.data
from scipy.ndimage import median_filter

import calepin
from calepin.metrics import filter_error

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
recording = pywt.data.ecg().astype(float)
drift = median_filter(recording, 201, mode="nearest")
ecg = recording - drift

figure, panels = plt.subplots(2, 1, figsize=(9, 4.6), sharex=True, layout="constrained")
panels[0].plot(recording, color=BLUE, label="recording")
panels[0].plot(drift, "--", color=ORANGE, label="running median of 201 samples")
panels[0].legend(frameon=False, loc="upper right")
panels[1].plot(ecg, color=BLUE)
panels[0].set(ylabel="raw units", title="with the slow drift")
panels[1].set(xlabel="sample", ylabel="raw units", title="without it")
plt.show()

# %%
# **Remove the drift first.** By default the learner removes a straight line at most, so filters would be
# spent on a faster drift. ``detrend=`` follows it in a longer recording: :doc:`plot_7_heartbeats`.
#
# One filter
# ----------
# Signals have the shape (n_signals, channels, length): here one signal with one channel. A filter
# is as long as the shape that you look for, here 200 samples. With coder "bcomp" you say how many
# events a signal has at most.

signals = ecg[None, None]
settings = {"coder": "bcomp", "nonnegative": True, "random_state": 0}
one = calepin.ConvolutionalDictionaryLearner(1, 200, n_nonzero=3, **settings).fit(signals)
codes = one.transform(signals)
onsets = codes[0, 0].nonzero()[0]
print("events begin at samples", onsets, "with amplitudes", codes[0, 0, onsets].round(1))
print("distances of successive beats:", np.diff(onsets), "samples")


def draw(learner, codes):
    """Plot the fit, the events, the residual and the filters."""
    fitted = learner.inverse_transform(codes)[0, 0]
    energy = 100 * (1 - ((ecg - fitted) ** 2).sum() / (ecg**2).sum())
    colours = (ORANGE, GREEN)
    figure = plt.figure(figsize=(9, 5.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2.4, 1])
    panels = left.subplots(3, 1, sharex=True, height_ratios=[1.5, 1, 1.2])
    panels[0].plot(ecg, color=BLUE, label="recording")
    panels[0].plot(fitted, "--", color=ORANGE, label=f"model, {energy:.1f} % of the energy")
    panels[0].legend(frameon=False, loc="upper right", ncols=2)
    for number, (code, colour) in enumerate(zip(codes[0], colours, strict=False), 1):
        at = code.nonzero()[0]
        panels[1].vlines(at, 0, code[at], color=colour, linewidth=2)
        panels[1].plot(at, code[at], "os"[number - 1], color=colour, label=f"filter {number}")
    panels[1].legend(frameon=False, loc="upper right")
    panels[2].plot(ecg - fitted, color=BLUE)
    panels[0].set(ylabel="raw units", ylim=(-60, 440))
    panels[1].set(ylabel="amplitude", ylim=(0, 900))
    panels[2].set(xlabel="sample", ylabel="residual", ylim=(-80, 80))
    shapes = right.subplots(len(codes[0]), 1, squeeze=False)[:, 0]
    for number, (axes, h, colour) in enumerate(
        zip(shapes, learner.components_[:, 0], colours, strict=False), 1
    ):
        axes.axhline(0, color="0.8")
        axes.plot(h, color=colour)
        axes.set(xlabel="sample after onset", title=f"filter {number}, unit norm")
    plt.show()


draw(one, codes)

# %%
# Look at the residual: it should be noise. Here the T waves are left: the filter begins long before
# the P wave and ends too early. Nothing in the model says where a window begins.
#
# Begin from a shape of your own
# ------------------------------
# If you know roughly what you look for, give it as ``init``, an array (n_components, channels,
# kernel_size). The filter then begins where yours begins. Here it is one beat, cut out by hand,
# from before the P wave to after the T wave.

beat = ecg[130:350]
whole = calepin.ConvolutionalDictionaryLearner(1, init=beat[None, None], n_nonzero=3, **settings).fit(signals)
codes = whole.transform(signals)
draw(whole, codes)
onsets = codes[0, 0].nonzero()[0]
print("events begin at samples", onsets, "with amplitudes", codes[0, 0, onsets].round(1))

# %%
# The amplitudes compare the strengths of beats, and the rest of the residual is what is different
# from beat to beat.
#
# What is determined, and what is not
# -----------------------------------
# A filter and its events are determined only up to a shift, a sign and a factor: moving the filter
# to the right and its events to the left changes nothing. Therefore onsets are the beginnings of
# the *filter*, not of a wave, and only their differences mean something. Filters have unit norm. To
# compare filters use :func:`calepin.metrics.filter_error`, which allows for shifts and signs:

again = calepin.ConvolutionalDictionaryLearner(
    1, 200, n_nonzero=3, coder="bcomp", nonnegative=True, random_state=1
).fit(signals)
print(
    "another seed, error of the filter:",
    filter_error(again.components_, one.components_, max_shift=60).round(3),
)
print("distances of its events:", np.diff(again.transform(signals)[0, 0].nonzero()[0]))

# %%
# The distances are the same. The error is 0 for equal filters and 1 for orthogonal ones; it is not
# 0 here, because the other window begins elsewhere and holds another part of the beat.

# %%
# If the number of events is unknown
# ----------------------------------
# With an l1 penalty (coders "fista" and "exact") alpha decides how strong an event must be. Around
# a true event the code then has several small neighbours, and its amplitudes are too small.
# ``debias=True`` keeps the peaks and fits their amplitudes again.

for alpha in (20.0, 100.0, 300.0):
    known = calepin.ConvolutionalDictionaryLearner.from_components(
        one.components_, alpha=alpha, coder="exact", nonnegative=True
    )
    n_entries = np.count_nonzero(known.transform(signals))
    known.set_params(debias=True)
    n_peaks = np.count_nonzero(known.transform(signals))
    print(f"alpha {alpha:5.0f}: {n_entries} nonzero entries, {n_peaks} peaks")

# %%
# What goes wrong, and how calepin reports it
# -------------------------------------------
# - **alpha is too large**: all codes are zero, a ``RuntimeWarning`` says that nothing is learned.
# - **The filter is too short**: one beat needs several events. Look at the codes: events in groups
#   at constant distances.
# - **The filter is too long**: its ends are noise. It cannot be longer than the signal, which is an
#   error.
# - **Too few iterations** of "fista": ``transform`` warns that its codes are far from the
#   minimiser.
# - **A filter without events** is replaced by the window of the data with the largest residual;
#   ``n_replaced`` in ``history_`` counts this.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    calepin.ConvolutionalDictionaryLearner(1, 200, alpha=1e4, max_iter=2, random_state=0).fit(signals)
    try:
        calepin.ConvolutionalDictionaryLearner(1, 2000).fit(signals)
    except ValueError as error:
        print(f"{type(error).__name__}: {error}")
for text in sorted({f"{warning.category.__name__}: {warning.message}" for warning in caught}):
    print(text)

# %%
# What was learned
# ----------------
# - Remove the drift, choose the length of the filter by the shape you look for, and look at the
#   residual.
# - Times are determined up to one shift per filter, amplitudes up to a factor.
# - Say the number of events if you know it ("bcomp"); otherwise choose alpha and use
#   ``debias=True``.
#
# On the command line: ``calepin learn-filters signals.npy -o filters.safetensors --kernel-size
# 200``. Next: :doc:`/how-to/filters-from-files` for many recordings of different length, and
# :doc:`plot_3_spikes` for counts in place of real numbers.
