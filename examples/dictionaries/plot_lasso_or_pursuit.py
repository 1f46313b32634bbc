"""
Lasso, OMP or OLS: error against sparsity
=========================================

Which coder explains a sample best with a given number of atoms? The lasso chooses atoms by a convex problem
and shrinks their coefficients; orthogonal matching pursuit (OMP) and orthogonal least squares (OLS) add one
atom at a time and refit all coefficients.
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin import DictionaryLearner, sparse_encode
from calepin.datasets import load_sample
from calepin.imaging import random_patches

plt.style.use("seaborn-v0_8-colorblind")

# %%
# Patches of a photograph, scaled to unit norm so that each counts the same; flat ones are left out. The
# dictionary should favour no coder: it is learned with the lasso first, and then with OMP.

patches = random_patches(load_sample("camera").pixels[None], 8, 12_000, random_state=0)
norms = np.linalg.norm(patches, axis=1, keepdims=True)
patches = (patches / norms)[norms[:, 0] > 0.4].astype(np.float32)
patches = np.random.default_rng(0).permutation(patches)  # they are in the order of the image
train, test = patches[1000:], patches[:1000]
learner = DictionaryLearner(128, alpha=0.1, max_iter=5, random_state=0).fit(train)
learner = DictionaryLearner(coder="omp", n_nonzero=5, init=learner.components_, max_iter=5, random_state=0)
atoms = learner.fit(train).components_

# %%
# Codes of 1,000 patches that were not in the training set. A pursuit is told the number of atoms. The lasso
# is told alpha, and we count. Its shrinkage can be undone: the third curve keeps the atoms that the lasso
# chose and refits their coefficients by least squares.


def lost(codes):
    """Return the squared error in percent of the squared norm."""
    return 100 * np.sum((test - codes @ atoms) ** 2) / len(test)


def refitted(codes):
    """Return codes with the same atoms and least-squares coefficients."""
    codes = codes.copy()
    for sample, code in zip(test, codes, strict=True):
        used = np.flatnonzero(code)
        code[used] = np.linalg.lstsq(atoms[used].T, sample, rcond=None)[0]
    return codes


curves = {"lasso": [], "lasso, refitted": [], "OMP": [], "OLS": []}
for alpha in np.geomspace(0.02, 0.4, 8):
    codes = sparse_encode(test, atoms, alpha=alpha)
    n_atoms = np.count_nonzero(codes) / len(test)
    curves["lasso"].append((n_atoms, lost(codes)))
    curves["lasso, refitted"].append((n_atoms, lost(refitted(codes))))
for n_nonzero in (1, 2, 3, 5, 8, 12, 16):
    curves["OMP"].append((n_nonzero, lost(sparse_encode(test, atoms, method="omp", n_nonzero=n_nonzero))))
    curves["OLS"].append((n_nonzero, lost(sparse_encode(test, atoms, method="ols", n_nonzero=n_nonzero))))

figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for (name, points), style in zip(curves.items(), ("o-", "o:", "s--", "^-"), strict=True):
    size = 10 if name == "OMP" else 5  # larger and hollow, since OLS lies nearly on top
    axes.plot(
        *np.transpose(points), style, label=name, markersize=size, fillstyle="none" if size > 5 else "full"
    )
axes.set(
    xlim=(0, 16.6),
    ylim=(8, 80),
    yscale="log",
    xlabel="atoms per patch (mean)",
    ylabel="squared error, in % of the squared norm",
)
axes.legend()
axes.set_yticks([10, 20, 50], [10, 20, 50])
axes.minorticks_off()
axes.grid(alpha=0.3)

# %%
# A pursuit can also stop at an error instead of a number, as denoising needs it. Then the number of atoms
# tells how complex each patch is.

codes = sparse_encode(test, atoms, method="ols", tol=0.05)
counts = np.count_nonzero(codes, axis=1)

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.hist(counts, bins=np.arange(0.5, counts.max() + 1.5), color="#0072B2", edgecolor="white", linewidth=0.5)
axes.set(xlabel="atoms that a patch needs for a squared error of 5 %", ylabel="patches")

# %%
# What was learned
# ----------------

omp, ols = np.transpose(curves["OMP"])[1], np.transpose(curves["OLS"])[1]
shrunk, refit = np.transpose(curves["lasso"])[1], np.transpose(curves["lasso, refitted"])[1]
print(f"squared error with 5 atoms: OMP {omp[3]:.2f} %, OLS {ols[3]:.2f} %")
print(
    f"patches of at most 10 atoms: {np.mean(counts <= 10):.0%}; of more than 25: {np.mean(counts > 25):.0%}"
)

# %%
# For the same number of atoms the pursuits leave the smaller error, OLS slightly less than OMP. Most of the
# lasso's disadvantage is the shrinkage of its coefficients: refitted, it comes much closer. There are two
# kinds of patches: edges, which need few atoms, and fine texture and noise, which need half as many atoms
# as there are pixels.
#
# The strength of the lasso is another one: its problem is convex, its codes change continuously with the
# sample, and a certificate says how exact they are
# (:ref:`sphx_glr_gallery_dictionaries_plot_exact_codes.py`).

assert np.all(ols <= omp + 1e-3)
assert np.all(refit < shrunk)
assert np.mean(counts <= 10) > 0.3
assert np.mean(counts > 25) > 0.3
