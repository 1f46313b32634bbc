"""
When did a neuron respond?
==========================

A stimulus occurred several times in each trial, but nobody wrote down when. Can its times, and the response
of the neuron, be found from the spikes alone?

Sixty trials of a simulated neuron: six events at the same, irregular times of each trial evoke a burst and
a pause.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter1d

from calepin.spikes import SpikeTrains, analyse_spikes, session_figure, simulate_spikes

BLUE, ORANGE = "#0072B2", "#D55E00"
N_BINS, BIN = 1000, 0.001

# %%
# Events add a response to the log odds of a spike in a bin of 1 ms; a spike suppresses others for 3 ms.
time = np.arange(60)
response = 3.2 * np.exp(-0.5 * ((time - 14) / 5) ** 2) - 1.5 * np.exp(-0.5 * ((time - 38) / 9) ** 2)
onsets = np.array([90, 215, 390, 520, 705, 850])
drive = np.zeros(N_BINS)
for onset in onsets:
    drive[onset : onset + 60] += response
simulated = simulate_spikes(60, N_BINS, drive=drive, baseline=-4.2, history=[-3, -3, -2], random_state=0)
trains = SpikeTrains(simulated.counts, bin_width=BIN)

# %%
# ``analyse_spikes`` does all of it: the first 60 % of the trials are for learning, the others for the test.
# The number of events is the one with which one half of those trials predicts the other half best.
session = analyse_spikes(trains, kernel_size=60, order=5)
found = session.model.onsets
for name, fit in session.fits.items():
    print(f"{name}: {fit.bits_per_spike:.2f} bits per spike, KS distance {fit.test.statistic:.3f}")
print(f"true onsets {onsets.tolist()}, found {found.tolist()}")

# %%
# calepin's own figure of a session: raster, events, response, and the KS plot of all three models.
plt.figure(session_figure(session))

# %%
# The rate of spikes: counted over the held-out trials, smoothed over 5 ms, and expected by the model.
test = trains.counts[session.n_train :]
figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
counted = gaussian_filter1d(test.mean(0), 5) / BIN
expected = gaussian_filter1d(session.model.mean(test).mean(0), 5) / BIN
axes.fill_between(np.arange(N_BINS), counted, color="0.8", label="held-out trials")
axes.plot(expected, color=BLUE, label="expected by the model")
axes.plot(onsets, np.full(len(onsets), -8), "^", color=ORANGE, label="true onsets", clip_on=False)
axes.set(xlabel="time (ms)", ylabel="rate (spikes/s)", xlim=(0, N_BINS), ylim=(-14, 1.35 * counted.max()))
axes.legend(frameon=False, ncols=3, loc="upper center")
plt.show()

# %%
# What was learned
# ----------------
#
# - All six events are found, from spikes alone. A common delay of the onsets cannot be seen: a response
#   that begins later and an earlier onset are the same.
# - The regression (GLM) has no stimulus to work with here, so that only history is left to it; the event
#   model predicts held-out spikes far better.
# - The burst and the pause after it are both learned; the KS plot says whether the model is good enough.
delay = np.median(found - onsets) if len(found) == len(onsets) else np.nan
assert np.abs(found - onsets - delay).max() <= 6
assert session.fits["events"].bits_per_spike > session.fits["GLM"].bits_per_spike + 0.3
