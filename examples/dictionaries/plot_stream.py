"""
Samples that arrive as a stream
===============================

What if samples come one block after the other, and none can be kept? ``partial_fit`` improves the
dictionary with each block, and the learner is usable at any time. Here each block is one photograph.
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin import DictionaryLearner
from calepin.datasets import load_sample
from calepin.imaging import random_patches
from calepin.report import atom_tiles

plt.style.use("seaborn-v0_8-colorblind")


def patches_of(name, n_patches, seed):
    """Return random patches of a sample image, in units of their standard deviation."""
    pixels = load_sample(name).pixels
    gray = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    patches = random_patches(gray[None], 8, n_patches, random_state=seed)
    return (patches / patches.std()).astype(np.float32)


# %%
# The stream has eight images. After each, the dictionary is judged by patches of three images: one from the
# start of the stream, one from its end, and one that never occurs.

stream = ["camera", "coffee", "cat", "rocket", "coins", "grass", "gravel", "brick"]
judged = {
    "camera (1st of the stream)": "camera",
    "brick (8th of the stream)": "brick",
    "astronaut (not in the stream)": "astronaut",
}
tests = {label: patches_of(name, 1000, seed=1) for label, name in judged.items()}

learner = DictionaryLearner(100, alpha=1.0, random_state=0)
objectives = {label: [] for label in tests}
seen = {}
for name in stream:
    learner.partial_fit(patches_of(name, 4000, seed=0))
    for label, test in tests.items():
        objectives[label].append(-learner.score(test))
    if name in ("camera", "brick"):
        seen[name] = learner.components_.copy()

# %%

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for (label, values), style in zip(objectives.items(), ("o-", "s--", "^:"), strict=True):
    axes.plot(values, style, label=label)
axes.set_xticks(range(8), stream)
axes.set(xlabel="image that was seen last", ylabel="mean objective of test patches")
figure.legend(loc="outside upper center", ncols=3, frameon=False)
axes.grid(alpha=0.3)

# %%
# The same atoms after the first and after the last image:

figure, axes = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
for panel, (name, atoms) in zip(axes, seen.items(), strict=True):
    panel.imshow(atom_tiles(atoms), cmap="gray", vmin=0, vmax=1)
    panel.set_title(f"after {name}")
    panel.set_axis_off()

# %%
# What was learned
# ----------------

for label, values in objectives.items():
    print(f"{label:32} after 1 image {values[0]:.2f}, after 8 images {values[-1]:.2f}")

# %%
# Each block improves the dictionary, also for images that are long past and for those that never come: they
# share edges and bars. The largest step for bricks comes with the bricks. Nothing that was learned from the
# first image is lost, since the statistics of all blocks are kept; noisy atoms of the first block have
# become clean.

for values in objectives.values():
    assert values[-1] < values[0]
steps = -np.diff(objectives["brick (8th of the stream)"])
assert steps.argmax() == 6
