r"""
What the atoms of image patches look like
=========================================

A dictionary that codes the patches of photographs by few atoms consists of edges, bars and gratings, as
Olshausen and Field found in 1996. How much do the atoms depend on ``alpha``, the price of a nonzero
coefficient?

:class:`calepin.DictionaryLearner` minimises the mean over patches of

.. math:: \tfrac12 \|x - z D\|^2 + \alpha \|z\|_1 .
"""

import matplotlib.pyplot as plt
import numpy as np

from calepin import DictionaryLearner
from calepin.datasets import load_sample
from calepin.imaging import random_patches
from calepin.report import atom_tiles

# %%
# The samples are 10,000 patches of 8 x 8 pixels from two photographs. ``random_patches`` subtracts the mean
# of each patch. We divide by the standard deviation of all pixels, so that an alpha means the same for
# other data.

images = [load_sample(name).pixels for name in ("camera", "coffee")]
images = [image if image.ndim == 2 else image.mean(axis=2) for image in images]
patches = np.concatenate([random_patches(image[None], 8, 5000, random_state=0) for image in images])
patches = (patches / patches.std()).astype(np.float32)

# %%
# One dictionary for each alpha. All have 100 atoms and start from the same random patches.

alphas = [0.3, 1.5, 8.0]
learners = [DictionaryLearner(100, alpha=alpha, max_iter=8, random_state=0).fit(patches) for alpha in alphas]

figure, axes = plt.subplots(1, 3, figsize=(12, 5), layout="constrained")
nonzeros, errors = [], []
for panel, learner in zip(axes, learners, strict=True):
    codes = learner.transform(patches, output="csr")
    nonzeros.append(codes.nnz / len(patches))
    errors.append(np.mean((patches - learner.inverse_transform(codes)) ** 2) / patches.var())
    # The atoms that are used most come first.
    order = np.argsort(-np.asarray(abs(codes).sum(axis=0)).ravel())
    panel.imshow(atom_tiles(learner.components_[order]), cmap="gray", vmin=0, vmax=1)
    panel.set_title(
        f"alpha = {learner.alpha:g}\n{nonzeros[-1]:.1f} atoms per patch, {errors[-1]:.0%} of variance lost",
        fontsize=11,
    )
    panel.set_axis_off()

# %%
# What was learned
# ----------------
#
# With a small alpha a patch uses many atoms, and a good part of them is left to describe fine texture and
# noise. With a larger alpha fewer atoms are used, and they are clean edges, bars and gratings. With a very
# large alpha most patches are not coded at all, and the atoms show what has the highest contrast: steps
# between light and dark. Alpha is a choice: see
# :ref:`sphx_glr_gallery_dictionaries_plot_choosing_alpha.py`.

assert nonzeros[0] > 2 * nonzeros[1] > 4 * nonzeros[2]
assert errors[0] < errors[1] < errors[2]
