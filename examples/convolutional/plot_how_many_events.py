"""
How many events are there?
==========================

The greedy coder ``"bcomp"`` finds as many events as it is asked for. When repeated trials are available,
half of them can decide: how well do events found in some trials predict the others?

Twenty signals of 400 bins, each with 6 events of one filter, counted over 40 trials.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from calepin import ConvolutionalDictionaryLearner
from calepin.datasets import simulate_convolutional
from calepin.likelihoods import Binomial

BLUE, ORANGE = "#0072B2", "#D55E00"
TRIALS, TRUE_EVENTS, LENGTH = 40, 6, 40

# %%
# Trials are independent, so a count over 40 trials splits into two counts over 20: a hypergeometric draw,
# which is what summing either half of the trials would give.
data = simulate_convolutional(
    20, (400,), n_components=1, kernel_size=(LENGTH,), n_events=TRUE_EVENTS, trials=TRIALS, amplitude=(3, 6),
    offset=-1.5, random_state=4,
)  # fmt: skip
rng = np.random.default_rng(0)
fitted = rng.hypergeometric(data.X.astype(int), TRIALS - data.X.astype(int), TRIALS // 2).astype(float)
held_out = data.X - fitted

# %%
# The filter is learned from half of the trials with a careful number of events, of which strong ones
# suffice. With this filter, each number of events is tried.
settings = {"likelihood": "binomial", "trials": TRIALS // 2, "coder": "bcomp", "nonnegative": True}
first = ConvolutionalDictionaryLearner(1, LENGTH, n_nonzero=3, max_iter=10, random_state=0, **settings).fit(
    fitted
)
likelihood = Binomial(TRIALS // 2)


def nll(eta, counts):
    """Return the mean negative log-likelihood of a signal."""
    return float(likelihood.nll(torch.as_tensor(eta), torch.as_tensor(counts)).mean())


numbers = np.arange(1, 16)
curves = {"trials used for the fit": [], "held-out trials": []}
for n_nonzero in numbers:
    learner = ConvolutionalDictionaryLearner.from_components(
        first.components_, n_nonzero=int(n_nonzero), **settings
    )
    codes, offset = learner.encode(fitted)
    rates = learner.inverse_transform(codes, offset=offset) / (TRIALS // 2)
    eta = np.log(rates) - np.log1p(-rates)
    for counts, values in zip((fitted, held_out), curves.values(), strict=True):
        values.append(nll(eta, counts) - nll(data.eta, counts))

best = int(numbers[np.argmin(curves["held-out trials"])])
print(f"fewest errors on held-out trials with {best} events (true: {TRUE_EVENTS})")

# %%
# The error, relative to that of the true rates, of the trials used for the fit always falls; that of the
# others has a minimum.
figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for (name, values), colour, marker in zip(curves.items(), (ORANGE, BLUE), "so", strict=True):
    axes.plot(numbers, values, color=colour, marker=marker, label=name)
axes.axvline(TRUE_EVENTS, color="0.6", linestyle="--", linewidth=1, label="true number")
axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
axes.set(xlabel="events that the coder may use", ylabel="negative log-likelihood, less that of the truth")
axes.set(ylim=(-30, 70), xticks=numbers[::2])
axes.legend(frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - Too few events cost much, too many cost little: noise that is learned. Held-out trials show both.
# - Below zero, the fit explains counts better than the true rates do: it has learned noise.
# - Without repeated trials, hold out signals for the choice of filters, and choose the number of events by a
#   criterion such as BIC, as :func:`calepin.spikes.fit_event_model` does.
assert abs(best - TRUE_EVENTS) <= 1
