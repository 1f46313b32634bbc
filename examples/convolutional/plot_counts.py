"""
Counts need their own likelihood
================================

A neuron fires in some of 25 trials, a pixel counts photons. Does it matter whether filters are learned with
the likelihood of the counts, or with a Gaussian one as for real numbers?

The data are simulated. The mean of the counts is a logistic function (binomial) or an exponential one
(Poisson) of a sum of filters, each at a few positions.
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin import ConvolutionalDictionaryLearner
from calepin.datasets import simulate_convolutional
from calepin.metrics import match_filters

BLUE, ORANGE = "#0072B2", "#D55E00"
LENGTH, N_EVENTS = 40, 4


# %%
# Both models start from the same rough guess of the two filters, and get the known number of events and as
# many passes. The Gaussian one sees the fraction of trials, or the logarithm of one more than the count,
# and has a baseline of its own.
def learn(signals, guess, **settings):
    """Return a learner of two filters."""
    return ConvolutionalDictionaryLearner(
        init=guess,
        coder="bcomp",
        n_nonzero=2 * N_EVENTS,
        nonnegative=True,
        offset="estimate",
        n_updates=16,
        max_iter=6,
        random_state=0,
        **settings,
    ).fit(signals)


def compare(data, own, transformed, **settings):
    """Return the aligned filters and their mean error, for the right likelihood and the Gaussian one."""
    guess = data.atoms + 0.08 * np.random.default_rng(5).standard_normal(data.atoms.shape)
    results = {}
    for name, learner in (
        (own, learn(data.X, guess, likelihood=own.lower(), **settings)),
        ("Gaussian", learn(transformed(data.X), guess)),
    ):
        match = match_filters(learner.components_, data.atoms, max_shift=LENGTH // 2)
        results[name] = (match.align(learner.components_)[:, 0], match.errors.mean())
    return results


# %%
# Binomial counts: the more trials, the less noise. Does more data help the wrong model?
trials = (5, 25, 200)
common = {"n_components": 2, "kernel_size": (LENGTH,), "n_events": N_EVENTS, "random_state": 0}
planted = {
    n: simulate_convolutional(40, (300,), trials=n, amplitude=(4, 6), offset=-2.0, **common) for n in trials
}
binomial = {n: compare(planted[n], "Binomial", lambda x, n=n: x / n, trials=n) for n in trials}

# %%
# Poisson counts, from about one count a bin to hundreds at the peak of an event.
counts = simulate_convolutional(40, (300,), likelihood="poisson", offset=0.5, amplitude=(4, 8), **common)
poisson = compare(counts, "Poisson", np.log1p)

for title, results in [(f"{n} trials", binomial[n]) for n in trials] + [("Poisson", poisson)]:
    print(title, {name: round(float(error), 3) for name, (_, error) in results.items()})

# %%
# Filters can be identified up to order, sign and shift; ``align`` removes all three.
figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
for place, title, truth, results in (
    (axes[0], "binomial, 200 trials", planted[200].atoms, binomial[200]),
    (axes[1], "Poisson", counts.atoms, poisson),
):
    for i, lift in enumerate((0.5, 0.0)):
        place.plot(truth[i, 0] + lift, color="0.7", linewidth=5, label="true" if i == 0 else None)
        for (name, (filters, _)), colour in zip(results.items(), (BLUE, ORANGE), strict=True):
            place.plot(filters[i] + lift, color=colour, linewidth=1.5, label=name if i == 0 else None)
    place.set(title=title, xlabel="bins", yticks=[], ylim=(-0.6, 1.5))
    place.legend(frameon=False, ncols=3, loc="upper center", fontsize=8, columnspacing=1, handlelength=1)
axes[0].set_ylabel("two filters of unit norm")
for name, colour, marker in (("Binomial", BLUE, "o"), ("Gaussian", ORANGE, "s")):
    axes[2].plot(trials, [binomial[n][name][1] for n in trials], color=colour, marker=marker, label=name)
axes[2].set(
    title="binomial", xlabel="trials", ylabel="mean error of the filters", xscale="log", ylim=(0, 0.6)
)
axes[2].set_xticks(trials, trials)
axes[2].minorticks_off()
axes[2].legend(frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - With more trials the error of the right model goes on falling, while the Gaussian one keeps an error
#   that no amount of data removes: it fits a squashed response.
# - For Poisson counts the logarithm straightens the response, but weighs bins of few counts as if they were
#   as exact as those of many.
# - The change in the call is one word, ``likelihood="binomial"`` (with ``trials``) or ``"poisson"``.
assert binomial[200]["Gaussian"][1] > 2 * binomial[200]["Binomial"][1]
assert poisson["Gaussian"][1] > poisson["Poisson"][1]
