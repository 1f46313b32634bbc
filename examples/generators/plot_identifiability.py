"""
What can a layer over a generator not tell?
===========================================

Two layers A may produce exactly the same samples ``x = G(z) A``, with other latents z. Then no amount of
data can say which one is true. Which directions of A are affected, and does the rest converge?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from calepin.generators import GroupSparse, PolynomialSine, ReLUNet, Sine, identifiability

BLUE, ORANGE = "#0072B2", "#D55E00"

# %%
# Four generators from 4 latents to 12 coefficients: a network ReLU(W z), ReLU(M z²) with M >= 0, the list
# [z; z²; sin z], and sin(W z + b).
generators = {
    "ReLU(W z)": ReLUNet([4, 12], dtype=torch.float64),
    "ReLU(M z²)": GroupSparse(4, 12),
    "[z; z²; sin z]": PolynomialSine(4),
    "sin(W z + b)": Sine(4, 12, dtype=torch.float64),
}
rng = np.random.default_rng(0)
atoms = rng.standard_normal((12, 20))
reports = {name: identifiability(atoms, generator) for name, generator in generators.items()}
for name, report in reports.items():
    print(f"{name}\n{report}\n")

# %%
# The eigenvalues of a linearised step of learning: a direction of eigenvalue 0 is never learned, one of
# eigenvalue 1 in a single step.
figure, axes = plt.subplots(1, 4, figsize=(11, 3.4), sharey=True, layout="constrained")
for place, (name, report) in zip(axes, reports.items(), strict=True):
    values = np.maximum(report.spectrum, 1e-9)
    index = np.arange(1, len(values) + 1)
    null = np.arange(len(values)) < report.n_null
    place.plot(index[~null], values[~null], ".", color=BLUE, label="learned from data")
    place.plot(index[null], values[null], "v", color=ORANGE, label="changes no observation")
    place.set(
        title=f"{name}\n{report.n_seen} of 12 coefficients seen",
        xlabel="direction",
        yscale="log",
        ylim=(3e-10, 3),
    )
axes[0].set_ylabel("eigenvalue (0 is drawn as 1e-9)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
plt.show()

# %%
# What was learned
# ----------------
#
# - ReLU(W z) has one symmetry: A and 2 A give the same samples, with latents half as large.
# - ReLU(M z²) is linear in z², so that its 12 coefficients span 4 dimensions: only 4 combinations of atoms
#   are seen.
# - The other two can be learned completely, but not equally fast: the slowest direction of [z; z²; sin z]
#   shrinks by a factor of 0.9998 in a step of learning, that of sin(W z + b) by 0.82.
# - Compare learned layers by the samples that they produce, not by their entries, unless the report says
#   ``identifiable``.
assert reports["sin(W z + b)"].identifiable
assert reports["[z; z²; sin z]"].identifiable
assert reports["ReLU(W z)"].n_null == 1
assert reports["ReLU(M z²)"].n_seen == 4
