"""
Learning from samples with missing entries
==========================================

Half of all entries are missing, in different places of each sample. Is it better to fill the gaps first, or
to tell the learner what was observed?

Both :class:`calepin.DictionaryLearner` and :func:`calepin.sparse_encode` accept a boolean ``mask``, or NaN
for what is missing (``missing="allow"``). Missing entries then influence neither atoms nor codes.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.impute import KNNImputer, SimpleImputer

from calepin import DictionaryLearner
from calepin.datasets import load_digits

plt.style.use("seaborn-v0_8-colorblind")

# %%
# The samples are the 1,797 digits of scikit-learn, 8 x 8 pixels. Half of all pixels are set to NaN.

digits, _ = load_digits()
missing = np.random.default_rng(0).random(digits.shape) < 0.5
incomplete = np.where(missing, np.nan, digits)

# %%
# Decoded samples have all entries, so a dictionary fills gaps. ``center=True`` keeps the mean image apart.
# Two imputers of scikit-learn are compared; ten neighbours are about the best for the second, and alpha =
# 0.2 for the dictionary.

learner = DictionaryLearner(64, alpha=0.2, max_iter=15, center=True, missing="allow", random_state=0)
codes = learner.fit_transform(incomplete)
filled = {
    "mean of the pixel": SimpleImputer().fit_transform(incomplete),
    "nearest neighbours": KNNImputer(n_neighbors=10, weights="distance").fit_transform(incomplete),
    "dictionary": np.where(missing, learner.inverse_transform(codes), incomplete),
}
errors = {name: np.sqrt(np.mean((values - digits)[missing] ** 2)) for name, values in filled.items()}

figure, axes = plt.subplots(5, 8, figsize=(9, 6), layout="constrained")
rows = {"observed": incomplete, **filled, "complete": digits}
colours = plt.get_cmap("gray").with_extremes(bad="#56B4E9")
for line, (name, values) in zip(axes, rows.items(), strict=True):
    for panel, sample in zip(line, values[20:28], strict=True):
        panel.imshow(sample.reshape(8, 8), cmap=colours, vmin=0, vmax=1)
        panel.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
figure.suptitle("Digits with half of the pixels missing (blue)")

# %%
# How does the error grow with the fraction that is missing?

fractions = [0.1, 0.3, 0.5, 0.7]
curves = {"mean of the pixel": [], "nearest neighbours": [], "dictionary": []}
for fraction in fractions:
    missing = np.random.default_rng(1).random(digits.shape) < fraction
    incomplete = np.where(missing, np.nan, digits)
    decoded = learner.inverse_transform(learner.fit_transform(incomplete))
    for name, values in (
        ("mean of the pixel", SimpleImputer().fit_transform(incomplete)),
        ("nearest neighbours", KNNImputer(n_neighbors=10, weights="distance").fit_transform(incomplete)),
        ("dictionary", decoded),
    ):
        curves[name].append(np.sqrt(np.mean((values - digits)[missing] ** 2)))

figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
for (name, values), style in zip(curves.items(), ("^:", "s--", "o-"), strict=True):
    axes.plot(100 * np.array(fractions), values, style, label=name)
axes.set(xlabel="missing pixels, in %", ylabel="RMS error of missing pixels\n(white is 1)", ylim=(0, None))
axes.legend(loc="lower right")
axes.grid(alpha=0.3)

# %%
# What was learned
# ----------------

for name, error in errors.items():
    print(f"{name:20} RMS error {error:.3f}")

# %%
# With few missing pixels, the nearest neighbours of a digit are known well, and filling by them is slightly
# better. The more is missing, the better the dictionary compares: each incomplete digit still says
# something about the atoms, while the distances between incomplete digits say less and less. With 70 %
# missing, neighbours are no better than the mean.

few, many = fractions.index(0.1), fractions.index(0.7)
assert curves["nearest neighbours"][few] < curves["dictionary"][few]
assert curves["dictionary"][many] < 0.9 * curves["nearest neighbours"][many]
