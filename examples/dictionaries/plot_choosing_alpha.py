"""
Choosing alpha by held-out entries
==================================

Which ``alpha`` suits noisy data, if nothing else is known about them? The error of reconstructed samples
cannot answer this: it only falls with alpha, because many atoms reproduce the noise as well. The error of
*entries that the coder did not see* can.
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin import DictionaryLearner
from calepin.datasets import GaussianNoise, add_noise, load_sample
from calepin.imaging import random_patches

plt.style.use("seaborn-v0_8-colorblind")

# %%
# The data are noisy patches of a photograph, and the clean ones are kept to see whether the choice was
# right. A tenth of the entries is held out.

sigma = 0.1
clean = random_patches(load_sample("camera").pixels[None], 8, 5000, random_state=0)
noisy = add_noise(clean, GaussianNoise(sigma), random_state=1)
seen = np.random.default_rng(2).random(noisy.shape) > 0.1

# %%
# ``mask`` tells the learner which entries exist: neither the atoms nor the codes know anything of the
# others. Decoded samples have all entries, so those held out can be compared with what was measured.

alphas = np.geomspace(0.02, 1.0, 8)
errors = {"entries that were seen": [], "held-out entries": [], "clean patches (unknown in practice)": []}
for alpha in alphas:
    learner = DictionaryLearner(100, alpha=alpha, max_iter=4, random_state=0).fit(noisy, mask=seen)
    decoded = learner.inverse_transform(learner.transform(noisy, mask=seen))
    squares = (decoded - noisy) ** 2
    errors["entries that were seen"].append(squares[seen].mean())
    errors["held-out entries"].append(squares[~seen].mean())
    errors["clean patches (unknown in practice)"].append(np.mean((decoded - clean) ** 2))

chosen = alphas[np.argmin(errors["held-out entries"])]
best = alphas[np.argmin(errors["clean patches (unknown in practice)"])]

figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for (name, values), style in zip(errors.items(), ("o-", "s-", "^--"), strict=True):
    axes.plot(alphas, np.sqrt(values), style, label=name)
axes.axhline(sigma, color="0.6", linewidth=1)
axes.annotate("noise", (alphas[0], sigma), xytext=(0, 3), textcoords="offset points", color="0.4")
axes.axvline(chosen, color="0.6", linewidth=1, linestyle=":")
axes.annotate("chosen", (chosen, 0.0), xytext=(4, 4), textcoords="offset points", color="0.4")
axes.set(xscale="log", ylim=(0, None), xlabel="alpha", ylabel="root mean squared error (white is 1)")
figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)
axes.grid(alpha=0.3)

# %%
# What was learned
# ----------------

print(f"chosen by held-out entries: alpha = {chosen:.2f}; best for the clean patches: alpha = {best:.2f}")

# %%
# The error of the entries that were seen grows with alpha, and would choose the smallest. That of the
# held-out entries has a minimum, near the alpha whose decoded patches are nearest to the clean ones. It
# stays above the noise level, because held-out entries are noisy themselves. The same works for the number
# of atoms, or the ``n_nonzero`` of a pursuit.

assert np.all(np.diff(errors["entries that were seen"]) > 0)
assert alphas[0] < chosen < alphas[-1]
assert 0.5 < chosen / best < 2.1
