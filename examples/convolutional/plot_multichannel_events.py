"""
Events seen by several channels
===============================

A microphone array, an electrode grid, an EEG cap: one event appears in all channels at once, with a different
shape in each. What does it bring to learn filters with all channels, instead of one channel at a time?

The data are simulated, so that the truth is known: three kinds of events in eight channels under white
noise of standard deviation 0.7, in signals of 600 samples (0.6 s at 1 kHz).
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin import ConvolutionalDictionaryLearner
from calepin.datasets import simulate_convolutional, smooth_filters
from calepin.metrics import match_filters

COLOURS = ["#0072B2", "#D55E00", "#009E73"]
N_CHANNELS, N_EVENTS, LENGTH = 8, 4, 60

# %%
# An atom of several channels is the outer product of a time course and a profile over the channels.
courses = smooth_filters(3, (LENGTH,), random_state=1)
place = np.arange(N_CHANNELS)
profiles = np.exp(-0.5 * ((place - np.array([[1.0], [4.0], [6.0]])) / 1.2) ** 2)
atoms = profiles[:, :, None] * courses
atoms /= np.linalg.norm(atoms, axis=(1, 2), keepdims=True)
data = simulate_convolutional(
    30,
    (600,),
    atoms=atoms,
    n_events=N_EVENTS,
    amplitude=(5, 8),
    likelihood="gaussian",
    noise=0.7,
    random_state=0,
)


# %%
# The same learner with all channels, with the sum over channels, and with the channel in the middle.
# Filters are known up to a shift, so ``match_filters`` moves them to the true ones; an event counts as
# found if an event of the same kind is within 5 ms of it.
def learn(signals, reference):
    """Return the fraction of events that are found, for each kind, and the aligned filters."""
    learner = ConvolutionalDictionaryLearner(
        3, LENGTH, coder="bcomp", n_nonzero=3 * N_EVENTS, nonnegative=True, max_iter=15, random_state=0
    ).fit(signals)
    match = match_filters(learner.components_, reference, max_shift=LENGTH // 2)
    codes = learner.transform(signals)[:, match.order]
    fractions = []
    for kind, shift in enumerate(match.shifts[:, 0]):
        distances = [
            np.abs(found.nonzero()[0][:, None] - shift - true.nonzero()[0]).min(0, initial=LENGTH)
            for found, true in zip(codes[:, kind], data.codes[:, kind], strict=True)
        ]
        fractions.append(np.mean(np.concatenate(distances) <= 5))
    return np.array(fractions), match.align(learner.components_)


results = {
    "all 8\nchannels": learn(data.X, atoms),
    "sum of\nchannels": learn(data.X.sum(1, keepdims=True), courses),
    "channel 4": learn(data.X[:, 4:5], courses),
}
for name, (fractions, _) in results.items():
    print(f"{name!r}: events found {fractions.round(2)}")

# %%
# The learned atoms beside the true ones, and the events that were found.
aligned = results["all 8\nchannels"][1]
figure = plt.figure(figsize=(9, 4.8), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[2.2, 1])
for i, axes in enumerate(left.subplots(1, 3, sharey=True)):
    for channel in range(N_CHANNELS):
        axes.plot(atoms[i, channel] * 4 + channel, color="0.7", linewidth=3)
        axes.plot(aligned[i, channel] * 4 + channel, color=COLOURS[i], linewidth=1.2)
    axes.set(title=f"kind {i + 1}", xlabel="time (ms)", yticks=place, ylabel="" if i else "channel")
left.suptitle("true (gray) and learned atoms (colour)")
axes = right.subplots()
for x, (fractions, _) in enumerate(results.values()):
    for kind, colour in enumerate(COLOURS):
        label = kind + 1 if x == 0 else None
        axes.bar(x + 0.25 * (kind - 1), fractions[kind], 0.22, color=colour, label=label)
axes.set(ylabel="fraction of events found", ylim=(0, 1.3), yticks=np.linspace(0, 1, 6))
axes.set_xticks(range(3), list(results))
axes.legend(title="kind of event", ncols=3, frameon=False, loc="upper right", handlelength=1)
plt.show()

# %%
# What was learned
# ----------------
#
# - Channels share the times of events. With all of them the three kinds are told apart by where they appear
#   as well as by their shape, and nearly all events are found.
# - The sum over channels adds the noise of channels in which there is nothing to see; a single channel
#   misses the events that are elsewhere.
# - Nothing changes in the call: signals have the shape (n, channels, samples), and filters get the same
#   channels.
joint, summed, single = (fractions for fractions, _ in results.values())
assert joint.min() > 0.9
assert summed.mean() < joint.mean()
assert single.min() < 0.5
