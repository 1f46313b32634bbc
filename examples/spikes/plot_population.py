"""
Which neurons drive which?
==========================

The spikes of eight neurons were recorded together. A pair that fires together may be connected, or both may
follow a third. Can the connections be found from the spikes, and how does one know that they are not chance?

A regression of each neuron on the past spikes of all neurons separates the two: it explains what one neuron
adds to all others. Here the truth is known, because the neurons are simulated.
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin.penalties import L1
from calepin.spikes import fit_population, raised_cosine_basis, select_population_alpha

BLUE, ORANGE = "#0072B2", "#D55E00"
N_UNITS, N_TRIALS, N_BINS = 8, 24, 1000  # trials of 10 s in bins of 10 ms

# %%
# An effect of one neuron on another lasts 100 ms. It is a sum of three smooth functions of the time since a
# spike, so that there are three weights for each pair, instead of ten.
basis = raised_cosine_basis(10, 3)
rng = np.random.default_rng(0)
truth = np.zeros((N_UNITS, N_UNITS, 3))  # to unit i, from unit j
truth[np.arange(N_UNITS), np.arange(N_UNITS), 0] = -1.5  # refractory
pairs = rng.permutation([(i, j) for i in range(N_UNITS) for j in range(N_UNITS) if i != j])[:10]
for n, (i, j) in enumerate(pairs):
    truth[i, j] = np.array([0.6, 0.5, 0.2]) * (1 if n < 6 else -1)
filters = truth @ basis.T

# %%
# The neurons are simulated bin by bin: the log rate of each is a constant and the effects of past spikes.
counts = np.zeros((N_UNITS, N_TRIALS, N_BINS), np.uint8)
for n in range(N_BINS):
    recent = counts[:, :, max(0, n - 10) : n][:, :, ::-1]
    eta = -2.6 + np.einsum("ijl,jml->im", filters[:, :, : recent.shape[2]], recent)
    counts[:, :, n] = rng.poisson(np.exp(eta))
train, test = counts[:, :16], counts[:, 16:]
print(f"{counts.sum()} spikes, {counts.mean() * 100:.1f} a second and neuron")

# %%
# Three regressions: of each neuron on its own history alone, on all neurons without a penalty, and with an l1
# penalty, under which weights that add little are zero. Cross-validation chooses its weight.
# (``groups=True`` keeps or drops the whole effect of one neuron on another, and takes longer.)
penalised = select_population_alpha(train, [3.0, 8.0, 20.0, 50.0], basis=basis)
free = fit_population(train, basis=basis)
own = [fit_population(train[[i]], basis=basis) for i in range(N_UNITS)]
print(f"cross-validation chose alpha = {penalised.alpha:g}")

# %%
# Do the connections predict trials that were held out? The gain over history alone, in bits per spike.
spikes = test.sum((1, 2))
alone = np.array([fit.score(test[[i]])[0] for i, fit in enumerate(own)])
gain = {
    "no penalty": (free.score(test) - alone) / spikes / np.log(2),
    "l1 penalty": (penalised.score(test) - alone) / spikes / np.log(2),
}
for name, bits in gain.items():
    print(f"{name}: {bits.mean():+.4f} bits per spike over history alone, mean of {N_UNITS} neurons")

# %%
# The sum of each effect over time, from the neuron of a column to that of a row; red raises the rate.
linked, others = np.abs(truth).sum(2) > 0, ~np.eye(N_UNITS, dtype=bool)
shown = {"truth": filters, "no penalty": free.filters, "l1 penalty": penalised.filters}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained", sharey=True)
for axis, (name, found) in zip(axes, shown.items(), strict=True):
    image = axis.imshow(np.where(others, found.sum(2), 0), cmap="RdBu_r", vmin=-8, vmax=8)
    axis.set(title=name, xlabel="from neuron")
axes[0].set_ylabel("to neuron")
figure.colorbar(image, ax=axes, label="sum of the effect on the log rate", shrink=0.8)
plt.show()

# %%
# The time course of the strongest effects, and the gain for each neuron.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
lags = 10 * np.arange(1, 11)
for (i, j), colour in zip((pairs[0], pairs[-1]), (ORANGE, BLUE), strict=True):
    left.plot(lags, filters[i, j], "--", color=colour, linewidth=1)
    left.plot(lags, penalised.filters[i, j], color=colour, label=f"from {j} to {i}")
left.axhline(0, color="0.8", linewidth=0.8, zorder=0)
left.set(xlabel="time since a spike (ms)", ylabel="effect on the log rate", title="dashed: truth")
left.legend(frameon=False)
for k, (name, bits) in enumerate(gain.items()):
    right.bar(np.arange(N_UNITS) + 0.4 * k - 0.2, bits, 0.4, color=(BLUE, ORANGE)[k], label=name)
right.axhline(0, color="0.4", linewidth=0.8)
right.set(xlabel="neuron", ylabel="bits per spike over history", title="held-out trials")
right.legend(frameon=False)
plt.show()

# %%
# Which connections exist? The weight that predicts best keeps many small effects that do not exist; a larger
# one drops them, and shrinks those that stay.
strict = fit_population(train, basis=basis, penalty=L1(50.0))
found = {}
for fit in (penalised, strict):
    kept = others & (np.abs(fit.coupling).sum(2) > 0)
    found[fit.alpha] = int((kept & linked).sum()), int((kept & ~linked).sum())
    real, invented = found[fit.alpha]
    print(f"alpha {fit.alpha:g}: {real} of {len(pairs)} connections, {invented} that do not exist")
size = np.where(others, np.linalg.norm(penalised.coupling, axis=2), 0)
strongest = np.argsort(-size, axis=None)[: len(pairs)]
hits = int(linked[np.unravel_index(strongest, linked.shape)].sum())
print(f"of the {len(pairs)} strongest effects with alpha {penalised.alpha:g}, {hits} exist")

# %%
# What was learned
# ----------------
#
# - The connections and their signs are found from spikes alone, and they predict held-out trials better than
#   the history of each neuron does.
# - The l1 penalty predicts better than no penalty. The weight that predicts best is not the one that shows
#   the network: it keeps a little of nearly all pairs. The ten strongest effects are the ten connections, and
#   a six times larger weight keeps them and hardly any other.
# - A neuron that was not recorded could still drive two others at once: an effect in a regression is a
#   prediction, not yet a synapse.
assert hits == len(pairs)
assert gain["l1 penalty"].mean() > gain["no penalty"].mean() > 0.1
assert found[50.0][0] == len(pairs)
assert found[50.0][1] <= 2
