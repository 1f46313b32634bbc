"""
A dictionary for your samples
=============================

You have many samples of equal length, such as spectra, patches or rows of a table, and want to
write each of them as a sum of few typical parts. This tutorial learns such parts, called atoms,
chooses the settings, codes new samples, and saves the dictionary in a file that others can use and
check.

The model: a sample x is ``z D``, with a code z that is mostly zero and a dictionary D whose rows
are the atoms. :class:`calepin.DictionaryLearner` minimises the mean over samples of ``0.5 ||x - z
D||^2 + alpha ||z||_1``.
"""

# %%
# Samples
# -------
# Samples are the rows of an array (n_samples, n_features). Here they are patches of 8 x 8 pixels of
# a photograph, without their mean. Some are kept aside, to judge the dictionary by data that it has
# not seen.

import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import calepin
from calepin.datasets import load_sample
from calepin.imaging import random_patches
from calepin.report import atom_tiles

image = load_sample("camera").pixels
patches = random_patches(image[None], 8, 6_000, random_state=0)
shuffled = np.random.default_rng(0).permutation(patches)
train, held_out = shuffled[:5_000], shuffled[5_000:]
print(train.shape, held_out.shape, f"standard deviation {train.std():.3f}")

# %%
# Learn
# -----
# ``n_components`` is the number of atoms. ``alpha`` is in the units of the samples: a sample whose
# inner product with every atom is at most alpha gets the code zero. So 0.1 is moderate for samples
# with a norm of about 1.

learner = calepin.DictionaryLearner(128, alpha=0.1, random_state=0).fit(train)
print(f"{learner.n_iter_} passes, converged: {learner.converged_}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
left.plot(
    [record["pass"] for record in learner.history_],
    [record["objective"] for record in learner.history_],
    "o-",
    color="#0072B2",
)
left.set(xlabel="pass over the data", ylabel="mean objective", title="does it converge?")
left.grid(color="0.9")
right.imshow(atom_tiles(learner.components_), cmap="gray", vmin=0, vmax=1)
right.set(title="128 atoms of 8 x 8 pixels", xticks=[], yticks=[])
plt.show()

# %%
# The objective should fall fast and then level off. If ``converged_`` is False, raise ``max_iter``.
# Atoms that are copies of single samples mean that there are too many atoms for so few samples.
#
# Choose the settings
# -------------------
# The objective itself cannot be compared between different alphas, as alpha is a part of it. What
# can be compared is what a code costs and what it buys: the number of nonzero entries and the error
# on samples kept aside.


def measured(learner):
    """Return nonzero entries per code and the fraction of energy that is not explained."""
    codes = learner.transform(held_out)
    residual = held_out - learner.inverse_transform(codes)
    explained = 1 - (residual**2).sum() / (held_out**2).sum()
    return (codes != 0).sum(1).mean(), 1 - explained


figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
alphas = (0.05, 0.1, 0.2, 0.4)
for n_components, colour, marker in ((32, "#D55E00", "s"), (128, "#0072B2", "o")):
    points = [
        measured(calepin.DictionaryLearner(n_components, alpha=alpha, max_iter=5, random_state=0).fit(train))
        for alpha in alphas
    ]
    n_nonzero, unexplained = np.transpose(points)
    axes.plot(n_nonzero, 100 * unexplained, marker=marker, color=colour, label=f"{n_components} atoms")
    if n_components == 128:
        for alpha, x, y in zip(alphas, n_nonzero, 100 * unexplained, strict=True):
            axes.annotate(f"{alpha}", (x, y), (-5, -5), textcoords="offset points", ha="right", va="top")
axes.set(
    xlabel="nonzero entries per code",
    ylabel="unexplained energy of held-out samples, %",
    xlim=(0, None),
    ylim=(0, None),
    title="lower left is better; numbers are alpha",
)
axes.grid(color="0.9")
axes.legend(frameon=False)
plt.show()

# %%
# Each curve goes from a large alpha (few entries, large error) to a small one. With 128 atoms codes
# need slightly fewer entries than with 32 for the same error. Choose the alpha whose error you can
# afford. If the samples are noisy, there is a best alpha: :doc:`/how-to/choose-alpha` finds it by
# hidden entries, with scikit-learn's ``GridSearchCV``.
#
# Code new samples
# ----------------
# ``transform`` returns the codes; ``output="csr"`` stores the nonzero entries only.
# :func:`calepin.sparse_encode` also certifies each code: the duality gap bounds how far its
# objective is above the minimum.

codes = learner.transform(held_out, output="csr")
print(f"{codes.shape}, {codes.nnz / codes.shape[0]:.1f} nonzero entries per sample")
codes, info = calepin.sparse_encode(
    held_out, learner.components_, alpha=0.1, tol=1e-6, output="csr", return_info=True
)
print(f"largest duality gap {info.gap.max():.1e}")

example = int(np.abs(held_out).sum(1).argmax())
row = codes[[example]].toarray()[0]
used = np.argsort(-np.abs(row))[:4]
figure, panels = plt.subplots(1, 6, figsize=(10, 2.2), layout="constrained")
shown = [held_out[example], row @ learner.components_, *(row[k] * learner.components_[k] for k in used)]
titles = ["sample", f"z D, {np.count_nonzero(row)} entries", *(f"{row[k]:+.2f} x atom {k}" for k in used)]
limit = np.abs(held_out[example]).max()
for axes, values, title in zip(panels, shown, titles, strict=True):
    axes.imshow(values.reshape(8, 8), cmap="gray", vmin=-limit, vmax=limit)
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])
plt.show()

