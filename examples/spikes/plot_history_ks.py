"""
Is a model of spikes right? History and the KS plot
===================================================

A neuron that has just fired is silent for a while, then fires more easily. A model without this history may
fit the mean rate perfectly and still be wrong. How does one see it?

The time-rescaling theorem turns any model into a test: measured in expected spikes instead of seconds,
intervals between spikes are exponential if the model is right. A Kolmogorov-Smirnov (KS) plot compares
their quantiles.
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin.likelihoods import Binomial
from calepin.spikes import bits_per_spike, fit_spike_glm, ks_plot, ks_test, log_likelihood, simulate_spikes

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"

# %%
# A neuron driven by a slow wave: refractory for 4 ms, more excitable around 10 ms after a spike. There are
# 120 trials of one second in bins of 1 ms; 100 are for the fit, 20 for the test.
lags = np.arange(1, 21)
history = np.where(lags <= 4, -4.0, 1.2 * np.exp(-0.5 * ((lags - 9) / 3) ** 2))
drive = np.sin(2 * np.pi * np.arange(1000) / 250)
trains = simulate_spikes(120, 1000, drive=drive, baseline=-3.5, history=history, random_state=0)
fitted, held_out = trains.counts[:100], trains.counts[100:]

# %%
# Three models: a constant rate; the drive; the drive and 20 bins of history.
models = {
    "constant rate": (fit_spike_glm(fitted), None),
    "drive": (fit_spike_glm(fitted, drive), drive),
    "drive and history": (fit_spike_glm(fitted, drive, order=20), drive),
}
predictors = {name: model.predictor(held_out, covariate) for name, (model, covariate) in models.items()}
tests = {name: ks_test(eta, held_out) for name, eta in predictors.items()}
reference = log_likelihood(predictors["constant rate"], held_out, likelihood=Binomial())
gain = {
    name: bits_per_spike(log_likelihood(eta, held_out, likelihood=Binomial()), reference, held_out.sum())
    for name, eta in predictors.items()
}
for name, test in tests.items():
    print(f"{name}: distance {test.statistic:.3f} (bound {test.band:.3f}), {gain[name]:.2f} bits per spike")

# %%
# ``ks_plot`` returns a figure of matplotlib; ``plt.figure`` shows it beside those of pyplot.
plt.figure(ks_plot(tests))

# %%
# The history of the fitted model, with two standard errors, and the one that generated the spikes.
glm = models["drive and history"][0]
spread = 2 * glm.fit.standard_errors[-20:]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.step(lags, history, where="mid", color="0.6", linewidth=3, label="true")
left.errorbar(
    lags, glm.history, spread, fmt="o", color=BLUE, markersize=4, label="estimate, 2 standard errors"
)
left.axhline(0, color="0.8", linewidth=0.8, zorder=0)
left.set(xlabel="time since a spike (ms)", ylabel="change of the log odds", ylim=(-6.5, 2.5))
left.set_xticks([1, 5, 10, 15, 20])
left.legend(frameon=False, loc="lower right")
intervals = np.concatenate([np.diff(np.flatnonzero(trial)) for trial in held_out])
right.hist(intervals, bins=np.arange(0.5, 80), color=GREEN)
right.set(xlabel="interval between spikes (ms)", ylabel="number of intervals", xlim=(0, 80))
plt.show()

# %%
# What was learned
# ----------------
#
# - The model with the drive alone predicts the rate, and gains bits over a constant one, but its KS curve
#   leaves the bounds: short intervals are rarer, and middle ones more frequent, than it says.
# - With history the curve is inside the bounds on trials that were not used for the fit. The test cannot
#   prove a model, but it rejects the wrong ones here.
# - The histogram shows why: hardly any interval is shorter than 5 ms, and most are between 5 and 12 ms.
assert tests["drive and history"].inside
assert not tests["drive"].inside
assert gain["drive and history"] > gain["drive"] > 0
