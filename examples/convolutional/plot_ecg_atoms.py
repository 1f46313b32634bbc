"""
The shape of a heartbeat from a noisy ECG
=========================================

Three seconds of an electrocardiogram hold three beats. Can one filter, learned from a noisy copy of them, say
what a beat looks like and when the beats occurred?

The recording comes with PyWavelets: 1024 samples of a record of the MIT-BIH database, at 360 samples a
second.
"""

import matplotlib.pyplot as plt
import numpy as np
import pywt
from scipy.ndimage import median_filter

from calepin import ConvolutionalDictionaryLearner

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "0.6"
RATE = 360

# %%
# The slow drift of the baseline is removed by a running median over half a second, and the ECG is scaled to a
# peak of 1. White noise of standard deviation 0.1 hides the small waves before and after each peak.
raw = pywt.data.ecg().astype(float)
ecg = raw - median_filter(raw, size=RATE // 2, mode="nearest")
ecg /= ecg.max()
noisy = ecg + 0.1 * np.random.default_rng(0).standard_normal(ecg.size)

# %%
# One filter of two thirds of a second and three events. The greedy coder "bcomp" takes the number of
# events, and refits all amplitudes after each; ``init="data"`` starts from a window of the recording.
learner = ConvolutionalDictionaryLearner(
    1, 240, coder="bcomp", n_nonzero=3, nonnegative=True, max_iter=60, random_state=0
)
signals = noisy[None, None]  # (signals, channels, samples)
codes = learner.fit(signals).transform(signals)
estimate = learner.inverse_transform(codes)[0, 0]
onsets = codes[0, 0].nonzero()[0]


# %%
# The filter is compared with the mean of the three clean beats at the events that were found. The largest
# entry of the filter is the R wave.
beat = learner.components_[0, 0]
peak = int(beat.argmax())
scale = codes[0, 0, onsets].mean()
clean_beat = np.mean([ecg[t : t + beat.size] for t in onsets], axis=0)

time = np.arange(ecg.size) / RATE
figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 6), layout="constrained")
top.plot(time, noisy, color=GRAY, linewidth=0.8, label="noisy")
top.plot(time, estimate, color=BLUE, linewidth=1.8, label="filter at three events")
top.plot((onsets + peak) / RATE, np.full(3, 1.3), "v", color=ORANGE, label="events (R wave)")
top.set(xlabel="time (s)", ylabel="ECG (fraction of peak)", ylim=(-0.5, 1.9))
top.legend(loc="upper center", ncols=3, frameon=False)
around = (np.arange(beat.size) - peak) / RATE * 1000
bottom.plot(around, noisy[onsets[0] :][: beat.size], color=GRAY, linewidth=0.8, label="one noisy beat")
bottom.plot(around, clean_beat, color=ORANGE, linewidth=3, alpha=0.7, label="mean of the clean beats")
bottom.plot(around, scale * beat, color=BLUE, linewidth=1.4, label="learned filter")
bottom.set(xlabel="time from the R wave (ms)", ylabel="ECG (fraction of peak)")
bottom.legend(frameon=False)
plt.show()

# %%
# Errors are root mean squares over the samples that the events cover.
covered = estimate != 0
error = {
    name: np.sqrt(np.mean((x - ecg)[covered] ** 2)) for name, x in (("noisy", noisy), ("estimate", estimate))
}
intervals = np.diff(onsets) / RATE
print("error:", {name: round(value, 3) for name, value in error.items()})
print(f"intervals between beats: {intervals.round(2)} s, {60 / intervals.mean():.0f} beats a minute")
assert error["estimate"] < 0.6 * error["noisy"]
assert 60 < 60 / intervals.mean() < 70

# %%
# What was learned
# ----------------
#
# - Three noisy beats are enough for a filter on which the P wave (150 ms before the peak) and the T wave
#   (300 ms after it) can be seen; in a single noisy beat they are hidden.
# - The filter is nearly the mean of the noisy beats, aligned by the learner itself, so its noise is that of
#   a mean of three: the error falls, but it does not vanish.
# - Events are onsets of the filter. Their distances give the heart rate.
