"""
A learning rule of your own: multiplicative updates
===================================================

Nonnegative matrix factorisation multiplies its atoms by a ratio that keeps them nonnegative (Lee and Seung
1999). Can this rule replace those of calepin, with the same coder, batches and checkpoints, and how does it
compare?

A rule is a frozen dataclass of settings with two methods: ``init`` makes a state of the first atoms,
``step`` changes it for a batch and returns the objective of each sample.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import numpy as np
import torch

from calepin import DictionaryLearner
from calepin.datasets import load_digits
from calepin.learning import AtomSet, AtomState, BaseRule, Batch, Online
from calepin.report import atom_tiles
from calepin.solvers import LassoCoder, dense_problem
from calepin.testing import check_rule

COLOURS = {"multiplicative": "#0072B2", "online": "#D55E00"}
ALPHA = 0.1


@dataclass(frozen=True)
class Multiplicative(BaseRule):
    """Multiply atoms by ``(Z^T X) / (Z^T Z D)``, then normalise them."""

    name: ClassVar[str] = "multiplicative"

    coder: Any
    atom_set: AtomSet = field(default_factory=lambda: AtomSet("sphere", nonnegative=True))

    def init(self, atoms):
        """Return the state of the first atoms."""
        return AtomState(self.atom_set.project(torch.as_tensor(atoms).clone()))

    def step(self, state, batch):
        """Change the state in place; return the objective of each sample."""
        if batch.mask is not None:
            raise ValueError("mask: expected None with rule multiplicative, which has no use for one")
        x = torch.as_tensor(batch.X)
        codes = self.coder.encode(dense_problem(x, state.atoms)).dense()
        error = 0.5 * (x - codes @ state.atoms).square().sum(1) + ALPHA * codes.sum(1)
        ratio = (codes.T @ x) / (codes.T @ codes @ state.atoms).clamp_min(1e-6)
        state.atoms = self.atom_set.project(state.atoms * ratio)
        return error.numpy()


# %%
# ``check_rule`` tests what the training loop relies on: a step is repeatable, a restored state continues in
# the same way, and the atoms stay in their set.
digits, _ = load_digits()
coder = LassoCoder(ALPHA, nonnegative=True)
rule = Multiplicative(coder)
check_rule(rule, torch.from_numpy(digits[:10] + 0.1), Batch(digits[:50]))

# %%
# 25 nonnegative atoms of 1500 digits, by this rule and by the online rule (Mairal et al. 2009), from the
# same start.
start = np.random.default_rng(0).uniform(0.1, 1, (25, 64)).astype(np.float32)
rules = {
    "multiplicative": rule,
    "online": Online(coder, atom_set=AtomSet("sphere", nonnegative=True)),
}
learners = {
    name: DictionaryLearner(25, rule=one, init=start, batch_size=250, max_iter=40, tol=0, random_state=0).fit(
        digits[:1500]
    )
    for name, one in rules.items()
}

# %%
# The objective after each pass (its mean over the steps of the pass), and the atoms.
figure = plt.figure(figsize=(10, 3.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.7])
axes = left.subplots()
for name, learner in learners.items():
    objective = [entry["objective"] for entry in learner.history_]
    axes.plot(np.arange(1, len(objective) + 1), objective, color=COLOURS[name], label=name)
    print(f"{name}: objective {objective[0]:.3f} in the first pass, {objective[-1]:.3f} in the last")
axes.set(xlabel="pass over the samples", ylabel="objective of a sample")
axes.legend(frameon=False)
for place, (name, learner) in zip(right.subplots(1, 2), learners.items(), strict=True):
    place.imshow(atom_tiles(learner.components_, width=300), cmap="gray", vmin=0, vmax=1)
    place.set(title=name, xticks=[], yticks=[])
plt.show()

# %%
# What was learned
# ----------------
#
# - A rule of forty lines is a full member: learners give it batches, checkpoints, callbacks and a history.
# - The multiplicative rule learns fast for some ten passes; then its objective rises a little. Atoms are
#   normalised after their step, as if this were free, but the l1 norm of the codes pays for it.
# - The online rule descends within the set of unit atoms, and remembers all earlier batches: it is better
#   from the first pass on. A familiar rule can be tried in an hour, and can lose.
objective = {name: [entry["objective"] for entry in learner.history_] for name, learner in learners.items()}
assert objective["online"][-1] < min(objective["multiplicative"]) < objective["multiplicative"][-1]
