"""
What can a layer over a generator not tell?
===========================================

Two layers A may produce exactly the same samples ``x = G(z) A``, with other latents z. Then no amount of data can say
which one is true. Which directions of A are affected, and does the rest converge?
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from calepin.generators import PolynomialSine, ReLUNet, Sine, identifiability

BLUE, ORANGE = "#0072B2", "#D55E00"

# %%
# Three generators from 4 latents: a network ReLU(W z), the list [z; z^2; sin z], and sin(W z).
torch.manual_seed(0)
weights = torch.randn(12, 4, dtype=torch.float64)
generators = {
    "ReLU(W z)": ReLUNet([weights]),
    "[z; z²; sin z]": PolynomialSine(4),
    "sin(W z)": Sine(weights),
}
rng = np.random.default_rng(0)
atoms = rng.standard_normal((12, 20))
reports = {name: identifiability(atoms, generator) for name, generator in generators.items()}
for name, report in reports.items():
    print(f"{name}\n{report}\n")

# %%
# The eigenvalues of a linearised step of learning: a direction of eigenvalue 0 is never learned, one of eigenvalue 1 in
# a single step.
figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), sharey=True, layout="constrained")
for place, (name, report) in zip(axes, reports.items(), strict=True):
    values = np.maximum(report.spectrum, 1e-9)
    index = np.arange(1, len(values) + 1)
    null = np.arange(len(values)) < report.n_null
    place.plot(index[~null], values[~null], ".", color=BLUE, label="learned from data")
    place.plot(index[null], values[null], "v", color=ORANGE, label="changes no observation")
    place.set(title=f"{name}: {report.n_null} of {len(values)}", xlabel="direction", yscale="log", ylim=(3e-10, 3))
axes[0].set_ylabel("eigenvalue (0 is drawn as 1e-9)")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
plt.show()
