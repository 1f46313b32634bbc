"""
Missing pixels of an image
==========================

Half of the pixels of an image are lost. Can a dictionary be learned from the other half, and fill the gaps?
Is that better than interpolation, and what do groups of similar patches gain?
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.restoration import inpaint_biharmonic

from calepin import DictionaryLearner, sparse_encode
from calepin.datasets import load_sample
from calepin.imaging import inpaint
from calepin.learning import dct_atoms
from calepin.metrics import psnr
from calepin.report import atom_tiles

# %%
# A portrait and a page of text. Each pixel was kept with a probability of one half.

cleans = {
    "portrait": load_sample("astronaut").pixels.mean(axis=2)[20:160, 150:290].astype(np.float32),
    "text": load_sample("text").pixels[10:150, 10:150].astype(np.float32),
}
observed = np.random.default_rng(0).random((140, 140)) < 0.5

# %%
# The samples are all overlapping patches, with their masks: ``mask`` keeps missing entries out of atoms and
# codes. For learning, the mean over the observed pixels is subtracted from each patch. The atoms start from
# cosines.

size = 8
window = (size, size)
mask = np.lib.stride_tricks.sliding_window_view(observed, window).reshape(-1, size * size)
cosines = dct_atoms(100, size * size).astype(np.float32)


def patches_of(image):
    """Return all patches without the mean of their observed pixels, and the means."""
    patches = np.lib.stride_tricks.sliding_window_view(image, window).reshape(-1, size * size)
    means = np.mean(patches, axis=1, keepdims=True, where=mask)
    return np.where(mask, patches - means, 0), means


def filled(image, atoms):
    """Return the image, filled by the codes of the observed pixels of each patch."""
    patches, means = patches_of(image)
    # The mean of a whole patch differs from that of its observed pixels. A constant atom of a large norm
    # corrects it nearly free of charge, because its coefficient is small.
    atoms = np.vstack([np.full((1, size * size), 3.0, np.float32), atoms])
    codes = sparse_encode(patches, atoms, alpha=0.003, mask=mask, tol=1e-4, output="csr")
    decoded = (codes @ atoms + means).reshape(*(n - size + 1 for n in image.shape), *window)
    total, count = np.zeros(image.shape), np.zeros(image.shape)
    n_rows, n_columns = decoded.shape[:2]
    for i, j in np.ndindex(window):  # a pixel is the average over the patches that contain it
        total[i : i + n_rows, j : j + n_columns] += decoded[:, :, i, j]
        count[i : i + n_rows, j : j + n_columns] += 1
    return np.where(observed, image, total / count)


# %%
# The learned atoms are compared with the cosines from which they start, with scikit-image's biharmonic
# inpainting, a smooth interpolation, and with `calepin.imaging.inpaint`, which estimates each patch from
# those that are similar to it. Missing pixels are blue.

figure, axes = plt.subplots(2, 6, figsize=(16.5, 6.2), layout="constrained")
gray = plt.get_cmap("gray").with_extremes(bad="#0072B2")
quality, learned = {}, {}
for row, (name, clean) in zip(axes, cleans.items(), strict=True):
    image = np.where(observed, clean, 0)
    learner = DictionaryLearner(alpha=0.03, init=cosines, max_iter=5, random_state=0)
    learned[name] = learner.fit(patches_of(image)[0][::3], mask=mask[::3]).components_
    results = {
        "biharmonic": inpaint_biharmonic(image, ~observed),
        "cosines": filled(image, cosines),
        "learned": filled(image, learned[name]),
        "groups": inpaint(image, observed),
    }
    quality[name] = {method: psnr(result, clean) for method, result in results.items()}
    shown = {"observed": np.where(observed, clean, np.nan), **results, "clean": clean}
    for panel, (method, result) in zip(row, shown.items(), strict=True):
        panel.imshow(result[20:120, 20:120], cmap=gray, vmin=clean.min(), vmax=clean.max())
        panel.set_title(f"{method}, {quality[name][method]:.2f} dB" if method in results else method)
        panel.set_axis_off()

# %%
# The atoms learned from half of the pixels:

figure, axes = plt.subplots(1, 3, figsize=(12, 4.3), layout="constrained")
for panel, (name, atoms) in zip(axes, {"cosines (start)": cosines, **learned}.items(), strict=True):
    panel.imshow(atom_tiles(atoms), cmap="gray", vmin=0, vmax=1)
    panel.set_title(name)
    panel.set_axis_off()

# %%
# What was learned
# ----------------

for name, values in quality.items():
    print(name, {method: f"{value:.2f} dB" for method, value in values.items()})

# %%
# Atoms learned from the incomplete patches are better than the fixed cosines, by one to two decibels.
# Beside interpolation it depends on the image: strokes of text, which repeat, are filled better by the
# learned dictionary; for the smooth portrait the smooth interpolation is as good. Groups of similar patches
# are better than all of these on both, and take a function call.

for values in quality.values():
    assert values["learned"] > values["cosines"] + 0.5
    assert values["groups"] > max(values["learned"], values["biharmonic"])
assert quality["text"]["learned"] > quality["text"]["biharmonic"]
