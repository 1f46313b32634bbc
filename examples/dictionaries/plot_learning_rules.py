"""
K-SVD, MOD and online learning compared
=======================================

Three classical rules update a dictionary. Which one reaches a low objective first, counted in passes over
the data and in seconds?

- ``"online"`` (Mairal et al. 2009) moves the atoms after every mini-batch.
- ``"mod"`` (Engan et al. 1999) solves a least-squares problem for all atoms.
- ``"ksvd"`` (Rubinstein et al. 2008) updates one atom after the other, together with its coefficients.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator

from calepin import DictionaryLearner, sparse_encode
from calepin.datasets import load_sample
from calepin.imaging import random_patches

plt.style.use("seaborn-v0_8-colorblind")

# %%
# All rules start from the same atoms and are judged by 2,000 patches that are not in the training set. Each
# is run with two coders: the lasso, judged by the mean objective, and orthogonal least squares with four
# atoms (OLS), judged by the squared error.

rng = np.random.default_rng(0)
patches = random_patches(load_sample("camera").pixels[None], 8, 12_000, random_state=0)
patches = rng.permutation(patches / patches.std()).astype(np.float32)  # they are in the order of the image
train, test = patches[2000:], patches[:2000]
start = train[rng.choice(len(train), 100, replace=False)]
start /= np.linalg.norm(start, axis=1, keepdims=True)

# %%
# To see the atoms after each pass, a run stops there and resumes from its checkpoint, which continues
# exactly. The seconds in ``history_`` are those of all its parts, without the evaluation between them.

ALPHA, N_NONZERO = 1.5, 4
CODERS = {
    "lasso": {"alpha": ALPHA},
    "OLS, 4 atoms": {"coder": "ols", "n_nonzero": N_NONZERO},
}


def run(rule, coder, samples, n_passes):
    """Return the atoms and the seconds after each pass of one run, which resumes from its checkpoint."""
    atoms, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for n in range(1, n_passes + 1):
            learner = DictionaryLearner(
                rule=rule,
                init=start,
                max_iter=n,
                tol=0,
                checkpoint=Path(folder) / "run.safetensors",
                resume=n > 1,
                random_state=0,
                **CODERS[coder],
            ).fit(samples)
            atoms.append(learner.components_)
            seconds.append(learner.history_[-1]["seconds"])
    return atoms, seconds


def loss(atoms, coder):
    """Return the mean objective of the test patches (lasso) or half of their squared error (OLS)."""
    if coder == "lasso":
        codes = sparse_encode(test, atoms, alpha=ALPHA)
    else:
        codes = sparse_encode(test, atoms, method="ols", n_nonzero=N_NONZERO)
    penalty = ALPHA * np.abs(codes).sum(axis=1) if coder == "lasso" else 0.0
    return np.mean(0.5 * np.sum((test - codes @ atoms) ** 2, axis=1) + penalty)


runs, losses = {}, {}
for coder in CODERS:
    for rule in ("online", "mod", "ksvd"):
        run(rule, coder, train[:500], 1)  # compiles the code, so that this is not timed
        runs[coder, rule] = run(rule, coder, train, 15)
        losses[coder, rule] = [loss(atoms, coder) for atoms in runs[coder, rule][0]]

# %%
# The same curves against passes (left) and against seconds (right):

figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex="col", sharey="row", layout="constrained")
styles = {"online": "o-", "mod": "s--", "ksvd": "^:"}
for (coder, rule), (_, seconds) in runs.items():
    row = axes[list(CODERS).index(coder)]
    row[0].plot(range(1, 16), losses[coder, rule], styles[rule], label=rule, markersize=5)
    row[1].plot(seconds, losses[coder, rule], styles[rule], label=rule, markersize=5)
axes[0, 0].set_ylabel("lasso: objective of test patches")
axes[1, 0].set_ylabel("OLS: half squared error of test patches")
axes[1, 0].set(xlabel="passes over the data", xticks=[1, 5, 10, 15])
axes[1, 1].set(xlabel="time in seconds", xscale="log")
axes[1, 1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
axes[1, 1].xaxis.set_major_formatter("{x:g}")
axes[1, 1].xaxis.set_minor_formatter("")
figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
for panel in axes.flat:
    panel.grid(alpha=0.3)

# %%
# What was learned
# ----------------

for (coder, rule), values in losses.items():
    print(f"{coder:12} {rule:6}  after 1 pass {values[0]:.2f}, after 15 passes {values[-1]:.2f}")

# %%
# - Per pass, online learning is ahead from the first to the last. It moves the atoms twenty times in a
#   pass, the other two once.
# - With OLS, MOD and K-SVD need about the same number of passes. A pass of K-SVD takes the least time, so
#   that it can be ahead in the first moments; it does not stay there.
# - MOD and K-SVD update the atoms so that the *squared error* falls. With a pursuit that is the objective.
#   With the lasso it is not: they ignore the l1 norm, and the objective of K-SVD, which changes the
#   coefficients as well, rises again after some passes. Use K-SVD with a pursuit (``coder="omp"`` or
#   ``"ols"``).

for coder in CODERS:
    assert losses[coder, "online"][-1] < min(losses[coder, "mod"][-1], losses[coder, "ksvd"][-1])
assert losses["lasso", "ksvd"][-1] > min(losses["lasso", "ksvd"])
assert losses["OLS, 4 atoms", "ksvd"][-1] < losses["OLS, 4 atoms", "ksvd"][0]
