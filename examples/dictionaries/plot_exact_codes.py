r"""
How exact are the codes? The duality gap as a certificate
=========================================================

An iterative solver stops some time. How far is its result from the minimum? The *duality gap* answers this
for each sample without knowing the minimum: it is an upper bound of

.. math:: P(z) - \min P, \qquad P(z) = \tfrac12 \|x - z D\|^2 + \alpha \|z\|_1 .

:func:`calepin.sparse_encode` returns it, and :func:`calepin.metrics.duality_gap` computes it for the codes
of any other program.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import sparse_encode as sklearn_encode

from calepin import DictionaryLearner, sparse_encode
from calepin.datasets import load_sample
from calepin.imaging import random_patches
from calepin.metrics import duality_gap
from calepin.penalties import L1
from calepin.solvers import ProximalCoder

plt.style.use("seaborn-v0_8-colorblind")

# %%
# 300 patches, and a dictionary with four times as many atoms as pixels: similar atoms make the problem
# hard.

alpha = 0.3
patches = random_patches(load_sample("camera").pixels[None].astype(float), 8, 3300, random_state=0)
patches = np.random.default_rng(0).permutation(patches / patches.std())
X = patches[:300]
atoms = DictionaryLearner(256, alpha=1.0, max_iter=3, random_state=0).fit(patches[300:]).components_

# %%
# By default, calepin follows the path of solutions from a large alpha down to the given one (homotopy).
# FISTA, an iterative method, does more and more iterations. scikit-learn has a homotopy (LARS), too, and
# coordinate descent. The gap needs nothing but the codes.


def timed(encode):
    """Return seconds and the gap of each sample, relative to its squared norm."""
    begun = time.perf_counter()
    codes = encode()
    seconds = time.perf_counter() - begun
    return seconds, duality_gap(X, codes, atoms, alpha=alpha) / np.sum(X**2, axis=1)


sparse_encode(X[:5], atoms, alpha=alpha)  # compiles the code
exact = timed(lambda: sparse_encode(X, atoms, alpha=alpha))
lars = timed(lambda: sklearn_encode(X, atoms, algorithm="lasso_lars", alpha=alpha))
descent = timed(lambda: sklearn_encode(X, atoms, algorithm="lasso_cd", alpha=alpha, max_iter=20_000))
n_iter = [10, 30, 100, 300, 1000]
fista = [
    timed(lambda n=n: sparse_encode(X, atoms, method=ProximalCoder(L1(alpha), n_iter=n))) for n in n_iter
]

figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
single = {
    "homotopy (default)": exact,
    "scikit-learn, LARS": lars,
    "scikit-learn, coordinate descent": descent,
}
for (name, (seconds, gaps)), marker in zip(single.items(), "osv", strict=True):
    axes.plot(seconds, gaps.max(), marker, label=name, markersize=9)
axes.plot(
    [run[0] for run in fista], [run[1].max() for run in fista], "^-", label="FISTA, 10 to 1000 iterations"
)
for n, (seconds, gaps) in zip(n_iter, fista, strict=True):
    axes.annotate(n, (seconds, gaps.max()), xytext=(6, 4), textcoords="offset points", fontsize=9)
axes.set(
    xscale="log", yscale="log", xlabel="time for 300 samples, in seconds", ylabel="largest gap / $||x||^2$"
)
axes.margins(0.12)
axes.grid(alpha=0.3)
figure.legend(loc="outside upper center", ncols=2, frameon=False)

# %%
# What was learned
# ----------------

for name, (seconds, gaps) in {**single, "FISTA, 1000 iterations": fista[-1]}.items():
    print(f"{name:33} {seconds:6.3f} s   largest gap {gaps.max():.1e}   median gap {np.median(gaps):.1e}")

# %%
# Both homotopies end at the rounding error, calepin's in a small part of the time. Iterations need hundreds
# of steps for a few digits (the numbers beside the curve), and the median sample is no guide to the worst
# one: only the gap tells how many digits a code has. ``return_info=True`` returns it with the codes, and a
# sample whose gap exceeds ``tol`` gives a warning.

_, info = sparse_encode(X, atoms, alpha=alpha, return_info=True)
assert info.converged.all()
assert exact[1].max() < 1e-10 < fista[-1][1].max()
