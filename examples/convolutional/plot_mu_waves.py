"""
Mu waves in an EEG, with their topographies
===========================================

The mu rhythm of the motor cortex comes in arches of about 10 Hz, which a sine does not describe: each has a
sharp and a round side. Can the shape of a wave, where on the head it is, and when it occurs be learned from
an EEG, without a filter for each band and without epochs?

The EEG is simulated, so that the truth is known: two minutes of nine electrodes, with 40 mu waves on the left
of the head and 40 beta bursts of 20 Hz on the right, each of half a second, and four artefacts, in pink
noise. It is a ``Raw`` of MNE, in volts and seconds, as any recording that MNE reads.
"""

import matplotlib.pyplot as plt
import mne
import numpy as np

from calepin import ConvolutionalDictionaryLearner
from calepin.learning import FilterSet

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "0.6"
RATE, SECONDS, N_EVENTS = 100.0, 120, 40
rng = np.random.default_rng(0)

# %%
# Nine electrodes on a sphere. A mu wave is strongest at C3, a beta burst at C4.
names = ["F3", "Fz", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4"]
x, y = (axis.ravel() for axis in np.meshgrid([-0.05, 0.0, 0.05], [0.05, 0.0, -0.05]))
places = np.column_stack([x, y, np.sqrt(0.095**2 - x**2 - y**2)])
montage = mne.channels.make_dig_montage(dict(zip(names, places, strict=True)), coord_frame="head")
info = mne.create_info(names, RATE, "eeg").set_montage(montage)


def topography(centre):
    """Return the strength of a source below an electrode at all electrodes."""
    distance = np.linalg.norm(places - places[names.index(centre)], axis=1)
    return np.exp(-0.5 * (distance / 0.04) ** 2)


time = np.arange(int(0.5 * RATE)) / RATE
window = np.hanning(len(time))
mu = (np.sin(2 * np.pi * 10 * time) + 0.5 * np.cos(2 * np.pi * 20 * time)) * window
beta = np.sin(2 * np.pi * 20 * time) * window
waves = {"mu at C3": np.outer(topography("C3"), mu), "beta at C4": np.outer(topography("C4"), beta)}

# %%
# Pink noise of 4 microvolts, and waves of 15 to 25 microvolts at random times.
n_samples = int(SECONDS * RATE)
spectrum = np.fft.rfft(rng.standard_normal((9, n_samples)), axis=1)
spectrum[:, 1:] /= np.sqrt(np.arange(1, spectrum.shape[1]))
spectrum[:, 0] = 0
eeg = np.fft.irfft(spectrum, n_samples, axis=1)
eeg *= 4e-6 / eeg.std()
truth = {}
for name, wave in waves.items():
    onsets = np.sort(rng.choice(n_samples // 60 - 1, N_EVENTS, replace=False)) * 60 + rng.integers(0, 10)
    for onset in onsets:
        eeg[:, onset : onset + len(time)] += rng.uniform(15e-6, 25e-6) * wave
    truth[name] = onsets / RATE

# %%
# Three blinks of 150 microvolts at the frontal electrodes, and one contact of P4 that breaks.
blinks, broken = [20.0, 61.5, 98.2], 75.0
for second in blinks:
    eeg[:3, int(second * RATE) :][:, :40] += 150e-6 * np.hanning(40)
after = np.arange(30)
eeg[names.index("P4"), int(broken * RATE) :][:30] += 120e-6 * (-1.0) ** after * np.exp(-after / 10)
raw = mne.io.RawArray(eeg, info, verbose="error")

# %%
# A high-pass of 4 Hz takes away the slow part of the noise, the largest: the atoms would be spent on it. The
# learner reads sampling rate and names from ``raw``. Lengths are in seconds, and the weight of the l1 norm
# follows the volts. A source in the brain has one pattern on the head and one waveform: rank 1.
raw.filter(4.0, None, verbose="error")
learner = ConvolutionalDictionaryLearner(
    2, kernel_seconds=0.5, nonnegative=True, filters=FilterSet(rank=1), random_state=0
).fit(raw)
events = learner.events(raw)
events = events[events["amplitude"] > np.median(events["amplitude"]) / 3]
print(f"{learner.sampling_rate_:g} Hz, {', '.join(learner.channel_names_)}")
print(f"{len(events)} events, of which the first are {events[:3]}")

# %%
# ``anomalies`` marks windows that the atoms explain much worse than the usual wave: the artefacts. They were
# left out of learning.
marked = learner.anomalies(raw)[0]
edges = np.flatnonzero(np.diff(marked.astype(int), prepend=0, append=0)).reshape(-1, 2) / RATE
print("marked, in seconds:", edges.round(1).tolist(), "planted:", sorted([*blinks, broken]))


# %%
# An atom belongs to the kind of wave that is most of it. Its events are known up to a shift, the same for
# all of them: the median of the shifts is removed. A wave counts as found if an event is within 20 ms.
def kind_of(atom):
    """Return the kind of wave with the largest correlation at any shift."""
    return max(waves, key=lambda name: largest_correlation(atom, waves[name]))


def largest_correlation(atom, wave):
    """Return the largest correlation of an atom with a wave over shifts."""
    over_shifts = sum(np.correlate(a, w, "full") for a, w in zip(atom, wave, strict=True))
    return np.abs(over_shifts).max() / np.linalg.norm(wave)


found, kinds, shifts = {}, [kind_of(atom) for atom in learner.components_], {}
for number, (name, atom) in enumerate(zip(kinds, learner.components_, strict=True)):
    mine = events["onset"][events["atom"] == number]
    distances = mine - truth[name][:, None]
    nearest = distances[np.arange(N_EVENTS), np.abs(distances).argmin(1)]
    shifts[name] = np.median(nearest)
    found[name] = np.mean(np.abs(nearest - shifts[name]) <= 0.02)
    match = largest_correlation(atom, waves[name])
    print(f"atom {number}, {name}: {found[name]:.0%} of the waves, correlation of the atom {match:.3f}")

# %%
# Atoms are ``Evoked``, events and artefacts are annotations: what MNE has for plots, reports and epochs goes
# on from here.
atoms = learner.to_mne(raw.info)
artefacts = mne.Annotations(edges[:, 0], edges[:, 1] - edges[:, 0], "bad artefact")
raw.set_annotations(learner.annotations(raw) + artefacts)
print(raw.annotations)

figure = plt.figure(figsize=(9, 6), layout="constrained")
upper, lower = figure.subfigures(2, 1)
for number, (evoked, axes) in enumerate(zip(atoms, upper.subplots(2, 2, width_ratios=[2, 1]), strict=True)):
    colour = (BLUE, ORANGE)[number]
    peak = np.unravel_index(np.abs(evoked.data).argmax(), evoked.data.shape)
    axes[0].plot(1000 * evoked.times, evoked.data.T, color=GRAY, linewidth=0.8)
    axes[0].plot(1000 * evoked.times, evoked.data[peak[0]], color=colour, label=names[peak[0]])
    axes[0].set(title=f"atom {number}: {kinds[number]}", xlabel="time (ms)", ylabel="unit norm")
    axes[0].legend(frameon=False, loc="upper right")
    evoked.plot_topomap([evoked.times[peak[1]]], axes=axes[1], colorbar=False, time_format="", show=False)
shown = (raw.times >= 14) & (raw.times < 24)
for axes, channel in zip(lower.subplots(3, 1, sharex=True), ("C3", "C4", "Fz"), strict=True):
    axes.plot(raw.times[shown], 1e6 * raw.get_data(channel)[0, shown], color=GRAY, linewidth=0.8)
    for number, colour in enumerate((BLUE, ORANGE)):
        onsets = events["onset"][events["atom"] == number]
        for onset in onsets[(onsets >= 13.5) & (onsets < 24)]:
            axes.axvspan(onset, onset + 0.5, color=colour, alpha=0.25, linewidth=0)
    for start, end in edges[edges[:, 0] < 24]:
        axes.axvspan(start, end, color="0.8", alpha=0.6, linewidth=0)
    axes.set(xlim=(14, 24), ylabel=f"{channel} (\N{MICRO SIGN}V)")
axes.set(xlabel="time (s); gray: marked as an artefact")
plt.show()

# %%
# What was learned
# ----------------
#
# - Shape, place and times of both kinds of waves are found together, from volts and seconds as MNE has them.
# - The two kinds overlap in time and share the band around 20 Hz, where the harmonic of the mu wave is. Their
#   places on the head and their shapes tell them apart.
# - A high-pass is needed before, as for any decomposition of an EEG; a filter for each band is not.
# - The number of waves was not given. The weak events beside them have far smaller amplitudes.
# - Artefacts neither become atoms nor go unseen. Here they are strong; weaker ones need a smaller ``robust``.
assert set(kinds) == set(waves)
assert min(found.values()) > 0.9
assert all(any(start <= second <= end for start, end in edges) for second in [*blinks, broken])
assert len(edges) == 4
