"""
Convolutional atoms of an image
===============================

A dictionary of patches needs an edge at every position within the patch: one atom for each. A convolutional
dictionary places an atom anywhere. What do 16 atoms look like, learned in either way from the same image?
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter

from calepin import ConvolutionalDictionaryLearner, DictionaryLearner
from calepin.datasets import load_sample
from calepin.imaging import random_patches
from calepin.report import atom_tiles

SIZE, N_ATOMS = 9, 16

# %%
# The image without its smooth part, which would need atoms of its own.
image = load_sample("camera").pixels[100:180, 184:264].astype(np.float32)
detail = image - gaussian_filter(image, 3)

# %%
# Codes are exact, to a certified duality gap. ``alpha`` is the weight of the l1 norm, as in the lasso.
convolutional = ConvolutionalDictionaryLearner(N_ATOMS, SIZE, alpha=0.15, max_iter=8, random_state=0)
signals = detail[None, None]  # (images, channels, height, width)
codes = convolutional.fit(signals).transform(signals)
rebuilt = convolutional.inverse_transform(codes)[0, 0]

# %%
# The patch dictionary has as many atoms of the same size.
patches = random_patches(detail[None], SIZE, 5000, random_state=0)
patchwise = DictionaryLearner(N_ATOMS, alpha=0.15, max_iter=10, random_state=0).fit(patches)


# %%
# The shift at which two atoms agree most: atoms of patches that are shifted copies of each other agree nearly
# perfectly at some shift.
def agreement(atoms):
    """Return the largest correlation of each atom with any shift of another one."""
    from scipy.signal import correlate2d

    best = [
        [0 if i == j else np.abs(correlate2d(a, b)).max() for j, b in enumerate(atoms)]
        for i, a in enumerate(atoms)
    ]
    return np.max(best, axis=1)


pairs = {
    "convolutional": convolutional.components_[:, 0],
    "of patches": patchwise.components_.reshape(-1, SIZE, SIZE),
}
copies = {name: agreement(atoms) for name, atoms in pairs.items()}
used = np.count_nonzero(codes) / detail.size
error = np.linalg.norm(rebuilt - detail) / np.linalg.norm(detail)
print(f"{used:.3f} nonzero coefficients a pixel, relative error {error:.2f}")
print({name: f"median agreement {np.median(values):.2f}" for name, values in copies.items()})

figure, axes = plt.subplots(2, 2, figsize=(7, 7.4), layout="constrained")
for place, (name, atoms) in zip(axes[0], pairs.items(), strict=True):
    place.imshow(atom_tiles(atoms, width=400), cmap="gray", vmin=0, vmax=1)
    place.set_title(
        f"16 atoms {name}\nmedian agreement with another: {np.median(copies[name]):.2f}", fontsize=10
    )
for place, pixels, title in (
    (axes[1, 0], detail, "detail of the image"),
    (axes[1, 1], rebuilt, "its convolutional code"),
):
    place.imshow(pixels, cmap="gray", vmin=-0.3, vmax=0.3)
    place.set_title(title, fontsize=10)
axes[1, 1].set_xlabel(f"{used:.2f} coefficients a pixel, relative error {error:.2f}")
for place in axes.flat:
    place.set(xticks=[], yticks=[])
plt.show()

# %%
# What was learned
# ----------------
#
# - Atoms of patches repeat edges at several positions; convolutional ones repeat less, since the code moves
#   them, and look more like pieces of this image.
# - The code has one coefficient for each atom and position: 16 images of coefficients, nearly all of them
#   zero.
# - The smooth part is better left to a mean or a filter: atoms of a constant gray level would need many
#   overlapping copies.
assert np.median(copies["convolutional"]) < np.median(copies["of patches"])
