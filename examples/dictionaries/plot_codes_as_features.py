"""
Sparse codes as features when labels are few
============================================

Many samples, but few labels: do atoms that were learned without labels help a classifier? We classify
digits with as few as five labels per class, by their pixels, by principal components, and by sparse codes.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedShuffleSplit

from calepin import DictionaryLearner
from calepin.datasets import load_digits
from calepin.report import atom_tiles

plt.style.use("seaborn-v0_8-colorblind")

# %%
# The atoms are learned from all 1,797 digits, without their labels. Codes are nonnegative, so that an atom
# and its negative are two features.

digits, labels = load_digits()
learner = DictionaryLearner(192, alpha=0.1, nonnegative=True, center=True, max_iter=10, random_state=0)
features = {
    "pixels": digits,
    "20 principal components": PCA(20, random_state=0).fit_transform(digits),
    "192 sparse codes": learner.fit_transform(digits),
}

# %%
# A ridge classifier chooses its own regularisation by leave-one-out on the few labelled digits. Each point
# is the mean of ten random choices of the labelled digits; the bars are standard deviations.

labelled = [50, 100, 200, 400]
accuracy = {name: [] for name in features}
for n in labelled:
    splits = list(StratifiedShuffleSplit(10, train_size=n, random_state=0).split(digits, labels))
    for name, X in features.items():
        classifier = RidgeClassifierCV(np.logspace(-3, 3, 13))
        scores = [classifier.fit(X[few], labels[few]).score(X[rest], labels[rest]) for few, rest in splits]
        accuracy[name].append((100 * np.mean(scores), 100 * np.std(scores)))

figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for i, ((name, values), style) in enumerate(zip(accuracy.items(), ("^:", "s--", "o-"), strict=True)):
    mean, spread = np.transpose(values)
    beside = np.array(labelled) * 1.02 ** (i - 1)  # so that the bars do not hide each other
    axes.errorbar(beside, mean, spread, fmt=style, label=name, capsize=3)
axes.set(xscale="log", xlabel="labelled digits", ylabel="accuracy on all others, in %")
axes.set_xticks(labelled, labelled)
axes.minorticks_off()
axes.legend(loc="lower right")
axes.grid(alpha=0.3)

# %%
# Some of the atoms, and a digit with the four atoms that contribute most to it:

figure = plt.figure(figsize=(10, 3.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 2])
panel = left.subplots()
panel.imshow(atom_tiles(learner.components_[:64]), cmap="gray", vmin=0, vmax=1)
panel.set_title("64 of the atoms")
panel.set_axis_off()
code = features["192 sparse codes"][0]
parts = np.argsort(-code)[:4]
shown = {"digit": digits[0], "decoded": learner.inverse_transform(code[None])[0]}
shown |= {f"{code[i]:.2f} x": learner.components_[i] for i in parts}
for panel, (title, values) in zip(right.subplots(1, 6), shown.items(), strict=True):
    limit = np.abs(values).max()
    panel.imshow(values.reshape(8, 8), cmap="gray", vmin=-limit if title.endswith("x") else 0, vmax=limit)
    panel.set_title(title, fontsize=10)
    panel.set_axis_off()

# %%
# What was learned
# ----------------

for name, values in accuracy.items():
    print(f"{name:24}", dict(zip(labelled, (f"{mean:.1f} %" for mean, _ in values), strict=True)))

# %%
# With five labels per class, 192 features are too many, and the pixels are the better ones. From ten per
# class on, the codes are ahead; with forty, they leave less than half of the errors. The principal
# components of the same unlabelled digits do not help: a linear classifier gains nothing from a linear
# transform, but a sparse code is not linear.

codes, pixels = (np.transpose(accuracy[name])[0] for name in ("192 sparse codes", "pixels"))
assert codes[0] < pixels[0]
assert np.all(codes[1:] > pixels[1:])
assert 100 - codes[-1] < 0.5 * (100 - pixels[-1])