# %%
# Save, share and check
# ---------------------
# The file is in the safetensors format: numbers and a JSON header, nothing that could run. It holds
# the atoms, the settings and the history. ``calepin info natural.safetensors`` prints them, and
# ``calepin show`` draws the atoms.

folder = Path(tempfile.mkdtemp())
learner.save(folder / "natural.safetensors")
again = calepin.DictionaryLearner.load(folder / "natural.safetensors")
assert np.array_equal(again.components_, learner.components_)
assert np.array_equal(again.transform(held_out), learner.transform(held_out))
print((folder / "natural.safetensors").stat().st_size, "bytes")

# %%
# Atoms from elsewhere become a learner without a fit:

borrowed = calepin.DictionaryLearner.from_components(learner.components_, alpha=0.05)
print(f"{(borrowed.transform(held_out) != 0).sum(1).mean():.1f} nonzero entries per sample at alpha 0.05")

# %%
# Whoever receives the file should check that it fits their data: the error on some of their
# samples, beside that of yours. At a fixed alpha the error also depends on the contrast of the
# samples, so compare it at a fixed number of atoms:


def unexplained(samples):
    """Return the fraction of energy that four atoms per sample do not explain."""
    codes = calepin.sparse_encode(samples, again.components_, method="omp", n_nonzero=4)
    return ((samples - codes @ again.components_) ** 2).sum() / (samples**2).sum()


others = random_patches(load_sample("grass").pixels[None], 8, 1000, random_state=0)
print(f"held-out patches of the photograph: {100 * unexplained(held_out):.1f} % unexplained")
print(f"patches of grass: {100 * unexplained(others):.1f} % unexplained")

# %%
# What goes wrong, and how calepin reports it
# -------------------------------------------
# **alpha is too large**: all codes are zero, and nothing can be learned. **The mean dominates**:
# all atoms point towards it. Both are warnings. A damaged file, or samples of another length, are
# errors of one line.


def report(action):
    """Call a function and print its warnings and its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
        except ValueError as error:
            print(f"{type(error).__name__}: {error}")
    for warning in caught:
        print(f"{warning.category.__name__}: {warning.message}")


report(lambda: calepin.DictionaryLearner(16, alpha=100.0, max_iter=2, random_state=0).fit(train))
report(lambda: calepin.DictionaryLearner(16, alpha=0.1, max_iter=2, random_state=0).fit(train + 5))
report(lambda: again.transform(held_out[:, :60]))
(folder / "damaged.safetensors").write_bytes((folder / "natural.safetensors").read_bytes()[:5000])
report(lambda: calepin.DictionaryLearner.load(folder / "damaged.safetensors"))

# %%
# What was learned
# ----------------
# - Judge a dictionary by samples that it has not seen: error against nonzero entries.
# - alpha has the units of the samples; the objectives of different alphas cannot be compared.
# - A file holds all that is needed to code samples in the same way elsewhere.
#
# Next: :doc:`/how-to/choose-alpha`, :doc:`/how-to/larger-than-memory`, :doc:`/how-to/missing-data`,
# :doc:`/how-to/resume`, :doc:`/how-to/save-and-share`, and :doc:`/how-to/coming-from` for users of
# scikit-learn or SPAMS.
