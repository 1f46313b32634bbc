"""
A million samples from disk
===========================

Does learning need all samples in memory? No: a memory-mapped array is read batch by batch. Here a
dictionary is learned from a file of a million patches, and all of them are coded; how much memory does this
take?
"""

import tempfile
import tracemalloc
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from calepin import DictionaryLearner
from calepin.datasets import load_sample
from calepin.report import atom_tiles

plt.style.use("seaborn-v0_8-colorblind")

# %%
# Write the file: one million patches of 8 x 8 pixels from ten photographs, block by block, as float32 (256
# MB). They lie in the order of the images, as data on disk often do.

names = ["astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "moon", "rocket"]
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "patches.npy"
rng = np.random.default_rng(0)
file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(1_000_000, 64))
for i, name in enumerate(names):
    pixels = load_sample(name).pixels
    image = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8))
    rows, columns = (rng.integers(0, n, 100_000) for n in windows.shape[:2])
    block = windows[rows, columns].reshape(-1, 64)
    file[i * 100_000 : (i + 1) * 100_000] = block - block.mean(axis=1, keepdims=True)
file.flush()
del file
print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB")

# %%
# Learn from it. ``fit`` visits distant parts of the file in random order, so that a mini-batch mixes the
# images. A long run should have a ``checkpoint=``, from which it resumes. One pass is enough here: a
# million samples are 2,000 steps.

samples = np.load(path, mmap_mode="r")
learner = DictionaryLearner(100, alpha=0.3, max_iter=1, random_state=0)
learner.fit(samples[:1000]).transform(samples[:1000], output="csr")  # loads the code, which is not counted
tracemalloc.start()  # counts the arrays of NumPy
learner.fit(samples)
learning = tracemalloc.get_traced_memory()[1]

# %%
# Codes, too, need not fit into memory as a dense array: a million codes of 100 atoms would take 400 MB.
# Block by block, only what is wanted of them is kept, here how often each atom is used.

tracemalloc.reset_peak()
usage = np.zeros(100)
for start in range(0, len(samples), 50_000):
    codes = learner.transform(samples[start : start + 50_000], output="csr")
    usage += np.bincount(codes.indices, minlength=100)
coding = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()
del samples
folder.cleanup()

# %%

figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
axes[0].imshow(atom_tiles(learner.components_[np.argsort(-usage)]), cmap="gray", vmin=0, vmax=1)
axes[0].set_title("atoms, the most used first")
axes[0].set_axis_off()
bars = axes[1].bar(
    ["the file", "learning", "coding"],
    [256, learning / 1e6, coding / 1e6],
    color=["0.7", "#0072B2", "#009E73"],
)
axes[1].bar_label(bars, fmt="%.0f MB")
axes[1].set(ylabel="MB", title="size of the file, and peak of allocated memory")

# %%
# What was learned
# ----------------

print(f"peak of allocated memory: learning {learning / 1e6:.1f} MB, coding {coding / 1e6:.1f} MB")

# %%
# Learning holds a few mini-batches at a time, and coding one block with its sparse codes. Both depend on
# the size of a batch, not on that of the file. The same call takes a dataset of h5py or zarr, or a function
# that returns a generator of batches.

assert learning < 0.1 * 256e6
assert coding < 0.2 * 256e6
