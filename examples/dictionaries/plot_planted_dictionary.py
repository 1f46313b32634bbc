"""
Recovering a planted dictionary
===============================

If samples really are sparse combinations of the atoms of some dictionary, is that dictionary found, and how
exactly?

NOODL (Rambhatla, Li and Haupt 2019) comes with a proof: from a start that is close enough, atoms *and*
codes converge geometrically to the truth. Rules that use the lasso stop at a bias, since the l1 norm
shrinks the codes.
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin import DictionaryLearner
from calepin.datasets import simulate_sparse
from calepin.metrics import dictionary_error, recovered_fraction

plt.style.use("seaborn-v0_8-colorblind")

# %%
# 3,000 samples of 128 features, each a combination of 3 out of 160 atoms, without noise. There are two
# starts: the truth, moved by a quarter of its norm, and random samples.

data = simulate_sparse(3000, 128, 160, n_nonzero=3, random_state=0)
rng = np.random.default_rng(1)
near = data.atoms + 0.25 / np.sqrt(128) * rng.standard_normal(data.atoms.shape)
starts = {
    "near the truth": near / np.linalg.norm(near, axis=1, keepdims=True),
    "random samples": data.X[:160] / np.linalg.norm(data.X[:160], axis=1, keepdims=True),
}

# %%
# K-SVD is told the number of atoms of a sample. The alpha of NOODL is a hard threshold, well below the
# smallest coefficient, which is 1. A callback measures the atoms at the end of each pass.

rules = {
    "NOODL": {"rule": "noodl", "alpha": 0.1, "batch_size": 100},
    "online, lasso": {"rule": "online", "alpha": 0.2, "batch_size": 100},
    "K-SVD, OMP": {"rule": "ksvd", "coder": "omp", "n_nonzero": 3},
}
n_passes = 8
found = {}
for start, atoms in starts.items():
    for name, settings in rules.items():
        found[start, name] = [atoms]

        def keep(state, kept=found[start, name]):
            """Keep the atoms at the end of each pass."""
            if state.n_samples == len(data.X):
                kept.append(state.learned.atoms.numpy().copy())

        learner = DictionaryLearner(init=atoms, max_iter=n_passes, tol=0, random_state=0, **settings)
        learner.fit(data.X, callbacks=[keep])

# %%
# From near the truth, the relative error is shown; from random samples, the fraction of atoms that were
# found, which says more when some of them are missing.

figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for name, style in zip(rules, ("o-", "s--", "^:"), strict=True):
    axes[0].plot(
        [dictionary_error(atoms, data.atoms) for atoms in found["near the truth", name]], style, label=name
    )
    fractions = [recovered_fraction(atoms, data.atoms) for atoms in found["random samples", name]]
    axes[1].plot(100 * np.array(fractions), style, label=name)
axes[0].set(yscale="log", ylabel="relative error of the atoms", title="start near the truth")
axes[1].set(ylabel="atoms found, in %", title="start from random samples")
for panel in axes:
    panel.set_xlabel("passes over the data")
    panel.grid(alpha=0.3)
axes[0].legend()

# %%
# What was learned
# ----------------

last = {key: atoms[-1] for key, atoms in found.items()}
for name in rules:
    error = dictionary_error(last["near the truth", name], data.atoms)
    fraction = recovered_fraction(last["random samples", name], data.atoms)
    print(f"{name:14} near the truth: error {error:.1e};  random samples: {fraction:.0%} of the atoms found")

# %%
# Near the truth, NOODL and K-SVD converge geometrically, K-SVD faster here; NOODL needs no number of atoms
# of a sample. Online learning stops early, at the bias of the lasso: codes that are shrunk do not fit the
# true atoms. From random samples the order is another one: the lasso finds nearly all atoms within a few
# passes, K-SVD most of them, and NOODL, whose theory asks for a close start, none in time.

near = {
    name: [dictionary_error(atoms, data.atoms) for atoms in found["near the truth", name]] for name in rules
}
assert near["K-SVD, OMP"][-1] < near["NOODL"][-1] < 0.1 * near["online, lasso"][-1]
fractions = {name: recovered_fraction(last["random samples", name], data.atoms) for name in rules}
assert fractions["online, lasso"] > fractions["K-SVD, OMP"] > 0.7
assert fractions["NOODL"] < 0.2
