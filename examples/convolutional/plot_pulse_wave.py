"""
The pulse from a light sensor that slips
========================================

A photoplethysmogram (PPG) measures by light how much blood is in the skin. The sensor slips, and its
converter has an end. Which seconds of eleven minutes can be trusted, and what was the pulse?

The recording comes with heartpy: ``data3.csv``, in counts of the converter (0 to 978), 100.42 samples a
second. Its artefacts are real, none is planted.
"""

import csv
from importlib.metadata import distribution

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import butter, find_peaks, sosfiltfilt

from calepin import ConvolutionalDictionaryLearner

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "0.6"
RATE = 100.42

# %%
# The file is read without importing heartpy, which needs a module that setuptools no longer has. Where the
# converter is at one of its ends, the light is not known: these samples are NaN, and are not fitted.
with open(distribution("heartpy").locate_file("heartpy/data/data3.csv")) as file:
    counts = np.array([float(row["hr"]) for row in csv.DictReader(file)])
at_the_end = (counts == 0) | (counts == counts.max())
pulse_wave = np.where(at_the_end, np.nan, counts)
seconds = np.arange(len(counts)) / RATE
print(f"{seconds[-1] / 60:.1f} minutes, {at_the_end.mean():.1%} of the samples at an end of the converter")

# %%
# One atom of .6 s, as long as a pulse wave, is learned from the first two minutes. All else is as by default:
# the weight of the l1 norm follows the counts, their offset is removed, windows with artefacts are left out.
# With ``debias`` the events have amplitudes that the l1 norm does not shrink.
signals = pulse_wave[None, None]  # (signals, channels, samples)
learner = ConvolutionalDictionaryLearner(
    1, kernel_seconds=0.6, sampling_rate=RATE, nonnegative=True, random_state=0
).fit(signals[:, :, : round(120 * RATE)])

# the default, 8 deviations, is for learning, and marks nothing here
doubtful = learner.anomalies(signals, robust=3.0)[0] | (counts == 0)
edges = np.flatnonzero(np.diff(doubtful.astype(int), prepend=0, append=0)).reshape(-1, 2) / RATE
print(f"{len(edges)} stretches are anomalies or at the lower end, {doubtful.mean():.1%} of the recording")

learner.set_params(coder="exact", debias=True)
events = learner.events(signals)
print(f"{len(events)} events")

# %%
# A pulse is an event of more than two fifths of the usual amplitude, and the largest within .3 s: the others
# are second, dicrotic waves. It is where the atom is largest, the crest of the wave. The count beside it is
# the usual one: a band from .5 to 8 Hz, and its peaks, by the same rule.
atom = learner.components_[0, 0]
crest = int(atom.argmax())


def crests(heights):
    """Return the times of the peaks that are no smaller waves, and their usual height."""
    places = find_peaks(heights, distance=round(0.3 * RATE))[0]
    usual = np.median(heights[places])
    return seconds[places[heights[places] > 0.4 * usual]], usual


at_crests = np.zeros(len(counts) + atom.size)
at_crests[np.round(events["onset"] * RATE).astype(int) + crest] = events["amplitude"]
pulses, usual = crests(at_crests[: len(counts)])

filled = np.where(at_the_end, np.nanmedian(pulse_wave), counts)
peaks, _ = crests(sosfiltfilt(butter(2, [0.5, 8], "bandpass", fs=RATE, output="sos"), filled))


def found_by(ones, others):
    """Return which of the times have one of the others within 150 ms."""
    return np.abs(ones[:, None] - others).min(axis=1) <= 0.15


sensitivity, precision = found_by(peaks, pulses).mean(), found_by(pulses, peaks).mean()
print(f"{len(pulses)} pulses by the atom, {len(peaks)} peaks of the band")
print(f"{sensitivity:.1%} of the peaks are pulses of the atom, {precision:.1%} of the pulses are peaks")

# %%
# The atom in counts, the recording where the sensor slips, and the pulse of all eleven minutes. An interval
# that touches a doubtful stretch says nothing about the heart.
so_far = np.concatenate([[0], np.cumsum(doubtful)])  # how many doubtful samples there were before
places = np.round(pulses * RATE).astype(int)
sound = np.diff(so_far[places]) == 0
between = np.diff(pulses)

figure = plt.figure(figsize=(9, 7), layout="constrained")
upper, lower = figure.subfigures(2, 1)
left, right = upper.subplots(1, 2, width_ratios=[1, 2.4])
left.plot(1000 * (np.arange(atom.size) - crest) / RATE, usual * atom, color=BLUE)
left.axhline(0, color="0.8", linewidth=0.8)
left.set(xlabel="time from the crest (ms)", ylabel="PPG (counts)", title="usual pulse wave")
shown = (seconds > 150) & (seconds < 175)
right.plot(seconds[shown], counts[shown], color="0.3", linewidth=0.8)
for start, end in edges:
    right.axvspan(start, end, color=ORANGE, alpha=0.25, linewidth=0)
inside = pulses[(pulses > 150) & (pulses < 175)]
right.plot(inside, np.full(len(inside), 1050.0), "v", color=BLUE, markersize=4)
right.set(xlim=(150, 175), xlabel="time (s)", ylabel="PPG (counts)", title="the sensor slips three times")
axes = lower.subplots()
for start, end in edges:
    axes.axvspan(start, end, color=ORANGE, alpha=0.25, linewidth=0)
axes.plot(pulses[1:][~sound], 60 / between[~sound], ".", color=GRAY, label="at a doubtful stretch")
axes.plot(pulses[1:][sound], 60 / between[sound], ".", color=BLUE, markersize=4, label="trusted")
axes.set(xlabel="time (s)", ylabel="pulse (beats a minute)", xlim=(0, seconds[-1]), ylim=(20, 180))
axes.legend(frameon=False, ncols=2, loc="upper right")
plt.show()

rate = 60 / np.median(between[sound])
out_of_rhythm = np.abs(between[sound] * rate / 60 - 1) > 0.4
print(
    f"median pulse {rate:.0f} a minute; {out_of_rhythm.mean():.1%} of the trusted intervals are out of rhythm"
)

# %%
# What was learned
# ----------------
#
# - The pulse of a PPG comes out of the defaults: counts, offset and gaps are taken as they are recorded.
# - ``anomalies`` marks where the sensor slips. A slip lasts a second, and a band-pass turns it into pulses.
# - Both counts agree on nearly all pulses, and neither is the truth. They part at slips, and after ten
#   minutes, where waves are low: the atom, with a height of its own for all eleven minutes, misses some.
assert min(sensitivity, precision) > 0.95
assert len(edges) > 10
