"""
A denoiser in thirty lines
==========================

How does one denoise by a dictionary? The algorithm of Elad and Aharon (2006) is short enough to be written
with two functions of calepin. Written out, each of its steps can be changed; :func:`calepin.denoise` adds
what makes it better.
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin import DictionaryLearner, denoise, sparse_encode
from calepin.datasets import GaussianNoise, add_noise, load_sample
from calepin.imaging import DictionaryDenoiser, random_patches
from calepin.learning import KSVD, AtomSet, dct_atoms
from calepin.metrics import psnr
from calepin.report import atom_tiles
from calepin.solvers import PursuitCoder

sigma = 25 / 255
clean = load_sample("camera").pixels[40:232, 120:312]
noisy = add_noise(clean, GaussianNoise(sigma), random_state=0)

# %%
# **Learn** 144 atoms from the patches of the noisy image, by K-SVD. The code of a patch takes atoms until
# its residual is as large as the noise; a rule that has a coder of its own is given as an object. The start
# is a dictionary of cosines.

size = 8
limit = size**2 * (1.1 * sigma) ** 2
rule = KSVD(PursuitCoder(tol=limit, selection="ols"), AtomSet("sphere"))
learner = DictionaryLearner(
    rule=rule, init=dct_atoms(144, size**2), batch_size=10_000, max_iter=6, random_state=0
)
learner.fit(random_patches(noisy[None], size, 10_000, random_state=0))
atoms = learner.components_

# %%
# **Code** all overlapping patches, without their means, in the same way.

windows = np.lib.stride_tricks.sliding_window_view(noisy, (size, size))
patches = windows.reshape(-1, size**2)
means = patches.mean(axis=1, keepdims=True)
codes = sparse_encode(patches - means, atoms, method="ols", tol=limit, output="csr")
decoded = (codes @ atoms + means).reshape(windows.shape)

# %%
# **Average** the decoded patches where they overlap.

total, count = np.zeros(noisy.shape), np.zeros(noisy.shape)
for i, j in np.ndindex(size, size):
    place = (slice(i, i + windows.shape[0]), slice(j, j + windows.shape[1]))
    total[place] += decoded[:, :, i, j]
    count[place] += 1
by_hand = total / count

# %%
# ``group_passes=0`` ends :func:`calepin.denoise` after the same three steps, but with a start learned from
# photographs and with smaller weights for patches that need many atoms. By default, three passes over
# groups of similar patches follow.

noise = GaussianNoise(sigma)
results = {
    "noisy": noisy,
    "by hand": by_hand,
    "group_passes=0": denoise(noisy, noise=noise, method=DictionaryDenoiser(group_passes=0)).image,
    "default": denoise(noisy, noise=noise).image,
}
figure, axes = plt.subplots(1, 4, figsize=(13, 3.8), layout="constrained")
for panel, (name, image) in zip(axes, results.items(), strict=True):
    panel.imshow(image[10:150, 10:150], cmap="gray", vmin=0, vmax=1)
    panel.set_title(f"{name}, {psnr(image, clean):.2f} dB")
    panel.set_axis_off()

# %%
# The atoms, and how many of them each patch needs. Patches of sky need none: they are their mean.

usage = np.bincount(codes.indices, minlength=len(atoms))
figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
axes[0].imshow(atom_tiles(atoms[np.argsort(-usage)]), cmap="gray", vmin=0, vmax=1)
axes[0].set_title("144 atoms, the most used first")
needed = np.diff(codes.indptr).reshape(windows.shape[:2])
drawn = axes[1].imshow(needed, cmap="cividis", vmax=8)
axes[1].set_title("atoms of each patch")
for panel in axes:
    panel.set_axis_off()
figure.colorbar(drawn, ax=axes[1], label="atoms", extend="max")

# %%
# What was learned
# ----------------

quality = {name: psnr(image, clean) for name, image in results.items()}
print(
    {name: f"{value:.2f} dB" for name, value in quality.items()},
    f"{codes.nnz / len(patches):.2f} atoms per patch",
)

# %%
# Thirty lines gain almost ten decibels. Most of the patches need one atom or none beside their mean; only
# edges need more. With a start from atoms of photographs, and with weights, half a decibel is gained: this
# image has too few patches to learn all atoms from, the last ones are still noise. The groups of similar
# patches gain the rest.

assert quality["by hand"] > quality["noisy"] + 9
assert quality["by hand"] < quality["group_passes=0"] < quality["default"]
assert np.mean(needed <= 1) > 0.5
